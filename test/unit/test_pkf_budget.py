"""The time that association may take, with a clock that the test turns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from camtrack_core.geometry.boxes import Boxes2D
from pkf_filter import FilterConfig, Tracker
from pkf_filter.association.budget import Budget
from pkf_filter.association.weights import association_weights
from pkf_filter.life.scores import MAX_BOXES

SECOND = 1_000_000_000


def clock(durations: list[float]) -> Iterator[float]:
    """What a clock says before and after steps that take so long."""
    now = 0.0
    for took in durations:
        yield now
        now += took
        yield now


def crowded(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log weights of a component in which everything may be everything."""
    rng = np.random.default_rng(size)
    return rng.normal(0, 1, (size, size)), rng.normal(-1, 1, size), rng.normal(-1, 1, size)


def test_frames_that_take_too_long_make_the_next_ones_cheaper_and_easy_ones_dearer_again() -> None:
    times = clock([0.02, 0.02, 0.02, 0.005, 0.002, 0.002, 0.002])
    budget, weights = Budget(0.01, lambda: next(times)), crowded(12)
    exact = association_weights(*weights)
    errors = [np.abs(budget.associate(*weights).weights - exact.weights).max() for _ in range(7)]
    assert budget.counts == {"exact": 2, "bounded": 2, "propagated": 3}
    assert errors[0] == errors[6] == 0.0
    assert max(errors[2:5]) > 1e-9  # propagated, and as they said
    assert 3 <= budget.approximated <= 5


def test_without_a_limit_nothing_becomes_cheaper() -> None:
    times = clock([9.0, 9.0])
    budget = Budget(0.0, lambda: next(times))
    for _ in range(2):
        assert budget.associate(*crowded(5)).exact
    assert budget.counts == {"exact": 2, "bounded": 0, "propagated": 0}


@pytest.mark.parametrize(("bound", "exact"), [(0.0, True), (1e-62, True), (1e-9, True), (2e-9, False)])
def test_weights_are_exact_up_to_a_bound_of_a_billionth(bound: float, exact: bool) -> None:
    association = association_weights(*crowded(3))
    association.table[-1, -2] = bound
    assert association.exact is exact


def test_two_thousand_overlapping_boxes_are_taken_up_to_the_limit() -> None:
    """All of them overlap each other; those of the highest scores are kept, and the rest is counted."""
    tracker, rng = Tracker(FilterConfig()), np.random.default_rng(0)
    corner = rng.uniform(0, 40, (2000, 2))
    scores = rng.uniform(0.5, 1.0, 2000)
    boxes = Boxes2D(np.hstack([corner, corner + 100]), scores, np.zeros(2000, np.int64))
    for frame in range(3):
        tracks = tracker.step(frame * SECOND // 10, boxes)
        assert tracker.dropped == (frame + 1) * (2000 - MAX_BOXES)
        assert np.isfinite(tracks.xyxy).all() and len(tracker.tracks) <= MAX_BOXES
    assert sum(tracker.budget.counts.values()) == 3


def test_the_tracker_counts_its_steps() -> None:
    tracker = Tracker(FilterConfig(association_time=1e-12))
    boxes = Boxes2D(np.array([[0.0, 0, 50, 50]]), np.array([0.9]), np.zeros(1, np.int64))
    for frame in range(4):
        tracker.step(frame * SECOND // 10, boxes)
    assert tracker.budget.counts == {"exact": 1, "bounded": 1, "propagated": 2}
