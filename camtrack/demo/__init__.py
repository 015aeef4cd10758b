"""The demo: a drive or your own footage through the nodes, with a live table, scores and a video."""
