"""What a camera does to light: tone curve, white balance, blur, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.drive.light import Light


class Sensor:
    """Turns the supersampled canvas into the recorded image; all its traits are drawn once."""

    def __init__(self, rng: np.random.Generator, width: int, height: int, light: Light) -> None:
        self.size = (width, height)
        contrast = rng.uniform(1.2, 2.0)
        linear = np.arange(1024) / 256
        bright = 1 - np.exp(-contrast * linear)
        tone = bright ** (1 / rng.uniform(1.9, 2.2))
        curve = rng.uniform(0.2, 0.9)  # of the S that cameras lay over the tones
        tone = (1 - curve) * tone + curve * tone * tone * (3 - 2 * tone)
        self.tone = np.clip(255 * tone + 0.5, 0, 255).astype(np.uint8)
        self._blur = max(0.0, rng.normal(0.35, 0.3))
        warm, green = rng.normal(0, 0.035), rng.normal(0, 0.012)
        balance = np.array([1 - warm, 1 + green, 1 + warm])
        saturation, lift = rng.uniform(0.75, 1.2), rng.uniform(0, 6)
        grey = np.array([[0.114, 0.587, 0.299]])
        mix = saturation * np.eye(3) + (1 - saturation) * np.repeat(grey, 3, axis=0)
        self._colour = np.column_stack([balance[:, None] * mix * (1 - lift / 255), np.full(3, lift)]).astype(np.float32)
        grain = rng.uniform(0.4, 2.5) + 1.5 * light.lamps
        self._noise = [self._grain(rng, grain) for _ in range(3)]
        self._shift = rng.integers(0, min(height, width), (4096, 2))
        self._quality = int(rng.integers(55, 96)) if rng.random() < 0.7 else None

    def _grain(self, rng: np.random.Generator, strength: float) -> NDArray[np.int16]:
        width, height = self.size
        fine = rng.normal(0, strength, (height, width, 1)) + rng.normal(0, strength * 0.5, (height, width, 3))
        return fine.astype(np.int16)

    def expose(self, canvas: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """The (H, W, 3) uint8 BGR image of frame `index`."""
        image = cv2.resize(canvas, self.size, interpolation=cv2.INTER_AREA)
        if self._blur > 0.25:
            image = cv2.GaussianBlur(image, (0, 0), self._blur)
        image = cv2.transform(image, self._colour)
        rows, columns = self._shift[index % len(self._shift)]
        noise = self._noise[index % len(self._noise)]
        noise = np.roll(noise, (int(rows), int(columns)), (0, 1))
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
        if self._quality is not None:
            _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])
            return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
        return np.asarray(image, np.uint8)
