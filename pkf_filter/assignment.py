"""The most probable joint event, and the dual variables that scale all weights by it.

A joint event pairs measurements (rows) with tracks (columns) one to one; rows left over are clutter, columns left
over are missed. Its log weight is the sum of the log likelihoods of its pairs and of the null weights of the rest.
Scaling each row and column with the dual variables of the best event makes every weight at most 1 and the best
event weigh exactly 1, so that sums over events neither overflow nor underflow, however spread the likelihoods are.

Shortest augmenting paths: R. Jonker and A. Volgenant, Computing 38 (1987).
"""

import numpy as np

from pkf_filter.compiled import compiled

# A hypothesis that is impossible (log weight -inf) becomes an obligation: a row without clutter has to be paired.
# Costs are complex numbers ordered by the real part first: how many obligations an event breaks, then its negative
# log weight. A big constant in place of the count would eat the digits of the likelihoods.
BROKEN = 1.0 + 0.0j
NO_EDGE = complex(np.inf, 0.0)


@compiled
def _less(a: complex, b: complex) -> bool:
    return a.real < b.real or (a.real == b.real and a.imag < b.imag)


@compiled
def _cost(log_weight: float) -> complex:
    return BROKEN if log_weight == -np.inf else complex(0.0, -log_weight)


@compiled
def _pair_costs(log_likelihood, log_missed):
    """(M, N) costs of pairing, relative to the column being missed; NO_EDGE where gated out."""
    rows, columns = log_likelihood.shape
    costs = np.empty((rows, columns), np.complex128)
    for k in range(rows):
        for j in range(columns):
            costs[k, j] = NO_EDGE
            if log_likelihood[k, j] != -np.inf:
                costs[k, j] = complex(0.0, -log_likelihood[k, j]) - _cost(log_missed[j])
    return costs


@compiled
def _best_event(pair, null):
    """Cheapest event of (M, N) pair costs and (M,) clutter costs; a column costs nothing when missed.

    Returns the column of each row (-1 clutter) and the duals u (M,), v (N,) with u_k <= null_k, v_j <= 0,
    u_k + v_j <= pair_kj, and equality wherever the event takes that choice.
    """
    rows, columns = pair.shape
    column_of = np.zeros(rows, np.int64) - 1
    row_of = np.zeros(columns, np.int64) - 1
    u = np.zeros(rows, np.complex128)
    v = np.zeros(columns, np.complex128)
    distance = np.empty(columns, np.complex128)
    parent = np.empty(columns, np.int64)
    done = np.empty(columns, np.bool_)
    visited = np.empty(rows, np.int64)
    reached = np.empty(rows, np.complex128)
    for source in range(rows):
        for j in range(columns):
            distance[j], done[j] = NO_EDGE, False
        visited[0], reached[0], count = source, 0.0j, 1
        best_null, null_row = NO_EDGE, -1
        sink = -1
        while True:
            row, base = visited[count - 1], reached[count - 1]
            if _less(base + null[row] - u[row], best_null):
                best_null, null_row = base + null[row] - u[row], row
            nearest = -1
            for j in range(columns):
                if done[j]:
                    continue
                through = base + pair[row, j] - u[row] - v[j]
                if _less(through, distance[j]):
                    distance[j], parent[j] = through, row
                if nearest < 0 or _less(distance[j], distance[nearest]):
                    nearest = j
            if nearest < 0 or not _less(distance[nearest], best_null):
                end = best_null
                break
            if row_of[nearest] < 0:
                end, sink = distance[nearest], nearest
                break
            done[nearest] = True
            visited[count], reached[count] = row_of[nearest], distance[nearest]
            count += 1
        for i in range(count):
            u[visited[i]] += end - reached[i]
        for j in range(columns):
            if done[j]:
                v[j] -= end - distance[j]
        # Shift the pairs along the path: the row at its end takes the sink, or gives up its column to be clutter.
        if sink < 0:
            sink = column_of[null_row]
            column_of[null_row] = -1
        while sink >= 0:
            row = parent[sink]
            row_of[sink] = row
            sink, column_of[row] = column_of[row], sink
    return column_of, u, v


@compiled
def _scaled(log_weight: float, dual: complex) -> float:
    # A broken obligation more than the best event has: no possible event takes this choice.
    return 0.0 if dual.real < 0.0 else min(1.0, np.exp(log_weight + dual.imag))


@compiled
def scale_by_best_event(log_likelihood, log_clutter, log_missed):
    """Weights scaled so that the best joint event weighs 1 and no entry more than that.

    Args:
        log_likelihood: (M, N) float64, -inf where gated out.
        log_clutter: (M,) float64, log_missed: (N,) float64; -inf where that hypothesis is impossible.

    Returns:
        pairs (M, N), clutter (M,), missed (N,) in [0, 1], the best event's column of each row (M,) int64 with -1
        for clutter, and whether any joint event is possible at all.
    """
    rows, columns = log_likelihood.shape
    null = np.empty(rows, np.complex128)
    for k in range(rows):
        null[k] = _cost(log_clutter[k])
    column_of, u, v = _best_event(_pair_costs(log_likelihood, log_missed), null)

    pairs = np.zeros((rows, columns))
    clutter = np.zeros(rows)
    missed = np.zeros(columns)
    taken = np.zeros(columns, np.bool_)
    feasible = True
    for k in range(rows):
        if column_of[k] >= 0:
            taken[column_of[k]] = True
        elif log_clutter[k] == -np.inf:
            feasible = False
        if log_clutter[k] != -np.inf:
            clutter[k] = _scaled(log_clutter[k], u[k])
    for j in range(columns):
        if not taken[j] and log_missed[j] == -np.inf:
            feasible = False
        if log_missed[j] != -np.inf:
            missed[j] = _scaled(0.0, v[j])
        for k in range(rows):
            if log_likelihood[k, j] != -np.inf:
                dual = u[k] + v[j] + _cost(log_missed[j])
                pairs[k, j] = _scaled(log_likelihood[k, j], dual)
    return pairs, clutter, missed, column_of, feasible
