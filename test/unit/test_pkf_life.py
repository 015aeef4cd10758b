"""The compiled life of tracks against the same in numpy, and what late measurements do to the history."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from camtrack_core.config import validated
from camtrack_core.errors import ConfigurationError
from pkf_filter import SensorModel
from pkf_filter.image import kernels
from pkf_filter.life import classes, existence, scores
from pkf_filter.life.history import SECOND, Entry, History, TimeError

Array = NDArray[np.float64]


def test_odds_are_finite() -> None:
    odds = [scores.log_odds(score) for score in (0.0, 1e-300, 0.25, 0.5, 1.0)]
    extreme = scores.EXTREME_ODDS
    np.testing.assert_allclose(odds, [-extreme, -extreme, -np.log(3), 0.0, extreme])


def test_what_a_score_says_is_logistic() -> None:
    odds = np.random.default_rng(0).normal(0, 3, 20)
    even = np.log(0.7 / 0.3)
    found = scores.detected_shares(odds, 0.9, 0.7, 0.5)
    np.testing.assert_allclose(found, expit(np.log(9) + 0.5 * (odds - even)))
    np.testing.assert_allclose(scores.evidence(expit(odds), 0.7, 0.8), 0.8 * (odds - even))


def test_a_new_track_exists_with_the_odds_of_its_detection() -> None:
    alone, evidence = np.array([1.0, 1.0, 0.5]), np.array([0.0, np.log(3), np.log(3)])
    np.testing.assert_allclose(existence.newborn(alone, evidence, 0.25), [0.25, 0.5, 0.25])


def test_pairs_of_other_classes_and_groups_are_less_likely() -> None:
    density = np.log(np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.0]]) + 1e-300)
    density[1, 2] = -np.inf
    exists, detected = np.array([0.9, 0.8, 0.7]), np.array([0.5, 0.6, 0.7])
    mismatches = classes.mismatches(np.array([0, 0, 1]), 0.2, 0.02)
    found = existence.pair_weights(density, exists, detected, np.array([0, 2]), np.array([0, 1, 2]), mismatches)
    factors = np.array([[1, 0.2, 0.02], [0.02, 0.02, 1]])
    expected = factors * 0.5 * exists * detected
    expected[1, 2] = 0.0
    np.testing.assert_allclose(np.exp(found), expected)


def test_a_confusion_matrix_tells_how_likely_the_classes_of_a_pair_are() -> None:
    """Of three classes the first and the last are in the matrix; the group's factor holds for the rest."""
    matrix, rows = classes.confusion_matrix(("a", "c"), (0.9, 0.1, 0.3, 0.7)), np.array([0, 2])
    factors = classes.with_confusion(classes.mismatches(np.array([0, 0, 1]), 0.2, 0.02), rows, matrix)
    np.testing.assert_allclose(np.exp(factors), [[1, 0.2, 0.1 / 0.7], [0.2, 1, 0.02], [0.3 / 0.9, 0.02, 1]])
    voted = classes.votes_for(3, 4, rows, matrix)
    np.testing.assert_allclose(voted, [[0.75, 0, 0.25, 0], [0, 1, 0, 0], [0.125, 0, 0.875, 0]])


@pytest.mark.parametrize(
    ("names", "values", "said"),
    [
        (("a", "b"), (0.9, 0.1, 0.3), "expected 4 values of the 2 different classes"),
        (("a", "a"), (0.9, 0.1, 0.3, 0.7), "different classes"),
        (("a", "b"), (0.9, 0.2, 0.3, 0.7), "add up to 1"),
        (("a", "b"), (1.0, 0.0, 0.3, 0.7), "above 0"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(names: tuple[str, ...], values: tuple[float, ...], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        validated(SensorModel, {"confusion_classes": names, "confusion": values})


def test_credit_goes_to_the_likeliest_measurement_of_measured_tracks() -> None:
    weights, missed = np.array([[0.7, 0.1, 0.0], [0.2, 0.2, 0.9]]), np.array([0.1, 0.7, 0.1])
    seen, class_ids = expit(np.array([2.0, -1.0])), np.array([1, 3])
    track_scores, votes, shares = np.zeros(3), np.ones((3, 4)), np.array([0.75, 0.75, 0.5])
    voted = np.eye(4)
    voted[3] = 0.0, 0.0, 0.25, 0.75
    own = scores.credit(weights, missed, seen, class_ids, voted, shares, track_scores, votes)
    assert own.tolist() == [0, -1, 1]
    memory = scores.VOTE_MEMORY
    np.testing.assert_allclose(track_scores, [0.5, 0.0, -0.5], atol=1e-12)
    expected = [[memory, memory + seen[0], memory, memory], [1] * 4]
    expected.append([memory, memory, memory + 0.25 * seen[1], memory + 0.75 * seen[1]])
    np.testing.assert_allclose(votes, expected)


def test_faint_tracks_and_second_tracks_end() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9.5], [50, 0, 60, 10], [50, 0, 60, 10], [90, 0, 99, 9]], np.float64)
    existence, hits = np.array([0.9, 0.9, 0.9, 0.9, 0.01]), np.array([5, 3, 2, 4, 9])
    over = kernels.ended(boxes, existence, hits, np.array([0, -1]), 0.7, 10, 0.02)
    assert over.tolist() == [False, True, True, False, True]
    over = kernels.ended(boxes, existence, hits, np.array([1, 2]), 0.7, 10, 0.02)  # what is measured stays
    assert over.tolist() == [False, False, False, False, True]


def test_a_track_of_many_hits_is_no_second_track() -> None:
    boxes, existence, hits = np.tile([0.0, 0, 10, 10], (2, 1)), np.full(2, 0.9), np.array([40, 11])
    nothing = np.zeros(0, np.int64)
    assert kernels.ended(boxes, existence, hits, nothing, 0.7, 11, 0.02).tolist() == [False, True]
    assert kernels.ended(boxes, existence, hits, nothing, 0.7, 10, 0.02).tolist() == [False, False]


def test_births_are_likely_and_stand_alone() -> None:
    likely = np.array([0.45, 0.45, 0.01])
    overlaps = np.array([[0.2, 0.5], [0.2, 0.6], [0.0, 0.0]])
    np.testing.assert_allclose(kernels.births(likely, overlaps, 0.05, 0.5), [0.45, 0, 0])
    np.testing.assert_allclose(kernels.births(likely, np.zeros((3, 0)), 0.0, 0.5), likely)


def test_of_boxes_that_nearly_agree_the_likeliest_starts_a_track() -> None:
    """IoU of the first three 0.8 and more, of the last one with the first 0.6."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8], [40, 0, 50, 10], [0, 0, 10, 6]], float)
    kept = kernels.without_doubles(np.array([0.4, 0.6, 0.5, 0.3, 0.2]), boxes, 0.7)
    np.testing.assert_allclose(kept, [0, 0.6, 0, 0.3, 0.2])


def test_usable_boxes_are_measurable_with_a_finite_score_and_a_known_class() -> None:
    measurable = np.array([True, False, True, True, True, True, True])
    found, classes = np.array([0.9, 0.9, np.nan, -np.inf, 0.5, 0.5, 0.0]), np.array([0, 0, 0, 0, -1, 4, 3])
    assert scores.usable(measurable, found, classes, 4).tolist() == [0, 6]


def test_shown_are_confirmed_tracks_between_estimate_and_measurement() -> None:
    rng, number = np.random.default_rng(1), 30
    confirmed, seen_ns, ids = rng.random(number) < 0.5, rng.choice([80, 95, 100], number), np.arange(number) + 7
    mean, measured = rng.normal(size=(number, 4, 2)), rng.normal(size=(number, 4))
    score, votes = rng.normal(0, 3, number), rng.random((number, 64))
    found = kernels.shown(confirmed, seen_ns, ids, mean, measured, score, votes, 100, 10.0, 0.25)
    rows = np.flatnonzero(confirmed & (seen_ns >= 90))
    now = (seen_ns[rows] == 100)[:, None]
    values = np.where(now, 0.75 * mean[rows, :, 0] + 0.25 * measured[rows], mean[rows, :, 0])
    half = np.exp((values[:, [2]] + values[:, [3]] * [1, -1]) / 2) / 2
    assert 0 < now.sum() < len(rows) < number
    np.testing.assert_array_equal(found[0], ids[rows])
    np.testing.assert_allclose(found[1], np.hstack([values[:, :2] - half, values[:, :2] + half]))
    np.testing.assert_allclose(found[2], expit(score[rows]))
    np.testing.assert_array_equal(found[3], votes[rows].argmax(1))


def kept(*stamps: float) -> History[Entry[str]]:
    """A history of measurements at these seconds, each of which has started one track."""
    history: History[Entry[str]] = History()
    before = None
    for stamp in stamps:
        entry = Entry(round(stamp * SECOND), before, f"before {stamp:g} s")
        history.entries.append(entry)
        history.id_of(entry, 0)
        before = entry.time_ns
    return history


def test_a_late_measurement_goes_back_to_the_tracks_before_the_newer_ones() -> None:
    history = kept(1.0, 1.1, 1.2, 1.3)
    later = history.back_to(round(1.15 * SECOND), round(1.3 * SECOND), 0.5)
    assert [entry.before for entry in later] == ["before 1.2 s", "before 1.3 s"]
    assert [entry.time_ns for entry in history.entries] == [SECOND, round(1.1 * SECOND)]
    assert history.back_to(round(1.2 * SECOND), round(1.1 * SECOND), 0.5) == []


def test_what_is_too_late_is_told_the_oldest_stamp_and_changes_nothing() -> None:
    history = kept(1.0, 1.1, 1.2, 1.3)
    with pytest.raises(TimeError, match=f"at least {round(1.1 * SECOND)} ns"):
        history.back_to(SECOND, round(1.3 * SECOND), 0.2)
    history.forget(round(1.3 * SECOND), 0.1)
    assert [entry.before for entry in history.entries] == ["before 1.1 s", "before 1.2 s", "before 1.3 s"]
    with pytest.raises(TimeError, match=f"at least {SECOND} ns"):  # before what is kept
        history.back_to(round(0.95 * SECOND), round(1.3 * SECOND), 9.0)
    assert len(history.entries) == 3


def test_a_track_that_a_late_measurement_starts_anew_keeps_its_id() -> None:
    history = kept(1.0)
    (later,) = history.back_to(round(0.9 * SECOND), SECOND, 0.5)
    late = Entry(round(0.9 * SECOND), None, "")
    history.entries.append(late)
    fresh = history.id_of(late, 3)
    history.entries.append(later)
    assert fresh == 2
    ids = history.keep_ids(later, np.array([0]), np.array([fresh]))  # its row is now that track's
    assert ids.tolist() == [1]
    assert late.ids == {3: 1}
    assert history.keep_ids(later, np.array([-1]), np.array([5])).tolist() == [5]
