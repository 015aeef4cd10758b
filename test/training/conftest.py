"""Fixtures of this room."""

from network_helpers import graph  # noqa: F401
