"""KITTI: sequences of the tracking data set and the single images of the object data set, left colour camera.

    tracking  image_02/0001/000000.png  label_02/0001.txt  calib/0001.txt  oxts/0001.txt  poses/0001.txt
    object    training/image_2/000000.png  training/label_2/000000.txt  training/calib/000000.txt

Images are needed to play a sequence, not to read its truth. Poses are no part of the official data: 3x4 matrices,
a row a frame, that map points of the reference camera to where it was at first. Without them, ego poses come from
the official oxts, GPS and inertial measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from camtrack_core.datasets.frames import Attempted, Frame, Labels, Truth, attempt
from camtrack_core.datasets.kitti.oxts import read_oxts
from camtrack_core.datasets.kitti.rows import (
    CLASS_NAMES,
    DONT_CARE,
    SEEN_OF_OCCLUSION,
    SEEN_OF_TRUNCATION,
    TO_VEHICLE,
    KittiObjects,
    check_objects,
    read_image_objects,
    read_objects,
)
from camtrack_core.datasets.video import IMAGE_SUFFIXES, read_image, stamp_ns
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes3D, Floats, clip
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.numbers import NOWHERE, rows_of

FRAME_RATE = 10.0
IMAGE_SIZE = (1242, 375)  # pixels, of most sequences, where there are no images
CAMERA_HEIGHT = 1.65  # metres over the road, of all cameras of the vehicle
PARTS = ("training", "testing")  # of the object data set
NO_ROTATION = np.eye(3)
# Rectification and mountings, as the object data set and as the tracking data set call them.
TRANSFORMS = {"R0_rect": "R_rect", "Tr_velo_to_cam": "Tr_velo_cam", "Tr_imu_to_velo": "Tr_imu_velo"}


class KittiSequence(Attempted):
    """One sequence, lazily.

    The vehicle frame has its origin in the reference camera; the fixed frame is where it was at first. Without
    poses the frames have neither poses nor boxes in space. With oxts the fixed frame has z up, with poses it stands
    as the camera stood.

    Attributes:
        name: of the sequence, like 0001.
        class_names: CLASS_NAMES.
        objects: all rows of the label file; None where the sequence has none.

    Raises:
        DataError: there are neither images nor labels, or a file is broken or lacks frames.
    """

    class_names: tuple[str, ...] = CLASS_NAMES

    def __init__(self, root: str | Path, name: str) -> None:
        root = Path(root)
        self.name = name
        self._folder = root / "image_02" / name
        labels = root / "label_02" / f"{name}.txt"
        self.objects = read_objects(labels) if labels.is_file() else None
        images = sorted(p for p in self._folder.glob("*") if p.suffix in IMAGE_SUFFIXES)
        self._images = {int(p.stem): p for p in images if p.stem.isdecimal()}
        if self.objects is None and not self._images:
            raise DataError(f"KITTI sequence {name}: expected images in {self._folder} or labels in {labels}")
        if self.objects is not None:
            check_objects(self.objects, labels)
        self._by_frame = {} if self.objects is None else rows_of(self.objects.frames)
        self._length = self._count()
        calibration = root / "calib" / f"{name}.txt"
        rows = read_calibration(calibration) if calibration.is_file() else {}
        self._projection = rows.get("P2")
        self._poses = read_poses(root / "poses" / f"{name}.txt", self._length)
        oxts = root / "oxts" / f"{name}.txt"
        if not self._poses and oxts.is_file():
            self._poses = read_oxts(oxts, self._length, camera_in_imu(rows, calibration))

    def __len__(self) -> int:
        return self._length

    def attempts(self) -> Iterator[Frame | DataError]:
        return (attempt(self._frame, index) for index in range(self._length))

    def _frame(self, index: int) -> Frame:
        path = self._images.get(index)
        if path is None:
            raise DataError(f"KITTI sequence {self.name} lacks the image {self._folder / f'{index:06d}.png'}")
        image = read_image(path)
        height, width = image.shape[:2]
        labels, ignored, boxes = self._objects(index)
        if labels is not None:
            labels = Labels(labels.ids, clip(labels.xyxy, width, height), labels.class_ids, labels.visible)
        camera, mounting = self._calibration(width, height)
        ego = self._poses[index] if self._poses else None
        pose = ego @ mounting if ego is not None and mounting is not None else None
        time_ns = stamp_ns(index, FRAME_RATE)
        return Frame(time_ns, image, labels, ignored, camera, pose, ego, boxes, CAMERA_HEIGHT)

    def truth(self) -> Iterator[Truth]:
        for index in range(self._length):
            labels, ignored, boxes = self._objects(index)
            distances = None
            if self.objects is not None:
                objects = self._rows(index)
                distances = np.linalg.norm(objects.boxes.centre[objects.kinds != DONT_CARE], axis=1)
            camera, mounting = self._calibration(*IMAGE_SIZE)
            pose = self._poses[index] @ mounting if self._poses and mounting is not None else None
            yield Truth(index + 1, stamp_ns(index, FRAME_RATE), labels, ignored, boxes, distances, camera=camera,
                        camera_pose=pose)  # fmt: skip

    def mounting(self) -> Pose | None:
        """The left colour camera in the vehicle frame; None where there is no calibration."""
        return None if self._projection is None else left_camera(self._projection, 1, 1)[1]

    def _count(self) -> int:
        last = int(self.objects.frames.max(initial=-1)) if self.objects is not None else -1
        return max(last, *self._images, -1) + 1

    def _rows(self, index: int) -> KittiObjects:
        assert self.objects is not None
        return self.objects[self._by_frame.get(index, NOWHERE)]

    def _objects(self, index: int) -> tuple[Labels | None, Floats, Boxes3D | None]:
        if self.objects is None:
            return None, np.zeros((0, 4)), None
        labels, regions, boxes = split_objects(self._rows(index))
        return labels, regions, _moved(boxes, self._poses[index]) if self._poses else None

    def _calibration(self, width: int, height: int) -> tuple[Camera | None, Pose | None]:
        return (None, None) if self._projection is None else left_camera(self._projection, width, height)


class KittiImages(Attempted):
    """The images of a part of the object data set, which are unrelated: ids are used once, stamps are made up.

    Every image has its own fixed frame, in which the vehicle stands at the origin.

    Attributes:
        name: training or testing.
        class_names: CLASS_NAMES.

    Raises:
        DataError: there are neither images nor labels, or a file is missing or broken.
    """

    class_names: tuple[str, ...] = CLASS_NAMES

    def __init__(self, root: str | Path, name: str) -> None:
        self.name = name
        self._folder = Path(root) / name
        self._images = {p.stem: p for p in (self._folder / "image_2").glob("*") if p.suffix in IMAGE_SUFFIXES}
        self._labels = {p.stem: p for p in (self._folder / "label_2").glob("*.txt")}
        self._names = sorted({*self._images, *self._labels})
        if not self._names:
            raise DataError(f"KITTI folder {self._folder}: expected image_2/*.png or label_2/*.txt, found none")

    def __len__(self) -> int:
        return len(self._names)

    def attempts(self) -> Iterator[Frame | DataError]:
        return (attempt(self._frame, truth, name) for truth, name in zip(self.truth(), self._names, strict=True))

    def _frame(self, truth: Truth, name: str) -> Frame:
        if name not in self._images:
            raise DataError(f"KITTI lacks the image {self._folder / 'image_2' / name}.png")
        image = read_image(self._images[name])
        height, width = image.shape[:2]
        labels = truth.labels
        if labels is not None:
            labels = replace(labels, xyxy=clip(labels.xyxy, width, height))
        path = self._folder / "calib" / f"{name}.txt"
        camera, mounting = left_camera(read_calibration(path)["P2"], width, height)
        here = Pose(NO_ROTATION, np.zeros(3))
        return Frame(truth.time_ns, image, labels, truth.ignored, camera, mounting, here, truth.boxes3d, CAMERA_HEIGHT)

    def truth(self) -> Iterator[Truth]:
        first_id = 1
        for index, name in enumerate(self._names):
            time_ns = stamp_ns(index, FRAME_RATE)
            if name not in self._labels:
                yield Truth(index + 1, time_ns)
                continue
            objects = read_image_objects(self._labels[name], index, first_id)
            check_objects(objects, self._labels[name])
            labels, regions, boxes = split_objects(objects)
            first_id += len(objects)
            yield Truth(index + 1, time_ns, labels, regions, boxes, np.linalg.norm(boxes.centre, axis=1))


def split_objects(rows: KittiObjects) -> tuple[Labels, Floats, Boxes3D]:
    """Labels, (M, 4) ignored regions, and boxes in the vehicle frame of a frame's rows."""
    regions, rows = rows.xyxy[rows.kinds == DONT_CARE], rows[rows.kinds != DONT_CARE]
    class_ids = np.array([CLASS_NAMES.index(kind) for kind in rows.kinds], np.int64)
    visible = SEEN_OF_OCCLUSION[rows.occlusion.clip(0, 3)] * SEEN_OF_TRUNCATION[rows.truncation.clip(0, 2)]
    return Labels(rows.ids, rows.xyxy, class_ids, visible), regions, rows.boxes


def left_camera(projection: Floats, width: int, height: int) -> tuple[Camera, Pose]:
    """Intrinsics of the left colour camera of P2 (3, 4), and its place in the vehicle frame."""
    k = projection[:, :3]
    offset = -np.linalg.solve(k, projection[:, 3])  # P2 = K [I | -offset], offset in the reference camera
    return Camera(k, width, height), TO_VEHICLE @ Pose(NO_ROTATION, offset)


def list_sequences(root: str | Path) -> list[str]:
    """Names of the sequences under `root` that have labels or images, sorted."""
    root = Path(root)
    labels = (p.stem for p in (root / "label_02").glob("[0-9]*.txt"))
    images = (p.name for p in (root / "image_02").glob("[0-9]*") if p.is_dir())
    return sorted({*labels, *images})


def list_parts(root: str | Path) -> list[str]:
    """Parts of the object data set under `root`."""
    return [part for part in PARTS if any((Path(root) / part / f).is_dir() for f in ("image_2", "label_2"))]


def read_calibration(path: Path) -> dict[str, Floats]:
    """Rows of a calibration by name: P0 to P3 and, where there are any, R_rect, Tr_velo_cam and Tr_imu_velo.

    (3, 4) each, R_rect (3, 3). Raises DataError where P2 is missing or is no camera's, or a row is broken.
    """
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        numbers = {row[0].rstrip(":"): np.array(row[1:], float).reshape(3, -1) for row in rows}
    except (OSError, ValueError) as error:
        raise DataError(f"calibration {path} is broken: {error}") from error
    found = {TRANSFORMS.get(name, name): matrix for name, matrix in numbers.items()}
    for name, matrix in found.items():
        if matrix.shape != (3, 3 if name == "R_rect" else 4) or not np.isfinite(matrix).all():
            raise DataError(f"calibration {path}: expected twelve finite numbers (R_rect nine) in the row {name}")
    if "P2" not in found:
        raise DataError(f"calibration {path}: expected a row P2, found {', '.join(found) or 'none'}")
    k = found["P2"][:, :3]
    if not (k[0, 0] > 0 and k[1, 1] > 0 and np.linalg.matrix_rank(k) == 3):
        raise DataError(f"calibration {path}: expected intrinsics with positive focal lengths in P2, got {k.tolist()}")
    return found


def camera_in_imu(rows: dict[str, Floats], path: Path) -> Pose:
    """Pose of the rectified reference camera in the frame of the inertial unit. Raises DataError."""
    missing = sorted({*TRANSFORMS.values()} - set(rows))
    if missing:
        raise DataError(f"calibration {path}: expected a row {missing[0]}, which oxts need, found none")
    lidar_in_camera = Pose(rows["R_rect"], np.zeros(3)) @ _rigid(rows["Tr_velo_cam"])
    return (lidar_in_camera @ _rigid(rows["Tr_imu_velo"])).inverse()


def _rigid(matrix: Floats) -> Pose:
    return Pose(matrix[:, :3], matrix[:, 3])


def read_poses(path: Path, length: int) -> list[Pose]:
    """Poses of the vehicle frame at each frame in the one at the first frame; empty where there is no such file.

    Raises DataError where a row is broken or there are fewer than `length`.
    """
    if not path.is_file():
        return []
    try:
        rows = np.array(
            [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()], float
        )
        matrices = rows.reshape(-1, 3, 4)
    except ValueError as error:
        raise DataError(f"poses {path}: expected twelve numbers a row: {error}") from error
    if len(matrices) < length or not np.isfinite(matrices).all():
        raise DataError(f"poses {path}: expected {length} rows of finite numbers, got {len(matrices)}")
    return [TO_VEHICLE @ Pose(m[:, :3], m[:, 3]) @ TO_VEHICLE.inverse() for m in matrices[:length]]


def _moved(boxes: Boxes3D, ego: Pose) -> Boxes3D:
    """Boxes of the vehicle frame in the fixed frame; they stay upright."""
    heading = float(np.arctan2(ego.rotation[1, 0], ego.rotation[0, 0]))
    return Boxes3D(ego.apply(boxes.centre), boxes.size, boxes.yaw + heading, boxes.velocity)
