"""Drawing tracks on images: boxes with ids, and trails."""

from __future__ import annotations

import colorsys
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.tracks import Tracks2D

TRAIL_LENGTH = 40  # frames
FORGET_AFTER = 40  # frames without its track after which a trail is dropped


def colour(track_id: int) -> tuple[int, int, int]:
    """A BGR colour that neighbouring ids do not share: hues a golden ratio apart."""
    red, green, blue = colorsys.hsv_to_rgb(track_id * 0.618034 % 1, 0.75, 1.0)
    return int(blue * 255), int(green * 255), int(red * 255)


def draw_tracks(image: NDArray[np.uint8], tracks: Tracks2D, class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Draws boxes with class and id into an image (H, W, 3) uint8 BGR, and returns it."""
    width = max(1, round(image.shape[1] / 600))
    size = max(0.35, image.shape[1] / 2000)
    for row in range(len(tracks)):
        tint = colour(int(tracks.ids[row]))
        x1, y1, x2, y2 = (round(v) for v in tracks.xyxy[row].tolist())
        cv2.rectangle(image, (x1, y1), (x2, y2), tint, width, cv2.LINE_AA)
        text = f"{class_names[tracks.class_ids[row]]} {tracks.ids[row]}"
        (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        top = max(y1 - text_height - 4, 0)
        cv2.rectangle(image, (x1, top), (x1 + text_width + 4, top + text_height + 4), tint, cv2.FILLED)
        origin = (x1 + 2, top + text_height + 1)
        cv2.putText(image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
    return image


class Trails:
    """Where tracks have been: the bottom middles of their boxes over the last frames."""

    def __init__(self) -> None:
        self._paths: dict[int, deque[tuple[int, int]]] = {}
        self._absent: dict[int, int] = {}

    def draw(self, image: NDArray[np.uint8], tracks: Tracks2D) -> NDArray[np.uint8]:
        """Adds the tracks to their trails and draws all trails of present tracks into the image."""
        for track_id, (x1, _, x2, y2) in zip(tracks.ids.tolist(), tracks.xyxy.tolist(), strict=True):
            path = self._paths.setdefault(track_id, deque(maxlen=TRAIL_LENGTH))
            path.append((round((x1 + x2) / 2), round(y2)))
            points = np.array(path, np.int32)
            cv2.polylines(image, [points], False, colour(track_id), 2, cv2.LINE_AA)
        self._forget(set(tracks.ids.tolist()))
        return image

    def _forget(self, present: set[int]) -> None:
        self._absent = {i: 0 if i in present else self._absent.get(i, 0) + 1 for i in self._paths}
        self._paths = {i: path for i, path in self._paths.items() if self._absent[i] <= FORGET_AFTER}
