"""Who moves, along which path and how fast: lanes, turns, queues at red lights, overtaking, parked cars.

Each agent follows a path and accelerates by the intelligent driver model behind whatever blocks the stretch of
its path ahead (Treiber et al., Congested traffic states in empirical observations and microscopic simulations,
2000). Everything is simulated before the first frame is drawn, so that a frame needs only a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from camtrack_core.datasets.drive.compiled import compiled
from camtrack_core.datasets.drive.paths import MAIN, POINT_GAP, Path, StopLine
from camtrack_core.geometry.boxes import Floats, Integers

STEP = 0.05  # seconds
WARM_UP = 14.0  # seconds before the first frame, in which queues form
CYCLE = 34.0  # seconds of a signal: main road green 0-14, yellow to 17; crossing road green 19-29, yellow to 32
PARKED, DRIVER, WALKER = 0, 1, 2


@dataclass
class Fleet:
    """Agents under construction, a row each; `length` and `width` in metres, `desired` speed in m/s."""

    points: list[Floats] = field(default_factory=list)  # (P, 2) path
    stops: list[list[StopLine]] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    start: list[float] = field(default_factory=list)  # place on the path, metres
    desired: list[float] = field(default_factory=list)
    length: list[float] = field(default_factory=list)
    width: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)  # room to change lanes, metres
    right: list[float] = field(default_factory=list)
    model: list[int] = field(default_factory=list)  # row of the caller's model table

    def add(self, path: Path, kind: int, start: float, desired: float, model: int, length: float, width: float,
            left: float = 0.0, right: float = 0.0) -> None:  # fmt: skip
        row = {"points": path[0], "stops": path[1], "kind": kind, "start": start, "desired": desired, "model": model,
               "length": length, "width": width, "left": left, "right": right}  # fmt: skip
        for name, value in row.items():
            getattr(self, name).append(value)


@dataclass(frozen=True)
class Motion:
    """Where everyone is at every frame.

    Attributes:
        position: (F, N, 2) float, metres in the fixed frame.
        yaw: (F, N) float, radians.
        speed: (F, N) float, m/s along the path.
        travelled: (F, N) float, metres along the path; paces strides and pedals.
        braking: (F, N) bool.
        model: (N,) int, row of the model table.
    """

    position: Floats
    yaw: Floats
    speed: Floats
    travelled: Floats
    braking: Integers
    model: Integers


@compiled
def _along(path, first, last, s):  # type: ignore[no-untyped-def]
    """x, y and the heading at s metres along a path: a cubic through its points, its tangents their differences."""
    place = max(0.0, s / POINT_GAP)
    k = min(int(place), last - first - 2)
    t = place - k
    k += first
    ahead, behind = min(k + 2, last - 1), max(k - 1, first)
    x, y = 0.0, 0.0
    dx, dy = 0.0, 0.0
    for axis in range(2):
        a, b = path[k, axis], path[k + 1, axis]
        m, n = (b - path[behind, axis]) / 2, (path[ahead, axis] - a) / 2
        if behind == k:
            m = b - a
        if ahead == k + 1:
            n = b - a
        if t > 1.0:
            value, slope = b + (t - 1) * n, n
        else:
            t2, t3 = t * t, t * t * t
            value = (2 * t3 - 3 * t2 + 1) * a + (t3 - 2 * t2 + t) * m + (3 * t2 - 2 * t3) * b + (t3 - t2) * n
            slope = (6 * t2 - 6 * t) * a + (3 * t2 - 4 * t + 1) * m + (6 * t - 6 * t2) * b + (3 * t2 - 2 * t) * n
        if axis == 0:
            x, dx = value, slope
        else:
            y, dy = value, slope
    return x, y, np.arctan2(dy, dx)


@compiled
def _next_line(i, s, stops, first_stop):  # type: ignore[no-untyped-def]
    """Row of the next stop line ahead of the place s on the path of agent i; -1 where there is none."""
    for k in range(first_stop[i], first_stop[i + 1]):
        if stops[k, 0] > s - 1.0:
            return k
    return -1


@compiled
def _held(i, line, time, stops, kind, x, y, yaw):  # type: ignore[no-untyped-def]
    """Whether the signal, or someone who still crosses the junction, holds agent i at a stop line."""
    now = (time + stops[line, 2] + 2 * CYCLE) % CYCLE
    start = 0.0 if stops[line, 1] == MAIN else 19.0
    green = 14.0 if stops[line, 1] == MAIN else 10.0
    if kind[i] == WALKER:
        return not start <= now < start + 5.0  # whoever walks needs the rest of the phase to cross
    if not start <= now < start + green:
        return True
    for j in range(len(x)):
        inside = abs(x[j] - stops[line, 3]) < stops[line, 5] and abs(y[j] - stops[line, 4]) < stops[line, 6]
        if inside and kind[j] == DRIVER and abs(np.cos(yaw[j] - yaw[i])) < 0.7:
            return True
    return False


@compiled
def _blocked(i, shift, reach, s, x, y, yaw, v, length, width, path, first, last):  # type: ignore[no-untyped-def]
    """Free distance ahead of agent i on its path moved left by shift, and the speed of what ends it."""
    best, speed = reach, v[i]
    found = False
    for j in range(len(s)):
        if j == i:
            continue
        dx, dy = x[j] - x[i], y[j] - y[i]
        away = dx * dx + dy * dy
        limit = reach + length[i] / 2 + length[j] / 2
        if away > limit * limit or dx * np.cos(yaw[i]) + dy * np.sin(yaw[i]) < -2.0:
            continue
        cos, sin = np.cos(yaw[j]), np.sin(yaw[j])
        side = width[i] / 2 + width[j] / 2 + 0.25
        start = s[i] + length[i] / 2
        nearest = max(0.0, np.sqrt(away) - (length[i] + length[j]) / 2 - 1.5)  # no point before this can touch j
        gap = 0.5 + np.floor(nearest)
        while gap < min(best, nearest + 25.0):
            px, py, h = _along(path, first, last, start + gap)
            px, py = px - shift * np.sin(h) - x[j], py + shift * np.cos(h) - y[j]
            turn = np.cos(h - yaw[j])
            # half extents of j as met under the angle between the headings
            reach_x = length[j] / 2 + 0.2 + (width[i] / 2 + 0.2) * np.sqrt(max(0.0, 1 - turn * turn))
            if abs(cos * px + sin * py) < reach_x and abs(cos * py - sin * px) < side:
                free = gap - 0.5
                if turn > 0.95:
                    exact = dx * np.cos(yaw[i]) + dy * np.sin(yaw[i]) - (length[i] + length[j]) / 2
                    free = max(0.05, exact)
                if free < best:
                    best, speed, found = free, v[j] * turn, True
                break
            gap += 1.0
    if not found:
        return np.inf, v[i]
    return best, max(0.0, speed)


@compiled
def _oncoming(i, x, y, yaw, v):  # type: ignore[no-untyped-def]
    """Whether someone comes the other way so soon that a left turn has to wait."""
    cos, sin = np.cos(yaw[i]), np.sin(yaw[i])
    for j in range(len(x)):
        dx, dy = x[j] - x[i], y[j] - y[i]
        ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
        if -2 < ahead < 16 + 4.5 * v[j] and 1.0 < left < 16 and np.cos(yaw[j] - yaw[i]) < -0.8 and v[j] > 1.0:
            return True
    return False


@compiled
def _room(i, target, x, y, yaw, v, length, offset):  # type: ignore[no-untyped-def]
    """Whether the lane that is target - offset to the left is free beside agent i."""
    cos, sin = np.cos(yaw[i]), np.sin(yaw[i])
    for j in range(len(x)):
        if j == i:
            continue
        dx, dy = x[j] - x[i], y[j] - y[i]
        ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
        if abs(left - (target - offset)) > 2.6:
            continue
        size = (length[i] + length[j]) / 2
        if -size - 8 - 2.5 * max(0.0, v[j] - v[i]) < ahead < size + 8 + 2.5 * max(0.0, v[i] - v[j]):
            return False
    return True


@compiled
def _simulate(  # type: ignore[no-untyped-def]
    path, first, stops, first_stop, waits, kind, s, v, desired, length, width, left, right, steps, every, skip, out
):
    """Runs `steps` steps and writes every `every`-th after `skip` to out (F, N, 6): x y yaw speed s braking."""
    count = len(s)
    x, y, yaw = np.zeros(count), np.zeros(count), np.zeros(count)
    pull, offset, drift, target = np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count)
    for step in range(steps):
        time = step * STEP
        for i in range(count):
            px, py, h = _along(path, first[i], first[i + 1], s[i])
            x[i], y[i] = px - offset[i] * np.sin(h), py + offset[i] * np.cos(h)
            yaw[i] = h + (np.arctan2(drift[i], v[i]) if v[i] > 1.0 else 0.0)
        if step >= skip and (step - skip) % every == 0:
            frame = (step - skip) // every
            for i in range(count):
                out[frame, i, 0], out[frame, i, 1], out[frame, i, 2] = x[i], y[i], yaw[i]
                out[frame, i, 3], out[frame, i, 4] = v[i], s[i]
                out[frame, i, 5] = 1.0 if pull[i] < -0.6 or (v[i] < 0.2 and kind[i] == DRIVER) else 0.0
        for i in range(count):
            if kind[i] == PARKED:
                continue
            front = s[i] + length[i] / 2
            line = _next_line(i, front, stops, first_stop)
            gap = stops[line, 0] - front if line >= 0 else np.inf
            halts = gap > 0 and v[i] * v[i] / (2 * max(gap, 0.1)) < 3.2  # else it is too late to brake
            held = line >= 0 and halts and gap < 60 and _held(i, line, time, stops, kind, x, y, yaw)
            free, approach = np.inf, 0.0
            wish = desired[i]
            if kind[i] == DRIVER:
                reach = 14.0 + 3.2 * v[i]
                way = gap + stops[line, 7] + length[i] + 4.0 if gap < 15.0 else 0.0
                ahead, pace = _blocked(i, offset[i], max(reach, way), s, x, y, yaw, v, length, width, path, first[i],
                                       first[i + 1])  # fmt: skip
                if halts and ahead < way and pace < 2.0:
                    held = True  # no room behind the junction: keep it clear
                if abs(target[i] - offset[i]) > 0.3:
                    beside, other = _blocked(i, target[i], reach, s, x, y, yaw, v, length, width, path, first[i],
                                             first[i + 1])  # fmt: skip
                    if beside < ahead:
                        ahead, pace = beside, other
                if (step + i) % 20 == 0 and left[i] + right[i] > 0 and abs(target[i] - offset[i]) < 0.2 and v[i] > 4:
                    slow = ahead < 45.0 and pace < desired[i] - 2.0
                    wanted = offset[i]
                    if slow and target[i] < left[i] - 0.1:
                        wanted = target[i] + min(3.8, left[i] - target[i])
                    elif slow and target[i] > -right[i] + 0.1:
                        wanted = target[i] - min(3.8, right[i] + target[i])
                    if (
                        not held
                        and gap > 30.0
                        and wanted != offset[i]
                        and _room(i, wanted, x, y, yaw, v, length, offset[i])
                    ):
                        target[i] = wanted
                free, approach = ahead, v[i] - pace
                # turning is slow, and a left turn waits for a gap in what comes towards it
                _, _, later = _along(path, first[i], first[i + 1], s[i] + 4.0 + 0.9 * v[i])
                _, _, here = _along(path, first[i], first[i + 1], s[i])
                bend = abs(np.sin((later - here) / 2)) * 2 / (4.0 + 0.9 * v[i])
                if bend > 0.004:
                    wish = min(wish, max(3.0, np.sqrt(2.0 / bend)))
                wait = waits[i] - s[i]
                stops_there = 0 < wait < min(30.0, free) and v[i] * v[i] / (2 * max(0.1, wait)) < 4.0
                if stops_there and _oncoming(i, x, y, yaw, v):
                    free, approach = wait, v[i]
            if held and gap < free:
                free, approach = gap, v[i]
            strength = 1.6 if kind[i] == DRIVER else 1.0
            rest = 2.0 if kind[i] == DRIVER else 0.3
            over = v[i] / wish
            push = strength * (1 - over**4) if over < 1 else max(-2.5, -strength * (over - 1) * 4)
            if free < np.inf:
                hold = rest + max(0.0, v[i] * 1.2 + v[i] * approach / (2 * np.sqrt(strength * 2.0)))
                push -= strength * (hold / max(0.3, free)) ** 2
            push = min(strength, max(-7.0, push))
            change = (12.0 if push > -4.0 else 40.0) * STEP
            pull[i] = pull[i] + min(change, max(-change, push - pull[i]))
            v[i] = v[i] + pull[i] * STEP
            if v[i] < 0:
                v[i], pull[i] = 0.0, 0.0
            sway = 0.64 * (target[i] - offset[i]) - 1.6 * drift[i]
            drift[i] += sway * STEP * (1.0 if v[i] > 2.0 else 0.0)
            if v[i] <= 2.0:
                drift[i] *= 0.8
            offset[i] += drift[i] * STEP
        for i in range(count):
            s[i] += v[i] * STEP


def simulate(fleet: Fleet, waits: Floats, frames: int, frame_rate: float) -> Motion:
    """Moves everybody for WARM_UP seconds and then through the frames; waits (N,) are the left turns' halts, or 0."""
    every = max(1, round(1 / frame_rate / STEP))
    skip = int(WARM_UP / STEP)
    lengths = [len(p) for p in fleet.points]
    recorded = int(np.ceil(frames / frame_rate / (every * STEP))) + 2
    out = np.zeros((recorded, len(lengths), 6))
    stops = np.array([stop for row in fleet.stops for stop in row], float).reshape(-1, 8)
    _simulate(
        np.concatenate(fleet.points), np.cumsum([0, *lengths]), stops,
        np.cumsum([0] + [len(row) for row in fleet.stops]), np.asarray(waits, float), np.array(fleet.kind),
        np.array(fleet.start), np.array(fleet.desired) * 0.8, np.array(fleet.desired), np.array(fleet.length),
        np.array(fleet.width), np.array(fleet.left), np.array(fleet.right), skip + recorded * every, every, skip, out,
    )  # fmt: skip
    out[..., 2] = np.unwrap(out[..., 2], axis=0)
    at = np.arange(frames + 1) / frame_rate / (every * STEP)
    low = np.minimum(at.astype(int), recorded - 2)
    share = (at - low)[:, None, None]
    out = out[low] * (1 - share) + out[low + 1] * share
    return Motion(out[..., :2], out[..., 2], out[..., 3], out[..., 4], out[..., 5] > 0.5, np.array(fleet.model))
