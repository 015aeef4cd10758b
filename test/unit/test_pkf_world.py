"""Motion, measurement and projection of boxes in space against numerical derivatives and the image-plane update."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.geometry.overlap import ground_intersection
from pkf_filter.filtering.linearised import gaussian, linearised_update
from pkf_filter.filtering.update import MEANS, SPREADS, pkf_update
from pkf_filter.space import kernels as world_kernels
from pkf_filter.space import models as world
from pkf_filter.space import projection
from pkf_filter.space.config import ClassGroup, WorldConfig

TURNING = ClassGroup(motion="coordinated turn")
STRAIGHT = ClassGroup(motion="constant velocity")

states = hnp.arrays(np.float64, (10,), elements=st.floats(-20, 20, allow_subnormal=False)).map(
    lambda x: np.concatenate([x[:4], np.abs(x[4:7]) / 4 + 0.5, x[7:9], x[9:] / 10])
)


def numerical_jacobian(function, x: np.ndarray, step: float = 1e-6) -> np.ndarray:  # type: ignore[no-untyped-def]
    columns = [(function(x + step * e) - function(x - step * e)) / (2 * step) for e in np.eye(len(x))]
    return np.stack(columns, -1)


def parameters(group: ClassGroup, count: int = 1) -> np.ndarray:
    return np.repeat(world.group_table([group]), count, 0)


# --- Motion


@settings(max_examples=60)
@given(states, st.floats(0.0, 2.0), st.booleans())
def test_motions_jacobian_is_that_of_the_motion(state: np.ndarray, dt: float, turning: bool) -> None:
    _, F = world.transition(state, dt, turning)
    numerical = numerical_jacobian(lambda x: world.transition(x, dt, turning)[0], state)
    assert pytest.approx(numerical, abs=1e-4, rel=1e-4) == F


@pytest.mark.parametrize("rate", [0.0, 1e-9, 1e-6, 9e-5, 1.1e-4, 0.01])
def test_slow_turns_have_accurate_derivatives(rate: float) -> None:
    """The series and the closed form agree where one takes over from the other."""
    state = np.array([1.0, 2.0, 0.0, 0.3, 4.0, 2.0, 1.5, 10.0, -3.0, rate])
    later, F = world.transition(state, 1.0, True)
    steps = np.linspace(0, 1, 10_001)[:, None] * rate
    velocity = np.concatenate([np.cos(steps) * 10 + np.sin(steps) * 3, np.sin(steps) * 10 - np.cos(steps) * 3], 1)
    assert later[:2] == pytest.approx(state[:2] + np.trapezoid(velocity, dx=1e-4, axis=0), abs=1e-7)
    assert F[:2, 9] == pytest.approx([3 / 2, 10 / 2], abs=0.05)


@settings(max_examples=50)
@given(states, st.booleans())
@example(np.array([0, 0, 0, 0, 4.0, 2.0, 1.5, 20.0, 0, 1.9e-4]), True)  # half of it is a slow turn
def test_two_half_steps_are_one_whole(state: np.ndarray, turning: bool) -> None:
    once, _ = world.transition(state, 1.0, turning)
    half, _ = world.transition(state, 0.5, turning)
    twice, _ = world.transition(half, 0.5, turning)
    assert twice == pytest.approx(once, abs=1e-9)


def test_process_noise_of_two_half_steps_adds_up() -> None:
    state = np.array([0, 0, 0, 0, 4.0, 2.0, 1.5, 10.0, 0, 0])
    row = parameters(STRAIGHT)[0]
    _, F = world.transition(state, 0.3, False)
    half = world.process_noise(state, 0.3, row)
    assert F @ half @ F.T + half == pytest.approx(world.process_noise(state, 0.6, row), abs=1e-12)


def test_a_turning_object_stays_on_its_circle() -> None:
    speed, rate = 8.0, 0.4
    state = np.array([[0, 0, 0, 0, 4.0, 2.0, 1.5, speed, 0, rate]])
    mean, covariance = state, np.eye(10)[None]
    for _ in range(50):
        mean, covariance = world.predict(mean, covariance, 0.1, parameters(TURNING))
    angle = 5 * rate
    radius = speed / rate
    assert mean[0, :2] == pytest.approx([radius * np.sin(angle), radius * (1 - np.cos(angle))])
    assert mean[0, world.YAW] == pytest.approx(angle)
    assert np.linalg.norm(mean[0, 7:9]) == pytest.approx(speed)
    assert (np.linalg.eigvalsh(covariance[0]) > 0).all()


def test_every_class_name_has_its_group() -> None:
    config = WorldConfig()
    groups = [config.groups()[config.group_of(name)] for name in ("Car", "pedestrian", "bicycle", "unicorn")]
    assert groups == [config.vehicle, config.pedestrian, config.cycle, config.other]


# --- Measurement


@settings(max_examples=60)
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_yaws_are_compared_on_the_half_circle(track: float, measured: float) -> None:
    state = np.zeros((1, 10))
    state[0, world.YAW] = track
    z = np.zeros((1, 7))
    z[0, world.YAW] = measured
    innovation, facing, odd = world.innovations(z, np.zeros(len(z)), state, np.eye(10)[None], np.eye(7)[None], gate=1.0)
    assert not odd.any()
    difference = innovation[0, 0, world.YAW]
    assert -np.pi / 2 - 1e-9 <= difference <= np.pi / 2 + 1e-9
    back = np.pi if facing[0, 0] < 0 else 0.0
    assert np.cos(track + difference + back - measured) == pytest.approx(1.0, abs=1e-9)
    if abs(np.cos(measured - track)) > 1e-6:
        assert facing[0, 0] == np.sign(np.cos(measured - track))


def test_depth_noise_lies_along_the_line_of_sight() -> None:
    state = np.array([[30.0, 40.0, 0.0, 0, 4.0, 2.0, 1.5, 0, 0, 0]])
    plain = world.measurement_noise(state, parameters(STRAIGHT), 1.0, 0.0, np.zeros(3))
    deep = world.measurement_noise(state, parameters(STRAIGHT), 1.0, 0.1, np.zeros(3))
    sight, across = np.array([0.6, 0.8, 0, 0, 0, 0, 0]), np.array([-0.8, 0.6, 0, 0, 0, 0, 0])
    assert sight @ (deep - plain)[0] @ sight == pytest.approx(5.0**2)
    assert across @ (deep - plain)[0] @ across == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 4))
def test_linearised_update_equals_the_linear_one(seed: int, M: int, N: int) -> None:
    rng = np.random.default_rng(seed)
    H = world.MEASUREMENT_MATRIX
    mean, z = rng.normal(size=(N, 10)), rng.normal(size=(M, 7))
    root = rng.normal(size=(N, 10, 10))
    covariance = root @ root.swapaxes(1, 2) + 0.1 * np.eye(10)
    V = np.diag(rng.uniform(0.1, 1.0, 7))
    weights = rng.uniform(size=(M, N)) / max(M, 1)
    innovation = z[:, None] - mean[None, :, :7]
    for spread, name in enumerate(SPREADS):
        Hs, Vs = np.tile(H, (N, 1, 1)), np.tile(V, (N, 1, 1))
        found = linearised_update(mean, covariance, innovation, Hs, Vs, weights, spread)
        expected = pkf_update(mean, covariance, H, V, z, weights, name)
        assert found[0] == pytest.approx(expected[0], abs=1e-9)
        assert found[1] == pytest.approx(expected[1], abs=1e-9)


def test_gaussian_is_the_density_of_the_innovation() -> None:
    rng = np.random.default_rng(1)
    H, root = rng.normal(size=(3, 4, 10)), rng.normal(size=(3, 10, 10))
    covariance, innovation = root @ root.swapaxes(1, 2), rng.normal(size=(5, 3, 4))
    V = np.tile(0.3 * np.eye(4), (3, 1, 1))
    squared, log_density = gaussian(innovation, H, V, covariance, 1e3)
    gated, _ = gaussian(innovation, H, V, covariance, 1.0)
    assert np.array_equal(gated, np.where(squared <= 1.0, squared, np.inf)) and (squared <= 1.0).any()
    S = H @ covariance @ H.swapaxes(1, 2) + V
    for k in range(5):
        for j in range(3):
            expected = innovation[k, j] @ np.linalg.solve(S[j], innovation[k, j])
            assert squared[k, j] == pytest.approx(expected)
            density = np.exp(-expected / 2) / np.sqrt(np.linalg.det(2 * np.pi * S[j]))
            assert log_density[k, j] == pytest.approx(np.log(density))


def test_covariances_stay_positive_definite_over_a_million_steps() -> None:
    """Very different tracks, from a certain prior to a vague one, with precise measurements of uncertain origin."""
    rng = np.random.default_rng(2)
    count, steps, M = 250, 4000, 2
    turning = np.arange(count) % 2 == 1
    exact = dict(measured_position=1e-3, measured_yaw=1e-3, acceleration=1e-3)
    rows = [parameters(ClassGroup(**exact)), parameters(ClassGroup(**exact, motion="coordinated turn"))]
    table = np.concatenate(rows)[turning.astype(int)]
    mean = np.tile([0, 0, 0, 0, 4.0, 2.0, 1.5, 5.0, 0, 0.1], (count, 1))
    covariance = 10.0 ** rng.uniform(-6, 3, (count, 1, 1)) * np.eye(10)
    H = np.tile(world.MEASUREMENT_MATRIX, (count, 1, 1))
    weights = rng.dirichlet([1, 1, 1], count).T[:M].copy()
    innovation = rng.normal(scale=1e-3, size=(M, count, 7))
    for _ in range(steps):
        mean, covariance = world.predict(mean, covariance, 0.01, table)
        V = world.measurement_noise(mean, table, 1.0, 0.0, np.zeros(3))
        mean, covariance = linearised_update(mean, covariance, innovation, H, V, weights, MEANS)
        world.keep_plausible(mean)
    assert np.array_equal(covariance, covariance.swapaxes(1, 2))
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    assert np.isfinite(mean).all()


def test_a_measured_velocity_starts_a_track_and_an_unknown_one_does_not() -> None:
    z = np.array([[0, 0, 0, 0, 4.0, 2.0, 1.5]] * 3)
    noise = np.tile(0.01 * np.eye(7), (3, 1, 1))
    velocity = np.array([[3.0, -4.0, 0.0], [np.nan, np.nan, np.nan], [1e4, 0.0, 0.0]])
    row = np.repeat(parameters(STRAIGHT), 3, 0)
    mean, covariance = world.initial_state(z, noise, velocity, 0.5, row)
    prior, measured = row[0, world.SPEED] ** -2, 0.5**-2  # information: of a new track, at rest on average
    share = measured / (prior + measured)
    assert mean[:, world.VX] == pytest.approx([share * 3.0, 0.0, 0.0])
    assert mean[:, world.VY] == pytest.approx([share * -4.0, 0.0, 0.0])
    deviations = np.sqrt(covariance[:, world.VX, world.VX])
    assert deviations == pytest.approx([(prior + measured) ** -0.5, row[1, world.SPEED], row[2, world.SPEED]])


# --- Projection

CAMERA = Camera.from_field_of_view(1280, 720, 70.0)
SIZE = np.array([1280.0, 720.0])


def pose(yaw: float = 0.0, height: float = 1.5) -> Pose:
    """A camera that looks along x of the fixed frame, turned by a yaw."""
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]])
    return Pose(turn @ OPTICAL_IN_VEHICLE, np.array([0, 0, height]))


def project(states: np.ndarray, camera_pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = projection.project(states, CAMERA.intrinsics, camera_pose.rotation, camera_pose.translation, SIZE)
    return found[0], found[1], found[2]


ahead = st.tuples(
    st.floats(8, 60), st.floats(-0.6, 0.6), st.floats(-2, 2), st.floats(-4, 4), st.floats(1, 6), st.floats(-0.5, 0.5)
)


@settings(max_examples=100)
@given(ahead)
def test_projections_jacobian_is_that_of_the_projection(drawn: tuple[float, ...]) -> None:
    x, bearing, z, yaw, length, camera_yaw = drawn
    state = np.array([x, bearing * x, z, yaw, length, 1.8, 1.5, 3.0, 1.0, 0.1])
    camera_pose = pose(camera_yaw)
    sides, H, _ = project(state[None], camera_pose)
    corners = Boxes3D(state[None, :3], state[None, 4:7], state[None, 3], np.zeros((1, 3))).corners()
    pixels = CAMERA.project(camera_pose.inverse().apply(corners))[0]
    if np.isnan(pixels).any():
        return
    whole = np.concatenate([pixels.min(0), pixels.max(0)])
    assert sides[0] == pytest.approx(np.clip(whole, 0, np.tile(SIZE, 2)), abs=1e-6)
    gaps = np.abs(np.diff(np.sort(pixels, 0), axis=0))[[0, -1]]
    if gaps.min() < 1e-2:
        return  # two corners share an extent: no derivative there
    near_border = (np.abs(whole) < 1e-2) | (np.abs(whole - np.tile(SIZE, 2)) < 1e-2)
    numerical = numerical_jacobian(lambda s: project(s[None], camera_pose)[0][0], state)
    assert H[0][~near_border] == pytest.approx(numerical[~near_border], rel=1e-4, abs=1e-3)


def test_boxes_behind_beside_and_partly_outside() -> None:
    rows = [(20.0, 0.0), (-20.0, 0.0), (20.0, 60.0), (0.5, 0.0), (20.0, 13.5)]
    states = np.array([[x, y, 0.75, 0, 4.0, 2.0, 1.5, 0, 0, 0] for x, y in rows])
    sides, H, in_view = project(states, pose())
    assert in_view.tolist() == [True, False, False, False, True]
    assert np.isfinite(sides).all() and np.isfinite(H).all()
    assert sides[4, 0] == 0 and not H[4, 0].any() and H[4, 2].any()


def test_pairs_out_of_reach_along_one_axis_are_not_looked_at() -> None:
    """Reach along x: 2 sqrt(4 + 5) = 6, along y: 2 sqrt(9 + 7) = 8."""
    covariance, noise = np.eye(10)[None].copy(), np.eye(7)[None].copy()
    covariance[0, 0, 0], covariance[0, 1, 1], noise[0, 0, 0], noise[0, 1, 1] = 4, 9, 5, 7
    z = np.zeros((4, 7))
    z[:, :2] = [[5.9, -7.9], [6.1, 0.0], [-6.1, 0.0], [0.0, 8.1]]
    innovation, facing, _ = world.innovations(z, np.zeros(len(z)), np.zeros((1, 10)), covariance, noise, gate=2.0)
    np.testing.assert_array_equal(innovation[0, 0], z[0])
    assert np.isinf(innovation[1:]).all() and facing[:, 0].tolist() == [1, 0, 0, 0]


def test_a_shape_beyond_its_gate_says_nothing() -> None:
    """Deviations 1 before the measurement, sqrt(2) with it: 3.5 of them are 4.95."""
    state, z = np.zeros((1, 10)), np.zeros((2, 7))
    z[:, world.LENGTH :] = [[4.0, 2.0, 1.0], [8.0, 2.0, 1.5]]
    z[:, world.X] = 0.5
    innovation, facing, odd = world.innovations(z, np.zeros(len(z)), state, np.eye(10)[None], np.eye(7)[None], gate=5.0)
    np.testing.assert_array_equal(innovation[0, 0], z[0])
    np.testing.assert_array_equal(innovation[1, 0], [0.5, 0, 0, 0, 0, 0, 0])
    assert facing[:, 0].tolist() == [1, 0]
    assert odd[0, 0] == 0 and odd[1, 0] == pytest.approx(2 * np.log(2 * np.pi * 2) - np.log(np.pi * 24))


@pytest.mark.parametrize("seed", range(5))
def test_shared_outlines_are_those_of_the_polygons(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform([-2, -2, 0, -4, 0.5, 0.5, 1], [2, 2, 0, 4, 5, 3, 1], (40, 7)) for _ in range(2))
    boxes = [Boxes3D(rows[:, :3], rows[:, 4:], rows[:, 3], np.zeros((40, 3))) for rows in (a, b)]
    smaller = np.minimum(a[:, 4] * a[:, 5], b[:, 4] * b[:, 5])
    found = [world_kernels.shared_outline(one, other) for one, other in zip(a, b, strict=True)]
    assert found == pytest.approx(ground_intersection(*boxes) / smaller, abs=1e-9)
    assert max(found) > 0.3


def test_what_hides_is_nearer_and_in_the_same_direction() -> None:
    """A wall of 4 m at 10 m hides a car of 2 m across at 20 m behind its middle, half of one at its edge."""
    rows = [
        (10, 0, 2, np.pi / 2, 4, 0.2, 4),
        (20, 0, 0.75, 0, 4, 2, 1.5),
        (20, 4, 0.75, 0, 4, 2, 1.5),
        (5, 9, 1, 0, 4, 2, 2),
    ]
    states = np.zeros((4, 10))
    states[:, :7] = rows
    covered = world_kernels.covered_by_bearing(states, np.zeros(3), np.array([0.8, 1, 1, 1]))
    assert covered[[0, 1, 3]] == pytest.approx([0, 0.8, 0])
    assert covered[2] == pytest.approx(0.4, abs=0.15)


def test_detectability_depends_on_time_alone() -> None:
    share, unhidden = np.array([0.9, 0.9]), np.array([1.0, 0.1])
    whole = world_kernels.detectable(np.array([0.2, 1.0]), share, unhidden, 0.2, np.full(2, 0.3))
    thirds = np.array([0.2, 1.0])
    for _ in range(3):
        thirds = world_kernels.detectable(thirds, share, unhidden, 0.2, np.full(2, 0.1))
    assert thirds == pytest.approx(whole)
    long = world_kernels.detectable(thirds, share, unhidden, 0.2, np.full(2, 100.0))
    assert long[0] == pytest.approx(0.9) and long[1] < 0.09


def test_what_a_sensor_should_have_found_exists_in_view_and_unhidden() -> None:
    existence, in_view = np.array([1.0, 0.5, 1.0, 0.0]), np.array([True, True, False, True])
    unhidden, missed = np.array([1.0, 0.5, 1.0, 1.0]), np.array([0.1, 0.4, 0.0, 0.0])
    found = world_kernels.expected_and_found(existence, in_view, unhidden, missed)
    np.testing.assert_allclose(found, [1.25, 0.9 + 0.15])


def test_who_is_likely_and_not_silent_is_alive() -> None:
    """Stamps as on a vehicle: float64 does not hold them to the nanosecond."""
    rng, number, now = np.random.default_rng(2), 200, 1_700_000_000_123_456_789
    existence, before_ns = rng.random(number), now - rng.integers(0, 3, number) * 1_000_000_000
    alive = world_kernels.alive(before_ns, existence, now, 1e9, 0.1)
    np.testing.assert_array_equal(alive, np.flatnonzero((now - before_ns <= 1_000_000_000) & (existence >= 0.1)))
    assert 0 < len(alive) < number
