"""Two motions at once: at rest and moving, each with the probability that it holds.

Interacting multiple models (H. Blom and Y. Bar-Shalom, IEEE Trans. Automatic Control 33(8), 1988), in four steps: mix
the modes by how likely each becomes the other, predict each by its own motion, correct each with the measurements, and
weigh the modes by how well they foretold them. A mode is corrected by the collapsed update of PKF (paper Prop. 2), so
its likelihood is that of the collapsed measurement zbar of covariance V / s. What leaves is the mixture's mean and
covariance, with which measurements are gated and associated. Who is fast does not come to rest at once.

Shapes: N tracks, two modes, M measurements of m numbers; probability (N, 2), mean (N, 2, 10) and covariance
(N, 2, 10, 10) of the modes, all float64. The modes change as a continuous Markov chain of one rate, so that two half
steps make a whole one.
"""

from __future__ import annotations

import numpy as np

from camtrack_core.geometry.boxes import Floats
from pkf_filter.filtering.linearised import linearised_update
from pkf_filter.filtering.update import NONE
from pkf_filter.numerics.compiled import compiled
from pkf_filter.numerics.small_matrices import (
    cholesky,
    innovation_covariance,
    put_matrix,
    put_vector,
    solve_lower,
    times_transposed,
)
from pkf_filter.space import models as world
from pkf_filter.space.config import ClassGroup
from pkf_filter.space.sensors import Linearisation, View
from pkf_filter.space.state import WorldState

MODES = 2
REST, MOVING = range(MODES)
MOVING_AT_FIRST = 0.9  # so that the gate of a new track stays that of a moving one
WALKING = 1.0  # m/s; who moves much faster is not at rest a moment later
LEAST = 1e-9  # of the likelihoods of two modes: none is ever given up


def moving_at_first(group: ClassGroup) -> float:
    """Probability that a new track of a class group moves; 1 for a group that always does."""
    return MOVING_AT_FIRST if group.motion == "interacting" else 1.0


def change_rate(group: ClassGroup) -> float:
    """1 / s at which the modes of a class group's tracks change, 0 for a group that always moves."""
    return 1 / group.dwell if group.motion == "interacting" else 0.0


def new_modes(mean: Floats, covariance: Floats, moving: Floats, modes: int) -> tuple[Floats, Floats, Floats]:
    """Probability, mean and covariance of the `modes` (2, or 0) of new tracks (N, 10).

    One measured velocity does not decide whether they move: a track that were at rest by a wrong one would be lost.

    Args:
        moving: (N,) probability that a track of its group moves.
    """
    count, n = mean.shape
    probability = np.stack([1 - moving, moving], 1)
    mode_mean, mode_covariance = np.empty((count, modes, n)), np.empty((count, modes, n, n))
    mode_mean[:], mode_covariance[:] = mean[:, None], covariance[:, None]
    return probability[:, :modes], mode_mean, mode_covariance


def predicted(state: WorldState, dt: float, parameters: Floats, rates: Floats) -> WorldState:
    """Modes mixed, and Eq. 15 for each of them over dt seconds.

    Args:
        parameters: (N, 12), see `world.group_table`.
        rates: (N,) 1 / s, see `change_rate`.
    """
    speed = np.hypot(*state.mode_mean[:, MOVING, world.VX : world.VY + 1].T)
    change = np.empty((len(rates), MODES))
    change[:] = -np.expm1(-2 * rates * dt)[:, None] / 2
    change[:, MOVING] *= np.exp(-((speed / WALKING) ** 2) / 2)
    probability, mean, covariance = mixed(state.mode_probability, state.mode_mean, state.mode_covariance, change)
    for mode, motion in ((REST, world.rest), (MOVING, world.predict)):
        mean[:, mode], covariance[:, mode] = motion(*_one(mean, covariance, mode), dt, parameters)
    return with_modes(state, probability, mean, covariance)


def corrected(state: WorldState, seen: Linearisation, view: View, weights: Floats, spread: int) -> WorldState:
    """Each mode corrected by the same measurements, and its probability by how well it had foretold them.

    Args:
        seen: the measurements as the mixture's mean sees them.
        weights: (M, N), spread: see `linearised_update`.
    """
    log_likelihood = np.empty_like(state.mode_probability)
    mean, covariance = state.mode_mean.copy(), state.mode_covariance.copy()
    for mode in range(MODES):
        m, P = _one(mean, covariance, mode)
        innovation = from_mode(seen.innovation, seen.H, state.mean, m)
        log_likelihood[:, mode] = collapsed_log_likelihood(innovation, seen.H, seen.V, P, weights)
        m, P = linearised_update(m, P, innovation, seen.H, seen.V, weights, spread)
        if (velocities := view.velocities(m, weights)) is not None:
            innovation, H, V, known = velocities
            log_likelihood[:, mode] += collapsed_log_likelihood(innovation, H, V, P, known)
            m, P = linearised_update(m, P, innovation, H, V, known, NONE)
        mean[:, mode], covariance[:, mode] = m, P
    likelihood = np.exp(log_likelihood - log_likelihood.max(1, keepdims=True))
    probability = state.mode_probability * np.maximum(likelihood, LEAST)
    return with_modes(state, probability / probability.sum(1, keepdims=True), mean, covariance)


def with_modes(state: WorldState, probability: Floats, mean: Floats, covariance: Floats) -> WorldState:
    """The state of these modes, with their mixture as mean and covariance."""
    middle, around = combined(probability, mean, covariance)
    return state._replace(
        mean=middle,
        covariance=around,
        mode_probability=probability,
        mode_mean=mean,
        mode_covariance=covariance,
    )


def _one(mean: Floats, covariance: Floats, mode: int) -> tuple[Floats, Floats]:
    return mean[:, mode].copy(), covariance[:, mode].copy()


@compiled
def blend(shares: Floats, mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Mean (10,) and covariance (10, 10) of a mixture of the two modes (2, 10) and (2, 10, 10) by shares (2,)."""
    first = 0 if shares[0] >= shares[1] else 1
    step = mean[1 - first] - mean[first]
    step[world.YAW] = world.wrapped(step[world.YAW])
    share = shares[1 - first]
    middle = mean[first] + share * step
    middle[world.YAW] = world.wrapped(middle[world.YAW])
    spread = shares[first] * share
    blended = np.empty(covariance.shape[1:])
    for a in range(len(step)):
        for b in range(len(step)):
            both = shares[0] * covariance[0, a, b] + shares[1] * covariance[1, a, b]
            blended[a, b] = both + spread * (step[a] * step[b])
    return middle, blended


@compiled
def mixed(probability: Floats, mean: Floats, covariance: Floats, change: Floats) -> tuple[Floats, Floats, Floats]:
    """Modes before the prediction, each a mixture of those that may have become it.

    Args:
        change: (N, 2) probability that each mode becomes the other one.

    Returns:
        probability (N, 2) of the modes after the change, their mean (N, 2, 10) and covariance (N, 2, 10, 10).
    """
    after = np.empty_like(probability)
    new_mean, new_covariance = mean.copy(), covariance.copy()
    shares = np.empty(2)
    for j in range(len(probability)):
        for mode in range(2):
            for before in range(2):
                moves = 1.0 - change[j, before] if before == mode else change[j, before]
                shares[before] = moves * probability[j, before]
            after[j, mode] = shares[0] + shares[1]
            if shares[1 - mode] > 0.0:
                middle, around = blend(shares / after[j, mode], mean[j], covariance[j])
                put_vector(new_mean[j, mode], middle)
                put_matrix(new_covariance[j, mode], around)
    return after, new_mean, new_covariance


@compiled
def combined(probability: Floats, mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Mean (N, 10) and covariance (N, 10, 10) of the mixtures."""
    count, n = len(mean), mean.shape[2]
    middles, spreads = np.empty((count, n)), np.empty((count, n, n))
    for j in range(count):
        middle, around = blend(probability[j], mean[j], covariance[j])
        put_vector(middles[j], middle)
        put_matrix(spreads[j], around)
    return middles, spreads


@compiled
def from_mode(innovation: Floats, H: Floats, middle: Floats, mean: Floats) -> Floats:
    """(M, N, m) innovations of the modes' means (N, 10), from those of the mixture's means (N, 10): z - h - H dx."""
    own = innovation.copy()
    for j in range(len(mean)):
        step = mean[j] - middle[j]
        step[world.YAW] = world.wrapped(step[world.YAW])
        for a in range(H.shape[1]):
            shift = 0.0
            for i in range(len(step)):
                shift += H[j, a, i] * step[i]
            for k in range(len(innovation)):
                own[k, j, a] -= shift
    return own


@compiled
def collapsed_log_likelihood(innovation: Floats, H: Floats, V: Floats, covariance: Floats, weights: Floats) -> Floats:
    """(N,) log N(zbar; h, H P H' + V / s) up to what is common to all modes; 0 where nothing is measured.

    With t = sum_k w_k innovation_k and S = s H P H' + V that is -(t' S^-1 t / s + log det S) / 2.
    """
    M, N, m = innovation.shape
    found = np.zeros(N)
    for j in range(N):
        s, total = 0.0, np.zeros(m)
        for k in range(M):
            if weights[k, j] > 0.0:
                s += weights[k, j]
                for a in range(m):
                    total[a] += weights[k, j] * innovation[k, j, a]
        if s == 0.0:
            continue
        root = innovation_covariance(H[j], times_transposed(covariance[j], H[j]), V[j], s)
        cholesky(root)
        solve_lower(root, total)
        for a in range(m):
            found[j] -= total[a] ** 2 / s / 2 + np.log(root[a, a])
    return found
