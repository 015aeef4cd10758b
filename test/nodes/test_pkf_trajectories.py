"""Trajectories: past and expected places of tracks on one grid of times."""

from __future__ import annotations

import numpy as np
import pytest

from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.tracks import Tracks3D
from pkf_filter.ros.trajectories import MAX_REMEMBERED, Trajectories

SECOND = 1_000_000_000


def tracks(time_ns: int, *ids: int) -> Tracks3D:
    """Track i moves along x at i m/s and turns by 1 rad/s."""
    speed, count, seconds = np.array(ids, np.float64), len(ids), time_ns / SECOND
    centre = np.stack([speed * seconds, speed, 0 * speed], 1)
    velocity = np.stack([speed, 0 * speed, 0 * speed], 1)
    yaw = (np.full(count, seconds) + np.pi) % (2 * np.pi) - np.pi
    boxes = Boxes3D(centre, np.ones((count, 3)), yaw, velocity)
    nothing = np.zeros((count, 4, 4))
    return Tracks3D(np.array(ids, np.int64), boxes, nothing, np.ones(count), np.zeros(count, np.int64), np.ones(count))


def test_places_are_interpolated_between_the_remembered_and_asked_for_after_the_present() -> None:
    trajectories = Trajectories(history=1.0, horizon=1.0, step=0.25)
    for i in range(31):
        time_ns = i * SECOND // 10
        trajectories.add(time_ns, tracks(time_ns, *((1, 2) if i >= 25 else (2,))))
    present = 3 * SECOND
    ids = np.array([2, 1, 7])
    places, velocities = trajectories.sample(present, ids, lambda time_ns: tracks(time_ns, 1, 2))
    assert places.shape == velocities.shape == (9, 3, 4)
    assert (trajectories.offsets / SECOND).tolist() == pytest.approx(np.arange(-4, 5) / 4)
    times = 3 + np.arange(-4, 5) / 4
    assert places[:, 0, 0] == pytest.approx(2 * times)
    assert np.cos(places[:, 0, 3] - times) == pytest.approx(np.ones(9))
    assert velocities[:, 0, 0] == pytest.approx(np.full(9, 2.0)) and velocities[0, 0, 3] == 1.0
    assert np.isnan(places[:2, 1]).all() and np.isfinite(places[2:, 1]).all()  # born at 2.5 s
    assert np.isnan(places[:, 2]).all()


def test_the_grid_reaches_to_its_ends() -> None:
    offsets = Trajectories(history=0.6, horizon=0.7, step=0.1).offsets
    assert offsets.tolist() == [i * SECOND // 10 for i in range(-6, 8)]
    assert Trajectories(history=0.6, horizon=0.5, step=0.2).offsets[[0, -1]].tolist() == [-6e8, 4e8]


def test_nothing_is_known_before_the_first_tracks() -> None:
    trajectories = Trajectories(history=1.0, horizon=0.0, step=0.5)
    trajectories.add(SECOND, tracks(SECOND, 1))
    places, _ = trajectories.sample(SECOND, np.array([1]), lambda time_ns: tracks(time_ns, 1))
    assert np.isnan(places[:2]).all() and np.isfinite(places[2]).all()
    empty, _ = trajectories.sample(SECOND, np.zeros(0, np.int64), lambda time_ns: tracks(time_ns))
    assert empty.shape == (3, 0, 4)


def test_memory_is_bounded_and_a_repeated_time_is_replaced() -> None:
    trajectories = Trajectories(history=1.0, horizon=0.0, step=0.5)
    for i in range(100):
        trajectories.add(i * SECOND // 10, tracks(0, 1))
    assert len(trajectories._past) <= 12
    trajectories.add(99 * SECOND // 10, tracks(0, 1))
    assert [past[0] for past in trajectories._past] == sorted({past[0] for past in trajectories._past})
    long = Trajectories(history=1e6, horizon=0.0, step=1e5)
    for i in range(MAX_REMEMBERED + 10):
        long.add(i, tracks(0))
    assert len(long._past) == MAX_REMEMBERED
    long.reset()
    assert not long._past
