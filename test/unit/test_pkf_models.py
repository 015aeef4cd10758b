"""The image-plane model: conversions, motion over any time, likelihood, and the update against full matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_t

from camtrack_core.geometry.boxes import coverage, iou
from pkf_filter import pkf_update
from pkf_filter.filtering.update import MEANS, NONE, SPREADS, Spread
from pkf_filter.image import models
from pkf_filter.image.config import ImagePlaneNoise

NOISE = ImagePlaneNoise()
MEASURED = models.measured_deviations(NOISE)
MOTION = models.motion_deviations(NOISE)
RATES = models.initial_rate_deviations(NOISE)
BOX = np.array([[10.0, 20.0, 50.0, 40.0]])
H = np.kron(np.eye(4), [[1.0, 0.0]])  # of the whole state (value, rate) * 4
GAUSSIAN = 1e15  # degrees of freedom


def state(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return models.initial_state(models.to_measurements(boxes), MEASURED, RATES)


def full(covariance: np.ndarray) -> np.ndarray:
    """(N, 8, 8) block diagonal matrices of (N, 4, 3)."""
    matrices = np.zeros((len(covariance), 8, 8))
    for c in range(4):
        block = covariance[:, c][:, [models.VARIANCE, models.CROSS, models.CROSS, models.RATE_VARIANCE]]
        matrices[:, 2 * c : 2 * c + 2, 2 * c : 2 * c + 2] = block.reshape(-1, 2, 2)
    return matrices


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 300, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(20, 200, (count, 2))], 1)


def test_measurement_of_a_box() -> None:
    np.testing.assert_allclose(models.to_measurements(BOX), [[30.0, 30.0, np.log(800.0), np.log(2.0)]])


@given(
    x=st.floats(-1e4, 1e4),
    y=st.floats(-1e4, 1e4),
    side=st.floats(1.0, 1e4),
    aspect=st.floats(models.MIN_ASPECT * 1.01, models.MAX_ASPECT * 0.99),
)
def test_boxes_survive_the_round_trip(x: float, y: float, side: float, aspect: float) -> None:
    box = np.array([[x, y, x + side * aspect**0.5, y + side / aspect**0.5]])
    np.testing.assert_allclose(models.to_boxes(models.to_measurements(box)), box, atol=1e-6)


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 0, 10],
        [5, 5, 4, 10],
        [0, 0, 0.1, 0.1],
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
        [-1e200, -1e200, 1e200, 1e200],
        [0, 0, 1e80, 1e80],
        [2e6, 0, 2e6 + 10, 10],
    ],
)
def test_boxes_that_are_no_measurement(box: list[float]) -> None:
    assert models.measurable(np.array([box, [0.0, 0.0, 10.0, 10.0]])).tolist() == [False, True]


def test_implausible_states_are_held_at_the_limits() -> None:
    mean, covariance = state(np.concatenate([BOX, BOX]))
    mean[0, models.S, models.RATE], mean[0, models.U, models.RATE] = -1e6, 3.0
    mean[1, models.U, models.RATE] = 1e30
    models.predict(mean, covariance, 1.0, MOTION)
    assert mean[0, models.S].tolist() == [np.log(models.MIN_AREA), 0.0]
    assert mean[0, models.U].tolist() == [33.0, 3.0]
    assert mean[1, models.U].tolist() == [10 * models.FAR, 0.0]
    boxes = models.to_boxes(mean[:, :, models.VALUE])
    assert np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()


def test_motion_of_the_paper_for_one_second() -> None:
    mean, covariance = state(BOX)
    mean[0, :, models.RATE] = 3.0, -2.0, 0.1, 0.0
    before = mean[0, :, models.VALUE].copy()
    models.predict(mean, covariance, 1.0, MOTION)
    np.testing.assert_allclose(mean[0, :, models.VALUE] - before, [3.0, -2.0, 0.1, 0.0])


def test_two_half_steps_are_a_whole_one() -> None:
    mean, covariance = state(BOX)
    mean[0, :2, models.RATE] = 3.0, -2.0  # the area stays, and with it the noise
    twice, twice_covariance = mean.copy(), covariance.copy()
    models.predict(mean, covariance, 0.2, MOTION)
    for _ in range(2):
        models.predict(twice, twice_covariance, 0.1, MOTION)
    np.testing.assert_allclose(twice, mean)
    np.testing.assert_allclose(twice_covariance, covariance, rtol=1e-12)


def test_prediction_is_that_of_full_matrices() -> None:
    mean, covariance = state(BOX)
    dt, side = 0.3, np.sqrt(800.0)
    F = np.kron(np.eye(4), [[1.0, dt], [0.0, 1.0]])
    acceleration = np.kron(np.diag([1.0, 1.0, 0.0, 0.0]), (NOISE.acceleration * side) ** 2 * np.eye(2))
    acceleration += np.kron(np.diag([0.0, 0.0, 1.0, 0.0]), NOISE.area_acceleration**2 * np.eye(2))
    W = acceleration @ np.kron(np.eye(4), [[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
    W[6, 6] = NOISE.aspect_drift**2 * dt
    expected = F @ full(covariance)[0] @ F.T + W
    models.predict(mean, covariance, dt, MOTION)
    np.testing.assert_allclose(full(covariance)[0], expected, rtol=1e-12)


def test_no_time_no_change() -> None:
    mean, covariance = state(BOX)
    after, after_covariance = mean.copy(), covariance.copy()
    models.predict(after, after_covariance, 0.0, MOTION)
    assert np.array_equal(after, mean) and np.array_equal(after_covariance, covariance)


def test_a_new_track_rests_on_its_measurement_and_noise_grows_with_the_box() -> None:
    mean, covariance = state(np.concatenate([BOX, 3 * BOX]))
    assert mean[0, :, models.VALUE].tolist() == models.to_measurements(BOX)[0].tolist()
    assert not mean[:, :, models.RATE].any()
    ratio = np.sqrt(covariance[1] / np.where(covariance[0] > 0, covariance[0], 1))
    np.testing.assert_allclose(ratio[:, models.VARIANCE], [3, 3, 1, 1])
    np.testing.assert_allclose(ratio[:, models.RATE_VARIANCE], [3, 3, 1, 0])


@pytest.mark.parametrize("tails", [4.0, 8.0, 100.0])
def test_likelihood_is_the_t_density_times_the_overlap(tails: float) -> None:
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 5)
    seen = boxes + rng.normal(0, 4, boxes.shape)
    mean, covariance = state(boxes)
    z, overlaps = models.to_measurements(seen), iou(seen, boxes)
    found = models.log_likelihood(z, mean, covariance, MEASURED, tails, overlaps, 0.1, 1e6)
    for k in range(5):
        for j in range(5):
            if overlaps[k, j] < 0.1:
                assert found[k, j] == -np.inf
                continue
            side = np.sqrt((boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1]))
            unit = np.array([side, side, 1, 1])
            S = np.diag(2 * MEASURED**2)  # of the state and of the measurement, in these units
            expected = multivariate_t.logpdf((z[k] - mean[j, :, 0]) / unit, shape=S, df=tails)
            assert found[k, j] == pytest.approx(expected + np.log(overlaps[k, j]), abs=1e-9)


def test_pairs_beyond_the_distance_are_impossible() -> None:
    mean, covariance = state(BOX)
    z = models.to_measurements(BOX + [5.0, 0, 5.0, 0])
    distance = 5.0 / np.sqrt(covariance[0, 0, 0] + 800 * NOISE.centre**2)
    for gate in (0.99 * distance, 1.01 * distance):
        found = models.log_likelihood(z, mean, covariance, MEASURED, 8.0, np.ones((1, 1)), 0.1, gate)
        assert np.isfinite(found[0, 0]) == (gate > distance)


@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from(SPREADS))
def test_update_is_that_of_full_matrices(seed: int, spread: Spread) -> None:
    """With Gaussian tails; the matrices of `pkf_update` also hold the spread between coordinates, which is left out."""
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 3)
    mean, covariance = state(boxes)
    mean[:, :, models.RATE] = rng.normal(size=(3, 4))
    models.predict(mean, covariance, 0.1, MOTION)
    z = models.to_measurements(random_boxes(rng, 4))
    weights = rng.dirichlet(np.ones(5), 3)[:, :4].T * rng.choice([0.0, 1.0], (4, 3))

    units = np.exp(mean[:, models.S, models.VALUE, None] / 2 * [1, 1, 0, 0])
    V = np.stack([np.diag((MEASURED * unit) ** 2) for unit in units])
    expected_mean, expected = pkf_update(mean.reshape(3, 8), full(covariance), H, V, z, weights, spread)
    models.correct(mean, covariance, z, np.ascontiguousarray(weights), MEASURED, GAUSSIAN, SPREADS.index(spread), 0.0)
    held = (mean[:, :, models.VALUE] <= models.LOWEST) | (mean[:, :, models.VALUE] >= models.HIGHEST)
    np.testing.assert_allclose(mean[~held], expected_mean.reshape(3, 4, 2)[~held], rtol=1e-6, atol=1e-6)
    blocks = np.kron(np.eye(4), np.ones((2, 2)))
    np.testing.assert_allclose(full(covariance), expected * blocks, rtol=1e-6, atol=1e-6)


def test_an_outlier_counts_less_and_covariances_stay_positive() -> None:
    shifts = []
    for tails in (4.0, GAUSSIAN):
        mean, covariance = state(BOX)
        models.correct(mean, covariance, models.to_measurements(BOX + 8.0), np.ones((1, 1)), MEASURED, tails, NONE, 0.0)
        shifts.append(mean[0, 0, 0] - 30.0)
        assert (np.linalg.eigvalsh(full(covariance)[0])[1:] > 0).all()
    assert 0 < shifts[0] < 0.8 * shifts[1]


def test_a_track_that_is_corrected_much_becomes_uncertain() -> None:
    variances = []
    for shift, adaptation in ((0.0, 1.0), (8.0, 0.0), (8.0, 1.0)):
        mean, covariance = state(BOX)
        z = models.to_measurements(BOX + shift)
        models.correct(mean, covariance, z, np.ones((1, 1)), MEASURED, GAUSSIAN, NONE, adaptation)
        variances.append(covariance[0, models.U, models.VARIANCE])
    assert variances[0] == pytest.approx(variances[1])
    assert variances[2] == pytest.approx(variances[1] + 0.5**2 * 4.0**2)  # gain 1/2, correction 4 px


def test_covariances_stay_positive_over_many_steps() -> None:
    rng = np.random.default_rng(1)
    mean, covariance = state(BOX)
    z = models.to_measurements(BOX)
    for _ in range(20_000):
        models.predict(mean, covariance, float(rng.choice([0.0, 1e-6, 0.04, 3.0])), MOTION)
        models.correct(mean, covariance, z, rng.uniform(0, 1, (1, 1)), MEASURED, 8.0, MEANS, 1.0)
    P = covariance[0]
    assert (P[:, models.VARIANCE] > 0).all()
    moving = slice(models.U, models.R)
    assert (P[moving, models.VARIANCE] * P[moving, models.RATE_VARIANCE] > P[moving, models.CROSS] ** 2).all()


def test_overlaps_are_those_of_the_vocabulary() -> None:
    rng = np.random.default_rng(2)
    a, b = random_boxes(rng, 8), random_boxes(rng, 6)
    np.testing.assert_allclose(models.overlap(a, b), iou(a, b))


def test_lower_boxes_cover_higher_ones() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 12], [0, 0, 2, 14]])
    shares = coverage(boxes, boxes)
    existence = np.array([1.0, 0.5, 0.8])
    expected = [1 - (1 - 0.5 * shares[0, 1]) * (1 - 0.8 * shares[0, 2]), 0.8 * shares[1, 2], 0.0]
    np.testing.assert_allclose(models.covered(boxes, existence, np.full(3, 7)), expected)


def test_what_was_measured_last_covers_what_is_hidden() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 12], [0, 0, 2, 14]])
    shares = coverage(boxes, boxes)
    seen_ns = np.array([8, 8, 7])  # the third one ends lowest, and is not measured any more
    expected = [0.5 * shares[0, 1], 0.0, 1 - (1 - shares[2, 0]) * (1 - 0.5 * shares[2, 1])]
    np.testing.assert_allclose(models.covered(boxes, np.array([1.0, 0.5, 0.8]), seen_ns), expected)
