"""Widths of the Gaussians that mark objects in a training heatmap."""

from __future__ import annotations

from camtrack_core.geometry.boxes import Floats

IOU_THRESHOLD = 0.3  # of GCNet's Eq. 8


def deviations(size: Floats) -> Floats:
    """GCNet's Eq. 8: sigma of a side of the given length, from the shift that still leaves the threshold's IoU."""
    return size * (1 - IOU_THRESHOLD) / (3 * (1 + IOU_THRESHOLD))
