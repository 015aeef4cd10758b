"""UA-DETRAC sequences in the official layout.

A root holds folders of images and, beside them, one XML file a sequence:

    Insight-MVT_Annotation_Train/MVI_20011/img00001.jpg
    DETRAC-Train-Annotations-XML/MVI_20011.xml

Images are needed to play a sequence, not to read its truth; without XML it has no truth.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import pairwise
from math import isfinite
from pathlib import Path

import numpy as np

from camtrack_core.datasets.frames import Attempted, Frame, Labels, Truth, attempt
from camtrack_core.datasets.video import read_image, stamp_ns
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Floats, area, clip
from camtrack_core.numbers import frame_number

CLASS_NAMES = ("car", "bus", "van", "others")
FRAME_RATE = 25.0
IMAGE_SIZE = (960, 540)  # pixels, of all sequences
PARTS = {
    "Insight-MVT_Annotation_Train": "DETRAC-Train-Annotations-XML",
    "Insight-MVT_Annotation_Test": "DETRAC-Test-Annotations-XML",
}
Targets = dict[int, list[ElementTree.Element]]  # by frame number


class UaDetracSequence(Attempted):
    """One sequence: images, labels where the XML has any, ignored regions.

    Attributes:
        name: of the sequence, like MVI_20011.
        class_names: CLASS_NAMES; empty without XML.
        ignored: (M, 4) float, pixels, the same in all frames.
        weather: as annotated, like "sunny"; empty where it is not.

    Raises:
        DataError: there are neither images nor XML, the XML is broken, or there are images but not of every annotated
            frame.
    """

    def __init__(self, root: str | Path, name: str) -> None:
        self.name = name
        self._folder, self._annotations = find_sequence(Path(root), name)
        self._images = _number_images(self._folder) if self._folder.is_dir() else {}
        annotated = self._annotations.is_file()
        self.class_names: tuple[str, ...] = CLASS_NAMES if annotated else ()
        sequence = _parse(self._annotations) if annotated else ElementTree.Element("sequence")
        attributes = sequence.find("sequence_attribute")
        self.weather = attributes.get("sence_weather", "") if attributes is not None else ""  # spelt like this there
        regions = sequence.findall("ignored_region/box")
        self.ignored = _corners(regions, self._annotations)
        self._targets: Targets = {
            _frame_number(f, self._annotations): f.findall("target_list/target") for f in sequence.iter("frame")
        }
        missing = sorted(set(self._targets) - set(self._images))
        if missing and self._images:
            raise DataError(f"{self._folder} lacks img{missing[0]:05d}.jpg, which {self._annotations} annotates")
        self._numbers = sorted(self._images) or list(range(1, max(self._targets, default=0) + 1))
        if not self._numbers:
            raise DataError(f"expected images in {self._folder} or frames in {self._annotations}, found none")

    def __len__(self) -> int:
        return len(self._numbers)

    def attempts(self) -> Iterator[Frame | DataError]:
        if not self._images:
            raise DataError(f"UA-DETRAC sequence {self.name} has annotations alone: expected images in {self._folder}")
        for number, path in self._images.items():
            yield attempt(self._frame, number, path)

    def _frame(self, number: int, path: Path) -> Frame:
        image = read_image(path)
        labels = self._labels(number, *image.shape[1::-1])
        return Frame(stamp_ns(number - 1, FRAME_RATE), image, labels, self.ignored)

    def truth(self) -> Iterator[Truth]:
        for number in self._numbers:
            labels = self._labels(number, *IMAGE_SIZE)
            yield Truth(number, stamp_ns(number - 1, FRAME_RATE), labels, self.ignored)

    def _labels(self, number: int, width: int, height: int) -> Labels | None:
        """Frames between annotated ones show nothing that is to be found; those beyond are not annotated."""
        if number not in self._targets:
            between = min(self._targets, default=number) < number < max(self._targets, default=number)
            return Labels.empty() if between else None
        targets, path = self._targets[number], self._annotations
        boxes = [_child(t, "box", path) for t in targets]
        attributes = [_child(t, "attribute", path) for t in targets]
        xyxy = _corners(boxes, path)
        hidden = np.array([_hidden_area(t, path) for t in targets])
        inside = 1 - np.array([_number(a, "truncation_ratio", path) for a in attributes])
        visible = np.clip((1 - hidden / np.maximum(area(xyxy), 1)) * inside, 0, 1)
        ids = np.array([_number(t, "id", path) for t in targets], np.int64)
        if len(np.unique(ids)) < len(ids):
            raise DataError(f"annotations {path}: an id occurs twice in frame {number}: {ids.tolist()}")
        class_ids = np.array([_class_id(a.get("vehicle_type", "")) for a in attributes], np.int64)
        return Labels(ids, clip(xyxy, width, height), class_ids, visible.reshape(-1))


def list_sequences(root: str | Path) -> list[str]:
    """Names of the sequences under `root` that have images or annotations, sorted."""
    root = Path(root)
    annotations = (f.stem for xml in PARTS.values() for f in (root / xml).glob("MVI_*.xml"))
    images = (f.name for folder in PARTS for f in (root / folder).glob("MVI_*") if f.is_dir())
    return sorted({*annotations, *images})


def find_sequence(root: Path, name: str) -> tuple[Path, Path]:
    """Image folder and XML file of a sequence, of which one may be missing. Raises DataError if both are."""
    for images, xml in PARTS.items():
        folder, annotations = root / images / name, root / xml / f"{name}.xml"
        if folder.is_dir() or annotations.is_file():
            return folder, annotations
    raise DataError(f"expected UA-DETRAC images in {root / next(iter(PARTS)) / name}, found none")


def _number_images(folder: Path) -> dict[int, Path]:
    """The images by their numbers, in order; numbers count from 1."""
    matches = ((re.fullmatch(r"img(\d+)\.jpg", p.name), p) for p in folder.iterdir())
    images = sorted((int(m[1]), p) for m, p in matches if m)
    if not images:
        raise DataError(f"UA-DETRAC folder {folder} holds no img*.jpg")
    gap = next((a + 1 for (a, _), (b, _) in pairwise(images) if b != a + 1), None)
    if gap:
        raise DataError(f"UA-DETRAC folder {folder} lacks img{gap:05d}.jpg")
    return dict(images)


class _Plain(ElementTree.TreeBuilder):
    """Refuses document types: their entities can grow to any size, or name other files."""

    def doctype(self, name: str, *_: object) -> None:
        raise ElementTree.ParseError(f"expected no document type, got {name}")


def _parse(path: Path) -> ElementTree.Element:
    try:
        sequence = ElementTree.parse(path, ElementTree.XMLParser(target=_Plain())).getroot()
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:  # the last two of strange encodings
        raise DataError(f"annotations {path} are broken: {error}") from error
    if sequence.tag != "sequence":
        raise DataError(f"annotations {path}: expected a <sequence>, got <{sequence.tag}>")
    return sequence


def _child(element: ElementTree.Element, tag: str, path: Path) -> ElementTree.Element:
    child = element.find(tag)
    if child is None:
        raise DataError(f"annotations {path}: a <{element.tag}> has no <{tag}>")
    return child


def _number(element: ElementTree.Element, name: str, path: Path) -> float:
    try:
        value = float(element.get(name, ""))
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise DataError(
            f"annotations {path}: <{element.tag}> needs a number {name}, a finite one, got {element.attrib}"
        )
    return value


def _frame_number(frame: ElementTree.Element, path: Path) -> int:
    try:
        return frame_number(frame.get("num", ""), first=1)
    except ValueError as error:
        raise DataError(f"annotations {path}: {error}") from error


def _corners(boxes: list[ElementTree.Element], path: Path) -> Floats:
    """(N, 4) corners of boxes given as left, top, width, height."""
    names = ("left", "top", "width", "height")
    ltwh = np.array([[_number(b, n, path) for n in names] for b in boxes]).reshape(-1, 4)
    if (ltwh[:, 2:] < 0).any():
        raise DataError(f"annotations {path}: expected widths and heights from 0, got {ltwh[:, 2:].min():g}")
    return np.concatenate([ltwh[:, :2], ltwh[:, :2] + ltwh[:, 2:]], 1)


def _hidden_area(target: ElementTree.Element, path: Path) -> float:
    """Square pixels of a target that others cover; status 0 marks what the target itself covers."""
    regions = [r for r in target.findall("occlusion/region_overlap") if r.get("occlusion_status") != "0"]
    return float(area(_corners(regions, path)).sum())


def _class_id(vehicle_type: str) -> int:
    return CLASS_NAMES.index(vehicle_type) if vehicle_type in CLASS_NAMES else CLASS_NAMES.index("others")
