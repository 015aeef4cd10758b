"""KITTI tracking: a sequence of the left colour camera with labels, calibration and, where there are any, poses.

    image_02/0001/000000.png  label_02/0001.txt  calib/0001.txt  poses/0001.txt

Images are needed to play a sequence, not to read its truth. Poses are no part of the official data: 3x4 matrices,
a row a frame, that map points of the reference camera to where it was at first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from camtrack_core.boxes import Boxes3D, Floats, clip
from camtrack_core.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.datasets.frames import Frame, Labels, Truth
from camtrack_core.datasets.video import IMAGE_SUFFIXES, read_image, stamp_ns
from camtrack_core.errors import DataError

if TYPE_CHECKING:
    from camtrack_core.evaluation.kitti3d import KittiObjects

CLASS_NAMES = ("Car", "Van", "Truck", "Pedestrian", "Person", "Cyclist", "Tram", "Misc")
DONT_CARE = "DontCare"
FRAME_RATE = 10.0
# Shares of an object that its grades of occlusion and truncation stand for; occlusion 3 is "unknown".
SEEN_OF_OCCLUSION = np.array([1.0, 0.6, 0.3, 0.1])
SEEN_OF_TRUNCATION = np.array([1.0, 0.7, 0.4])
NO_ROTATION = np.eye(3)
TO_VEHICLE = Pose(OPTICAL_IN_VEHICLE, np.zeros(3))  # the vehicle frame lies in the reference camera


class KittiSequence:
    """One sequence, lazily.

    The vehicle frame has its origin in the reference camera; the fixed frame is where it was at first. Without
    poses the frames have neither poses nor boxes in space.

    Attributes:
        name: of the sequence, like 0001.
        class_names: CLASS_NAMES.
        objects: all rows of the label file; None where the sequence has none.

    Raises:
        DataError: there are neither images nor labels, or a file is broken or lacks frames.
    """

    class_names: tuple[str, ...] = CLASS_NAMES

    def __init__(self, root: str | Path, name: str) -> None:
        from camtrack_core.evaluation.kitti3d import read_objects  # its matching loads scipy, which takes a while

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
            _check(self.objects, labels)
        self._length = self._count()
        calibration = root / "calib" / f"{name}.txt"
        self._projection = read_calibration(calibration)["P2"] if calibration.is_file() else None
        self._poses = read_poses(root / "poses" / f"{name}.txt", self._length)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._length):
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
            yield Frame(stamp_ns(index, FRAME_RATE), image, labels, ignored, camera, pose, ego, boxes)

    def truth(self) -> Iterator[Truth]:
        for index in range(self._length):
            labels, ignored, boxes = self._objects(index)
            yield Truth(index + 1, stamp_ns(index, FRAME_RATE), labels, ignored, boxes)

    def _count(self) -> int:
        last = int(self.objects.frames.max(initial=-1)) if self.objects is not None else -1
        return max(last, *self._images, -1) + 1

    def _objects(self, index: int) -> tuple[Labels | None, Floats, Boxes3D | None]:
        if self.objects is None:
            return None, np.zeros((0, 4)), None
        rows = self.objects[self.objects.frames == index]
        regions, rows = rows.xyxy[rows.kinds == DONT_CARE], rows[rows.kinds != DONT_CARE]
        class_ids = np.array([CLASS_NAMES.index(kind) for kind in rows.kinds], np.int64)
        visible = SEEN_OF_OCCLUSION[rows.occlusion.clip(0, 3)] * SEEN_OF_TRUNCATION[rows.truncation.clip(0, 2)]
        labels = Labels(rows.ids, rows.xyxy, class_ids, visible)
        return labels, regions, _moved(rows.boxes, self._poses[index]) if self._poses else None

    def _calibration(self, width: int, height: int) -> tuple[Camera | None, Pose | None]:
        """Intrinsics of the left colour camera, and its place in the vehicle frame."""
        if self._projection is None:
            return None, None
        k = self._projection[:, :3]
        offset = -np.linalg.solve(k, self._projection[:, 3])  # P2 = K [I | -offset], offset in the reference camera
        return Camera(k, width, height), TO_VEHICLE @ Pose(NO_ROTATION, offset)


def list_sequences(root: str | Path) -> list[str]:
    """Names of the sequences under `root` that have labels or images, sorted."""
    root = Path(root)
    labels = (p.stem for p in (root / "label_02").glob("[0-9]*.txt"))
    images = (p.name for p in (root / "image_02").glob("[0-9]*") if p.is_dir())
    return sorted({*labels, *images})


def read_calibration(path: Path) -> dict[str, Floats]:
    """The projections P0 to P3, (3, 4) each. Raises DataError where P2 is missing or a row is broken."""
    try:
        rows = [line.split() for line in path.read_text().splitlines() if line.startswith("P")]
        found = {row[0].rstrip(":"): np.array(row[1:], float).reshape(3, 4) for row in rows}
    except (OSError, ValueError) as error:
        raise DataError(f"calibration {path} is broken: {error}") from error
    if "P2" not in found or not np.isfinite(found["P2"]).all():
        raise DataError(f"calibration {path}: expected a row P2 of twelve finite numbers, found none")
    return found


def read_poses(path: Path, length: int) -> list[Pose]:
    """Poses of the vehicle frame at each frame in the one at the first frame; empty where there is no such file.

    Raises DataError where a row is broken or there are fewer than `length`.
    """
    if not path.is_file():
        return []
    try:
        rows = np.array([line.split() for line in path.read_text().splitlines() if line.strip()], float)
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


def _check(objects: KittiObjects, path: Path) -> None:
    """Raises DataError for what reads as numbers and yet makes no sense."""
    unknown = sorted(set(objects.kinds.tolist()) - {*CLASS_NAMES, DONT_CARE})
    if unknown:
        raise DataError(f"labels {path}: expected objects of {', '.join(CLASS_NAMES)}, got {unknown[0]!r}")
    if objects.frames.min(initial=0) < 0 or not np.isfinite(objects.xyxy).all():
        raise DataError(f"labels {path}: expected frames from 0 and finite boxes")
    real = objects[objects.kinds != DONT_CARE]
    pairs, counts = np.unique(np.stack([real.frames, real.ids]), axis=1, return_counts=True)
    if counts.max(initial=0) > 1:
        frame, identity = pairs[:, counts.argmax()]
        raise DataError(f"labels {path}: the id {identity} occurs twice in frame {frame}")
