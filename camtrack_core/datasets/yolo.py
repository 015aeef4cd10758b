"""Pictures with labels in YOLO's text form: one row `class x y w h` an object, shares of the picture.

data.yaml  images/0001.jpg  labels/0001.txt
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import yaml

from camtrack_core.datasets.frames import Frame, Labels, Truth
from camtrack_core.datasets.video import FrameFolder
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.numbers import read_text

CLASSES = ("car", "truck", "bus")


class YoloFolder:
    """Vehicles of the pictures in a folder, each picture on its own; ids are no object's twice.

    Attributes:
        name: the folder's name.
        class_names: CLASSES; a class of data.yaml whose name holds one of them belongs to it, others are left out.

    Args:
        root: holds data.yaml, images and labels.
        aspect: width over height that the pictures had before they were stretched; empty for as they are.
        name: beginning of the pictures' names, or with ! in front of those that are left out; empty for all.

    Raises:
        DataError: a file is missing or broken.
        ConfigurationError: the aspect is no number above 0.
    """

    class_names: tuple[str, ...] = CLASSES

    def __init__(self, root: str | Path, aspect: str = "", name: str = "") -> None:
        self.root = Path(root)
        self.name = f"{self.root.resolve().name}{name and '-'}{name.replace('!', 'without-')}"
        try:
            self._aspect = float(aspect) if aspect else None
        except ValueError:
            self._aspect = 0.0
        if self._aspect is not None and not 0 < self._aspect < 100:
            raise ConfigurationError(f"{self.root}: expected aspect as a number like 1.778, got {aspect}")
        pictures = FrameFolder(self.root / "images")
        wanted, begin = not name.startswith("!"), name.removeprefix("!")
        self._chosen = [f for f in pictures.paths if not begin or f.name.startswith(begin) == wanted]
        self._pictures = pictures
        self._class_of = _class_of(self.root / "data.yaml")
        if not self._chosen:
            raise DataError(f"{self.root}: expected pictures {name or ''}, found none")

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Frame]:
        first = 1
        for path, frame in zip(self._pictures.paths, self._pictures, strict=True):
            if path not in self._chosen:
                continue
            image = frame.image
            if self._aspect is not None:
                image = cv2.resize(image, (round(image.shape[0] * self._aspect), image.shape[0]))  # type: ignore[assignment]
            labels = self._labels(path, image.shape[1], image.shape[0], first)
            first += len(labels)
            yield Frame(frame.time_ns, image, labels)

    def truth(self) -> Iterator[Truth]:
        for number, frame in enumerate(self, start=1):
            assert frame.labels is not None
            yield Truth(number, frame.time_ns, frame.labels)

    def _labels(self, picture: Path, width: int, height: int, first: int) -> Labels:
        path = self.root / "labels" / f"{picture.stem}.txt"
        try:
            rows = np.loadtxt(path, ndmin=2).reshape(-1, 5) if path.read_text().strip() else np.zeros((0, 5))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: expected rows of a class and a box, got {error}") from error
        if not np.isfinite(rows).all():
            raise DataError(f"{path}: expected finite numbers")
        class_ids = np.array([self._class_of.get(int(row[0]), -1) for row in rows], np.int64)
        rows, class_ids = rows[class_ids >= 0], class_ids[class_ids >= 0]
        centre, half = rows[:, 1:3] * [width, height], rows[:, 3:5] * [width, height] / 2
        ids = np.arange(first, first + len(rows))
        return Labels(ids, np.concatenate([centre - half, centre + half], 1), class_ids, np.ones(len(rows)))


def is_yolo(path: Path) -> bool:
    """Whether a folder is of this layout."""
    return all((path / name).exists() for name in ("data.yaml", "images", "labels"))


def _class_of(path: Path) -> dict[int, int]:
    """Index into CLASSES of each class of data.yaml, which lists or numbers them, that is a vehicle."""
    try:
        names = yaml.safe_load(read_text(path))["names"]
        numbered = dict(names) if isinstance(names, dict) else dict(enumerate(names))
    except (KeyError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path}: expected names of classes, got {type(error).__name__}") from error
    known = {i: [k for k, name in enumerate(CLASSES) if name in str(text)] for i, text in numbered.items()}
    return {i: found[0] for i, found in known.items() if found}
