"""Association weights: the probability of every measurement-track pair over all joint association events.

Paper Prop. 1 and Eq. 18-19, with both null hypotheses (clutter, missed detection) and without permanents one by
one: gated components, scaled by their best event, then dynamic programming that yields all marginals at once.

Log weights in, so nothing over- or underflows. A joint event weighs

    prod over pairs exp(log_likelihood[k, j]) * prod over clutter rows exp(log_clutter[k])
                                              * prod over missed columns exp(log_missed[j]).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from camtrack_core.errors import CamtrackError
from camtrack_core.geometry.boxes import Floats, Integers
from pkf_filter.association.components import IMPOSSIBLE, MISSHAPEN, NOT_FINITE, SOLVED, marginal_table
from pkf_filter.association.solvers import BESIDE_STATES

MAX_STATES = 2.0**23  # table entries for one component: 64 MiB, 18 x 18 with both nulls, 20 x 20 in single precision
MOST_STATES = 2.0**30  # 8 GiB
EXACT = 1e-9  # bound of the error up to which weights count as exact
CACHE_LINE = 64  # bytes


class AssociationError(CamtrackError, ValueError):
    """Likelihoods from which no association weights follow."""


@dataclass(slots=True)
class AssociationWeights:
    """Marginal probabilities over all joint association events of M measurements and N tracks.

    All of them lie in one table, and are views of it: a frame of few objects takes microseconds, as long as a handful
    of arrays.

    Attributes:
        table: (M + 1, N + 2) float64, as `components.marginal_table` fills it.
    """

    table: Floats

    @property
    def weights(self) -> Floats:
        """(M, N) float64, probability of each pair. Rows and columns sum to at most 1."""
        return self.table[:-1, :-2]

    @property
    def clutter(self) -> Floats:
        """(M,) float64, probability that a measurement belongs to no track."""
        return self.table[:-1, -2]

    @property
    def missed(self) -> Floats:
        """(N,) float64, probability that a track has no measurement (the deficit 1 - sum of its column)."""
        return self.table[-1, :-2]

    @property
    def assignment(self) -> Integers:
        """(M,) int64, the track of each measurement in the most probable joint event, -1 for clutter."""
        return self.table[:-1, -1].astype(np.int64)

    @property
    def error_bound(self) -> float:
        """Bound on the absolute error of any weight: 0 where exact, 1e-4 where in single precision, 1 where nothing is
        known (belief propagation)."""
        return float(self.table[-1, -2])

    @property
    def exact(self) -> bool:
        """False where the bound of the error is above EXACT: a component was too large for exact inference."""
        return self.error_bound <= EXACT


def association_weights(
    log_likelihood: ArrayLike, log_clutter: ArrayLike, log_missed: ArrayLike, max_states: float = MAX_STATES
) -> AssociationWeights:
    """Marginal association probabilities of M measurements and N tracks.

    Args:
        log_likelihood: (M, N) float, log of the measurement's likelihood given the track (times its detection
            probability); -inf where gated out.
        log_clutter: (M,) float, log clutter density in the likelihood's units; -inf: cannot be clutter.
        log_missed: (N,) float, log probability of no detection; -inf: cannot be missed.
        max_states: at least 1 and at most MOST_STATES, the largest dynamic programming table for one component, in
            double precision; above it the component is pruned by as little as possible, or solved in single precision,
            and, if neither helps, approximated;
            the result says `exact=False` and the bound of its error.

    Raises:
        AssociationError: for shapes that do not fit, NaN or +inf, `max_states` out of range, or when no joint event
            is possible.
    """
    try:
        return _associated(log_likelihood, log_clutter, log_missed, max_states)
    except (TypeError, AttributeError, ValueError) as error:  # no contiguous float64 arrays of these dimensions yet
        if isinstance(error, AssociationError):
            raise
    pairs, clutter, missed = (np.array(x, np.float64, order="C") for x in (log_likelihood, log_clutter, log_missed))
    if pairs.ndim != 2 or clutter.ndim != 1 or missed.ndim != 1:
        raise AssociationError(_shapes(pairs, clutter, missed))
    return _associated(pairs, clutter, missed, float(max_states))


@cache
def _kernel() -> Any:
    """The whole computation as one compiled call, which refuses types that it would have to compile anew."""
    marginal_table.compile("int64(float64[:,::1], float64[::1], float64[::1], float64[:,::1], float64[::1])")
    marginal_table.disable_compile()
    return marginal_table


@lru_cache(maxsize=4)
def _prepared(max_states: float) -> tuple[Any, Floats]:
    """The kernel, and memory for tables, kept: to get it page by page from the system takes longer than to fill it."""
    if not 1 <= max_states <= MOST_STATES:
        raise AssociationError(f"expected max_states from 1 to {MOST_STATES:.0f}, got {max_states}")
    number = int(max_states) + BESIDE_STATES
    memory = np.empty(number + CACHE_LINE // 8)
    first = -memory.ctypes.data % CACHE_LINE // 8
    return _kernel(), memory[first : first + number]


def _associated(pairs: Any, clutter: Any, missed: Any, max_states: float) -> AssociationWeights:
    rows, columns = pairs.shape
    table = np.empty((rows + 1, columns + 2))
    kernel, workspace = _prepared(max_states)
    status = kernel(pairs, clutter, missed, table, workspace)
    if status == SOLVED:
        return AssociationWeights(table)
    raise AssociationError(
        {
            NOT_FINITE: "expected finite or -inf log weights, got NaN or +inf",
            IMPOSSIBLE: "no joint event is possible: more measurements or tracks must be paired than the gated pairs "
            "allow",
            MISSHAPEN: _shapes(pairs, clutter, missed),
        }[status]
    )


def _shapes(pairs: Floats, clutter: Floats, missed: Floats) -> str:
    return (
        "expected log_likelihood (M, N), log_clutter (M,) and log_missed (N,), "
        f"got {pairs.shape}, {clutter.shape} and {missed.shape}"
    )
