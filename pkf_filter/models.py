"""The image-plane model of the paper's Sec. IX: state (u, v, s, r, du, dv, ds), measurement (u, v, s, r).

u, v: centre in pixels; s: area in square pixels; r: width over height, constant; velocities per reference frame.
The paper assumes one frame between updates; here time passes in seconds and is counted in reference frames, so that
the noise keeps its meaning at any frame rate.
"""

from __future__ import annotations

import numpy as np

from camtrack_core.boxes import Floats

STATE, MEASUREMENT = 7, 4
MIN_SIDE = 1.0  # pixels; keeps area and ratio positive
H = np.eye(MEASUREMENT, STATE)


def transition(frames: float) -> Floats:
    """F (7, 7) over a time of so many reference frames."""
    matrix = np.eye(STATE)
    matrix[[0, 1, 2], [4, 5, 6]] = frames
    return matrix


def to_measurement(xyxy: Floats) -> Floats:
    """(N, 4) boxes (x1, y1, x2, y2) -> (N, 4) (u, v, s, r); sides below a pixel count as one."""
    size = np.maximum(xyxy[:, 2:] - xyxy[:, :2], MIN_SIDE)
    centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    return np.column_stack([centre, size[:, 0] * size[:, 1], size[:, 0] / size[:, 1]])


def to_xyxy(state: Floats) -> Floats:
    """(N, >= 4) states or measurements -> (N, 4) boxes; areas and ratios that fell below a pixel's are held there."""
    area = np.maximum(state[:, 2], MIN_SIDE**2)
    ratio = np.clip(state[:, 3], 1e-2, 1e2)
    width = np.sqrt(area * ratio)
    half = np.column_stack([width, area / width]) / 2
    return np.concatenate([state[:, :2] - half, state[:, :2] + half], 1)
