"""The arithmetic of one step of the tracker in space, compiled: the frames are small and many.

Shapes: M measurements, N tracks. The formulas of existence and scores are those of `life`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Floats, Integers
from pkf_filter.life.scores import SEEN, VOTE_MEMORY
from pkf_filter.numerics.compiled import compiled
from pkf_filter.numerics.small_matrices import put_vector

UNEXPECTED = 0.05  # least detection probability of a pair: hidden objects and those out of view are found now and then
ALIKE = 0.25  # outline of the smaller, in that of the larger, from which on boxes of two class groups may be one object
FASTER = 1.0  # m/s along the own heading from which on motion alone tells which end is the front


@compiled
def detectable(visibility: Floats, shares: Floats, unhidden: Floats, miss_time: float, dt: Floats) -> Floats:
    """(N,) probability that a sensor can detect objects, if they exist, dt (N,) seconds after it looked before.

    A continuous Markov chain of two states, so that the frame rate does not matter: an object that cannot be detected
    becomes detectable at the rate `unhidden` / `miss_time`, and in the long run can be so for shares * unhidden of the
    time.

    Args:
        visibility: (N,) the probability at the sensor's last frame.
        shares: (N,) of the time, see `scores.detected_shares`.
        unhidden: (N,) share of its detections that is not lost behind others, above 0.
        miss_time: mean duration of a run of misses, seconds.
    """
    later = np.empty(len(visibility))
    for j in range(len(visibility)):
        share = shares[j] * unhidden[j]
        hides = (1.0 - share) / (shares[j] * miss_time) / unhidden[j]
        appears = unhidden[j] / miss_time
        settled = appears / (appears + hides)
        later[j] = settled + (visibility[j] - settled) * np.exp(-(appears + hides) * dt[j])
    return later


@compiled
def covered_by_bearing(states: Floats, origin: Floats, existence: Floats) -> Floats:
    """(N,) expected share of tracks (N, 10) that lies behind nearer ones, as seen from an origin (3,).

    An object spans a range of bearings and a range of elevations; several that are nearer cover independent shares.
    """
    N = len(states)
    bearing, half, low, high, distance = np.empty(N), np.empty(N), np.empty(N), np.empty(N), np.empty(N)
    for j in range(N):
        x, y, z = states[j, 0] - origin[0], states[j, 1] - origin[1], states[j, 2] - origin[2]
        distance[j] = max(np.hypot(x, y), 0.1)
        bearing[j] = np.arctan2(y, x)
        angle = states[j, 3] - bearing[j]
        across = abs(np.sin(angle)) * states[j, 4] + abs(np.cos(angle)) * states[j, 5]
        half[j] = np.arctan2(across / 2, distance[j])
        low[j], high[j] = (z - states[j, 6] / 2) / distance[j], (z + states[j, 6] / 2) / distance[j]
    covered = np.zeros(N)
    for j in range(N):
        free = 1.0
        for i in range(N):
            if distance[i] + states[i, 5] / 2 > distance[j] - states[j, 5] / 2:  # not clearly nearer
                continue
            apart = abs((bearing[i] - bearing[j] + np.pi) % (2 * np.pi) - np.pi)
            width = min(half[j], apart + half[i]) + min(half[j], half[i] - apart)
            height = min(high[i], high[j]) - min(low[i], low[j])  # what ends below it stands on the ground before it
            height = min(height, high[j] - low[j])
            if width > 0.0 and height > 0.0:
                share = min(width / (2 * half[j]), 1.0) * height / (high[j] - low[j])
                free *= 1.0 - existence[i] * share
        covered[j] = 1.0 - free
    return covered


@compiled
def shared_outline(a: Floats, b: Floats) -> float:
    """Share of the smaller outline, from above, of two boxes (7+,): x, y, z, yaw, length, width, that lies in both.

    The outline of one, in the axes of the other, is cut at that one's four sides.
    """
    reach = np.hypot(a[4], a[5]) + np.hypot(b[4], b[5])
    dx, dy = a[0] - b[0], a[1] - b[1]
    if 2 * np.hypot(dx, dy) >= reach:
        return 0.0
    cos, sin = np.cos(b[3]), np.sin(b[3])
    x, y, turn = cos * dx + sin * dy, cos * dy - sin * dx, a[3] - b[3]
    polygon, cut = np.empty((10, 2)), np.empty((10, 2))
    for corner in range(4):
        along = a[4] / 2 if corner == 0 or corner == 3 else -a[4] / 2
        across = a[5] / 2 if corner < 2 else -a[5] / 2
        polygon[corner, 0] = x + np.cos(turn) * along - np.sin(turn) * across
        polygon[corner, 1] = y + np.sin(turn) * along + np.cos(turn) * across
    count = 4
    for side in range(4):
        axis, sign, limit = side // 2, 1.0 if side % 2 == 0 else -1.0, b[4 + side // 2] / 2
        kept = 0
        for k in range(count):
            start, end = polygon[k], polygon[(k + 1) % count]
            before, after = limit - sign * start[axis], limit - sign * end[axis]
            if before >= 0.0:
                put_vector(cut[kept], start)
                kept += 1
            if (before >= 0.0) != (after >= 0.0):
                put_vector(cut[kept], start + before / (before - after) * (end - start))
                kept += 1
        count = kept
        polygon, cut = cut, polygon
    area = 0.0
    for k in range(count):
        start, end = polygon[k], polygon[(k + 1) % count]
        area += (start[0] * end[1] - end[0] * start[1]) / 2
    return float(abs(area) / min(a[4] * a[5], b[4] * b[5]))


@compiled
def one_object(a: Floats, group_a: int, b: Floats, group_b: int, same: float) -> bool:
    """Whether two boxes (7+,) share at least `same` of the smaller outline.

    Where their class groups differ their sizes have to be alike: a person before a bus is no part of it.
    """
    areas = a[4] * a[5], b[4] * b[5]
    if group_a != group_b and min(areas) < ALIKE * max(areas):
        return False
    return shared_outline(a, b) >= same


@compiled
def births(found: Floats, least: float, measurements: Floats, states: Floats, existence: Floats, same: float) -> Floats:
    """(M,) existence of the tracks that detections start, 0 where one starts none.

    Args:
        found: (M,) probability that a detection is true and of no track by the association.
        least: existence of a new track.
        measurements: (M, 7), states: (N, 10), existence: (N,) of the tracks.
        same: shared outline from which a detection is of a track, or of a likelier detection, after all.
    """
    born, left = np.zeros(len(found)), found.copy()
    for _ in range(len(found)):  # from the likeliest on; to compile a sort takes longer than all else here
        k = left.argmax()
        likely, left[k] = found[k], -1.0
        if likely < least:
            break
        for j in range(len(states)):
            if existence[j] > 0.0 and shared_outline(measurements[k], states[j]) >= same:
                likely *= 1.0 - existence[j]
        for other in range(len(found)):
            if born[other] > 0.0 and shared_outline(measurements[k], measurements[other]) >= same:
                likely = 0.0
        if likely >= least:
            born[k] = likely
    return born


@compiled
def vote_of_doubles(
    own: Integers,
    measurements: Floats,
    class_ids: Integers,
    seen: Integers,
    scores: Floats,
    voted: Floats,
    states: Floats,
    groups: Integers,
    votes: Floats,
    same: float,
) -> None:
    """Votes (N, C), in place, of detections that share the outline of a measured track and take it for another class.

    A detector that is not sure says both. Of each class the surest counts.

    Args:
        own: (N,) the measurement of each track, -1 where it was missed.
        measurements: (M, 7), class_ids, seen, scores: (M,) their classes, class groups and scores.
        voted: (K, C) share of a measurement's vote, by its class, for each class.
        states: (N, 10), groups: (N,) of the tracks.
        same: shared outline from which on a detection is of a track.
    """
    for j in range(len(own)):
        if own[j] < 0:
            continue
        surest = np.zeros(votes.shape[1])
        for k in range(len(measurements)):
            other = class_ids[k] != class_ids[own[j]] and scores[k] > surest[class_ids[k]]
            if other and one_object(measurements[k], seen[k], states[j], groups[j], same):
                surest[class_ids[k]] = scores[k]
        for said in range(len(voted)):
            for c in range(votes.shape[1]):
                votes[j, c] += surest[said] * voted[said, c]


@compiled
def rivals(states: Floats, ids: Integers, groups: Integers, same: float) -> Integers:
    """(N,) row of the oldest track, by its id, that is one object with each track and is older; -1 for none."""
    found = np.full(len(ids), -1, np.int64)
    for j in range(len(ids)):
        for i in range(len(ids)):
            older = ids[i] < ids[j] and (found[j] < 0 or ids[i] < ids[found[j]])
            if older and one_object(states[i], groups[i], states[j], groups[j], same):
                found[j] = i
    return found


@compiled
def turned_back(yaw: Floats, velocity: Floats, fading: Floats, facing: Floats, weights: Floats) -> Floats:
    """Turn, in place, the yaw (N,) of tracks that move backwards or, at rest, that most measurements face away from.

    Returns the new `fading` (N,). Who moves backwards faster than FASTER is turned; who moves forwards, at half of it
    or more, is not, whatever the measurements say.

    Args:
        velocity: (N, 2) m/s.
        fading: (N,) sum of measurements that face as the track does, less those that face away.
        facing: (M, N) 1, -1 or 0 of each pair, weights: (M, N).
    """
    after = VOTE_MEMORY * fading
    for j in range(len(after)):
        for k in range(len(weights)):
            if weights[k, j] > 0.0:
                after[j] += weights[k, j] * facing[k, j]
        along = velocity[j, 0] * np.cos(yaw[j]) + velocity[j, 1] * np.sin(yaw[j])
        if along < -FASTER:
            yaw[j] += np.pi
            after[j] = abs(after[j])
        elif along > FASTER / 2:
            after[j] = max(after[j], 0.0)
        elif after[j] < 0.0:
            yaw[j] += np.pi
            after[j] = -after[j]
    return after


@compiled
def alive(seen_ns: Integers, existence: Floats, time_ns: int, silence_ns: float, deletion: float) -> Integers:
    """Rows of the tracks that were measured at most silence_ns before time_ns and exist with at least `deletion`."""
    return np.flatnonzero((time_ns - seen_ns <= silence_ns) & (existence >= deletion))


@compiled
def expected_and_found(
    existence: Floats, in_view: NDArray[np.bool_], unhidden: Floats, missed: Floats
) -> tuple[float, float]:
    """How many objects a sensor should have detected, and how many of these it did.

    Args:
        existence: (N,) of the tracks that count, 0 for all others.
        in_view: (N,), unhidden: (N,) share of a track's detections that those before it leave.
        missed: (N,) of the association.
    """
    expected, found = 0.0, 0.0
    for j in range(len(missed)):
        if in_view[j]:
            expected += existence[j] * unhidden[j]
            found += existence[j] * unhidden[j] * (1.0 - missed[j])
    return expected, found


@compiled
def offsets(innovation: Floats, H: Floats, V: Floats, covariance: Floats, weights: Floats) -> tuple[Floats, int]:
    """Mean (m,) of the innovations of measured tracks, each number in its own deviations; and how many there are.

    Zero on average if sensor and tracks agree; what remains is systematic, such as a sensor's wrong pose. Arguments
    are as in `linearised`.
    """
    M, N, m = innovation.shape
    total, count = np.zeros(m), 0
    for j in range(N):
        for k in range(M):
            if weights[k, j] <= SEEN:
                continue
            count += 1
            for a in range(m):
                variance = V[j, a, a]
                for i in range(H.shape[2]):
                    if H[j, a, i] != 0.0:
                        for b in range(H.shape[2]):
                            variance += H[j, a, i] * covariance[j, i, b] * H[j, a, b]
                total[a] += innovation[k, j, a] / np.sqrt(variance)
    if count:
        total /= count
    return total, count
