"""Boxes that the edge of their sensor's view cuts: where they end there, their object need not.

Such a box measures the end within the view. Seen from a track that reaches further, it reaches as far (`hidden_length`
in `models`); a track that ends where the view does may reach further than that, until another sensor shows where it
ends (`end_spread`).

Shapes: M measurements (M, 7), N tracks (N, 10). An end is cut at the front (1), at the back (-1), or none (0).
"""

from __future__ import annotations

import numpy as np

from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.ground import usual_sizes
from pkf_filter.life.scores import SEEN
from pkf_filter.numerics.compiled import compiled
from pkf_filter.space.models import CLOSE, LENGTH, STATE_SIZE, WIDTH, YAW, X, Y, hidden_length

LEAST_ACROSS = 0.25  # sine of the angle between a box and the edge below which it lies along the edge
LENGTH_SPREAD = 0.15  # of usual lengths, in themselves


@compiled
def cut_ends(measurements: Floats, origin: Floats, ahead: Floats, field_of_view: float) -> Floats:
    """(M,) which end of each box lies at the edge of a sensor's view, or beyond it: 1, -1, or 0 for none.

    An end is at the edge from half the box's width before it on. Boxes that lie along the edge are cut at no end.

    Args:
        origin: (2 or 3,) of the sensor, ahead: (2,) the middle of its view on the ground, any length above 0.
        field_of_view: radians about it.
    """
    cut = np.zeros(len(measurements))
    middle = np.arctan2(ahead[1], ahead[0])
    outside = np.empty(2)
    for k in range(len(measurements)):
        z = measurements[k]
        for end in range(2):
            sign = 1.0 - 2.0 * end
            x = z[X] + sign * np.cos(z[YAW]) * z[LENGTH] / 2 - origin[0]
            y = z[Y] + sign * np.sin(z[YAW]) * z[LENGTH] / 2 - origin[1]
            aside = abs((np.arctan2(y, x) - middle + np.pi) % (2 * np.pi) - np.pi)
            outside[end] = np.hypot(x, y) * np.sin(min(aside - field_of_view / 2, np.pi / 2))
        if outside.max() > -z[WIDTH] / 2 and abs(outside[0] - outside[1]) > LEAST_ACROSS * z[LENGTH]:
            cut[k] = 1.0 if outside[0] > outside[1] else -1.0
    return cut


def unseen_lengths(class_names: list[str], lengths: Floats) -> Floats:
    """(M,) deviation in metres of what objects of these classes are longer than their visible `lengths` (M,)."""
    usual = usual_sizes(np.array(class_names, np.str_))[:, 0]
    return np.asarray(np.hypot(np.maximum(usual - lengths, 0.0), LENGTH_SPREAD * usual))


@compiled
def end_shift(yaw: float, end: float) -> Floats:
    """(10,) how centre and length of a state change with a metre that the box is longer at one end."""
    shift = np.zeros(STATE_SIZE)
    shift[X], shift[Y], shift[LENGTH] = end * np.cos(yaw) / 2, end * np.sin(yaw) / 2, 1.0
    return shift


@compiled
def end_spread(
    mean: Floats, covariance: Floats, measurements: Floats, cut: Floats, unseen: Floats, weights: Floats, noise: Floats
) -> Floats:
    """(N, 10, 10) to be added to the covariance of tracks, of which those that end at the edge of the view they were
    measured in end there or further on.

    Args:
        covariance: (N, 10, 10), cut: (M,), see `cut_ends`, unseen: (M,), see `unseen_lengths`.
        weights: (M, N), of the association; noise: (N, 7, 7).
    """
    added = np.zeros(covariance.shape)
    for j in range(len(mean)):
        for k in range(len(weights)):
            if weights[k, j] <= SEEN or cut[k] == 0.0:
                continue
            deviation = np.sqrt(noise[j, LENGTH, LENGTH])
            if abs(hidden_length(measurements[k], mean[j], cut[k], deviation)) > CLOSE * deviation:
                continue
            shift = end_shift(measurements[k, YAW], cut[k])
            end = 2 * shift  # of the place of the end
            end[LENGTH] = 0.5
            known = 0.0
            for a in (X, Y, LENGTH):
                for b in (X, Y, LENGTH):
                    known += end[a] * covariance[j, a, b] * end[b]
            spread = max(unseen[k] ** 2 - known, 0.0)
            for a in range(len(shift)):
                for b in range(len(shift)):
                    added[j, a, b] = spread * (shift[a] * shift[b])
    return added
