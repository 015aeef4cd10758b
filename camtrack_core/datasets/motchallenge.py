"""MOTChallenge sequences (2015, 2016, 2017, 2020, DanceTrack) in the official layout.

    MOT17-02-FRCNN/seqinfo.ini  img1/000001.jpg  gt/gt.txt  det/det.txt

Images are needed to play a sequence, not to read its truth or its public detections.
"""

from __future__ import annotations

import configparser
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from camtrack_core.datasets.frames import Attempted, Frame, Labels, Truth, attempt
from camtrack_core.datasets.video import DEFAULT_FRAME_RATE, IMAGE_SUFFIXES, read_image, stamp_ns
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.files import below
from camtrack_core.geometry.boxes import Boxes2D, Floats, Integers, clip
from camtrack_core.numbers import NOWHERE, finite_number, frame_number, integer, read_text, rows_of

# What is to be found, what may be tracked or not, and what is annotated for no more than completeness.
TARGET, DISTRACTOR, OTHER = range(3)
PEDESTRIAN = 1
KINDS = {
    1: "pedestrian", 2: "person on vehicle", 3: "car", 4: "bicycle", 5: "motorbike", 6: "non motorized vehicle",
    7: "static person", 8: "distractor", 9: "occluder", 10: "occluder on the ground", 11: "occluder full",
    12: "reflection", 13: "crowd",
}  # fmt: skip
DISTRACTORS = (2, 7, 8, 12)  # where pedestrians are to be found
NON_MOT_VEHICLE = 6  # a distractor in MOT20 only
COLUMNS = 9  # of a truth row from 2016 on: the eighth is the class, the ninth the share that is seen


class MotChallengeSequence(Attempted):
    """One sequence, lazily.

    Attributes:
        name: of the folder.
        class_names: of TARGET, DISTRACTOR and OTHER where there is a truth, else empty.
        kind: number of the class that is to be found, of KINDS.
        frame_rate: frames per second.

    Raises:
        DataError: there are neither images nor truth nor detections, or a file is broken; names the file.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise DataError(f"MOTChallenge sequence {self._folder} does not exist")
        self.name = self._folder.resolve().name
        info = read_info(self._folder / "seqinfo.ini")
        self.frame_rate = float(info.get("framerate", DEFAULT_FRAME_RATE))
        self._images = _images(below(self._folder, info.get("imdir", "img1")))
        self._size = (int(info["imwidth"]), int(info["imheight"])) if {"imwidth", "imheight"} <= set(info) else None
        truth = self._folder / "gt" / "gt.txt"
        self._rows = read_rows(truth) if truth.is_file() else None
        self.kind = PEDESTRIAN
        self.class_names = () if self._rows is None else class_names(PEDESTRIAN)
        if self._rows is not None:
            _check_ids(self._rows, truth)
        self._by_frame = {} if self._rows is None else rows_of(self._rows.frames)
        self._has_classes = self._rows is not None and _has_classes(self._rows.values)
        last = max(self._by_frame, default=0)
        self._length = int(info.get("seqlength", max(last, len(self._images))))
        if last > self._length:
            raise DataError(f"{truth}: expected at most {self._length} frames, got frame {last}")
        if not self._length and not (self._folder / "det" / "det.txt").is_file():
            raise DataError(f"folder {self._folder}: expected img1/*.jpg, gt/gt.txt or det/det.txt, found none")

    def __len__(self) -> int:
        return self._length

    def of_kind(self, kind: int) -> MotChallengeSequence:
        """The same sequence, in which another class is to be found."""
        other = copy.copy(self)
        other.kind, other.class_names = kind, self.class_names and class_names(kind)
        return other

    def attempts(self) -> Iterator[Frame | DataError]:
        return (attempt(self._frame, number) for number in range(1, self._length + 1))

    def _frame(self, number: int) -> Frame:
        if number not in self._images:
            missing = self._folder / "img1" / f"{number:06d}.jpg"
            raise DataError(f"MOTChallenge sequence {self.name} lacks the image {missing}")
        image = read_image(self._images[number], self._size)
        labels = self._labels(number)
        if labels is not None:
            xyxy = clip(labels.xyxy, image.shape[1], image.shape[0])
            labels = Labels(labels.ids, xyxy, labels.class_ids, labels.visible)
        return Frame(stamp_ns(number - 1, self.frame_rate), image, labels)

    def truth(self) -> Iterator[Truth]:
        return map(self.truth_at, range(1, self._length + 1))

    def truth_at(self, number: int) -> Truth:
        """The truth of one frame; numbers count from 1."""
        return Truth(number, stamp_ns(number - 1, self.frame_rate), self._labels(number))

    def labelled_frames(self) -> set[int]:
        """Numbers of the frames whose truth has rows: few where a sequence is long and empty."""
        return set(self._by_frame)

    def kinds(self) -> list[str]:
        """The classes of the truth's rows, pedestrians where rows have none (2015), and of which none has a mark."""
        if self._rows is None or not len(self._rows.frames):
            return []
        kinds = self._kinds(self._rows.values)
        marked = kinds[self._rows.values[:, 6] != 0]
        return [describe(k) + ("" if k in marked else " without a mark to be considered") for k in np.unique(kinds)]

    def detections(self) -> list[Boxes2D]:
        """The public detections, per frame. Raises DataError where they are missing or broken."""
        rows = read_rows(self._folder / "det" / "det.txt")
        places = rows_of(rows.frames)
        found = [Boxes2D.empty()] * max(self._length, *places, 0)  # one object for all frames without detections
        for number, place in places.items():
            values = rows.values[place]
            found[number - 1] = Boxes2D(_corners(values), values[:, 6], np.zeros(len(values), np.int64))
        return found

    def _labels(self, number: int) -> Labels | None:
        """Boxes reach beyond the image, as they are annotated."""
        if self._rows is None:
            return None
        place = self._by_frame.get(number, NOWHERE)
        rows = self._rows.values[place]
        visible = rows[:, 8] if self._has_classes else np.ones(len(rows))
        return Labels(self._rows.ids[place], _corners(rows), self._class_ids(rows), visible.clip(0, 1))

    def _class_ids(self, rows: Floats) -> np.ndarray:
        """A zero mark takes an object out everywhere. What is like a pedestrian distracts from pedestrians alone."""
        kinds = self._kinds(rows)
        class_ids = np.where((kinds == self.kind) & (rows[:, 6] != 0), TARGET, OTHER)
        if self.kind == PEDESTRIAN:
            absorbing = (*DISTRACTORS, NON_MOT_VEHICLE) if self.name.startswith("MOT20") else DISTRACTORS
            class_ids[np.isin(kinds, absorbing)] = DISTRACTOR
        return class_ids

    def _kinds(self, rows: Floats) -> Integers:
        """In 2015 there are pedestrians only."""
        return rows[:, 7].astype(np.int64) if self._has_classes else np.full(len(rows), PEDESTRIAN)


def class_names(kind: int) -> tuple[str, ...]:
    """By class id, where a class of KINDS is to be found."""
    return (KINDS[kind], "distractor", "other")


def class_number(text: str) -> int:
    """The class that a number of KINDS, or its name in any case, states. Raises ConfigurationError for another text."""
    for number, name in KINDS.items():
        if text.lower() in (str(number), name):
            return number
    names = ", ".join(f"{number} ({name})" for number, name in KINDS.items())
    raise ConfigurationError(f"expected one of MOTChallenge's classes {names}, got {text!r}")


def describe(kind: int) -> str:
    return f"class {kind} ({KINDS[kind]})"


def list_sequences(root: str | Path) -> list[str]:
    """Names of the folders under `root` that look like sequences, sorted."""
    return sorted(p.name for p in Path(root).iterdir() if is_sequence(p))


def is_sequence(folder: Path) -> bool:
    return any((folder / part).is_file() for part in ("seqinfo.ini", "gt/gt.txt", "det/det.txt"))


def read_info(path: Path) -> dict[str, str]:
    """Entries of a seqinfo.ini by lower-case name; empty where there is no such file.

    Raises DataError where it is broken or its numbers are not positive.
    """
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path))
        info = dict(parser["Sequence"])
        if not 0 < float(info.get("framerate", DEFAULT_FRAME_RATE)) < np.inf:
            raise ValueError(f"expected a positive framerate, got {info['framerate']}")
        for name in ("seqlength", "imwidth", "imheight"):
            if name in info and not (info[name].isascii() and info[name].isdigit() and integer(info[name])):
                raise ValueError(f"expected a positive whole {name}, got {info[name]}")
        frame_number(info.get("seqlength", "0"), first=0)
    except (configparser.Error, KeyError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return info


@dataclass(frozen=True)
class Rows:
    """The rows of a MOTChallenge text.

    Attributes:
        frames, ids: (N,) int.
        values: (N, 7 or more) float, the whole rows: frame, id, left, top, width, height, mark or score, ...
    """

    frames: Integers
    ids: Integers
    values: Floats


def read_rows(path: Path) -> Rows:
    """The rows of a truth or of public detections.

    Raises DataError where the file is missing or a row is broken; names the line.
    """
    integers: list[tuple[int, int]] = []
    rows: list[list[float]] = []
    for place, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        words = line.split(",")
        try:
            rows.append([finite_number(word) for word in words])
            if len(words) < 7 or len(words) != len(rows[0]):
                raise ValueError(f"expected {max(len(rows[0]), 7)} numbers, got {line!r}")
            integers.append((frame_number(words[0], first=1), integer(words[1])))
        except ValueError as error:
            raise DataError(f"{path}, line {place}: {error}") from error
    frames, ids = np.array(integers, np.int64).reshape(-1, 2).T
    return Rows(frames, ids, np.array(rows, float).reshape(len(rows), -1) if rows else np.zeros((0, 7)))


def _has_classes(rows: Floats) -> bool:
    """Rows of 2015 hold a place in space, or -1, where later ones hold class and visibility."""
    return rows.shape[1] >= COLUMNS and bool(np.isin(rows[:, 7], list(KINDS)).all())


def _corners(rows: Floats) -> Floats:
    return np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], 1)


def _images(folder: Path) -> dict[int, Path]:
    paths = (p for p in folder.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.stem.isdecimal())
    return {int(p.stem): p for p in paths}


def _check_ids(rows: Rows, path: Path) -> None:
    pairs, counts = np.unique(np.stack([rows.frames, rows.ids]), axis=1, return_counts=True)
    if counts.max(initial=0) > 1:
        frame, identity = pairs[:, counts.argmax()]
        raise DataError(f"{path}: the id {identity} occurs twice in frame {frame}")
