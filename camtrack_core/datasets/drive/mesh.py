"""Triangle meshes and the few ways in which the street's models are built: boxes, tubes, discs, balls and lofts.

Model frame: x forward, y left, z up, the origin on the ground below the middle. Every triangle names a slot of
its instance's palette; the slot also decides how the surface shines (see `shade`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

import numpy as np

from camtrack_core.geometry.boxes import Floats, Integers

Point = Sequence[float] | Floats  # x, y, z in metres


class Slot(IntEnum):
    """What a triangle is made of: a row of the instance's palette and a way of shining."""

    PAINT = 0
    GLASS = auto()
    DARK = auto()  # tyres, plastic, underside
    METAL = auto()
    HEAD = auto()  # head lamps
    TAIL = auto()  # tail lamps
    PLATE = auto()
    CARGO = auto()  # second paint: cargo boxes, bags
    SKIN = auto()
    HAIR = auto()
    SHIRT = auto()
    TROUSERS = auto()
    FACADE = auto()
    ROOF = auto()
    LEAF = auto()
    BARK = auto()
    SIGNAL = auto()  # traffic lights and street lamps: shines by itself


@dataclass(frozen=True)
class Mesh:
    """A model.

    Attributes:
        vertices: (V, 3) float32, metres.
        triangles: (T, 3) int32, counter-clockwise seen from outside.
        slots: (T,) int32, a `Slot` a triangle.
        normals: (T, 3, 3) float32, unit normals of every triangle's corners.
    """

    vertices: Floats
    triangles: Integers
    slots: Integers
    normals: Floats

    def bounds(self) -> tuple[Floats, Floats]:
        """The lowest and the highest coordinates, (3,) each, metres."""
        return self.vertices.min(0), self.vertices.max(0)

    def moved(self, offset: Point = (0, 0, 0), turn: Floats | None = None) -> Mesh:
        """A copy that is turned by a (3, 3) rotation and then shifted by metres."""
        turn = np.eye(3) if turn is None else turn
        vertices = (self.vertices @ turn.T + np.asarray(offset)).astype(np.float32)
        return Mesh(vertices, self.triangles, self.slots, (self.normals @ turn.T).astype(np.float32))


def shape(vertices: Floats, triangles: Integers, slot: Integers | int, crease: float = 40.0) -> Mesh:
    """A mesh with normals smoothed over edges that fold by less than crease degrees."""
    triangles = np.asarray(triangles, np.int32).reshape(-1, 3)
    slots = np.broadcast_to(np.asarray(slot, np.int32), len(triangles)).copy()
    vertices = np.asarray(vertices, np.float32)
    a, b, c = (vertices[triangles[:, k]].astype(np.float64) for k in range(3))
    area = np.cross(b - a, c - a)
    size = np.linalg.norm(area, axis=1)
    kept = size > 1e-9
    triangles, slots, area, size = triangles[kept], slots[kept], area[kept], size[kept]
    flat = area / size[:, None]

    # equal places share normals even where vertices are doubled
    _, place = np.unique(np.round(vertices, 4), axis=0, return_inverse=True)
    place = place.reshape(-1)[triangles].ravel()  # of every corner; corner c belongs to triangle c // 3
    ordered = np.argsort(place, kind="stable")
    count = np.bincount(place)
    first = np.cumsum(count) - count
    here = np.repeat(np.arange(len(place)), count[place])  # every pair of corners at one place
    step = np.arange(len(here)) - np.repeat(np.cumsum(count[place]) - count[place], count[place])
    other = ordered[first[place[here]] + step]
    alike = np.einsum("ij,ij->i", flat[here // 3], flat[other // 3]) >= np.cos(np.radians(crease)) - 1e-9
    normals = np.stack([np.bincount(here, area[other // 3, k] * alike, minlength=len(place)) for k in range(3)], 1)
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    normals = normals.reshape(-1, 3, 3)
    return Mesh(vertices, triangles, slots, normals.astype(np.float32))


def join(*parts: Mesh) -> Mesh:
    """One mesh of several."""
    first = np.cumsum([0] + [len(p.vertices) for p in parts[:-1]])
    return Mesh(
        np.concatenate([p.vertices for p in parts]),
        np.concatenate([p.triangles + f for p, f in zip(parts, first, strict=True)]).astype(np.int32),
        np.concatenate([p.slots for p in parts]),
        np.concatenate([p.normals for p in parts]),
    )


def fitted(mesh: Mesh, length: float, width: float, height: float) -> Mesh:
    """The mesh stretched to fill exactly a length x width x height box that stands on the origin."""
    low, high = mesh.bounds()
    scale = np.array([length, width, height]) / (high - low)
    middle = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    normals = mesh.normals / scale
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    vertices = ((mesh.vertices - middle) * scale).astype(np.float32)
    return Mesh(vertices, mesh.triangles, mesh.slots, normals.astype(np.float32))


def stretched(mesh: Mesh, factors: Point) -> Mesh:
    """The mesh made longer, wider and higher about its origin by a factor each."""
    scale = np.asarray(factors, float)
    normals = mesh.normals / scale
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    vertices = (mesh.vertices * scale).astype(np.float32)
    return Mesh(vertices, mesh.triangles, mesh.slots, normals.astype(np.float32))


def quads(rows: int, columns: int, closed: bool = False) -> Integers:
    """(Q, 4) corner indices of a rows x columns grid of vertices; closed joins the last column to the first."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    right = (c + 1) % columns
    corners = [r * columns + c, r * columns + right, (r + 1) * columns + right, (r + 1) * columns + c]
    return np.stack(corners, -1).reshape(-1, 4)


def split(four: Integers) -> Integers:
    """(2Q, 3) triangles of (Q, 4) quads."""
    return four[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)


def box(low: Point, high: Point, slot: int) -> Mesh:
    """An axis-aligned box between two corners."""
    pick = np.array([[x, y, z] for z in (0, 1) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))])
    vertices = np.where(pick, np.asarray(high, float), np.asarray(low, float))
    sides = [[0, 3, 2, 1], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]]
    return shape(vertices, split(np.array(sides)), slot)


def tube(start: Point, end: Point, radii: tuple[float, float], slot: int, sides: int = 6) -> Mesh:
    """A capped cone between two points with a radius at each, metres."""
    start, axis = np.asarray(start, float), np.asarray(end, float) - np.asarray(start, float)
    length = np.linalg.norm(axis)
    end, axis = start + axis, axis / length
    across = np.cross(axis, [0, 0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0, 0])
    across /= np.linalg.norm(across)
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * np.cross(axis, across)
    vertices = np.concatenate([start + ring * radii[0], end + ring * radii[1], [start, end]])
    turn = np.arange(sides)
    after = (turn + 1) % sides
    caps = [
        np.stack([np.full(sides, 2 * sides), after, turn], 1),
        np.stack([np.full(sides, 2 * sides + 1), sides + turn, sides + after], 1),
    ]
    return shape(vertices, np.concatenate([split(quads(2, sides, closed=True)), *caps]), slot, crease=65)


def disc(centre: Point, radius: float, side: float, slot: int, hole: float = 0.0, sides: int = 14) -> Mesh:
    """A flat ring in the x-z plane that faces y's direction `side` (+1 or -1); hole is the inner radius."""
    angle = np.arange(sides) * 2 * np.pi / sides * side
    ring = np.stack([np.sin(angle), np.zeros(sides), np.cos(angle)], 1)
    vertices = np.concatenate([ring * hole, ring * radius]) + np.asarray(centre, float)
    return shape(vertices, split(quads(2, sides, closed=True))[:, ::-1], slot)


def ball(centre: Point, radii: Point, slot: int, sides: int = 8, rings: int = 6) -> Mesh:
    """An ellipsoid."""
    up = np.linspace(0, np.pi, rings)[:, None]
    around = (np.arange(sides) * 2 * np.pi / sides)[None]
    grid = np.stack([np.sin(up) * np.cos(around), np.sin(up) * np.sin(around), -np.cos(up) + 0 * around], -1)
    vertices = grid.reshape(-1, 3) * np.asarray(radii, float) + np.asarray(centre, float)
    return shape(vertices, split(quads(rings, sides, closed=True)), slot, crease=80)


def rotation(axis: int, angle: float) -> Floats:
    """(3, 3) rotation by radians about the coordinate axis 0, 1 or 2."""
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix
