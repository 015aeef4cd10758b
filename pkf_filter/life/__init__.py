"""A track's life: births, existence, scores, deaths."""
