"""The image-plane model: conversions, motion over any time, and noise that grows with the box."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkf_filter import models
from pkf_filter.config import ImagePlaneNoise

NOISE = ImagePlaneNoise()
BOX = np.array([[10.0, 20.0, 50.0, 40.0]])


def test_measurement_of_a_box() -> None:
    assert models.to_measurements(BOX).tolist() == [[30.0, 30.0, 800.0, 2.0]]


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
    state = np.array([[0, 0, -50.0, -1.0, 1, 1, -100], [0, 0, 100.0, 1e9, 1, 1, -100]])
    kept = models.plausible(state)
    assert kept[0].tolist() == [0, 0, models.MIN_AREA, models.MIN_ASPECT, 1, 1, 0]
    assert kept[1].tolist() == [0, 0, 100, models.MAX_ASPECT, 1, 1, -100]
    assert np.isfinite(models.to_boxes(kept)).all()


def test_motion_of_the_paper_for_one_second() -> None:
    F = np.eye(7)
    F[:3, 4:] = np.eye(3)
    assert np.array_equal(models.transition(1.0), F)


def test_two_half_steps_are_a_whole_one() -> None:
    mean, covariance = models.initial_state(models.to_measurements(BOX), NOISE)
    # the noise scales with the predicted box, so it is taken for the same box throughout
    whole, half = models.process_noise(mean, 0.2, NOISE), models.process_noise(mean, 0.1, NOISE)
    F, step = models.transition(0.2), models.transition(0.1)
    twice = step @ (step @ covariance @ step.T + half) @ step.T + half
    np.testing.assert_allclose(F @ covariance @ F.T + whole, twice, rtol=1e-12)
    np.testing.assert_allclose(F, step @ step)


def test_no_time_no_change() -> None:
    mean, _ = models.initial_state(models.to_measurements(BOX), NOISE)
    assert np.array_equal(models.transition(0.0), np.eye(7))
    assert not models.process_noise(mean, 0.0, NOISE).any()


def test_noise_grows_with_the_box() -> None:
    z = models.to_measurements(np.concatenate([BOX, 3 * BOX]))
    small, large = (np.sqrt(np.diag(V)) for V in models.measurement_noise(z, NOISE))
    np.testing.assert_allclose(large / small, [3, 3, 9, 1])


def test_a_new_track_rests_on_its_measurement() -> None:
    z = models.to_measurements(BOX)
    mean, covariance = models.initial_state(z, NOISE)
    assert mean.tolist() == [[*z[0], 0, 0, 0]]
    np.testing.assert_array_equal(covariance[:, :4, :4], models.measurement_noise(z, NOISE))
    np.linalg.cholesky(covariance)
