"""Smoothing against the least squares solution of all measurements at once, and what it shows of tracks."""

from __future__ import annotations

import numpy as np
import pytest

from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from camtrack_core.geometry.tracks import Tracks2D, Tracks3D
from pkf_filter import FilterConfig, Tracker
from pkf_filter.filtering.smoothing import SmoothingConfig, smoothed_back
from pkf_filter.image.smoothing import Smoother
from pkf_filter.space.config import VEHICLE, WorldConfig
from pkf_filter.space.smoothing import Smoother as SpaceSmoother
from pkf_filter.space.tracker import WorldTracker

FRAME = 100_000_000  # nanoseconds
RNG = np.random.default_rng(5)


def least_squares(
    mean: np.ndarray, P: np.ndarray, F: list[np.ndarray], Q: list[np.ndarray], H: np.ndarray, R: float, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States (T, n) and their covariances (T, n, n) that fit prior, motion and measurements best, in one system.

    Each is a row block of a linear system that is weighted by the square root of its information.
    """
    steps, n = len(z), len(mean)
    blocks, right = [], []

    def add(at: dict[int, np.ndarray], value: np.ndarray, covariance: np.ndarray) -> None:
        root = np.linalg.inv(np.linalg.cholesky(covariance))
        row = np.zeros((len(value), steps * n))
        for t, matrix in at.items():
            row[:, t * n : (t + 1) * n] = matrix
        blocks.append(root @ row)
        right.append(root @ value)

    add({0: np.eye(n)}, mean, P)
    for t in range(steps - 1):
        add({t: -F[t], t + 1: np.eye(n)}, np.zeros(n), Q[t])
    for t in range(steps):
        if np.isfinite(z[t]):
            add({t: H}, z[t : t + 1], np.array([[R]]))
    A, b = np.concatenate(blocks), np.concatenate(right)
    covariance = np.linalg.inv(A.T @ A).reshape(steps, n, steps, n)
    return np.linalg.lstsq(A, b, rcond=None)[0].reshape(steps, n), np.array([covariance[t, :, t] for t in range(steps)])


def test_smoothing_is_the_least_squares_solution_of_all_measurements() -> None:
    """A motion that differs from step to step, with some measurements missing."""
    steps, n, R = 12, 3, 0.3
    H = np.array([[1.0, 0.4, 0.0]])
    F = [np.eye(n) + np.triu(RNG.normal(scale=0.3, size=(n, n)), 1) for _ in range(steps - 1)]
    Q = [np.diag(RNG.uniform(0.05, 0.2, n)) for _ in range(steps - 1)]
    z = RNG.normal(size=steps).cumsum()
    z[[3, 4, 9]] = np.nan
    prior, spread = np.zeros(n), 2.0 * np.eye(n)
    expected, covariances = least_squares(prior, spread, F, Q, H, R, z)

    mean, P, filtered, predicted = prior, spread, [], []
    for t in range(steps):
        if t:
            mean, P = F[t - 1] @ mean, F[t - 1] @ P @ F[t - 1].T + Q[t - 1]
        predicted.append((mean, P))
        if np.isfinite(z[t]):
            K = P @ H.T / (H @ P @ H.T + R)
            mean, P = mean + K[:, 0] * (z[t] - H[0] @ mean), P - K @ H @ P
        filtered.append((mean, P))
    np.testing.assert_allclose(mean, expected[-1], atol=1e-10)
    for t in range(steps - 2, -1, -1):
        before, ahead = predicted[t + 1]
        mean, P = smoothed_back(*filtered[t], filtered[t][1] @ F[t].T, ahead, mean - before, P)
        np.testing.assert_allclose(mean, expected[t], atol=1e-10)
        np.testing.assert_allclose(P, covariances[t], atol=1e-10)


def test_a_coordinate_without_noise_of_its_rate_is_smoothed_too() -> None:
    """The predicted covariance is singular then: the rate is known to be 0."""
    P, ahead = np.diag([2.0, 0.0]), np.diag([3.0, 0.0])
    mean, after = smoothed_back(np.zeros(2), P, P, ahead, np.array([3.0, 0.0]), np.diag([1.0, 0.0]))
    np.testing.assert_allclose(mean, [2.0, 0.0])
    np.testing.assert_allclose(after, np.diag([2.0 - 4 / 9 * 2.0, 0.0]))


def drive(frames: int, missed: range, noise: float) -> tuple[list[Boxes2D], np.ndarray]:
    """A car of 60 x 40 pixels that moves to the right at 30 pixels a second, and its true boxes (T, 4)."""
    x = 100 + 3.0 * np.arange(frames)
    truth = np.stack([x, np.full(frames, 50.0), x + 60, np.full(frames, 90.0)], 1)
    shown = truth + np.random.default_rng(3).normal(scale=noise, size=truth.shape)
    none = Boxes2D.empty()
    return [
        none if i in missed else Boxes2D(shown[i : i + 1], np.full(1, 0.9), np.zeros(1, np.int64))
        for i in range(frames)
    ], truth


def smoothed(boxes: list[Boxes2D], config: SmoothingConfig | None = None) -> list[Tracks2D]:
    smoother, found = Smoother(Tracker(), config), []
    for i, one in enumerate(boxes):
        found += smoother.step(i * FRAME, one)
        assert len(found) == max(i - 9, 0) or config, "expected the tracks of a second ago"
    return found + smoother.flush()


def test_a_track_is_there_from_its_first_measurement_on_and_through_gaps() -> None:
    boxes, truth = drive(40, range(15, 22), 1.0)
    online = Tracker()
    before = [online.step(i * FRAME, one) for i, one in enumerate(boxes)]
    after = smoothed(boxes)
    assert [len(one) for one in before] != [1] * 40 and [len(one) for one in after] == [1] * 40
    assert len({int(one.ids[0]) for one in after}) == 1
    error = np.array([one.xyxy[0] for one in after]) - truth
    assert np.abs(error[15:22]).max() < 3.0, "expected the gap to be bridged from both sides"
    both = [i for i, one in enumerate(before) if len(one)]
    filtered = np.array([before[i].xyxy[0] for i in both]) - truth[both]
    assert np.square(error[both]).mean() < 0.8 * np.square(filtered).mean()


def test_a_gap_that_is_longer_than_the_lag_stays_open_and_nothing_is_shown_after_the_last_measurement() -> None:
    boxes, _ = drive(60, range(15, 24), 0.0)
    counts = [len(one) for one in smoothed(boxes, SmoothingConfig(lag=0.5))]
    assert counts[:24] == [1] * 15 + [0] * 9 and counts[26:] == [1] * 34  # one that comes back may take a frame or two
    boxes, _ = drive(30, range(20, 30), 0.0)
    assert [len(one) for one in smoothed(boxes)] == [1] * 20 + [0] * 10


def test_what_never_becomes_likely_enough_is_never_shown() -> None:
    boxes, _ = drive(20, range(1, 20), 0.0)
    assert not sum(map(len, smoothed(boxes)))
    assert sum(map(len, smoothed(boxes, SmoothingConfig(confirmation=0.01)))) == 1


def test_a_time_without_frames_is_no_reason_to_lose_any() -> None:
    """Also of frames whose interval is longer than the lag."""
    smoother, found = Smoother(Tracker(FilterConfig(max_silence=10.0))), []
    for time_ns in (0, FRAME, 30 * FRAME, 31 * FRAME, 60 * FRAME):
        found += smoother.step(time_ns, Boxes2D(np.array([[10.0, 10, 60, 60]]), np.full(1, 0.9), np.zeros(1, np.int64)))
    assert len(found + smoother.flush()) == 5


@pytest.mark.parametrize("frames", [0, 1])
def test_short_recordings(frames: int) -> None:
    boxes, _ = drive(frames, range(0), 0.0)
    assert len(smoothed(boxes)) == frames


# --- In space

LENGTH = 40  # frames


def turning_car(missed: range, flipped: range = range(0)) -> tuple[list[Detections3D], np.ndarray]:
    """A car at 8 m/s that turns at .3 rad/s, from above, and its true places and yaws (T, 3)."""
    yaw = 0.03 * np.arange(LENGTH)
    way = np.stack([np.cos(yaw), np.sin(yaw)], 1).cumsum(0) * 0.8
    truth = np.column_stack([way, yaw])
    noise = np.random.default_rng(7).normal(scale=(0.3, 0.3, 0.1), size=truth.shape)
    shown = truth + noise
    shown[flipped, 2] += np.pi
    found = []
    for i, (x, y, turn) in enumerate(shown.tolist()):
        rows = slice(0, int(i not in missed))
        boxes = Boxes3D(
            np.array([[x, y, 0.8]])[rows], np.array([[4.2, 1.8, 1.6]])[rows], np.array([turn])[rows],
            np.full((1, 3), np.nan)[rows],
        )  # fmt: skip
        found.append(Detections3D(boxes, np.full(1, 0.95)[rows], np.zeros(1, np.int64)[rows]))
    return found, truth


def through(
    detections: list[Detections3D], motion: str, config: SmoothingConfig | None = None
) -> tuple[list[Tracks3D], list[Tracks3D]]:
    """Tracks online, and smoothed."""
    vehicle = VEHICLE.model_copy(update={"motion": motion, "measured_position": 0.3})
    tracker = WorldTracker(WorldConfig(vehicle=vehicle))
    assert tracker.class_id("car") == 0
    smoother = SpaceSmoother(tracker, config)
    online, late = [], []
    for i, found in enumerate(detections):
        online.append(tracker.step(i * FRAME, found))
        late += smoother.add(i * FRAME)
    return online, late + smoother.flush()


@pytest.mark.parametrize("motion", ["coordinated turn", "interacting"])
def test_in_space_tracks_are_back_filled_bridged_and_closer_to_the_truth(motion: str) -> None:
    detections, truth = turning_car(range(18, 24))
    online, late = through(detections, motion)
    assert len(online[23]) == 0 and [len(tracks) for tracks in late] == [1] * LENGTH
    assert len({int(tracks.ids[0]) for tracks in late}) == 1
    error = np.array([tracks.boxes.centre[0, :2] for tracks in late]) - truth[:, :2]
    both = [i for i, tracks in enumerate(online) if len(tracks)]
    before = np.array([online[i].boxes.centre[0, :2] for i in both]) - truth[both, :2]
    assert np.square(error[both]).mean() < 0.6 * np.square(before).mean()
    assert np.hypot(*error[18:24].T).max() < 0.6
    for i in both[:-10]:  # what is known later makes surer
        assert np.trace(late[i].covariance[0, :2, :2]) < np.trace(online[i].covariance[0, :2, :2])
        assert (np.linalg.eigvalsh(late[i].covariance[0]) > 0).all()


def test_in_space_the_front_that_is_known_in_the_end_was_the_front_before() -> None:
    """The first four yaws are measured the wrong way round, and a car that has moved for a second shows which."""
    detections, truth = turning_car(range(0), range(4))
    _, late = through(detections, "interacting")
    yaws = np.array([tracks.boxes.yaw[0] for tracks in late])
    assert np.abs((yaws - truth[:, 2] + np.pi) % (2 * np.pi) - np.pi).max() < 0.4


def test_in_space_gaps_longer_than_the_lag_stay_open() -> None:
    detections, _ = turning_car(range(18, 24))
    _, late = through(detections, "interacting", SmoothingConfig(lag=0.4))
    assert [len(tracks) for tracks in late] == [1] * 18 + [0] * 6 + [1] * 16
