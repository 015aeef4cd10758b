"""Which way objects head, by how their boxes move in the image of a camera that stands still.

A box that grows comes nearer: with the distance in proportion to 1 / height, the way of an object over ground follows
from its boxes but for its scale. What moves heads where it moves to. Of a camera that moves this would need to know how
it moves, and how far away everything is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.frames import Labels
from camtrack_core.geometry.boxes import Floats, Integers
from camtrack_core.numbers import rows_of

REACH = 1.0  # seconds before and after a frame in which an object's way is looked at
LEAST_SIGHTS = 4  # in that time
LEAST_WAY = 0.15  # way in that time, as a share of the distance, from which on it tells a heading
CLEAR = 5.0  # the same, in deviations of the places from the straight way
BORDER = 0.01  # share of the image's width; a box nearer to the edge may be cut by it


def headings(times: Integers, labels: list[Labels], intrinsics: Floats, sizes: Integers) -> list[Floats]:
    """Yaw (N,) in the level frame of each frame's labels, NaN where their way does not tell.

    Args:
        times: (T,) stamps, nanoseconds.
        intrinsics: (T, 3, 3) of a level camera, sizes: (T, 2) width and height of its images, pixels.
    """
    seconds = (times - times[0]) * 1e-9
    at = np.concatenate([np.full(len(known), t) for t, known in zip(seconds, labels, strict=True)])
    rows = rows_of(np.concatenate([known.ids for known in labels]))
    places = np.concatenate([_places(known, K) for known, K in zip(labels, intrinsics, strict=True)])
    whole = np.concatenate([_whole(known, size) for known, size in zip(labels, sizes, strict=True)])
    ways = {identity: own[whole[own]] for identity, own in rows.items()}
    return [
        np.array([_heading(at, places, _near(at, ways[identity], t)) for identity in known.ids.tolist()])
        for t, known in zip(seconds, labels, strict=True)
    ]


def _near(at: Floats, rows: Integers, time: float) -> Integers:
    """Those of the rows that are within REACH of a time."""
    return rows[np.abs(at[rows] - time) <= REACH]


def _places(labels: Labels, intrinsics: Floats) -> Floats:
    """(N, 2) right and ahead, in heights of the object."""
    extent = np.maximum(labels.xyxy[:, 2:] - labels.xyxy[:, :2], 1.0)
    middle = labels.xyxy[:, 0] + extent[:, 0] / 2
    ahead = intrinsics[1, 1] / extent[:, 1]
    return np.stack([(middle - intrinsics[0, 2]) / intrinsics[0, 0] * ahead, ahead], 1)


def _whole(labels: Labels, size: Integers) -> NDArray[np.bool_]:
    margin = BORDER * size[0]
    return (labels.xyxy[:, :2] >= margin).all(1) & (labels.xyxy[:, 2:] <= size - margin).all(1)


def _heading(at: Floats, places: Floats, near: Integers) -> float:
    """Yaw of the straight way that fits the places of the rows `near` best."""
    if len(near) < LEAST_SIGHTS:
        return float("nan")
    since, middle = at[near] - at[near].mean(), places[near].mean(0)
    speed = since @ places[near] / (since @ since)
    beside = places[near] - middle - since[:, None] * speed
    right, ahead = way = speed * (since[-1] - since[0])
    told = np.linalg.norm(way) >= max(LEAST_WAY * np.linalg.norm(middle), CLEAR * np.sqrt((beside**2).sum(1).mean()))
    return float(np.arctan2(-ahead, right)) if told else float("nan")
