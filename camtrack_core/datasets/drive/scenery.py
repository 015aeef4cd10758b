"""What stands beside the road: houses, trees, bushes, lamp posts, signals, signs and guard rails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from camtrack_core.datasets.drive.mesh import Mesh, Slot, box, join, shape, tube
from camtrack_core.datasets.drive.street import CITY, MOTORWAY, SUBURB, Street, centre, heading
from camtrack_core.geometry.boxes import Floats

TREES = 4  # different tree models
DISTANT = "_distant"  # ends the name of a model's coarse twin, drawn from afar


class Prop(NamedTuple):
    """A thing that never moves: model name, place, heading, scale an axis and palette (slots, 3) linear BGR."""

    model: str
    position: tuple[float, float, float]
    yaw: float
    scale: tuple[float, float, float]
    palette: Floats


def models(rng: np.random.Generator) -> dict[str, Mesh]:
    """All models of this file by name; buildings are unit boxes to be scaled."""
    result = {
        "block": join(_walls(), box((-0.5, -0.5, 1.0), (0.5, 0.5, 1.012), Slot.ROOF)),
        "house": join(_walls(), _gable()),
        "post": box((-0.5, -0.5, 0), (0.5, 0.5, 1), Slot.METAL),
        "lamp": join(
            tube((0, 0, 0), (0, 0, 7.5), (0.1, 0.06), Slot.METAL),
            tube((0, 0, 7.4), (1.8, 0, 7.8), (0.05, 0.04), Slot.METAL),
            box((1.5, -0.13, 7.72), (2.1, 0.13, 7.86), Slot.METAL),
        ),
        "signal": join(
            tube((0, 0, 0), (0, 0, 5.6), (0.09, 0.08), Slot.METAL),
            tube((0, 0, 5.5), (0, 4.2, 5.7), (0.06, 0.05), Slot.METAL),
            *(box((-0.14, y - 0.17, z), (0.14, y + 0.17, z + 1.0), Slot.DARK) for y, z in ((4.0, 5.1), (0.2, 2.6))),
        ),
        "sign": join(
            tube((0, 0, 0), (0, 0, 2.6), (0.035, 0.035), Slot.METAL),
            box((-0.03, -0.33, 2.0), (0.03, 0.33, 2.66), Slot.CARGO),
        ),
        "bush": _crown(rng, (0, 0, 0.6), (0.9, 0.9, 0.65), 200, 0.2),
    }
    for k in range(TREES):
        tall = rng.uniform(2.0, 3.2)
        places = [(*rng.uniform(-0.9, 0.9, 2), tall + rng.uniform(0.8, 2.6)) for _ in range(4)]
        radii = rng.uniform(1.2, 2.0, (4, 3))
        branch = [
            tube((0, 0, tall * 0.8), (*rng.uniform(-1, 1, 2), tall + 1.6), (0.1, 0.04), Slot.BARK) for _ in range(3)
        ]
        trunk = join(tube((0, 0, 0), (0, 0, tall + 1), (0.2, 0.12), Slot.BARK), *branch)
        for name, count, leaf in ((f"tree{k}", 260, 0.32), (f"tree{k}{DISTANT}", 60, 0.6)):
            crowns = [_crown(rng, place, size, count, leaf) for place, size in zip(places, radii, strict=True)]
            result[name] = join(trunk, *crowns)
    return result


def _walls() -> Mesh:
    cube = box((-0.5, -0.5, 0), (0.5, 0.5, 1), Slot.FACADE)
    cube.slots[2:4] = Slot.ROOF
    return cube


def _gable() -> Mesh:
    vertices = [(x, y, z) for x in (-0.53, 0.53) for y, z in ((-0.56, 0.97), (0.56, 0.97), (0, 1.5))]
    slopes = [(0, 3, 5), (0, 5, 2), (1, 2, 5), (1, 5, 4), (0, 2, 1), (3, 4, 5)]
    return shape(np.array(vertices), np.array(slopes), Slot.ROOF)


def _crown(rng: np.random.Generator, centre: tuple[float, ...], radii, count: int, leaf: float) -> Mesh:  # type: ignore[no-untyped-def]
    """A cloud of leaf clusters; their normals point away from the middle, which lights it like one soft body."""
    away = rng.normal(size=(count, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    middle = np.asarray(centre) + away * np.asarray(radii) * rng.uniform(0.55, 1.0, (count, 1)) ** 0.5
    spread = rng.normal(size=(count, 3, 3)) * leaf * 0.75
    vertices = (middle[:, None] + spread - spread.mean(1, keepdims=True)).reshape(-1, 3)
    vertices[:, 2] = np.maximum(vertices[:, 2], 0.02)
    triangles = np.arange(3 * count).reshape(-1, 3).astype(np.int32)
    normals = np.repeat(away[:, None], 3, axis=1).astype(np.float32)
    slots = np.full(count, int(Slot.LEAF), np.int32)
    return Mesh(vertices.astype(np.float32), triangles, slots, normals)


def palette(**colours: Floats) -> Floats:
    """(slots, 3) linear BGR colours: usual ones, and those given by slot name."""
    table = np.full((len(Slot), 3), 0.3)
    table[Slot.GLASS] = (0.012, 0.012, 0.01)
    table[Slot.DARK] = 0.014
    table[Slot.METAL] = 0.22
    table[Slot.HEAD] = 0.5
    table[Slot.TAIL] = (0.015, 0.015, 0.22)
    table[Slot.PLATE] = 0.5
    table[Slot.BARK] = (0.04, 0.055, 0.07)
    for name, colour in colours.items():
        table[Slot[name.upper()]] = colour
    return table


WALLS = np.array([[0.09, 0.12, 0.24], [0.12, 0.16, 0.28], [0.33, 0.4, 0.44], [0.42, 0.44, 0.45], [0.22, 0.23, 0.24],
                  [0.5, 0.55, 0.58], [0.16, 0.24, 0.36], [0.06, 0.08, 0.13], [0.3, 0.36, 0.42]])  # fmt: skip


def props(rng: np.random.Generator, street: Street, low: float, high: float) -> list[Prop]:
    """Everything beside the road between two places along it."""
    result = list(_furniture(rng, street, low, high))
    if street.kind == MOTORWAY:
        result += _rails(street, low, high)
    else:
        result += _buildings(rng, street, low, high)
        result += _signals(street, low, high)
    return result


def _beside(street: Street, x: float, d: float) -> tuple[float, float, float]:
    return x, float(centre(street, x)) + d, 0.0


def _clear(street: Street, x: float, margin: float) -> bool:
    """Whether a place along the road keeps a distance from every crossing's kerb."""
    gaps = street.crossings(x - 200, x + 200) - x
    return bool(np.all(np.abs(gaps) > street.cross_half + margin))


def _building(rng: np.random.Generator, street: Street, place: tuple[float, float, float], yaw: float, width: float,
              depth: float) -> Prop:  # fmt: skip
    wall = WALLS[rng.integers(len(WALLS))] * rng.uniform(0.7, 1.15, 1)
    if street.kind == SUBURB:
        tint = palette(facade=wall * 1.1, roof=rng.uniform(0.03, 0.16) * np.array([0.5, 0.6, 1.0]))
        return Prop("house", place, yaw, (width, depth, rng.uniform(3.5, 7)), tint)
    height = rng.choice([rng.uniform(7, 14), rng.uniform(12, 24), rng.uniform(25, 45)], p=[0.4, 0.45, 0.15])
    return Prop("block", place, yaw, (width, depth, height), palette(facade=wall, roof=np.full(3, 0.15)))


def _buildings(rng: np.random.Generator, street: Street, low: float, high: float) -> Iterator[Prop]:
    """Rows of houses along the main road, and along the roads that cross it."""
    front = street.half + street.sidewalk + (0.5 if street.kind == CITY else rng.uniform(5, 9))
    gap = (0.0, 3.0) if street.kind == CITY else (5.0, 16.0)
    for side in (-1, 1):
        x = low
        while x < high:
            width, depth = (
                rng.uniform(9, 26) if street.kind == CITY else rng.uniform(8, 14),
                rng.uniform(9, 13),
            )
            middle = x + width / 2
            x += width + (rng.uniform(*gap) if rng.random() < 0.5 else gap[0])
            if _clear(street, middle, width / 2 + street.sidewalk + 0.5):
                step = rng.uniform(0, 0.6) if street.kind == CITY else rng.uniform(0, 3)
                place = _beside(street, middle, side * (front + depth / 2 + step))
                yield _building(rng, street, place, float(heading(street, middle)), width, depth)
        for crossing in street.crossings(low, high):
            y = front + 15
            while y < 150:
                width = rng.uniform(10, 24)
                for end in (-1, 1):
                    x_wall = crossing + end * (street.cross_half + street.sidewalk + 6.5 + rng.uniform(0, 1))
                    place = _beside(street, x_wall, side * (y + width / 2))
                    yield _building(rng, street, place, np.pi / 2, width, 11.0)
                y += width + (rng.uniform(*gap) if rng.random() < 0.5 else 0)


def _furniture(rng: np.random.Generator, street: Street, low: float, high: float) -> Iterator[Prop]:
    """Trees, bushes, lamps and signs."""
    spacing = {CITY: rng.uniform(9, 40), SUBURB: rng.uniform(8, 20), MOTORWAY: rng.uniform(7, 20)}[street.kind]
    near = {CITY: 1.1, SUBURB: street.sidewalk + 1.5, MOTORWAY: 6.0}[street.kind]
    far = {CITY: 1.4, SUBURB: street.sidewalk + 5, MOTORWAY: 28.0}[street.kind]
    hue = np.array([0.03, rng.uniform(0.07, 0.13), rng.uniform(0.04, 0.1)])
    grey = palette(metal=np.full(3, rng.uniform(0.03, 0.3)))
    for side in (-1, 1):
        for x in np.arange(low, high, spacing):
            x = x + rng.uniform(-0.3, 0.3) * spacing
            if _clear(street, x, street.sidewalk + 6) and rng.random() < 0.85:
                green = palette(leaf=hue * rng.uniform(0.6, 1.2))
                size = rng.uniform(0.75, 1.35) * (1.4 if street.kind == MOTORWAY else 1.0)
                place = _beside(street, x, side * (street.half + rng.uniform(near, far)))
                model = f"tree{rng.integers(TREES)}" if rng.random() < 0.8 or street.kind == CITY else "bush"
                yield Prop(model, place, rng.uniform(0, 6.28), (size, size, size * rng.uniform(0.85, 1.2)), green)
                if street.kind != CITY and rng.random() < 0.6:
                    place = _beside(street, x + 3, side * (street.half + far + rng.uniform(-1, 6)))
                    yield Prop("bush", place, rng.uniform(0, 6.28), (size * 1.4, size * 1.4, size * 1.2), green)
        for x in np.arange(low + (side + 1) * 8, high, 34.0):
            if _clear(street, x, street.sidewalk + 2):
                place = _beside(street, x, side * (street.half + 0.7))
                yield Prop("lamp", place, float(heading(street, x)) - side * np.pi / 2, (1, 1, 1), grey)
        for x in np.arange(low + 11, high, 47.0):
            sign = np.array([[0.55, 0.2, 0.03], [0.6, 0.6, 0.6], [0.04, 0.03, 0.5], [0.05, 0.45, 0.6]])[rng.integers(4)]
            place = _beside(street, x + rng.uniform(-9, 9), side * (street.half + 0.5))
            yield Prop("sign", place, 0.0, (1, 1, 1), palette(cargo=sign, metal=np.full(3, 0.2)))


def _rails(street: Street, low: float, high: float) -> Iterator[Prop]:
    """Guard rails in pieces of 12 m, low walls on the median."""
    for x in np.arange(low, high, 12.0):
        yaw = float(heading(street, x))
        for d in (-street.half - 0.6, street.half + 0.6):
            px, py, _ = _beside(street, x, d)
            yield Prop("post", (px, py, 0.45), yaw, (12.0, 0.06, 0.32), palette(metal=np.full(3, 0.3)))
            yield Prop("post", (px, py, 0.0), yaw, (0.1, 0.1, 0.6), palette(metal=np.full(3, 0.22)))
        yield Prop("post", _beside(street, x, 0.0), yaw, (12.0, 0.5, 0.85), palette(metal=np.full(3, 0.28)))


def _signals(street: Street, low: float, high: float) -> Iterator[Prop]:
    """A mast for every approach of every crossing."""
    for crossing in street.crossings(low, high):
        for side in (-1, 1):
            x = crossing - side * -(street.cross_half + street.sidewalk + 1.0)
            yaw = 0.0 if side > 0 else np.pi
            yield Prop("signal", _beside(street, x, -side * (street.half + 0.6)), yaw, (1, 1, 1), palette())
