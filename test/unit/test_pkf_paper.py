"""The paper's tracker: weights by enumeration, the ambiguity check on worked examples, and its counters."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from camtrack_core.geometry.boxes import Boxes2D
from pkf_filter.baselines.paper import PaperConfig, PaperTracker, ambiguous, matched, obliged_weights, paper_weights

CONFIG = PaperConfig()


def boxes(*centres: float) -> Boxes2D:
    """Boxes of 60 px in one row."""
    x = np.array(centres, np.float64)
    xyxy = np.stack([x - 30, 0 * x + 70, x + 30, 0 * x + 130], 1)
    return Boxes2D(xyxy, np.full(len(x), 0.9), np.zeros(len(x), np.int64))


def enumerated(likelihood: np.ndarray) -> np.ndarray:
    """Prop. 1 for M <= N: the share of all assignments of rows that hold each pair."""
    M, N = likelihood.shape
    weights, total = np.zeros((M, N)), 0.0
    for columns in permutations(range(N), M):
        weight = likelihood[range(M), columns].prod()
        total += weight
        weights[range(M), columns] += weight
    return weights / total


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (2, 4), (3, 3), (4, 2)])
def test_weights_are_those_of_enumeration(rows: int, columns: int) -> None:
    likelihood = np.random.default_rng(0).uniform(0.1, 1, (rows, columns))
    expected = enumerated(likelihood) if rows <= columns else enumerated(likelihood.T).T
    np.testing.assert_allclose(obliged_weights(np.log(likelihood)), expected, rtol=1e-12)


def test_only_candidates_of_like_scores_are_ambiguous() -> None:
    scores = np.array([[0.80, 0.75, 0.0], [0.10, 0.60, 0.0], [0.0, 0.0, 0.9]])
    rows, columns = ambiguous(scores, matched(scores, 0.3), 0.9)
    assert rows.tolist() == [True, True, False]  # the second as the match of a marked track
    assert columns.tolist() == [True, True, False]
    assert not ambiguous(scores, matched(scores, 0.3), 1.01)[0].any()


def test_the_check_goes_on_down_the_ranks() -> None:
    scores = np.array([[0.80, 0.75, 0.70, 0.1]])
    _, columns = ambiguous(scores, [], 0.9)
    assert columns.tolist() == [True, True, True, False]


def test_what_is_clear_is_matched_and_what_is_ambiguous_is_weighed() -> None:
    scores = np.array([[0.80, 0.75, 0.0], [0.10, 0.60, 0.0], [0.0, 0.0, 0.9]])
    weights = paper_weights(scores, CONFIG)
    expected = enumerated(np.exp(-CONFIG.alpha / scores[:2, :2]))
    np.testing.assert_allclose(weights[:2, :2], np.where(expected >= CONFIG.weight_threshold, expected, 0))
    assert weights[2].tolist() == [0, 0, 1]


def test_low_weights_are_left_out() -> None:
    weights = paper_weights(np.array([[0.9, 0.85], [0.2, 0.9]]), CONFIG)
    assert ((weights == 0) | (weights >= CONFIG.weight_threshold)).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_match(shape: tuple[int, int]) -> None:
    assert paper_weights(np.zeros(shape), CONFIG).shape == shape


def test_tracks_appear_after_the_hits_and_end_with_age() -> None:
    tracker = PaperTracker(PaperConfig(min_hits=3, max_age=2))
    frames = [tracker.step(i, boxes(100 + 3 * i, 400)) for i in range(6)]
    assert [len(tracks) for tracks in frames] == [0, 0, 2, 2, 2, 2]
    np.testing.assert_allclose(frames[-1].xyxy, boxes(115, 400).xyxy, atol=1.0)
    for i in range(2):
        assert not len(tracker.step(6 + i, Boxes2D.empty()))
    assert tracker.step(8, boxes(124, 400)).ids.tolist() == frames[-1].ids.tolist()
    for i in range(4):
        tracker.step(9 + i, Boxes2D.empty())
    again = [tracker.step(13 + i, boxes(100)) for i in range(3)][-1]
    assert again.ids.tolist() == [3]


def test_overlapping_boxes_start_no_track() -> None:
    tracker = PaperTracker(PaperConfig(min_hits=1))
    tracker.step(0, boxes(100))
    assert len(tracker.step(1, boxes(100, 110))) == 1


def test_crossing_objects_keep_their_ids() -> None:
    tracker = PaperTracker()
    left = [tracker.step(i, boxes(100 + 10 * i, 500 - 10 * i)) for i in range(40)]
    first, last = left[5], left[-1]
    by_x = [tracks.ids[np.argsort(tracks.xyxy[:, 0])].tolist() for tracks in (first, last)]
    assert by_x[0] == by_x[1][::-1]
