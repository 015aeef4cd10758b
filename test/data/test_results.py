"""Results that a bag has recorded come back as the files that `evaluate` reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import Trip
from rosbags.rosbag2 import StoragePlugin, Writer
from typer.testing import CliRunner

from camtrack.bags.results import write_results
from camtrack.bags.write import BagOptions, _Topics, bag_messages, detections_2d, detections_3d, raw, write_bag
from camtrack.cli import app
from camtrack_core.datasets.frames import Labels, truth_of
from camtrack_core.datasets.kitti.rows import TO_VEHICLE, read_objects
from camtrack_core.datasets.rosbag import types
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.mot_text import read_mot
from camtrack_core.evaluation.nuscenes.submission import read_submission
from camtrack_core.geometry.boxes import Floats, Integers


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Its second image has no results."""
    write_bag({"camera": Trip()}, tmp_path / "trip", BagOptions(quality=90, truth=True))
    return tmp_path / "trip"


def test_boxes_in_the_image_come_back_by_their_stamps(bag: Path, tmp_path: Path) -> None:
    written = write_results(bag, str(bag), tmp_path / "out", "/camera/ground_truth")
    assert (written.file, written.frames, written.answered) == (tmp_path / "out/trip-camera.txt", 4, 3)
    for found, frame in zip(read_mot(written.file, 4), Trip(), strict=True):
        labels = frame.labels
        assert found.ids.tolist() == ([] if labels is None else labels.ids.tolist())
        if labels is not None:
            np.testing.assert_allclose(found.xyxy, labels.xyxy, atol=1e-3)
            np.testing.assert_allclose(found.scores, labels.visible, atol=1e-4)


def renamed_run(folder: Path, spoil: bool = False) -> Path:
    """A bag of the truth as results, its ids 4 and 9 as texts; of the third image one box may have no numbers."""
    with Writer(folder, version=9) as writer:
        topics = _Topics(writer)
        for k, frame in enumerate(Trip()):
            labels = Labels.empty() if frame.labels is None else frame.labels
            message = detections_2d(labels, Trip.class_names, frame.time_ns, "camera")
            for detection in message.detections:
                detection.id = f"{detection.id}-8c3f-uuid"
            if spoil and k == 2:
                message.detections[0].bbox.center.position.x = float("nan")
            if spoil and k == 3:
                message.detections[1].results[0].hypothesis.score = float("inf")
            topics.write("/tracks", frame.time_ns, message)
    return folder


def test_ids_that_are_no_numbers_are_kept_apart_and_told(bag: Path, tmp_path: Path) -> None:
    written = write_results(renamed_run(tmp_path / "run"), str(bag), tmp_path / "out")
    found = [one.ids.tolist() for one in read_mot(written.file, 4)]
    told = [json.loads(line) for line in (tmp_path / "out/trip-camera.ids.jsonl").read_text().splitlines()]
    numbers = {entry["text"]: entry["id"] for entry in told}
    four, nine = numbers["4-8c3f-uuid"], numbers["9-8c3f-uuid"]
    assert four != nine and min(four, nine) > 0
    assert found == [[four, nine], [], [four, nine], [four, nine]]
    assert written.renamed == numbers and written.left_out == 0


def test_boxes_without_finite_numbers_are_counted_and_left_out(bag: Path, tmp_path: Path) -> None:
    written = write_results(renamed_run(tmp_path / "run", spoil=True), str(bag), tmp_path / "out")
    assert [len(one) for one in read_mot(written.file, 4)] == [2, 0, 1, 1] and written.left_out == 2
    done = CliRunner().invoke(app, ["results", str(tmp_path / "run"), str(bag), "--out", str(tmp_path / "again")])
    assert "left out 2 detections" in done.output and "numbered in" in done.output


def test_ids_of_a_truth_that_are_no_numbers_are_kept_apart(tmp_path: Path) -> None:
    with Writer(tmp_path / "run", version=9) as writer:
        topics = _Topics(writer)
        for step in bag_messages({"camera": Trip()}, BagOptions(truth=True)):
            for topic, time_ns, message in step:
                for detection in getattr(message, "detections", ()):
                    detection.id = f"{detection.id}-8c3f-uuid"
                topics.write(topic, time_ns, message)
    frames = [frame for frame in open_source(str(tmp_path / "run")) if frame.labels is not None]
    ids = {tuple(frame.labels.ids.tolist()) for frame in frames}
    assert len(ids) == 1 and len(set(next(iter(ids)))) == 2 and min(next(iter(ids))) > 0
    assert all(frame.boxes3d is not None and len(frame.boxes3d) == 2 for frame in frames)


def test_tracks_in_space_come_back_as_a_submission(data_root: Path, tmp_path: Path) -> None:
    source = f"{data_root / 'nuscenes'}?scene=scene-0103&camera=CAM_FRONT"
    scene = open_source(source)
    write_bag({"front": scene}, tmp_path / "scene", BagOptions(quality=50, truth=True))
    written = write_results(tmp_path / "scene", source, tmp_path / "out", "/front/ground_truth_3d")
    assert written.file.name == "scene-0103-CAM_FRONT.json" and written.answered == 40
    submitted = read_submission(written.file)
    for (token, _), truth in zip(scene.keys(), truth_of(scene), strict=True):  # type: ignore[attr-defined]
        found, boxes = submitted[token], truth.boxes3d
        order = np.argsort(boxes.centre[:, 0]), np.argsort(found.boxes.centre[:, 0])
        np.testing.assert_allclose(found.boxes.centre[order[1]], boxes.centre[order[0]], atol=1e-4)
        np.testing.assert_allclose(found.boxes.size[order[1]], boxes.size[order[0]], atol=1e-4)
        turn = found.boxes.yaw[order[1]] - boxes.yaw[order[0]]
        np.testing.assert_allclose(np.cos(turn), 1, atol=1e-6)


def test_recorded_velocities_are_submitted(data_root: Path, tmp_path: Path) -> None:
    """Those of the same stamp and id; an id or a stamp without one has none."""
    source = f"{data_root / 'nuscenes'}?scene=scene-0103&camera=CAM_FRONT"
    scene = open_source(source)
    truths = list(truth_of(scene))
    with Writer(tmp_path / "run", version=9) as writer:
        topics = _Topics(writer)
        for k, truth in enumerate(truths):
            message = detections_3d(truth.labels, truth.boxes3d, scene.class_names, truth.time_ns, "map")
            topics.write("/camera/pkf_filter/tracks", truth.time_ns, message)
            if k != 1:
                message = trajectories(truth.time_ns, truth.labels.ids[1:], truth.boxes3d.velocity[1:])
                topics.write("/camera/pkf_filter/trajectories", truth.time_ns, message)
    written = write_results(tmp_path / "run", source, tmp_path / "out")
    submitted = read_submission(written.file)
    moving = 0
    for k, ((token, _), truth) in enumerate(zip(scene.keys(), truths, strict=True)):  # type: ignore[attr-defined]
        found = submitted[token]
        rows = {identity: row for row, identity in enumerate(found.ids.tolist())}
        for row, identity in enumerate(truth.labels.ids.astype(np.str_).tolist()):
            if identity in rows:
                expected = np.zeros(2) if k == 1 or row == 0 else np.nan_to_num(truth.boxes3d.velocity[row, :2])
                np.testing.assert_allclose(found.boxes.velocity[rows[identity], :2], expected, atol=1e-4)
                moving += bool(expected.any())
    assert moving > 10


def trajectories(time_ns: int, ids: Integers, velocities: Floats) -> Any:
    """What pkf_filter publishes: a point of the past, the present, and a point of the future."""
    nothing = types.vector(np.zeros(3))
    points = []
    for seconds in (-1, 0, 1):
        linear = velocities if seconds == 0 else np.full_like(velocities, 99)
        twists = [types.message("geometry_msgs/msg/Twist", linear=types.vector(v), angular=nothing) for v in linear]
        points.append(
            types.message(
                "trajectory_msgs/msg/MultiDOFJointTrajectoryPoint", transforms=[], velocities=twists, accelerations=[],
                time_from_start=types.message("builtin_interfaces/msg/Duration", sec=seconds, nanosec=0),
            )
        )  # fmt: skip
    names = ids.astype(np.str_).tolist()
    return types.message(types.TRAJECTORIES, header=types.header(time_ns, "map"), joint_names=names, points=points)


def test_tracks_in_space_come_back_as_kittis_text(kitti_copy: Path, tmp_path: Path) -> None:
    source = f"{kitti_copy}?sequence=0001"
    sequence = open_source(source)
    write_bag({"camera": sequence}, tmp_path / "run", BagOptions(quality=50, truth=True))
    written = write_results(tmp_path / "run", source, tmp_path / "out", "/camera/ground_truth_3d")
    assert written.file == tmp_path / "out/0001.txt"
    found, truth = read_objects(written.file), read_objects(kitti_copy / "label_02/0001.txt")
    truth = truth[truth.kinds != "DontCare"]
    by_key = {(f, i): row for row, (f, i) in enumerate(zip(truth.frames.tolist(), truth.ids.tolist(), strict=True))}
    rows = [by_key[key] for key in zip(found.frames.tolist(), found.ids.tolist(), strict=True)]
    assert len(rows) > 0.9 * len(truth) and (found.kinds == truth.kinds[rows]).all()
    np.testing.assert_allclose(found.boxes.centre, truth.boxes.centre[rows], atol=1e-3)
    np.testing.assert_allclose(np.cos(found.boxes.yaw - truth.boxes.yaw[rows]), 1, atol=1e-3)
    whole = truth.truncation[rows] == 0
    assert np.median(np.abs(found.xyxy - truth.xyxy[rows])[whole]) < 5  # pixels; labelled boxes lie closer


def test_tracks_in_space_of_any_calibrated_recording_are_seen_from_its_camera(bag: Path, tmp_path: Path) -> None:
    written = write_results(bag, str(bag), tmp_path / "out", "/camera/ground_truth_3d")
    found = read_objects(written.file)
    assert found.frames.tolist() == [0, 0, 2, 2, 3, 3] and found.kinds.tolist() == ["Person", "Car"] * 3
    for row, frame in enumerate(f for f in Trip() if f.boxes3d is not None):
        place = frame.camera_pose @ TO_VEHICLE.inverse()
        np.testing.assert_allclose(
            place.apply(found.boxes.centre[2 * row : 2 * row + 2]), frame.boxes3d.centre, atol=1e-3
        )


def test_what_a_recording_that_breaks_off_has_answered_is_kept(data_root: Path, tmp_path: Path) -> None:
    frames = list(Trip(count=40))
    with Writer(tmp_path / "run", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = _Topics(writer)
        for frame in frames:
            topics.write("/camera/image", frame.time_ns, raw(frame, "camera"))
    source = str(tmp_path / "run")
    with Writer(tmp_path / "results", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = _Topics(writer)
        for frame in frames:
            labels = Labels.empty() if frame.labels is None else frame.labels
            message = detections_2d(labels, Trip.class_names, frame.time_ns, "camera")
            topics.write("/tracks", frame.time_ns, message)
            topics.write(
                "/other/image", frame.time_ns, raw(replace(frame, image=np.zeros((300, 300, 3), np.uint8)), "")
            )
    file = tmp_path / "results/results.mcap"
    file.write_bytes(file.read_bytes()[: int(0.7 * file.stat().st_size)])
    with pytest.raises(DataError, match=r"breaks off after .*; .*run-camera\.txt holds what came before it"):
        write_results(tmp_path / "results", source, tmp_path / "out")
    answered = [len(found) for found in read_mot(tmp_path / "out/run-camera.txt", 40)]
    assert answered[:3] == [2, 0, 2] and 10 < sum(count > 0 for count in answered) < 30


def test_tracks_in_the_cameras_frame_are_no_submission(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camtrack.bags.write.FIXED_FRAME", "camera")
    source = f"{data_root / 'nuscenes'}?scene=scene-0103&camera=CAM_FRONT"
    write_bag({"front": open_source(source)}, tmp_path / "scene", BagOptions(quality=50, truth=True))
    with pytest.raises(DataError, match="expected tracks in the frame map, got them in camera"):
        write_results(tmp_path / "scene", source, tmp_path / "out", "/front/ground_truth_3d")


def test_what_does_not_fit_is_a_sentence(bag: Path, tmp_path: Path) -> None:
    unplaced = tmp_path / "unplaced"
    with Writer(unplaced, version=9) as writer:
        topics = _Topics(writer)
        for frame in Trip():
            topics.write("/camera/image", frame.time_ns, raw(frame, "camera"))
    with pytest.raises(
        DataError, match="one topic of results beside the truth; name it with --topic, found /camera/ground_truth, "
    ):
        write_results(bag, str(bag), tmp_path / "out")
    with pytest.raises(DataError, match="expected results on /nobody, found"):
        write_results(bag, str(bag), tmp_path / "out", "/nobody")
    with pytest.raises(DataError, match="expected a recording that tells where its camera was"):
        write_results(bag, str(unplaced), tmp_path / "out", "/camera/ground_truth_3d")
    write_bag({"camera": Trip(delay_ns=7)}, tmp_path / "late", BagOptions(quality=90))
    with pytest.raises(DataError, match=r"no result for a frame of .*late: it begins at 1\.000 s"):
        write_results(bag, str(tmp_path / "late"), tmp_path / "out", "/camera/ground_truth")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_results(bag, str(bag), tmp_path / "file", "/camera/ground_truth")
