"""Motion attributes of tracks in space: from measurements that tell them, through the filter, to its own tracks."""

import numpy as np
import pytest

from camtrack_core.geometry.boxes import MOTIONS, Boxes3D, Detections3D
from pkf_filter.space.state import MOTION_RATE, motions_after
from pkf_filter.space.tracker import WorldTracker

SECOND = 1_000_000_000
PARKED, MOVING = np.eye(3)[MOTIONS.index("parked")], np.eye(3)[MOTIONS.index("moving")]


def test_motions_are_mixed_by_the_weights_of_those_that_tell_them() -> None:
    rng = np.random.default_rng(0)
    motions = rng.dirichlet(np.ones(3), 4)
    motions[1] = 0
    seen = rng.dirichlet(np.ones(3), 3)
    seen[2] = 0
    weights = rng.uniform(0, 1, (3, 4))
    weights /= 1.1 * np.maximum(weights.sum(0), weights.sum(1, keepdims=True))
    found = motions_after(motions, seen, weights)
    for j in range(4):
        rate = MOTION_RATE if motions[j].any() else 1.0
        expected = motions[j].copy()
        for k in range(2):  # the third does not tell
            expected += rate * weights[k, j] * (seen[k] - motions[j])
        assert found[j] == pytest.approx(expected)
        assert 0 <= found[j].sum() <= 1 + 1e-12


def test_a_parked_car_stays_parked_and_one_that_drives_off_moves() -> None:
    tracker = WorldTracker()
    car = np.full(2, tracker.class_id("car"))
    tracks = tracker.step(0, cars(0, car, [PARKED, PARKED]))
    for frame in range(1, 20):
        told = [PARKED, PARKED if frame < 5 else MOVING]
        tracks = tracker.step(frame * SECOND // 10, cars(frame, car, told))
    rows = np.argsort(tracks.boxes.centre[:, 1])
    assert tracks.motions[rows[0]] == pytest.approx(PARKED, abs=0.02)
    assert tracks.motions[rows[1]] == pytest.approx(MOVING, abs=0.02)


def test_tracks_of_sensors_that_tell_no_motion_have_none() -> None:
    tracker = WorldTracker()
    car = np.full(2, tracker.class_id("car"))
    for frame in range(5):
        tracks = tracker.step(frame * SECOND // 10, cars(frame, car, [np.zeros(3)] * 2))
    assert len(tracks) == 2 and not tracks.motions.any()


def cars(frame: int, classes: np.ndarray, motions: list[np.ndarray]) -> Detections3D:
    ahead = max(frame - 5, 0) * 0.5
    centre = np.array([[20.0, -4.0, 0.8], [20.0 + ahead, 4.0, 0.8]])
    boxes = Boxes3D(centre, np.tile([4.5, 1.8, 1.6], (2, 1)), np.zeros(2), np.full((2, 3), np.nan))
    return Detections3D(boxes, np.full(2, 0.9), classes, np.array(motions))
