"""What stands on the ground takes light from it: cast shadows, and the dark under and around it."""

from __future__ import annotations

import numpy as np

from camtrack_core.datasets.drive.compiled import fast
from camtrack_core.datasets.drive.raster import NEAR, NOTHING, _clip, _orient, _place, _project, _span, _to_camera


@fast
def _fill_shadow(screen, shadow):  # type: ignore[no-untyped-def]
    """Marks the ground pixels inside an oriented triangle."""
    height, width = shadow.shape
    top = max(0, int(np.ceil(min(screen[0, 1], screen[1, 1], screen[2, 1]) - 0.5)))
    bottom = min(height, int(np.ceil(max(screen[0, 1], screen[1, 1], screen[2, 1]) - 0.5)))
    for y in range(top, bottom):
        first, last = _span(screen, y, width)
        for x in range(first, last):
            shadow[y, x] = 1


@fast
def draw_shadows(library, instances, casters, sun, view, buffer):  # type: ignore[no-untyped-def]
    """Marks the pixels of the ground plane that the casters hide from the sun, a unit vector that points to it."""
    shadow = buffer.shadow
    shadow[:] = 0
    most = np.max(library.first_vertex[1:] - library.first_vertex[:-1])
    world, camera = np.empty((most, 3)), np.empty((most, 3))
    corners, cut, screen = np.empty((3, 3)), np.empty((4, 3)), np.empty((3, 3))
    for row in casters:
        count = _place(library, instances, row, view, world, camera)
        for v in range(count):  # slide along the light until the ground
            fall = (world[v, 2] + view.position[2]) / sun[2]
            world[v, 0] -= fall * sun[0]
            world[v, 1] -= fall * sun[1]
            world[v, 2] = -view.position[2]
            _to_camera(world, v, view, camera)
        mesh = instances.mesh[row]
        for t in range(library.first_triangle[mesh], library.first_triangle[mesh + 1]):
            for k in range(3):
                for axis in range(3):
                    corners[k, axis] = camera[library.triangles[t, k], axis]
            many = _clip(corners, cut)
            for k in range(2, many):
                _project(cut, 0, view, screen, 0)
                _project(cut, k - 1, view, screen, 1)
                _project(cut, k, view, screen, 2)
                if _orient(screen, True) > 1e-9:
                    _fill_shadow(screen, shadow)


@fast
def draw_contacts(instances, rows, half_sizes, view, buffer):  # type: ignore[no-untyped-def]
    """Darkens the ground under and around the given instances, whose half sizes (R, 2) are in metres."""
    buffer.openness[:] = 1
    height, width = buffer.face.shape
    reach = 0.7
    offset, camera, point = np.empty((1, 3)), np.empty((1, 3)), np.empty((1, 3))
    for k in range(len(rows)):
        row = rows[k]
        cos, sin = np.cos(instances.yaw[row]), np.sin(instances.yaw[row])
        left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
        behind = 0
        for corner in range(4):
            x = (half_sizes[k, 0] + reach) * (1 if corner & 1 else -1)
            y = (half_sizes[k, 1] + reach) * (1 if corner & 2 else -1)
            offset[0, 0] = instances.position[row, 0] + cos * x - sin * y - view.position[0]
            offset[0, 1] = instances.position[row, 1] + sin * x + cos * y - view.position[1]
            offset[0, 2] = -view.position[2]
            _to_camera(offset, 0, view, camera)
            if camera[0, 2] < NEAR:
                behind += 1
                continue
            _project(camera, 0, view, point, 0)
            left, right = min(left, point[0, 0]), max(right, point[0, 0])
            top, bottom = min(top, point[0, 1]), max(bottom, point[0, 1])
        if behind == 4:
            continue
        if behind:
            left, right, bottom = 0.0, float(width), float(height)
        for v in range(max(0, int(top)), min(height, int(bottom) + 1)) if right > 0 and left < width else range(0):
            for u in range(max(0, int(left)), min(width, int(right) + 1)):
                if buffer.face[v, u] != NOTHING:
                    continue
                a, b = (u + 0.5 - view.middle_x) / view.focal, (v + 0.5 - view.middle_y) / view.focal
                fall = view.right[2] * a + view.down[2] * b + view.forward[2]
                if fall >= -1e-4:
                    continue
                far = -view.position[2] / fall
                x = view.right[0] * a + view.down[0] * b + view.forward[0]
                y = view.right[1] * a + view.down[1] * b + view.forward[1]
                x = view.position[0] + far * x - instances.position[row, 0]
                y = view.position[1] + far * y - instances.position[row, 1]
                out_x = max(0.0, abs(cos * x + sin * y) - half_sizes[k, 0] + 0.15)
                out_y = max(0.0, abs(cos * y - sin * x) - half_sizes[k, 1] + 0.15)
                away = min(1.0, np.sqrt(out_x * out_x + out_y * out_y) / reach)
                buffer.openness[v, u] *= 0.18 + 0.82 * away * (2 - away)
