"""The collapsed update against the paper's expanded Eq. 13-17, and its spread term against a loop."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pkf_filter import pkf_update
from pkf_filter.filtering.update import UpdateError

Array = NDArray[np.float64]


def spd(rng: np.random.Generator, *shape: int) -> Array:
    """Random symmetric positive definite matrices."""
    root = rng.normal(size=(*shape, shape[-1]))
    return root @ root.swapaxes(-1, -2) + 0.1 * np.eye(shape[-1])


def scene(seed: int, N: int, M: int, n: int = 5, m: int = 3) -> tuple[Array, ...]:
    """mean, covariance, H, V, measurements, weights with deficits."""
    rng = np.random.default_rng(seed)
    weights = rng.random((M, N))
    weights /= 1.2 * np.maximum(weights.sum(0, keepdims=True).max(), weights.sum(1, keepdims=True).max())
    measurements = rng.normal(size=(M, m))
    return rng.normal(size=(N, n)), spd(rng, N, n), rng.normal(size=(m, n)), spd(rng, m), measurements, weights


def expanded(mean: Array, covariance: Array, H: Array, V: Array, z: Array, weights: Array) -> tuple[Array, Array]:
    """Eq. 13-17: every measurement for every track, with covariance V / w_kj, in one joint state."""
    (N, n), (M, m) = mean.shape, z.shape
    joint = np.zeros((N * n, N * n))
    for j in range(N):
        joint[j * n : (j + 1) * n, j * n : (j + 1) * n] = covariance[j]
    H_bar = np.kron(np.ones((M, 1)), np.kron(np.eye(N), H))
    z_bar = np.concatenate([np.kron(np.ones(N), z[k]) for k in range(M)])
    V_bar = np.zeros((M * N * m, M * N * m))
    for i, weight in enumerate(weights.ravel()):
        V_bar[i * m : (i + 1) * m, i * m : (i + 1) * m] = V / weight
    K = joint @ H_bar.T @ np.linalg.inv(H_bar @ joint @ H_bar.T + V_bar)
    x = mean.ravel() + K @ (z_bar - H_bar @ mean.ravel())
    P = (np.eye(N * n) - K @ H_bar) @ joint
    return x.reshape(N, n), np.stack([P[j * n : (j + 1) * n, j * n : (j + 1) * n] for j in range(N)])


@pytest.mark.parametrize(("N", "M"), [(1, 1), (1, 4), (3, 1), (3, 4), (5, 5)])
def test_equals_the_expanded_update(N: int, M: int) -> None:
    for seed in range(10):
        inputs = scene(seed, N, M)
        for got, expected in zip(pkf_update(*inputs), expanded(*inputs), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)


def test_spread_of_means_equals_a_loop() -> None:
    mean, covariance, H, V, z, weights = scene(1, 4, 5)
    plain, spread = (pkf_update(mean, covariance, H, V, z, weights, kind) for kind in ("none", "means"))
    np.testing.assert_array_equal(plain[0], spread[0])
    for j, s in enumerate(weights.sum(0)):
        zbar = weights[:, j] @ z / s
        Sp = sum(w / s * np.outer(d, d) for w, d in zip(weights[:, j], z - zbar, strict=True))
        K = covariance[j] @ H.T @ np.linalg.inv(H @ covariance[j] @ H.T + V / s)
        np.testing.assert_allclose(spread[1][j], plain[1][j] + K @ Sp @ K.T, rtol=1e-9)


def test_a_track_without_measurement_stays_as_predicted() -> None:
    mean, covariance, H, V, z, weights = scene(2, 3, 4)
    weights[:, 1] = 0
    for spread in ("none", "means"):
        x, P = pkf_update(mean, covariance, H, V, z, weights, spread)
        np.testing.assert_allclose(x[1], mean[1], rtol=1e-14)
        np.testing.assert_allclose(P[1], covariance[1], rtol=1e-14)


def test_a_certain_measurement_is_the_kalman_update() -> None:
    mean, covariance, H, V, z, _ = scene(3, 1, 1)
    x, P = pkf_update(mean, covariance, H, V, z, np.ones((1, 1)))
    K = covariance[0] @ H.T @ np.linalg.inv(H @ covariance[0] @ H.T + V)
    np.testing.assert_allclose(x[0], mean[0] + K @ (z[0] - H @ mean[0]), rtol=1e-10)
    np.testing.assert_allclose(P[0], (np.eye(5) - K @ H) @ covariance[0], rtol=1e-9, atol=1e-12)


def test_the_deficit_weakens_the_update() -> None:
    mean, covariance, H, V, z, _ = scene(4, 1, 1)
    traces = [np.trace(pkf_update(mean, covariance, H, V, z, np.full((1, 1), w))[1][0]) for w in (0.1, 0.5, 1.0)]
    assert traces == sorted(traces, reverse=True)


def test_noise_may_differ_between_tracks() -> None:
    mean, covariance, H, V, z, weights = scene(5, 2, 3)
    noises = np.stack([V, 9 * V])
    x, P = pkf_update(mean, covariance, H, noises, z, weights)
    for j in range(2):
        alone = pkf_update(mean[j : j + 1], covariance[j : j + 1], H, noises[j], z, weights[:, j : j + 1])
        np.testing.assert_allclose(x[j], alone[0][0], rtol=1e-12)
        np.testing.assert_allclose(P[j], alone[1][0], rtol=1e-12)


@pytest.mark.parametrize(("N", "M"), [(0, 3), (3, 0), (0, 0)])
def test_empty_sides(N: int, M: int) -> None:
    rng = np.random.default_rng(0)
    mean, covariance = rng.normal(size=(N, 5)), spd(rng, N, 5)
    H, V, z = rng.normal(size=(3, 5)), spd(rng, 3), rng.normal(size=(M, 3))
    x, P = pkf_update(mean, covariance, H, V, z, np.zeros((M, N)), "means")
    np.testing.assert_allclose(x, mean)
    np.testing.assert_allclose(P, covariance)


def test_stays_symmetric_and_positive_definite_over_a_million_updates() -> None:
    """200 tracks of 5000 frames, with states of very different size, as areas and aspect ratios are, and weights
    from negligible to certain. Hardly any noise drives them, which is what breaks the short form (I - K H) P."""
    rng = np.random.default_rng(6)
    scales = np.array([10.0, 10.0, 1e5, 0.1])
    mean, covariance = np.zeros((200, 4)), np.tile(np.diag(scales**2), (200, 1, 1))
    H, V = np.eye(2, 4), np.diag([1e-6, 1.0])
    drift = np.diag([1e-6, 1e-6, 1.0, 1e-9])
    weights = np.zeros((8, 200))
    weights[np.arange(200) % 4, np.arange(200)] = np.resize([1e-300, 1e-12, 0.5, 1.0, 0.3], 200)
    weights[4 + np.arange(200) % 4, np.arange(200)] = np.resize([0.0, 0.2, 0.4, 0.0], 200) * (weights.max(0) < 0.6)
    for step in range(5000):
        mean, covariance = pkf_update(mean, covariance + drift, H, V, rng.normal(size=(8, 2)), weights)
        if step % 500 == 0:
            np.linalg.cholesky(covariance)
    assert np.isfinite(mean).all()
    assert np.array_equal(covariance, covariance.swapaxes(1, 2))
    np.linalg.cholesky(covariance)


def test_what_no_update_follows_from_is_refused() -> None:
    mean, covariance, H, V, z, weights = scene(5, 2, 3)
    with pytest.raises(UpdateError, match="none, means, mixture, got 'mean'"):
        pkf_update(mean, covariance, H, V, z, weights, "mean")  # type: ignore[arg-type]
    for wrong in (np.nan, np.inf, -0.1):
        broken = weights.copy()
        broken[1, 0] = wrong
        with pytest.raises(UpdateError, match="finite and not negative"):
            pkf_update(mean, covariance, H, V, z, broken)


def test_a_mixture_takes_no_track_more_than_once() -> None:
    mean, covariance, H, V, z, weights = scene(5, 2, 3)
    weights *= 1.5 / weights.sum(0)
    with pytest.raises(UpdateError, match=r"at most 1 in all for a mixture, got 1\.5"):
        pkf_update(mean, covariance, H, V, z, weights, "mixture")
    _, twice = pkf_update(mean, covariance, H, V, z, weights)
    np.linalg.cholesky(twice)
