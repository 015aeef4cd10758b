"""Boxes and tracks in space as messages: against rclpy's own serialisation, and between frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker

from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes3D, Detections3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.geometry.tracks import Tracks3D
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages.cdr3d import unpack_detections, unpack_velocities

NAMES = ("car", "pedestrian")
HERE = Pose(np.eye(3), np.zeros(3))


def header(frame: str = "map") -> Header:
    made = Header(frame_id=frame)
    made.stamp.sec, made.stamp.nanosec = 12, 345
    return made


def boxes(count: int, seed: int = 0) -> Boxes3D:
    rng = np.random.default_rng(seed)
    centre, size = rng.normal(scale=20, size=(count, 3)), rng.uniform(0.5, 5, (count, 3))
    return Boxes3D(centre, size, rng.uniform(-3, 3, count), rng.normal(size=(count, 3)))


def tracks(count: int, seed: int = 0) -> Tracks3D:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(count, 4, 4))
    ids = np.arange(count) + 10
    scores, classes = rng.uniform(size=count), rng.integers(0, 2, count)
    return Tracks3D(ids, boxes(count, seed), root @ root.swapaxes(1, 2), scores, classes, rng.normal(size=count))


def test_the_likeliest_motion_is_a_second_result_that_never_beats_the_class() -> None:
    motions = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    sent = replace(tracks(3), motions=motions)
    data = messages3d.pack_tracks(sent, NAMES, header())
    message = deserialize_message(data, Detection3DArray)
    said = [[r.hypothesis.class_id for r in d.results] for d in message.detections]
    classes = [NAMES[c] for c in sent.class_ids]
    assert said == [[classes[0], "moving"], [classes[1], "parked"], [classes[2]]]
    for row, detection in enumerate(message.detections):
        scores = [r.hypothesis.score for r in detection.results]
        assert scores == pytest.approx([sent.scores[row], sent.scores[row] * motions[row].max()][: len(scores)])
        assert all(r.pose == detection.results[0].pose for r in detection.results)
        detection.results.reverse()  # order must not matter
    for serialised in (data, bytes(serialize_message(message))):
        found = messages3d.to_detections(unpack_detections(serialised), NAMES.index, HERE)
        np.testing.assert_allclose(found.motions, [[0.7, 0, 0], [0, 0, 1.0], [0, 0, 0]])
        np.testing.assert_array_equal(found.class_ids, sent.class_ids)
        np.testing.assert_allclose(found.scores, sent.scores)


@settings(max_examples=30)
@given(st.integers(0, 6), st.text("abcé_/", max_size=9))
def test_serialised_tracks_are_what_rclpy_reads(count: int, frame: str) -> None:
    sent = tracks(count)
    message = deserialize_message(messages3d.pack_tracks(sent, NAMES, header(frame)), Detection3DArray)
    assert message.header == header(frame) and len(message.detections) == count
    for row, detection in enumerate(message.detections):
        assert detection.header == message.header and detection.id == str(sent.ids[row])
        (result,) = detection.results
        assert result.hypothesis.class_id == NAMES[sent.class_ids[row]]
        assert result.hypothesis.score == sent.scores[row]
        centre, size, turn = detection.bbox.center.position, detection.bbox.size, detection.bbox.center.orientation
        assert [centre.x, centre.y, centre.z] == sent.boxes.centre[row].tolist()
        assert [size.x, size.y, size.z] == sent.boxes.size[row].tolist()
        yaw = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_euler("zyx")[0]
        assert yaw == pytest.approx(sent.boxes.yaw[row])
        assert result.pose.pose == detection.bbox.center
        covariance = result.pose.covariance.reshape(6, 6)
        assert covariance[np.ix_([0, 1, 2, 5], [0, 1, 2, 5])] == pytest.approx(sent.covariance[row])
        assert (np.linalg.eigvalsh(covariance) >= -1e-9).all()


@settings(max_examples=30)
@given(st.integers(0, 6))
def test_what_rclpy_serialises_is_read(count: int) -> None:
    sent = tracks(count)
    message = deserialize_message(messages3d.pack_tracks(sent, NAMES, header("base")), Detection3DArray)
    found = unpack_detections(bytes(serialize_message(message)))
    assert found.header == header("base") and found.ids == [str(track) for track in sent.ids]
    back = messages3d.to_detections(found, NAMES.index, HERE)
    assert back.boxes.centre == pytest.approx(sent.boxes.centre) and back.boxes.size == pytest.approx(sent.boxes.size)
    assert back.boxes.yaw == pytest.approx(sent.boxes.yaw) and back.scores == pytest.approx(sent.scores)
    assert back.class_ids.tolist() == sent.class_ids.tolist()


def test_boxes_go_through_an_optical_frame_unchanged() -> None:
    """A camera that looks left of the vehicle: its detections come back in the vehicle's frame."""
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    camera = Pose(turn @ OPTICAL_IN_VEHICLE, np.array([1.0, 0.5, 1.4]))
    sent = Detections3D(boxes(5), np.full(5, 0.5), np.zeros(5, np.int64))
    at_camera = Boxes3D(
        (sent.boxes.centre - camera.translation) @ turn,
        sent.boxes.size,
        sent.boxes.yaw - np.pi / 2,
        sent.boxes.velocity,
    )
    upright = OPTICAL_IN_VEHICLE.T
    detections = Detections3D(at_camera, sent.scores, sent.class_ids)
    data = messages3d.pack_boxes(detections, NAMES, header("camera"), upright)
    back = messages3d.to_detections(unpack_detections(data), NAMES.index, camera)
    assert back.boxes.centre == pytest.approx(sent.boxes.centre)
    assert np.cos(back.boxes.yaw - sent.boxes.yaw) == pytest.approx(np.ones(5))
    message = deserialize_message(data, Detection3DArray)
    assert [detection.id for detection in message.detections] == [""] * 5


def test_velocities_come_back_in_the_fixed_frame_by_their_ids() -> None:
    """Through a camera that looks left of the vehicle; one that is not known stays unknown."""
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    camera = Pose(turn @ OPTICAL_IN_VEHICLE, np.zeros(3))
    sent = tracks(4)
    sent.boxes.velocity[2] = np.nan
    data = messages3d.pack_tracks(sent, NAMES, header("camera"), OPTICAL_IN_VEHICLE.T)
    told = messages3d.pack_velocities(sent, header("camera"), OPTICAL_IN_VEHICLE.T)
    stamped, velocities = unpack_velocities(told)
    assert stamped == header("camera") and set(velocities) == {str(track) for track in sent.ids}
    back = messages3d.to_detections(unpack_detections(data), NAMES.index, camera, velocities)
    assert back.boxes.velocity == pytest.approx(sent.boxes.velocity @ turn.T, nan_ok=True)
    assert np.isnan(messages3d.to_detections(unpack_detections(data), NAMES.index, camera).boxes.velocity).all()
    for end in (6, 40, len(told) - 30):
        with pytest.raises(DataError, match="MultiDOFJointTrajectory"):
            unpack_velocities(told[:end])


def test_unusable_detections_are_left_out() -> None:
    sent = tracks(4)
    message = deserialize_message(messages3d.pack_tracks(sent, NAMES, header()), Detection3DArray)
    message.detections[0].bbox.size.x = float("nan")
    message.detections[1].results = []
    message.detections[2].bbox.center.orientation.w = 9.0
    found = messages3d.to_detections(unpack_detections(bytes(serialize_message(message))), NAMES.index, HERE)
    assert len(found) == 1
    infinite = Tracks3D(*[getattr(sent, name) for name in sent.__dataclass_fields__])
    infinite.boxes.centre[0, 0] = np.inf
    data = messages3d.pack_tracks(infinite, NAMES, header())
    assert len(deserialize_message(data, Detection3DArray).detections) == 3


def test_broken_bytes_are_refused() -> None:
    data = messages3d.pack_tracks(tracks(3), NAMES, header())
    for end in (6, 40, 300, len(data) - 9):
        with pytest.raises(DataError, match="Detection3DArray"):
            unpack_detections(data[:end])


def test_trajectories_are_what_rclpy_reads() -> None:
    rng = np.random.default_rng(1)
    for count in (0, 1, 3):
        places, velocities = rng.normal(size=(4, count, 4)), rng.normal(size=(4, count, 4))
        if count:
            places[0, 0] = velocities[0, 0] = np.nan
        offsets = np.array([-500_000_000, 0, 500_000_000, 1_000_000_000])
        data = messages3d.pack_motion(np.arange(count), header(), offsets, places, velocities)
        message = deserialize_message(data, MultiDOFJointTrajectory)
        assert message.joint_names == [str(i) for i in range(count)] and message.header == header()
        first = message.points[0].time_from_start
        assert first.sec * 1_000_000_000 + first.nanosec == -500_000_000
        for point, place, velocity in zip(message.points, places, velocities, strict=True):
            assert len(point.transforms) == len(point.velocities) == count
            for row in range(count):
                transform, twist = point.transforms[row], point.velocities[row]
                found = [transform.translation.x, transform.translation.y, transform.translation.z]
                assert found == pytest.approx(place[row, :3].tolist(), nan_ok=True)
                yaw = 2 * np.arctan2(transform.rotation.z, transform.rotation.w)
                assert yaw == pytest.approx(place[row, 3], nan_ok=True)
                assert twist.angular.z == pytest.approx(velocity[row, 3], nan_ok=True)
                assert twist.linear.x == pytest.approx(velocity[row, 0], nan_ok=True)


def test_every_track_has_a_box_an_arrow_and_a_label() -> None:
    shown = tracks(2)
    markers = messages3d.to_markers(shown, NAMES, header()).markers
    assert [m.type for m in markers] == [Marker.CUBE, Marker.ARROW, Marker.TEXT_VIEW_FACING] * 2
    assert len({(m.ns, m.id) for m in markers}) == 6
    assert markers[2].text == f"{NAMES[shown.class_ids[0]]} 10"
    tip, start = markers[1].points[1], markers[1].points[0]
    assert tip.x - start.x == pytest.approx(shown.boxes.velocity[0, 0])


def test_stated_covariances_are_those_of_the_best_result_in_the_parent_frame() -> None:
    """Of a camera's frame in a turned vehicle; what is none, or of unusable detections, is not taken."""
    rotation = Rotation.from_euler("ZYX", [0.4, 0.1, -0.2]).as_matrix() @ OPTICAL_IN_VEHICLE
    pose = Pose(rotation, np.array([1.0, 2.0, 3.0]))
    message = deserialize_message(messages3d.pack_tracks(tracks(8), NAMES, header("camera")), Detection3DArray)
    root = np.random.default_rng(4).normal(size=(6, 6))
    full = root @ root.T + np.eye(6)
    for one in message.detections:
        one.results[0].pose.covariance = full.ravel()
    other = deserialize_message(serialize_message(message.detections[1].results[0]), type(one.results[0]))
    other.hypothesis.score /= 2
    other.pose.covariance = np.eye(6).ravel()
    message.detections[1].results.insert(0, other)
    message.detections[2].results[0].pose.covariance = np.zeros(36)
    message.detections[3].results[0].pose.covariance = np.where(np.arange(36) == 7, np.nan, full.ravel())
    message.detections[4].results[0].pose.covariance = -full.ravel()
    message.detections[5].results[0].pose.covariance = np.diag([1.0, 1, 1, 0, 0, 0]).ravel()
    message.detections[6].bbox.size.x = float("nan")
    found = messages3d.stated_covariances(unpack_detections(bytes(serialize_message(message))), NAMES.index, pose)
    place, turn = rotation @ full[:3, :3] @ rotation.T, rotation @ full[3:, 3:] @ rotation.T
    both = rotation @ full[:3, 3:] @ rotation.T
    expected = np.zeros((4, 4))
    expected[:3, :3], expected[3, 3], expected[:3, 3] = place, turn[2, 2], both[:, 2]
    expected[3, :3] = expected[:3, 3]
    assert found.shape == (7, 4, 4)
    for row in (0, 1, 6):
        np.testing.assert_allclose(found[row], expected, atol=1e-9)
    assert np.isnan(found[2:6]).all()


def test_time3ds_own_covariances_come_back_as_they_were_sent() -> None:
    sent = tracks(5)
    data = messages3d.pack_tracks(sent, NAMES, header("camera"), OPTICAL_IN_VEHICLE.T)
    found = messages3d.stated_covariances(unpack_detections(data), NAMES.index, Pose(OPTICAL_IN_VEHICLE, np.zeros(3)))
    np.testing.assert_allclose(found, sent.covariance, atol=1e-8)
