"""Exact association weights of one component, by forward-backward dynamic programming over subsets.

Every sum has non-negative terms only, so no digits cancel: inclusion-exclusion forms of the permanent (Ryser,
Glynn) lose them all once likelihoods are spread. Inputs are scaled weights (see `best_event`).

Two programmes, of which the cheaper one is taken for a component:

* the frontier: items (one side) are taken in an order; a state is the subset of the open slots (other side) already
  used, where a slot is open from its first to its last item. With L items over s slots of which all are open it
  costs O(L s 2^s); in a sparse scene s shrinks to the width of the frontier.
* the obliged: when every item has to be paired, the number of used slots tells which item is next, and one table
  over the subsets of the N slots serves all items: O(N 2^N).

Nothing is allocated: marginals replace the weights, and all else lies in memory that the caller lends.
"""

import numpy as np

from pkf_filter.numerics.compiled import compiled
from pkf_filter.numerics.simd import count_ones, integers, lowest_element, matrix

BLOCK_SLOTS = 3  # of `obliged_weights`: its lowest slots, whose subsets are taken together
BLOCK = 1 << BLOCK_SLOTS


@compiled
def frontier_order(pairs, order, scratch):
    """An order of the items that keeps few slots open (greedy), and its number of states.

    Args:
        pairs: (L, s) float64, 0 where gated out.
        order: (L,) int64, filled.
        scratch: float64, at least L + 2 s.

    Returns:
        states, the sum of the table sizes (float, as it may be astronomic); work, states weighted with the number of
        open slots.
    """
    items, slots = pairs.shape
    used = integers(scratch, items + 2 * slots)
    used[:] = 0
    left, is_open, taken = used[:slots], used[slots : 2 * slots], used[2 * slots :]
    for i in range(items):
        for j in range(slots):
            left[j] += pairs[i, j] > 0.0
    width, states, work = 0, 0.0, 0.0
    for step in range(items):
        best, best_growth, best_opened = -1, 0, 0
        for i in range(items):
            if taken[i]:
                continue
            opened, closed = 0, 0
            for j in range(slots):
                if pairs[i, j] > 0.0:
                    opened += 1 - is_open[j]
                    closed += left[j] == 1
            growth = opened - closed
            if best < 0 or growth < best_growth or (growth == best_growth and opened < best_opened):
                best, best_growth, best_opened = i, growth, opened
        order[step], taken[best] = best, 1
        states += 2.0 ** (width + best_opened)
        work += (width + best_opened) * 2.0 ** (width + best_opened)
        width += best_growth
        for j in range(slots):
            if pairs[best, j] > 0.0:
                is_open[j] = 1
                left[j] -= 1
    return states, work


@compiled
def _bits(pairs, order, bit, before, after, last, first, open_slots):
    """Layout of the tables.

    Args:
        pairs: (L, s), order: (L,).
        bit: (L, s), filled: the bit of each slot at each step, -1 if not open.
        before, after: (L,), filled: the number of slots open before the step, whose bits are the lowest, and with
            those that it opens.
        last: (s,), filled: the step after which each slot closes.
        first, open_slots: (s,), overwritten.
    """
    items, slots = pairs.shape
    first[:], last[:], bit[:] = -1, -1, -1
    for step in range(items):
        for j in range(slots):
            if pairs[order[step], j] > 0.0:
                last[j] = step
                if first[j] < 0:
                    first[j] = step
    width = 0
    for step in range(items):
        before[step] = width
        for j in range(slots):
            if first[j] == step:
                open_slots[width] = j
                width += 1
        after[step] = width
        for b in range(width):
            bit[step, open_slots[b]] = b
        kept = 0
        for b in range(width):
            if last[open_slots[b]] > step:
                open_slots[kept] = open_slots[b]
                kept += 1
        width = kept


@compiled
def _closing(bit, last, step, slot_of):
    """Number of slots that close after the step; fills slot_of (s,): the slot at each closing bit, -1 elsewhere."""
    count = 0
    for j in range(len(last)):
        slot_of[j] = -1
    for j in range(len(last)):
        if last[j] == step:
            slot_of[bit[j]] = j
            count += 1
    return count


@compiled
def _close(table, size, bit, missed):
    """Sum a slot out: unused it is missed. In place; the bits above move down."""
    low = (1 << bit) - 1
    for s in range(size >> 1):
        source = ((s & ~low) << 1) | (s & low)
        table[s] = missed * table[source] + table[source | (1 << bit)]


@compiled
def _reopen(table, size, bit, missed):
    """The transpose of `_close`, for the backward pass. In place; the bits above move up."""
    low = (1 << bit) - 1
    for s in range(size - 1, -1, -1):
        value = table[s]
        target = ((s & ~low) << 1) | (s & low)
        table[target] = missed * value
        table[target | (1 << bit)] = value


@compiled
def _normalise(table, size):
    """Scale a table before the number of events that it sums over leaves the range of floating point."""
    largest = 0.0
    for s in range(size):
        largest = max(largest, table[s])
    if not 1e-100 < largest < 1e100:
        for s in range(size):
            table[s] /= largest


@compiled
def _pass_forward(pairs, item_null, slot_null, item, bit, f, table):
    """The table over the slots that are open with an item, from `f`, that over those open before it."""
    size = len(f)
    for s in range(size):
        table[s] = item_null[item] * f[s]
    table[size:] = 0.0
    for j in range(len(slot_null)):
        weight = pairs[item, j]
        if weight > 0.0:
            one = 1 << bit[j]
            for base in range(0, size, 2 * one):
                for s in range(base, base + min(one, size)):
                    table[s + one] += weight * f[s]


@compiled
def _pass_backward(pairs, item_null, slot_null, item, bit, f, table, shares):
    """Marginals of an item, in place, and the backward table before it, in place of `f`, the forward one."""
    size = len(f)
    mass = 0.0
    for s in range(size):
        mass += f[s] * (item_null[item] * table[s])
    for j in range(len(slot_null)):
        weight, share = pairs[item, j], 0.0
        if weight > 0.0:
            one = 1 << bit[j]
            for base in range(0, size, 2 * one):
                for s in range(base, base + min(one, size)):
                    share += f[s] * (weight * table[s + one])
        shares[j] = share
        mass += share
    for s in range(size):
        f[s] = item_null[item] * table[s]
    for j in range(len(slot_null)):
        weight = pairs[item, j]
        if weight > 0.0:
            one = 1 << bit[j]
            for base in range(0, size, 2 * one):
                for s in range(base, base + min(one, size)):
                    f[s] += weight * table[s + one]
        pairs[item, j] = shares[j] / mass


@compiled
def frontier_weights(pairs, item_null, slot_null, order, tables, scratch):
    """Replace the weights of all pairs by their marginals when items and slots may stay alone.

    Args:
        pairs: (L, s), item_null: (L,), slot_null: (s,) scaled weights; order: (L,) from `frontier_order`.
        tables: float64, one more than the states of that order. The forward table of each step follows the one
            before, with room for the slots that the step opens; the backward tables take their places.
        scratch: float64, at least L s + 2 L + 4 s.
    """
    items, slots = pairs.shape
    numbers = integers(scratch, items * slots + 2 * items + 3 * slots)
    shares = scratch[len(numbers) : len(numbers) + slots]
    bit, numbers = matrix(numbers, items, slots), numbers[items * slots :]
    before, after, numbers = numbers[:items], numbers[items : 2 * items], numbers[2 * items :]
    last, slot_of, open_slots = numbers[:slots], numbers[slots : 2 * slots], numbers[2 * slots :]
    _bits(pairs, order, bit, before, after, last, slot_of, open_slots)

    start = 0
    tables[0] = 1.0
    for step in range(items):
        size, full = 1 << before[step], 1 << after[step]
        f, table = tables[start : start + size], tables[start + size : start + size + full]
        _pass_forward(pairs, item_null, slot_null, order[step], bit[step], f, table)
        _closing(bit[step], last, step, slot_of)
        for b in range(after[step] - 1, -1, -1):
            if slot_of[b] >= 0:
                _close(table, full, b, slot_null[slot_of[b]])
                full >>= 1
        _normalise(table, full)
        start += size

    tables[start] = 1.0
    for step in range(items - 1, -1, -1):
        size, full = 1 << before[step], 1 << after[step]
        f, table = tables[start - size : start], tables[start : start + full]
        full >>= _closing(bit[step], last, step, slot_of)
        for b in range(after[step]):
            if slot_of[b] >= 0:
                _reopen(table, full, b, slot_null[slot_of[b]])
                full <<= 1
        _pass_backward(pairs, item_null, slot_null, order[step], bit[step], f, table, shares)
        _normalise(f, size)
        start -= size


@compiled
def _at(array, index):
    """array[index], without the check for negative ones."""
    return array[np.uint64(index)]


@compiled
def _obliged_forward(weights, slots, forward):
    """Sum over the ways to pair the first items with each subset of slots.

    Args:
        weights: (N N,), [N j + k] of slot j with item k.
        forward: (2^N,), filled.
    """
    for block in range(0, 1 << slots, BLOCK):
        k = count_ones(block)
        x0, x1, x2, x3, x4, x5, x6, x7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        if block == 0:
            x0 = 1.0
        left = block
        while left:
            slot = left & -left
            left ^= slot
            f, w = block ^ slot, lowest_element(slot) * slots + k
            w0, w1, w2, w3 = _at(weights, w - 1), _at(weights, w), _at(weights, w + 1), _at(weights, w + 2)
            x0 += w0 * _at(forward, f)
            x1 += w1 * _at(forward, f + 1)
            x2 += w1 * _at(forward, f + 2)
            x3 += w2 * _at(forward, f + 3)
            x4 += w1 * _at(forward, f + 4)
            x5 += w2 * _at(forward, f + 5)
            x6 += w2 * _at(forward, f + 6)
            x7 += w3 * _at(forward, f + 7)
        a, b, c = k, slots + k, 2 * slots + k
        x1 += _at(weights, a) * x0
        x2 += _at(weights, b) * x0
        x4 += _at(weights, c) * x0
        x3 += _at(weights, b + 1) * x1 + _at(weights, a + 1) * x2
        x5 += _at(weights, c + 1) * x1 + _at(weights, a + 1) * x4
        x6 += _at(weights, c + 1) * x2 + _at(weights, b + 1) * x4
        x7 += _at(weights, c + 2) * x3 + _at(weights, b + 2) * x5 + _at(weights, a + 2) * x6
        forward[block], forward[block + 1], forward[block + 2], forward[block + 3] = x0, x1, x2, x3
        forward[block + 4], forward[block + 5], forward[block + 6], forward[block + 7] = x4, x5, x6, x7


@compiled
def _obliged_backward(weights, slots, forward, backward, shares):
    """The transpose of `_obliged_forward`: sum over the ways to pair the other items with the other slots.

    Args:
        backward: as `forward`, filled.
        shares: (N N,), filled: the sum of all events with slot j and item k, divided by their weight.
    """
    for w in range(slots * slots):
        shares[w] = 0.0
    everything = (1 << slots) - BLOCK
    for block in range(everything, -1, -BLOCK):
        k = count_ones(block)
        f0, f1, f2, f3 = forward[block], forward[block + 1], forward[block + 2], forward[block + 3]
        f4, f5, f6, f7 = forward[block + 4], forward[block + 5], forward[block + 6], forward[block + 7]
        x0, x1, x2, x3, x4, x5, x6, x7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        if block == everything:
            x7 = 1.0
        left = everything ^ block
        while left:
            slot = left & -left
            left ^= slot
            r, w = block ^ slot, lowest_element(slot) * slots + k
            w0, w1, w2, w3 = _at(weights, w), _at(weights, w + 1), _at(weights, w + 2), _at(weights, w + 3)
            r0, r1, r2, r3 = _at(backward, r), _at(backward, r + 1), _at(backward, r + 2), _at(backward, r + 3)
            r4, r5, r6, r7 = _at(backward, r + 4), _at(backward, r + 5), _at(backward, r + 6), _at(backward, r + 7)
            x0, x1, x2, x4 = x0 + w0 * r0, x1 + w1 * r1, x2 + w1 * r2, x4 + w1 * r4
            x3, x5, x6, x7 = x3 + w2 * r3, x5 + w2 * r5, x6 + w2 * r6, x7 + w3 * r7
            shares[np.uint64(w)] += f0 * r0
            shares[np.uint64(w + 1)] += f1 * r1 + f2 * r2 + f4 * r4
            shares[np.uint64(w + 2)] += f3 * r3 + f5 * r5 + f6 * r6
            shares[np.uint64(w + 3)] += f7 * r7
        a, b, c = k, slots + k, 2 * slots + k
        x6 += _at(weights, a + 2) * x7
        x5 += _at(weights, b + 2) * x7
        x3 += _at(weights, c + 2) * x7
        x4 += _at(weights, a + 1) * x5 + _at(weights, b + 1) * x6
        x2 += _at(weights, a + 1) * x3 + _at(weights, c + 1) * x6
        x1 += _at(weights, b + 1) * x3 + _at(weights, c + 1) * x5
        x0 += _at(weights, a) * x1 + _at(weights, b) * x2 + _at(weights, c) * x4
        shares[np.uint64(a)] += f0 * x1
        shares[np.uint64(b)] += f0 * x2
        shares[np.uint64(c)] += f0 * x4
        shares[np.uint64(a + 1)] += f2 * x3 + f4 * x5
        shares[np.uint64(b + 1)] += f1 * x3 + f4 * x6
        shares[np.uint64(c + 1)] += f1 * x5 + f2 * x6
        shares[np.uint64(a + 2)] += f6 * x7
        shares[np.uint64(b + 2)] += f5 * x7
        shares[np.uint64(c + 2)] += f3 * x7
        backward[block], backward[block + 1], backward[block + 2], backward[block + 3] = x0, x1, x2, x3
        backward[block + 4], backward[block + 5], backward[block + 6], backward[block + 7] = x4, x5, x6, x7


@compiled
def obliged_weights(pairs, slot_null, tables):
    """Replace the weights of all pairs by their marginals when every one of M items has to be paired.

    Further items that pair with slot j at weight slot_null[j] make the problem square. They are alike, so that this
    counts every event (N - M)! times, which does not change its share. Then subsets are taken eight at a time, those
    of the three lowest slots, and the number k of other slots in them tells the items that come next.

    Args:
        pairs: (M, N), slot_null: (N,) scaled weights, M <= N and N at least 3; Prop. 1 itself is M = N.
        tables: float64, at least 2^(N + 1) + 2 N^2.
    """
    items, slots = pairs.shape
    full, square = 1 << slots, slots * slots
    forward, backward = tables[:full], tables[full : 2 * full]
    weights, shares = tables[2 * full : 2 * full + square], tables[2 * full + square : 2 * (full + square)]
    for j in range(slots):
        for k in range(slots):
            weights[j * slots + k] = pairs[k, j] if k < items else slot_null[j]
    _obliged_forward(weights, slots, forward)
    _obliged_backward(weights, slots, forward, backward, shares)
    share = 1.0 / backward[0]  # of an event of weight 1
    for k in range(items):
        for j in range(slots):
            pairs[k, j] *= shares[j * slots + k] * share
