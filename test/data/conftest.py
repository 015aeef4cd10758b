"""Fixtures of this room."""

from data_helpers import detrac, kitti_copy  # noqa: F401
from network_helpers import graph  # noqa: F401
