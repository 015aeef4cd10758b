"""What tests of association share: all joint events, and the weights that they define."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Problem = tuple[Array, Array, Array]


def events(rows: int, columns: int, taken: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Every joint event, as the column of each row, -1 for clutter."""
    if len(taken) == rows:
        yield taken
        return
    for column in (-1, *(j for j in range(columns) if j not in taken)):
        yield from events(rows, columns, (*taken, column))


def enumerated(problem: Problem) -> Array:
    """The definition: the share of each pair in the weight of all joint events."""
    pairs, clutter, missed = problem
    weights, total = np.zeros_like(pairs), 0.0
    for event in events(*pairs.shape):
        mass = np.prod([clutter[k] if j < 0 else pairs[k, j] for k, j in enumerate(event)])
        mass *= np.prod([missed[j] for j in range(len(missed)) if j not in event])
        total += mass
        for k, j in enumerate(event):
            if j >= 0:
                weights[k, j] += mass
    return weights / total
