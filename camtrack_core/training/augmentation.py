"""Augmentation of training frames: scale, shift, horizontal flip, brightness and what cameras do to pictures.

Both frames of a pair get the same view, up to a small shake, so that the motion between them stays the world's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.frames import Labels
from camtrack_core.geometry.boxes import Floats, area, clip
from camtrack_core.networks.letterbox import PADDING

VIEW_SCALES = (0.55, 2.2)  # of a training view, in shares of the scale that fits the picture into the input
NIGHTS = 0.15  # share of the looks that are dark and grainy
MIN_HEIGHT = 8.0  # pixels of the network's input; smaller objects are ignored regions
MIN_INSIDE = 0.3  # share of a box inside the view below which it is an ignored region
MIN_VISIBLE = 0.2  # share of an object that must be unhidden for it to be asked of the network


@dataclass(frozen=True)
class View:
    """Maps source pixels to the network's input: u = scale * x + shift, then mirrored where `flip` is set."""

    scale: float
    shift: NDArray[np.float64]
    flip: bool
    width: int
    height: int

    def image(self, source: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.scale < 0.6:  # bilinear sampling would skip pixels
            small, scale = cv2.resize(source, None, fx=self.scale, fy=self.scale, interpolation=cv2.INTER_AREA), 1.0
        else:
            small, scale = source, self.scale
        # The coordinate of a pixel's centre is its index and a half; warpAffine reckons with indices.
        shift = self.shift + (scale - 1) / 2
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        view = cv2.warpAffine(small, matrix, (self.width, self.height), borderValue=(PADDING,) * 3)
        return np.asarray(view[:, ::-1] if self.flip else view, np.uint8)

    def boxes(self, xyxy: Floats) -> Floats:
        moved = xyxy * self.scale + np.tile(self.shift, 2)
        if self.flip:
            moved[:, [0, 2]] = self.width - moved[:, [2, 0]]
        return moved


def random_view(
    rng: np.random.Generator, source: tuple[int, int], width: int, height: int,
    scales: tuple[float, float] = VIEW_SCALES, shown: Floats | None = None,
) -> View:  # fmt: skip
    """A view of a source of (height, width), at a scale within `scales` of the fitting one, anywhere inside.

    Args:
        shown: (2,) pixels of the source that the view has to hold, an eighth of its size from the edges if it can.
    """
    size = np.array([width, height])
    fit = min(width / source[1], height / source[0])
    scale = fit * np.exp(rng.uniform(*np.log(scales)))
    spare = size - scale * np.array([source[1], source[0]])
    low, high = np.minimum(spare, 0), np.maximum(spare, 0)
    if shown is not None:
        low, high = (np.clip(x, low, high) for x in (size / 8 - scale * shown, size * 7 / 8 - scale * shown))
    return View(float(scale), rng.uniform(low, high), bool(rng.random() < 0.5), width, height)


def choose_shown(rng: np.random.Generator, labels: Labels) -> Floats | None:
    """Middle (2,) of a labelled object that is well seen, every class alike; None where there is none."""
    candidates = (labels.class_ids >= 0) & (labels.visible >= MIN_VISIBLE)
    present = np.unique(labels.class_ids[candidates])
    if len(present) == 0:
        return None
    row = rng.choice(np.flatnonzero(candidates & (labels.class_ids == rng.choice(present))))
    return np.asarray((labels.xyxy[row, :2] + labels.xyxy[row, 2:]) / 2)


def shake(view: View, rng: np.random.Generator) -> View:
    """The same view, moved a little: what a bumpy road does between two frames."""
    scale = float(np.exp(rng.normal(0, 0.01)))
    centre = np.array([view.width, view.height]) / 2
    shift = (view.shift - centre) * scale + centre + rng.normal(0, 3, 2)
    return View(view.scale * scale, shift, view.flip, view.width, view.height)


def see(view: View, labels: Labels, ignored: Floats) -> tuple[Labels, Floats]:
    """Labels and ignored regions in the view; objects too small, cut or hidden become ignored regions."""
    moved = view.boxes(labels.xyxy)
    cut = clip(moved, view.width, view.height)
    inside = area(cut) > 0
    whole = np.maximum(area(moved), 1e-9)
    asked = (
        inside
        & (labels.class_ids >= 0)
        & (cut[:, 3] - cut[:, 1] >= MIN_HEIGHT)
        & (cut[:, 2] - cut[:, 0] >= MIN_HEIGHT / 2)
        & (area(cut) / whole >= MIN_INSIDE)
        & (labels.visible >= MIN_VISIBLE)
    )
    kept = Labels(labels.ids[asked], cut[asked], labels.class_ids[asked], labels.visible[asked])
    return kept, np.concatenate([clip(view.boxes(ignored), view.width, view.height), cut[inside & ~asked]])


@dataclass(frozen=True)
class Look:
    """How a camera renders a scene: one draw for both frames of a pair."""

    gain: NDArray[np.float64]
    offset: float
    gamma: float
    saturation: float
    noise: float
    blur: float

    def image(self, source: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        picture: NDArray[Any]
        levels = (np.arange(256) / 255) ** self.gamma * 255
        table = np.clip(levels[:, None] * self.gain + self.offset, 0, 255).astype(np.uint8)
        picture = cv2.LUT(np.ascontiguousarray(source), table[None])
        if self.saturation != 1:
            grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
            picture = cv2.addWeighted(picture, self.saturation, grey, 1 - self.saturation, 0)
        if self.blur > 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), self.blur)
        if self.noise > 0.5:
            grain = rng.standard_normal(picture.shape, np.float32) * self.noise
            picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
        return np.asarray(picture, np.uint8)


def random_look(rng: np.random.Generator) -> Look:
    night = rng.random() < NIGHTS
    return Look(
        gain=rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3),
        offset=float(rng.normal(0, 12)),
        gamma=float(np.exp(rng.uniform(0.3, 1.0) if night else rng.normal(0, 0.2))),
        saturation=float(rng.choice([1.0, rng.uniform(0.0, 1.4)])),
        noise=float(rng.choice([0.0, rng.uniform(0, 16 if night else 8)])),
        blur=float(rng.choice([0.0, 0.0, rng.uniform(0.3, 1.5)])),
    )


def black_out(picture: NDArray[np.uint8], regions: Floats, labels: Floats) -> NDArray[np.uint8]:
    """Blackens ignored regions (paper Fig. 1), except where a labelled object stands."""
    if not len(regions):
        return picture
    hidden = np.zeros(picture.shape[:2], bool)
    for x1, y1, x2, y2 in regions.round().astype(int):
        hidden[y1:y2, x1:x2] = True
    for x1, y1, x2, y2 in labels.round().astype(int):
        hidden[y1:y2, x1:x2] = False
    return np.where(hidden[..., None], np.uint8(0), picture)
