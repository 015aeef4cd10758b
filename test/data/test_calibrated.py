"""Recordings of one's own come in for replay, bags, training and evaluation; what cannot be is told."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command_helpers import camtrack

from camtrack_core.datasets.calibrated import CalibratedSequence
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import list_sources, open_source
from camtrack_core.errors import DataError
from camtrack_core.geometry.camera import Pose
from gcnet_tracker import clips as image_clips
from time3d_tracker import clips
from time3d_tracker.level import camera_height

DRIVE = "drive:9000?frames=4&frame_rate=5&camera=vehicle&density=3&width=480&height=272"
ONE = {
    "cameras": {"front": {"width": 48, "height": 32, "fx": 40.0, "fy": 41.0, "cx": 24.0, "cy": 16.0}},
    "images": [
        {
            "camera": "front", "file": "a.png", "time_ns": 5,
            "pose": {"translation": [1, 2, 3], "rotation": [0.5, -0.5, 0.5, -0.5]},
            "objects": [{"id": 3, "class": "car", "box": [1, 2, 30, 40]}],
        }
    ],
}  # fmt: skip


def quaternion(rotation: np.ndarray) -> list[float]:
    """w, x, y, z: the eigenvector that a rotation's quaternion is of its symmetric matrix."""
    m = rotation
    matrix = np.array([
        [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
        [0, m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
        [0, 0, m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1]],
        [0, 0, 0, m[2, 2] - m[0, 0] - m[1, 1]],
    ])  # fmt: skip
    return np.linalg.eigh(matrix, UPLO="U")[1][:, -1].tolist()


def stated(frames: list[Frame], class_names: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """A drive's frames as a user would write them down; images are written beside."""
    camera, images = frames[0].camera, []
    assert camera is not None
    k = camera.intrinsics
    for number, frame in enumerate(frames):
        labels, boxes, pose = frame.labels, frame.boxes3d, frame.camera_pose
        assert labels is not None and boxes is not None and pose is not None
        cv2.imwrite(str(folder / f"{number}.png"), frame.image)
        objects = [
            {
                "id": int(labels.ids[i]), "class": class_names[labels.class_ids[i]], "box": labels.xyxy[i].tolist(),
                "visible": float(labels.visible[i]),
                "space": {"centre": boxes.centre[i].tolist(), "size": boxes.size[i].tolist(),
                          "yaw": float(boxes.yaw[i]), "velocity": boxes.velocity[i].tolist()},
            }
            for i in range(len(boxes))
        ]  # fmt: skip
        where = {"translation": pose.translation.tolist(), "rotation": quaternion(pose.rotation)}
        images.append(
            {"camera": "front", "file": f"{number}.png", "time_ns": frame.time_ns, "pose": where, "objects": objects}
        )
    front = {"width": camera.width, "height": camera.height, "fx": k[0, 0], "fy": k[1, 1], "cx": k[0, 2],
             "cy": k[1, 2], "over_ground": camera_height(frames[0])}  # fmt: skip
    return {"cameras": {"front": front}, "classes": list(class_names), "images": images}


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Frame], Path]:
    """Frames of a drive, and the folder that says the same."""
    folder = tmp_path_factory.mktemp("mine") / "monday"
    folder.mkdir()
    source = open_source(DRIVE)
    frames = list(source)
    (folder / "recording.json").write_text(json.dumps(stated(frames, source.class_names, folder)))
    return frames, folder


def test_what_is_written_comes_in(drive) -> None:
    frames, folder = drive
    assert list_sources(str(folder)) == [f"{folder}?camera=front"]
    found = open_source(str(folder))
    assert found.name == "monday-front" and len(found) == len(frames)
    for a, b in zip(frames, found, strict=True):
        assert b.time_ns == a.time_ns and (b.image == a.image).all()
        np.testing.assert_allclose(b.camera.intrinsics, a.camera.intrinsics)
        np.testing.assert_allclose(b.camera_pose.rotation, a.camera_pose.rotation, atol=1e-9)
        np.testing.assert_allclose(b.boxes3d.corners(), a.boxes3d.corners(), atol=1e-9)
        np.testing.assert_allclose(b.boxes3d.velocity, a.boxes3d.velocity)
        np.testing.assert_allclose(b.labels.xyxy, a.labels.xyxy)
        assert b.labels.ids.tolist() == a.labels.ids.tolist()
        assert b.labels.class_ids.tolist() == a.labels.class_ids.tolist()
        assert camera_height(b) == pytest.approx(camera_height(a), abs=0.02)
        assert b.ego_pose.translation[2] == pytest.approx(0.0, abs=0.02)  # the vehicle's frame lies on the ground
        np.testing.assert_allclose(b.ego_pose.rotation[:, 2], [0, 0, 1])


def test_training_gets_the_same_clip(drive) -> None:
    frames, folder = drive
    names = ("car", "truck", "bus", "pedestrian", "cyclist")
    mine = clips.from_sequence(open_source(str(folder)), names)
    own = clips.from_sequence(open_source(DRIVE), names)
    assert len(mine) == len(frames)
    for a, b in zip(own.labels, mine.labels, strict=True):
        assert a.class_ids.tolist() == b.class_ids.tolist()
    for a, b in zip(own.boxes, mine.boxes, strict=True):
        np.testing.assert_allclose(a.centre, b.centre, atol=1e-9)
    assert mine.heights == pytest.approx(own.heights, abs=0.02)


def test_training_in_the_image_gets_the_same_clip(drive) -> None:
    _, folder = drive
    names = ("car", "truck", "bus", "pedestrian", "cyclist")
    mine, own = (image_clips.from_sequence(open_source(name), names) for name in (str(folder), DRIVE))
    for a, b, index in zip(own.labels, mine.labels, range(len(own)), strict=True):
        np.testing.assert_array_equal(own.image(index), mine.image(index))
        np.testing.assert_allclose(a.xyxy, b.xyxy)
        assert a.class_ids.tolist() == b.class_ids.tolist()


def test_its_tracks_are_scored_as_those_of_the_drive(drive, tmp_path: Path) -> None:
    """GCNet's boxes on the ground, seen from the camera: the same files, the same truth, the same figures."""
    _, folder = drive
    scores = []
    for name, source in (("mine", str(folder)), ("own", DRIVE)):
        done = camtrack("track", source, "--method", "ground", "--out", str(tmp_path / name), "--precision", "f32")
        assert done.returncode == 0, done.stderr
        said = camtrack("evaluate", str(tmp_path / name), "--truth", source, "--view", "--json")
        assert said.returncode == 0, said.stderr
        scores.append(json.loads(said.stdout))
    mine, own = (score["vehicle"]["scores"] for score in scores)
    assert mine["ap2d"] > 0.2 and mine["ap"][3] > 0.2
    assert mine["asked"] == own["asked"] and mine["ap2d"] == pytest.approx(own["ap2d"], abs=1e-6)
    assert mine["ap"] == pytest.approx(own["ap"], abs=0.02)  # the height is that of the frame's own ground there


def test_a_bag_of_it_holds_images_poses_and_truth(drive, tmp_path: Path) -> None:
    frames, folder = drive
    done = camtrack("bag", str(folder), str(tmp_path / "bag"), "--truth")
    assert done.returncode == 0, done.stderr
    played = list(open_source(str(tmp_path / "bag")))
    assert len(played) == len(frames)
    for a, b in zip(frames, played, strict=True):
        np.testing.assert_allclose(b.camera_pose.translation, a.camera_pose.translation, atol=1e-6)
        np.testing.assert_allclose(np.sort(b.boxes3d.centre[:, 0]), np.sort(a.boxes3d.centre[:, 0]), atol=1e-6)


def test_its_truth_needs_no_images(drive, tmp_path: Path) -> None:
    _, folder = drive
    (tmp_path / "recording.json").write_text((folder / "recording.json").read_text())
    truth = list(CalibratedSequence(tmp_path, "front").truth())
    assert len(truth) == 4 and all(one.boxes3d is not None and one.distances is not None for one in truth)
    with pytest.raises(DataError, match=r"0\.png"):
        list(CalibratedSequence(tmp_path, "front"))


def test_a_box_in_the_image_follows_from_the_one_in_space(drive, tmp_path: Path) -> None:
    frames, folder = drive
    data = json.loads((folder / "recording.json").read_text())
    for image in data["images"]:
        for thing in image["objects"]:
            del thing["box"]
    (tmp_path / "recording.json").write_text(json.dumps(data))
    for frame, one in zip(frames, CalibratedSequence(tmp_path, "front").truth(), strict=True):
        clear = frame.labels.visible > 0.9
        assert clear.any()
        # The hull of a box is a little larger than its object's picture.
        assert np.median(np.abs(one.labels.xyxy - frame.labels.xyxy)[clear]) < 4


def write(folder: Path, data: Any) -> Path:
    (folder / "recording.json").write_text(json.dumps(data))
    return folder


def test_labels_in_the_image_alone_and_unlabelled_images_are_what_they_are(tmp_path: Path) -> None:
    data = deepcopy(ONE)
    data["images"].append({"camera": "front", "file": "b.png", "time_ns": 9})  # type: ignore[attr-defined]
    labelled, unlabelled = CalibratedSequence(write(tmp_path, data), "front").truth()
    assert labelled.boxes3d is None and labelled.labels.xyxy.tolist() == [[1, 2, 30, 32]]  # cut at the image's edge
    assert labelled.camera_pose.apply(np.array([0.0, 0, 10])) == pytest.approx([11, 2, 3])  # ten metres ahead
    assert unlabelled.labels is None and unlabelled.camera_pose is None
    assert isinstance(labelled.camera_pose, Pose)


BOX = {"centre": [9, 0, 1], "size": [4, 2, 1.5], "yaw": 0}
WRONG = {
    "an unknown entry": (("images", 0, "tiem"), 3, "images.0.tiem: Extra inputs"),
    "a missing focal length": (("cameras", "front", "fx"), None, "cameras.front.fx"),
    "no number": (("images", 0, "objects", 0, "box"), [1, 2, float("nan"), 4], "box"),
    "an unknown camera": (("images", 0, "camera"), "rear", "expected one of the cameras front, got 'rear'"),
    "an unknown class": (("classes",), ["bus"], "expected one of the classes bus, got 'car'"),
    "a turn that is none": (("images", 0, "pose", "rotation"), [1, 1, 0, 0], "expected a unit quaternion"),
    "no box at all": (("images", 0, "objects", 0, "box"), None, "expected a box in the image or in space"),
    "a flat box": (("images", 0, "objects", 0, "space"), {**BOX, "size": [4, 0, 1]}, "expected positive sizes"),
    "two of one id": (("images", 0, "objects"), 2 * ONE["images"][0]["objects"], "expected every id once"),  # type: ignore[index]
    "two at one time": (("images",), 2 * ONE["images"], "at a time of its own"),  # type: ignore[operator]
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_told_in_a_sentence(what: str, tmp_path: Path) -> None:
    (*way, last), value, sentence = WRONG[what]
    data: Any = deepcopy(ONE)
    place = data
    for step in way:
        place = place[step]
    place[last] = value
    with pytest.raises(DataError) as told:
        open_source(str(write(tmp_path, data)))
    assert sentence in str(told.value)
