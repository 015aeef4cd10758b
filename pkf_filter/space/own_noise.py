"""Detections that state their own covariance: each pair has a noise V_kj of its own, compiled.

The covariance that a detection states of its place and yaw (4, 4) stands for that part of the noise V_j of its track;
NaN stands for none stated. Eq. 13-17 with measurements of V_kj / w_kj equal one measurement of the noise A^-1 with
A = sum_k w_kj V_kj^-1, which leads to the form that `linearised` has for equal noises: V'_j = s_j A^-1 with innovations
V'_j V_kj^-1 (z_k - h(x_j)), where s_j = sum_k w_kj.

Shapes: M measurements of 7 numbers, N tracks of 10; innovation (M, N, 7), V (N, 7, 7), covariance (N, 10, 10), own
(M, 4, 4), weights (M, N).
"""

from __future__ import annotations

import numpy as np

from camtrack_core.geometry.boxes import Floats
from pkf_filter.filtering.linearised import LOG_TWO_PI
from pkf_filter.numerics.compiled import compiled
from pkf_filter.numerics.small_matrices import cholesky, put_matrix, solve_lower, solve_upper

STATED = 4  # x, y, z, yaw


@compiled
def stated(own: Floats) -> bool:
    """Whether a detection states its covariance (4, 4)."""
    return not np.isnan(own[0, 0])


@compiled
def pair_noise(V: Floats, own: Floats) -> Floats:
    """(7, 7) noise of one pair, of the track's V (7, 7) and what the detection states (4, 4)."""
    noise = V.copy()
    if stated(own):
        noise[:STATED, :] = 0.0
        noise[:, :STATED] = 0.0
        put_matrix(noise, own)
    return noise


@compiled
def of_pairs(V: Floats, own: Floats) -> Floats:
    """(M, 7, 7) noise of each pair, of V (M, 7, 7) and own (M, 4, 4)."""
    noise = np.empty(V.shape)
    for k in range(len(V)):
        put_matrix(noise[k], pair_noise(V[k], own[k]))
    return noise


@compiled
def widest(V: Floats, own: Floats) -> Floats:
    """(N, 7, 7) V with the largest variances of all pairs, for gates that come before the exact one."""
    noise = V.copy()
    for j in range(len(V)):
        for k in range(len(own)):
            if stated(own[k]):
                for a in range(STATED):
                    noise[j, a, a] = max(noise[j, a, a], own[k, a, a])
    return noise


@compiled
def log_densities(innovation: Floats, V: Floats, covariance: Floats, own: Floats, gate: float) -> Floats:
    """(M, N) log density of the innovations with S = P + V_kj, of which P is what a measurement shows; -inf beyond the
    Mahalanobis distance `gate`."""
    M, N, m = innovation.shape
    found = np.full((M, N), -np.inf)
    white = np.empty(m)
    for j in range(N):
        for k in range(M):
            root = pair_noise(V[j], own[k])
            near = True
            for a in range(m):
                white[a] = innovation[k, j, a]
                near = near and white[a] ** 2 <= gate**2 * (root[a, a] + covariance[j, a, a])
            if not near:
                continue
            root += covariance[j, :m, :m]
            cholesky(root)
            solve_lower(root, white)
            distance, log_norm = 0.0, m / 2 * LOG_TWO_PI
            for a in range(m):
                distance += white[a] ** 2
                log_norm += np.log(root[a, a])
            if distance <= gate**2:
                found[k, j] = -distance / 2 - log_norm
    return found


@compiled
def merged(innovation: Floats, V: Floats, own: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Innovations (M, N, 7) and noise (N, 7, 7) that correct as those of each pair's own noise do."""
    M, N, m = innovation.shape
    equal, noise = innovation.copy(), V.copy()
    for j in range(N):
        share, any_stated = 0.0, False
        for k in range(M):
            share += weights[k, j]
            any_stated = any_stated or (weights[k, j] > 0.0 and stated(own[k]))
        if not any_stated:
            continue
        information = np.zeros((m, m))
        for k in range(M):
            if weights[k, j] > 0.0:
                inverse = _inverse(pair_noise(V[j], own[k]))
                information += weights[k, j] * inverse
                for a in range(m):
                    equal[k, j, a] = 0.0
                    for b in range(m):
                        equal[k, j, a] += inverse[a, b] * innovation[k, j, b]
        put_matrix(noise[j], share * _inverse(information))
        for k in range(M):
            if weights[k, j] > 0.0:
                white = equal[k, j].copy()
                for a in range(m):
                    equal[k, j, a] = 0.0
                    for b in range(m):
                        equal[k, j, a] += noise[j, a, b] * white[b]
    return equal, noise


@compiled
def _inverse(S: Floats) -> Floats:
    """Of a positive definite matrix (m, m); exactly symmetric."""
    m = len(S)
    root, inverse = S.copy(), np.zeros((m, m))
    cholesky(root)
    for a in range(m):
        inverse[a, a] = 1.0
        solve_lower(root, inverse[a])
        solve_upper(root, inverse[a])
    return (inverse + inverse.T) / 2
