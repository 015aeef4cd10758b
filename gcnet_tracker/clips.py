"""Clips: labelled sequences, decoded once and kept as JPEG and label arrays, from which training draws at random."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.frames import Labels, Masked, Sequence
from camtrack_core.errors import DataError
from camtrack_core.files import whole
from camtrack_core.geometry.boxes import Boxes2D, Floats
from camtrack_core.labelling.teacher import CLASS_NAMES as FIND_NAMES
from camtrack_core.training.augmentation import black_out
from camtrack_core.training.stored import ALIASES, decoded, encoded, shrunk


@dataclass(frozen=True)
class Clip:
    """One labelled sequence.

    Attributes:
        frames: JPEG data of each frame.
        labels: of each frame; class_ids index the class names that the clip was made for, -1 for any other class.
        ignored: (M, 4) regions of each frame, pixels.
        times: (T,) seconds.
        finds: what detectors saw in each frame, sure or not, by the same class names; None where none looked.
    """

    frames: list[NDArray[np.uint8]]
    labels: list[Labels]
    ignored: list[Floats]
    times: Floats
    finds: list[Boxes2D] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def classes(self) -> dict[int, NDArray[np.int64]]:
        """The frames in which each class is seen."""
        seen = {int(c) for labels in self.labels for c in labels.class_ids if c >= 0}
        return {c: np.array([i for i, x in enumerate(self.labels) if (x.class_ids == c).any()]) for c in seen}

    def image(self, index: int) -> NDArray[np.uint8]:
        return decoded(self.frames[index])


def from_sequence(sequence: Sequence, class_names: tuple[str, ...]) -> Clip:
    """Reads every labelled frame of a sequence. Raises DataError if it has none.

    Regions that the data set itself leaves out are blackened (paper Fig. 1): what stands there is no background.
    """
    class_map = np.array([_index(class_names, ALIASES.get(n, n)) for n in sequence.class_names] + [-1], np.int64)
    find_map = np.array([_index(class_names, name) for name in FIND_NAMES], np.int64)
    frames, labels, ignored, times, finds = [], [], [], [], []
    for frame in sequence:
        if frame.labels is None:
            continue
        known = frame.labels
        masked = isinstance(sequence, Masked)
        image, shrink = shrunk(black_out(frame.image, frame.ignored, known.xyxy) if masked else frame.image)
        frames.append(encoded(image))
        labels.append(Labels(known.ids, known.xyxy * shrink, class_map[known.class_ids], known.visible))
        ignored.append(frame.ignored * shrink)
        times.append(frame.time_ns * 1e-9)
        if frame.finds is not None:
            found = Boxes2D(frame.finds.xyxy * shrink, frame.finds.scores, find_map[frame.finds.class_ids])
            finds.append(found[found.class_ids >= 0])
    if not frames:
        raise DataError(f"{sequence.name}: expected labelled frames, found none")
    return Clip(frames, labels, ignored, np.array(times), finds if len(finds) == len(frames) else None)


def save(clip: Clip, path: Path) -> None:
    """Writes a clip to one .npz file, complete or not at all."""
    rows = np.concatenate([np.full(len(x), i) for i, x in enumerate(clip.labels)])
    finds: dict[str, Any] = {}
    if clip.finds is not None:
        finds["finds"] = np.concatenate([_table(i, x) for i, x in enumerate(clip.finds)])
    with whole(path) as partial, open(partial, "wb") as file:
        np.savez(
            file,
            jpeg=np.concatenate(clip.frames),
            times=clip.times,
            jpeg_sizes=np.array([len(x) for x in clip.frames]),
            label_frame=rows,
            ids=np.concatenate([x.ids for x in clip.labels]),
            xyxy=np.concatenate([x.xyxy for x in clip.labels]),
            class_ids=np.concatenate([x.class_ids for x in clip.labels]),
            visible=np.concatenate([x.visible for x in clip.labels]),
            ignored_frame=np.concatenate([np.full(len(x), i) for i, x in enumerate(clip.ignored)]),
            ignored=np.concatenate([x.reshape(-1, 4) for x in clip.ignored]),
            **finds,
        )


def load(path: Path) -> Clip:
    """Reads what `save` wrote. Raises DataError for anything else."""
    try:
        with np.load(path) as data:
            a = {name: data[name] for name in data.files}
            frames = np.split(a["jpeg"], np.cumsum(a["jpeg_sizes"])[:-1])
            every = Labels(a["ids"], a["xyxy"], a["class_ids"], a["visible"])
            labels = [every[a["label_frame"] == i] for i in range(len(frames))]
            ignored = [a["ignored"][a["ignored_frame"] == i] for i in range(len(frames))]
            times, finds = a["times"], None
            if "finds" in a:
                finds = [_finds(a["finds"][a["finds"][:, 0] == i]) for i in range(len(frames))]
    except (OSError, KeyError, ValueError, zlib.error, BadZipFile) as error:
        raise DataError(f"{path}: expected a clip written by camtrack, got {error}") from error
    return Clip(frames, labels, ignored, times, finds)


def _table(frame: int, finds: Boxes2D) -> Floats:
    """(N, 7): frame, box, score and class of each find."""
    return np.column_stack([np.full(len(finds), frame), finds.xyxy, finds.scores, finds.class_ids])


def _finds(table: Floats) -> Boxes2D:
    return Boxes2D(table[:, 1:5], table[:, 5], table[:, 6].astype(np.int64))


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1
