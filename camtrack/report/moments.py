"""The worst moments of a run: the frames with most errors, annotated."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack.evaluation.run import LoadedTracks
from camtrack_core.errors import DataError
from camtrack_core.evaluation.breakdown import NOBODY, JudgedFrame
from camtrack_core.geometry.boxes import Floats

APART = 1.0  # seconds between two moments of a sequence, at least
JPEG_QUALITY = 80
LARGEST = 1280  # pixels, of the wider side
# BGR: missed objects, false tracks, objects whose track changed, and what is right.
RED, ORANGE, MAGENTA, GREEN = (60, 60, 230), (0, 150, 255), (220, 60, 220), (80, 200, 80)


@dataclass(frozen=True)
class Moment:
    """A frame with errors.

    Attributes:
        sequence: its name; number: of the frame in it, from 1.
        missed, false, switched: errors.
        image: (H, W, 3) uint8 BGR, annotated; None where the recording has no images here.
    """

    sequence: str
    number: int
    missed: int
    false: int
    switched: int
    image: NDArray[np.uint8] | None


def worst_moments(loaded: Sequence[LoadedTracks], judged: Sequence[list[JudgedFrame]], count: int) -> list[Moment]:
    """The `count` frames with most errors of all sequences, worst first, no two of one sequence close together."""
    candidates = [(-f.errors, s, k) for s, frames in enumerate(judged) for k, f in enumerate(frames) if f.errors]
    chosen: list[tuple[int, int]] = []
    for _, s, k in sorted(candidates):
        times = [loaded[s].truth[other].time_ns for where, other in chosen if where == s]
        if all(abs(loaded[s].truth[k].time_ns - t) >= APART * 1e9 for t in times):
            chosen.append((s, k))
        if len(chosen) == count:
            break
    images: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for s in {s for s, _ in chosen}:
        wanted = {loaded[s].truth[k].number: k for where, k in chosen if where == s}
        images |= {(s, wanted[number]): image for number, image in _images(loaded[s], set(wanted)).items()}
    return [_moment(loaded[s], judged[s][k], k, images.get((s, k))) for s, k in chosen]


def as_data(image: NDArray[np.uint8]) -> str:
    """A picture as a URL that holds it."""
    height, width = image.shape[:2]
    scale = LARGEST / max(height, width)
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _images(one: LoadedTracks, numbers: set[int]) -> dict[int, NDArray[np.uint8]]:
    """The images of frames, as far as they are there; truth alone is enough to score."""
    found: dict[int, NDArray[np.uint8]] = {}
    try:
        for number, frame in enumerate(one.sequence, start=1):
            if number in numbers:
                found[number] = frame.image
            if len(found) == len(numbers):
                break
    except DataError:
        pass
    return found


def _moment(one: LoadedTracks, judged: JudgedFrame, index: int, image: NDArray[np.uint8] | None) -> Moment:
    objects = judged.objects
    missed = objects.partner == NOBODY
    if image is not None:
        image = image.copy()
        right = ~missed & ~objects.switched
        _draw(image, objects.xyxy[right], GREEN, [f"{i}" for i in objects.partner[right]])
        _draw(image, objects.xyxy[missed], RED, [f"missed {i}" for i in objects.ids[missed]])
        false = judged.false[np.isfinite(judged.false.xyxy).all(1)]  # in space they have no box in the image
        _draw(image, false.xyxy, ORANGE, [f"false {i}" for i in false.ids])
        names = [f"now {i}" for i in objects.partner[objects.switched]]
        _draw(image, objects.xyxy[objects.switched], MAGENTA, names)
    number = one.truth[index].number
    counts = int(missed.sum()), len(judged.false), int(objects.switched.sum())
    return Moment(one.sequence.name, number, *counts, image)


def _draw(image: NDArray[np.uint8], xyxy: Floats, tint: tuple[int, int, int], texts: Sequence[str]) -> None:
    size = max(0.4, image.shape[1] / 2000)
    for (x1, y1, x2, y2), text in zip(np.nan_to_num(xyxy).round().astype(int).tolist(), texts, strict=True):
        cv2.rectangle(image, (x1, y1), (x2, y2), tint, max(1, round(image.shape[1] / 500)), cv2.LINE_AA)
        cv2.putText(image, text, (x1, max(y1 - 4, 10)), cv2.FONT_HERSHEY_SIMPLEX, size, tint, 1, cv2.LINE_AA)
