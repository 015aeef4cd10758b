"""Sun, sky and weather, drawn once a drive, and the noise that gives surfaces their grain."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from camtrack_core.datasets.drive.raster import Vector, vector
from camtrack_core.geometry.boxes import Floats

TILE = 256  # texels along a side of the noise


class Light(NamedTuple):
    """Light and weather; colours are linear BGR, 1 is the brightness of a white wall in full daylight."""

    sun: Vector  # unit vector towards the sun
    sunlight: Vector  # 0 under an overcast sky
    ambient: Vector
    zenith: Vector
    horizon: Vector  # also the colour of haze
    clouds: float  # share of the sky they cover
    haze: float  # extinction a metre
    wet: float  # 0 dry, 1 a film of water
    lamps: float  # 0 by day, 1 at dusk
    exposure: float


def draw_light(rng: np.random.Generator) -> Light:
    """Clear and cloudy days mostly, else overcast, rain, fog or dusk."""
    weather = rng.choice(["clear", "cloudy", "overcast", "rain", "fog", "dusk"], p=[0.28, 0.2, 0.24, 0.1, 0.06, 0.12])
    azimuth, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(18, 65))
    sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    warm = np.clip((np.radians(45) - height) / 0.6, 0, 1)
    white = np.array([1 - 0.3 * warm, 1 - 0.12 * warm, 1.0])
    clear, grey = np.array([0.95, 0.5, 0.24]), np.array([0.62, 0.6, 0.58])
    pale = np.array([1.0, 0.92, 0.84])
    haze, wet, lamps, clouds = rng.uniform(0.0003, 0.0014), 0.0, 0.0, rng.uniform(0.1, 0.45)
    sunlight, ambient, zenith, horizon = 0.95 * white, np.array([0.46, 0.4, 0.36]), clear * 0.75, pale * 0.95
    if weather == "cloudy":
        sunlight, clouds = sunlight * rng.uniform(0.5, 0.9), rng.uniform(0.5, 0.8)
        ambient, zenith = ambient * 1.2, 0.5 * (clear + grey)
    if weather in ("overcast", "rain", "fog"):
        sunlight, clouds = sunlight * 0.0, 1.0
        ambient, zenith, horizon = (
            np.array([0.78, 0.76, 0.74]),
            grey * rng.uniform(0.8, 1.5),
            pale * rng.uniform(0.8, 1.2),
        )
    if weather == "rain":
        haze, wet, lamps = rng.uniform(0.002, 0.005), rng.uniform(0.6, 1), rng.uniform(0.3, 0.7)
        ambient, zenith, horizon = 0.7 * ambient, 0.65 * zenith, 0.75 * horizon
    if weather == "fog":
        haze, horizon = rng.uniform(0.008, 0.02), np.array([0.8, 0.8, 0.8])
    if weather == "dusk":
        dim = rng.uniform(0.12, 0.4)
        sunlight, ambient = sunlight * 0.0, np.array([0.8, 0.62, 0.52]) * dim
        zenith, horizon = np.array([0.6, 0.36, 0.25]) * dim, np.array([0.62, 0.68, 0.95]) * dim * 1.3
        lamps = rng.uniform(0.7, 1)
    level = float(0.55 * sunlight.mean() * sun[2] + ambient.mean())
    exposure = rng.uniform(0.75, 1.3) * 1.15 / level**0.8
    return Light(
        vector(sun), vector(sunlight), vector(ambient), vector(zenith), vector(horizon), float(clouds), float(haze),
        float(wet), float(lamps), float(exposure),
    )  # fmt: skip


def noise_tile(rng: np.random.Generator, size: int = TILE) -> Floats:
    """(size, size) float32 in about [-1, 1] that repeats without seams: grain on top of broader patches."""
    total = np.zeros((size, size), np.float32)
    for cells, weight in ((8, 0.3), (32, 0.3), (128, 0.35), (256, 0.35)):
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        wrapped = np.pad(coarse, 2, mode="wrap")
        scale = size // cells
        fine = cv2.resize(wrapped, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += weight * fine[2 * scale : 2 * scale + size, 2 * scale : 2 * scale + size]
    return total
