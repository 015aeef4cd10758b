"""Transforms between frames."""
