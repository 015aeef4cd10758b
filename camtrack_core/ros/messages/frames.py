"""Names of coordinate frames."""

from __future__ import annotations


def frame_name(text: str) -> str:
    """A frame's name as tf2 has it: in ROS 1 names began with a slash, and some drivers still send it."""
    return text.lstrip("/")
