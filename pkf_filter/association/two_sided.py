"""Exact association weights of one dense component, by dynamic programming from both ends of its rows.

With pair weights L, row nulls c and column nulls d, the weight of all events in which the rows 1 .. i use exactly the
columns S is

    A_0[S] = [S empty],    A_i[S] = c_i A_{i-1}[S] + sum over j in S of L_ij A_{i-1}[S - j],    |S| <= i.

Over all rows of a square problem S passes through every subset, the most of them in the middle. So the rows are split
in two halves, each of which starts from no columns used (A and B), and the halves meet over disjoint sets:

    Z = sum_S A[S] G[S],    G[S] = sum over T disjoint from S of B[T] prod over j in neither of d_j,

where G follows from B one column at a time: (G without j, G with j) = (d_j B without j + B with j, B without j).
The marginals are derivatives of log Z. The derivative with respect to A goes backward through each half, seeded by G,

    D_{i-1}[S] = c_i D_i[S] + sum over j not in S of L_ij D_i[S + j],    w_ij = L_ij sum_S A_{i-1}[S] D_i[S + j] / Z.

For twenty rows and columns that is 24 million products instead of 210. Every sum has non-negative terms only, so that
the error is a number of roundings: in single precision it is bounded by `single_error`, in double precision exact as
the other programmes are. Inputs are scaled by the best event (see `best_event`): no entry above 1, the best event 1.

A set is a number: its six lowest columns are the lanes of a block (see `numerics.simd`), the others tell the block.
Forward tables hold the blocks with at most i of the others, fewest first, so that those of each step are the first of
one list.

Nothing is allocated: marginals replace the weights, and all else lies in the workspace.
"""

import numpy as np

from pkf_filter.numerics.compiled import compiled
from pkf_filter.numerics.simd import (
    ADDED,
    ELEMENTS,
    GIVEN,
    LANES,
    SUMS,
    SWAPPED,
    WITHOUT,
    add_products,
    add_scaled,
    count_ones,
    load,
    load_sums,
    lowest_element,
    matrix,
    scaled,
    store,
    total_of,
    zeros,
)

MOST_COLUMNS = 22
MOST_ROWS = 64  # in double precision; sums of at most 23^64 events of weight 1
MOST_ROWS_SINGLE = 22  # 23^22 is the largest such number that single precision holds
BLOCK_COST = 12.0  # of the frontier's operations, for each block that is added to another
_TILE = 8  # columns over whose blocks G is formed while they are in the cache
_ORDERED = 6  # columns within whose blocks those of equally many columns follow each other
_RUN = 4  # neighbouring blocks that are taken together across tiles
_SUMMED = 32  # blocks over which derivatives are summed in the table's precision
_added_0, _added_1, _added_2, _added_3, _added_4, _added_5 = ADDED
_given_0, _given_1, _given_2, _given_3, _given_4, _given_5 = GIVEN
_swapped_0, _swapped_1, _swapped_2, _swapped_3, _swapped_4, _swapped_5 = SWAPPED
_without_0, _without_1, _without_2, _without_3, _without_4, _without_5 = WITHOUT


@compiled
def meeting_cost(rows, columns):
    """Table entries (float) and work, in operations of `frontier.frontier_order`; infinite where it does not apply."""
    if columns < ELEMENTS + 1 or columns > MOST_COLUMNS or rows < 2 or rows > MOST_ROWS:
        return np.inf, np.inf
    others, longer = columns - ELEMENTS, rows - rows // 2
    layout = (longer + 1) * (2.0 * 2.0**others + 1.0)
    entries = 2.0 * 2.0**columns + others * SUMS + layout + rows * (columns + 1) + columns
    work = others * 2.0**others
    for half in (longer, rows // 2):
        blocks, choose = 0.0, 1.0
        for i in range(half):
            if i <= others:
                blocks += choose
                choose *= (others - i) / (i + 1.0)
            entries += blocks * LANES
            work += blocks * (others / 2.0 + ELEMENTS)
    return entries, work * BLOCK_COST


@compiled
def single_error(rows, columns):
    """Bound on the error of any weight in single precision.

    A weight is a ratio of two sums of products, along each of which at most `roundings` numbers were rounded: one for
    each term of each row's sum and for each weight, two for each column where the halves meet, and those of the last
    sums. Underflow adds at most 2^-150 for each of 1e8 operations times 23^22 events, in units of the best one.
    """
    roundings = rows * (columns + 2) + 2 * columns + LANES // SUMS * _SUMMED + 2
    relative = roundings * 2.0**-24 / (1.0 - roundings * 2.0**-24)
    return 2.0 * relative / (1.0 - relative) + 1e-7


@compiled
def _layout(blocks, place, count):
    """Which blocks hold anything after i rows, i = 0 .. steps: those of at most i of the other columns.

    Neighbours in memory are neighbours as numbers, which share most of the sets that they add up or are added to; in
    short runs, those of equally many columns follow each other, so that the loops over columns are predicted well.
    Subsets always come first.

    Args:
        blocks: (steps + 1, 2^others) int32, filled, as the next two; count: (steps + 1,) int32, how many are there.
        place: (steps + 1, 2^others) int32, where a block is among them.
    """
    rows, number = blocks.shape
    count[:] = 0
    short = min(1 << _ORDERED, number)
    for base in range(0, number, short):
        fewest = count_ones(base)
        for ones in range(fewest, fewest + count_ones(short - 1) + 1):
            for block in range(base, base + short):
                if count_ones(block) == ones:
                    for i in range(ones, rows):
                        blocks[i, count[i]] = block
                        place[i, block] = count[i]
                        count[i] += 1


@compiled
def _step(before, after, weights, blocks, place, least, packed):
    """A_i from A_{i-1}, for the given blocks of A_i.

    Args:
        before, after: tables. weights: (N + 1,) of row i. place: (2^others,) of the blocks before.
        least: i; blocks of that many columns were not there before.
        packed: whether the blocks of A_i lie as in the list, or each at its own number.
    """
    null = weights[len(weights) - 1]
    w0, w1, w2, w3, w4, w5 = weights[0], weights[1], weights[2], weights[3], weights[4], weights[5]
    for k in range(len(blocks)):
        block = np.int64(blocks[k])
        total = zeros(before)
        if count_ones(block) < least:
            own = load(before, np.int64(place[block]) * LANES)
            total = scaled(null, own)
            total = add_scaled(total, w0, _added_0(own))
            total = add_scaled(total, w1, _added_1(own))
            total = add_scaled(total, w2, _added_2(own))
            total = add_scaled(total, w3, _added_3(own))
            total = add_scaled(total, w4, _added_4(own))
            total = add_scaled(total, w5, _added_5(own))
        left = block
        while left:
            column = left & -left
            left ^= column
            weight = weights[ELEMENTS + lowest_element(column)]
            total = add_scaled(total, weight, load(before, np.int64(place[np.uint64(block ^ column)]) * LANES))
        store(after, (k if packed else block) * LANES, total)


@compiled
def _forward(weights, tables, last, blocks, place, count):
    """All A_i of one half, one after the other in `tables`, except the last, which goes to `last` block by number.

    Returns:
        Where the tables end.
    """
    rows = len(weights)
    store(tables, 0, zeros(tables))
    tables[0] = 1.0
    start = 0
    for i in range(1, rows):
        end = start + np.int64(count[i - 1]) * LANES
        _step(tables[start:], tables[end:], weights[i - 1], blocks[i, : count[i]], place[i - 1], i, True)
        start = end
    for block in range(len(blocks[0])):
        store(last, block * LANES, zeros(last))
    _step(tables[start:], last, weights[rows - 1], blocks[rows, : count[rows]], place[rows - 1], rows, False)
    return start + np.int64(count[rows - 1]) * LANES


@compiled
def _meet_one(table, at, apart, missed):
    """One column of G, for the blocks without (at) and with it (at + apart)."""
    without = load(table, at)
    store(table, at, add_scaled(load(table, at + apart), missed, without))
    store(table, at + apart, without)


@compiled
def _meet_two(table, at, apart, missed, next_missed):
    """Two neighbouring columns of G in one pass over four blocks."""
    a, b = load(table, at), load(table, at + apart)
    c, d = load(table, at + 2 * apart), load(table, at + 3 * apart)
    first, third = add_scaled(b, missed, a), add_scaled(d, missed, c)
    store(table, at, add_scaled(third, next_missed, first))
    store(table, at + apart, add_scaled(c, next_missed, a))
    store(table, at + 2 * apart, first)
    store(table, at + 3 * apart, a)


@compiled
def _meet_columns(table, missed, columns, start, stop, every, run):
    """The columns of G from columns[0] to before columns[1], for `run` blocks at each of start, start + every, .."""
    column = columns[0]
    while column < columns[1]:
        taken, step = min(2, columns[1] - column), 1 << column
        here, following = missed[ELEMENTS + column], missed[ELEMENTS + column + taken - 1]
        for high in range(start, stop, step << taken):
            for first in range(high, high + step, every):
                for block in range(first, first + run):
                    if taken == 2:
                        _meet_two(table, block * LANES, step * LANES, here, following)
                    else:
                        _meet_one(table, block * LANES, step * LANES, here)
        column += taken


@compiled
def _meet(table, missed, others):
    """G of a table over all sets, in place: first what stays within a tile of blocks, then across the tiles."""
    m0, m1, m2, m3, m4, m5 = missed[0], missed[1], missed[2], missed[3], missed[4], missed[5]
    tile, number = min(_TILE, others), 1 << others
    size = 1 << tile
    for base in range(0, number, size):
        for block in range(base, base + size):
            x = load(table, block * LANES)
            x = add_scaled(_swapped_0(x), m0, _without_0(x))
            x = add_scaled(_swapped_1(x), m1, _without_1(x))
            x = add_scaled(_swapped_2(x), m2, _without_2(x))
            x = add_scaled(_swapped_3(x), m3, _without_3(x))
            x = add_scaled(_swapped_4(x), m4, _without_4(x))
            x = add_scaled(_swapped_5(x), m5, _without_5(x))
            store(table, block * LANES, x)
        _meet_columns(table, missed, (0, tile), base, base + size, 1, 1)
    for base in range(0, size, _RUN):
        _meet_columns(table, missed, (tile, others), base, number, size, _RUN)


@compiled
def _derivatives(before, after, weights, blocks, first, last, sums, derivative):
    """D_{i-1} from D_i = `after`, in place, for some blocks; and the sums over these, added to `derivative` (columns,).

    In place, since sets take from larger sets only, and subsets come first.

    Returns:
        The sum for the row to stay alone.
    """
    columns = len(weights) - 1
    null = weights[columns]
    w0, w1, w2, w3, w4, w5 = weights[0], weights[1], weights[2], weights[3], weights[4], weights[5]
    everything = (1 << (columns - ELEMENTS)) - 1
    for j in range(len(sums)):
        sums[j] = 0.0
    s0 = load_sums(sums, 0)
    s1, s2, s3, s4, s5, alone = s0, s0, s0, s0, s0, s0
    for k in range(first, last):
        block = np.int64(blocks[k])
        used, own = load(before, k * LANES), load(after, block * LANES)
        total, alone = scaled(null, own), add_products(alone, used, own)
        g0, g1, g2 = _given_0(own), _given_1(own), _given_2(own)
        g3, g4, g5 = _given_3(own), _given_4(own), _given_5(own)
        total, s0 = add_scaled(total, w0, g0), add_products(s0, used, g0)
        total, s1 = add_scaled(total, w1, g1), add_products(s1, used, g1)
        total, s2 = add_scaled(total, w2, g2), add_products(s2, used, g2)
        total, s3 = add_scaled(total, w3, g3), add_products(s3, used, g3)
        total, s4 = add_scaled(total, w4, g4), add_products(s4, used, g4)
        total, s5 = add_scaled(total, w5, g5), add_products(s5, used, g5)
        left = everything ^ block
        while left:
            column = left & -left
            left ^= column
            j = lowest_element(column)
            larger = load(after, (block | column) * LANES)
            total = add_scaled(total, weights[ELEMENTS + j], larger)
            store(sums, j * SUMS, add_products(load_sums(sums, j * SUMS), used, larger))
        store(after, block * LANES, total)
    derivative[0] += total_of(s0)
    derivative[1] += total_of(s1)
    derivative[2] += total_of(s2)
    derivative[3] += total_of(s3)
    derivative[4] += total_of(s4)
    derivative[5] += total_of(s5)
    for j in range(columns - ELEMENTS):
        derivative[ELEMENTS + j] += total_of(load_sums(sums, j * SUMS))
    return total_of(alone)


@compiled
def _backward(weights, tables, end, seeds, blocks, count, sums, marginals):
    """The marginals (rows, columns) of one half, whose tables end at `end`; each row's sum is one with its null."""
    rows, choices = weights.shape
    start = end
    for i in range(rows - 1, -1, -1):
        start -= np.int64(count[i]) * LANES
        derivative, alone = marginals[i], 0.0
        derivative[:] = 0.0
        for first in range(0, count[i], _SUMMED):
            last = min(first + _SUMMED, np.int64(count[i]))
            alone += _derivatives(tables[start:], seeds, weights[i], blocks[i], first, last, sums, derivative)
        mass = alone * weights[i, choices - 1]
        for j in range(choices - 1):
            derivative[j] *= weights[i, j]
            mass += derivative[j]
        for j in range(choices - 1):
            derivative[j] /= mass


@compiled
def meeting_weights(pairs, row_null, column_null, workspace):
    """Replace the weights of all pairs by their marginals when rows and columns may stay alone.

    Args:
        pairs: (M, N), row_null: (M,), column_null: (N,) float64 scaled weights, of a size for which
            `meeting_cost` is finite.
        workspace: float32 or float64, at least `meeting_cost` entries: its type is the precision. Fast where it
            starts at a multiple of 64 bytes.
    """
    rows, columns = pairs.shape
    others, half = columns - ELEMENTS, rows - rows // 2
    sets, number = LANES << others, (half + 1) << others
    upper, lower, tables = workspace[:sets], workspace[sets : 2 * sets], workspace[2 * sets :]
    sums, tables = tables[: others * SUMS], tables[others * SUMS :]

    # What is small lies at the end, so that tables start where memory is fast.
    size = rows * (columns + 1) + columns
    small, tables = tables[len(tables) - size :], tables[: len(tables) - size]
    missed, weights = small[:columns], matrix(small[columns:], rows, columns + 1)
    for k in range(rows):
        weights[k, columns] = row_null[k]
        for j in range(columns):
            weights[k, j] = pairs[k, j]
    for j in range(columns):
        missed[j] = column_null[j]
    size = 2 * number + half + 1
    indices, tables = tables[len(tables) - size :].view(np.int32), tables[: len(tables) - size]
    blocks, place = matrix(indices, half + 1, 1 << others), matrix(indices[number:], half + 1, 1 << others)
    count = indices[2 * number : size]
    _layout(blocks, place, count)

    upper_end = _forward(weights[:half], tables, upper, blocks, place, count)
    lower_tables = tables[upper_end:]
    lower_end = _forward(weights[half:], lower_tables, lower, blocks, place, count)
    _meet(upper, missed, others)
    _meet(lower, missed, others)
    _backward(weights[:half], tables, upper_end, lower, blocks, count, sums, pairs[:half])
    _backward(weights[half:], lower_tables, lower_end, upper, blocks, count, sums, pairs[half:])
