"""Rows of KITTI's text files: objects of the tracking labels and results, and of the object data set's labels.

A row of the tracking files begins with frame and id; from the class on, both data sets' rows are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import ArraySet, Boxes3D, Floats, Integers
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.numbers import frame_number, integer, read_text

CLASS_NAMES = ("Car", "Van", "Truck", "Pedestrian", "Person", "Cyclist", "Tram", "Misc")
SITTING = "Person_sitting"  # what the object data set calls the tracking labels' Person
DONT_CARE = "DontCare"
KINDS = {name.lower(): name for name in (*CLASS_NAMES, SITTING, DONT_CARE)}  # however a file spells them
FIELDS = 17  # of a tracking row without score
# Shares of an object that its grades of occlusion and truncation stand for; occlusion 3 is "unknown".
SEEN_OF_OCCLUSION = np.array([1.0, 0.6, 0.3, 0.1])
SEEN_OF_TRUNCATION = np.array([1.0, 0.7, 0.4])
TO_VEHICLE = Pose(OPTICAL_IN_VEHICLE, np.zeros(3))  # the vehicle frame lies in the reference camera


@dataclass(frozen=True)
class KittiObjects(ArraySet):
    """Rows of a KITTI tracking file, labels or results, over all frames of a sequence.

    Attributes:
        frames: (N,) int, ids: (N,) int, kinds: (N,) str.
        truncation: (N,) int, occlusion: (N,) int, as labelled.
        xyxy: (N, 4) float, pixels.
        boxes: N boxes in the camera's place with x forward, y left, z up; meaningless for DontCare.
        scores: (N,) float, NaN where the file has none.
    """

    frames: Integers
    ids: Integers
    kinds: NDArray[np.str_]
    truncation: Integers
    occlusion: Integers
    xyxy: Floats
    boxes: Boxes3D
    scores: Floats


def from_camera(centre: Floats, size: Floats, rotation_y: Floats) -> Boxes3D:
    """KITTI's boxes as this project has them, with x forward, y left and z up from the camera.

    Args:
        centre: (N, 3) middle of the bottom in camera coordinates, metres.
        size: (N, 3) height, width, length, metres.
        rotation_y: (N,) radians about the camera's y axis, 0 where the box faces along its x axis.
    """
    height, width, length = size.T
    x, y, z = centre.T
    middle = np.stack([z, -x, height / 2 - y], 1)
    unknown = np.full((len(x), 3), np.nan)
    return Boxes3D(middle, np.stack([length, width, height], 1), -rotation_y - np.pi / 2, unknown)


def to_camera(boxes: Boxes3D) -> tuple[Floats, Floats, Floats]:
    """The inverse of from_camera: centre, size and rotation_y, the last in [-pi, pi)."""
    length, width, height = boxes.size.T
    x, y, z = boxes.centre.T
    turn = (-boxes.yaw - np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
    return np.stack([-y, height / 2 - z, x], 1), np.stack([height, width, length], 1), turn


def read_objects(path: Path) -> KittiObjects:
    """Rows of a tracking label or result file. Raises DataError where it is missing or broken."""
    try:
        return _objects([line.split() for line in read_text(path).splitlines() if line.strip()])
    except (DataError, ValueError, IndexError) as error:
        raise DataError(f"expected KITTI tracking rows of 17 or 18 fields in {path}, got: {error}") from None


def read_image_objects(path: Path, frame: int, first_id: int) -> KittiObjects:
    """Rows of a label file of the object data set, as those of a frame, with ids from `first_id` on.

    Truncation is a fraction there; here it is the grade that the tracking labels would give.

    Raises DataError where the file is missing or broken.
    """
    rows: list[list[str]] = []
    try:
        for line in (line for line in read_text(path).splitlines() if line.strip()):
            kind, truncation, *rest = line.split()
            grade = 0 if float(truncation) <= 0 else 1 if float(truncation) <= 0.5 else 2
            identity = -1 if KINDS.get(kind.lower()) == DONT_CARE else first_id + len(rows)
            rows.append(
                [str(frame), str(identity), "Person" if KINDS.get(kind.lower()) == SITTING else kind, str(grade), *rest]
            )
        return _objects(rows)
    except (DataError, ValueError, IndexError) as error:
        raise DataError(f"expected KITTI object rows of 15 or 16 fields in {path}, got: {error}") from None


def _objects(rows: Sequence[Sequence[str]]) -> KittiObjects:
    """Raises ValueError, IndexError for rows of another form."""
    numbers = np.array([row[3:FIELDS] for row in rows], np.float64).reshape(-1, FIELDS - 3)
    scores = np.array([row[FIELDS] if len(row) > FIELDS else "nan" for row in rows], np.float64)
    integers = np.array([[frame_number(row[0], first=0), integer(row[1])] for row in rows], np.int64).reshape(-1, 2)
    if not np.isfinite(numbers[:, :2]).all():
        raise ValueError("truncation or occlusion that is no number")
    grades = numbers[:, :2].astype(np.int64)
    return KittiObjects(
        integers[:, 0],
        integers[:, 1],
        np.array([KINDS.get(row[2].lower(), row[2]) for row in rows], np.str_),
        grades[:, 0],
        grades[:, 1],
        numbers[:, 3:7],
        from_camera(numbers[:, 10:13], numbers[:, 7:10], numbers[:, 13]),
        scores,
    )


def check_objects(objects: KittiObjects, path: Path) -> None:
    """Raises DataError for what reads as numbers and yet makes no sense."""
    unknown = sorted(set(objects.kinds.tolist()) - {*CLASS_NAMES, DONT_CARE})
    if unknown:
        raise DataError(f"labels {path}: expected objects of {', '.join(CLASS_NAMES)}, got {unknown[0]!r}")
    if objects.frames.min(initial=0) < 0 or not np.isfinite(objects.xyxy).all():
        raise DataError(f"labels {path}: expected frames from 0 and finite boxes")
    real = objects[objects.kinds != DONT_CARE]
    if not all(np.isfinite(values).all() for values in (real.boxes.centre, real.boxes.size, real.boxes.yaw)):
        raise DataError(f"labels {path}: expected finite boxes in space")
    pairs, counts = np.unique(np.stack([real.frames, real.ids]), axis=1, return_counts=True)
    if counts.max(initial=0) > 1:
        frame, identity = pairs[:, counts.argmax()]
        raise DataError(f"labels {path}: the id {identity} occurs twice in frame {frame}")
