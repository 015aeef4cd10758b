"""Colour a pixel: sky, ground with its markings, and the lit surfaces of models, in linear BGR.

Everything is computed from the place that a pixel sees, so nothing is stored at a resolution: markings and
windows fade into their average where they become smaller than a pixel.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from camtrack_core.datasets.drive.compiled import fast
from camtrack_core.datasets.drive.light import TILE
from camtrack_core.datasets.drive.mesh import Slot
from camtrack_core.datasets.drive.raster import NOTHING
from camtrack_core.datasets.drive.street import CITY, MOTORWAY, centre

PAINT, GLASS, DARK, METAL = int(Slot.PAINT), int(Slot.GLASS), int(Slot.DARK), int(Slot.METAL)
HEAD, TAIL, PLATE, FACADE = int(Slot.HEAD), int(Slot.TAIL), int(Slot.PLATE), int(Slot.FACADE)
LEAF, SIGNAL, ROOF = int(Slot.LEAF), int(Slot.SIGNAL), int(Slot.ROOF)
FAR_TEXELS = float(2**24)
BANDS = 4  # of rows for each core: sky is cheaper than street
LAST_TEXEL, ONE = np.uint64(TILE - 1), np.uint64(1)


@fast
def _noise(tile, x, y):  # type: ignore[no-untyped-def]
    """The tile at a place in texels, bilinear, repeated without end."""
    x, y = x + FAR_TEXELS, y + FAR_TEXELS  # positive, so that cutting to an integer rounds down
    low_x, low_y = np.uint64(x), np.uint64(y)
    u, v = np.float32(x - np.float64(low_x)), np.float32(y - np.float64(low_y))
    i, j = low_y & LAST_TEXEL, low_x & LAST_TEXEL
    k, m = (i + ONE) & LAST_TEXEL, (j + ONE) & LAST_TEXEL
    above = tile[i, j] + (tile[i, m] - tile[i, j]) * u
    below = tile[k, j] + (tile[k, m] - tile[k, j]) * u
    return above + (below - above) * v


@fast
def _hash(x, y):  # type: ignore[no-untyped-def]
    """A number in [0, 1) that looks random, for whole x and y."""
    value = (int(x) * 374761393 + int(y) * 668265263) & 0x7FFFFFFF
    value = ((value ^ (value >> 13)) * 1274126177) & 0x7FFFFFFF
    return ((value ^ (value >> 16)) & 0xFFFF) / 65536.0


@fast
def _band(at, middle, half, blur):  # type: ignore[no-untyped-def]
    """Share of the stretch at -+ blur/2 that lies within middle -+ half: an antialiased line."""
    over = min(at + blur / 2, middle + half) - max(at - blur / 2, middle - half)
    return over / blur if over > 0.0 else 0.0


@fast
def _dashes(at, period, share, blur):  # type: ignore[no-untyped-def]
    """Coverage by dashes that fill a share of every period."""
    if blur > period:
        return share
    place = at - period * np.floor(at / period)
    half = share * period / 2
    return min(1.0, _band(place, half, half, blur) + _band(place, half + period, half, blur))


@fast
def _step(low, high, value):  # type: ignore[no-untyped-def]
    t = min(1.0, max(0.0, (value - low) / (high - low)))
    return t * t * (3 - 2 * t)


@fast
def _sky(x, y, z, light, street, tile, out):  # type: ignore[no-untyped-def]
    """Colour of the sky and of the far skyline in a unit direction above the horizon."""
    rise = np.sqrt(max(0.0, z))
    blend = min(1.0, rise * 1.25)
    cover = 0.0
    if z > 0.01:
        reach = 60.0 / (z + 0.12)
        cloud = _noise(tile, x * reach, y * reach) + 0.6 * _noise(tile, x * reach * 0.31 + 90, y * reach * 0.31)
        cover = _step(0.7 - 1.5 * light.clouds, 1.3 - 1.5 * light.clouds, cloud) * _step(0.0, 0.12, z)
    glow = max(0.0, x * light.sun[0] + y * light.sun[1] + z * light.sun[2])
    glow = (0.25 * glow**8 + 2.5 * glow**400) * min(1.0, light.sunlight[2])
    grey = 0.33 * (light.horizon[0] + light.horizon[1] + light.horizon[2])
    for c in range(3):
        clear = light.horizon[c] + (light.zenith[c] - light.horizon[c]) * blend
        white = grey * (1.05 - 0.45 * light.clouds * rise)
        out[c] = clear + (white - clear) * cover * 0.85 + glow
    if z > 0.23:
        return
    turn = np.arctan2(y, x) * 40.7436  # texels: the tile goes round once
    for layer in range(2):
        bump = _noise(tile, turn * (1 + 3 * layer), 17.3 + 61 * layer)
        height = 0.02 + 0.03 * (1 - layer) + 0.025 * bump
        if street.kind == CITY:
            cell = np.floor(turn * (0.5 + 0.6 * layer))
            height = (0.03 + 0.12 * _hash(cell, 7 + layer)) * (1.3 - 0.6 * layer)
        mist = 0.75 - 0.25 * layer
        if z < height:
            for c in range(3):
                dark = light.ambient[c] * (0.22 if street.kind == CITY else (0.1 + 0.1 * (c == 1)))
                out[c] = dark + (light.horizon[c] * 0.9 - dark) * mist


@fast
def _ground(x, y, foot_x, foot_y, street, tile, out):  # type: ignore[no-untyped-def]
    """Reflectance of the ground at a place whose pixel covers foot_x by foot_y metres; 1 on the road, else 0."""
    d = y - centre(street, x) if street.bend > 0 else y
    side = abs(d)
    half = street.median / 2 + street.lanes * street.lane_width + street.edge + street.parking
    cross_half, u = street.cross_lanes * street.lane_width + 0.5, 1e9
    if street.spacing > 0:
        u = x - street.first_crossing
        u = abs(u - street.spacing * np.floor(u / street.spacing + 0.5))
    foot = max(foot_x, foot_y)
    grain = _noise(tile, x * 9, y * 9) / (1 + 40 * foot * foot) if foot < 0.7 else 0.0
    patch = _noise(tile, x * 0.7 + 31, y * 0.7 + 57)
    broad = _noise(tile, x * 0.11 + 11, y * 0.11)
    along, across = side < half, u < cross_half
    if along or across:
        tone = 0.105 + 0.03 * grain + 0.012 * patch + 0.022 * broad
        lane_edge = street.median / 2 + street.lanes * street.lane_width
        if not across:
            place = (side - street.median / 2) / street.lane_width
            place -= np.floor(place)
            track = abs(abs(place - 0.5) - 0.24)
            tone *= 1 - 0.1 * _step(0.14, 0.02, track)  # wheel tracks
            tone *= 1 + 0.18 * (side > lane_edge + street.edge)
            if _hash(np.floor(x / 13), np.floor(d / street.lane_width)) > 0.88:  # mended stretches
                tone *= 0.8
        white, yellow = 0.0, 0.0
        worn = min(1.0, max(0.35, 0.85 + 0.5 * patch + 0.3 * grain))
        stop = cross_half + street.sidewalk + 2.5
        if along and u > stop:
            if street.median > 0:
                white += _band(side, street.median / 2 + 0.12, 0.07, foot_y)
            elif street.yellow:
                yellow += _band(side, 0.14, 0.06, foot_y)
            else:
                line = _band(side, 0.0, 0.07, foot_y)
                white += line * _dashes(x, 6.0, 0.5, foot_x) if line > 0 else 0.0
            for lane in range(1, street.lanes):
                line = _band(side, street.median / 2 + lane * street.lane_width, 0.065, foot_y)
                if line > 0:
                    white += line * (_dashes(x, 9.0, 0.34, foot_x) if u > stop + 25 else 1.0)
            if street.kind == MOTORWAY or street.edge > 1.0:
                white += _band(side, lane_edge + 0.05, 0.07, foot_y)
            if street.parking > 0:
                line = _band(side, lane_edge + street.edge, 0.05, foot_y)
                white += line * _dashes(x, 6.2, 0.88, foot_x) if line > 0 else 0.0
        elif along and u > cross_half:
            white += _band(u, stop - 0.3, 0.2, foot_x)
            if street.kind == CITY:
                zebra = _band(u, cross_half + street.sidewalk / 2 + 0.4, 1.5, foot_x)
                white += zebra * _dashes(d, 1.2, 0.5, foot_y) if zebra > 0 else 0.0
        elif across and side > half + street.sidewalk + 2.5:
            if street.yellow:
                yellow += _band(u, 0.12, 0.06, foot_x)
            else:
                line = _band(u, 0.0, 0.07, foot_x)
                white += line * _dashes(y, 6.0, 0.5, foot_y) if line > 0 else 0.0
        elif across and side > half:
            white += _band(side, half + street.sidewalk + 2.2, 0.2, foot_y)
            if street.kind == CITY:
                zebra = _band(side, half + street.sidewalk / 2 + 0.4, 1.5, foot_y)
                white += zebra * _dashes(x, 1.2, 0.5, foot_x) if zebra > 0 else 0.0
        white, yellow = min(1.0, white) * worn, min(1.0, yellow) * worn
        base = tone * (1 - white - yellow)
        out[0] = base * 1.03 + 0.62 * white + 0.06 * yellow
        out[1] = base + 0.64 * white + 0.36 * yellow
        out[2] = base * 0.98 + 0.65 * white + 0.6 * yellow
        if along and street.median > 1 and side < street.median / 2 and u > stop - 2:
            green = 1.0 + 0.4 * grain + 0.3 * patch
            out[0], out[1], out[2] = 0.04 * green, 0.1 * green, 0.085 * green
        return 1.0
    beyond = min(side - half, u - cross_half)
    if beyond < 0.22 and street.kind != MOTORWAY:  # kerb stone with its dark joint
        tone = (0.32 if beyond > 0.06 else 0.09) + 0.05 * grain
        out[0], out[1], out[2] = tone, tone, tone
    elif beyond < street.sidewalk or (street.kind == CITY and beyond < street.sidewalk + 14):
        joint = max(_dashes(x, 1.5, 0.03, foot_x + 0.02), _dashes(d, 1.5, 0.03, foot_y + 0.02))
        tone = (0.27 + 0.05 * grain + 0.05 * patch + 0.05 * broad) * (1 - 0.35 * joint)
        out[0], out[1], out[2] = tone * 0.94, tone * 0.98, tone
    else:
        dry = 0.5 + 0.5 * min(1.0, max(-1.0, broad * 1.6 + 0.6 * np.sin(street.bend_phase)))
        tone = 1 + 0.5 * grain + 0.35 * patch
        out[0], out[1], out[2] = (
            0.03 * tone * (1 + dry),
            0.075 * tone * (1 + 0.7 * dry),
            0.045 * tone * (1 + 2.6 * dry),
        )
    return 0.0


@fast
def _facade(u, z, foot, style, blue, green, red, out):  # type: ignore[no-untyped-def]
    """Reflectance of a house wall at u along it and z above the ground; the share of window glass."""
    seed = int(style * 60000)
    bay, floor = 1.9 + 2.2 * _hash(seed, 1), 2.9 + 0.9 * _hash(seed, 2)
    wide, tall = 0.35 + 0.4 * _hash(seed, 3), 0.42 + 0.3 * _hash(seed, 4)
    i, j = np.floor(u / bay), np.floor(z / floor)
    a, b = u / bay - i, z / floor - j
    ground_floor = j < 1 and _hash(seed, 5) > 0.4
    if ground_floor:
        wide, tall = 0.84, 0.72
    in_x, in_y = _band(a, 0.5, wide / 2, foot / bay), _band(b, 0.52, tall / 2, foot / floor)
    window = in_x * in_y
    frame = _band(a, 0.5, wide / 2 + 0.03, foot / bay) * _band(b, 0.52, tall / 2 + 0.03, foot / floor) - window
    shadow = _band(b, 0.52 + tall / 2, 0.03, foot / floor) * in_x
    ledge = _band(b, 0.02, 0.025, foot / floor)
    cell = _hash(i + seed, j)
    shade = (0.02 + 0.09 * cell * cell) * (1 + 2.0 * (_hash(j + seed, i) > 0.8))
    brick = 1 + 0.06 * np.sin(z * 80) / (1 + 300 * foot)
    for c in range(3):
        paint = blue if c == 0 else (green if c == 1 else red)
        wall = paint * brick * (1 + 0.25 * ledge)
        if ground_floor and b > 0.88:
            wall = 0.6 * paint + 0.2 * _hash(i + c, seed)  # shop signs
        tone = wall + (0.5 * paint + 0.12 - wall) * max(0.0, frame)
        out[c] = (tone + (shade - tone) * window) * (1 - 0.5 * shadow)
    return window


@fast
def _surface(face, x, y, z, view, library, instances, buffer, light, street, tile, out):  # type: ignore[no-untyped-def]
    """Colour of a model's face at (x, y, z), which is relative to the camera."""
    triangle, row = buffer.triangle[face], buffer.instance[face]
    slot = library.slots[triangle]
    ax, ay, az = buffer.corners[face, 1, 0], buffer.corners[face, 1, 1], buffer.corners[face, 1, 2]
    cx, cy, cz = buffer.corners[face, 2, 0], buffer.corners[face, 2, 1], buffer.corners[face, 2, 2]
    px, py, pz = (
        x - buffer.corners[face, 0, 0],
        y - buffer.corners[face, 0, 1],
        z - buffer.corners[face, 0, 2],
    )
    d00, d01, d11 = ax * ax + ay * ay + az * az, ax * cx + ay * cy + az * cz, cx * cx + cy * cy + cz * cz
    p0, p1 = px * ax + py * ay + pz * az, px * cx + py * cy + pz * cz
    scale = 1.0 / max(1e-12, d00 * d11 - d01 * d01)
    b1, b2 = (d11 * p0 - d01 * p1) * scale, (d00 * p1 - d01 * p0) * scale
    b0 = 1 - b1 - b2
    m = library.normals
    mx = (b0 * m[triangle, 0, 0] + b1 * m[triangle, 1, 0] + b2 * m[triangle, 2, 0]) / instances.scale[row, 0]
    my = (b0 * m[triangle, 0, 1] + b1 * m[triangle, 1, 1] + b2 * m[triangle, 2, 1]) / instances.scale[row, 1]
    nz = (b0 * m[triangle, 0, 2] + b1 * m[triangle, 1, 2] + b2 * m[triangle, 2, 2]) / instances.scale[row, 2]
    cos, sin = np.cos(instances.yaw[row]), np.sin(instances.yaw[row])
    nx, ny = cos * mx - sin * my, sin * mx + cos * my
    size = 1.0 / max(1e-9, np.sqrt(nx * nx + ny * ny + nz * nz))
    nx, ny, nz = nx * size, ny * size, nz * size
    distance = np.sqrt(x * x + y * y + z * z)
    toward = -(nx * x + ny * y + nz * z) / distance  # cosine between the normal and the line of sight
    above = z + view.position[2]

    lit = max(0.0, nx * light.sun[0] + ny * light.sun[1] + nz * light.sun[2])
    if slot == LEAF:
        lit = 0.35 + 0.5 * lit
    shine, mirror = 0.0, 0.0
    blue, green, red = (
        instances.palette[row, slot, 0],
        instances.palette[row, slot, 1],
        instances.palette[row, slot, 2],
    )
    if slot == FACADE:
        wall_x, wall_y = x + view.position[0], y + view.position[1]
        foot = distance / view.focal / max(0.25, toward)
        shine = 0.35 * _facade(-ny * wall_x + nx * wall_y, above, foot, instances.style[row], blue, green, red, out)
        blue, green, red = out[0], out[1], out[2]
    elif slot in (PAINT, HEAD, TAIL):
        shine, mirror = 0.05, 0.5
    elif slot == GLASS:
        shine, mirror = 0.09, 1.0
    elif slot == METAL:
        shine = 0.2
    elif slot == LEAF:
        tone = 0.55 + 0.9 * _hash(triangle, 3)
        red, green, blue = red * tone, green * tone, blue * tone * tone
    open_sky = 0.5 + 0.5 * nz
    near_ground = 1.0
    if slot <= PLATE and above < 0.9 and nz < 0.5:
        near_ground = 0.35 + 0.65 * above / 0.9
    bounce = 0.16
    for c in range(3):
        base = blue if c == 0 else (green if c == 1 else red)
        sky_light = light.ambient[c] * (open_sky + (1 - open_sky) * bounce * 2)
        out[c] = base * (light.sunlight[c] * lit + sky_light) * near_ground
    if shine > 0:
        edge = (1 - min(1.0, max(0.0, toward))) ** 4
        strength = shine + (1 - shine) * edge * (0.6 if mirror > 0 else 0.25)
        rx = x / distance + 2 * toward * nx
        ry = y / distance + 2 * toward * ny
        rz = z / distance + 2 * toward * nz
        skyline = 0.28 if street.kind == CITY else 0.12
        wobble = 0.1 * _noise(tile, np.arctan2(ry, rx) * 30, 3.0)
        open_air = _step(skyline + wobble - 0.08, skyline + wobble + 0.1, rz)
        spark = max(0.0, rx * light.sun[0] + ry * light.sun[1] + rz * light.sun[2])
        spark = 6.0 * spark**180 if mirror > 0 else 0.4 * spark**20
        up = np.sqrt(max(0.0, rz))
        for c in range(3):
            ground = light.ambient[c] * (0.13 if rz < 0 else 0.22)
            air = light.horizon[c] + (light.zenith[c] - light.horizon[c]) * up * (1 - 0.6 * light.clouds)
            out[c] += strength * (ground + (air - ground) * open_air) * near_ground + spark * light.sunlight[c] * shine
    if slot == HEAD:
        for c in range(3):
            out[c] += light.lamps * 5.0 * toward**2 * (toward > 0)
    elif slot == TAIL:
        out[2] += light.lamps * 0.35 + instances.glow[row] * 0.6
        out[1] += instances.glow[row] * 0.05
        out[0] += instances.glow[row] * 0.06
    elif slot == SIGNAL:
        for c in range(3):
            out[c] = instances.palette[row, slot, c] * 1.6


def shade(view, library, instances, buffer, light, street, tile, tone, out):  # type: ignore[no-untyped-def]
    """Writes the (H, W, 3) uint8 BGR image of the drawn buffers; tone (1024,) maps linear [0, 4) to bytes."""
    cores = os.cpu_count() or 1
    edges = np.linspace(0, len(out), BANDS * cores + 1).astype(int)

    def band(first: int, last: int) -> None:
        _shade(view, library, instances, buffer, light, street, tile, tone, first, last, out)

    with ThreadPoolExecutor(cores) as pool:  # made for each frame, so that none is left behind by a fork
        list(pool.map(band, edges[:-1], edges[1:]))


@fast
def _shade(view, library, instances, buffer, light, street, tile, tone, first, last, out):  # type: ignore[no-untyped-def]
    """Shades the rows from `first` to before `last`."""
    width = out.shape[1]
    colour = np.empty(3)
    for v in range(first, last):
        b = (v + 0.5 - view.middle_y) / view.focal
        for u in range(width):
            a = (u + 0.5 - view.middle_x) / view.focal
            x = view.right[0] * a + view.down[0] * b + view.forward[0]
            y = view.right[1] * a + view.down[1] * b + view.forward[1]
            z = view.right[2] * a + view.down[2] * b + view.forward[2]
            length = np.sqrt(x * x + y * y + z * z)
            face = buffer.face[v, u]
            if face != NOTHING:
                depth = 1.0 / buffer.inverse_depth[v, u]
                _surface(face, x * depth, y * depth, z * depth, view, library, instances, buffer, light, street, tile,
                         colour)  # fmt: skip
                distance = depth * length
            elif z < -2e-4:
                depth = -view.position[2] / z
                distance = depth * length
                flat = np.sqrt(x * x + y * y)
                away = distance / view.focal
                long = min(60.0, distance * away / view.position[2])
                cos, sin = abs(x) / flat, abs(y) / flat
                foot_x = max(0.01, np.sqrt((cos * long) ** 2 + (sin * away) ** 2))
                foot_y = max(0.01, np.sqrt((sin * long) ** 2 + (cos * away) ** 2))
                px, py = view.position[0] + x * depth, view.position[1] + y * depth
                road = _ground(px, py, foot_x, foot_y, street, tile, colour)
                lit = light.sun[2] * (1 - buffer.shadow[v, u])
                for c in range(3):
                    incoming = light.sunlight[c] * lit + light.ambient[c] * buffer.openness[v, u]
                    colour[c] *= incoming * (1 - 0.4 * light.wet)
                if light.wet > 0:
                    facing = (1 + z / length) ** 5
                    puddle = _noise(tile, px * 1.7, py * 1.7) + _noise(tile, px * 0.23, py * 0.23 + 70)
                    film = light.wet * (0.35 + 0.35 * road) * (0.06 + 0.94 * facing) * (0.8 + 0.5 * min(1.0, puddle))
                    for c in range(3):
                        colour[c] += film * light.horizon[c] * 0.8 * buffer.openness[v, u]
            else:
                _sky(x / length, y / length, max(0.0, z / length), light, street, tile, colour)
                distance = 0.0
            thick = light.haze * distance
            through = 1 / (1 + thick * (1 + thick * (0.5 + thick / 6)))  # exp(-thick), near enough
            corner = 1 - 0.16 * (a * a + b * b)
            for c in range(3):
                value = (colour[c] * through + light.horizon[c] * 0.92 * (1 - through)) * light.exposure * corner
                out[v, u, c] = tone[min(1023, max(0, int(value * 256)))]
