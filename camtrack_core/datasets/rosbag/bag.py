"""rosbag2 bags (mcap or sqlite3) as sequences of one image topic each; read without ROS.

Beside the images are used, where the bag has them: `camera_info` in the namespace of the image topic, /tf and
/tf_static, and there `ground_truth` (Detection2DArray) and `ground_truth_3d` (Detection3DArray), as `camtrack bag`
writes them.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from camtrack_core.datasets.frames import Attempted, Frame, Labels, attempt
from camtrack_core.datasets.rosbag import types
from camtrack_core.datasets.rosbag.files import definition, is_storage, open_files, other_encodings
from camtrack_core.datasets.rosbag.tf import TransformTree
from camtrack_core.datasets.rosbag.unpacking import Oversized
from camtrack_core.encoded import Image
from camtrack_core.errors import ConfigurationError, DataError, ImageError
from camtrack_core.geometry.boxes import Boxes3D, Floats
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.numbers import IdNumbers
from camtrack_core.ros.messages.camera_info import distortion, is_rectified, other_size, read_camera
from camtrack_core.ros.messages.frames import frame_name
from camtrack_core.ros.messages.image import compressed_to_bgr, to_bgr

ZSTD = b"\x28\xb5\x2f\xfd"  # how what it has compressed begins; no message does
FIXED_FRAMES = ("map", "odom", "world")
VEHICLE_FRAME = "base_link"
TRUTH, TRUTH_3D = "ground_truth", "ground_truth_3d"
LOG = logging.getLogger(__name__)
FROM = {types.IMAGE: to_bgr, types.COMPRESSED_IMAGE: compressed_to_bgr}


def is_bag(path: Path) -> bool:
    """Whether a path is a bag's folder or one of its files."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(map(is_storage, path.iterdir()))
    return is_storage(path) and path.is_file()


def read_messages(path: str | Path, topics: set[str] | None = None) -> Iterator[tuple[str, int, Any]]:
    """Topic, time of recording in nanoseconds and content of every message, in the order of the bag.

    Args:
        path: a bag's folder, or one of its files.
        topics: only these; all by default.

    Raises:
        DataError: the bag is missing, cut off or broken; messages before the fault have been given. Of an mcap that
            is cut off those of whole chunks are.
    """
    with _open(Path(path)) as reader:
        connections = [c for c in reader.connections if topics is None or c.topic in topics]
        if not connections:
            return
        messages = reader.messages(connections)
        while True:
            try:
                connection, time_ns, data = next(messages)
            except StopIteration:
                return
            except (EOFError, Oversized) as error:
                raise DataError(f"bag {path} is broken: {error}") from error
            except Exception as error:  # the reader raises whatever the broken bytes make of it
                raise DataError(f"bag {path} is broken: what follows cannot be read") from error
            yield connection.topic, time_ns, _content(path, connection, data)


def _content(path: str | Path, connection: Any, data: bytes) -> Any:
    """Raises DataError."""
    where = f"bag {path}, {connection.topic}"
    if bytes(data[:4]) == ZSTD:
        raise DataError(f"{where}: its messages are compressed (zstd), and metadata.yaml, which says so, is missing")
    try:
        return types.reader(connection.msgtype, definition(connection))(data)
    except types.OtherDefinition as error:
        raise DataError(f"{where}: {error}") from error
    except Exception as error:  # whatever the broken bytes make of it
        raise DataError(f"{where} is broken: a message is no {connection.msgtype}") from error


class WholeMessages:
    """The messages of a bag as read_messages gives them, but a fault ends them without a word.

    Attributes:
        fault: that ended them; None as long as there was none.
    """

    def __init__(self, path: str | Path, topics: set[str]) -> None:
        self._messages = read_messages(path, topics)
        self.fault: DataError | None = None

    def __iter__(self) -> Iterator[tuple[str, int, Any]]:
        try:
            yield from self._messages
        except DataError as error:
            self.fault = error


def list_topics(path: str | Path) -> dict[str, tuple[str, int]]:
    """Type and number of messages of every topic. Raises DataError as read_messages does."""
    with _open(Path(path)) as reader:
        return {name: (info.msgtype or "", info.msgcount) for name, info in sorted(reader.topics.items())}


def image_topics(path: str | Path) -> dict[str, int]:
    """Topics of images and their numbers of messages. Raises DataError as read_messages does."""
    return {name: count for name, (kind, count) in list_topics(path).items() if kind in FROM}


def namespace_of(topic: str) -> str:
    """Of a topic of images."""
    return topic.removesuffix("/compressed").rpartition("/")[0]


class BagSequence(Attempted):
    """The images of one topic, with what the bag says of the camera, its place and the truth.

    Where no image bears a stamp, the time of recording takes its place. Images whose stamp is not after the ones before
    are left out; a warning counts them.

    Attributes:
        name: the bag's name and the topic's namespace.
        class_names: of the truth, in alphabetical order; empty without one.
        topic: of the images.

    Args:
        path: a bag's folder, or one of its files.
        topic: of the images; may be empty where there is only one.
        rectified: "true" where the images are rectified, as those on topics called image_rect are taken to be: their
            intrinsics are in P of camera_info, and D is not theirs.

    Raises:
        DataError: the bag is missing or broken, or has no such topic.
        ConfigurationError: `rectified` is neither true nor false.
    """

    def __init__(self, path: str | Path, topic: str = "", rectified: str = "false") -> None:
        if rectified not in ("true", "false"):
            raise ConfigurationError(f"{path}: expected rectified=true or rectified=false, got rectified={rectified}")
        self._path = Path(path)
        topics = list_topics(self._path)
        images = {name: count for name, (kind, count) in topics.items() if kind in FROM}
        if (not topic and len(images) != 1) or (topic and topic not in images):
            wanted = f"images on {topic}" if topic else "one topic of images; add which, like ?topic=/camera/image"
            raise DataError(f"bag {self._path}: expected {wanted}, found {', '.join(images) or 'none'}")
        self.topic = topic or next(iter(images))
        self._rectified = rectified == "true" or is_rectified(self.topic)
        self._to_bgr = FROM[topics[self.topic][0]]
        self._length = images[self.topic]
        namespace = namespace_of(self.topic)
        self.name = f"{self._path.stem}{namespace.replace('/', '-')}"
        self._namespace = namespace
        labelled = f"{namespace}/{TRUTH}" in topics
        self.class_names: tuple[str, ...] = self._known.class_names if labelled else ()

    @cached_property
    def _known(self) -> _Knowledge:
        """Takes a pass through the bag: not before it is needed."""
        return _Knowledge(self._path, self._namespace, self._rectified)

    @cached_property
    def _stamped(self) -> bool:
        """Whether any image bears a stamp: a driver that knows none leaves all of them at 0."""
        return any(types.header_time(message) for _, _, message in WholeMessages(self._path, {self.topic}))

    def __len__(self) -> int:
        return self._length

    def attempts(self) -> Iterator[Frame | DataError]:
        last = number = given = 0
        for number, (_, recorded_ns, message) in enumerate(read_messages(self._path, {self.topic}), start=1):
            time_ns = types.header_time(message) if self._stamped else recorded_ns
            if time_ns <= last:
                continue
            last = time_ns
            given += 1
            yield attempt(self._frame, time_ns, number, message)
        if number and not given:
            raise DataError(f"bag {self._path}: none of the {number} images of {self.topic} has a stamp after 0")
        if given < number:
            reason = "their stamps are not after those before"
            LOG.warning(
                "bag %s: left out %d of %d images of %s: %s", self._path, number - given, number, self.topic, reason
            )
        if number < self._length:
            raise DataError(f"bag {self._path} breaks off after {number} of {self._length} images of {self.topic}")
        if self._known.fault is not None:
            raise self._known.fault

    def _frame(self, time_ns: int, number: int, message: Any) -> Frame:
        with _naming(self._path, f"image {number} of {self.topic}"):
            return self._known.frame(time_ns, self._to_bgr(message), frame_name(message.header.frame_id))


class _Knowledge:
    """What a bag holds beside the images of a camera, up to a fault, which is kept until the images have been given."""

    def __init__(self, path: Path, namespace: str, rectified: bool) -> None:
        self._cameras: list[tuple[int, Camera | None, str]] = []
        self._tree = TransformTree()
        truth: dict[int, Any] = {}
        self._truth_3d: dict[int, Any] = {}
        info, flat, spatial = (f"{namespace}/{name}" for name in ("camera_info", TRUTH, TRUTH_3D))
        self._path, self._spatial = path, spatial
        messages = WholeMessages(path, {info, flat, spatial, "/tf", "/tf_static"})
        for topic, _, message in messages:
            if topic == info:
                with _naming(path, topic):
                    self._cameras.append((types.header_time(message), *_camera(message, rectified)))
            elif topic == flat:
                truth[types.header_time(message)] = message
            elif topic == spatial:
                self._truth_3d[types.header_time(message)] = message
            else:
                with _naming(path, topic):
                    self._take_transforms(message.transforms, topic == "/tf_static")
        self.fault = messages.fault
        self._cameras.sort(key=lambda entry: entry[0])
        names = {_best(d).class_id for message in truth.values() for d in message.detections if d.results}
        self.class_names = tuple(sorted(names))
        self._numbers = IdNumbers()
        with _naming(path, flat):
            self._labels = {t: _labels(message, self.class_names, self._numbers) for t, message in truth.items()}

    def frame(self, time_ns: int, image: Image, frame_id: str) -> Frame:
        """Raises ValueError for an image of another size than its camera's."""
        camera, fault = self._camera_at(time_ns)
        wrong = None if camera is None else other_size(camera, image)
        if wrong is not None:
            raise ValueError(wrong)
        chain = self._tree.chain(frame_id)
        fixed = next((name for name in FIXED_FRAMES if name in chain), None)
        camera_pose = ego_pose = None
        if fixed is not None:
            camera_pose = self._tree.lookup(fixed, frame_id, time_ns)
            ego_pose = self._tree.lookup(fixed, VEHICLE_FRAME, time_ns)
        labels, boxes = self._labels.get(time_ns), None
        if labels is not None and time_ns in self._truth_3d:
            with _naming(self._path, self._spatial):
                boxes = _boxes_3d(self._truth_3d[time_ns], labels, self._numbers)
        return Frame(
            time_ns, image, labels, camera=camera, camera_pose=camera_pose, ego_pose=ego_pose, boxes3d=boxes,
            camera_fault=fault,
        )  # fmt: skip

    def _camera_at(self, time_ns: int) -> tuple[Camera | None, str]:
        """The calibration that was last published, or the first one for images before it, and what is wrong with it."""
        if not self._cameras:
            return None, ""
        place = bisect_right(self._cameras, time_ns, key=lambda entry: entry[0])
        return self._cameras[max(place - 1, 0)][1:]

    def _take_transforms(self, transforms: list[Any], static: bool) -> None:
        """Raises ValueError."""
        for value in transforms:
            parent, child = frame_name(value.header.frame_id), frame_name(value.child_frame_id)
            try:
                pose: Pose = types.to_pose(value.transform)
            except ValueError as error:
                raise ValueError(f"the transform from {child} to {parent} is none: {error}") from error
            if static:
                self._tree.add_static(parent, child, pose)
            else:
                self._tree.add(parent, child, types.header_time(value), pose)


@contextmanager
def _naming(path: Path, topic: str) -> Iterator[None]:
    """A content that makes no sense is said to be of this topic. Raises DataError."""
    try:
        yield
    except (ValueError, OverflowError, ConfigurationError, ImageError) as error:
        raise DataError(f"bag {path}, {topic}: {error}") from error


def _open(path: Path) -> Any:
    """An open reader, to be used as a context. Raises DataError."""
    if not path.exists():
        raise DataError(f"bag {path} does not exist")
    try:
        return closing(open_files(path))
    except DataError:
        raise
    except (EOFError, Oversized) as error:
        raise DataError(f"bag {path} cannot be read: {error}") from error
    except Exception as error:  # the reader raises whatever the broken bytes make of it
        others = other_encodings(path)
        if others:
            raise DataError(f"bag {path}: expected messages of ROS 2 (cdr), got {others}") from error
        raise DataError(f"bag {path} cannot be read: it is damaged, or no bag") from error


def _camera(info: Any, rectified: bool) -> tuple[Camera | None, str]:
    """The camera of a CameraInfo, None without or with distortion, and what is wrong with it.

    Intrinsics that are zero mean "uncalibrated". Raises ConfigurationError for others that are none.
    """
    if not (info.p if rectified else info.k).any():
        return None, ""
    distorted = distortion(info, rectified)
    return (None, distorted) if distorted else (read_camera(info, rectified), "")


def _best(detection: Any) -> Any:
    return max(detection.results, key=lambda result: result.hypothesis.score).hypothesis


def _labels(message: Any, names: tuple[str, ...], numbers: IdNumbers) -> Labels:
    """Visibility is not part of the message: for it the score of a true object stands. Raises ValueError."""
    rows = [d for d in message.detections if d.results]
    table = [(d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.size_x, d.bbox.size_y) for d in rows]
    scores = np.array([_best(d).score for d in rows], float)
    centre, half = np.split(np.array(table, float).reshape(-1, 4), 2, axis=1)
    _check_finite(centre, half, scores)
    return Labels(
        np.array([numbers[d.id] for d in rows], np.int64),
        np.concatenate([centre - half / 2, centre + half / 2], 1),
        np.array([names.index(_best(d).class_id) for d in rows], np.int64),
        scores,
    )


def _boxes_3d(message: Any, labels: Labels, numbers: IdNumbers) -> Boxes3D | None:
    """The boxes in the order of the labels; None where one is missing. Raises ValueError."""
    by_id = {numbers[d.id]: d for d in message.detections}
    rows = [by_id.get(identity) for identity in labels.ids.tolist()]
    if any(row is None for row in rows):
        return None
    poses = [row.bbox.center for row in rows]  # type: ignore[union-attr]
    sizes = [row.bbox.size for row in rows]  # type: ignore[union-attr]
    centre = np.array([(p.position.x, p.position.y, p.position.z) for p in poses], float).reshape(-1, 3)
    size = np.array([(s.x, s.y, s.z) for s in sizes], float).reshape(-1, 3)
    yaw = np.array([2 * np.arctan2(p.orientation.z, p.orientation.w) for p in poses], float)
    _check_finite(centre, size, yaw)
    return Boxes3D(centre, size, yaw, np.full((len(rows), 3), np.nan))


def _check_finite(*numbers: Floats) -> None:
    """Raises ValueError."""
    if not all(np.isfinite(values).all() for values in numbers):
        raise ValueError("expected finite boxes, got NaN or infinity")
