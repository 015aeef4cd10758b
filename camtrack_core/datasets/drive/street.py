"""The street: a main road along x that may bend gently, and roads that cross it along y at even distances.

Traffic keeps right. Beside a place (x, y) stand its road coordinates: x itself and the offset d to the left of
the centre line. The road bends so little that offsets and distances agree to within a percent.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from camtrack_core.datasets.drive.compiled import compiled
from camtrack_core.geometry.boxes import Floats

CITY, SUBURB, MOTORWAY = 0, 1, 2


class Street(NamedTuple):
    """Widths in metres; `lanes` count each direction; `spacing` is 0 where no road crosses."""

    kind: int
    bend: float  # amplitude of the centre line
    bend_length: float
    bend_phase: float
    lanes: int
    lane_width: float
    median: float
    edge: float  # cycle strip or hard shoulder
    parking: float
    sidewalk: float
    spacing: float
    first_crossing: float
    cross_lanes: int
    yellow: bool  # centre line

    @property
    def half(self) -> float:
        """From the centre line to the kerb."""
        return self.median / 2 + self.lanes * self.lane_width + self.edge + self.parking

    @property
    def cross_half(self) -> float:
        return self.cross_lanes * self.lane_width + 0.5

    @property
    def stop(self) -> float:
        """Distance of the main road's stop lines from a crossing's middle."""
        return self.cross_half + self.sidewalk + 2.5

    def lane(self, index: int, direction: int) -> float:
        """Offset of a lane's middle; lane 0 is next to the centre, direction +1 runs along x."""
        return -direction * (self.median / 2 + (index + 0.5) * self.lane_width)

    def crossings(self, low: float, high: float) -> Floats:
        """Middles of the crossing roads between two places."""
        if self.spacing == 0:
            return np.zeros(0)
        first, last = (int(np.floor((v - self.first_crossing) / self.spacing)) for v in (low, high))
        return self.first_crossing + self.spacing * np.arange(first + 1, last + 1)


@compiled
def centre(street, x):  # type: ignore[no-untyped-def]
    """y of the main road's centre line at x."""
    return street.bend * np.sin(2 * np.pi * x / street.bend_length + street.bend_phase)


@compiled
def heading(street, x):  # type: ignore[no-untyped-def]
    """Direction of the main road at x in radians."""
    wave = 2 * np.pi / street.bend_length
    return np.arctan(street.bend * wave * np.cos(wave * x + street.bend_phase))


def draw_street(rng: np.random.Generator) -> Street:
    """A street of one of three kinds."""
    kind = int(rng.choice([CITY, SUBURB, MOTORWAY], p=[0.5, 0.28, 0.22]))
    bend_length = rng.uniform(500, 900)
    steep = rng.uniform(0, 0.09) if kind != CITY else rng.choice([0.0, 0.02])
    common: dict[str, Any] = {
        "kind": kind,
        "bend": float(steep * bend_length / (2 * np.pi)),
        "bend_length": float(bend_length),
        "bend_phase": float(rng.uniform(0, 2 * np.pi)),
        "lane_width": float(rng.uniform(3.1, 3.7)),
        "first_crossing": float(rng.uniform(20, 90)),
        "yellow": bool(rng.random() < 0.45),
    }
    if kind == MOTORWAY:
        return Street(lanes=int(rng.integers(2, 5)), median=float(rng.uniform(2, 6)), edge=2.6, parking=0.0,
                      sidewalk=0.0, spacing=0.0, cross_lanes=0, **common)  # fmt: skip
    if kind == SUBURB:
        return Street(lanes=1, median=0.0, edge=float(rng.uniform(0.8, 1.6)), parking=float(rng.choice([0, 2.2])),
                      sidewalk=float(rng.uniform(1.6, 2.6)), spacing=float(rng.uniform(110, 180)), cross_lanes=1,
                      **common)  # fmt: skip
    return Street(lanes=int(rng.integers(1, 4)), median=float(rng.choice([0, 0, 2.5])),
                  edge=float(rng.uniform(0.8, 1.8)), parking=float(rng.choice([0, 2.3, 2.3])),
                  sidewalk=float(rng.uniform(3, 6)), spacing=float(rng.uniform(90, 150)),
                  cross_lanes=int(rng.integers(1, 3)), **common)  # fmt: skip
