"""Noise from labelled sequences: how objects move, and how far a detector's boxes lie from theirs.

By moments. A difference of labels that is zero but for noise has a variance which is linear in the unknown powers: of
the white noise that drives the motion, growing with the time between the labels, and of the labels' own error, which
does not. Several times between them tell the two apart. The differences that hold no velocity are

    d = (x2 - x1) / h2 - (x1 - x0) / h1     for values of constant velocity: the variance of white acceleration of
                                            power q^2 is q^2 (h1 + h2) / 3, that of drift q^2 (1 / h1 + 1 / h2)
    d = x1 - x0                             for values that only drift: q^2 h

with times h1, h2 in seconds. The powers are those of `world.process_noise`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from camtrack_core.geometry.boxes import ArraySet, Boxes3D, Floats
from pkf_filter.space.config import ClassGroup
from pkf_filter.space.models import HEIGHT, LENGTH, YAW, X, Y, Z

LAGS = (0.1, 0.2, 0.5, 1.0)  # seconds between labels, as far as the frames lie that close
TOLERANCE = 0.2  # of a lag, by which the time between two labels may differ from it
STEPS = 20  # of the scoring iteration; it converges within a few
LEAST = 1e-12  # of the largest square: a variance, however certain, is not zero
FEWEST = 30  # differences from which a power is told


@dataclass(frozen=True)
class LabelledTrack:
    """One labelled object.

    Attributes:
        name: of its class.
        times: (T,) float64, seconds, increasing.
        values: (T, 7) float64 (x, y, z, yaw, l, w, h) in a frame that does not move.
    """

    name: str
    times: Floats
    values: Floats


@dataclass(frozen=True)
class MatchedBoxes(ArraySet):
    """Detections and the labels that they are of, pair by pair.

    Attributes:
        detected, labelled: N boxes in one frame.
        origin: (N, 3) float64, where the sensor was.
        groups: (N,) int, of their class groups.
    """

    detected: Boxes3D
    labelled: Boxes3D
    origin: Floats
    groups: NDArray[np.integer]


def variance_components(values: Floats, design: Floats) -> Floats:
    """(K,) non-negative powers p of zero-mean Gaussian values (N,) whose variances are design @ p, design (N, K).

    Fisher scoring of the likelihood of independent values: least squares of the squares, weighed by the variances of
    the last step. Differences that share a label are not independent, which costs efficiency and no bias.
    """
    if not len(values):
        return np.zeros(design.shape[1])
    squares = values**2
    least = LEAST * max(squares.max(initial=0.0), 1e-300)
    variance = np.full(len(values), max(squares.mean(), least))
    size = np.maximum(design.mean(0), 1e-300)  # columns of like size, for the solver's sake
    powers = np.zeros(design.shape[1])
    for _ in range(STEPS):
        triangle: Floats = np.linalg.qr(np.column_stack([design / size, squares]) / variance[:, None]).R
        powers, _ = nnls(triangle[:, :-1], triangle[:, -1])
        variance = np.maximum(design @ (powers / size), least)
    return powers / size


def process_noise(tracks: Sequence[LabelledTrack], turning: bool) -> dict[str, float]:
    """Deviations of the motion of one class group, named as in `ClassGroup`; what the labels cannot tell is left out.

    Labels that never change, such as sizes that an annotator has copied from frame to frame, tell nothing.

    Args:
        tracks: of the group.
        turning: whether the yaw turns at a rate that is estimated; else it only drifts.
    """
    place = _driven([_differences(t.times, t.values[:, a]) for t in tracks for a in (X, Y)])
    height = _drifting([_steps(t.times, t.values[:, Z]) for t in tracks])
    size = _drifting([_steps(t.times, np.log(t.values[:, a])) for t in tracks for a in range(LENGTH, HEIGHT + 1)])
    found = {"acceleration": place, "climb": height, "size_drift": size}
    yaws = [(t.times, np.unwrap(t.values[:, YAW], period=np.pi)) for t in tracks]  # a label may face backwards
    if turning:
        found["turn_acceleration"], found["yaw_drift"] = _turning([_differences(*yaw) for yaw in yaws])
        found["turn_rate"] = _rate(yaws)
    else:
        found["yaw_drift"] = _drifting([_steps(*yaw) for yaw in yaws])
    found["speed"] = _rate([(t.times, t.values[:, a]) for t in tracks for a in (X, Y)])
    return {name: float(value) for name, value in found.items() if value > 0.0}


def measurement_noise(pairs: MatchedBoxes, group_count: int) -> tuple[list[dict[str, float]], float]:
    """Deviations of a detector's boxes, named as in `ClassGroup`, by group; and its `depth_noise`.

    The second moments about the labels, so that a detector's constant error counts as noise. Across the line of sight
    a place deviates by `measured_position`, along it by the depth's share of the distance as well.
    """
    groups = pairs.groups
    off = pairs.detected.centre - pairs.labelled.centre
    sight = (pairs.labelled.centre - pairs.origin)[:, :2]
    distance = np.linalg.norm(sight, axis=1)
    along = sight / np.maximum(distance, 1e-9)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    member = (groups[:, None] == np.arange(group_count)).astype(float)
    nothing = np.zeros((len(pairs), 1))
    powers = variance_components(
        np.concatenate([(off[:, :2] * along).sum(1), (off[:, :2] * across).sum(1)]),
        np.concatenate([np.hstack([member, distance[:, None] ** 2]), np.hstack([member, nothing])]),
    )
    turned = (pairs.detected.yaw - pairs.labelled.yaw + np.pi / 2) % np.pi - np.pi / 2
    grown = np.log(pairs.detected.size / pairs.labelled.size)
    found: list[dict[str, float]] = []
    for group in range(group_count):
        of = groups == group
        if of.sum() < FEWEST:
            found.append({})
            continue
        deviations = {
            "measured_position": np.sqrt(powers[group]),
            "measured_height": root_mean_square(off[of, 2]),
            "measured_yaw": root_mean_square(turned[of]),
            "measured_size": root_mean_square(grown[of]),
        }
        found.append({name: float(value) for name, value in deviations.items() if value > 0.0})
    return found, float(np.sqrt(powers[-1]))


def root_mean_square(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))


def group_noise(tracks: Iterable[LabelledTrack], groups: Sequence[ClassGroup], of: dict[str, int]) -> list[dict]:
    """`process_noise` of each group; `of` is the index of the group of each class name."""
    members: list[list[LabelledTrack]] = [[] for _ in groups]
    for track in tracks:
        members[of[track.name]].append(track)
    return [
        process_noise(tracks, group.motion != "constant velocity")
        for tracks, group in zip(members, groups, strict=True)
    ]


# --- Differences of labels and their designs


def _pairs(times: Floats, lag: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of labels and of those about `lag` seconds later."""
    after = np.searchsorted(times, times + lag).clip(1, max(len(times) - 1, 1))
    if len(times) < 2:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    later = after - (times + lag - times[after - 1] < times[after] - times - lag)
    first = np.flatnonzero(np.abs(times[later] - times - lag) <= TOLERANCE * lag)
    return first, later[first]


def _steps(times: Floats, values: Floats) -> Floats:
    """(D, 3) of values that only drift: difference, and the variance of it per power of the drift and of the labels."""
    found = [np.zeros((0, 3))]
    for lag in LAGS:
        first, later = _pairs(times, lag)
        h = times[later] - times[first]
        found.append(np.stack([values[later] - values[first], h, 2 * np.ones_like(h)], 1))
    return np.concatenate(found)


def _differences(times: Floats, values: Floats) -> Floats:
    """(D, 4) of values of constant velocity: difference, and its variance by acceleration, drift and labels."""
    found = [np.zeros((0, 4))]
    for lag in LAGS:
        first, middle = _pairs(times, lag)
        last = dict(zip(first.tolist(), middle.tolist(), strict=True))
        both = np.array([m in last for m in middle.tolist()], np.bool_)
        first, middle = first[both], middle[both]
        end = np.array([last[m] for m in middle.tolist()], np.intp)
        h1, h2 = times[middle] - times[first], times[end] - times[middle]
        d = (values[end] - values[middle]) / h2 - (values[middle] - values[first]) / h1
        labels = 1 / h1**2 + 1 / h2**2 + (1 / h1 + 1 / h2) ** 2
        found.append(np.stack([d, (h1 + h2) / 3, 1 / h1 + 1 / h2, labels], 1))
    return np.concatenate(found)


def _told(tables: Sequence[Floats], columns: list[int]) -> Floats:
    """(K,) deviations that belong to the given columns; zeros where there is nothing to tell them from."""
    table = np.concatenate(tables) if tables else np.zeros((0, max(columns) + 1))
    if len(table) < FEWEST or not table[:, 0].any():
        return np.zeros(len(columns))
    return np.sqrt(variance_components(table[:, 0], table[:, columns]))


def _driven(tables: Sequence[Floats]) -> float:
    return float(_told(tables, [1, 3])[0])


def _drifting(tables: Sequence[Floats]) -> float:
    return float(_told(tables, [1, 2])[0])


def _turning(tables: Sequence[Floats]) -> tuple[float, float]:
    acceleration, drift, _ = _told(tables, [1, 2, 3])
    return float(acceleration), float(drift)


def _rate(series: Sequence[tuple[Floats, Floats]]) -> float:
    """Deviation of the rates of objects that have just appeared, per second."""
    rates = []
    for times, values in series:
        first, later = _pairs(times, LAGS[-1])
        if len(first):
            rates.append((values[later[0]] - values[first[0]]) / (times[later[0]] - times[first[0]]))
    return root_mean_square(np.array(rates)) if len(rates) >= FEWEST else 0.0
