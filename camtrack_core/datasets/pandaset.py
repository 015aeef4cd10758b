"""PandaSet: one camera of one sequence, in the layout that a conversion to JSON gives.

    labels.json  images/back_camera/00.jpg  lidar_depth_cm.npz

labels.json holds the calibration of each camera and, for each image, its stamp, the camera's pose in the fixed frame
(z up) and the objects in coordinates of the camera with their 2D boxes, which are hulls of the boxes in space.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from camtrack_core.datasets.frames import Attempted, Frame, Labels, Truth, attempt
from camtrack_core.datasets.nuscenes import rotation_matrix
from camtrack_core.datasets.video import read_image
from camtrack_core.errors import DataError
from camtrack_core.files import below, read_json
from camtrack_core.geometry.boxes import Boxes3D, Floats, clip
from camtrack_core.geometry.camera import Camera, Pose

CLASSES = {
    "Car": "car",
    "Pickup Truck": "car",
    "Medium-sized Truck": "truck",
    "Semi-truck": "truck",
    "Bus": "bus",
    "Pedestrian": "pedestrian",
    "Pedestrian with Object": "pedestrian",
    "Bicycle": "bicycle",
    "Motorcycle": "motorcycle",
    "Towed Object": "trailer",
    "Other Vehicle - Construction Vehicle": "construction_vehicle",
}  # all else, like cones, is not labelled
CLASS_NAMES = tuple(dict.fromkeys(CLASSES.values()))
HEIGHT_REACH = (4.0, 25.0)  # metres ahead; the cars that tell where the ground is

Record = dict[str, Any]


class PandaSetSequence(Attempted):
    """One camera of the sequence in a folder, lazily.

    The data set does not state how high a camera is over the road. It follows from where cars stand: the camera's
    height over the median lower side of those from 4 to 25 metres ahead, over all images of the camera.

    Attributes:
        name: like pandaset-back_camera, or pandaset-front_camera-0-49 where frames are chosen.
        class_names: CLASS_NAMES.

    Args:
        root: holds labels.json and images.
        camera: like back_camera.
        frames: "FIRST-LAST", the frame numbers to read; empty for all.

    Raises:
        DataError: the labels are missing or broken, or hold no such images.
    """

    class_names: tuple[str, ...] = CLASS_NAMES

    def __init__(self, root: str | Path, camera: str, frames: str = "") -> None:
        self.root, self.name = Path(root), f"pandaset-{camera}{frames and '-'}{frames}"
        self._camera = camera
        labels = _read_labels(self.root / "labels.json")
        own = sorted((row for row in labels["images"] if row["camera"] == camera), key=lambda row: row["timestamp"])
        first, last = _frame_range(self.root, frames)
        self._images = [row for row in own if first <= row["frame"] <= last]
        if not self._images:
            known = ", ".join(list_cameras(self.root))
            raise DataError(f"{self.root}: expected images of {camera} ({frames or 'all'}), found those of {known}")
        with _sound(self.root):
            self._calibration = _calibration(labels["calibration"][camera])
            self._ids = _track_ids(self.root)
            self._height = _camera_height(own)

    def __len__(self) -> int:
        return len(self._images)

    def attempts(self) -> Iterator[Frame | DataError]:
        return (attempt(self._frame, row) for row in self._images)

    def _frame(self, row: Record) -> Frame:
        camera = self._calibration
        image = read_image(below(self.root / "images", row["file"]), (camera.width, camera.height))
        with _sound(self.root, row):
            labels, boxes, attributes, points = self._labelled(row)
            return Frame(_time_ns(row), image, labels, camera=camera, camera_pose=_pose(row), boxes3d=boxes,
                         camera_height=self._height, attributes=attributes, lidar_points=points)  # fmt: skip

    def truth(self) -> Iterator[Truth]:
        for number, row in enumerate(self._images, start=1):
            with _sound(self.root, row):
                labels, boxes, attributes, points = self._labelled(row)
                distances = np.linalg.norm(boxes.centre - _pose(row).translation, axis=1)
                truth = Truth(number, _time_ns(row), labels, boxes3d=boxes, distances=distances,
                              attributes=attributes, lidar_points=points, camera=self._calibration,
                              camera_pose=_pose(row))  # fmt: skip
            yield truth

    def sparse_depth(self, index: int) -> Floats:
        """What the lidar saw in image `index`: (N, 3) float, x and y in pixels and the depth in metres.

        Raises DataError where there is no lidar_depth_cm.npz.
        """
        row = self._images[index]
        path = self.root / "lidar_depth_cm.npz"
        try:
            with np.load(path) as stored:
                found = stored[row["file"].replace("/", "_").rpartition(".")[0]].astype(float)
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{path}: expected the depth of {row['file']}, got {error}") from error
        return found * [1, 1, 0.01]

    def _labelled(self, row: Record) -> tuple[Labels, Boxes3D, np.ndarray, np.ndarray]:
        """Labels, boxes in the fixed frame, motions and lidar points of the objects that have a class."""
        rows = [x for x in row["objects"] if x["class"] in CLASSES]
        size = (self._calibration.width, self._calibration.height)
        shown = 1 - np.array([x["truncation"] for x in rows], float)
        labels = Labels(
            np.array([self._ids[x["track"]] for x in rows], np.int64),
            clip(np.array([x["bbox"] for x in rows], float).reshape(-1, 4), *size),
            np.array([CLASS_NAMES.index(CLASSES[x["class"]]) for x in rows], np.int64),
            shown * (1 - np.array([x["occlusion_boxes"] for x in rows], float)),
        )
        motions = [f"vehicle.{x['motion'].lower()}" if x["motion"] else "" for x in rows]
        points = np.array([x["lidar_points"] for x in rows], np.int64)
        return labels, _boxes(rows, _pose(row)), np.array(motions, np.str_), points


def is_pandaset(path: Path) -> bool:
    """Whether a folder is of this layout."""
    return (path / "labels.json").is_file() and (path / "images" / "front_camera").is_dir()


def list_cameras(root: Path) -> list[str]:
    """Names of the cameras that have images. Raises DataError as PandaSetSequence does."""
    return sorted({row["camera"] for row in _read_labels(root / "labels.json")["images"]})


def _camera_height(images: list[Record]) -> float | None:
    """Metres over the median lower side of near cars; None where there are none."""
    heights: list[float] = []
    for row in images:
        pose = _pose(row)
        cars = [x for x in row["objects"] if x["class"] == "Car"]
        near = [x for x in cars if HEIGHT_REACH[0] < x["center"][2] < HEIGHT_REACH[1]]
        boxes = _boxes(near, pose)
        heights += (pose.translation[2] - boxes.centre[:, 2] + boxes.size[:, 2] / 2).tolist()
    return float(np.median(heights)) if heights else None


def _boxes(rows: list[Record], pose: Pose) -> Boxes3D:
    """In the fixed frame, of objects in coordinates of the camera at `pose`; velocities are not stated.

    PandaSet's boxes have their width along their x and their length along their y.
    """
    centre = np.array([x["center"] for x in rows], float).reshape(-1, 3)
    size = np.array([[x["length"], x["width"], x["height"]] for x in rows], float).reshape(-1, 3)
    ahead = np.array([np.array(x["R_box_to_cam"], float)[:, 1] for x in rows]).reshape(-1, 3) @ pose.rotation.T
    return Boxes3D(pose.apply(centre), size, np.arctan2(ahead[:, 1], ahead[:, 0]), np.full((len(rows), 3), np.nan))


def _pose(row: Record) -> Pose:
    stated = row["pose_world_from_cam"]
    heading = np.array([stated["heading"][axis] for axis in "wxyz"], float)
    place = np.array([stated["position"][axis] for axis in "xyz"], float)
    return Pose(rotation_matrix(heading / np.linalg.norm(heading)), place)


def _calibration(k: Record) -> Camera:
    matrix = np.array([[k["fx"], 0, k["cx"]], [0, k["fy"], k["cy"]], [0, 0, 1.0]])
    return Camera(matrix, int(k["width"]), int(k["height"]))


def _time_ns(row: Record) -> int:
    return round(row["timestamp"] * 1e9)


def _frame_range(root: Path, frames: str) -> tuple[int, int]:
    if not frames:
        return 0, 10**9
    first, _, last = frames.partition("-")
    if not (first.isdigit() and (last or first).isdigit()):
        raise DataError(f"{root}: expected frames=FIRST-LAST, got frames={frames}")
    return int(first), int(last or first)


@contextmanager
def _sound(root: Path, row: Record | None = None) -> Iterator[None]:
    """What a record of the wrong form raises becomes a DataError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        where = f", image {row.get('file')}" if row else ""
        raise DataError(f"{root / 'labels.json'}{where}: a record is broken: {type(error).__name__} {error}") from error


@lru_cache(maxsize=2)
def _read_labels(path: Path) -> Record:
    try:
        labels = read_json(path)
        images = labels["images"]
        for row in images:
            for name in ("camera", "timestamp", "frame", "file", "objects"):
                row[name]
        return {"calibration": labels["calibration"], "images": images}
    except (KeyError, TypeError) as error:
        raise DataError(f"PandaSet labels {path} are broken: {type(error).__name__} {error}") from error


@lru_cache(maxsize=2)
def _track_ids(root: Path) -> dict[str, int]:
    """Of every track in all cameras, in order of appearance, from 1."""
    images = sorted(_read_labels(root / "labels.json")["images"], key=lambda row: (row["timestamp"], row["camera"]))
    tracks = dict.fromkeys(x["track"] for row in images for x in row["objects"])
    return {track: number for number, track in enumerate(tracks, start=1)}
