"""Calibrated recordings of one's own: images, and a recording.json that says all that is known of them.

    recording.json  images/front/000000.jpg

docs/data.md has an example. What a recording does not know is left out: poses, heights, objects, their boxes in space.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from camtrack_core.datasets.frames import Attempted, Frame, Labels, Truth, attempt
from camtrack_core.datasets.nuscenes import rotation_matrix
from camtrack_core.datasets.projected import project_boxes
from camtrack_core.datasets.video import read_image
from camtrack_core.errors import DataError
from camtrack_core.files import below
from camtrack_core.geometry.boxes import Boxes3D, Floats, clip
from camtrack_core.geometry.camera import Camera, Pose

FILE = "recording.json"
UNIT = 0.01  # by which the length of a quaternion may differ from 1


class Part(BaseModel):
    """Of the file. A name that nobody knows is an error: it may be a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StatedCamera(Part):
    """Intrinsics of a camera without distortion, pixels, and its height over the ground, metres."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)
    fx: float = Field(gt=0)
    fy: float = Field(gt=0)
    cx: float
    cy: float
    over_ground: float | None = Field(None, gt=0)


class StatedPose(Part):
    """Of the optical frame (x right, y down, z ahead) in the fixed frame (z up): metres; a quaternion w, x, y, z."""

    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]


class StatedBox(Part):
    """A box in the fixed frame: its middle and length, width, height in metres, and its heading in radians."""

    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    velocity: tuple[float, float, float] | None = None


class StatedObject(Part):
    """A labelled object; without a box in the image that follows from the one in space."""

    id: int = Field(ge=0)
    name: str = Field(min_length=1, alias="class")
    box: tuple[float, float, float, float] | None = None
    space: StatedBox | None = None
    visible: float = Field(1.0, ge=0, le=1)
    motion: str = ""
    lidar_points: int | None = Field(None, ge=0)


class StatedImage(Part):
    """An image; `objects` is left out where nobody labelled it, and empty where there is nobody."""

    camera: str
    file: str
    time_ns: int = Field(ge=0)
    pose: StatedPose | None = None
    objects: tuple[StatedObject, ...] | None = None
    ignored: tuple[tuple[float, float, float, float], ...] = ()


class StatedRecording(Part):
    """The whole file."""

    cameras: dict[str, StatedCamera]
    classes: tuple[str, ...] = ()
    images: tuple[StatedImage, ...]


class CalibratedSequence(Attempted):
    """One camera of a recording, lazily.

    Where the camera's pose and its height over the ground are known, the vehicle's frame lies on the ground below it.

    Attributes:
        name: of the folder and the camera, like monday-front.
        class_names: as the file names them.

    Raises:
        DataError: the file is missing or broken, says what cannot be, or has no images of the camera.
    """

    def __init__(self, root: str | Path, camera: str) -> None:
        self._root = Path(root)
        stated = read_recording(self._root / FILE)
        self._images = sorted((x for x in stated.images if x.camera == camera), key=lambda x: x.time_ns)
        if not self._images:
            raise DataError(f"{self._root}: expected images of {camera!r}, found those of {', '.join(stated.cameras)}")
        self._calibration = stated.cameras[camera]
        self.name, self.class_names = f"{self._root.resolve().name}-{camera}", stated.classes

    def __len__(self) -> int:
        return len(self._images)

    def attempts(self) -> Iterator[Frame | DataError]:
        return (attempt(self._frame, *both) for both in zip(self._images, self.truth(), strict=True))

    def _frame(self, stated: StatedImage, one: Truth) -> Frame:
        k = self._calibration
        image = read_image(below(self._root, stated.file), (k.width, k.height))
        ground = None if one.camera_pose is None else _below(one.camera_pose, k.over_ground)
        return Frame(one.time_ns, image, one.labels, one.ignored, one.camera, one.camera_pose, ground, one.boxes3d,
                     k.over_ground, one.attributes, one.lidar_points)  # fmt: skip

    def truth(self) -> Iterator[Truth]:
        k = self._calibration
        camera = Camera(np.array([[k.fx, 0, k.cx], [0, k.fy, k.cy], [0, 0, 1.0]]), k.width, k.height)
        for number, image in enumerate(self._images, start=1):
            pose = None if image.pose is None else _pose(image.pose)
            ignored = np.array(image.ignored, float).reshape(-1, 4)
            if image.objects is None:
                yield Truth(number, image.time_ns, ignored=ignored, camera=camera, camera_pose=pose)
                continue
            boxes = _boxes(image.objects)
            distances = np.linalg.norm(boxes.centre - pose.translation, axis=1) if boxes and pose else None
            points = [x.lidar_points for x in image.objects]
            yield Truth(
                number, image.time_ns, self._labels(image, boxes, camera, pose), ignored, boxes, distances,
                np.array([x.motion for x in image.objects], np.str_), None if None in points else np.array(points, int),
                camera, pose,
            )  # fmt: skip

    def _labels(self, image: StatedImage, boxes: Boxes3D | None, camera: Camera, pose: Pose | None) -> Labels:
        objects = image.objects or ()
        flat = np.array([x.box or (0, 0, 0, 0) for x in objects], float).reshape(-1, 4)
        visible = np.array([x.visible for x in objects], float)
        missing = np.array([x.box is None for x in objects], bool)
        if missing.any():
            assert boxes is not None and pose is not None  # see `_check`
            around, inside, _ = project_boxes(boxes, camera, pose)
            flat[missing], visible[missing] = around[missing], visible[missing] * inside[missing]
        ids = np.array([x.id for x in objects], np.int64)
        class_ids = np.array([self.class_names.index(x.name) for x in objects], np.int64)
        return Labels(ids, clip(flat, camera.width, camera.height), class_ids, visible)


def is_recording(path: Path) -> bool:
    """Whether a folder is of this layout."""
    return (path / FILE).is_file()


def list_cameras(root: Path) -> list[str]:
    """Names of the cameras that have images. Raises DataError as CalibratedSequence does."""
    return sorted({x.camera for x in read_recording(root / FILE).images})


@lru_cache(maxsize=2)
def read_recording(path: Path) -> StatedRecording:
    """The file, checked as a whole; the classes are those named, or else those of the objects. Raises DataError."""
    try:
        stated = StatedRecording.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    used = dict.fromkeys(x.name for image in stated.images for x in image.objects or ())
    classes = stated.classes or tuple(used)
    for image in stated.images:
        _check(f"{path}, {image.file}", stated, image, classes)
    for camera in stated.cameras:
        times = [x.time_ns for x in stated.images if x.camera == camera]
        if len(set(times)) < len(times):
            raise DataError(f"{path}: expected every image of {camera} at a time of its own, got one twice")
    return stated.model_copy(update={"classes": classes})


def _check(where: str, stated: StatedRecording, image: StatedImage, classes: tuple[str, ...]) -> None:
    """Raises DataError for what reads well and yet makes no sense."""
    objects = image.objects or ()
    if image.camera not in stated.cameras:
        raise DataError(f"{where}: expected one of the cameras {', '.join(stated.cameras)}, got {image.camera!r}")
    if len({x.id for x in objects}) < len(objects):
        raise DataError(f"{where}: expected every id once, got one twice")
    if unknown := [x.name for x in objects if x.name not in classes]:
        raise DataError(f"{where}: expected one of the classes {', '.join(classes)}, got {unknown[0]!r}")
    in_space = [x.space is not None for x in objects]
    if any(in_space) and not (all(in_space) and image.pose):
        raise DataError(f"{where}: expected boxes in space of all objects or of none, and with them the camera's pose")
    if any(x.box is None and x.space is None for x in objects):
        raise DataError(f"{where}: expected a box in the image or in space of every object")
    if any(min(x.space.size) <= 0 for x in objects if x.space):
        raise DataError(f"{where}: expected positive sizes")
    if image.pose and abs(float(np.linalg.norm(image.pose.rotation)) - 1) > UNIT:
        raise DataError(f"{where}: expected a unit quaternion w, x, y, z, got {image.pose.rotation}")


def _pose(stated: StatedPose) -> Pose:
    quaternion = np.array(stated.rotation, float)
    return Pose(rotation_matrix(quaternion / np.linalg.norm(quaternion)), np.array(stated.translation, float))


def _boxes(objects: tuple[StatedObject, ...]) -> Boxes3D | None:
    """In the fixed frame; None where the objects have none."""
    boxes = [x.space for x in objects if x.space]
    if objects and not boxes:
        return None

    def rows(values: list[tuple[float, float, float]]) -> Floats:
        return np.array(values, float).reshape(-1, 3)

    unknown = (np.nan, np.nan, np.nan)
    yaw = np.array([b.yaw for b in boxes], float)
    return Boxes3D(rows([b.centre for b in boxes]), rows([b.size for b in boxes]), yaw,
                   rows([b.velocity or unknown for b in boxes]))  # fmt: skip


def _below(camera: Pose, height: float | None) -> Pose | None:
    """The frame on the ground below a camera that faces as it does; None where its height is unknown."""
    if height is None:
        return None
    ahead = camera.rotation[:2, 2]
    yaw = float(np.arctan2(ahead[1], ahead[0]))
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    return Pose(turn, camera.translation - np.array([0, 0, height]))
