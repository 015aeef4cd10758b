"""The buffer of transforms: interpolation against scipy, trees of frames, and what is not known."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp
from tf2_msgs.msg import TFMessage

from camtrack_core.camera import Pose
from camtrack_core.ros.stamps import fill_stamp
from camtrack_core.ros.transforms import (
    MAX_POSES,
    TooEarly,
    TransformBuffer,
    TransformError,
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


def filled() -> TransformBuffer:
    """map -> base over seconds 1 to 3, base -> camera and base -> lidar at rest."""
    buffer = TransformBuffer()
    for second in (1, 2, 3):
        buffer.add(message("map", "base", second * SECOND, Pose(np.eye(3), np.array([10.0 * second, 0, 0]))))
    buffer.add(message("base", "camera", 0, pose(1)), static=True)
    buffer.add(message("base", "lidar", 0, pose(2)), static=True)
    return buffer


def test_lookup_walks_the_tree_at_the_time() -> None:
    buffer = filled()
    base = Pose(np.eye(3), np.array([15.0, 0, 0]))
    same(buffer.lookup("map", "camera", 3 * SECOND // 2), base @ pose(1))
    same(buffer.lookup("camera", "map", 3 * SECOND // 2), (base @ pose(1)).inverse())
    same(buffer.lookup("lidar", "camera", 100 * SECOND), pose(2).inverse() @ pose(1))
    same(buffer.lookup("base", "base", 0), Pose(np.eye(3), np.zeros(3)))
    same(buffer.lookup("map", "base", 3 * SECOND), Pose(np.eye(3), np.array([30.0, 0, 0])))


def test_what_is_not_known_is_an_error_and_never_the_identity() -> None:
    buffer = filled()
    with pytest.raises(TooEarly, match=r"the newest is 0\.500 s old"):
        buffer.lookup("map", "camera", 7 * SECOND // 2)
    with pytest.raises(TransformError, match=r"the first is 0\.500 s later") as past:
        buffer.lookup("map", "camera", SECOND // 2)
    assert not isinstance(past.value, TooEarly)
    with pytest.raises(TransformError, match="nothing connects them"):
        buffer.lookup("map", "radar", SECOND)
    with pytest.raises(TransformError, match="nothing connects them"):
        TransformBuffer().lookup("map", "", SECOND)


def test_broken_transforms_are_refused() -> None:
    broken = message("map", "base", SECOND, pose(0))
    broken.transforms[0].transform.rotation.w = 7.0
    with pytest.raises(TransformError, match="unit quaternion"):
        TransformBuffer().add(broken)
    broken = message("map", "base", SECOND, pose(0))
    broken.transforms[0].transform.translation.x = float("nan")
    with pytest.raises(TransformError, match="finite translation"):
        TransformBuffer().add(broken)


def test_a_broken_transform_does_not_take_the_others_of_its_message_along() -> None:
    buffer, together = TransformBuffer(), message("map", "base", SECOND, pose(0))
    together.transforms[0].transform.rotation.w = 7.0
    together.transforms += message("map", "other", SECOND, pose(1)).transforms
    with pytest.raises(TransformError, match="from 'base' to 'map': expected a finite translation"):
        buffer.add(together)
    same(buffer.lookup("map", "other", SECOND), pose(1))


def test_a_leading_slash_of_a_frame_does_not_count() -> None:
    same(filled().lookup("/map", "/base", 2 * SECOND), Pose(np.eye(3), np.array([20.0, 0, 0])))


def test_loops_of_frames_end() -> None:
    buffer = TransformBuffer()
    buffer.add(message("a", "b", 0, pose(0)), static=True)
    buffer.add(message("b", "a", 0, pose(0)), static=True)
    with pytest.raises(TransformError):
        buffer.lookup("map", "a", 0)


def test_old_transforms_are_forgotten_and_late_ones_sorted_in() -> None:
    buffer = TransformBuffer()
    order = [1, 3, 2, *range(4, 30)]
    for second in order:
        time_ns = 10 * SECOND + second * SECOND // 2
        buffer.add(message("map", "base", time_ns, Pose(np.eye(3), np.array([float(second), 0, 0]))))
    found = buffer.lookup("map", "base", 10 * SECOND + 43 * SECOND // 4)
    assert found.translation[0] == pytest.approx(21.5)
    with pytest.raises(TransformError, match="the first is"):
        buffer.lookup("map", "base", 10 * SECOND + SECOND)
    for i in range(MAX_POSES + 100):
        buffer.add(message("map", "fast", SECOND + i, pose(0)))
    assert len(buffer._edges["fast"]._times) == MAX_POSES


def test_a_recording_that_starts_again_starts_afresh() -> None:
    buffer = filled()
    buffer.add(message("map", "base", SECOND, Pose(np.eye(3), np.array([-1.0, 0, 0]))))
    assert buffer.lookup("map", "base", SECOND).translation[0] == -1.0
    with pytest.raises(TooEarly):
        buffer.lookup("map", "base", 2 * SECOND)
