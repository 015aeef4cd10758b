"""Motion and measurement of a box in the image plane, compiled.

The model of paper Sec. IX with three differences. A box is (u, v, log s, log r), where (u, v) is its centre in pixels,
s its area and r its width over its height: areas stay positive, and an approaching object grows by a constant factor a
second. Time is in seconds, where the paper steps by frames. And noise grows with the box: a near object moves by more
pixels than a far one, and is measured as much worse. Centre and area move with constant velocity, the shape drifts.

The four coordinates do not interact: F, H, V and W of Sec. IX are block diagonal, and so the covariance stays. A state
is therefore a mean (N, 4, 2) of value and rate, and a covariance (N, 4, 3) of value, value with rate, and rate.
"""

from __future__ import annotations

from math import exp, log, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Floats, Integers
from pkf_filter.filtering.update import MIXTURE, NONE
from pkf_filter.image.config import ImagePlaneNoise
from pkf_filter.numerics.compiled import compiled

COORDINATES = 4
U, V, S, R = range(COORDINATES)
VALUE, RATE = 0, 1
VARIANCE, CROSS, RATE_VARIANCE = 0, 1, 2

FAR = 1e6  # pixels; no image reaches so far, and the squares of areas up to there still leave room for digits
MIN_AREA = 1.0  # square pixels
MIN_ASPECT, MAX_ASPECT = 0.05, 20.0  # width over height
LOWEST = np.array([-10 * FAR, -10 * FAR, log(MIN_AREA), log(MIN_ASPECT)])
HIGHEST = np.array([10 * FAR, 10 * FAR, log(4 * FAR**2), log(MAX_ASPECT)])


def measured_deviations(noise: ImagePlaneNoise) -> Floats:
    """(4,) standard deviations of a measurement; those of the centre in sides."""
    return np.array([noise.centre, noise.centre, noise.area, noise.aspect])


def motion_deviations(noise: ImagePlaneNoise) -> Floats:
    """(4, 2) of white drift (per s^0.5) and white acceleration (per s^1.5); those of the centre in sides."""
    centre = [0.0, noise.acceleration]
    return np.array([centre, centre, [0.0, noise.area_acceleration], [noise.aspect_drift, 0.0]])


def initial_rate_deviations(noise: ImagePlaneNoise) -> Floats:
    """(4,) standard deviations of the rates of a new track, per second; those of the centre in sides."""
    return np.array([noise.speed, noise.speed, noise.area_rate, 0.0])


@compiled
def measurable(xyxy: Floats) -> NDArray[np.bool_]:
    """(N,) whether boxes (N, 4) lie within FAR of the origin and have a positive area of at least MIN_AREA."""
    usable = np.empty(len(xyxy), np.bool_)
    for k in range(len(xyxy)):
        width, height = xyxy[k, 2] - xyxy[k, 0], xyxy[k, 3] - xyxy[k, 1]
        usable[k] = width > 0 and height > 0 and width * height >= MIN_AREA
        for i in range(4):
            usable[k] &= abs(xyxy[k, i]) <= FAR  # false for NaN as well
    return usable


@compiled
def to_measurements(xyxy: Floats) -> Floats:
    """(N, 4) float64 (u, v, log s, log r) of measurable boxes (N, 4); the aspect ratio is kept within its limits."""
    z = np.empty((len(xyxy), COORDINATES))
    for k in range(len(xyxy)):
        width, height = xyxy[k, 2] - xyxy[k, 0], xyxy[k, 3] - xyxy[k, 1]
        z[k, U], z[k, V] = xyxy[k, 0] + width / 2, xyxy[k, 1] + height / 2
        z[k, S], z[k, R] = log(width * height), min(max(log(width / height), LOWEST[R]), HIGHEST[R])
    return z


@compiled
def to_boxes(values: Floats) -> Floats:
    """(N, 4) x1, y1, x2, y2 in pixels of values (N, 4)."""
    boxes = np.empty((len(values), 4))
    for j in range(len(values)):
        half_width = exp((values[j, S] + values[j, R]) / 2) / 2
        half_height = exp((values[j, S] - values[j, R]) / 2) / 2
        boxes[j, 0], boxes[j, 1] = values[j, U] - half_width, values[j, V] - half_height
        boxes[j, 2], boxes[j, 3] = values[j, U] + half_width, values[j, V] + half_height
    return boxes


@compiled
def _unit(log_area: float, coordinate: int) -> float:
    """What a deviation of this coordinate is relative to: the side for the centre."""
    return exp(log_area / 2) if coordinate <= V else 1.0


@compiled
def _keep_plausible(state: Floats) -> None:
    """Hold a state (4, 2) within the limits; motion beyond them stops."""
    for c in range(COORDINATES):
        if not LOWEST[c] < state[c, VALUE] < HIGHEST[c]:
            state[c, VALUE] = min(max(state[c, VALUE], LOWEST[c]), HIGHEST[c])
            state[c, RATE] = 0.0


@compiled
def predict(mean: Floats, covariance: Floats, dt: float, deviations: Floats) -> None:
    """Eq. 15 over dt seconds, in place. The noise is integrated exactly: two half steps add up to a whole one."""
    for j in range(len(mean)):
        log_area = mean[j, S, VALUE]
        for c in range(COORDINATES):
            x, P = mean[j, c], covariance[j, c]
            drift = (deviations[c, 0] * _unit(log_area, c)) ** 2
            acceleration = (deviations[c, 1] * _unit(log_area, c)) ** 2
            x[VALUE] += x[RATE] * dt
            P[VARIANCE] += dt * (2 * P[CROSS] + dt * P[RATE_VARIANCE] + acceleration * dt**2 / 3 + drift)
            P[CROSS] += dt * (P[RATE_VARIANCE] + acceleration * dt / 2)
            P[RATE_VARIANCE] += acceleration * dt
        _keep_plausible(mean[j])


@compiled
def initial_state(z: Floats, measured: Floats, rates: Floats) -> tuple[Floats, Floats]:
    """Mean (N, 4, 2) and covariance (N, 4, 3) of tracks seen once, at measurements (N, 4), at rest on average."""
    mean, covariance = np.zeros((len(z), COORDINATES, 2)), np.zeros((len(z), COORDINATES, 3))
    for j in range(len(z)):
        for c in range(COORDINATES):
            mean[j, c, VALUE] = z[j, c]
            covariance[j, c, VARIANCE] = (measured[c] * _unit(z[j, S], c)) ** 2
            covariance[j, c, RATE_VARIANCE] = (rates[c] * _unit(z[j, S], c)) ** 2
    return mean, covariance


@compiled
def log_likelihood(
    z: Floats,
    mean: Floats,
    covariance: Floats,
    measured: Floats,
    tails: float,
    overlaps: Floats,
    gate_iou: float,
    gate_distance: float,
) -> Floats:
    """(M, N) log of the t density of measurements (M, 4) given tracks, times the pair's IoU; -inf beyond the gates.

    The density is per centre in sides of the track, log area and log aspect ratio, so that it means the same for a
    near and for a far object. The tails are those of boxes that are cut by another object or by the image's edge.

    Args:
        mean: (N, 4, 2), covariance: (N, 4, 3), predicted to the measurements' time.
        measured: (4,) standard deviations, tails: degrees of freedom.
        overlaps: (M, N) IoU.
    """
    result = np.full(overlaps.shape, -np.inf)
    variance = np.empty(COORDINATES)
    for j in range(len(mean)):
        log_norm = 2 * log(2 * pi) - log(1 + 2 / tails)  # of a standard t distribution in four dimensions
        for c in range(COORDINATES):
            unit = _unit(mean[j, S, VALUE], c)
            variance[c] = covariance[j, c, VARIANCE] + (measured[c] * unit) ** 2
            log_norm += log(sqrt(variance[c]) / unit)
        for k in range(len(z)):
            if overlaps[k, j] < gate_iou:
                continue
            squared = 0.0
            for c in range(COORDINATES):
                squared += (z[k, c] - mean[j, c, VALUE]) ** 2 / variance[c]
            if squared <= gate_distance**2:
                exponent = (tails + COORDINATES) / 2 * log(1 + squared / tails)
                result[k, j] = log(overlaps[k, j]) - exponent - log_norm
    return result


@compiled
def correct(
    mean: Floats,
    covariance: Floats,
    z: Floats,
    weights: Floats,
    measured: Floats,
    tails: float,
    spread: int,
    adaptation: float,
) -> None:
    """Eq. 16-17 in the collapsed form of `update`, coordinate by coordinate, in place.

    An outlier's noise is scaled up, as the expectation-maximisation of the t distribution does. Per coordinate the
    Joseph form is P V / (s P + V), and that of the mixture P ((1 - s) P + V) / (P + V): neither can become negative.

    Args:
        mean: (N, 4, 2), covariance: (N, 4, 3), predicted.
        z: (M, 4), weights: (M, N); the columns sum to at most 1.
        measured: (4,) standard deviations, tails: degrees of freedom.
        spread: index into `update.SPREADS`.
        adaptation: share of the squared correction that counts as such spread, too: a track that has to be corrected
            much moves otherwise than expected.
    """
    zbar = np.empty(COORDINATES)
    for j in range(len(mean)):
        s = 0.0
        zbar[:] = 0.0
        for k in range(len(z)):
            if weights[k, j] > 0.0:
                s += weights[k, j]
                for c in range(COORDINATES):
                    zbar[c] += weights[k, j] * z[k, c]
        if s <= 0.0:
            continue
        log_area, squared = mean[j, S, VALUE], 0.0
        for c in range(COORDINATES):
            zbar[c] /= s
            noise = (measured[c] * _unit(log_area, c)) ** 2
            squared += (zbar[c] - mean[j, c, VALUE]) ** 2 / (covariance[j, c, VARIANCE] + noise)
        outlier = (tails + squared) / (tails + COORDINATES)
        for c in range(COORDINATES):
            x, P = mean[j, c], covariance[j, c]
            noise = outlier * (measured[c] * _unit(log_area, c)) ** 2
            scale = 1.0 if spread == MIXTURE else s
            innovation_variance = scale * P[VARIANCE] + noise
            gain = s * P[VARIANCE] / innovation_variance
            rate_gain = s * P[CROSS] / innovation_variance
            innovation = zbar[c] - x[VALUE]
            x[VALUE] += gain * innovation
            x[RATE] += rate_gain * innovation
            scatter = 0.0
            if spread != NONE:
                for k in range(len(z)):
                    scatter += weights[k, j] / s * (z[k, c] - zbar[c]) ** 2
            if spread == MIXTURE:
                scatter = (scatter + (1.0 - s) * innovation**2) / s
            scatter += adaptation * (gain * innovation) ** 2
            P[RATE_VARIANCE] += rate_gain**2 * scatter - rate_gain * P[CROSS]
            remaining = ((scale - s) * P[VARIANCE] + noise) / innovation_variance
            P[CROSS] = P[CROSS] * remaining + gain * rate_gain * scatter
            P[VARIANCE] = P[VARIANCE] * remaining + gain**2 * scatter
        _keep_plausible(mean[j])


@compiled
def overlap(a: Floats, b: Floats) -> Floats:
    """(M, N) intersection over union of boxes a (M, 4) and b (N, 4) of positive area."""
    result = np.zeros((len(a), len(b)))
    for k in range(len(a)):
        area = (a[k, 2] - a[k, 0]) * (a[k, 3] - a[k, 1])
        for j in range(len(b)):
            width = min(a[k, 2], b[j, 2]) - max(a[k, 0], b[j, 0])
            height = min(a[k, 3], b[j, 3]) - max(a[k, 1], b[j, 1])
            if width > 0 and height > 0:
                shared = width * height
                result[k, j] = shared / (area + (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1]) - shared)
    return result


@compiled
def covered(boxes: Floats, existence: Floats, order: Integers) -> Floats:
    """(N,) expected share of each box (N, 4) that lies behind others.

    Of two boxes the one of the larger `order` (N,) is in front, and of two of the same order what ends lower in the
    image: it is nearer to the camera, on the ground. Several boxes cover independent shares.
    """
    cover = np.zeros(len(boxes))
    for j in range(len(boxes)):
        area, free = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1]), 1.0
        for i in range(len(boxes)):
            if order[i] > order[j] or (order[i] == order[j] and boxes[i, 3] > boxes[j, 3]):
                width = min(boxes[j, 2], boxes[i, 2]) - max(boxes[j, 0], boxes[i, 0])
                height = min(boxes[j, 3], boxes[i, 3]) - max(boxes[j, 1], boxes[i, 1])
                if width > 0 and height > 0:
                    free *= 1.0 - existence[i] * width * height / area
        cover[j] = max(0.0, 1.0 - free)
    return cover
