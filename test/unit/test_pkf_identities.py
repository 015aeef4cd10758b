"""The trackers' choice of identities and spread: their updates are those of the estimators under one contract."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import multivariate_normal

from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from pkf_filter import FilterConfig, SensorModel, Tracker, WorldConfig, WorldTracker, association_weights
from pkf_filter.filtering import estimators
from pkf_filter.filtering.estimators import Hypotheses
from pkf_filter.image.config import Detector, ImagePlaneNoise
from pkf_filter.image.tracker import SURE

Array = NDArray[np.float64]

SECOND = 1_000_000_000
FRAME = SECOND // 10
GAUSSIAN = 1e9  # degrees of freedom

choices = pytest.mark.parametrize(
    ("identities", "spread", "estimator"),
    [
        ("averaged", "none", estimators.pkf),
        ("averaged", "mixture", estimators.jpdaf),
        ("resolved", "mixture", estimators.resolved),
    ],
)


def left_unmeasured(problem: Hypotheses, identities: str) -> Array:
    """(N,) probability that no measurement is the track's."""
    found = association_weights(problem.log_likelihood, problem.log_clutter, problem.log_missed)
    weights = estimators.resolved_weights(found.weights, found.assignment)
    return 1 - (weights if identities == "resolved" else found.weights).sum(0)


def existing(before: Array, detected: Array, missed: Array) -> Array:
    """(N,) existence: that of a track with a measurement is certain."""
    return 1 - missed + missed * before * (1 - detected) / (1 - before * detected)


# --- In space


def persons(*places: tuple[float, float]) -> Detections3D:
    """Persons at x, y."""
    count = len(places)
    centre = np.array([(x, y, 0.9) for x, y in places]).reshape(-1, 3)
    boxes = Boxes3D(centre, np.tile([0.6, 0.6, 1.8], (count, 1)), np.zeros(count), np.full((count, 3), np.nan))
    return Detections3D(boxes, np.full(count, 0.5), np.zeros(count, np.int64))


def in_space(identities: str, spread: str, noise: float = 1.0) -> WorldTracker:
    config = WorldConfig.model_validate(
        {"identities": identities, "spread": spread, "gate_distance": 30.0, "same_object": 1.0}
    )
    tracker = WorldTracker(config, {"": SensorModel(noise=noise)})
    tracker.class_id("person")
    return tracker


@choices
def test_the_update_in_space_is_the_estimators(identities: str, spread: str, estimator: estimators.Estimator) -> None:
    t = in_space(identities, spread)
    for i in range(5):
        t.step(i * FRAME, persons((10.0, 0.0), (10.0, 0.5)))
    before = t._state
    places = [(10.05, 0.2), (9.95, 0.35), (10.2, 0.7)]
    t.step(4 * FRAME, persons(*places))  # no time passes: the state is the prediction

    H, group, model = np.eye(7, 10), t.config.pedestrian, t.sensors[""]
    place, size = group.measured_position, group.measured_size * before.mean[:, 4:7]
    V = [np.diag(np.square([place, place, group.measured_height, group.measured_yaw, *each])) for each in size]
    z = np.array([(x, y, 0.9, 0.0, 0.6, 0.6, 1.8) for x, y in places])
    S = H @ before.covariance @ H.T + V
    density = [multivariate_normal.logpdf(z, before.mean[j, :7], S[j]) for j in range(2)]
    detected = np.full(2, model.detection_probability)
    problem = Hypotheses(
        np.stack(density, 1) + np.log(before.existence * detected),
        np.full(3, np.log(model.clutter_density / 4 / np.pi / (0.6 * 0.6 * 1.8))),
        np.log1p(-before.existence * detected),
    )
    mean, covariance = estimator(before.mean, before.covariance, H, np.array(V), z, problem)
    np.testing.assert_allclose(t._state.mean[:2], mean, atol=1e-9)
    np.testing.assert_allclose(t._state.covariance[:2], covariance, atol=1e-9)
    missed = left_unmeasured(problem, identities)
    np.testing.assert_allclose(t._state.existence[:2], existing(before.existence, detected, missed), atol=1e-9)


def test_two_who_walk_side_by_side_are_drawn_together_unless_their_identities_are_resolved() -> None:
    apart = {}
    for identities in ("averaged", "resolved"):
        rng, t, widths = np.random.default_rng(0), in_space(identities, "mixture", noise=3.0), []
        for i in range(100):
            half = max(0.2, 2.0 - 0.1 * i)  # they come together and then stay 0.4 m apart, with an error of 0.3 m
            truth = np.array([(0.1 * i, half), (0.1 * i, -half)])
            t.step(i * FRAME, persons(*map(tuple, truth + rng.normal(scale=0.3, size=(2, 2)))))
            assert len(t._state.ids) == 2
            widths.append(abs(t._state.mean[0, 1] - t._state.mean[1, 1]))
        apart[identities] = np.mean(widths[30:])
    assert apart["averaged"] < 0.2 < 0.3 < apart["resolved"]


# --- In the image


def boxes(*places: tuple[float, float], side: float = 60.0) -> Boxes2D:
    xy = np.array(places)
    return Boxes2D(np.hstack([xy - side / 2, xy + side / 2]), np.full(len(xy), 0.95), np.zeros(len(xy), np.int64))


@choices
def test_the_update_in_the_image_is_the_estimators(
    identities: str, spread: str, estimator: estimators.Estimator
) -> None:
    noise, detector = ImagePlaneNoise(tails=GAUSSIAN, adaptation=0.0), Detector(occlusion=0.0)
    config = FilterConfig.model_validate(
        {
            "identities": identities,
            "spread": spread,
            "noise": noise,
            "detector": detector,
            "gate_distance": 30.0,
        }
    )
    t = Tracker(config)
    for i in range(2):
        t.step(i * FRAME, boxes((100, 100), (116, 100)))
    before = t._tracks.copy()
    assert len(before) == 2
    seen = boxes((106, 101), (130, 99))
    t.step(FRAME, seen)

    mean, packed = before["mean"].reshape(2, 8), before["covariance"]
    covariance = np.zeros((2, 8, 8))
    for c in range(4):
        here = 2 * c
        covariance[:, here, here], covariance[:, here + 1, here + 1] = packed[:, c, 0], packed[:, c, 2]
        covariance[:, here, here + 1] = covariance[:, here + 1, here] = packed[:, c, 1]
    H = np.kron(np.eye(4), [[1.0, 0.0]])
    sides = np.exp(mean[:, 4] / 2)
    V = np.array([np.diag(np.square([0.05 * s, 0.05 * s, 0.15, 0.12])) for s in sides])
    extent = seen.xyxy[:, 2:] - seen.xyxy[:, :2]
    z = np.column_stack([seen.xyxy[:, :2] + extent / 2, np.log(extent.prod(1)), np.log(extent[:, 0] / extent[:, 1])])
    S = H @ covariance @ H.T + V
    density = np.stack([multivariate_normal.logpdf(z, H @ mean[j], S[j]) + 2 * np.log(sides[j]) for j in range(2)], 1)
    detected = before["visibility"] * np.minimum(expit(logit(0.8729) + 0.5 * (before["score"] - logit(0.9627))), 0.98)
    clutter = detector.clutter_density * (np.exp(0.8 * (logit(0.9627) - logit(0.95))) + 0.25 / 0.75)
    problem = Hypotheses(
        density + np.log(overlaps(seen.xyxy, H @ mean[0], H @ mean[1])) + np.log(before["existence"] * detected),
        np.full(2, np.log(clutter)),
        np.log1p(-before["existence"] * detected),
    )
    expected, P = estimator(mean, covariance, H, V, z, problem)
    np.testing.assert_allclose(t._tracks["mean"][:2].reshape(2, 8), expected, rtol=1e-6, atol=1e-9)
    for c in range(4):
        block = P[:, 2 * c : 2 * c + 2, 2 * c : 2 * c + 2].reshape(2, 4)[:, [0, 1, 3]]
        np.testing.assert_allclose(t._tracks["covariance"][:2, c], block, rtol=1e-5, atol=1e-9)
    existence = existing(before["existence"], detected, left_unmeasured(problem, identities))
    np.testing.assert_allclose(t._tracks["existence"][:2], np.minimum(existence, SURE), rtol=1e-6)
    assert existence.min() < SURE


def overlaps(xyxy: Array, *values: Array) -> Array:
    """(M, N) IoU of boxes and states (u, v, log s, log r)."""
    found = np.zeros((len(xyxy), len(values)))
    for j, (u, v, log_s, log_r) in enumerate(values):
        half = np.exp([(log_s + log_r) / 2, (log_s - log_r) / 2]) / 2
        low, high = [u, v] - half, [u, v] + half
        shared = np.clip(np.minimum(xyxy[:, 2:], high) - np.maximum(xyxy[:, :2], low), 0, None).prod(1)
        union = (xyxy[:, 2:] - xyxy[:, :2]).prod(1) + np.exp(log_s) - shared
        found[:, j] = shared / union
    return found
