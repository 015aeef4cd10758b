"""The paths that road users follow: lanes, turns, pavements and zebras, with the lines at which signals stop them."""

from __future__ import annotations

import numpy as np

from camtrack_core.datasets.drive.street import Street, centre, heading
from camtrack_core.geometry.boxes import Floats

POINT_GAP = 1.0  # metres between a path's points
MAIN, CROSS = 0, 1  # phases of a signal: the main road's and the crossing road's
# A stop line: place on the path, MAIN or CROSS, signal offset in seconds, the junction's middle x and y, its half
# extents along x and y, and the metres from the line until the junction is left again.
StopLine = tuple[float, int, float, float, float, float, float, float]
Path = tuple[Floats, list[StopLine]]  # points (P, 2) POINT_GAP apart, and the lines in order


def resampled(points: Floats) -> Floats:
    """A polyline with points every POINT_GAP metres."""
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.arange(0, along[-1], POINT_GAP)
    return np.stack([np.interp(at, along, points[:, k]) for k in range(2)], 1)


def _curve(a: Floats, toward: Floats, b: Floats, onward: Floats) -> Floats:
    """A smooth turn (33, 2) from a, leaving along the unit vector toward, to b, arriving along onward."""
    reach = 0.55 * np.linalg.norm(b - a)
    t = np.linspace(0, 1, 33)[:, None]
    p, q = a + reach * toward, b - reach * onward
    return (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * p + 3 * (1 - t) * t**2 * q + t**3 * b


class Network:
    """The paths of a street between two places along it."""

    def __init__(self, street: Street, low: float, high: float, offsets: Floats) -> None:
        self.street, self.low, self.high = street, low, high
        self.crossings = street.crossings(low, high)
        self.offsets = offsets  # (C,) seconds into the cycle at time 0

    def along(self, d: float, direction: int, x0: float, x1: float) -> Floats:
        """Dense points at offset d from the centre line, from x0 to x1."""
        x = np.arange(x0, x1, direction * 0.5)
        return np.stack([x, centre(self.street, x) + d / np.cos(heading(self.street, x))], 1)

    def _line(self, at: float, phase: int, crossing: int) -> StopLine:
        """A stop line of a crossing at a place on a path."""
        street, x = self.street, float(self.crossings[crossing])
        way = 2 * (street.stop if phase == MAIN else street.half + street.sidewalk + 2.6)
        y = float(centre(street, x))
        offset = float(self.offsets[crossing])
        return at, phase, offset, x, y, street.cross_half + 1.0, street.half + 1.0, way

    def stops_along(self, points: Floats, gap: float, phase: int) -> list[StopLine]:
        """Stop lines where a path along x comes within gap of a crossing's middle."""
        direction = 1 if points[-1, 0] > points[0, 0] else -1
        found = []
        for crossing, x in enumerate(self.crossings):
            at = np.searchsorted(direction * points[:, 0], direction * x - gap) * POINT_GAP
            if 0 < at < len(points) * POINT_GAP - 1:
                found.append(self._line(float(at), phase, crossing))
        return sorted(found)

    def straight(self, d: float, direction: int, gap: float) -> Path:
        ends = (self.low, self.high) if direction > 0 else (self.high, self.low)
        points = resampled(self.along(d, direction, *ends))
        return points, self.stops_along(points, gap, MAIN)

    def turn(self, d: float, direction: int, crossing: int, left: bool) -> Path:
        """From a lane of the main road into the crossing road."""
        street, x = self.street, self.crossings[crossing]
        out = direction if left else -direction  # sign of y in which the turn leaves
        lane = x + out * 0.5 * street.lane_width
        base = float(centre(street, x))
        inset = street.cross_half + (2.0 if left else 4.0)
        into = self.along(d, direction, self.low if direction > 0 else self.high, x - direction * inset)
        exit_ = np.array([lane, base + out * (street.half + (1.0 if left else 4.0))])
        forward = np.array([direction, 0.0])
        bend = _curve(into[-1], forward, exit_, np.array([0.0, out]))
        away = exit_ + np.arange(1, 200)[:, None] * np.array([0.0, out])
        points = resampled(np.concatenate([into, bend[1:], away]))
        before = points[: int(len(into) * 0.5) + 1]
        return points, self.stops_along(before, street.stop, MAIN)

    def crossing_road(self, crossing: int, out: int, lane: int) -> Path:
        """Straight over the main road in direction out (+1 or -1) of y."""
        street = self.street
        x = self.crossings[crossing] + out * (lane + 0.5) * street.lane_width
        base = float(centre(street, x))
        y = base + out * np.arange(-160.0, 160.0, POINT_GAP)
        stop = 160.0 - (street.half + street.sidewalk + 2.6)
        return np.stack([np.full(len(y), x), y], 1), [self._line(stop, CROSS, crossing)]

    def footway(self, side: int, inset: float, direction: int) -> Path:
        """Along a pavement, waiting at every crossing road."""
        d = side * (self.street.half + inset)
        ends = (self.low, self.high) if direction > 0 else (self.high, self.low)
        points = resampled(self.along(d, direction, *ends))
        return points, self.stops_along(points, self.street.cross_half + 0.5, MAIN)

    def zebra(self, crossing: int, end: int, side: int, shift: float) -> Path:
        """Over the main road at one end of a crossing, then on along the pavement."""
        street = self.street
        x = self.crossings[crossing] + end * (street.cross_half + street.sidewalk / 2 + 0.4 + shift)
        kerb = street.half + 0.6
        y = np.arange(-kerb - 1.5, kerb + 1.0, 0.5) * side
        over = np.stack([np.full(len(y), x), centre(street, np.full(len(y), x)) + y], 1)
        on = over[-1] + np.arange(1, 60)[:, None] * np.array([end * 1.0, 0.05 * side])
        return resampled(np.concatenate([over, on])), [self._line(1.2, CROSS, crossing)]
