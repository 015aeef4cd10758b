"""Ways to correct tracks with measurements of uncertain origin, classical ones and ours, under one contract.

    estimator(mean, covariance, H, V, measurements, problem) -> mean, covariance

with mean (..., N, n), covariance (..., N, n, n), H (m, n), V (m, m), measurements (..., M, m) and the `Hypotheses` of
the frame; leading dimensions are independent frames, so that many simulations run at once. All are float64. States
come in predicted and go out corrected; no input is changed. The estimators share what an association is and differ in
what they make of it, so that experiments compare just that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from camtrack_core.geometry.boxes import Floats, Integers
from pkf_filter.association.weights import AssociationWeights, association_weights
from pkf_filter.filtering.update import pkf_update


@dataclass(frozen=True)
class Hypotheses:
    """Log weights of one frame, as `association_weights` takes them.

    Attributes:
        log_likelihood: (..., M, N), of each measurement given each track times its detection probability; -inf where
            gated out.
        log_clutter: (..., M), log density of clutter.
        log_missed: (..., N), log probability of no detection.
    """

    log_likelihood: Floats
    log_clutter: Floats
    log_missed: Floats


Estimator = Callable[[Floats, Floats, Floats, Floats, Floats, Hypotheses], tuple[Floats, Floats]]


def gaussian_hypotheses(
    mean: Floats,
    covariance: Floats,
    H: Floats,
    V: Floats,
    measurements: Floats,
    *,
    detection_probability: float,
    clutter_density: float,
    gate: float = np.inf,
    gate_probability: float = 1.0,
) -> Hypotheses:
    """The hypotheses of linear Gaussian tracks.

    Args:
        mean, covariance, H, V, measurements: as above.
        detection_probability: of a track, in (0, 1).
        clutter_density: of false measurements, per unit of measurement space.
        gate: largest squared Mahalanobis distance of a pair.
        gate_probability: that a track's own measurement lies within the gate.
    """
    innovation = measurements[..., :, None, :] - (mean @ H.T)[..., None, :, :]
    S = H @ covariance @ H.T + V
    whitened = (np.linalg.inv(np.linalg.cholesky(S))[..., None, :, :, :] @ innovation[..., None])[..., 0]
    distance = (whitened**2).sum(-1)
    log_density = -0.5 * (distance + np.linalg.slogdet(2 * np.pi * S)[1][..., None, :])
    return Hypotheses(
        np.where(distance <= gate, np.log(detection_probability) + log_density, -np.inf),
        np.full(measurements.shape[:-1], np.log(clutter_density)),
        np.full(mean.shape[:-1], np.log1p(-detection_probability * gate_probability)),
    )


def pkf(
    mean: Floats, covariance: Floats, H: Floats, V: Floats, measurements: Floats, hypotheses: Hypotheses
) -> tuple[Floats, Floats]:
    """The probabilistic data association Kalman filter: paper Prop. 1 and 2."""
    weights, _ = _association(hypotheses)
    return pkf_update(mean, covariance, H, V, measurements, weights)


def jpdaf(
    mean: Floats, covariance: Floats, H: Floats, V: Floats, measurements: Floats, hypotheses: Hypotheses
) -> tuple[Floats, Floats]:
    """Joint probabilistic data association: moments of the mixture of one Kalman update for each measurement.

    Source: Y. Bar-Shalom, F. Daum and J. Huang, IEEE Control Systems Magazine 29(6), 2009.
    """
    weights, _ = _association(hypotheses)
    return pkf_update(mean, covariance, H, V, measurements, weights, "mixture")


def resolved(
    mean: Floats, covariance: Floats, H: Floats, V: Floats, measurements: Floats, hypotheses: Hypotheses
) -> tuple[Floats, Floats]:
    """Joint probabilistic data association with `resolved_weights`: clutter stays uncertain, identities do not."""
    weights = resolved_weights(*_association(hypotheses))
    return pkf_update(mean, covariance, H, V, measurements, weights, "mixture")


def nearest(
    mean: Floats, covariance: Floats, H: Floats, V: Floats, measurements: Floats, hypotheses: Hypotheses
) -> tuple[Floats, Floats]:
    """Global nearest neighbour: the Kalman update with the most probable joint event, taken as certain."""
    _, assignment = _association(hypotheses)
    certain = (assignment[..., None] == np.arange(mean.shape[-2])).astype(float)
    return pkf_update(mean, covariance, H, V, measurements, certain)


def pmht(
    mean: Floats, covariance: Floats, H: Floats, V: Floats, measurements: Floats, hypotheses: Hypotheses
) -> tuple[Floats, Floats]:
    """Probabilistic multi-hypothesis tracking with a window of one frame and one iteration.

    Measurements choose their tracks independently of each other, so a track may own several or none: its collapsed
    measurement has the covariance V / (sum of its weights), and the sum may exceed 1.

    Source: R. Streit and T. Luginbuhl, NUWC-NPT Technical Report 10428, 1995.
    """
    choices = np.concatenate([hypotheses.log_likelihood, hypotheses.log_clutter[..., None]], -1)
    best = choices.max(-1, initial=-np.inf, keepdims=True)
    shares = np.exp(choices - np.where(np.isfinite(best), best, 0.0))
    totals = shares.sum(-1, keepdims=True)
    weights = (shares / np.where(totals > 0, totals, 1.0))[..., :-1]
    return pkf_update(mean, covariance, H, V, measurements, weights)


def resolved_weights(weights: Floats, assignment: Integers) -> Floats:
    """Association weights whose identities are those of the most probable event.

    A measurement that several tracks compete for goes to the one which has it in the most probable joint event, with
    the probability that it is of any track at all: whether it is clutter stays open, whose it is does not. Averaging
    over identities draws neighbouring tracks together until they coalesce; averaging over clutter does not. The idea
    of pruning permutations is that of JPDA* (H. Blom and E. Bloem, IEEE Trans. Automatic Control 45(2), 2000).

    Args:
        weights: (..., M, N) float64 association weights.
        assignment: (..., M) int64, the most probable event's track of each measurement, -1 for clutter.

    Returns:
        (..., M, N) float64; rows and columns sum to at most 1.
    """
    chosen = assignment[..., None] == np.arange(weights.shape[-1])
    others = np.where(chosen.any(-1, keepdims=True), 0.0, weights)  # of measurements that are clutter in that event
    room = 1.0 - others.sum(-2, keepdims=True)
    return np.where(chosen, np.clip(weights.sum(-1, keepdims=True), 0.0, room), others)


def with_resolved_identities(association: AssociationWeights) -> AssociationWeights:
    """The association with `resolved_weights`, and the probabilities of missed tracks that are left by them.

    Clutter, assignment and the bound of the error are the same.
    """
    weights = resolved_weights(association.weights, association.assignment)
    table = association.table.copy()
    table[:-1, :-2] = weights
    table[-1, :-2] = np.maximum(1.0 - weights.sum(0), 0.0)
    return AssociationWeights(table)


def _association(hypotheses: Hypotheses) -> tuple[Floats, Integers]:
    """Weights (..., M, N) and most probable assignment (..., M)."""
    weights = np.zeros(hypotheses.log_likelihood.shape)
    assignment = np.full(hypotheses.log_clutter.shape, -1)
    for frame in np.ndindex(weights.shape[:-2]):
        association = association_weights(
            hypotheses.log_likelihood[frame], hypotheses.log_clutter[frame], hypotheses.log_missed[frame]
        )
        weights[frame], assignment[frame] = association.weights, association.assignment
    return weights, assignment
