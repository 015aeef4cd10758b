"""Labels stored beside a video: a readable text format, and the video together with its labels.

The format is MOTChallenge-like text, gzipped if the file's name ends in .gz. A header names what the rows mean:

    # camtrack labels 1
    # source: roadside.mp4
    # image size: 640 352
    # frames: 905
    # classes: car,truck,bus
    # frame,id,x1,y1,x2,y2,class,score
    1,7,102.5,88.0,161.3,120.9,car,0.871
    1,-1,400.0,20.0,431.5,41.0,ignored,0.240

Frames count from 1, boxes are corners in pixels, and rows of the class `ignored` are regions without labels.
"""

from __future__ import annotations

import gzip
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.datasets.video import Video
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.numbers import frame_number

TITLE = "# camtrack labels 1"
COLUMNS = "# frame,id,x1,y1,x2,y2,class,score"
IGNORED = "ignored"
MOST_BYTES = 2**28  # of text
NO_ID = -1

T = TypeVar("T")
Row = tuple[int, int, list[float], str, float]  # frame index from 0, id, xyxy, class name, score


@dataclass(frozen=True)
class VideoLabels:
    """The labels of a whole video.

    Attributes:
        source: file name of the video.
        image_size: width and height in pixels.
        class_names: names that class_ids index.
        frames: per frame the labelled objects, ids constant over the video; scores are 1 for certain truth.
        ignored: per frame (M, 5) float, regions without labels: x1, y1, x2, y2 in pixels, score.
    """

    source: str
    image_size: tuple[int, int]
    class_names: tuple[str, ...]
    frames: list[Tracks2D]
    ignored: list[Floats]

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.ignored):
            raise DataError(f"expected ignored regions for {len(self.frames)} frames, got {len(self.ignored)}")
        if IGNORED in self.class_names or any("," in name for name in self.class_names):
            raise DataError(f"class names must hold no comma and not be '{IGNORED}', got {self.class_names}")


def write_labels(path: str | Path, labels: VideoLabels) -> None:
    """Write `labels` as text to `path`, gzipped if its name ends in .gz."""
    width, height = labels.image_size
    lines = [
        TITLE,
        f"# source: {labels.source}",
        f"# image size: {width} {height}",
        f"# frames: {len(labels.frames)}",
        f"# classes: {','.join(labels.class_names)}",
        COLUMNS,
    ]
    for number, (tracks, ignored) in enumerate(zip(labels.frames, labels.ignored, strict=True), start=1):
        for i in range(len(tracks)):
            name = labels.class_names[tracks.class_ids[i]]
            lines.append(_row(number, tracks.ids[i], tracks.xyxy[i], name, tracks.scores[i]))
        lines.extend(_row(number, NO_ID, region[:4], IGNORED, region[4]) for region in ignored)
    data = ("\n".join(lines) + "\n").encode()
    path = Path(path)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read_labels(path: str | Path) -> VideoLabels:
    """The labels stored in `path`.

    Raises:
        DataError: the file is missing, cut off or not in this format; names the file and the line.
    """
    path = Path(path)
    lines = _read_text(path).splitlines()
    if not lines or lines[0] != TITLE:
        raise DataError(f"label file {path} does not begin with '{TITLE}'")
    header = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# ") and ": " in line)
    try:
        width, height = map(int, header["image size"].split())
        count, source = frame_number(header["frames"], first=0), header["source"]
        class_names = tuple(header["classes"].split(","))
    except (KeyError, ValueError) as error:
        raise DataError(f"label file {path} has a header with a wrong or missing entry ({error})") from error

    objects: dict[int, list[Row]] = defaultdict(list)
    regions: dict[int, list[Row]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        if line.startswith("#") or not line:
            continue
        row = _parse(line, count, class_names, f"label file {path}, line {number}")
        (regions if row[3] == IGNORED else objects)[row[0]].append(row)
    return VideoLabels(
        source,
        (width, height),
        class_names,
        _by_frame({i: _tracks(rows, class_names) for i, rows in objects.items()}, count, _tracks([], class_names)),
        _by_frame({i: _regions(rows) for i, rows in regions.items()}, count, _regions([])),
    )


class LabelledVideo:
    """A video whose frames carry the labels stored in a second file.

    Attributes:
        name: the video file's name without suffix.
        class_names: names that the labels' class_ids index.
        stored: the label file's contents.

    Raises:
        DataError: as Video and read_labels do, or the labels are of another image size.
    """

    def __init__(self, video_path: str | Path, labels_path: str | Path) -> None:
        self._video = Video(video_path)
        self.stored = read_labels(labels_path)
        self.name = self._video.name
        self.class_names = self.stored.class_names
        size = (self._video.width, self._video.height)
        if size != self.stored.image_size:
            raise DataError(
                f"labels {labels_path} are for images of {self.stored.image_size} pixels, {video_path} has {size}"
            )

    def __len__(self) -> int:
        return len(self._video)

    def __iter__(self) -> Iterator[Frame]:
        for index, frame in enumerate(self._video):
            if index >= len(self.stored.frames):
                yield frame
                continue
            yield replace(frame, labels=self.labels(index), ignored=self.stored.ignored[index][:, :4])

    def labels(self, index: int) -> Labels:
        """The labels of frame `index` without decoding the video; visibility is unknown and taken as 1."""
        tracks = self.stored.frames[index]
        return Labels(tracks.ids, tracks.xyxy, tracks.class_ids, np.ones(len(tracks)))


def _row(number: int, id_: int, xyxy: Floats, name: str, score: float) -> str:
    corners = ",".join(f"{value:.2f}" for value in xyxy)
    return f"{number},{id_},{corners},{name},{score:.3f}"


def _parse(line: str, count: int, class_names: tuple[str, ...], where: str) -> Row:
    values = line.split(",")
    if len(values) != 8:
        raise DataError(f"{where}: expected 8 values, got {len(values)}")
    try:
        index, id_ = int(values[0]) - 1, int(values[1])
        box, score = [float(v) for v in values[2:6]], float(values[7])
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    name = values[6]
    if not 0 <= index < count:
        raise DataError(f"{where}: expected a frame from 1 to {count}, got {index + 1}")
    if name not in (*class_names, IGNORED):
        raise DataError(f"{where}: expected a class of {', '.join(class_names)} or {IGNORED}, got {name}")
    if not (np.isfinite([*box, score]).all() and box[2] > box[0] and box[3] > box[1]):
        raise DataError(f"{where}: expected a box with x1 < x2 and y1 < y2, got {box}")
    return index, id_, box, name, score


def _by_frame(known: dict[int, T], count: int, nothing: T) -> list[T]:
    """What is known of each frame; all that nothing is known of share one object, for there may be millions."""
    return [known.get(index, nothing) for index in range(count)]


def _regions(rows: list[Row]) -> Floats:
    return np.array([[*box, score] for _, _, box, _, score in rows]).reshape(-1, 5)


def _tracks(rows: list[Row], class_names: tuple[str, ...]) -> Tracks2D:
    return Tracks2D(
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], float).reshape(-1, 4),
        np.array([row[4] for row in rows], float),
        np.array([class_names.index(row[3]) for row in rows], np.int64),
    )


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(path) as file:
                parts = iter(lambda: file.read(2**20), b"")  # one read of all would take that memory at once
                data = b"".join(islice(parts, MOST_BYTES // 2**20 + 1))
        if len(data) > MOST_BYTES:
            raise DataError(f"label file {path}: expected at most {MOST_BYTES} bytes of text, got more")
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read label file {path}: {error}") from error
