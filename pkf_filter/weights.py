"""Association weights: the probability of every measurement-track pair over all joint association events.

Paper Prop. 1 and Eq. 18-19, with both null hypotheses (clutter, missed detection) and without permanents one by
one: gated components, scaled by their best event, then dynamic programming that yields all marginals at once.

Log weights in, so nothing over- or underflows. A joint event weighs

    prod over pairs exp(log_likelihood[k, j]) * prod over clutter rows exp(log_clutter[k])
                                              * prod over missed columns exp(log_missed[j]).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from camtrack_core.boxes import Floats, Integers
from camtrack_core.errors import CamtrackError
from pkf_filter.assignment import scale_by_best_event
from pkf_filter.compiled import compiled
from pkf_filter.marginals import marginal_weights

MAX_STATES = 2.0**23  # table entries for one component: 64 MiB, about 18 x 18 with both nulls


class AssociationError(CamtrackError, ValueError):
    """Likelihoods from which no association weights follow."""


@dataclass(frozen=True)
class AssociationWeights:
    """Marginal probabilities over all joint association events of M measurements and N tracks.

    Attributes:
        weights: (M, N) float64, probability of each pair. Rows and columns sum to at most 1.
        clutter: (M,) float64, probability that a measurement belongs to no track.
        missed: (N,) float64, probability that a track has no measurement (the deficit 1 - sum of its column).
        assignment: (M,) int64, the track of each measurement in the most probable joint event, -1 for clutter.
        exact: False where a component was too large for exact inference and was approximated.
    """

    weights: Floats
    clutter: Floats
    missed: Floats
    assignment: Integers
    exact: bool


def association_weights(
    log_likelihood: ArrayLike, log_clutter: ArrayLike, log_missed: ArrayLike, max_states: float = MAX_STATES
) -> AssociationWeights:
    """Marginal association probabilities of M measurements and N tracks.

    Args:
        log_likelihood: (M, N) float, log of the measurement's likelihood given the track (times its detection
            probability); -inf where gated out.
        log_clutter: (M,) float, log clutter density in the likelihood's units; -inf: cannot be clutter.
        log_missed: (N,) float, log probability of no detection; -inf: cannot be missed.
        max_states: largest dynamic programming table for one component; above it the component is pruned and, if
            still too large, approximated, and the result says `exact=False`.

    Raises:
        AssociationError: for shapes that do not fit, NaN or +inf, or when no joint event is possible.
    """
    pairs = np.ascontiguousarray(log_likelihood, np.float64)
    clutter = np.ascontiguousarray(log_clutter, np.float64)
    missed = np.ascontiguousarray(log_missed, np.float64)
    if pairs.ndim != 2 or clutter.shape != pairs.shape[:1] or missed.shape != pairs.shape[1:]:
        raise AssociationError(
            "expected log_likelihood (M, N), log_clutter (M,) and log_missed (N,), "
            f"got {pairs.shape}, {clutter.shape} and {missed.shape}"
        )
    if not (_all_below_infinity(pairs.ravel()) and _all_below_infinity(clutter) and _all_below_infinity(missed)):
        raise AssociationError("expected finite or -inf log weights, got NaN or +inf")
    scaled_pairs, scaled_clutter, scaled_missed, assignment, feasible = scale_by_best_event(pairs, clutter, missed)
    if not feasible:
        raise AssociationError(
            "no joint event is possible: more measurements or tracks must be paired than the gated pairs allow"
        )
    marginals = marginal_weights(scaled_pairs, scaled_clutter, scaled_missed, float(max_states))
    weights, clutter, missed, exact = marginals
    return AssociationWeights(weights, clutter, missed, assignment, exact)


@compiled
def _all_below_infinity(values):
    for value in values:  # noqa: SIM110 - numba has no all() of a generator
        if not value < np.inf:  # false for NaN as well
            return False
    return True
