"""Clips of real recordings: labels land where the pictures show the objects, velocities and heights are right."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.datasets.kitti.sequences import KittiSequence
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.nuscenes import devkit as nuscenes_devkit
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.geometry.ground import height_over_ground
from camtrack_core.labelling.teacher import COCO_VEHICLES, Yolox
from camtrack_core.training.augmentation import View
from time3d_tracker import clips, level, targets
from time3d_tracker.config import ATTRIBUTES, NetworkConfig, TrainingConfig
from time3d_tracker.loader import ClipSamples

CONFIG = NetworkConfig(backbone="yolox_nano", stride=8, height=320, width=576, slots=16, embedding=16,
                       attention_heads=2)  # fmt: skip
KITTI_FRAMES = (10, 15, 20)  # those of sequence 0001 whose images are at hand


@pytest.fixture(scope="module")
def street(data_root: Path) -> clips.Clip:
    """Scene 0103 of nuScenes."""
    folder = data_root / "nuscenes"
    if not folder.is_dir():
        pytest.skip(f"no nuScenes: {folder} is missing")
    return clips.from_sequence(open_source(f"{folder}?scene=scene-0103&camera=CAM_FRONT"), CONFIG.class_names)


@pytest.fixture(scope="module")
def suburb(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> clips.Clip:
    """Three frames of KITTI's sequence 0001, as a sequence of three."""
    real, root = data_root / "kitti_tracking", tmp_path_factory.mktemp("kitti")
    if not (real / "image_02" / "0001").is_dir():
        pytest.skip(f"no KITTI tracking images: {real / 'image_02' / '0001'} is missing")
    for folder in ("image_02/0001", "label_02", "poses", "calib"):
        (root / folder).mkdir(parents=True)
    os.symlink(real / "calib" / "0001.txt", root / "calib" / "0001.txt")
    poses = (real / "poses" / "0001.txt").read_text().splitlines()
    rows = [line.split(" ", 1) for line in (real / "label_02" / "0001.txt").read_text().splitlines()]
    labels = []
    for number, frame in enumerate(KITTI_FRAMES):
        os.symlink(real / "image_02" / "0001" / f"{frame:06d}.jpg", root / "image_02" / "0001" / f"{number:06d}.jpg")
        labels += [f"{number} {rest}" for own, rest in rows if int(own) == frame]
    (root / "label_02" / "0001.txt").write_text("\n".join(labels))
    (root / "poses" / "0001.txt").write_text("\n".join(poses[frame] for frame in KITTI_FRAMES))
    return clips.from_sequence(KittiSequence(root, "0001"), CONFIG.class_names)


def hulls(clip: clips.Clip, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) boxes around the projected corners, clipped to the picture, and which lie wholly ahead (N,)."""
    height, width = clip.image(index).shape[:2]
    pose, boxes, whole = clip.poses[index], clip.boxes[index], View(1.0, np.zeros(2), False, width, height)
    projection = targets.view_projection(whole, clip.intrinsics[index], pose)
    centre, yaw, _, _ = targets.view_boxes(whole, boxes, level.level_pose(pose))
    image = level.corners(centre, boxes.size, yaw) @ projection.T
    ahead = (image[..., 2] > 0.5).all(1)
    pixels = image[..., :2] / np.maximum(image[..., 2:], 0.5)
    found = np.concatenate([pixels.min(1), pixels.max(1)], 1)
    return np.clip(found, 0, [width, height, width, height]), ahead


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of the same rows."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), 1)
    areas = sum(np.prod(x[:, 2:] - x[:, :2], 1) for x in (a, b))
    return shared / (areas - shared)


def test_what_a_data_set_says_of_motion_is_taken(data_root: Path) -> None:
    """The first object of each frame is said to be parked, of the others nothing is said."""
    names = ["vehicle.moving", "pedestrian.sitting_lying_down", "cycle.with_rider", ""]
    moving, stopped = (ATTRIBUTES.index(name) for name in ("moving", "stopped"))
    assert clips.stated_motions(names).tolist() == [moving, stopped, -1, -1]
    real = open_source(f"{data_root / 'nuscenes'}?scene=scene-0103&camera=CAM_FRONT")

    class Said:
        name, class_names = real.name, real.class_names

        def __iter__(self) -> Iterator[Frame]:
            for frame in islice(real, 3):
                names = np.array(["vehicle.parked", *[""] * (len(frame.labels) - 1)])
                yield replace(frame, attributes=names)

    said = clips.from_sequence(Said(), CONFIG.class_names)  # type: ignore[arg-type]
    silent = clips.motion_attributes(said.labels, said.boxes, CONFIG.class_names)
    for stated, derived in zip(said.attributes, silent, strict=True):
        assert ATTRIBUTES[stated[0]] == "parked" and stated[1:].tolist() == derived[1:].tolist()


DEVKIT = """
import json, sys
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.geometry_utils import BoxVisibility, view_points
tables = NuScenes("v1.0-mini", sys.argv[1], verbose=False)
frames = {}
for record in tables.sample_data:
    if record["is_key_frame"] and record["channel"] == "CAM_FRONT":
        _, boxes, intrinsics = tables.get_sample_data(record["token"], box_vis_level=BoxVisibility.NONE)
        pixels = (view_points(box.corners(), intrinsics, normalize=True)[:2] for box in boxes)
        frames[record["timestamp"] * 1000] = [[*p.min(1), *p.max(1)] for p in pixels]
json.dump(frames, sys.stdout)
"""


def devkit() -> Path:
    """The Python of nuScenes' official devkit, where there is one: a test installs nothing."""
    python = Path(os.environ.get(nuscenes_devkit.VARIABLE) or nuscenes_devkit.environment_folder() / "bin" / "python")
    if not python.is_file():
        pytest.skip(f"no nuscenes-devkit: {python} is missing; set {nuscenes_devkit.VARIABLE}")
    return python


def test_nuscenes_boxes_lie_where_the_official_devkit_projects_them(street: clips.Clip, data_root: Path) -> None:
    command = [str(devkit()), "-c", DEVKIT, str(data_root / "nuscenes")]
    official = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert set(official) == {str(time) for time in street.times}
    count = 0
    for index, time in enumerate(street.times):
        height, width = street.image(index).shape[:2]
        theirs = np.clip(np.array(official[str(time)]), 0, [width, height, width, height])
        ours, ahead = hulls(street, index)
        for box in ours[ahead]:
            assert np.abs(theirs - box).max(1).min() < 0.01  # pixels
        count += ahead.sum()
    assert count > 300


def test_nuscenes_boxes_land_on_the_vehicles_of_the_picture(street: clips.Clip, data_root: Path) -> None:
    """A detector that knows no calibration sees them there, and nowhere else."""
    path = data_root / "teacher" / "yolox_nano.onnx"
    if not path.is_file():
        pytest.skip(f"no detector: {path} is missing")
    detect = Yolox(path)
    there, beside = [], []
    for index in range(0, len(street), 4):
        found, _ = hulls(street, index)
        seen = detect(street.image(index))
        sure = seen.xyxy[np.isin(seen.class_ids, COCO_VEHICLES) & (seen.scores > 0.6)]
        for shift, best in ((0, there), (30, beside)):  # pixels
            moved = found + [shift, 0, shift, 0]
            best += [overlap(moved, np.broadcast_to(box, moved.shape)).max() for box in sure]
    assert len(there) > 25
    assert np.median(there) > 0.65 and np.mean(np.array(there) > 0.5) > 0.7
    assert np.median(beside) < 0.5


def test_kitti_boxes_land_on_their_labels(suburb: clips.Clip) -> None:
    """The 2D labels are drawn by hand: cars wholly inside the picture agree well, none is anywhere else."""
    scores = []
    for index in range(3):
        found, ahead = hulls(suburb, index)
        drawn = suburb.labels[index].xyxy
        seen = ahead & (suburb.labels[index].visible >= 0.5)
        scores.append(overlap(found, drawn)[seen])
    every = np.concatenate(scores)
    assert len(every) >= 10
    assert all((known.class_ids >= 0).any() for known in suburb.labels)
    assert every.min() > 0.6 and every.mean() > 0.8


def test_heights_over_ground(street: clips.Clip, suburb: clips.Clip) -> None:
    """nuScenes' vehicle frame lies on the road, KITTI's in the camera, whose height KITTI states."""
    assert street.heights == pytest.approx(np.full(40, 1.51), abs=0.15)
    assert suburb.heights.tolist() == [1.65] * 3
    camera = Pose(OPTICAL_IN_VEHICLE, np.array([0.3, 0, 0.2]))
    assert height_over_ground(camera, Pose(np.eye(3), np.zeros(3))) == 0  # no vehicle frame on the ground
    assert height_over_ground(camera, None) == 0
    assert height_over_ground(camera, Pose(np.eye(3), np.array([0, 0, -1.3]))) == pytest.approx(1.5)
    assert level.camera_height(Frame(0, np.zeros((2, 2, 3), np.uint8))) == 0


@pytest.mark.parametrize("name", ["street", "suburb"])
def test_objects_stand_on_the_ground_of_that_height(name: str, request: pytest.FixtureRequest) -> None:
    clip: clips.Clip = request.getfixturevalue(name)
    below = []
    for index, (boxes, pose) in enumerate(zip(clip.boxes, clip.poses, strict=True)):
        centre, _, _ = level.to_level(boxes, level.level_pose(pose))
        near = (np.linalg.norm(centre, axis=1) < 15) & np.isin(clip.labels[index].class_ids, [0, 1, 2])
        below.append((centre[:, 1] + boxes.size[:, 2] / 2)[near] - clip.heights[index])
    every = np.concatenate(below)
    assert len(every) >= 3
    assert abs(np.median(every)) < 0.5  # metres: roads are not flat, the camera is about where it is said to be


def track(ways: list[list[tuple[int, float, float]]]) -> tuple[list[Labels], list[Boxes3D]]:
    """Frames of (id, x, known speed or NaN)."""
    labels, boxes = [], []
    for rows in ways:
        n = len(rows)
        ids = np.array([r[0] for r in rows], np.int64)
        labels.append(Labels(ids, np.zeros((n, 4)), np.zeros(n, np.int64), np.ones(n)))
        centre = np.array([[r[1], 0, 0] for r in rows]).reshape(-1, 3)
        boxes.append(Boxes3D(centre, np.ones((n, 3)), np.zeros(n), np.array([[r[2], 0, 0] for r in rows])))
    return labels, boxes


def test_unknown_velocities_come_from_the_objects_own_way() -> None:
    nan = np.nan
    labels, boxes = track([
        [(1, 0.0, nan), (2, 5.0, nan), (3, 1.0, 7.0)],
        [(1, 0.8, nan), (3, 2.0, nan)],
        [(1, 2.4, nan)],
        [(1, 9.0, nan)],
    ])  # fmt: skip
    times = np.array([0, 200, 400, 2400]) * 1_000_000
    found = clips.with_velocities(times, labels, boxes)
    assert found[0].velocity[:, 0] == pytest.approx([6.0, nan, 7.0], nan_ok=True)  # 2.4 m in 0.4 s; one sight; given
    assert found[1].velocity[:, 0] == pytest.approx([6.0, 5.0])
    assert found[3].velocity[:, 0] == pytest.approx([nan], nan_ok=True)  # nothing else within reach
    assert np.isnan(boxes[0].velocity[0, 0])  # what was given stays as it is


def test_kitti_velocities_and_attributes(data_root: Path) -> None:
    """Sequence 0001: the camera drives past parked cars at 13 m/s; those almost stand still in the fixed frame, whose
    estimated poses are 3 per cent too short."""
    real = data_root / "kitti_tracking"
    if not (real / "poses" / "0001.txt").is_file():
        pytest.skip(f"no KITTI tracking poses in {real}")
    truth = list(KittiSequence(real, "0001").truth())[:120]
    labels = [t.labels for t in truth if t.labels is not None]
    boxes = [t.boxes3d for t in truth if t.boxes3d is not None]
    found = clips.with_velocities(np.array([t.time_ns for t in truth]), labels, boxes)
    speeds = np.concatenate([np.linalg.norm(b.velocity, axis=1) for b in found])
    assert np.isfinite(speeds).mean() > 0.95
    assert np.nanmedian(speeds) < 1.0 and np.nanmax(speeds) < 30
    names = tuple(name.lower() for name in KittiSequence.class_names)
    attributes = np.concatenate(clips.motion_attributes(labels, found, names))
    moving = attributes == ATTRIBUTES.index("moving")
    np.testing.assert_array_equal(moving, np.nan_to_num(speeds) > clips.MOVING_SPEED)
    assert moving[speeds > 2].all() and not moving[speeds < 0.2].any()


class Pictures:
    """Two labelled pictures of a camera that nobody knows, with boxes in space or without."""

    name, class_names = "pictures", ("person",)

    def __init__(self, boxes: Boxes3D | None) -> None:
        self.boxes = boxes

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Frame]:
        for number in range(len(self)):
            known = Labels(np.array([number]), np.array([[10.0, 20, 40, 90]]), np.array([0]), np.ones(1))
            yield Frame(number, np.zeros((1200, 2560, 3), np.uint8), known, boxes3d=self.boxes)


def test_labels_in_the_image_alone_need_no_camera(tmp_path: Path) -> None:
    """A lens 60 degrees wide is assumed, of the stored picture of half the size; places stay unknown."""
    clips.save(clips.from_sequence(Pictures(None), CONFIG.class_names), tmp_path / "one.npz")
    clip = clips.load(tmp_path / "one.npz")
    assert clip.image(1).shape[:2] == (600, 1280)
    focal = 640 / np.tan(np.radians(30))
    np.testing.assert_allclose(clip.intrinsics[1], [[focal, 0, 640], [0, focal, 300], [0, 0, 1]])
    assert clip.labels[1].xyxy.tolist() == [[5, 10, 20, 45]]
    assert clip.labels[1].class_ids.tolist() == [CONFIG.class_names.index("pedestrian")]
    assert clip.heights.tolist() == [0, 0] and np.isnan(clip.boxes[1].centre).all()


def test_boxes_in_space_without_a_camera_are_no_labels() -> None:
    with pytest.raises(DataError, match="pictures: expected frames labelled in the image alone"):
        clips.from_sequence(Pictures(clips.unknown_boxes(1)), CONFIG.class_names)


def test_data_sets_names_of_classes() -> None:
    names = ("car", "truck", "pedestrian", "cyclist")
    known = {"Car": 0, "Van": 0, "Truck": 1, "Pedestrian": 2, "Person": 2, "Cyclist": 3, "bicycle": 3, "rider": 3}
    unknown = dict.fromkeys(("Tram", "Misc", "motorcycle", "traffic_cone", "trailer"), -1)
    for name, index in (known | unknown).items():
        assert clips.class_index(name, names) == index, name
    assert clips.class_index("van", ("car", "van")) == 1  # its own name goes first


def test_samples_of_real_recordings(street: clips.Clip, suburb: clips.Clip) -> None:
    """Whole, finite, and motion is asked only of objects whose velocity is known."""
    samples = ClipSamples([street, suburb], np.ones(2), CONFIG, TrainingConfig(max_gap=1, seed=3, groundless=0))
    known, unknown = 0, 0
    for index in range(12):
        sample = samples[index]
        assert all(np.isfinite(v).all() for v in sample.values())
        assert (sample["camera_height"] > 1).all()
        present = sample["ids"] >= 0
        assert not (sample["velocity"][~sample["motion_known"]]).any()
        known += (present & sample["motion_known"]).sum()
        unknown += (present & ~sample["motion_known"]).sum()
    assert known > 50
    lost = sum(np.isnan(b.velocity).any(1).sum() for b in (*street.boxes, *suburb.boxes))
    assert (unknown > 0) <= (lost > 0)


def test_attributes_of_a_real_street(street: clips.Clip) -> None:
    """Vehicles that never move are parked; people walk or stand."""
    names = np.array([*CONFIG.class_names, "other"])
    said = {(names[c], ATTRIBUTES[a]) for known, row in zip(street.labels, street.attributes, strict=True)
            for c, a in zip(known.class_ids, row, strict=True)}  # fmt: skip
    assert ("car", "parked") in said and ("car", "moving") in said and ("pedestrian", "moving") in said
    assert ("pedestrian", "parked") not in said
