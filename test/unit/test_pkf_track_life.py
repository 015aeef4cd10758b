"""The compiled life of tracks against the same in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pkf_filter.life import track_life

Array = NDArray[np.float64]


def test_odds_are_finite() -> None:
    odds = track_life.log_odds(np.array([0.0, 0.25, 0.5, 1.0]))
    np.testing.assert_allclose(odds, [-track_life.EXTREME_ODDS, -np.log(3), 0.0, track_life.EXTREME_ODDS])


def test_probabilities_and_densities_follow_the_score() -> None:
    rng = np.random.default_rng(0)
    odds, covered = rng.normal(0, 3, 20), rng.random(20)
    found = track_life.detection_probabilities(odds, covered, 0.3, 0.5, 0.9, 0.8)
    np.testing.assert_allclose(found, np.minimum(expit(0.3 + 0.5 * odds), 0.9) * (1 - 0.8 * covered))
    found = track_life.clutter_densities(odds, 0.03, -2.6, 0.8)
    np.testing.assert_allclose(found, 0.03 * np.exp(2.6 - 0.8 * odds))


def test_credit_goes_to_the_likeliest_box_of_measured_tracks() -> None:
    weights, missed = np.array([[0.7, 0.1, 0.0], [0.2, 0.2, 0.9]]), np.array([0.1, 0.7, 0.1])
    z, odds, scores = np.arange(8.0).reshape(2, 4), np.array([2.0, -1.0]), np.array([0.9, 0.3])
    score, votes, measured = np.zeros(3), np.ones((3, 4)), np.zeros((3, 4))
    hits, seen_ns = np.ones(3, np.int64), np.zeros(3, np.int64)
    class_ids = np.array([1, 3])
    track_life.credit(weights, missed, z, odds, scores, class_ids, 7, 0.75, score, votes, measured, hits, seen_ns)
    memory = track_life.VOTE_MEMORY
    assert score.tolist() == [0.5, 0.0, -0.25]
    np.testing.assert_allclose(votes, [[memory, memory + 0.9, memory, memory], [1] * 4, [memory] * 3 + [memory + 0.3]])
    np.testing.assert_array_equal(measured, [z[0], np.zeros(4), z[1]])
    assert hits.tolist() == [2, 1, 2]
    assert seen_ns.tolist() == [7, 0, 7]


def test_faint_tracks_and_second_tracks_end() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9.5], [50, 0, 60, 10], [50, 0, 60, 10], [90, 0, 99, 9]], np.float64)
    existence, hits = np.array([0.9, 0.9, 0.9, 0.9, 0.01]), np.array([5, 3, 2, 4, 9])
    over = track_life.ended(boxes, existence, hits, np.array([0, -1]), 0.7, 10, 0.02)
    assert over.tolist() == [False, True, True, False, True]
    over = track_life.ended(boxes, existence, hits, np.array([1, 2]), 0.7, 10, 0.02)  # what is measured stays
    assert over.tolist() == [False, False, False, False, True]


def test_a_track_of_many_hits_is_no_second_track() -> None:
    boxes, existence, hits = np.tile([0.0, 0, 10, 10], (2, 1)), np.full(2, 0.9), np.array([40, 11])
    nothing = np.zeros(0, np.int64)
    assert track_life.ended(boxes, existence, hits, nothing, 0.7, 11, 0.02).tolist() == [False, True]
    assert track_life.ended(boxes, existence, hits, nothing, 0.7, 10, 0.02).tolist() == [False, False]


def test_births_are_likely_and_stand_alone() -> None:
    alone, density = np.array([0.9, 0.9, 0.01]), np.array([0.01, 0.01, 0.01])
    overlaps = np.array([[0.2, 0.5], [0.2, 0.6], [0.0, 0.0]])
    np.testing.assert_allclose(track_life.births(alone, density, overlaps, 0.01, 0.05, 0.5), [0.45, 0, 0])
    np.testing.assert_allclose(track_life.births(alone, density, np.zeros((3, 0)), 0.03, 0.0, 0.5), 0.75 * alone)


def test_of_boxes_that_nearly_agree_the_likeliest_starts_a_track() -> None:
    """IoU of the first three 0.8 and more, of the last one with the first 0.6."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8], [40, 0, 50, 10], [0, 0, 10, 6]], float)
    kept = track_life.without_doubles(np.array([0.4, 0.6, 0.5, 0.3, 0.2]), boxes, 0.7)
    np.testing.assert_allclose(kept, [0, 0.6, 0, 0.3, 0.2])


def test_usable_boxes_are_measurable_with_a_finite_score_and_a_known_class() -> None:
    measurable = np.array([True, False, True, True, True, True, True])
    scores, classes = np.array([0.9, 0.9, np.nan, -np.inf, 0.5, 0.5, 0.0]), np.array([0, 0, 0, 0, -1, 4, 3])
    assert track_life.usable(measurable, scores, classes, 4).tolist() == [0, 6]


def test_shown_are_confirmed_tracks_between_estimate_and_measurement() -> None:
    rng, number = np.random.default_rng(1), 30
    confirmed, seen_ns, ids = rng.random(number) < 0.5, rng.choice([80, 95, 100], number), np.arange(number) + 7
    mean, measured = rng.normal(size=(number, 4, 2)), rng.normal(size=(number, 4))
    score, votes = rng.normal(0, 3, number), rng.random((number, 64))
    found = track_life.shown(confirmed, seen_ns, ids, mean, measured, score, votes, 100, 10.0, 0.25)
    rows = np.flatnonzero(confirmed & (seen_ns >= 90))
    now = (seen_ns[rows] == 100)[:, None]
    values = np.where(now, 0.75 * mean[rows, :, 0] + 0.25 * measured[rows], mean[rows, :, 0])
    half = np.exp((values[:, [2]] + values[:, [3]] * [1, -1]) / 2) / 2
    assert 0 < now.sum() < len(rows) < number
    np.testing.assert_array_equal(found[0], ids[rows])
    np.testing.assert_allclose(found[1], np.hstack([values[:, :2] - half, values[:, :2] + half]))
    np.testing.assert_allclose(found[2], expit(score[rows]))
    np.testing.assert_array_equal(found[3], votes[rows].argmax(1))
