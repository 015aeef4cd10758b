"""Shapes of pedestrians and cyclists in the poses of a stride or a pedal's turn."""

from __future__ import annotations

import numpy as np

from camtrack_core.datasets.drive.mesh import Mesh, Slot, ball, box, disc, join, rotation, tube
from camtrack_core.geometry.boxes import Floats

POSES = 8  # of a full cycle


def _limb(top: Floats, upper: float, lower: float, lengths: tuple[float, float], thick: float, slots: tuple[int, int],
          foot: int | None) -> Mesh:  # fmt: skip
    """A leg or an arm that hangs from top and swings in the x-z plane by two angles from the vertical, radians."""
    knee = top + lengths[0] * np.array([np.sin(upper), 0, -np.cos(upper)])
    end = knee + lengths[1] * np.array([np.sin(lower), 0, -np.cos(lower)])
    parts = [
        tube(knee, top, (thick * 0.8, thick), slots[0]),
        tube(end, knee, (thick * 0.6, thick * 0.8), slots[1]),
    ]
    if foot is not None:
        parts.append(box(end + [-0.06, -0.045, -0.07], end + [0.17, 0.045, 0.02], foot))
    return join(*parts)


def _upper_body(lean: float, arms: tuple[float, float], bent: float) -> Mesh:
    """Torso, head and arms above hips at the origin; arms are swing angles, bent lifts the forearms."""
    parts = [
        ball((0, 0, 0.3), (0.125, 0.2, 0.36), Slot.SHIRT, 10, 8),
        ball((0, 0, 0.02), (0.13, 0.175, 0.14), Slot.TROUSERS, 8, 5),
        tube((0.01, 0, 0.56), (0.02, 0, 0.7), (0.06, 0.055), Slot.SKIN),
        ball((0.03, 0, 0.78), (0.1, 0.08, 0.125), Slot.SKIN, 8, 7),
        ball((0.0, 0, 0.82), (0.105, 0.09, 0.105), Slot.HAIR, 8, 6),
    ]
    for side, swing in zip((-1, 1), arms, strict=True):
        shoulder = np.array([0, side * 0.21, 0.53])
        parts.append(_limb(shoulder, swing, swing + bent, (0.29, 0.3), 0.055, (Slot.SHIRT, Slot.SHIRT), None))
        hand = shoulder + 0.29 * np.array([np.sin(swing), 0, -np.cos(swing)])
        hand += 0.32 * np.array([np.sin(swing + bent), 0, -np.cos(swing + bent)])
        parts.append(ball(hand, (0.045, 0.04, 0.06), Slot.SKIN, 6, 4))
    return join(*parts).moved((0, 0, 0), rotation(1, lean))


def pedestrian(pose: int, bag: bool = False) -> Mesh:
    """A walker 1.75 m tall at one of POSES moments of two steps; pose -1 stands."""
    swing = 0.0 if pose < 0 else np.sin(2 * np.pi * pose / POSES)
    parts = []
    for side, s in ((-1, swing), (1, -swing)):
        lift = 0.25 + 0.35 * max(0.0, -s) if pose >= 0 else 0.03
        legs = (Slot.TROUSERS, Slot.TROUSERS)
        parts.append(
            _limb(np.array([0, side * 0.09, 0.9]), 0.5 * s, 0.5 * s - lift, (0.44, 0.42), 0.085, legs, Slot.DARK)
        )
    parts.append(_upper_body(0.04, (-0.45 * swing, 0.45 * swing), 0.25).moved((0, 0, 0.87)))
    if bag:
        parts.append(box((-0.27, -0.14, 1.05), (-0.1, 0.14, 1.45), Slot.CARGO))
    mesh = join(*parts)
    return mesh.moved((0, 0, -float(mesh.bounds()[0][2])))


def cyclist(pose: int, lean: float = 0.5) -> Mesh:
    """A bicycle of 1.75 m with its rider, who leans by radians, at one of POSES moments of a pedal's turn."""
    wheels = [
        disc((x, side * 0.014, 0.34), 0.345, side, Slot.DARK, hole=0.3, sides=18)
        for x in (-0.52, 0.52)
        for side in (-1, 1)
    ]
    axles, pedals, saddle, stem = ((-0.52, 0, 0.34), (0.52, 0, 0.34)), (-0.08, 0, 0.3), (-0.2, 0, 0.86), (0.38, 0, 0.95)
    bars = [(axles[0], pedals), (pedals, saddle), (axles[0], (-0.17, 0, 0.75)), ((-0.17, 0, 0.75), (0.4, 0, 0.8)),
            (pedals, (0.41, 0, 0.72)), (axles[1], stem), ((0.38, -0.27, 0.98), (0.38, 0.27, 0.98))]  # fmt: skip
    frame = [tube(a, b, (0.022, 0.022), Slot.PAINT, 5) for a, b in bars]
    parts = [*wheels, *frame, box((-0.32, -0.07, 0.86), (-0.08, 0.07, 0.92), Slot.DARK)]
    hip = np.array([-0.18, 0, 0.98])
    for side, phase in ((-1, 0.0), (1, np.pi)):
        turn = 2 * np.pi * pose / POSES + phase
        pedal = np.array([-0.08 + 0.17 * np.cos(turn), 0, 0.32 + 0.17 * np.sin(turn)])
        top = hip + [0, side * 0.1, -0.05]
        reach = pedal - (hip - [0, 0, 0.05])
        length = min(np.hypot(reach[0], reach[2]), 0.85)
        down = np.arctan2(reach[0], -reach[2])
        bend = np.arccos(length / 2 / 0.43)
        legs = (Slot.TROUSERS, Slot.TROUSERS)
        parts.append(_limb(top, down + bend, down - bend, (0.43, 0.43), 0.08, legs, Slot.DARK))
    parts.append(_upper_body(lean, (0.45, 0.45), 0.4).moved(hip))
    mesh = join(*parts)
    return mesh.moved((0, 0, -float(mesh.bounds()[0][2])))


def with_coat(walker: Mesh) -> Mesh:
    """A pedestrian in a long coat."""
    return join(walker, tube((0, 0, 0.5), (0, 0, 1.0), (0.24, 0.17), Slot.SHIRT, 10))


def with_suitcase(walker: Mesh) -> Mesh:
    """A pedestrian with a hat who pulls a suitcase."""
    return join(
        walker,
        ball((0.03, 0, 1.74), (0.13, 0.12, 0.07), Slot.CARGO, 8, 5),
        box((-0.62, 0.12, 0.06), (-0.36, 0.52, 0.66), Slot.CARGO),
        tube((-0.38, 0.3, 0.64), (-0.1, 0.27, 0.86), (0.012, 0.012), Slot.METAL, 5),
    )


def with_pram(walker: Mesh) -> Mesh:
    """A pedestrian who pushes a pram."""
    wheels = [disc((x, side * 0.24, 0.12), 0.12, side, Slot.DARK, sides=10) for x in (0.55, 1.0) for side in (-1, 1)]
    return join(
        walker,
        *wheels,
        box((0.5, -0.22, 0.35), (1.05, 0.22, 0.72), Slot.CARGO),
        ball((0.62, 0, 0.74), (0.2, 0.22, 0.24), Slot.CARGO, 8, 6),
        tube((0.32, 0, 1.02), (0.52, 0, 0.68), (0.015, 0.015), Slot.METAL, 5),
    )


def motor_scooter() -> Mesh:
    """A motor scooter with its rider."""
    return _motorised(0.22, 0.62, 0.74, 0.1)


def motorcycle() -> Mesh:
    """A motorcycle with its rider, bent over the tank."""
    return _motorised(0.32, 0.72, 0.8, 0.45)


def _motorised(radius: float, reach: float, seat: float, lean: float) -> Mesh:
    """Wheels of a radius at `reach` from the middle, a body between them and a rider on a seat of a height, metres."""
    wheels = [tube((x, -0.07, radius), (x, 0.07, radius), (radius, radius), Slot.DARK, 16) for x in (-reach, reach)]
    steering = np.array([reach - 0.25, 0.0, seat + 0.24])
    parts = [
        *wheels,
        box((-reach, -0.14, radius + 0.05), (0.05, 0.14, seat - 0.04), Slot.PAINT),
        box((-reach - 0.05, -0.13, seat - 0.04), (0.0, 0.13, seat), Slot.DARK),
        box((0.0, -0.16, radius), (reach - 0.2, 0.16, radius + 0.12), Slot.PAINT),
        tube((reach, 0, radius), steering, (0.07, 0.05), Slot.METAL),
        tube(steering - [0, 0.33, 0], steering + [0, 0.33, 0], (0.02, 0.02), Slot.DARK, 5),
        box((reach - 0.2, -0.08, seat), (reach - 0.08, 0.08, seat + 0.15), Slot.HEAD),
        box((-reach - 0.12, -0.07, seat - 0.16), (-reach - 0.05, 0.07, seat - 0.06), Slot.TAIL),
    ]
    hip = np.array([-0.2, 0, seat + 0.1])
    for side in (-1, 1):
        legs = (Slot.TROUSERS, Slot.TROUSERS)
        parts.append(_limb(hip + [0, side * 0.14, -0.02], 1.2, -0.1, (0.43, 0.42), 0.085, legs, Slot.DARK))
    parts.append(_upper_body(lean, (0.7, 0.7), 0.4).moved(hip))
    mesh = join(*parts)
    return mesh.moved((0, 0, -float(mesh.bounds()[0][2])))
