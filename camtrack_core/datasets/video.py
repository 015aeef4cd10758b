"""Video files and folders of images as sequences without labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.frames import Frame
from camtrack_core.errors import DataError

FIRST_STAMP_NS = 1_000_000_000  # a zero stamp means "no stamp" in ROS
DEFAULT_FRAME_RATE = 25.0  # frames per second, where a recording does not say
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts")


def stamp_ns(index: int, frame_rate: float) -> int:
    """Stamp in nanoseconds of frame `index` of a recording with `frame_rate` frames per second."""
    return FIRST_STAMP_NS + round(index * 1e9 / frame_rate)


def natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key that puts frame2.jpg before frame10.jpg."""
    parts = re.findall(r"\d+|\D+", path.stem)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts], path.name


def read_image(path: Path) -> NDArray[np.uint8]:
    """The image file as (H, W, 3) uint8 BGR.

    Raises:
        DataError: the file is missing, is no image, or ends before its image does.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}") from error
    if _is_cut_off(data):
        raise DataError(f"image {path} is cut off after {len(data)} bytes")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise DataError(f"{path} is not a readable image")
    return image  # type: ignore[return-value]


def _is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end marker; decoders fill the missing part with grey and keep silent."""
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")  # no end of image after the last start of scan
    return data.startswith(b"\x89PNG") and b"IEND" not in data[-64:]


class Video:
    """A video file, decoded lazily; stamps follow the container's frame rate.

    Attributes:
        name: the file's name without suffix.
        class_names: empty, a video has no labels.
        path: the file.
        frame_rate: frames per second.
        width, height: image size in pixels.

    Raises:
        DataError: the file is missing, is no video, or holds no frames.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        capture = self._open()
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.frame_rate = rate if np.isfinite(rate) and rate > 0 else DEFAULT_FRAME_RATE
        self.width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self._length = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        decodes = capture.grab()
        capture.release()
        if not decodes:
            raise DataError(f"video {self.path} holds no frames that can be decoded")

    def __len__(self) -> int:
        """Number of frames as the container states it."""
        return self._length

    def __iter__(self) -> Iterator[Frame]:
        capture = self._open()
        try:
            yield from self._decode(capture)
        finally:
            capture.release()

    def _decode(self, capture: cv2.VideoCapture) -> Iterator[Frame]:
        index = 0
        while True:
            success, image = capture.read()
            if not success:
                break
            yield Frame(stamp_ns(index, self.frame_rate), image)  # type: ignore[arg-type]
            index += 1
        # Containers that only estimate their frame count are off by a frame or a few per cent.
        if self._length - index > max(1, 0.05 * self._length):
            raise DataError(f"video {self.path} breaks off after {index} of {self._length} frames")

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise DataError(f"video file {self.path} does not exist")
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise DataError(f"{self.path} is not a readable video file")
        return capture


class FrameFolder:
    """A folder of JPEG and PNG images in the natural order of their names.

    File names that are nanosecond times (19 digits) give the stamps, otherwise the frame rate does.

    Attributes:
        name: the folder's name.
        class_names: empty, images have no labels.
        paths: the images in order.

    Raises:
        DataError: the folder is missing or holds no images, or two images bear one time.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, path: str | Path, frame_rate: float = DEFAULT_FRAME_RATE) -> None:
        folder = Path(path)
        if not folder.is_dir():
            raise DataError(f"folder of frames {folder} does not exist")
        self.name = folder.resolve().name
        images = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        self.paths = sorted(images, key=natural_key)
        if not self.paths:
            raise DataError(f"folder {folder} holds no {', '.join(IMAGE_SUFFIXES)} images")
        self._stamps = _stamps(self.paths, frame_rate)
        if len(set(self._stamps)) < len(self._stamps):
            raise DataError(f"folder {folder} holds two images of one time")

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        for time_ns, path in zip(self._stamps, self.paths, strict=True):
            yield Frame(time_ns, read_image(path))


def _stamps(paths: list[Path], frame_rate: float) -> list[int]:
    if all(re.fullmatch(r"\d{19}", p.stem) for p in paths):
        return [int(p.stem) for p in paths]
    return [stamp_ns(i, frame_rate) for i in range(len(paths))]
