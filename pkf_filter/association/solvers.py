"""The programmes for one component of scaled weights, and which of them is taken: the cheapest that fits into memory.

Its cost counts in the operations of the frontier; how much those of the others cost was measured.
"""

import numpy as np

from pkf_filter.association.frontier import frontier_order, frontier_weights, obliged_weights
from pkf_filter.association.two_sided import MOST_ROWS_SINGLE, meeting_cost, meeting_weights, single_error
from pkf_filter.numerics.compiled import compiled, inlined
from pkf_filter.numerics.simd import integers, matrix

OBLIGED_COST = 0.15  # of one operation of `obliged_weights`
MOST_OBLIGED = 30  # slots; its tables are larger than any memory from there on
ORDERING = 64.0  # operations for each state that it may cost to find the order of the frontier
BESIDE_STATES = 2 * MOST_OBLIGED**2  # numbers that tables need beside their states: more than any programme does


@compiled
def scratch_size(rows, columns):
    """Numbers of scratch memory for one component, beside its tables and a copy of it."""
    return 2 * (rows + 1) * (columns + 1) + 12 * max(rows, columns)


@compiled
def _transpose(pairs, flipped):
    for k in range(pairs.shape[0]):
        for j in range(pairs.shape[1]):
            flipped[j, k] = pairs[k, j]


@compiled
def _all_zero(values):
    for value in values:  # noqa: SIM110 - numba has no all() of a generator
        if value != 0.0:
            return False
    return True


@compiled
def set_deficits(weights, clutter, missed):
    """Replace the null weights by what rows and columns lack to 1; where a null is impossible it stays 0."""
    for k in range(len(clutter)):
        total = 0.0
        for j in range(len(missed)):
            total += weights[k, j]
        clutter[k] = max(0.0, 1.0 - total) if clutter[k] > 0.0 else 0.0
    for j in range(len(missed)):
        total = 0.0
        for k in range(len(clutter)):
            total += weights[k, j]
        missed[j] = max(0.0, 1.0 - total) if missed[j] > 0.0 else 0.0


@compiled
def _star(pairs, clutter, missed):
    """Closed form of one row or one column, in place: the events are one pair each, or none."""
    m, n = pairs.shape
    nobody = 1.0
    for k in range(m):
        nobody *= clutter[k]
    for j in range(n):
        nobody *= missed[j]
    total = nobody
    for k in range(m):
        for j in range(n):
            rest = 1.0
            for i in range(m):
                if i != k:
                    rest *= clutter[i]
            for i in range(n):
                if i != j:
                    rest *= missed[i]
            pairs[k, j] *= rest
            total += pairs[k, j]
    for k in range(m):
        for j in range(n):
            pairs[k, j] /= total


@compiled
def _two_by_two(pairs, clutter, missed):
    """Closed form of two rows and two columns, in place: seven events."""
    a, b, c, d = pairs[0, 0], pairs[0, 1], pairs[1, 0], pairs[1, 1]
    straight, crossed = a * d, b * c
    only_a, only_d = a * clutter[1] * missed[1], d * clutter[0] * missed[0]
    only_b, only_c = b * clutter[1] * missed[0], c * clutter[0] * missed[1]
    nobody = clutter[0] * clutter[1] * missed[0] * missed[1]
    total = straight + crossed + only_a + only_b + only_c + only_d + nobody
    pairs[0, 0], pairs[0, 1] = (straight + only_a) / total, (crossed + only_b) / total
    pairs[1, 0], pairs[1, 1] = (crossed + only_c) / total, (straight + only_d) / total


@inlined
def _programme(pairs, clutter, missed, tables, scratch):
    """Replace the weights of all pairs by their marginals, by the cheapest exact programme; False where none fits."""
    rows, columns = pairs.shape
    limit = float(len(tables) - BESIDE_STATES)
    obliged_states, flipped_states = np.inf, np.inf
    if rows <= columns <= MOST_OBLIGED and _all_zero(clutter):
        obliged_states = 2.0 ** (columns + 1)
        if rows == columns and obliged_states <= limit:
            obliged_weights(pairs, missed, tables)
            return True
    if columns <= rows <= MOST_OBLIGED and _all_zero(missed):
        flipped_states = 2.0 ** (rows + 1)
    if float(rows) * columns * max(rows, columns) > ORDERING * limit:
        return False
    obliged_work, flipped_work = OBLIGED_COST * columns * obliged_states, OBLIGED_COST * rows * flipped_states

    orders, scratch = integers(scratch, rows + columns), scratch[rows + columns :]
    by_row, by_column = orders[:rows], orders[rows:]
    flipped, scratch = matrix(scratch, columns, rows), scratch[rows * columns :]
    _transpose(pairs, flipped)
    row_states, row_work = frontier_order(pairs, by_row, scratch)
    column_states, column_work = frontier_order(flipped, by_column, scratch)
    meeting_states, meeting_work = meeting_cost(rows, columns)
    across_states, across_work = meeting_cost(columns, rows)

    least = np.inf
    for states, work in (
        (row_states, row_work),
        (column_states, column_work),
        (2.0 * meeting_states, meeting_work),  # the other half of the memory is for larger ones in single precision
        (2.0 * across_states, across_work),
        (obliged_states, obliged_work),
        (flipped_states, flipped_work),
    ):
        if states <= limit:
            least = min(least, work)
    if least == np.inf:
        return False
    if least == obliged_work:
        obliged_weights(pairs, missed, tables)
    elif least == row_work:
        frontier_weights(pairs, clutter, missed, by_row, tables, scratch)
    elif least == meeting_work:
        meeting_weights(pairs, clutter, missed, tables)
    else:
        if least == flipped_work:
            obliged_weights(flipped, clutter, tables)
        elif least == across_work:
            meeting_weights(flipped, missed, clutter, tables)
        else:
            frontier_weights(flipped, missed, clutter, by_column, tables, scratch)
        _transpose(flipped, pairs)
    return True


@inlined
def solve_in_single_precision(pairs, clutter, missed, tables, scratch):
    """Replace the scaled weights of one component by its marginals in single precision.

    Returns:
        Bound on the error of any of them; infinite, and nothing done, where that does not fit either.
    """
    rows, columns = pairs.shape
    numbers = tables[: len(tables) - BESIDE_STATES].view(np.float32)
    states, work = meeting_cost(rows, columns)
    across_states, across_work = meeting_cost(columns, rows)
    if max(rows, columns) > MOST_ROWS_SINGLE or min(states, across_states) > len(numbers):
        return np.inf
    if states <= len(numbers) and (work <= across_work or across_states > len(numbers)):
        meeting_weights(pairs, clutter, missed, numbers)
        bound = single_error(rows, columns)
    else:
        flipped = matrix(scratch, columns, rows)
        _transpose(pairs, flipped)
        meeting_weights(flipped, missed, clutter, numbers)
        _transpose(flipped, pairs)
        bound = single_error(columns, rows)
    set_deficits(pairs, clutter, missed)
    return bound


@compiled
def solve_exactly(pairs, clutter, missed, tables, scratch):
    """Replace the scaled weights of one component by its marginals; False where no exact method fits.

    Args:
        pairs: (M, N), clutter: (M,), missed: (N,) float64.
        tables: float64, BESIDE_STATES more than the states of dynamic programming that it may have.
        scratch: float64, at least `scratch_size`.
    """
    rows, columns = pairs.shape
    if rows == 1 or columns == 1:
        _star(pairs, clutter, missed)
    elif rows == 2 and columns == 2:
        _two_by_two(pairs, clutter, missed)
    elif not _programme(pairs, clutter, missed, tables, scratch):
        return False
    set_deficits(pairs, clutter, missed)
    return True
