"""Scores in space against loops, pictures of tracks in space, and their recording."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from ros_helpers import Graph, image_message, opened_graph
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection3DArray

from camtrack.demo.space import must_be_found, sure
from camtrack.nodes.space_recorder import SpaceRecorderNode
from camtrack.recording.files import read_tracks
from camtrack.recording.space import LEAST_SCORE, SpaceRecording, SpaceTracks
from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.drawing.space import BirdsEye, draw_tracks_3d
from camtrack_core.evaluation.space import MATCH_DISTANCE, SpaceFrame, score_in_space
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA, TRANSFORMS
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages.stamps import fill_stamp
from camtrack_core.ros.tf.transforms import to_transform

SECOND = 1_000_000_000
CAMERA = Camera(np.array([[400.0, 0, 320], [0, 400, 180], [0, 0, 1]]), 640, 360)
POSE = Pose(OPTICAL_IN_VEHICLE, np.array([0.0, 0.0, 1.5]))


def tracks(*places: tuple[float, float], first_id: int = 1) -> Tracks3D:
    """Cars standing at places x, y, heading along x."""
    count = len(places)
    centre = np.array([(x, y, 0.75) for x, y in places]).reshape(-1, 3)
    size, velocity = np.tile([4.0, 2.0, 1.5], (count, 1)), np.tile([3.0, 0, 0], (count, 1))
    boxes = Boxes3D(centre, size, np.zeros(count), velocity)
    ids, classes = np.arange(count) + first_id, np.zeros(count, np.int64)
    return Tracks3D(ids, boxes, np.tile(np.eye(4), (count, 1, 1)), np.full(count, 0.9), classes, np.zeros(count))


def frame(true: list, found: list, scored: list[bool] | None = None) -> SpaceFrame:
    a, b = np.array(true, float).reshape(-1, 2), np.array(found, float).reshape(-1, 2)
    return SpaceFrame(
        np.arange(len(a)), np.pad(a, ((0, 0), (0, 1))), np.ones(len(a), bool) if scored is None else np.array(scored),
        np.arange(len(b)) + 7, np.pad(b, ((0, 0), (0, 1))),
    )  # fmt: skip


def test_scores_in_space_count_what_loops_count() -> None:
    rng = np.random.default_rng(0)
    frames, hits, misses, false, errors = [], 0, 0, 0, []
    for _ in range(20):
        true = np.arange(4)[:, None] * [25.0, 0.0] + rng.uniform(-3, 3, (4, 2))
        found = true + rng.uniform(-1.9, 1.9, (4, 2))
        frames.append(frame(true.tolist(), found.tolist()))
        for a, b in zip(true, found, strict=True):  # objects are far apart: each has its own
            distance = float(np.hypot(*(a - b)))
            if distance < MATCH_DISTANCE:
                hits, errors = hits + 1, [*errors, distance]
            else:
                misses, false = misses + 1, false + 1
    scores, distance = score_in_space(frames)
    assert (scores.truth, scores.misses, scores.false_positives) == (hits + misses, misses, false)
    assert 0 < misses < hits
    assert distance == pytest.approx(np.mean(errors))


def test_perfect_tracks_have_perfect_scores_and_unjudged_objects_do_not_count() -> None:
    frames = [frame([(0, 0), (30, 0)], [(0, 0), (30, 0)], [True, False]) for _ in range(3)]
    scores, distance = score_in_space(frames)
    assert (scores.hota, scores.mota, scores.truth, scores.false_positives, distance) == (1, 1, 3, 0, 0)
    scores, distance = score_in_space([frame([(0, 0)], [])])
    assert scores.recall == 0 and np.isnan(distance)


def test_only_near_high_and_visible_objects_must_be_found() -> None:
    xyxy = np.array([[0.0, 0, 40, 40], [0, 0, 9, 9], [0, 0, 40, 40], [0, 0, 40, 40]])
    labels = Labels(np.array([5, 6, 7, 8]), xyxy, np.zeros(4, np.int64), np.array([1, 1, 0.1, 1]))
    boxes = tracks((10, 0), (20, 0), (20, 5), (80, 0)).boxes
    image = np.zeros((360, 640, 3), np.uint8)
    assert must_be_found(Frame(0, image, labels, camera=CAMERA, camera_pose=POSE, boxes3d=boxes)) == [5]
    assert must_be_found(Frame(0, image)) == []


def test_what_the_camera_does_not_show_need_not_be_found() -> None:
    """Whatever a data set says of visibility: no lidar point hit the second, and a truck hides the third."""
    xyxy = np.tile([[0.0, 0, 40, 40]], (4, 1))
    labels = Labels(np.array([5, 6, 7, 8]), xyxy, np.zeros(4, np.int64), np.ones(4))
    boxes = tracks((12, -6), (20, 6), (30, 0), (15, 0)).boxes
    boxes.size[3] = (4.0, 4.0, 4.0)
    image, points = np.zeros((360, 640, 3), np.uint8), np.array([9, 0, 9, 9])
    known = {"camera": CAMERA, "camera_pose": POSE, "boxes3d": boxes}
    assert must_be_found(Frame(0, image, labels, lidar_points=points, **known)) == [5, 8]
    assert must_be_found(Frame(0, image, labels, **known)) == [5, 6, 8]


def test_unsure_tracks_do_not_count() -> None:
    assert sure([{"id": 1, "score": 0.9}, {"id": 2, "score": 0.1}]) == [{"id": 1, "score": 0.9}]


def test_boxes_are_drawn_where_their_corners_are_and_only_before_the_camera() -> None:
    black = np.zeros((360, 640, 3), np.uint8)
    drawn = draw_tracks_3d(black.copy(), tracks((12, 0)), ("car",), CAMERA, POSE.inverse())
    for x, y in CAMERA.project(POSE.inverse().apply(tracks((12, 0)).boxes.corners()))[0]:
        assert drawn[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].any()
    for behind in ((-12.0, 0.0), (-2.5, 0.0)):
        assert not draw_tracks_3d(black.copy(), tracks(behind), ("car",), CAMERA, POSE.inverse()).any()
    across = draw_tracks_3d(black.copy(), tracks((1.0, 1.5)), ("car",), CAMERA, POSE.inverse())
    assert across.any()  # partly behind: the part before is drawn


def test_the_map_has_ahead_at_the_top_and_forgets_old_trails() -> None:
    turned = Pose(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ OPTICAL_IN_VEHICLE, np.array([5.0, 0, 1.5]))
    sheet = BirdsEye((200, 200), 50.0)
    empty = BirdsEye((200, 200), 50.0).draw(0, tracks(), (), turned, None)
    changed = (sheet.draw(0, tracks((5.0, 40.0)), ("car",), turned, None) != empty).any(-1)  # 40 m ahead along y
    rows, columns = np.nonzero(changed)
    assert rows.max() < 80
    assert abs(np.median(columns) - 100) < 20
    sheet.draw(SECOND, tracks((0.0, 20.0), first_id=2), ("car",), turned, None)
    assert (sheet.draw(30 * SECOND, tracks(), (), turned, None) == empty).all()


def test_unsure_tracks_are_written_and_not_drawn(tmp_path: Path) -> None:
    """By the rule of the demo's scores, unless one asks for all of them."""
    black, both = np.zeros((360, 640, 3), np.uint8), tracks((12.0, 2.0), (12.0, -2.0))
    both = replace(both, scores=np.array([LEAST_SCORE, LEAST_SCORE - 0.01]))
    pictures = {}
    for name, shown, least in (("both", both, {}), ("first", both[:1], {}), ("all", both, {"least_score": 0.0})):
        recording = SpaceRecording(tmp_path / name, **least)
        pictures[name] = recording.write(SECOND, black, SpaceTracks(shown, ("car",), CAMERA, POSE))
        recording.close()
    assert (pictures["both"] == pictures["first"]).all()
    assert (pictures["all"] != pictures["first"]).any()
    (rows,) = read_tracks(tmp_path / "both" / "tracks3d.jsonl").values()
    assert [row["id"] for row in rows] == [1, 2] and len(sure(rows)) == 1


def publishers(graph: Graph) -> list[Any]:
    """Of images, camera_info, tracks, trajectories and transforms, once the recorder hears them."""
    topics = ((Image, "image", SENSOR_DATA), (CameraInfo, "camera_info", SENSOR_DATA),
              (Detection3DArray, "tracks", RESULTS), (MultiDOFJointTrajectory, "trajectories", RESULTS),
              (TFMessage, "/tf", TRANSFORMS))  # fmt: skip
    peer = graph.peer()
    made = [peer.create_publisher(*topic) for topic in topics]
    graph.spin_until(lambda: all(publisher.get_subscription_count() for publisher in made))
    return made


def test_the_recorder_joins_images_tracks_velocities_and_places(tmp_path: Path) -> None:
    with opened_graph() as graph:
        recorder = graph.start(SpaceRecorderNode, folder=str(tmp_path))
        images, cameras, found, motion, tf = publishers(graph)
        cameras.publish(CameraInfo(width=640, height=360, k=[0.0] * 9))
        graph.spin_until(lambda: "K of camera_info" in recorder.monitor.warnings.get("camera_info", ""))
        cameras.publish(CameraInfo(width=640, height=360, k=CAMERA.intrinsics.ravel().tolist()))
        graph.spin_until(lambda: "camera_info" not in recorder.monitor.warnings)
        for index in range(3):
            stamp = fill_stamp(Time(), (index + 1) * SECOND)
            header, shown = Header(frame_id="map", stamp=stamp), tracks((10.0 + index, 1.0)) if index else tracks()
            images.publish(image_message((index + 1) * SECOND, 90, 360, 640))
            found.publish(messages3d.pack_tracks(shown, ("car",), header))
            places = np.zeros((1, len(shown), 4))
            speeds = np.tile([3.0, 0, 0, 0], (1, len(shown), 1))
            motion.publish(messages3d.pack_motion(shown.ids, header, np.zeros(1, np.int64), places, speeds))
            graph.spin_for(0.1)
            tf.publish(TFMessage(transforms=[to_transform(POSE, "map", "camera", stamp)]))  # later than the tracks
            graph.spin_until(lambda n=index: recorder._recording.frames > n)
        images.publish(image_message(4 * SECOND, 90, 360, 640))  # never answered: written as the node ends
        graph.spin_until(lambda: recorder._joiner._images)
    lines = [json.loads(line) for line in (tmp_path / "tracks3d.jsonl").read_text().splitlines()]
    assert [line["time_ns"] for line in lines] == [SECOND, 2 * SECOND, 3 * SECOND]
    assert [len(rows) for rows in read_tracks(tmp_path / "tracks3d.jsonl").values()] == [0, 1, 1]
    (row,) = lines[2]["tracks"]
    assert row == {"id": 1, "class": "car", "score": 0.9, "centre": [12.0, 1.0, 0.75], "size": [4.0, 2.0, 1.5],
                   "yaw": 0.0, "velocity": [3.0, 0.0, 0.0]}  # fmt: skip
    video = cv2.VideoCapture(str(tmp_path / "tracks.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert video.get(cv2.CAP_PROP_FRAME_WIDTH) > video.get(cv2.CAP_PROP_FRAME_HEIGHT) * 2


def test_tracks_whose_camera_is_not_known_are_counted_drops(tmp_path: Path) -> None:
    with opened_graph() as graph:
        recorder = graph.start(SpaceRecorderNode, folder=str(tmp_path), capacity=2, rectified=True)
        _, cameras, found, motion, _ = publishers(graph)
        k = CAMERA.intrinsics.ravel().tolist()
        cameras.publish(CameraInfo(width=640, height=360, k=k, p=[float("nan")] * 12))
        graph.spin_until(lambda: "P of camera_info" in recorder.monitor.warnings.get("camera_info", ""))
        for index in range(4):
            header = Header(frame_id="map", stamp=fill_stamp(Time(), (index + 1) * SECOND))
            shown = tracks((10.0, 1.0))
            found.publish(messages3d.pack_tracks(shown, ("car",), header))
            places = np.zeros((1, 1, 4))
            motion.publish(messages3d.pack_motion(shown.ids, header, np.zeros(1, np.int64), places, places))
            graph.spin_for(0.1)
        graph.spin_until(lambda: recorder.monitor.drops["no camera_info"] == 2)


def test_tracks_and_trajectories_are_joined_in_whatever_order_they_come_and_lost_ones_are_counted(
    tmp_path: Path,
) -> None:
    with opened_graph() as graph:
        recorder = graph.start(SpaceRecorderNode, folder=str(tmp_path))
        images, cameras, found, motion, tf = publishers(graph)
        cameras.publish(CameraInfo(width=640, height=360, k=CAMERA.intrinsics.ravel().tolist()))
        shown = tracks((10.0, 1.0))
        headers = [Header(frame_id="map", stamp=fill_stamp(Time(), (index + 1) * SECOND)) for index in range(5)]
        for index, header in enumerate(headers):
            tf.publish(TFMessage(transforms=[to_transform(POSE, "map", "camera", header.stamp)]))
            images.publish(image_message((index + 1) * SECOND, 90, 360, 640))
            graph.spin_until(lambda n=index: recorder.monitor.processed > n)

        def act(publisher: Any, message: Any) -> None:
            before = recorder._tracks.keys() | {-t for t in recorder._motions}
            publisher.publish(message)
            graph.spin_until(lambda: recorder._tracks.keys() | {-t for t in recorder._motions} != before)

        def tell(index: int) -> None:
            act(found, messages3d.pack_tracks(shown, ("car",), headers[index]))

        def move(index: int) -> None:
            none = np.zeros((1, 1, 4))
            act(motion, messages3d.pack_motion(shown.ids, headers[index], np.zeros(1, np.int64), none, none))

        for each, index in ((tell, 0), (move, 1), (tell, 2), (move, 0), (tell, 1), (move, 2), (tell, 3), (move, 4)):
            each(index)
        tell(4)
        graph.spin_until(lambda: recorder._recording.frames == 5)
        assert recorder.monitor.drops == {"half lost": 1}
    lines = [json.loads(line) for line in (tmp_path / "tracks3d.jsonl").read_text().splitlines()]
    assert [line["time_ns"] for line in lines] == [i * SECOND for i in (1, 2, 3, 5)]
