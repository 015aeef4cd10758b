"""From scaled weights to marginal probabilities: component by component, by the cheapest method that fits.

A component whose exact tables are too large is pruned, split again, and what is then still too large goes to belief
propagation. Both make the result inexact, and it says so.
"""

import numpy as np

from pkf_filter.approximate import propagated_weights
from pkf_filter.compiled import compiled
from pkf_filter.exact import frontier_order, frontier_weights, obliged_weights

PRUNED = 1e-6  # pairs below this share of their row's best are dropped where no exact method fits


@compiled
def _components(pairs):
    """Connected components of the pairs above 0.

    Returns:
        rows (M,) and columns (N,), each grouped by component, and the bounds (C + 1,) of both groupings.
    """
    m, n = pairs.shape
    rows, columns = np.empty(m, np.int64), np.empty(n, np.int64)
    row_seen, column_seen = np.zeros(m, np.bool_), np.zeros(n, np.bool_)
    row_bound, column_bound = np.zeros(m + n + 1, np.int64), np.zeros(m + n + 1, np.int64)
    filled_rows, filled_columns, count = 0, 0, 0
    for seed in range(m + n):
        if seed < m and not row_seen[seed]:
            row_seen[seed] = True
            rows[filled_rows] = seed
            filled_rows += 1
        elif seed >= m and not column_seen[seed - m]:  # rows come first, so this column has no pair at all
            column_seen[seed - m] = True
            columns[filled_columns] = seed - m
            filled_columns += 1
        else:
            continue
        row, column = row_bound[count], column_bound[count]
        while row < filled_rows or column < filled_columns:
            if row < filled_rows:
                for j in range(n):
                    if pairs[rows[row], j] > 0.0 and not column_seen[j]:
                        column_seen[j] = True
                        columns[filled_columns] = j
                        filled_columns += 1
                row += 1
            else:
                for k in range(m):
                    if pairs[k, columns[column]] > 0.0 and not row_seen[k]:
                        row_seen[k] = True
                        rows[filled_rows] = k
                        filled_rows += 1
                column += 1
        count += 1
        row_bound[count], column_bound[count] = filled_rows, filled_columns
    return rows, columns, row_bound[: count + 1], column_bound[: count + 1]


@compiled
def _transposed(pairs):
    flipped = np.empty((pairs.shape[1], pairs.shape[0]))
    for k in range(pairs.shape[0]):
        for j in range(pairs.shape[1]):
            flipped[j, k] = pairs[k, j]
    return flipped


@compiled
def _gathered(values, chosen):
    part = np.empty(len(chosen))
    for i in range(len(chosen)):
        part[i] = values[chosen[i]]
    return part


@compiled
def _all_zero(values):
    for value in values:  # noqa: SIM110 - numba has no all() of a generator
        if value != 0.0:
            return False
    return True


@compiled
def _deficits(weights, null):
    """(M,) what the rows of weights (M, N) lack to 1; exactly 0 where the null hypothesis is impossible."""
    deficits = np.zeros(len(null))
    for k in range(len(null)):
        if null[k] > 0.0:
            total = 0.0
            for j in range(weights.shape[1]):
                total += weights[k, j]
            deficits[k] = max(0.0, 1.0 - total)
    return deficits


@compiled
def _exact(pairs, clutter, missed, max_states):
    """Marginals (M, N) and clutter probabilities (M,) of a component, and whether an exact programme fits at all."""
    rows, columns = pairs.shape
    if rows == 1 and columns == 1:
        pair, alone = pairs[0, 0], clutter[0] * missed[0]
        weights, probability = np.empty((1, 1)), np.empty(1)
        weights[0, 0], probability[0] = pair / (pair + alone), alone / (pair + alone)
        return weights, probability, True

    flipped = _transposed(pairs)
    by_row, row_states, row_work = frontier_order(pairs)
    by_column, column_states, column_work = frontier_order(flipped)
    obliged_states, flipped_states = np.inf, np.inf
    if rows <= columns and _all_zero(clutter):
        obliged_states = 2.0 ** (columns + 1)
    if columns <= rows and _all_zero(missed):
        flipped_states = 2.0 ** (rows + 1)
    obliged_work, flipped_work = columns * obliged_states, rows * flipped_states

    least = np.inf
    for states, work in (
        (row_states, row_work),
        (column_states, column_work),
        (obliged_states, obliged_work),
        (flipped_states, flipped_work),
    ):
        if states <= max_states:
            least = min(least, work)
    if least == np.inf:
        return np.zeros((rows, columns)), np.zeros(rows), False
    if least == obliged_work:
        return obliged_weights(pairs, missed), np.zeros(rows), True
    if least == row_work:
        weights, probability = frontier_weights(pairs, clutter, missed, by_row)
        return weights, probability, True
    if least == flipped_work:
        weights = _transposed(obliged_weights(flipped, clutter))
    else:
        weights = _transposed(frontier_weights(flipped, missed, clutter, by_column)[0])
    return weights, _deficits(weights, clutter), True


@compiled
def _prune(pairs, rows):
    """Drop the negligible pairs of some rows, in place. The best event, whose pairs weigh 1, always stays."""
    for k in rows:
        best = 0.0
        for j in range(pairs.shape[1]):
            best = max(best, pairs[k, j])
        for j in range(pairs.shape[1]):
            if pairs[k, j] < PRUNED * best:
                pairs[k, j] = 0.0


@compiled
def marginal_weights(pairs, clutter, missed, max_states):
    """Marginals of scaled weights (see `assignment.scale_by_best_event`).

    Args:
        pairs: (M, N), clutter: (M,), missed: (N,) float64 in [0, 1]; `pairs` is overwritten.
        max_states: float, largest table for one component.

    Returns:
        weights (M, N), clutter probabilities (M,), missed probabilities (N,), exact (bool).
    """
    m, n = pairs.shape
    weights, alone = np.zeros((m, n)), np.zeros(m)
    settled = np.zeros(m, np.bool_)
    exact = True
    for attempt in range(2):
        rows, columns, row_bound, column_bound = _components(pairs)
        for c in range(len(row_bound) - 1):
            r, s = rows[row_bound[c] : row_bound[c + 1]], columns[column_bound[c] : column_bound[c + 1]]
            if len(r) == 0 or settled[r[0]]:
                continue
            if len(s) == 0:
                alone[r[0]], settled[r[0]] = 1.0, True
                continue
            part = np.empty((len(r), len(s)))
            for k in range(len(r)):
                for j in range(len(s)):
                    part[k, j] = pairs[r[k], s[j]]
            part_clutter, part_missed = _gathered(clutter, r), _gathered(missed, s)
            found, probability, fits = _exact(part, part_clutter, part_missed, max_states)
            if not fits:
                exact = False
                if attempt == 0:
                    _prune(pairs, r)
                    continue
                found, probability = propagated_weights(part, part_clutter, part_missed)
            for k in range(len(r)):
                alone[r[k]], settled[r[k]] = probability[k], True
                for j in range(len(s)):
                    weights[r[k], s[j]] = found[k, j]
        if exact:
            break
    return weights, alone, _deficits(_transposed(weights), missed), exact
