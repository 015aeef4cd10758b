"""From models to pixels: transforms, clips and fills triangles into a depth, a face and a shadow buffer.

Colours come later and once a pixel (`shade`): here a pixel only learns which face of which instance it shows.
Pixels lie on the supersampled grid. The same pass measures what the labels need: the extent of every instance
on the image plane, how many pixels it covers alone, and how many of those remain seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from camtrack_core.datasets.drive.compiled import fast
from camtrack_core.datasets.drive.mesh import Mesh, Slot
from camtrack_core.geometry.boxes import Floats, Integers
from camtrack_core.geometry.camera import NEAR_PLANE

NEAR = np.float64(NEAR_PLANE)
LEAF = int(Slot.LEAF)
NOTHING = -1


class Library(NamedTuple):
    """All meshes end to end; mesh m owns rows first_*[m] to first_*[m + 1]. Fields as in `Mesh`."""

    vertices: Floats
    triangles: Integers
    slots: Integers
    normals: Floats
    first_vertex: Integers
    first_triangle: Integers
    radius: Floats


class Instances(NamedTuple):
    """What stands where, I rows; positions in the fixed frame in metres, scale a factor an axis.

    palette (I, slots, 3) is linear BGR; style (I,) in [0, 1) varies patterns; glow (I,) lights the tail lamps.
    """

    mesh: Integers
    position: Floats
    yaw: Floats
    scale: Floats
    palette: Floats
    style: Floats
    glow: Floats


Vector = tuple[float, float, float]


class View(NamedTuple):
    """The camera on the supersampled grid: its axes and position in the fixed frame, focal length and middle in pixels.

    Tuples instead of arrays: the kernels pass them about a million times a frame, without reference counts.
    """

    right: Vector
    down: Vector
    forward: Vector
    position: Vector
    focal: float
    middle_x: float
    middle_y: float


class Buffers(NamedTuple):
    """What a frame is drawn into.

    Per pixel (H, W): inverse depth, row of the face seen (or NOTHING), last instance that touched it, shadow,
    and the share of sky light that objects standing on it leave the ground.
    Per face: corners relative to the camera in the fixed frame as (origin, edge, edge), triangle, instance.
    """

    inverse_depth: Floats
    face: Integers
    touched: Integers
    shadow: Integers
    openness: Floats
    corners: Floats
    triangle: Integers
    instance: Integers


def vector(values: Floats) -> Vector:
    """A tuple of three floats."""
    x, y, z = (float(v) for v in values)
    return x, y, z


def library(meshes: list[Mesh]) -> Library:
    """The meshes packed for the kernels."""
    first_vertex = np.cumsum([0] + [len(m.vertices) for m in meshes]).astype(np.int32)
    first_triangle = np.cumsum([0] + [len(m.triangles) for m in meshes]).astype(np.int32)
    return Library(
        np.concatenate([m.vertices for m in meshes]).astype(np.float32),
        np.concatenate([m.triangles for m in meshes]).astype(np.int32),
        np.concatenate([m.slots for m in meshes]).astype(np.int32),
        np.concatenate([m.normals for m in meshes]).astype(np.float32),
        first_vertex,
        first_triangle,
        np.array([np.linalg.norm(m.vertices, axis=1).max() for m in meshes]),
    )


def buffers(width: int, height: int, faces: int) -> Buffers:
    """Empty buffers for an image of width x height pixels and at most `faces` visible faces."""
    return Buffers(
        np.zeros((height, width), np.float32),
        np.full((height, width), NOTHING, np.int32),
        np.full((height, width), NOTHING, np.int32),
        np.zeros((height, width), np.uint8),
        np.ones((height, width), np.float32),
        np.zeros((faces, 3, 3), np.float32),
        np.zeros(faces, np.int32),
        np.zeros(faces, np.int32),
    )


@fast
def _clip(corners, out):  # type: ignore[no-untyped-def]
    """Cuts a camera-frame triangle at the near plane; writes up to 4 corners to out and returns how many."""
    count = 0
    for k in range(3):
        m = (k + 1) % 3
        here, after = corners[k, 2], corners[m, 2]
        if here >= NEAR:
            for axis in range(3):
                out[count, axis] = corners[k, axis]
            count += 1
        if (here >= NEAR) != (after >= NEAR):
            share = (NEAR - here) / (after - here)
            for axis in range(3):
                out[count, axis] = corners[k, axis] + share * (corners[m, axis] - corners[k, axis])
            count += 1
    return count


@fast
def _span(screen, y, width):  # type: ignore[no-untyped-def]
    """First and past-the-last pixel of row y inside a screen triangle of positive area (rows x, y, inverse z)."""
    low, high = 0.0, float(width)
    centre = y + 0.5
    for k in range(3):
        x0, y0 = screen[k, 0], screen[k, 1]
        x1, y1 = screen[(k + 1) % 3, 0], screen[(k + 1) % 3, 1]
        rise = y1 - y0
        if rise == 0.0:
            continue
        x = x0 + (x1 - x0) * (centre - y0) / rise
        if rise < 0.0:
            low = max(low, x)
        else:
            high = min(high, x)
    return int(np.ceil(low - 0.5)), min(int(np.ceil(high - 0.5)), width)


@fast
def _orient(screen, two_sided):  # type: ignore[no-untyped-def]
    """Twice the screen area, made positive; 0 for what faces away."""
    area = (screen[1, 0] - screen[0, 0]) * (screen[2, 1] - screen[0, 1])
    area -= (screen[2, 0] - screen[0, 0]) * (screen[1, 1] - screen[0, 1])
    # y points down on the screen, so faces seen from outside come out negative
    if area < 0.0:
        for axis in range(3):
            held = screen[1, axis]
            screen[1, axis] = screen[2, axis]
            screen[2, axis] = held
        return -area
    return area if two_sided else 0.0


@fast
def _fill(screen, area, face, instance, inverse_depth, faces, touched, alone):  # type: ignore[no-untyped-def]
    """Draws one oriented triangle; True when a pixel took it."""
    height, width = faces.shape
    gain_x = ((screen[1, 2] - screen[0, 2]) * (screen[2, 1] - screen[0, 1])
              - (screen[2, 2] - screen[0, 2]) * (screen[1, 1] - screen[0, 1])) / area  # fmt: skip
    gain_y = ((screen[2, 2] - screen[0, 2]) * (screen[1, 0] - screen[0, 0])
              - (screen[1, 2] - screen[0, 2]) * (screen[2, 0] - screen[0, 0])) / area  # fmt: skip
    top = max(0, int(np.ceil(min(screen[0, 1], screen[1, 1], screen[2, 1]) - 0.5)))
    bottom = min(height, int(np.ceil(max(screen[0, 1], screen[1, 1], screen[2, 1]) - 0.5)))
    taken = False
    for y in range(top, bottom):
        first, last = _span(screen, y, width)
        start = screen[0, 2] + gain_y * (y + 0.5 - screen[0, 1]) + gain_x * (0.5 - screen[0, 0])
        for x in range(first, last):
            if touched[y, x] != instance:
                touched[y, x] = instance
                alone[instance] += 1
            inverse = np.float32(start + gain_x * x)
            if inverse > inverse_depth[y, x]:
                inverse_depth[y, x] = inverse
                faces[y, x] = face
                taken = True
    return taken


# Kernels index whole arrays instead of taking views of rows: a view costs two atomic reference counts.


@fast
def _project(corners, k, view, out, m):  # type: ignore[no-untyped-def]
    """Writes x, y in pixels and the inverse depth of camera point k to row m of out."""
    inverse = 1.0 / corners[k, 2]
    out[m, 0] = view.focal * corners[k, 0] * inverse + view.middle_x
    out[m, 1] = view.focal * corners[k, 1] * inverse + view.middle_y
    out[m, 2] = inverse


@fast
def _to_camera(points, k, view, out):  # type: ignore[no-untyped-def]
    """Camera coordinates of point k, which is relative to the camera in the fixed frame, to row k of out."""
    x, y, z = points[k, 0], points[k, 1], points[k, 2]
    out[k, 0] = view.right[0] * x + view.right[1] * y + view.right[2] * z
    out[k, 1] = view.down[0] * x + view.down[1] * y + view.down[2] * z
    out[k, 2] = view.forward[0] * x + view.forward[1] * y + view.forward[2] * z


@fast
def _place(library, instances, row, view, world, camera):  # type: ignore[no-untyped-def]
    """Vertices of an instance relative to the camera, in the fixed frame and in the camera frame; their count."""
    mesh = instances.mesh[row]
    first, last = library.first_vertex[mesh], library.first_vertex[mesh + 1]
    cos, sin = np.cos(instances.yaw[row]), np.sin(instances.yaw[row])
    for v in range(last - first):
        x = library.vertices[first + v, 0] * instances.scale[row, 0]
        y = library.vertices[first + v, 1] * instances.scale[row, 1]
        world[v, 0] = cos * x - sin * y + instances.position[row, 0] - view.position[0]
        world[v, 1] = sin * x + cos * y + instances.position[row, 1] - view.position[1]
        z = library.vertices[first + v, 2] * instances.scale[row, 2]
        world[v, 2] = z + instances.position[row, 2] - view.position[2]
        _to_camera(world, v, view, camera)
    return last - first


@fast
def _outside(instances, radius, row, view, width, height):  # type: ignore[no-untyped-def]
    """Whether the ball around an instance misses the view."""
    x = instances.position[row, 0] - view.position[0]
    y = instances.position[row, 1] - view.position[1]
    z = instances.position[row, 2] - view.position[2]
    across = view.right[0] * x + view.right[1] * y + view.right[2] * z
    below = view.down[0] * x + view.down[1] * y + view.down[2] * z
    depth = view.forward[0] * x + view.forward[1] * y + view.forward[2] * z
    size = radius[instances.mesh[row]] * max(instances.scale[row, 0], instances.scale[row, 1], instances.scale[row, 2])
    if depth < NEAR - size:
        return True
    for axis in range(2):
        middle = view.middle_x if axis == 0 else view.middle_y
        extent = width if axis == 0 else height
        place = across if axis == 0 else below
        low, high = -middle / view.focal, (extent - middle) / view.focal
        if low * depth - place > size * np.sqrt(1 + low * low):
            return True
        if place - high * depth > size * np.sqrt(1 + high * high):
            return True
    return False


@fast
def draw(library, instances, order, view, buffer, extent, alone, seen):  # type: ignore[no-untyped-def]
    """Fills the depth and face buffers with the instances in the given order (nearest first is fastest).

    Writes extent (I, 4), x1 y1 x2 y2 on the image plane, unclipped and infinite where nothing lies in front of
    the camera; alone (I,), the pixels each would cover without the others; seen (I,), those it does cover.
    Returns the number of face rows used.
    """
    inverse_depth, face_of, touched = buffer.inverse_depth, buffer.face, buffer.touched
    height, width = face_of.shape
    buffer.inverse_depth[:] = 0
    buffer.face[:] = NOTHING
    buffer.touched[:] = NOTHING
    extent[:, :2], extent[:, 2:] = np.inf, -np.inf
    alone[:] = 0
    seen[:] = 0
    most = np.max(library.first_vertex[1:] - library.first_vertex[:-1])
    world, camera = np.empty((most, 3)), np.empty((most, 3))
    corners, cut, screen, point = np.empty((3, 3)), np.empty((4, 3)), np.empty((3, 3)), np.empty((1, 3))
    faces = 0
    for row in order:
        if _outside(instances, library.radius, row, view, width, height):
            continue
        count = _place(library, instances, row, view, world, camera)
        for v in range(count):
            if camera[v, 2] >= NEAR:
                _project(camera, v, view, point, 0)
                extent[row, 0], extent[row, 2] = min(extent[row, 0], point[0, 0]), max(extent[row, 2], point[0, 0])
                extent[row, 1], extent[row, 3] = min(extent[row, 1], point[0, 1]), max(extent[row, 3], point[0, 1])
        mesh = instances.mesh[row]
        for t in range(library.first_triangle[mesh], library.first_triangle[mesh + 1]):
            if faces >= len(buffer.triangle):
                break
            for k in range(3):
                for axis in range(3):
                    corners[k, axis] = camera[library.triangles[t, k], axis]
            behind = corners[0, 2] < NEAR or corners[1, 2] < NEAR or corners[2, 2] < NEAR
            if behind:
                many = _clip(corners, cut)
                for k in range(many):
                    _project(cut, k, view, point, 0)
                    extent[row, 0], extent[row, 2] = (
                        min(extent[row, 0], point[0, 0]),
                        max(extent[row, 2], point[0, 0]),
                    )
                    extent[row, 1], extent[row, 3] = (
                        min(extent[row, 1], point[0, 1]),
                        max(extent[row, 3], point[0, 1]),
                    )
            else:
                many = 3
                for k in range(3):
                    for axis in range(3):
                        cut[k, axis] = corners[k, axis]
            taken = False
            for k in range(2, many):
                _project(cut, 0, view, screen, 0)
                _project(cut, k - 1, view, screen, 1)
                _project(cut, k, view, screen, 2)
                area = _orient(screen, library.slots[t] == LEAF)
                if area > 1e-9 and _fill(screen, area, faces, row, inverse_depth, face_of, touched, alone):
                    taken = True
            if taken:
                a, b, c = library.triangles[t, 0], library.triangles[t, 1], library.triangles[t, 2]
                for axis in range(3):
                    buffer.corners[faces, 0, axis] = world[a, axis]
                    buffer.corners[faces, 1, axis] = world[b, axis] - world[a, axis]
                    buffer.corners[faces, 2, axis] = world[c, axis] - world[a, axis]
                buffer.triangle[faces] = t
                buffer.instance[faces] = row
                faces += 1
    for y in range(height):
        for x in range(width):
            if buffer.face[y, x] != NOTHING:
                seen[buffer.instance[buffer.face[y, x]]] += 1
    return faces
