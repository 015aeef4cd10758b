"""The vocabulary: boxes, cameras, tracks and what they have in common."""
