"""Recordings and generated drives, one file a data set, each a sequence of frames."""
