"""Motion and measurement of a box in the image plane.

Paper Sec. IX (the model of SORT): state x = (u, v, s, r, u', v', s') and measurement z = (u, v, s, r), where (u, v) is
the box's centre in pixels, s its area in square pixels, r its width over its height, and the primed are rates. Centre
and area move with constant velocity, the shape stays.

Two things differ from the paper. Time is in seconds, where the paper steps by frames, so that the rates are per second
and recordings of any or of changing frame rate share one configuration. And noise grows with the box, where the paper
has the same pixels for every box: a near object moves by more pixels than a far one, and is measured as much worse.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack_core.boxes import Floats
from pkf_filter.config import ImagePlaneNoise

U, V, S, R, DU, DV, DS = range(7)
STATE_SIZE = 7
MEASUREMENT_MATRIX = np.eye(4, STATE_SIZE)

FAR = 1e6  # pixels; no image reaches so far, and the squares of areas up to there still leave room for digits
MIN_AREA = 1.0  # square pixels
MIN_ASPECT, MAX_ASPECT = 0.05, 20.0  # width over height


def measurable(xyxy: Floats) -> NDArray[np.bool_]:
    """(N,) whether boxes (N, 4) lie within FAR of the origin and have a positive area of at least MIN_AREA."""
    near = np.asarray((np.abs(xyxy) <= FAR).all(1))  # false for NaN as well
    boxes = np.where(near[:, None], xyxy, 0.0)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return (width > 0) & (height > 0) & (width * height >= MIN_AREA)


def to_measurements(xyxy: Floats) -> Floats:
    """(N, 4) float64 (u, v, s, r) of measurable boxes (N, 4); the aspect ratio is kept within its limits."""
    boxes = np.asarray(xyxy, np.float64)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    aspect = np.clip(width / height, MIN_ASPECT, MAX_ASPECT)
    return np.stack([boxes[:, 0] + width / 2, boxes[:, 1] + height / 2, width * height, aspect], 1)


def to_boxes(states: Floats) -> Floats:
    """(N, 4) x1, y1, x2, y2 in pixels of states or measurements (N, 4 or 7) with positive area and aspect ratio."""
    width = np.sqrt(states[:, S] * states[:, R])
    half = np.stack([width, states[:, S] / width], 1) / 2
    return np.concatenate([states[:, :2] - half, states[:, :2] + half], 1)


def plausible(states: Floats) -> Floats:
    """States (N, 7) whose area and aspect ratio are kept within their limits; a shrinking stops at the limit."""
    kept = states.copy()
    kept[:, DS] = np.where(states[:, S] <= MIN_AREA, np.maximum(states[:, DS], 0.0), states[:, DS])
    kept[:, S] = np.maximum(states[:, S], MIN_AREA)
    kept[:, R] = np.clip(states[:, R], MIN_ASPECT, MAX_ASPECT)
    return kept


def transition(dt: float) -> Floats:
    """(7, 7) F of Sec. IX over dt seconds; with dt = 1 the paper's, in its frames."""
    F = np.eye(STATE_SIZE)
    F[[U, V, S], [DU, DV, DS]] = dt
    return F


def measurement_noise(states: Floats, noise: ImagePlaneNoise) -> Floats:
    """(N, 4, 4) V for measurements of these states or of boxes like these measurements (N, 4 or 7)."""
    side, area, aspect = np.sqrt(states[:, S]), states[:, S], states[:, R]
    deviations = np.stack([noise.centre * side, noise.centre * side, noise.area * area, noise.aspect * aspect], 1)
    return _diagonal(deviations**2)


def process_noise(states: Floats, dt: float, noise: ImagePlaneNoise) -> Floats:
    """(N, 7, 7) W over dt seconds: white acceleration of centre and area, and a random walk of the shape.

    The acceleration is integrated exactly, so that two half steps add up to a whole one.
    """
    side, area, aspect = np.sqrt(states[:, S]), states[:, S], states[:, R]
    W = np.zeros((len(states), STATE_SIZE, STATE_SIZE))
    for place, rate, power in (
        (U, DU, (noise.acceleration * side) ** 2),
        (V, DV, (noise.acceleration * side) ** 2),
        (S, DS, (noise.area_acceleration * area) ** 2),
    ):
        W[:, place, place] = power * dt**3 / 3
        W[:, place, rate] = W[:, rate, place] = power * dt**2 / 2
        W[:, rate, rate] = power * dt
    W[:, R, R] = (noise.aspect_drift * aspect) ** 2 * dt
    return W


def initial_state(measurements: Floats, noise: ImagePlaneNoise) -> tuple[Floats, Floats]:
    """Mean (N, 7) and covariance (N, 7, 7) of tracks seen once, at measurements (N, 4), at rest on average."""
    side, area = np.sqrt(measurements[:, S]), measurements[:, S]
    mean = np.concatenate([measurements, np.zeros((len(measurements), 3))], 1)
    rates = np.stack([noise.speed * side, noise.speed * side, noise.area_rate * area], 1)
    covariance = np.zeros((len(measurements), STATE_SIZE, STATE_SIZE))
    covariance[:, :4, :4] = measurement_noise(measurements, noise)
    covariance[:, 4:, 4:] = _diagonal(rates**2)
    return mean, covariance


def _diagonal(values: Floats) -> Floats:
    """(N, n, n) diagonal matrices of values (N, n)."""
    return values[:, :, None] * np.eye(values.shape[1])
