"""Detections that state their own covariance, against textbook densities and the expanded measurement of Eq. 13-17."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from camtrack_core.geometry.boxes import Boxes3D, Detections3D
from pkf_filter.filtering.linearised import linearised_update
from pkf_filter.filtering.update import NONE
from pkf_filter.space import own_noise
from pkf_filter.space.config import VEHICLE, SensorModel, WorldConfig
from pkf_filter.space.models import MEASUREMENT_MATRIX as H
from pkf_filter.space.tracker import WorldTracker

RNG = np.random.default_rng(11)
M, N, FRAME = 4, 3, 100_000_000


def definite(*shape: int, size: int) -> np.ndarray:
    root = RNG.normal(size=(*shape, size, size))
    return root @ root.swapaxes(-1, -2) + 0.3 * np.eye(size)


@pytest.fixture
def scene() -> tuple[np.ndarray, ...]:
    """Innovations, noises, state covariances, and covariances that all but the last of the detections state."""
    own = definite(M, size=4)
    own[-1] = np.nan
    return RNG.normal(size=(M, N, 7)), definite(N, size=7), definite(N, size=10), own


def noise_of(V: np.ndarray, own: np.ndarray) -> np.ndarray:
    """What is stated stands for the first four rows and columns."""
    if np.isnan(own).any():
        return V
    joined = np.zeros((7, 7))
    joined[:4, :4], joined[4:, 4:] = own, V[4:, 4:]
    return joined


def test_the_density_of_a_pair_is_that_of_its_own_noise(scene: tuple[np.ndarray, ...]) -> None:
    innovation, V, P, own = scene
    found, squared = own_noise.log_densities(innovation, V, P, own, 100.0), np.empty((M, N))
    for k in range(M):
        for j in range(N):
            S = H @ P[j] @ H.T + noise_of(V[j], own[k])
            assert found[k, j] == pytest.approx(multivariate_normal.logpdf(innovation[k, j], cov=S), abs=1e-10)
            squared[k, j] = innovation[k, j] @ np.linalg.solve(S, innovation[k, j])
    gate = np.sqrt(np.median(squared))
    gated = own_noise.log_densities(innovation, V, P, own, gate)
    np.testing.assert_array_equal(np.isfinite(gated), squared <= gate**2)


def test_the_update_is_the_expanded_measurement_with_each_pairs_noise(scene: tuple[np.ndarray, ...]) -> None:
    """Eq. 13-17: all measurements stacked, each with its noise over its weight."""
    innovation, V, P, own = scene
    weights = RNG.dirichlet(np.ones(M + 1), N).T[:M]
    weights[1, 0] = 0.0
    mean = RNG.normal(size=(N, 10))
    equal, noise = own_noise.merged(innovation, V, own, weights)
    found, covariance = linearised_update(mean, P, equal, np.tile(H, (N, 1, 1)), noise, weights, NONE)
    for j in range(N):
        rows = [k for k in range(M) if weights[k, j] > 0]
        stacked = np.concatenate([H] * len(rows))
        R = np.zeros((7 * len(rows), 7 * len(rows)))
        for i, k in enumerate(rows):
            R[7 * i : 7 * i + 7, 7 * i : 7 * i + 7] = noise_of(V[j], own[k]) / weights[k, j]
        K = P[j] @ stacked.T @ np.linalg.inv(stacked @ P[j] @ stacked.T + R)
        np.testing.assert_allclose(found[j], mean[j] + K @ np.concatenate([innovation[k, j] for k in rows]), atol=1e-9)
        np.testing.assert_allclose(covariance[j], P[j] - K @ stacked @ P[j], atol=1e-9)


def test_without_stated_covariances_nothing_changes(scene: tuple[np.ndarray, ...]) -> None:
    innovation, V, _, own = scene
    equal, noise = own_noise.merged(innovation, V, np.full_like(own, np.nan), np.full((M, N), 0.2))
    np.testing.assert_array_equal(equal, innovation)
    np.testing.assert_array_equal(noise, V)


def cars(*shifts: float) -> Detections3D:
    """Cars along x, 10 m apart, whose measured y is off by the shifts."""
    count = len(shifts)
    centre = np.column_stack([10.0 * np.arange(count), shifts, np.full(count, 0.8)])
    boxes = Boxes3D(centre, np.tile([4.2, 1.8, 1.6], (count, 1)), np.zeros(count), np.full((count, 3), np.nan))
    return Detections3D(boxes, np.full(count, 0.95), np.zeros(count, np.int64))


@pytest.mark.parametrize("motion", ["constant velocity", "interacting"])
def test_a_track_believes_a_detection_as_far_as_it_states(motion: str) -> None:
    """Two cars; in the last frame both lie 0.4 m beside, and only one says that it is sure."""
    tracker = WorldTracker(WorldConfig(vehicle=VEHICLE.model_copy(update={"motion": motion})), {"": SensorModel()})
    tracker.class_id("car")
    usual, sure, unsure = (deviation**2 * np.eye(4) for deviation in (0.2, 0.05, 2.0))
    for i in range(10):
        tracks = tracker.step(i * FRAME, cars(0.0, 0.0), covariance=np.stack([usual, usual]))
    before = tracks.covariance[:, 1, 1]
    tracks = tracker.step(10 * FRAME, cars(0.4, 0.4), covariance=np.stack([sure, unsure]))
    assert tracks.ids.tolist() == [1, 2]
    shift = tracks.boxes.centre[:, 1]
    assert shift[0] > 5 * shift[1] and 0 < shift[1] < 0.05
    assert tracks.covariance[0, 1, 1] < 0.6 * before[0] and tracks.covariance[1, 1, 1] > 0.9 * before[1]


def test_a_new_track_is_as_uncertain_as_its_detection_states() -> None:
    tracker = WorldTracker()
    tracker.class_id("car")
    stated = np.diag([0.5, 0.25, 0.1, 0.04])
    tracks = tracker.step(0, cars(0.0, 0.0), covariance=np.stack([stated, np.full((4, 4), np.nan)]))
    np.testing.assert_allclose(tracks.covariance[0], stated)
    assert tracks.covariance[1, 0, 0] == pytest.approx(VEHICLE.measured_position**2)


def test_what_is_far_from_its_track_is_still_its_own_if_it_says_how_unsure_it_is() -> None:
    """3 m beside, of a deviation of 2 m, where the usual noise makes it another car."""
    counts = []
    for stated in (np.full((4, 4), np.nan), 4.0 * np.eye(4)):
        tracker = WorldTracker()
        tracker.class_id("car")
        for i in range(10):
            tracker.step(i * FRAME, cars(0.0))
        counts.append(len(tracker.step(10 * FRAME, cars(3.0), covariance=stated[None])))
    assert counts == [2, 1]
