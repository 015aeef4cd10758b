"""Boxes and tracks to vision_msgs and back, stamps, and transforms."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesis, ObjectHypothesisWithPose

from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.geometry.camera import Pose
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.numbers import FIRST_RENAMED, IdNumbers
from camtrack_core.ros.messages import cdr
from camtrack_core.ros.messages.detections2d import (
    class_names,
    from_boxes,
    from_tracks,
    pack_tracks,
    to_boxes,
    to_tracks,
)
from camtrack_core.ros.messages.stamps import Arrival, SharedOrder, StampOrder, fill_stamp, to_nanoseconds
from camtrack_core.ros.tf.transforms import quaternion, to_transform

NAMES = ("car", "truck", "bus")
HEADER = Header(stamp=Time(sec=12, nanosec=34), frame_id="camera")


def tracks(count: int, seed: int = 0) -> Tracks2D:
    random = np.random.default_rng(seed)
    corner, size = random.uniform(-50, 1900, (count, 2)), random.uniform(1, 300, (count, 2))
    return Tracks2D(
        random.permutation(10 * count)[:count],
        np.hstack([corner, corner + size]),
        random.uniform(0, 1, count),
        random.integers(0, len(NAMES), count),
    )


def assert_same(a, b) -> None:
    for name in vars(a):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-12, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("count", [0, 1, 50])
def test_tracks_survive_the_way_through_a_serialised_message(count):
    sent = tracks(count)
    assert_same(to_tracks(cdr.unpack(pack_tracks(sent, NAMES, HEADER)), NAMES, IdNumbers()), sent)
    message = deserialize_message(pack_tracks(sent, NAMES, HEADER), Detection2DArray)
    assert message.header == HEADER and all(d.header == HEADER for d in message.detections)


def read(message: Detection2DArray) -> cdr.Detections:
    return cdr.unpack(serialize_message(message))


def test_boxes_have_names_and_no_ids():
    boxes = Boxes2D(np.array([[10.0, 20, 30, 60]]), np.array([0.75]), np.array([2]))
    message = from_boxes(boxes, NAMES, HEADER)
    (detection,) = message.detections
    assert detection.id == ""
    assert detection.results[0].hypothesis == ObjectHypothesis(class_id="bus", score=0.75)
    centre = detection.bbox.center.position
    assert (centre.x, centre.y, detection.bbox.size_x, detection.bbox.size_y) == (20, 40, 20, 40)
    assert_same(to_boxes(read(message), NAMES), boxes)


def test_the_id_is_text():
    assert [d.id for d in from_tracks(tracks(3), NAMES, HEADER).detections] == list(map(str, tracks(3).ids))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_published(bad):
    sent = tracks(4)
    sent.xyxy[1, 2] = bad
    sent.scores[3] = bad
    message = from_tracks(sent, NAMES, HEADER)
    assert [d.id for d in message.detections] == [str(sent.ids[0]), str(sent.ids[2])]
    assert deserialize_message(pack_tracks(sent, NAMES, HEADER), Detection2DArray) == message


def detection(*hypotheses: tuple[str, float], track: str = "7") -> Detection2D:
    found = Detection2D(id=track)
    found.bbox.size_x = found.bbox.size_y = 2.0
    found.results = [
        ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=name, score=score)) for name, score in hypotheses
    ]
    return found


def test_the_best_hypothesis_counts():
    message = Detection2DArray(detections=[detection(("car", 0.2), ("bus", 0.7), ("truck", 0.1))])
    boxes = to_boxes(read(message), NAMES)
    assert boxes.class_ids.tolist() == [2] and boxes.scores.tolist() == [0.7]


def test_detections_that_say_nothing_are_left_out():
    blurred = detection(("car", 0.5))
    blurred.bbox.center.position.x = float("nan")
    kept = detection(("car", 0.5), track="8")
    message = Detection2DArray(detections=[detection(), detection(("cat", 0.9)), blurred, kept])
    assert len(to_boxes(read(message), NAMES)) == 1
    assert to_tracks(read(message), NAMES, IdNumbers()).ids.tolist() == [8]


def test_ids_that_are_no_numbers_are_kept_apart():
    texts = ("", "a1", "-3", "1.5", "9" * 19, "42", "042", "a1", "-1")
    message = Detection2DArray(detections=[detection(("car", 0.5), track=t) for t in texts])
    first = FIRST_RENAMED
    numbers = IdNumbers()
    expected = [first, first + 1, first + 2, first + 3, 42, first + 4, first]
    assert to_tracks(read(message), NAMES, numbers).ids.tolist() == expected
    assert len(to_boxes(read(message), NAMES)) == len(texts)
    assert to_tracks(read(message), NAMES, numbers).ids.tolist() == expected  # the same in the next message


def test_class_names_of_a_message():
    message = Detection2DArray(detections=[detection(("van", 0.5)), detection(("car", 0.5), ("van", 0.1))])
    assert class_names(read(message)) == ("car", "van")


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_are_exact(time_ns):
    assert to_nanoseconds(fill_stamp(Time(), time_ns)) == time_ns


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([1.0, 1.1, 1.2], "NEW NEW NEW"),
        ([1.0, 1.0, 1.1, 1.1], "NEW DUPLICATE NEW DUPLICATE"),
        ([1.0, 1.2, 1.1, 1.3], "NEW NEW LATE NEW"),
        ([1.0, 1.2, 1.1, 1.1, 1.3], "NEW NEW LATE DUPLICATE NEW"),
        # Stragglers from long ago are no new start, however many, while new ones come between them.
        ([5.0, 9.0, 5.0, 9.1, 5.1, 9.2, 5.2, 9.3], "NEW NEW LATE NEW LATE NEW LATE NEW"),
        ([5.0, 9.0, 4.0, 3.0, 2.0, 1.0], "NEW NEW LATE LATE LATE LATE"),
        ([5.0, 9.0, 5.0, 5.1, 5.2, 5.3], "NEW NEW LATE LATE JUMP_BACK NEW"),
        # A recording of 0.3 s that starts again, twice.
        ([1.0, 1.1, 1.2, 1.3] * 3, "NEW NEW NEW NEW" + 2 * " DUPLICATE DUPLICATE JUMP_BACK NEW"),
        ([1.0, 1.3, 1.1, 1.2, 1.4], "NEW NEW LATE LATE NEW"),
    ],
)
def test_order_of_stamps(seconds, expected):
    order = StampOrder()
    arrivals = [order.judge(round(s * 1e9)) for s in seconds]
    assert arrivals == [Arrival[name] for name in expected.split()]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ("a1.0 b1.1 a1.2 b1.3", "NEW NEW NEW NEW"),
        # One whose clock was set back, while the other goes on.
        ("a9.0 b9.1 a1.0 b9.2 a1.1 b9.3 a1.2 b9.4 a1.3 b9.5 a1.4", "NEW NEW LATE NEW LATE NEW LATE NEW LATE NEW LATE"),
        # A recording of both that starts again: what a has sent after the jump is no reason to hold b back.
        ("a9.0 b9.1 a1.0 b1.1 a1.2 b1.3 a1.4 b1.5 a1.6", "NEW NEW LATE LATE LATE LATE JUMP_BACK NEW NEW"),
        # One that has died does not hold the other back.
        ("a9.0 b9.1 a1.0 a1.1 a1.2 a1.3", "NEW NEW LATE LATE JUMP_BACK NEW"),
        # Late by no more than is allowed.
        ("a9.0 a8.9 a8.8 a8.6", "NEW NEW NEW LATE"),
    ],
)
def test_order_of_sources_that_share_a_time(stamps, expected):
    order = SharedOrder()
    arrivals = [order.judge(stamp[0], round(float(stamp[1:]) * 1e9), max_lag=300_000_000) for stamp in stamps.split()]
    assert arrivals == [Arrival[name] for name in expected.split()]


def rotation(x: float, y: float, z: float, w: float) -> np.ndarray:
    """Rotation matrix of a unit quaternion: the columns are q e q* for the axes e."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternion_is_the_inverse_of_rotation(q):
    unit = np.array(q) / np.linalg.norm(q)
    np.testing.assert_allclose(rotation(*quaternion(rotation(*unit))), rotation(*unit), atol=1e-12)
    assert quaternion(rotation(*unit))[3] >= 0


def test_a_pose_becomes_a_transform():
    quarter_left = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    message = to_transform(Pose(quarter_left, np.array([1.0, 2, 3])), "map", "base_link", HEADER.stamp)
    assert (message.header.frame_id, message.child_frame_id) == ("map", "base_link")
    assert message.header.stamp == HEADER.stamp
    turn, shift = message.transform.rotation, message.transform.translation
    np.testing.assert_allclose([turn.x, turn.y, turn.z, turn.w], [0, 0, 0.5**0.5, 0.5**0.5])
    assert (shift.x, shift.y, shift.z) == (1, 2, 3)
