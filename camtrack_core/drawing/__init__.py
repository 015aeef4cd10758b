"""Boxes and tracks drawn into images and onto maps."""
