"""From log weights to marginal probabilities, in one call: component by component, by the cheapest method that fits.

A component whose exact tables are too large is pruned: pairs are dropped whose share of the total mass is bounded, as
little as lets an exact method fit what is left. The bound is reported. What no bounded pruning brings into reach goes
to belief propagation, whose error is not bounded.

A frame takes memory once, however many components it has; each of them uses the same again. Only pruning and belief
propagation, which are rare and slow, take their own for a component.
"""

import numpy as np

from pkf_filter.association.belief_propagation import propagated_weights
from pkf_filter.association.best_event import scale_by_best_event
from pkf_filter.association.solvers import scratch_size, set_deficits, solve_exactly, solve_in_single_precision
from pkf_filter.numerics.compiled import compiled, inlined
from pkf_filter.numerics.simd import integers, matrix

SOLVED, NOT_FINITE, IMPOSSIBLE, MISSHAPEN = 0, 1, 2, 3
NEGLIGIBLE = (1e-14, 1e-10, 1e-7)  # share of the total mass that may be dropped rather than lose precision
NOTABLE = (1e-5, 1e-3)  # and that may be dropped where single precision does not fit, either
_SHARES = np.array([*NEGLIGIBLE, *NOTABLE])


@compiled
def _root(parent, node):
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@compiled
def _join(pairs, gated, parent):
    """Connect the rows and columns (M + k is column k) of all pairs above `gated`; False if one is NaN or +inf."""
    m, n = pairs.shape
    for node in range(m + n):
        parent[node] = node
    for k in range(m):
        root = k  # and stays one: others come under it
        for j in range(n):
            pair = pairs[k, j]
            if pair > gated:
                if not pair < np.inf:
                    return False
                if parent[m + j] != root:
                    parent[_root(parent, m + j)] = root
            elif pair != gated:
                return False
    return True


@compiled
def _group(parent, m, members, bound):
    """Sort the nodes by component, rows before columns; returns the number of components.

    Args:
        parent: (M + N,) the forest of `_join`, overwritten.
        members: (M + N,), filled: row or column numbers by component.
        bound: (2 (M + N) + 1,), filled: component c has the rows members[bound[2 c] : bound[2 c + 1]] and the columns
            members[bound[2 c + 1] : bound[2 c + 2]].
    """
    nodes = len(parent)
    count = 0
    for i in range(2 * nodes + 1):
        bound[i] = 0
    for node in range(nodes):
        parent[node] = _root(parent, node)
    for node in range(nodes):
        if parent[node] == node:
            members[node] = count  # for the moment: the number of the component of this root
            count += 1
    for node in range(nodes):
        parent[node] = 2 * members[parent[node]] + (node >= m)
    for node in range(nodes):
        bound[parent[node] + 1] += 1
    for i in range(2 * count):
        bound[i + 1] += bound[i]
    for node in range(nodes):
        members[bound[parent[node]]] = node if node < m else node - m
        bound[parent[node]] += 1
    for i in range(2 * count, 0, -1):
        bound[i] = bound[i - 1]
    bound[0] = 0
    return count


@compiled
def _all_true(values):
    for value in values:  # noqa: SIM110 - numba has no all() of a generator
        if not value:
            return False
    return True


@compiled
def _has_zero(pairs):
    for k in range(pairs.shape[0]):
        for j in range(pairs.shape[1]):
            if pairs[k, j] == 0.0:
                return True
    return False


@compiled
def _pruned(pairs, clutter, share):
    """The pairs without the weakest of them, and a bound on the share of the total mass that goes with these.

    An event with the pair (k, j) weighs at most pairs[k, j] times the other rows' choices, and the best event
    weighs 1. So all events with a dropped pair together weigh at most the sum over the dropped pairs of
    pairs[k, j] * prod over the other rows i of (clutter[i] + sum_j pairs[i, j]), relative to a total of at least 1.
    """
    rows, columns = pairs.shape
    log_choices, log_all = np.empty(rows), 0.0
    for k in range(rows):
        log_choices[k] = np.log(clutter[k] + pairs[k].sum())
        log_all += log_choices[k]
    kept, bound, number = pairs.copy(), 0.0, 0.0
    for k in range(rows):
        for j in range(columns):
            number += pairs[k, j] > 0.0
    for k in range(rows):
        for j in range(columns):
            if pairs[k, j] > 0.0:
                mass = pairs[k, j] * np.exp(min(log_all - log_choices[k], 700.0))
                if mass * number <= share:
                    kept[k, j] = 0.0
                    bound += mass
    return kept, bound


@compiled
def _gather(all_pairs, all_clutter, all_missed, r, s, scratch):
    """The pairs, clutter and missed entries of one component, contiguous, and the scratch memory that is left."""
    m, n = len(r), len(s)
    pairs, scratch = matrix(scratch, m, n), scratch[m * n :]
    clutter, missed, scratch = scratch[:m], scratch[m : m + n], scratch[m + n :]
    for k in range(m):
        row = r[k]
        clutter[k] = all_clutter[row]
        for j in range(n):
            pairs[k, j] = all_pairs[row, s[j]]
    for j in range(n):
        missed[j] = all_missed[s[j]]
    return pairs, clutter, missed, scratch


@compiled
def _scatter(table, r, s, pairs, clutter, missed):
    rows, columns = table.shape
    for k in range(len(r)):
        table[r[k], columns - 2] = clutter[k]
        for j in range(len(s)):
            table[r[k], s[j]] = pairs[k, j]
    for j in range(len(s)):
        table[rows - 1, s[j]] = missed[j]


@compiled
def _component_size(rows, columns):
    """Numbers of memory for a component: its weights, and what their solution takes beside its tables."""
    return (rows + 1) * (columns + 1) + scratch_size(rows, columns)


@compiled
def _unpack(table, pairs, clutter, missed):
    """The counterpart of `_scatter` for all rows and columns.

    Loops: where arrays are assigned to slices, numba compiles the words of an error too, which takes seconds.
    """
    m, n = pairs.shape
    for k in range(m):
        clutter[k] = table[k, n]
        for j in range(n):
            pairs[k, j] = table[k, j]
    for j in range(n):
        missed[j] = table[m, j]


@inlined
def _solve_parts(kept, pairs, clutter, missed, workspace):
    """Replace pairs, clutter and missed by the marginals of what is kept of the pairs, which may have fallen into
    several components; False, and nothing done, where one does not fit."""
    m, n = kept.shape
    table = np.zeros((m + 1, n + 2))
    memory = np.empty(_component_size(m, n))
    parent, members = np.empty(m + n, np.int64), np.empty(m + n, np.int64)
    bound = np.empty(2 * (m + n) + 1, np.int64)
    _join(kept, 0.0, parent)
    for c in range(_group(parent, m, members, bound)):
        r, s = members[bound[2 * c] : bound[2 * c + 1]], members[bound[2 * c + 1] : bound[2 * c + 2]]
        part, part_clutter, part_missed, scratch = _gather(kept, clutter, missed, r, s, memory)
        if not solve_exactly(part, part_clutter, part_missed, workspace, scratch):
            return False
        _scatter(table, r, s, part, part_clutter, part_missed)
    _unpack(table, pairs, clutter, missed)
    return True


@inlined
def _solve(pairs, clutter, missed, workspace, scratch):
    """Replace the scaled weights of one component by its marginals.

    Returns:
        Bound on the error of any of them: 0 where exact, 1 (nothing is known) where by belief propagation.
    """
    if solve_exactly(pairs, clutter, missed, workspace, scratch):
        return 0.0
    for number in range(len(_SHARES)):
        if number == len(NEGLIGIBLE):
            bound = solve_in_single_precision(pairs, clutter, missed, workspace, scratch)
            if bound < np.inf:
                return bound
        kept, bound = _pruned(pairs, clutter, _SHARES[number])
        if bound > 0.0 and _solve_parts(kept, pairs, clutter, missed, workspace):
            return bound
    weights = propagated_weights(pairs, clutter, missed)[0]
    for k in range(len(clutter)):
        for j in range(len(missed)):
            pairs[k, j] = weights[k, j]
    set_deficits(pairs, clutter, missed)
    return 1.0


@compiled
def marginal_table(log_likelihood, log_clutter, log_missed, table, workspace):
    """Association weights of all components.

    Args:
        log_likelihood: (M, N), log_clutter: (M,), log_missed: (N,) float64 log weights.
        table: (M + 1, N + 2) float64, filled: [:M, :N] the weights, [:M, N] the clutter probabilities, [M, :N] the
            missed probabilities, [:M, N + 1] the most probable event's column of each row (-1 clutter), [M, N] the
            bound on the error of any of them.
        workspace: float64, for dynamic programming tables: BESIDE_STATES longer than the states of one component.

    Returns:
        SOLVED, or why there are no weights: NOT_FINITE, IMPOSSIBLE or MISSHAPEN.
    """
    m, n = log_likelihood.shape
    if len(log_clutter) != m or len(log_missed) != n:
        return MISSHAPEN
    nodes = m + n
    used = 4 * nodes + 1 + 2 * m
    memory = np.empty(used + _component_size(m, n))
    indices, memory = integers(memory, used), memory[used:]
    parent, members, bound = indices[:nodes], indices[nodes : 2 * nodes], indices[2 * nodes : 4 * nodes + 1]
    column_of, solved = indices[4 * nodes + 1 : 4 * nodes + 1 + m], indices[4 * nodes + 1 + m :]
    if not _join(log_likelihood, -np.inf, parent):
        return NOT_FINITE
    for k in range(m):
        if not log_clutter[k] < np.inf:
            return NOT_FINITE
        solved[k] = 0
        for j in range(n):
            table[k, j] = 0.0
    for j in range(n):
        if not log_missed[j] < np.inf:
            return NOT_FINITE
    table[m, n] = 0.0
    count = _group(parent, m, members, bound)
    for attempt in range(2):
        for c in range(count):
            r, s = members[bound[2 * c] : bound[2 * c + 1]], members[bound[2 * c + 1] : bound[2 * c + 2]]
            if len(r) > 0 and solved[r[0]]:
                continue
            if attempt == 0:
                pairs, clutter, missed, scratch = _gather(log_likelihood, log_clutter, log_missed, r, s, memory)
                if not scale_by_best_event(pairs, clutter, missed, column_of, scratch):
                    return IMPOSSIBLE
                for k in range(len(r)):
                    table[r[k], n + 1] = s[column_of[k]] if column_of[k] >= 0 else -1.0
            else:
                pairs, clutter, missed, scratch = _gather(table[:m, :n], table[:m, n], table[m, :n], r, s, memory)
            if attempt == 1 or not _has_zero(pairs):
                table[m, n] = max(table[m, n], _solve(pairs, clutter, missed, workspace, scratch))
                for k in r:
                    solved[k] = 1
            _scatter(table, r, s, pairs, clutter, missed)
        if _all_true(solved):
            break
        # Pairs so negligible that their weight is 0 are gone: components may have fallen apart.
        _join(table[:m, :n], 0.0, parent)
        count = _group(parent, m, members, bound)
    return SOLVED
