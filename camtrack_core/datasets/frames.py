"""What every data set gives: frames with stamps and, where there are any, labels, a camera and its pose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import ArraySet, Boxes2D, Boxes3D, Floats, Integers
from camtrack_core.geometry.camera import Camera, Pose


@dataclass(frozen=True)
class Labels(ArraySet):
    """The true objects of one frame.

    Attributes:
        ids: (N,) int, constant over a sequence.
        xyxy: (N, 4) float, amodal boxes clipped to the image, pixels.
        class_ids: (N,) int, index into the sequence's class names.
        visible: (N,) float, the share of the object that is seen: neither hidden nor outside the image, in [0, 1].
    """

    ids: Integers
    xyxy: Floats
    class_ids: Integers
    visible: Floats

    @classmethod
    def empty(cls) -> Labels:
        return cls(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True)
class Frame:
    """One image and what is known about it.

    Attributes:
        time_ns: stamp in nanoseconds, strictly increasing within a sequence.
        image: (H, W, 3) uint8, BGR.
        labels: true objects; None where the recording has none for this frame.
        ignored: (M, 4) float, regions without labels, pixels; neither hits nor misses count there.
        camera: intrinsics; None where unknown.
        camera_fault: why there are none though the recording holds some, in a sentence; else empty.
        camera_pose: pose of the optical frame in the fixed frame; None where unknown.
        ego_pose: pose of the vehicle frame (x forward, y left, z up) in the fixed frame; None where unknown.
        boxes3d: the labelled objects in the fixed frame (same rows as labels); None where unknown.
        camera_height: of the camera over the ground, metres, where the data set states it; None where it follows
            from ego_pose, whose origin then lies on the ground, or is unknown.
        attributes: (N,) str, what the data set says of each labelled object, like vehicle.parked; empty where it says
            nothing of it, None where it has no attributes.
        lidar_points: (N,) int, how many points of a lidar lie in each labelled object; None where nobody counted.
        finds: what detectors saw in the image, sure or not, by the classes of `camtrack_core.labelling.teacher`; None
            where none looked.
    """

    time_ns: int
    image: NDArray[np.uint8]
    labels: Labels | None = None
    ignored: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    camera: Camera | None = None
    camera_pose: Pose | None = None
    ego_pose: Pose | None = None
    boxes3d: Boxes3D | None = None
    camera_height: float | None = None
    attributes: NDArray[np.str_] | None = None
    lidar_points: Integers | None = None
    finds: Boxes2D | None = None
    camera_fault: str = ""

    def calibrated(self) -> Camera:
        """The camera. Raises DataError where it is not known."""
        if self.camera is None:
            raise DataError(self.camera_fault or "expected a recording with a calibrated camera, found none")
        return self.camera


@dataclass(frozen=True)
class Truth:
    """What is known of one frame without its image; fields as those of Frame.

    Attributes:
        number: of the frame in its sequence, from 1.
        distances: (N,) float, metres from the camera to the labelled objects; None where unknown.
        camera, camera_pose: of the image.
    """

    number: int
    time_ns: int
    labels: Labels | None = None
    ignored: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    boxes3d: Boxes3D | None = None
    distances: Floats | None = None
    attributes: NDArray[np.str_] | None = None
    lidar_points: Integers | None = None
    camera: Camera | None = None
    camera_pose: Pose | None = None


class Sequence(Protocol):
    """A recording: read lazily, in order, as often as wanted.

    Attributes:
        name: short name for scores and file names.
        class_names: names that labels' class_ids index; empty without labels.
    """

    name: str
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of frames."""

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order. Raises DataError for a broken frame, naming the file."""


class Attempted(ABC):
    """A recording of images that are read one by one, so that a broken one does not keep those behind it."""

    @abstractmethod
    def attempts(self) -> Iterator[Frame | DataError]:
        """Every frame in order, or what is wrong with it. Raises DataError where the rest cannot be read either."""

    def __iter__(self) -> Iterator[Frame]:
        for found in self.attempts():
            if isinstance(found, DataError):
                raise found
            yield found


def attempt(read: Callable[..., Frame], *arguments: Any) -> Frame | DataError:
    """A frame, or what is wrong with it."""
    try:
        return read(*arguments)
    except DataError as error:
        return error


def attempts_of(sequence: Sequence) -> Iterator[Frame | DataError]:
    """Every frame of a recording, or what is wrong with it, as far as the recording tells them apart."""
    return sequence.attempts() if isinstance(sequence, Attempted) else iter(sequence)


class Skipping:
    """A recording without its broken frames.

    Attributes:
        name, class_names: of the recording.
        skipped: what was wrong with each frame that was left out so far.
    """

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self.name, self.class_names = sequence.name, sequence.class_names
        self.skipped: list[str] = []

    def __len__(self) -> int:
        return len(self._sequence)

    def __iter__(self) -> Iterator[Frame]:
        self.skipped.clear()
        for found in attempts_of(self._sequence):
            if isinstance(found, DataError):
                self.skipped.append(str(found))
            else:
                yield found


@runtime_checkable
class Annotated(Protocol):
    """A recording whose truth can be read without its images, which need not be there."""

    def truth(self) -> Iterator[Truth]:
        """Truth of every frame in order. Raises DataError for broken labels, naming the file."""


@runtime_checkable
class Masked(Protocol):
    """A recording whose data set says where nobody labelled, unlike a teacher that is unsure here and there.

    Attributes:
        ignored: (M, 4) float, pixels, the same regions in all frames.
    """

    ignored: Floats


def truth_of(sequence: Sequence) -> Iterator[Truth]:
    """The truth of every frame of a recording, without decoding images where the recording allows for it."""
    if isinstance(sequence, Annotated):
        yield from sequence.truth()
        return
    for number, frame in enumerate(sequence, start=1):
        distances = None
        if frame.boxes3d is not None and frame.camera_pose is not None:
            distances = np.linalg.norm(frame.boxes3d.centre - frame.camera_pose.translation, axis=1)
        yield Truth(number, frame.time_ns, frame.labels, frame.ignored, frame.boxes3d, distances, frame.attributes,
                    frame.lidar_points, frame.camera, frame.camera_pose)  # fmt: skip
