"""Buffers of transforms, our own and tf2's: interpolation, trees of frames, and what is not known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

import numpy as np
import pytest
import tf2_stand_in
from geometry_msgs.msg import TransformStamped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp
from tf2_msgs.msg import TFMessage

from camtrack_core.geometry.camera import Pose
from camtrack_core.ros.messages.stamps import fill_stamp
from camtrack_core.ros.tf.transform_listener import Buffer, new_buffer
from camtrack_core.ros.tf.transforms import (
    MAX_POSES,
    Jumps,
    TooEarly,
    TransformBuffer,
    TransformError,
    checked,
    interpolated,
    quaternion,
    rotation_matrix,
    to_pose,
    to_transform,
)

SECOND = 1_000_000_000
seeds = st.integers(0, 2**32 - 1)


def pose(seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    return Pose(Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3))


def message(parent: str, child: str, time_ns: int, placed: Pose) -> TFMessage:
    stamped = to_transform(placed, parent, child, TransformStamped().header.stamp)
    fill_stamp(stamped.header.stamp, time_ns)
    return TFMessage(transforms=[stamped])


def same(a: Pose, b: Pose) -> None:
    assert a.rotation == pytest.approx(b.rotation, abs=1e-9)
    assert a.translation == pytest.approx(b.translation, abs=1e-9)


@settings(max_examples=100)
@given(seeds)
def test_quaternions_and_messages_there_and_back(seed: int) -> None:
    placed = pose(seed)
    assert rotation_matrix(quaternion(placed.rotation)) == pytest.approx(placed.rotation, abs=1e-12)
    same(to_pose(message("a", "b", 1, placed).transforms[0].transform), placed)


@settings(max_examples=100)
@given(seeds, seeds, st.floats(0, 1))
def test_interpolation_is_scipys(first: int, second: int, share: float) -> None:
    a, b = pose(first), pose(second)
    found = interpolated(a, b, share)
    expected = Slerp([0, 1], Rotation.from_matrix([a.rotation, b.rotation]))(share)
    assert found.rotation == pytest.approx(expected.as_matrix(), abs=1e-6)
    assert found.translation == pytest.approx((1 - share) * a.translation + share * b.translation)


@pytest.fixture(params=["own", "tf2"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Buffer]:
    """Makes buffers of our own, or of tf2: the machine's, where it has one, else a stand-in's."""
    if request.param == "own":
        return TransformBuffer
    if find_spec("tf2_ros") is None:
        monkeypatch.setattr(tf2_stand_in, "__spec__", ModuleSpec("tf2_ros", None))
        monkeypatch.setitem(sys.modules, "tf2_ros", tf2_stand_in)
        monkeypatch.delitem(sys.modules, "camtrack_core.ros.tf.tf2_buffer", raising=False)
    return new_buffer


@pytest.fixture
def empty(make: Callable[[], Buffer]) -> Buffer:
    return make()


@pytest.fixture
def filled(empty: Buffer) -> Buffer:
    """map -> base over seconds 1 to 3, base -> camera and base -> lidar at rest."""
    buffer = empty
    for second in (1, 2, 3):
        buffer.add(message("map", "base", second * SECOND, Pose(np.eye(3), np.array([10.0 * second, 0, 0]))))
    buffer.add(message("base", "camera", 0, pose(1)), static=True)
    buffer.add(message("base", "lidar", 0, pose(2)), static=True)
    return buffer


def test_a_machine_without_tf2_ros_has_our_own_buffer_and_others_tf2s(make: Callable[[], Buffer]) -> None:
    expected = "TransformBuffer" if make is TransformBuffer and find_spec("tf2_ros") is None else "Tf2Buffer"
    assert type(new_buffer()).__name__ == expected


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds)
def test_both_buffers_agree_on_random_trees(make: Callable[[], Buffer], seed: int) -> None:
    """Poses, or errors, of all pairs of frames at times inside and outside of what is known."""
    rng, own, other = np.random.default_rng(seed), TransformBuffer(), make()
    names = [f"frame{i}" for i in range(6)]
    for index, name in enumerate(names[1:], 1):
        parent, static = names[rng.integers(index)], bool(rng.random() < 0.3)
        times = [SECOND] if static else rng.choice(np.arange(1, 40), size=6, replace=False) * (SECOND // 10) + SECOND
        for time_ns in sorted(times)[: rng.integers(1, 7)]:
            made = message(parent, name, int(time_ns), pose(int(rng.integers(2**32))))
            own.add(made, static)
            other.add(made, static)
    for time_ns in (int(rng.integers(SECOND, 6 * SECOND)) for _ in range(3)):
        for target in names:
            for source in (*names, "unknown"):
                known, found = (outcome(buffer, target, source, time_ns) for buffer in (own, other))
                if isinstance(known, Pose):
                    assert isinstance(found, Pose)
                    assert found.rotation == pytest.approx(known.rotation, abs=1e-6)
                    assert found.translation == pytest.approx(known.translation, abs=1e-6)
                else:  # which kind, where one transform ends before the time and another begins after it, is open
                    assert isinstance(found, type) and issubclass(found, TransformError)


def outcome(buffer: Buffer, target: str, source: str, time_ns: int) -> Pose | type[Exception]:
    try:
        return buffer.lookup(target, source, time_ns)
    except TransformError as error:
        return type(error)


def test_lookup_walks_the_tree_at_the_time(filled: Buffer) -> None:
    buffer = filled
    base = Pose(np.eye(3), np.array([15.0, 0, 0]))
    same(buffer.lookup("map", "camera", 3 * SECOND // 2), base @ pose(1))
    same(buffer.lookup("camera", "map", 3 * SECOND // 2), (base @ pose(1)).inverse())
    same(buffer.lookup("lidar", "camera", 100 * SECOND), pose(2).inverse() @ pose(1))
    same(buffer.lookup("base", "base", 0), Pose(np.eye(3), np.zeros(3)))
    same(buffer.lookup("map", "base", 3 * SECOND), Pose(np.eye(3), np.array([30.0, 0, 0])))


def test_what_is_not_known_is_an_error_and_never_the_identity(filled: Buffer) -> None:
    with pytest.raises(TooEarly, match=r"expected (a transform|transforms) from"):
        filled.lookup("map", "camera", 7 * SECOND // 2)
    with pytest.raises(TransformError, match=r"expected (a transform|transforms) from") as past:
        filled.lookup("map", "camera", SECOND // 2)
    assert not isinstance(past.value, TooEarly)
    with pytest.raises(TooEarly, match="expected transforms from 'radar' to 'map'"):
        filled.lookup("map", "radar", SECOND)
    with pytest.raises(TransformError, match="expected transforms from '' to 'map'"):
        filled.lookup("map", "", SECOND)


def test_an_error_of_our_own_buffer_says_how_far_off_the_time_is() -> None:
    buffer = TransformBuffer()
    buffer.add(message("map", "base", SECOND, pose(0)))
    with pytest.raises(TooEarly, match=r"the newest is 0\.500 s old"):
        buffer.lookup("map", "base", 3 * SECOND // 2)
    with pytest.raises(TransformError, match=r"the first is 0\.500 s later"):
        buffer.lookup("map", "base", SECOND // 2)


def test_broken_transforms_are_refused(empty: Buffer) -> None:
    broken = message("map", "base", SECOND, pose(0))
    broken.transforms[0].transform.rotation.w = 7.0
    with pytest.raises(TransformError, match="unit quaternion"):
        empty.add(broken)
    broken = message("map", "base", SECOND, pose(0))
    broken.transforms[0].transform.translation.x = float("nan")
    with pytest.raises(TransformError, match="finite translation"):
        empty.add(broken)


def test_a_broken_transform_does_not_take_the_others_of_its_message_along(empty: Buffer) -> None:
    together = message("map", "base", SECOND, pose(0))
    together.transforms[0].transform.rotation.w = 7.0
    together.transforms += message("map", "other", SECOND, pose(1)).transforms
    with pytest.raises(TransformError, match="from 'base' to 'map': expected a finite translation"):
        empty.add(together)
    same(empty.lookup("map", "other", SECOND), pose(1))


def test_a_leading_slash_of_a_frame_does_not_count(filled: Buffer) -> None:
    same(filled.lookup("/map", "/base", 2 * SECOND), Pose(np.eye(3), np.array([20.0, 0, 0])))


def test_loops_of_frames_end(empty: Buffer) -> None:
    buffer = empty
    buffer.add(message("a", "b", 0, pose(0)), static=True)
    buffer.add(message("b", "a", 0, pose(0)), static=True)
    with pytest.raises(TransformError):
        buffer.lookup("map", "a", 0)


def test_old_transforms_are_forgotten_and_late_ones_sorted_in(empty: Buffer) -> None:
    order = [1, 3, 2, *range(4, 30)]
    for second in order:
        time_ns = 10 * SECOND + second * SECOND // 2
        empty.add(message("map", "base", time_ns, Pose(np.eye(3), np.array([float(second), 0, 0]))))
    found = empty.lookup("map", "base", 10 * SECOND + 43 * SECOND // 4)
    assert found.translation[0] == pytest.approx(21.5)
    with pytest.raises(TransformError) as forgotten:
        empty.lookup("map", "base", 10 * SECOND + SECOND)
    assert not isinstance(forgotten.value, TooEarly)


@pytest.mark.parametrize(
    ("places", "sentences"),
    [
        ([0, 3, 6, 9], 0),  # at 30 m/s
        ([0, 1.5, 3.0, 1.5], 0),
        ([0, 40, 43], 1),
        ([0, -30, 3, -27, 6], 4),  # of two publishers
    ],
)
def test_frames_that_move_faster_than_anything_drives_are_told(places: list[float], sentences: int) -> None:
    jumps, told = Jumps(), []
    for index, x in enumerate(places):
        moved = message("map", "base", SECOND + index * SECOND // 10, Pose(np.eye(3), np.array([x, 0, 0])))
        told += jumps.seen_in(checked(moved)[0])
    assert len(told) == sentences and all("'base' to 'map' jumps by" in sentence for sentence in told)


def test_the_number_of_poses_is_bounded() -> None:
    buffer = TransformBuffer()
    for i in range(MAX_POSES + 100):
        buffer.add(message("map", "fast", SECOND + i, pose(0)))
    assert len(buffer._edges["fast"]._times) == MAX_POSES


def test_a_recording_that_starts_again_starts_afresh(filled: Buffer) -> None:
    buffer = filled
    for tenth in (10, 11, 12):
        buffer.add(message("map", "base", tenth * SECOND // 10, Pose(np.eye(3), np.array([-1.0, 0, 0]))))
    same(buffer.lookup("base", "camera", SECOND), pose(1))  # those at rest stay
    assert buffer.lookup("map", "base", 12 * SECOND // 10).translation[0] == -1.0
    with pytest.raises(TooEarly):
        buffer.lookup("map", "base", 2 * SECOND)


def test_stragglers_do_not_make_a_buffer_forget(filled: Buffer) -> None:
    """As of a second publisher whose clock is behind."""
    time_ns = 5 * SECOND // 2
    before = filled.lookup("map", "base", time_ns)
    for tenth in range(4):
        filled.add(message("map", "base", SECOND + tenth, pose(8)))
        filled.add(message("map", "base", 4 * SECOND + tenth, pose(9)))
        same(filled.lookup("map", "base", time_ns), before)


def test_what_has_not_come_again_since_a_recording_started_again_is_not_known(empty: Buffer) -> None:
    for second in (20, 21):
        empty.add(message("map", "base", second * SECOND, pose(1)))
        empty.add(message("base", "camera", second * SECOND, pose(2)))
    for later in range(3):
        empty.add(message("map", "base", SECOND + later, pose(3)))
    with pytest.raises(TransformError, match="expected"):
        empty.lookup("map", "camera", SECOND + 2)
    empty.add(message("base", "camera", SECOND + 2, pose(4)))
    same(empty.lookup("map", "camera", SECOND + 2), pose(3) @ pose(4))
