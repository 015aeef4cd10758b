"""PKF where the measurement function is not linear or differs from track to track.

Each pair of a measurement and a track has its innovation z_k - h(x_j), which lets angles be compared on the circle;
each track has its own Jacobian H_j and noise V_j. The rest is that of `update`: paper Prop. 2, as one measurement
zbar_j = sum_k w_kj z_k / s_j of covariance V_j / s_j with s_j = sum_k w_kj, written so that s_j = 0 is no special case.

Shapes: M measurements of m numbers, N tracks of n numbers; innovation (M, N, m), H (N, m, n), V (N, m, m) positive
definite, mean (N, n), covariance (N, n, n), weights (M, N), all float64 and contiguous.
"""

from __future__ import annotations

import numpy as np

from camtrack_core.geometry.boxes import Floats
from pkf_filter.filtering.update import MEANS, MIXTURE, NONE
from pkf_filter.numerics.compiled import compiled
from pkf_filter.numerics.small_matrices import (
    add_product,
    cholesky,
    innovation_covariance,
    put_matrix,
    solve_lower,
    solve_upper,
    times_transposed,
)

LOG_TWO_PI = np.log(2 * np.pi)


@compiled
def gaussian(innovation: Floats, H: Floats, V: Floats, covariance: Floats, gate: float) -> tuple[Floats, Floats]:
    """Squared Mahalanobis distance and log density (M, N) of the innovations, with S = H P H' + V.

    Pairs above the distance `gate` get inf and -inf. Most are recognised by one number alone: the squared distance
    is at least that number squared over its variance.
    """
    M, N, m = innovation.shape
    squared = np.full((M, N), np.inf)
    log_density = np.full((M, N), -np.inf)
    white, reach = np.empty(m), np.empty(m)
    for j in range(N):
        root = innovation_covariance(H[j], times_transposed(covariance[j], H[j]), V[j], 1.0)
        for a in range(m):
            reach[a] = gate**2 * root[a, a]
        cholesky(root)
        log_norm = m / 2 * LOG_TWO_PI
        for a in range(m):
            log_norm += np.log(root[a, a])
        for k in range(M):
            near = True
            for a in range(m):
                white[a] = innovation[k, j, a]
                near = white[a] ** 2 <= reach[a]
                if not near:  # the first number is inf where others have found so before
                    break
            if not near:
                continue
            solve_lower(root, white)
            distance = 0.0
            for a in range(m):
                distance += white[a] ** 2
            if distance <= gate**2:
                squared[k, j], log_density[k, j] = distance, -distance / 2 - log_norm
    return squared, log_density


@compiled
def linearised_update(
    mean: Floats, covariance: Floats, innovation: Floats, H: Floats, V: Floats, weights: Floats, spread: int
) -> tuple[Floats, Floats]:
    """Correct N tracks with M measurements of uncertain origin; as `pkf_update`, which see.

    The columns of the weights sum to at most 1. `spread` is the index into `update.SPREADS`.

    Returns:
        mean (N, n) and covariance (N, n, n) after the update, symmetric and positive definite.
    """
    M, N, m = innovation.shape
    n = mean.shape[1]
    new_mean = mean.copy()
    new_covariance = covariance.copy()
    shares, totals = np.zeros(N), np.zeros((N, m))
    for k in range(M):
        for j in range(N):
            if weights[k, j] > 0.0:
                shares[j] += weights[k, j]
                for a in range(m):
                    totals[j, a] += weights[k, j] * innovation[k, j, a]
    for j in range(N):
        s, total = shares[j], totals[j]
        if s == 0.0:
            continue
        noise = s * V[j]
        scale = s  # one measurement of covariance V / s
        if spread == MIXTURE:  # a certain measurement with probability s, none with 1 - s
            scale = 1.0
            for a in range(m):
                for b in range(m):
                    noise[a, b] += (1.0 - s) / s * (total[a] * total[b])
        if spread != NONE:
            _add_scatter(noise, innovation[:, j], weights[:, j], total / s, s if spread == MEANS else 1.0)
        PH = times_transposed(covariance[j], H[j])
        root = innovation_covariance(H[j], PH, V[j], scale)
        cholesky(root)
        G = PH  # its rows become those of P H' (scale H P H' + V)^-1
        for i in range(n):
            solve_lower(root, G[i])
            solve_upper(root, G[i])
            for a in range(m):
                new_mean[j, i] += G[i, a] * total[a]
        A = np.eye(n)
        for a in range(m):
            for b in range(n):
                if H[j, a, b] != 0.0:
                    for i in range(n):
                        A[i, b] -= scale * G[i, a] * H[j, a, b]
        new_covariance[j] = 0.0
        add_product(new_covariance[j], A, covariance[j])
        if spread == MIXTURE:
            put_matrix(new_covariance[j], s * new_covariance[j] + (1.0 - s) * covariance[j])
        add_product(new_covariance[j], G, noise)
    return new_mean, new_covariance


@compiled
def _add_scatter(noise: Floats, innovation: Floats, weights: Floats, middle: Floats, factor: float) -> None:
    """Add factor * sum_k w_k (z_k - zbar)(z_k - zbar)' to noise (m, m)."""
    M, m = innovation.shape
    for k in range(M):
        if weights[k] > 0.0:
            for a in range(m):
                for b in range(m):
                    deviations = (innovation[k, a] - middle[a]) * (innovation[k, b] - middle[b])
                    noise[a, b] += factor * weights[k] * deviations
