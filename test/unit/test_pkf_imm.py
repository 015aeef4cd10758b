"""Interacting multiple models: against the textbook's formulas in loops, and on a target that stops now and then."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from camtrack_core.geometry.boxes import Boxes3D, Detections3D
from pkf_filter.space import imm as interacting
from pkf_filter.space import models as world
from pkf_filter.space.config import ClassGroup, SensorModel, WorldConfig
from pkf_filter.space.tracker import WorldTracker

SECOND = 1_000_000_000
PERIOD = 0.1
H = world.MEASUREMENT_MATRIX
GROUP = ClassGroup(
    names=("car",), motion="interacting", acceleration=2.0, turn_acceleration=0.5, dwell=4.0, measured_position=0.3
)
PARAMETERS = world.group_table([GROUP])


def modes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability (1, 2), mean (1, 2, 10) and covariance (1, 2, 10, 10) of one track."""
    turning = rng.uniform(0.1, 0.9)
    mean = rng.normal([3.0, 5, 1, 0.4, 4, 2, 1.5, 8, 2, 0.3], 0.1, (1, 2, 10))
    roots = rng.normal(scale=0.3, size=(1, 2, 10, 10))
    return np.array([[1 - turning, turning]]), mean, roots @ roots.swapaxes(-1, -2) + 0.05 * np.eye(10)


def mixture(shares: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = sum(share * x for share, x in zip(shares, means, strict=True))
    covariance = np.zeros((10, 10))
    for share, x, P in zip(shares, means, covariances, strict=True):
        covariance += share * (P + np.outer(x - mean, x - mean))
    return mean, covariance


@pytest.mark.parametrize("seed", range(10))
def test_mixing_is_the_textbooks(seed: int) -> None:
    probability, mean, covariance = modes(np.random.default_rng(seed))
    transition = np.array([[0.85, 0.15], [0.3, 0.7]])
    found = interacting.mixed(probability, mean, covariance, np.array([[0.15, 0.3]]))
    for mode in range(2):
        after = sum(transition[i, mode] * probability[0, i] for i in range(2))
        shares = np.array([transition[i, mode] * probability[0, i] / after for i in range(2)])
        m, P = mixture(shares, mean[0], covariance[0])
        assert found[0][0, mode] == pytest.approx(after)
        assert found[1][0, mode] == pytest.approx(m)
        assert found[2][0, mode] == pytest.approx(P)
    middle, around = interacting.combined(probability, mean, covariance)
    m, P = mixture(probability[0], mean[0], covariance[0])
    assert middle[0] == pytest.approx(m) and around[0] == pytest.approx(P)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("certain", [True, False])
def test_a_mode_is_as_likely_as_it_foretold_the_collapsed_measurement(seed: int, certain: bool) -> None:
    """PKF's N(zbar; h, H P H' + V / s) by scipy, up to what both modes have in common."""
    rng = np.random.default_rng(seed)
    _, mean, covariance = modes(rng)
    V = np.diag(rng.uniform(0.05, 0.3, 7))
    weights = np.array([[1.0]]) if certain else np.array([[0.3], [0.5]])
    z = rng.normal(mean[0, 0, :7], 0.3, (len(weights), 7))
    s = weights.sum()
    found, expected = [], []
    for mode in range(2):
        x, P = mean[:, mode].copy(), covariance[:, mode].copy()
        innovation = (z - x[0, :7])[:, None]
        found.append(interacting.collapsed_log_likelihood(innovation, H[None].copy(), V[None], P, weights)[0])
        zbar = (weights * z).sum(0) / s
        expected.append(multivariate_normal.logpdf(zbar, H @ x[0], H @ P[0] @ H.T + V / s))
    assert found[1] - found[0] == pytest.approx(expected[1] - expected[0], abs=1e-9)


def test_nothing_measured_tells_nothing_about_the_motion() -> None:
    _, _, covariance = modes(np.random.default_rng(0))
    innovation, V = np.full((1, 1, 7), np.inf), np.eye(7)[None].copy()
    P = covariance[:, 0].copy()
    assert interacting.collapsed_log_likelihood(innovation, H[None].copy(), V, P, np.zeros((1, 1))).tolist() == [0.0]


def test_innovations_of_a_mode_are_those_of_the_mixture_moved_along() -> None:
    _, mean, _ = modes(np.random.default_rng(1))
    middle, own, z = mean[:, 0].copy(), mean[:, 1].copy(), np.arange(7.0)
    innovation = (z - middle[0, :7])[None, None]
    found = interacting.from_mode(innovation, H[None].copy(), middle, own)
    assert found[0, 0] == pytest.approx(z - own[0, :7])


def test_two_half_steps_of_change_make_a_whole_one() -> None:
    rates = np.array([0.7])
    half, whole = (-np.expm1(-2 * rates * dt) / 2 for dt in (0.3, 0.6))
    assert 2 * half * (1 - half) == pytest.approx(whole)


# --- In the tracker


def drive(seconds: float = 24.0) -> tuple[np.ndarray, np.ndarray]:
    """Places (T, 3) x, y, yaw and velocities (T, 2) of a car of 10 m/s that turns at 0.2 rad/s: it stands for 4 s,
    drives for 4 s, and starts and brakes at 4 m/s^2."""
    x, y, yaw, speed = 0.0, 0.0, 0.0, 0.0
    rows, velocities = [], []
    for i in range(int(seconds / PERIOD)):
        wanted = 10.0 if int(i * PERIOD / 4) % 2 else 0.0
        speed += np.clip(wanted - speed, -0.4, 0.4)
        yaw += 0.02 * speed * PERIOD
        x, y = x + speed * np.cos(yaw) * PERIOD, y + speed * np.sin(yaw) * PERIOD
        rows.append((x, y, yaw))
        velocities.append((speed * np.cos(yaw), speed * np.sin(yaw)))
    return np.array(rows), np.array(velocities)


def errors(motion: str, seeds: int = 4) -> tuple[float, float]:
    """Root mean square errors of place and velocity, after the first second."""
    truth, velocities = drive()
    group = GROUP.model_copy(update={"motion": motion})
    squares = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        t = WorldTracker(WorldConfig(vehicle=group), {"": SensorModel()})
        car = np.array([t.class_id("car")])
        for i, (x, y, yaw) in enumerate(truth):
            centre = np.array([[x, y, 0.75]]) + rng.normal(scale=[[0.3, 0.3, 0.1]])
            size = np.array([[4.0, 1.8, 1.5]]) * rng.normal(1, 0.08, (1, 3))
            boxes = Boxes3D(centre, size, np.array([yaw + rng.normal(scale=0.1)]), np.full((1, 3), np.nan))
            tracks = t.step(round(i * PERIOD * SECOND), Detections3D(boxes, np.array([0.95]), car))
            if i * PERIOD >= 1:
                assert len(tracks) >= 1
                gaps = np.linalg.norm(tracks.boxes.centre[:, :2] - truth[i, :2], axis=1)
                nearest = gaps.argmin()
                squares.append((gaps[nearest] ** 2, *(tracks.boxes.velocity[nearest, :2] - velocities[i]) ** 2))
    mean = np.mean(squares, 0)
    return float(np.sqrt(mean[0])), float(np.sqrt(mean[1:].sum()))


def test_rest_and_motion_at_once_follow_a_car_that_stops_better_than_motion_alone() -> None:
    moving, both = (errors(motion) for motion in ("coordinated turn", "interacting"))
    assert both[0] < moving[0]
    assert both[1] < moving[1]


def test_the_probability_of_rest_follows_the_car() -> None:
    truth, _ = drive(12.0)
    t = WorldTracker(WorldConfig(vehicle=GROUP))
    car = np.array([t.class_id("car")])
    rng = np.random.default_rng(0)
    probability = []
    for i, (x, y, yaw) in enumerate(truth):
        centre = np.array([[x, y, 0.75]]) + rng.normal(scale=[[0.05, 0.05, 0.05]])
        boxes = Boxes3D(centre, np.array([[4.0, 1.8, 1.5]]), np.array([yaw]), np.full((1, 3), np.nan))
        tracks = t.step(round(i * PERIOD * SECOND), Detections3D(boxes, np.array([0.95]), car))
        probability.append(t._state.mode_probability[0, interacting.REST])
        assert t._state.mode_probability.sum(1) == pytest.approx(1.0)
        assert (np.linalg.eigvalsh(t._state.covariance) > 0).all()
    assert min(probability[20:40]) > 0.9
    assert max(probability[50:80]) < 0.1
    assert min(probability[112:]) > 0.9
    assert tracks.ids.tolist() == [1]


def test_groups_of_one_motion_are_what_they_are_without_modes() -> None:
    """A tracker in which only another class group rests at times gives the same tracks."""
    turning, resting = ({"motion": motion} for motion in ("coordinated turn", "interacting"))
    plain = WorldConfig(vehicle=GROUP.model_copy(update=turning))
    beside = plain.model_copy(update={"cycle": plain.cycle.model_copy(update=resting)})
    truth, _ = drive(3.0)
    found = []
    for config in (plain, beside):
        t = WorldTracker(config)
        car = np.array([t.class_id("car")])
        for i, (x, y, yaw) in enumerate(truth):
            boxes = Boxes3D(np.array([[x, y, 0.75]]), np.array([[4.0, 1.8, 1.5]]), np.array([yaw]),
                            np.full((1, 3), np.nan))  # fmt: skip
            tracks = t.step(round(i * PERIOD * SECOND), Detections3D(boxes, np.array([0.95]), car))
        found.append(tracks)
    assert found[1].boxes.centre == pytest.approx(found[0].boxes.centre)
    assert found[1].boxes.velocity == pytest.approx(found[0].boxes.velocity)
    assert found[1].covariance == pytest.approx(found[0].covariance)


def test_a_turned_detection_turns_the_modes_as_well() -> None:
    t = WorldTracker(WorldConfig(vehicle=GROUP))
    car = np.array([t.class_id("car")])
    for i in range(10):
        yaw = np.pi if i == 0 else 0.0  # the first one is the wrong way round
        boxes = Boxes3D(np.array([[20.0, 0, 0.75]]), np.array([[4.0, 1.8, 1.5]]), np.array([yaw]),
                        np.full((1, 3), np.nan))  # fmt: skip
        tracks = t.step(round(i * PERIOD * SECOND), Detections3D(boxes, np.array([0.95]), car))
    assert np.cos(tracks.boxes.yaw[0]) > 0.99
