"""Shapes of cars, vans, trucks and buses: a lofted body with windows, lamps and plates, on wheels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from camtrack_core.datasets.drive.mesh import Mesh, Slot, box, disc, fitted, join, quads, shape, split, tube
from camtrack_core.geometry.boxes import Floats

Curve = tuple[tuple[float, float], ...]  # points (place along the length from 0 rear to 1 front, value)


@dataclass(frozen=True)
class Body:
    """The lines of a body; lengths in metres, places as shares of the length from the rear.

    Attributes:
        top: outline of bonnet, windows and roof, heights as shares of the height.
        belt: lower edge of the side windows, heights as shares of the height.
        plan: half width as a share of the greatest one.
        screens: places between which the top is glass (windscreen, rear window).
        windows: places between which the sides above the belt are glass.
        wheels: places of the axles.
    """

    length: float
    width: float
    height: float
    top: Curve
    belt: Curve
    plan: Curve
    screens: tuple[tuple[float, float], ...]
    windows: tuple[tuple[float, float], ...]
    wheels: tuple[float, ...]
    wheel_radius: float = 0.32
    clearance: float = 0.2
    tumblehome: float = 0.2  # how much narrower the roof is than the belt, as a share


CAR_PLAN: Curve = (
    (0, 0.8),
    (0.03, 0.9),
    (0.12, 0.97),
    (0.3, 1),
    (0.75, 1),
    (0.9, 0.95),
    (0.97, 0.86),
    (1, 0.7),
)
BOX_PLAN: Curve = ((0, 0.95), (0.02, 1), (0.9, 1), (0.97, 0.96), (1, 0.86))

SEDAN = Body(
    4.7, 1.82, 1.46,
    ((0, 0.6), (0.012, 0.66), (0.05, 0.7), (0.15, 0.73), (0.24, 0.86), (0.33, 0.965), (0.42, 1), (0.52, 0.995),
     (0.6, 0.95), (0.67, 0.83), (0.74, 0.69), (0.86, 0.63), (0.95, 0.56), (0.985, 0.5), (1, 0.42)),
    ((0, 0.56), (0.2, 0.63), (0.7, 0.62), (0.9, 0.54), (1, 0.38)), CAR_PLAN,
    ((0.15, 0.33), (0.6, 0.74)), ((0.2, 0.42), (0.44, 0.7)), (0.2, 0.81),
)  # fmt: skip
HATCHBACK = Body(
    4.1, 1.76, 1.5,
    ((0, 0.6), (0.01, 0.66), (0.03, 0.7), (0.08, 0.83), (0.14, 0.95), (0.25, 0.99), (0.42, 1), (0.55, 0.985),
     (0.63, 0.93), (0.7, 0.8), (0.77, 0.68), (0.89, 0.6), (0.96, 0.53), (0.988, 0.46), (1, 0.38)),
    ((0, 0.58), (0.1, 0.64), (0.7, 0.6), (0.9, 0.52), (1, 0.36)), CAR_PLAN,
    ((0.03, 0.14), (0.63, 0.77)), ((0.14, 0.25), (0.27, 0.44), (0.46, 0.72)), (0.18, 0.81), 0.31,
)  # fmt: skip
SUV = Body(
    4.65, 1.9, 1.7,
    ((0, 0.58), (0.01, 0.66), (0.025, 0.7), (0.06, 0.84), (0.1, 0.95), (0.2, 0.99), (0.4, 1), (0.54, 0.99),
     (0.6, 0.95), (0.66, 0.82), (0.73, 0.69), (0.87, 0.64), (0.95, 0.58), (0.985, 0.5), (1, 0.4)),
    ((0, 0.56), (0.1, 0.62), (0.7, 0.61), (0.9, 0.56), (1, 0.38)), CAR_PLAN,
    ((0.025, 0.1), (0.6, 0.73)), ((0.1, 0.22), (0.24, 0.42), (0.44, 0.69)), (0.18, 0.81), 0.37, 0.27, 0.16,
)  # fmt: skip
WAGON = Body(
    4.75, 1.83, 1.5,
    ((0, 0.6), (0.01, 0.66), (0.02, 0.7), (0.06, 0.82), (0.11, 0.94), (0.2, 0.98), (0.42, 1), (0.53, 0.99),
     (0.6, 0.95), (0.67, 0.82), (0.74, 0.68), (0.87, 0.61), (0.95, 0.54), (0.987, 0.47), (1, 0.4)),
    ((0, 0.57), (0.1, 0.64), (0.7, 0.61), (0.9, 0.53), (1, 0.37)), CAR_PLAN,
    ((0.02, 0.11), (0.6, 0.74)), ((0.1, 0.23), (0.25, 0.43), (0.45, 0.7)), (0.19, 0.81), 0.33,
)  # fmt: skip
PICKUP = Body(
    5.3, 1.92, 1.82,
    ((0, 0.52), (0.01, 0.58), (0.36, 0.585), (0.375, 0.62), (0.39, 0.9), (0.42, 0.98), (0.5, 1), (0.6, 0.97),
     (0.66, 0.8), (0.71, 0.66), (0.88, 0.63), (0.96, 0.6), (0.99, 0.52), (1, 0.4)),
    ((0, 0.5), (0.3, 0.57), (0.7, 0.6), (0.9, 0.56), (1, 0.36)), CAR_PLAN,
    ((0.375, 0.41), (0.6, 0.71)), ((0.41, 0.52), (0.535, 0.67)), (0.21, 0.82), 0.39, 0.3, 0.14,
)  # fmt: skip
MINIVAN = Body(
    4.9, 1.95, 1.9,
    ((0, 0.55), (0.008, 0.6), (0.02, 0.66), (0.05, 0.92), (0.1, 0.985), (0.3, 1), (0.6, 0.99), (0.68, 0.95),
     (0.76, 0.8), (0.84, 0.63), (0.94, 0.55), (0.985, 0.46), (1, 0.36)),
    ((0, 0.5), (0.1, 0.55), (0.75, 0.54), (0.9, 0.48), (1, 0.33)), CAR_PLAN,
    ((0.02, 0.05), (0.68, 0.84)), ((0.08, 0.32), (0.34, 0.55), (0.57, 0.78)), (0.18, 0.82), 0.34, 0.22, 0.12,
)  # fmt: skip
DELIVERY = Body(
    5.7, 2.05, 2.55,
    ((0, 0.5), (0.005, 0.55), (0.012, 0.93), (0.04, 0.99), (0.3, 1), (0.66, 0.99), (0.72, 0.94), (0.8, 0.74),
     (0.87, 0.54), (0.95, 0.46), (0.99, 0.38), (1, 0.3)),
    ((0, 0.46), (0.7, 0.5), (0.9, 0.44), (1, 0.28)), BOX_PLAN,
    ((0.72, 0.87),), ((0.68, 0.82),), (0.2, 0.83), 0.36, 0.25, 0.1,
)  # fmt: skip
BUS = Body(
    11.8, 2.55, 3.15,
    ((0, 0.4), (0.002, 0.46), (0.004, 0.9), (0.012, 0.98), (0.05, 1), (0.95, 1), (0.985, 0.97), (0.994, 0.84),
     (0.998, 0.42), (1, 0.3)),
    ((0, 0.4), (0.98, 0.4), (1, 0.28)), ((0, 0.94), (0.01, 1), (0.97, 1), (0.99, 0.96), (1, 0.9)),
    ((0.002, 0.004), (0.9855, 0.9985)),
    ((0.02, 0.14), (0.155, 0.28), (0.295, 0.42), (0.435, 0.56), (0.575, 0.7), (0.715, 0.84), (0.86, 0.975)),
    (0.27, 0.76), 0.48, 0.3, 0.04,
)  # fmt: skip
CAB = Body(
    2.2, 2.4, 2.7,
    ((0, 0.9), (0.03, 0.98), (0.3, 1), (0.72, 0.98), (0.82, 0.92), (0.93, 0.58), (0.985, 0.5), (1, 0.4)),
    ((0, 0.55), (0.8, 0.53), (1, 0.38)), ((0, 1), (0.75, 1), (0.92, 0.96), (1, 0.88)),
    ((0.82, 0.93),), ((0.35, 0.84),), (), 0.46, 0.5, 0.06,
)  # fmt: skip

ROWS = 9  # points of half a cross-section, from the middle of the floor to the middle of the roof
GLASS_ROW = 4  # the strip between the belt and the roof's edge


def _stations(body: Body) -> Floats:
    """Places along the length at which a cross-section is laid: every bend of a line and edge of a window."""
    edges = [u for span in body.screens + body.windows for u in span]
    bends = [u for curve in (body.top, body.belt, body.plan) for u, _ in curve]
    return np.unique(np.round(np.array(edges + bends + list(np.linspace(0.1, 0.9, 7))), 5))


def _section(body: Body, u: Floats) -> Floats:
    """(S, ROWS, 3) half cross-sections (y >= 0) at the places u (S,), metres."""
    top, belt, plan = (np.interp(u, *np.array(c).T) for c in (body.top, body.belt, body.plan))
    top, belt = top * body.height, np.minimum(belt, top - 0.004) * body.height
    half = plan * body.width / 2
    floor = body.clearance + 0.12 * np.clip(1 - np.minimum(u, 1 - u) / 0.06, 0, 1)
    cabin = np.clip((top - belt) / (0.33 * body.height), 0, 1)  # 0 on the bonnet, 1 below the roof
    roof = half * (0.95 - body.tumblehome * cabin)
    middle = floor + 0.55 * (belt - floor)
    y = [0 * u, half * 0.93, half, half, half * 0.975, roof, roof * 0.94, roof * 0.5, 0 * u]
    rise = top - belt
    z = [floor, floor, floor + 0.3 * (belt - floor), middle, belt, belt + 0.84 * rise, belt + 0.95 * rise,
         belt + 0.99 * rise, top]  # fmt: skip
    x = np.broadcast_to((u - 0.5)[:, None] * body.length, (len(u), ROWS))
    return np.stack([x, np.stack(y, 1), np.stack(z, 1)], -1)


def _within(u: float, spans: tuple[tuple[float, float], ...]) -> bool:
    return any(low < u < high for low, high in spans)


def _skin(body: Body) -> Mesh:
    """The body without its ends."""
    u = _stations(body)
    section = _section(body, u)
    middle = (u[1:] + u[:-1]) / 2
    slots = np.full((len(middle), ROWS - 1), int(Slot.PAINT))
    slots[:, :1] = Slot.DARK
    for row, place in enumerate(middle):
        if _within(place, body.windows):
            slots[row, GLASS_ROW] = Slot.GLASS
        if _within(place, body.screens):
            slots[row, GLASS_ROW + 1 :] = Slot.GLASS
    left = shape(section.reshape(-1, 3), split(quads(len(u), ROWS)), np.repeat(slots.ravel(), 2), 35)
    mirrored = section * [1, -1, 1]
    right = shape(mirrored.reshape(-1, 3), split(quads(len(u), ROWS))[:, ::-1], np.repeat(slots.ravel(), 2), 35)
    return join(left, right)


def _end(body: Body, front: bool) -> Mesh:
    """The closed front or rear: lamps outside, grille or boot lid between them, a plate in the middle."""
    ring = _section(body, np.array([1.0 if front else 0.0]))[0]
    low, belt, top = ring[1, 2], ring[4, 2], ring[-1, 2]
    lamp_foot = max(low + 0.5 * (belt - low), belt - 0.2)
    levels = np.array([low, low + 0.3 * (belt - low), lamp_foot, belt, ring[6, 2], top])
    widths = np.append(np.interp(levels[:4], ring[1:5, 2], ring[1:5, 1]), ring[6:8, 1])
    inner = 1 - 0.27 / ring[3, 1]  # lamps are a hand and a half wide on every vehicle
    columns = np.array([-1, -inner, -0.28, 0.28, inner, 1])
    grid = np.empty((len(levels), len(columns), 3))
    bulge = 0.035 * (1 if front else -1)
    grid[..., 0] = ring[0, 0] + bulge * (1 - columns**2)[None]
    grid[..., 1] = columns[None] * widths[:, None]
    grid[..., 2] = levels[:, None]
    lamp = Slot.HEAD if front else Slot.TAIL
    slots = np.full((5, 5), int(Slot.PAINT))
    slots[0] = Slot.DARK
    slots[1, 2] = Slot.PLATE if not front else Slot.DARK
    slots[2, [0, 4]] = lamp
    if front:
        slots[2, 1:4] = Slot.DARK
        slots[0, 2] = Slot.PLATE
    faces = split(quads(*grid.shape[:2]))
    faces = faces if front else faces[:, ::-1]
    return shape(grid.reshape(-1, 3), faces, np.repeat(slots.ravel(), 2), 35)


def _wheel(x: float, half_width: float, radius: float) -> Mesh:
    """Both wheels of an axle: arch, tyre and rim as rings that stand a finger's breadth off the side."""
    parts = []
    for side in (-1.0, 1.0):
        y = side * half_width
        parts += [
            disc((x, y + side * 0.004, radius * 1.04), radius * 1.14, side, Slot.DARK),
            tube((x, y - side * 0.22, radius), (x, y + side * 0.012, radius), (radius, radius), Slot.DARK, 14),
            disc((x, y + side * 0.018, radius), radius * 0.64, side, Slot.METAL),
            disc((x, y + side * 0.022, radius), radius * 0.18, side, Slot.DARK, sides=8),
        ]
    return join(*parts)


def _mirrors(body: Body) -> Mesh:
    """Side mirrors at the foot of the windscreen."""
    place = max(high for _, high in body.windows)
    x = (place - 0.5) * body.length - 0.05
    z = np.interp(place, *np.array(body.belt).T) * body.height + 0.08
    parts = []
    for side in (-1, 1):
        inner, outer = sorted((side * body.width / 2, side * (body.width / 2 + 0.13)))
        parts.append(box((x - 0.07, inner, z - 0.06), (x + 0.07, outer, z + 0.08), Slot.PAINT))
    return join(*parts)


def vehicle(body: Body) -> Mesh:
    """A car, van or bus; mirrors reach past the stated width as they do in reality, so the mesh is fitted."""
    half = body.width / 2
    wheels = [_wheel((u - 0.5) * body.length, half, body.wheel_radius) for u in body.wheels]
    parts = [_skin(body), _end(body, True), _end(body, False), *wheels, _mirrors(body)]
    return fitted(join(*parts), body.length, body.width + 0.1, body.height)


def truck(length: float = 8.2, height: float = 3.5, width: float = 2.5) -> Mesh:
    """A box truck: a cab, a chassis and a cargo box."""
    cab = join(_skin(CAB), _end(CAB, True), _mirrors(CAB)).moved((length / 2 - CAB.length / 2, 0, 0))
    rear, front, half = -length / 2, length / 2 - CAB.length - 0.15, width / 2
    parts = [
        cab,
        box((rear, -half, 1.0), (front, half, height), Slot.CARGO),
        box((rear + 0.1, -0.5, 0.55), (length / 2 - 0.4, 0.5, 1.0), Slot.DARK),
        box((rear, -half * 0.95, 0.5), (rear + 0.08, half * 0.95, 0.72), Slot.DARK),
        box((rear - 0.015, -0.02, 1.1), (rear, 0.02, height - 0.1), Slot.DARK),  # where the doors meet
        box((rear - 0.015, -half, 1.0), (rear, half, 1.1), Slot.METAL),
        box((rear - 0.02, -0.3, 0.74), (rear, 0.3, 0.9), Slot.PLATE),
    ]
    for side in (-1, 1):
        low, high = sorted((side * half * 0.7, side * half * 0.95))
        parts.append(box((rear - 0.03, low, 0.75), (rear, high, 0.93), Slot.TAIL))
    axles = [rear + 0.24 * length, length / 2 - CAB.length * 0.55] + ([rear + 0.4 * length] if length > 9 else [])
    parts += [_wheel(x, half * 0.97, 0.5) for x in axles]
    return fitted(join(*parts), length, width + 0.1, height)


CARS = (SEDAN, HATCHBACK, SUV, WAGON, PICKUP)
VANS = (MINIVAN, DELIVERY)


def body_colour(rng: np.random.Generator) -> Floats:
    """(3,) linear BGR of a body: mostly white, black and greys, as on real streets."""
    if rng.random() < 0.7:
        return rng.choice([0.012, 0.03, 0.09, 0.2, 0.38, 0.62, 0.7]) * rng.uniform(0.85, 1.1) * np.ones(3)
    hues = np.array([[0.02, 0.03, 0.35], [0.3, 0.07, 0.03], [0.1, 0.03, 0.02], [0.04, 0.12, 0.03], [0.03, 0.05, 0.12],
                     [0.03, 0.35, 0.5], [0.25, 0.35, 0.4], [0.02, 0.12, 0.45]])  # fmt: skip
    return hues[rng.integers(len(hues))] * rng.uniform(0.5, 1.2)
