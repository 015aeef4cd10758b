"""One test body over all estimators: where the association is certain, all of them are the Kalman filter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pkf_filter import association_weights
from pkf_filter.filtering.estimators import (
    Estimator,
    Hypotheses,
    gaussian_hypotheses,
    jpdaf,
    nearest,
    pkf,
    pmht,
    resolved,
    resolved_weights,
)

Array = NDArray[np.float64]

H = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0]])
V = np.diag([0.3, 0.5])

estimators = pytest.mark.parametrize("estimator", [jpdaf, nearest, pkf, pmht, resolved], ids=lambda f: f.__name__)


def tracks(rng: np.random.Generator, N: int, apart: float) -> tuple[Array, Array]:
    mean = rng.normal(size=(N, 4))
    mean[:, 0] += apart * np.arange(N)
    root = rng.normal(size=(N, 4, 4))
    return mean, root @ root.swapaxes(1, 2) + 0.1 * np.eye(4)


def kalman(mean: Array, covariance: Array, z: Array) -> tuple[Array, Array]:
    """Information form, an independent way to the same."""
    information = np.linalg.inv(covariance) + H.T @ np.linalg.inv(V) @ H
    P = np.linalg.inv(information)
    return P @ (np.linalg.inv(covariance) @ mean + H.T @ np.linalg.inv(V) @ z), P


def hypotheses(mean: Array, covariance: Array, z: Array, clutter: float = 1e-2) -> Hypotheses:
    return gaussian_hypotheses(mean, covariance, H, V, z, detection_probability=0.9, clutter_density=clutter)


@estimators
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_unambiguous_measurements_are_kalman_updates(estimator: Estimator, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, covariance = tracks(rng, 3, apart=1000.0)
    order = rng.permutation(3)
    z = (mean @ H.T + 0.1 * rng.normal(size=(3, 2)))[order]
    likelihood = np.where(order[:, None] == np.arange(3), 0.0, -np.inf)
    certain = Hypotheses(likelihood, np.full(3, -np.inf), np.full(3, -np.inf))
    x, P = estimator(mean, covariance, H, V, z, certain)
    for k, j in enumerate(order):
        expected_x, expected_P = kalman(mean[j], covariance[j], z[k])
        np.testing.assert_allclose(x[j], expected_x, rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(P[j], expected_P, rtol=1e-7, atol=1e-7)


@estimators
def test_without_measurements_nothing_changes(estimator: Estimator) -> None:
    mean, covariance = tracks(np.random.default_rng(0), 3, apart=1.0)
    none = np.zeros((0, 2))
    x, P = estimator(mean, covariance, H, V, none, hypotheses(mean, covariance, none))
    np.testing.assert_allclose(x, mean, rtol=1e-12)
    np.testing.assert_allclose(P, covariance, rtol=1e-12)


@estimators
def test_measurements_outside_every_gate_change_nothing(estimator: Estimator) -> None:
    mean, covariance = tracks(np.random.default_rng(1), 3, apart=1.0)
    z = np.full((2, 2), 1e3)
    gated = gaussian_hypotheses(
        mean, covariance, H, V, z, detection_probability=0.9, clutter_density=0.1, gate=9.0, gate_probability=0.98
    )
    assert np.isneginf(gated.log_likelihood).all()
    x, P = estimator(mean, covariance, H, V, z, gated)
    np.testing.assert_allclose(x, mean, rtol=1e-12)
    np.testing.assert_allclose(P, covariance, rtol=1e-12)


@estimators
def test_no_tracks(estimator: Estimator) -> None:
    mean, covariance, z = np.zeros((0, 4)), np.zeros((0, 4, 4)), np.zeros((2, 2))
    x, P = estimator(mean, covariance, H, V, z, hypotheses(mean, covariance, z))
    assert x.shape == (0, 4) and P.shape == (0, 4, 4)


@estimators
@given(seed=st.integers(0, 2**32 - 1), M=st.integers(0, 5), N=st.integers(1, 4))
@settings(max_examples=25)
def test_covariances_stay_symmetric_and_positive_definite(estimator: Estimator, seed: int, M: int, N: int) -> None:
    rng = np.random.default_rng(seed)
    mean, covariance = tracks(rng, N, apart=0.5)
    z = 2 * rng.normal(size=(M, 2))
    x, P = estimator(mean, covariance, H, V, z, hypotheses(mean, covariance, z))
    assert np.isfinite(x).all()
    assert np.array_equal(P, P.swapaxes(1, 2))
    np.linalg.cholesky(P)


@estimators
def test_the_order_of_tracks_and_measurements_does_not_matter(estimator: Estimator) -> None:
    rng = np.random.default_rng(2)
    mean, covariance = tracks(rng, 4, apart=1.0)
    z = mean[:, ::2] + rng.normal(size=(4, 2))
    rows, columns = rng.permutation(4), rng.permutation(4)
    x, P = estimator(mean, covariance, H, V, z, hypotheses(mean, covariance, z))
    shuffled = mean[columns], covariance[columns]
    y, Q = estimator(*shuffled, H, V, z[rows], hypotheses(*shuffled, z[rows]))
    np.testing.assert_allclose(y, x[columns], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(Q, P[columns], rtol=1e-9, atol=1e-12)


def test_jpdaf_has_the_moments_of_the_mixture() -> None:
    """One track, two measurements: three hypotheses listed by hand."""
    rng = np.random.default_rng(3)
    mean, covariance = tracks(rng, 1, apart=0.0)
    z = mean @ H.T + rng.normal(size=(2, 2))
    problem = hypotheses(mean, covariance, z)
    odds = np.exp(np.append(problem.log_likelihood[:, 0] - problem.log_clutter, problem.log_missed[0]))
    probabilities = odds / odds.sum()
    corrected = [kalman(mean[0], covariance[0], zk) for zk in z] + [(mean[0], covariance[0])]
    x = sum(p * m for p, (m, _) in zip(probabilities, corrected, strict=True))
    P = sum(p * (C + np.outer(m - x, m - x)) for p, (m, C) in zip(probabilities, corrected, strict=True))
    got_x, got_P = jpdaf(mean, covariance, H, V, z, problem)
    np.testing.assert_allclose(got_x[0], x, rtol=1e-9)
    np.testing.assert_allclose(got_P[0], P, rtol=1e-9)


def test_pmht_lets_a_track_own_several_measurements() -> None:
    """Two measurements of one track without clutter: as a Kalman filter that gets both."""
    mean, covariance = tracks(np.random.default_rng(4), 1, apart=0.0)
    z = mean @ H.T + np.array([[0.1, 0.2], [-0.3, 0.1]])
    x, P = pmht(mean, covariance, H, V, z, hypotheses(mean, covariance, z, clutter=1e-200))
    first = kalman(mean[0], covariance[0], z[0])
    second = kalman(*first, z[1])
    np.testing.assert_allclose(x[0], second[0], rtol=1e-7)
    np.testing.assert_allclose(P[0], second[1], rtol=1e-7, atol=1e-9)


@estimators
def test_frames_in_a_batch_are_independent(estimator: Estimator) -> None:
    rng = np.random.default_rng(5)
    frames = [tracks(rng, 3, apart=1.0) for _ in range(4)]
    mean, covariance = np.stack([m for m, _ in frames]), np.stack([P for _, P in frames])
    z = mean[..., ::2] + rng.normal(size=(4, 3, 2))
    x, P = estimator(mean, covariance, H, V, z, hypotheses(mean, covariance, z))
    for b in range(4):
        y, Q = estimator(mean[b], covariance[b], H, V, z[b], hypotheses(mean[b], covariance[b], z[b]))
        np.testing.assert_allclose(x[b], y, rtol=1e-10)
        np.testing.assert_allclose(P[b], Q, rtol=1e-10)


@given(seed=st.integers(0, 2**32 - 1), M=st.integers(1, 6), N=st.integers(1, 5))
@settings(max_examples=50)
def test_resolved_weights_are_weights_of_one_identity(seed: int, M: int, N: int) -> None:
    rng = np.random.default_rng(seed)
    got = association_weights(3 * rng.normal(size=(M, N)), rng.normal(size=M), rng.normal(size=N))
    one = resolved_weights(got.weights, got.assignment)
    assert (one >= 0).all()
    assert (one.sum(0) <= 1 + 1e-12).all() and (one.sum(1) <= got.weights.sum(1) + 1e-12).all()
    for k, j in enumerate(got.assignment):
        if j >= 0:
            assert np.flatnonzero(one[k]).tolist() in ([j], [])
        else:
            assert np.array_equal(one[k], got.weights[k])


def test_resolved_tracks_do_not_coalesce() -> None:
    """Two tracks and two measurements, as close as their noise: averaging draws the tracks together."""
    mean = np.array([[-0.4, 0, 0, 0], [0.4, 0, 0, 0]])
    covariance = np.tile(np.eye(4), (2, 1, 1))
    z = np.array([[-0.4, 0], [0.4, 0]])
    problem = hypotheses(mean, covariance, z)
    averaged, _ = jpdaf(mean, covariance, H, V, z, problem)
    kept, _ = resolved(mean, covariance, H, V, z, problem)
    assert averaged[1, 0] - averaged[0, 0] < 0.6
    np.testing.assert_allclose(kept[1, 0] - kept[0, 0], 0.8, atol=1e-12)


def test_one_track_alone_is_the_same_resolved_or_not() -> None:
    """Where no other track competes, nothing is resolved but which measurement comes first."""
    mean, covariance = tracks(np.random.default_rng(6), 1, apart=0.0)
    z = mean @ H.T + 0.5
    for got, expected in zip(
        resolved(mean, covariance, H, V, z, hypotheses(mean, covariance, z)),
        jpdaf(mean, covariance, H, V, z, hypotheses(mean, covariance, z)),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
