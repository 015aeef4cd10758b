"""The most probable joint event, and the dual variables that scale all weights by it.

A joint event pairs measurements (rows) with tracks (columns) one to one; rows left over are clutter, columns left
over are missed. Its log weight is the sum of the log likelihoods of its pairs and of the null weights of the rest.
Scaling each row and column with the dual variables of the best event makes every weight at most 1 and the best
event weigh exactly 1, so that sums over events neither overflow nor underflow, however spread the likelihoods are.

Shortest augmenting paths: R. Jonker and A. Volgenant, Computing 38 (1987).
"""

import numpy as np

from pkf_filter.numerics.compiled import compiled
from pkf_filter.numerics.simd import integers, matrix

# A hypothesis that is impossible (log weight -inf) is an obligation: a row without clutter has to be paired. Where a
# column is obliged too, costs are complex numbers ordered by the real part first: how many obligations an event
# breaks, then its negative log weight. A big constant in place of the count would eat the digits of the likelihoods.
# Elsewhere an infinite cost says it all and costs are plain numbers: the same code, compiled for either type.


@compiled
def _less(a, b):
    return a.real < b.real or (a.real == b.real and a.imag < b.imag)


@compiled
def _obligation_cost(log_weight):
    return complex(1.0, 0.0) if log_weight == -np.inf else complex(0.0, -log_weight)


# Rows of the two work arrays.
U, V, DISTANCE, REACHED = range(4)
ROW_OF, PARENT, DONE, VISITED = range(4)


@compiled
def _best_event(pair, null, no_edge, column_of, costs, indices):
    """Cheapest event of (M, N) pair costs and (M,) clutter costs; a column costs nothing when missed.

    Fills the column of each row (-1 clutter) and the duals u = costs[U] and v = costs[V] with u_k <= null_k, v_j <= 0,
    u_k + v_j <= pair_kj, and equality wherever the event takes that choice. `no_edge` is an infinite cost. Both work
    arrays are (4, at least M and N); indices[ROW_OF] ends as the row of each column (-1 missed).

    Returns:
        False where a row has neither a pair nor a null of finite cost left.
    """
    rows, columns = pair.shape
    for j in range(columns):
        indices[ROW_OF, j], costs[V, j] = -1, 0.0
    for source in range(rows):
        column_of[source], costs[U, source] = -1, 0.0
        for j in range(columns):
            costs[DISTANCE, j], indices[DONE, j] = no_edge, 0
        indices[VISITED, 0], costs[REACHED, 0], count = source, 0.0, 1
        best_null, null_row = no_edge, -1
        sink = -1
        while True:
            row, base = indices[VISITED, count - 1], costs[REACHED, count - 1] - costs[U, indices[VISITED, count - 1]]
            if _less(base + null[row], best_null):
                best_null, null_row = base + null[row], row
            nearest, least = -1, no_edge
            for j in range(columns):
                if indices[DONE, j]:
                    continue
                through = base + pair[row, j] - costs[V, j]
                if _less(through, costs[DISTANCE, j]):
                    costs[DISTANCE, j], indices[PARENT, j] = through, row
                if nearest < 0 or _less(costs[DISTANCE, j], least):
                    nearest, least = j, costs[DISTANCE, j]
            if nearest < 0 or not _less(least, best_null):
                if null_row < 0:
                    return False
                end = best_null
                break
            if indices[ROW_OF, nearest] < 0:
                end, sink = least, nearest
                break
            indices[DONE, nearest] = 1
            indices[VISITED, count], costs[REACHED, count] = indices[ROW_OF, nearest], least
            count += 1
        for i in range(count):
            costs[U, indices[VISITED, i]] += end - costs[REACHED, i]
        for j in range(columns):
            if indices[DONE, j]:
                costs[V, j] -= end - costs[DISTANCE, j]
        # Shift the pairs along the path: the row at its end takes the sink, or gives up its column to be clutter.
        if sink < 0:
            sink = column_of[null_row]
            column_of[null_row] = -1
        while sink >= 0:
            row = indices[PARENT, sink]
            indices[ROW_OF, sink] = row
            sink, column_of[row] = column_of[row], sink
    return True


@compiled
def _exponential(log_weight):
    return min(1.0, np.exp(log_weight))


@compiled
def _scale_plain(pairs, clutter, missed, column_of, scratch):
    """`scale_by_best_event` where no column is obliged (missed finite), or where the rows oblige them all."""
    rows, columns = pairs.shape
    longest = max(rows, columns)
    costs = matrix(scratch, 4, longest)
    indices = matrix(integers(scratch[4 * longest :], 4 * longest), 4, longest)
    for k in range(rows):
        clutter[k] = -clutter[k]
        for j in range(columns):
            pairs[k, j] = missed[j] - pairs[k, j]
    if not _best_event(pairs, clutter, np.inf, column_of, costs, indices):
        return False
    for k in range(rows):
        clutter[k] = _exponential(costs[U, k] - clutter[k])
        for j in range(columns):
            pairs[k, j] = _exponential(costs[U, k] + costs[V, j] - pairs[k, j])
    for j in range(columns):
        missed[j] = _exponential(costs[V, j])
    return True


@compiled
def _scaled(log_weight, dual):
    # A broken obligation more than the best event has: no possible event takes this choice.
    return 0.0 if dual.real < 0.0 else _exponential(log_weight + dual.imag)


@compiled
def _scale_obliged(pairs, clutter, missed, column_of, scratch):
    """`scale_by_best_event` where some column is obliged, so that obligations are counted."""
    rows, columns = pairs.shape
    longest, size = max(rows, columns), rows * columns
    indices = matrix(integers(scratch, 4 * longest), 4, longest)
    numbers = scratch[4 * longest : 12 * longest + 2 * (size + rows)].view(np.complex128)
    costs = matrix(numbers, 4, longest)
    null, cost = numbers[4 * longest : 4 * longest + rows], matrix(numbers[4 * longest + rows :], rows, columns)
    no_edge = complex(np.inf, 0.0)
    for k in range(rows):
        null[k] = _obligation_cost(clutter[k])
        for j in range(columns):
            possible = pairs[k, j] != -np.inf
            cost[k, j] = complex(0.0, -pairs[k, j]) - _obligation_cost(missed[j]) if possible else no_edge
    _best_event(cost, null, no_edge, column_of, costs, indices)
    for k in range(rows):
        if column_of[k] < 0 and clutter[k] == -np.inf:
            return False
    for j in range(columns):
        if indices[ROW_OF, j] < 0 and missed[j] == -np.inf:
            return False
        for k in range(rows):
            possible = pairs[k, j] != -np.inf
            pairs[k, j] = (
                _scaled(pairs[k, j], costs[U, k] + costs[V, j] + _obligation_cost(missed[j])) if possible else 0.0
            )
        missed[j] = _scaled(0.0, costs[V, j]) if missed[j] != -np.inf else 0.0
    for k in range(rows):
        clutter[k] = _scaled(clutter[k], costs[U, k]) if clutter[k] != -np.inf else 0.0
    return True


@compiled
def scale_by_best_event(pairs, clutter, missed, column_of, scratch):
    """Replace log weights by weights, scaled so that the best joint event weighs 1 and no entry more than that.

    Args:
        pairs: (M, N) float64 log likelihoods, -inf where gated out; in place, as the next two.
        clutter: (M,) float64, missed: (N,) float64 log weights; -inf where that hypothesis is impossible.
        column_of: (M,) int64, filled with the best event's column of each row, -1 for clutter.
        scratch: float64, at least 2 (M + 1) (N + 1) + 12 max(M, N).

    Returns:
        Whether any joint event is possible at all; if not, the arrays hold nothing of use.
    """
    obliged_rows, obliged_columns = 0, 0
    for log_weight in clutter:
        obliged_rows += log_weight == -np.inf
    for log_weight in missed:
        obliged_columns += log_weight == -np.inf
    if obliged_rows == len(clutter) == len(missed):  # then no column is ever missed, whatever that would weigh
        for j in range(len(missed)):
            missed[j] = 0.0
        feasible = _scale_plain(pairs, clutter, missed, column_of, scratch)
        for j in range(len(missed)):
            missed[j] = 0.0
        return feasible
    if obliged_columns == 0:
        return _scale_plain(pairs, clutter, missed, column_of, scratch)
    return _scale_obliged(pairs, clutter, missed, column_of, scratch)
