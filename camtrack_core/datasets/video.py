"""Video files and folders of images as sequences without labels."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from camtrack_core.datasets.frames import Attempted, Frame, attempt
from camtrack_core.encoded import Image, Size, decode_upright
from camtrack_core.errors import DataError, ImageError

LOG = logging.getLogger(__name__)

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
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], path.name


def read_image(path: Path, size: Size | None = None) -> Image:
    """The image file as (H, W, 3) uint8 BGR, turned as its EXIF says, unless as it lies it has the `size` stated.

    Args:
        path: a JPEG or PNG.
        size: width and height that the recording states of its images.

    Raises:
        DataError: the file is missing, is no image, ends before its image does, or is of another size.
    """
    try:
        return decode_upright(path.read_bytes(), size)
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}") from error
    except ImageError as error:
        raise DataError(f"image {path}: {error}") from error


class Video:
    """A video file, decoded lazily; stamps are the container's times, or follow its frame rate where it has none.

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
        count = made_up = last_ns = 0
        while True:
            success, image = capture.read()
            if not success:
                break
            time_ns = FIRST_STAMP_NS + round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            if time_ns <= last_ns:
                time_ns = last_ns + round(1e9 / self.frame_rate)
                made_up += 1
            last_ns = time_ns
            count += 1
            yield Frame(time_ns, image)  # type: ignore[arg-type]
        if made_up:
            LOG.warning(
                "video %s: %d of %d frames have no time of their own after the frame before; %g frames a second are "
                "assumed there", self.path, made_up, count, self.frame_rate,
            )  # fmt: skip
        # Containers that only estimate their frame count are off by a frame or a few per cent.
        if self._length - count > max(1, 0.05 * self._length):
            raise DataError(f"video {self.path} breaks off after {count} of {self._length} frames")

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise DataError(f"video file {self.path} does not exist")
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise DataError(f"{self.path} is not a readable video file")
        return capture


class FrameFolder(Attempted):
    """A folder of JPEG and PNG images in the order of their times, or else in the natural order of their names.

    Names that are times give the stamps: seconds with a fraction (1305031102.175), or whole seconds, milliseconds,
    microseconds or nanoseconds of 10, 13, 16 or 19 digits, also behind other text. Otherwise the frame rate does, which
    is said. Hidden files are no images.

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
        names = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
        self.paths = sorted(names, key=natural_key)
        if not self.paths:
            raise DataError(f"folder {folder} holds no {', '.join(IMAGE_SUFFIXES)} images")
        times, self._assumption = _times([p.stem for p in self.paths])
        if times is None:
            self._stamps = [stamp_ns(i, frame_rate) for i in range(len(self.paths))]
            self._assumption = f"the names tell no times; {frame_rate:g} images a second are assumed"
        else:
            order = sorted(range(len(times)), key=times.__getitem__)
            self.paths, self._stamps = [self.paths[k] for k in order], [times[k] for k in order]
        if len(set(self._stamps)) < len(self._stamps):
            raise DataError(f"folder {folder} holds two images of one time")

    def __len__(self) -> int:
        return len(self.paths)

    def attempts(self) -> Iterator[Frame | DataError]:
        LOG.warning("folder %s: %s", self.paths[0].parent, self._assumption)
        for time_ns, path in zip(self._stamps, self.paths, strict=True):
            yield attempt(self._frame, time_ns, path)

    def _frame(self, time_ns: int, path: Path) -> Frame:
        return Frame(time_ns, read_image(path))


UNITS = {
    10: ("seconds", 1_000_000_000),
    13: ("milliseconds", 1_000_000),
    16: ("microseconds", 1000),
    19: ("nanoseconds", 1),
}
TIME = re.compile(
    r"(?:.*[^0-9.])?(?:([1-9][0-9]{9})\.([0-9]{1,9})|([1-9][0-9]{9}(?:[0-9]{3}){0,2}|[0-9]{19}))", re.ASCII
)


def _times(names: list[str]) -> tuple[list[int] | None, str]:
    """Nanoseconds that the names tell, and how they were read; None where not all of them do in one form."""
    found = [TIME.fullmatch(name) for name in names]
    whole = {len(match[3]) for match in found if match and match[3]}
    if not all(found) or len(whole) > 1 or (whole and any(match[1] for match in found if match)):
        return None, ""
    matches = [match for match in found if match]
    if whole:
        unit, factor = UNITS[whole.pop()]
        return [int(match[3]) * factor for match in matches], f"the names are read as times in {unit}"
    fractions = [match[2] for match in matches]
    # Decimals without their last zeros never end with one: such fractions of several lengths count nanoseconds.
    if len({*map(len, fractions)}) > 1 and any(fraction.endswith("0") for fraction in fractions):
        nanoseconds, how = [int(fraction) for fraction in fractions], "seconds and, behind the dot, nanoseconds"
    else:
        nanoseconds, how = [int(fraction.ljust(9, "0")) for fraction in fractions], "seconds"
    times = [int(match[1]) * 1_000_000_000 + rest for match, rest in zip(matches, nanoseconds, strict=True)]
    return times, f"the names are read as times in {how}"
