"""Motion and measurement of an upright box in a fixed frame with z up.

State x = (x, y, z, yaw, l, w, h, vx, vy, rate): geometric centre in metres, yaw about z in radians, length, width and
height in metres, velocity on the ground in m/s, and the rate in rad/s at which velocity and yaw turn. Height and size
drift. Constant velocity is the coordinated turn whose rate has no effect; each class group has its own of the two. What
is at rest has no velocity and no rate, and hardly drifts.

Measurement z = (x, y, z, yaw, l, w, h). A detector often takes the front for the back, so that a yaw is compared on
the half circle: a measurement turned by 180 degrees counts as one that is not. A velocity (vx, vy), where the detector
knows one, is a measurement of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Boxes3D, Floats
from pkf_filter.numerics.compiled import compiled
from pkf_filter.numerics.small_matrices import add_product, put_matrix, put_vector
from pkf_filter.space.config import ClassGroup

X, Y, Z, YAW, LENGTH, WIDTH, HEIGHT, VX, VY, RATE = range(10)
STATE_SIZE = 10
MEASUREMENT_SIZE = 7
MEASUREMENT_MATRIX = np.eye(MEASUREMENT_SIZE, STATE_SIZE)
VELOCITY_MATRIX = np.eye(2, STATE_SIZE, VX)

FAR = 1e8  # metres; a northing of UTM or a place in an earth-centred frame is nearer
MIN_SIZE, MAX_SIZE = 0.05, 100.0  # metres
MAX_SPEED = 100.0  # m/s; no measured velocity is higher
SLOW_TURN = 1e-4  # rad over a step; below it the turn's integrals are taken as series
REST_SPEED = 0.1  # m/s, deviation of the speed of what is at rest
REST_RATE = 0.01  # rad/s, of its turn rate
REST_DRIFT = 0.15  # m / s^0.5, of its place
REST_YAW_DRIFT = 0.15  # rad / s^0.5
SHAPE_GATE = 3.5  # deviations of yaw and size together beyond which a detection's shape says nothing
CLOSE = 2.0  # deviations of a length within which two ends are at one place

# Columns of a table of class groups, and so of the parameters (N, 12) of the tracks
TURNING, ACCELERATION, CLIMB, YAW_DRIFT, TURN_ACCELERATION, SIZE_DRIFT, SPEED, TURN_RATE = range(8)
MEASURED_POSITION, MEASURED_HEIGHT, MEASURED_YAW, MEASURED_SIZE = range(8, 12)


def group_table(groups: Sequence[ClassGroup]) -> Floats:
    """(G, 12) the parameters of class groups."""
    return np.array([_parameters(group) for group in groups], np.float64)


def _parameters(g: ClassGroup) -> tuple[float, ...]:
    turning = float(g.motion != "constant velocity")
    motion = (turning, g.acceleration, g.climb, g.yaw_drift, g.turn_acceleration, g.size_drift, g.speed, g.turn_rate)
    return (*motion, g.measured_position, g.measured_height, g.measured_yaw, g.measured_size)


def to_measurements(boxes: Boxes3D) -> Floats:
    """(N, 7) float64 measurements of boxes in the fixed frame."""
    return np.concatenate([boxes.centre, boxes.yaw[:, None], boxes.size], 1, dtype=np.float64)


def to_boxes(states: Floats) -> Boxes3D:
    """Boxes in the fixed frame, with their velocity, of states (N, 10)."""
    velocity = np.zeros((len(states), 3))
    velocity[:, :2] = states[:, VX : VY + 1]
    return Boxes3D(states[:, X : Z + 1], states[:, LENGTH : HEIGHT + 1], states[:, YAW], velocity)


@compiled
def wrapped(angle: float) -> float:
    """The same angle in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


# --- Motion


@compiled
def transition(state: Floats, dt: float, turning: bool) -> tuple[Floats, Floats]:
    """The state (10,) dt seconds later, and the Jacobian F (10, 10).

    The velocity v turns by the angle a = rate dt, so that the place moves by the integral of v:
    (S vx - C vy, C vx + S vy) with S = sin(a) / rate and C = (1 - cos(a)) / rate.
    """
    rate = state[RATE] if turning else 0.0
    vx, vy = state[VX], state[VY]
    angle = rate * dt
    cos, sin = np.cos(angle), np.sin(angle)
    if abs(angle) < SLOW_TURN:
        S, C = dt * (1 - angle**2 / 6), angle * dt / 2
        dS, dC = -angle * dt**2 / 3, dt**2 / 2
    else:
        S, C = sin / rate, (1 - cos) / rate
        dS, dC = (dt * cos - S) / rate, (dt * sin - C) / rate

    later = state.copy()
    later[X] += S * vx - C * vy
    later[Y] += C * vx + S * vy
    later[VX] = cos * vx - sin * vy
    later[VY] = sin * vx + cos * vy
    later[YAW] += angle

    F = np.eye(STATE_SIZE)
    F[X, VX] = F[Y, VY] = S
    F[Y, VX], F[X, VY] = C, -C
    F[VX, VX] = F[VY, VY] = cos
    F[VY, VX], F[VX, VY] = sin, -sin
    if turning:
        F[YAW, RATE] = dt
        F[X, RATE] = dS * vx - dC * vy
        F[Y, RATE] = dC * vx + dS * vy
        F[VX, RATE] = -dt * later[VY]
        F[VY, RATE] = dt * later[VX]
    return later, F


@compiled
def process_noise(state: Floats, dt: float, parameters: Floats) -> Floats:
    """(10, 10) W over dt seconds: white acceleration and turn acceleration, random walk of height, yaw and size.

    The accelerations are integrated exactly, so that two half steps add up to a whole one.
    """
    W = np.zeros((STATE_SIZE, STATE_SIZE))
    power = parameters[ACCELERATION] ** 2
    turn_power = parameters[TURNING] * parameters[TURN_ACCELERATION] ** 2
    for place, speed, q in ((X, VX, power), (Y, VY, power), (YAW, RATE, turn_power)):
        W[place, place] = q * dt**3 / 3
        W[place, speed] = W[speed, place] = q * dt**2 / 2
        W[speed, speed] = q * dt
    W[Z, Z] = parameters[CLIMB] ** 2 * dt
    W[YAW, YAW] += parameters[YAW_DRIFT] ** 2 * dt
    for size in range(LENGTH, HEIGHT + 1):
        W[size, size] = (parameters[SIZE_DRIFT] * state[size]) ** 2 * dt
    return W


@compiled
def predict(mean: Floats, covariance: Floats, dt: float, parameters: Floats) -> tuple[Floats, Floats]:
    """Eq. 15 for N tracks: mean (N, 10) and covariance (N, 10, 10) dt seconds later, parameters (N, 12)."""
    new_mean = np.empty_like(mean)
    new_covariance = np.empty_like(covariance)
    for j in range(len(mean)):
        later, F = transition(mean[j], dt, parameters[j, TURNING] > 0.0)
        put_vector(new_mean[j], later)
        put_matrix(new_covariance[j], process_noise(mean[j], dt, parameters[j]))
        add_product(new_covariance[j], F, covariance[j])
    keep_plausible(new_mean)
    return new_mean, new_covariance


@compiled
def rest(mean: Floats, covariance: Floats, dt: float, parameters: Floats) -> tuple[Floats, Floats]:
    """As `predict`, for tracks at rest."""
    new_mean = mean.copy()
    new_covariance = covariance.copy()
    new_mean[:, VX:] = 0.0
    new_covariance[:, VX:, :] = 0.0
    new_covariance[:, :, VX:] = 0.0
    for j in range(len(mean)):
        for place in (X, Y):
            new_covariance[j, place, place] += REST_DRIFT**2 * dt
        new_covariance[j, Z, Z] += (parameters[j, CLIMB]) ** 2 * dt
        new_covariance[j, YAW, YAW] += REST_YAW_DRIFT**2 * dt
        for size in range(LENGTH, HEIGHT + 1):
            new_covariance[j, size, size] += (parameters[j, SIZE_DRIFT] * mean[j, size]) ** 2 * dt
        new_covariance[j, VX, VX] = new_covariance[j, VY, VY] = REST_SPEED**2
        new_covariance[j, RATE, RATE] = REST_RATE**2
    return new_mean, new_covariance


@compiled
def keep_plausible(states: Floats) -> None:
    """Keep, in place, the size of states (N, 10) within its limits and the yaw in [-pi, pi)."""
    for j in range(len(states)):
        states[j, YAW] = wrapped(states[j, YAW])
        for size in range(LENGTH, HEIGHT + 1):
            states[j, size] = min(max(states[j, size], MIN_SIZE), MAX_SIZE)


# --- Measurement


@compiled
def measurable(measurements: Floats) -> NDArray[np.bool_]:
    """(M,) whether measurements (M, 7) are finite, within FAR of the origin and of MIN_SIZE to MAX_SIZE."""
    usable = np.empty(len(measurements), np.bool_)
    for k in range(len(measurements)):
        usable[k] = np.isfinite(measurements[k, YAW])
        for a in range(X, Z + 1):
            usable[k] = usable[k] and abs(measurements[k, a]) <= FAR  # false for NaN as well
        for a in range(LENGTH, HEIGHT + 1):
            usable[k] = usable[k] and MIN_SIZE <= measurements[k, a] <= MAX_SIZE
    return usable


@compiled
def hidden_length(measurement: Floats, state: Floats, cut: float, deviation: float) -> float:
    """Metres by which a box (10,) reaches beyond the cut end of a measurement (7,), 0 where it ends clearly before it.

    Args:
        cut: 1 where the front of the measurement is cut, -1 for its back.
        deviation: of a measured length.
    """
    cos, sin = np.cos(measurement[YAW]), np.sin(measurement[YAW])
    offset = cut * (cos * (state[X] - measurement[X]) + sin * (state[Y] - measurement[Y]))
    turn = state[YAW] - measurement[YAW]
    half = (abs(np.cos(turn)) * state[LENGTH] + abs(np.sin(turn)) * state[WIDTH]) / 2
    beyond = offset + half - measurement[LENGTH] / 2
    return beyond if beyond > -CLOSE * deviation else 0.0


@compiled
def innovations(
    measurements: Floats, cut: Floats, states: Floats, covariance: Floats, noise: Floats, gate: float
) -> tuple[Floats, Floats, Floats]:
    """Differences (M, N, 7) of measurements (M, 7) from states (N, 10), and how pairs face and odd shapes, both (M, N).

    The yaw difference lies in [-pi / 2, pi / 2): that of the measurement or of the measurement turned by 180 degrees.
    A pair faces 1 where the measurement counts as it is, -1 where it counts as turned. Where yaw and size are beyond
    SHAPE_GATE they count as not measured: the differences are 0, the pair faces 0, and the last result is the log
    density of any shape over that of the expected one; it is 0 for all other pairs. A measurement that is cut at one
    end reaches as far as the track does.

    Args:
        cut: (M,) 1 where the edge of the view cuts the front of a measurement, -1 where its back, else 0.
        covariance: (N, 10, 10) of the states, noise: (N, 7, 7) of their measurements.
        gate: deviations along x or y beyond which a pair is not looked at: its differences are inf.
    """
    M, N = len(measurements), len(states)
    difference = np.empty((M, N, MEASUREMENT_SIZE))
    facing = np.empty((M, N))
    odd = np.zeros((M, N))
    reach = np.empty((N, 2))
    for j in range(N):
        for a in range(X, Y + 1):
            reach[j, a] = gate * np.sqrt(covariance[j, a, a] + noise[j, a, a])
    for k in range(M):
        for j in range(N):
            z = measurements[k].copy()
            if cut[k] != 0.0:
                longer = hidden_length(z, states[j], cut[k], np.sqrt(noise[j, LENGTH, LENGTH]))
                z[X] += cut[k] * np.cos(z[YAW]) * longer / 2
                z[Y] += cut[k] * np.sin(z[YAW]) * longer / 2
                z[LENGTH] += longer
            if not (abs(z[X] - states[j, X]) <= reach[j, X] and abs(z[Y] - states[j, Y]) <= reach[j, Y]):
                difference[k, j], facing[k, j] = np.inf, 0.0
                continue
            for a in range(MEASUREMENT_SIZE):
                difference[k, j, a] = z[a] - states[j, a]
            whole = wrapped(difference[k, j, YAW])
            half = (whole + np.pi / 2) % np.pi - np.pi / 2
            difference[k, j, YAW] = half
            facing[k, j] = -1.0 if abs(whole - half) > np.pi / 2 else 1.0
            squared, expected = 0.0, 0.0
            for a in range(YAW, MEASUREMENT_SIZE):
                variance = covariance[j, a, a] + noise[j, a, a]
                squared += difference[k, j, a] ** 2 / variance
                expected -= np.log(2 * np.pi * variance) / 2
            if squared > SHAPE_GATE**2:
                difference[k, j, YAW:] = 0.0
                facing[k, j] = 0.0
                size = measurements[k, LENGTH] * measurements[k, WIDTH] * measurements[k, HEIGHT]
                odd[k, j] = -np.log(np.pi * size) - expected
    return difference, facing, odd


@compiled
def velocity_innovations(velocity: Floats, weights: Floats, states: Floats) -> tuple[Floats, Floats]:
    """Differences (M, N, 2) of velocities (M, 3) from states (N, 10), and the weights (M, N) of those that are known.

    Velocities that are NaN or above MAX_SPEED count as unknown: difference and weight are 0.
    """
    difference = np.zeros((len(velocity), len(states), 2))
    known = np.zeros(weights.shape)
    for k in range(len(velocity)):
        if velocity[k, 0] ** 2 + velocity[k, 1] ** 2 <= MAX_SPEED**2:
            for j in range(len(states)):
                known[k, j] = weights[k, j]
                difference[k, j, 0] = velocity[k, 0] - states[j, VX]
                difference[k, j, 1] = velocity[k, 1] - states[j, VY]
    return difference, known


@compiled
def measurement_noise(states: Floats, parameters: Floats, factor: float, depth: float, origin: Floats) -> Floats:
    """(N, 7, 7) V for measurements of these states or of boxes like these measurements (N, 7 or 10).

    Args:
        parameters: (N, 12), whose measured deviations are multiplied by `factor`.
        depth: deviation along the line of sight from the sensor at `origin` (3,), as a share of the distance.
    """
    V = np.zeros((len(states), MEASUREMENT_SIZE, MEASUREMENT_SIZE))
    for j in range(len(states)):
        V[j, X, X] = V[j, Y, Y] = (factor * parameters[j, MEASURED_POSITION]) ** 2
        V[j, Z, Z] = (factor * parameters[j, MEASURED_HEIGHT]) ** 2
        V[j, YAW, YAW] = (factor * parameters[j, MEASURED_YAW]) ** 2
        for size in range(LENGTH, HEIGHT + 1):
            V[j, size, size] = (factor * parameters[j, MEASURED_SIZE] * states[j, size]) ** 2
        for a in range(3):
            for b in range(3):
                V[j, a, b] += depth**2 * (states[j, a] - origin[a]) * (states[j, b] - origin[b])
    return V


@compiled
def initial_state(
    measurements: Floats, noise: Floats, velocity: Floats, velocity_noise: float, parameters: Floats
) -> tuple[Floats, Floats]:
    """Mean (N, 10) and covariance (N, 10, 10) of tracks seen once, at rest on average where no velocity is known.

    Args:
        measurements: (N, 7), noise: (N, 7, 7) their covariance, parameters: (N, 12).
        velocity: (N, 3) m/s, NaN where it is not known; implausible ones (above MAX_SPEED) count as such.
        velocity_noise: deviation of a known velocity along each axis, m/s.
    """
    count = len(measurements)
    mean, covariance = np.zeros((count, STATE_SIZE)), np.zeros((count, STATE_SIZE, STATE_SIZE))
    for j in range(count):
        put_vector(mean[j], measurements[j])
        put_matrix(covariance[j], noise[j])
        variance = parameters[j, SPEED] ** 2
        if velocity[j, 0] ** 2 + velocity[j, 1] ** 2 <= MAX_SPEED**2:
            gain = variance / (variance + velocity_noise**2)
            mean[j, VX], mean[j, VY] = gain * velocity[j, 0], gain * velocity[j, 1]
            variance *= 1.0 - gain
        covariance[j, VX, VX] = covariance[j, VY, VY] = variance
        covariance[j, RATE, RATE] = parameters[j, TURN_RATE] ** 2
    keep_plausible(mean)
    return mean, covariance
