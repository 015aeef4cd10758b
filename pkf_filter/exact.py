"""Exact association weights of one component, by forward-backward dynamic programming over subsets.

Every sum has non-negative terms only, so no digits cancel: inclusion-exclusion forms of the permanent (Ryser,
Glynn) lose them all once likelihoods are spread. Inputs are scaled weights (see `assignment`).

Two programmes, of which the cheaper one is taken for a component:

* the frontier: items (one side) are taken in an order; a state is the subset of the open slots (other side) already
  used, where a slot is open from its first to its last item. With L items over s slots of which all are open it
  costs O(L s 2^s); in a sparse scene s shrinks to the width of the frontier.
* the obliged: when every item has to be paired, the number of used slots tells which item is next, and one table
  over the subsets of the N slots serves all items: O(N 2^N).
"""

import numpy as np

from pkf_filter.compiled import compiled, count_ones, lowest_element


@compiled
def frontier_order(pairs):
    """An order of the items that keeps few slots open (greedy), and its number of states.

    Args:
        pairs: (L, s) float64, 0 where gated out.

    Returns:
        order (L,) int64; states, the sum of the table sizes (float, as it may be astronomic); work, states weighted
        with the number of open slots.
    """
    items, slots = pairs.shape
    left = np.zeros(slots, np.int64)
    for i in range(items):
        for j in range(slots):
            left[j] += pairs[i, j] > 0.0
    is_open = np.zeros(slots, np.bool_)
    taken = np.zeros(items, np.bool_)
    order = np.empty(items, np.int64)
    width, states, work = 0, 0.0, 0.0
    for step in range(items):
        best, best_growth, best_opened = -1, 0, 0
        for i in range(items):
            if taken[i]:
                continue
            opened, closed = 0, 0
            for j in range(slots):
                if pairs[i, j] > 0.0:
                    opened += not is_open[j]
                    closed += left[j] == 1
            growth = opened - closed
            if best < 0 or growth < best_growth or (growth == best_growth and opened < best_opened):
                best, best_growth, best_opened = i, growth, opened
        order[step] = best
        taken[best] = True
        states += 2.0 ** (width + best_opened)
        work += (width + best_opened) * 2.0 ** (width + best_opened)
        width += best_growth
        for j in range(slots):
            if pairs[best, j] > 0.0:
                is_open[j] = True
                left[j] -= 1
    return order, states, work


@compiled
def _bits(pairs, order):
    """Layout of the tables: the bit of each slot at each step (-1 if not open), and which slots close after it."""
    items, slots = pairs.shape
    first = np.zeros(slots, np.int64) - 1
    last = np.zeros(slots, np.int64) - 1
    for step in range(items):
        for j in range(slots):
            if pairs[order[step], j] > 0.0:
                last[j] = step
                if first[j] < 0:
                    first[j] = step
    bit = np.zeros((items, slots), np.int64) - 1
    before = np.zeros(items, np.int64)  # bits of the slots that were open before the step; new ones lie above
    after = np.zeros(items, np.int64)
    open_slots = np.empty(slots, np.int64)
    width, widest = 0, 0
    for step in range(items):
        before[step] = width
        for j in range(slots):
            if first[j] == step:
                open_slots[width] = j
                width += 1
        after[step] = width
        widest = max(widest, width)
        for b in range(width):
            bit[step, open_slots[b]] = b
        kept = 0
        for b in range(width):
            if last[open_slots[b]] > step:
                open_slots[kept] = open_slots[b]
                kept += 1
        width = kept
    return bit, before, after, last, widest


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
def frontier_weights(pairs, item_null, slot_null, order):
    """Marginals of all pairs when items and slots may stay alone.

    Args:
        pairs: (L, s), item_null: (L,), slot_null: (s,) scaled weights; order: (L,) from `frontier_order`.

    Returns:
        weights (L, s) and the probability of each item to stay alone (L,).
    """
    items, slots = pairs.shape
    bit, before, after, last, widest = _bits(pairs, order)
    slot_of = np.empty(slots, np.int64)
    offset = np.zeros(items + 1, np.int64)
    for step in range(items):
        offset[step + 1] = offset[step] + (1 << before[step])
    forward = np.empty(offset[items])
    table = np.empty(1 << widest)
    backward = np.empty(1 << widest)

    table[0] = 1.0
    for step in range(items):
        i, size, full = order[step], 1 << before[step], 1 << after[step]
        f = forward[offset[step] : offset[step + 1]]
        for s in range(size):
            f[s] = table[s]
            table[s] = item_null[i] * f[s]
        for s in range(size, full):
            table[s] = 0.0
        for j in range(slots):
            weight = pairs[i, j]
            if weight > 0.0:
                one = 1 << bit[step, j]
                for base in range(0, size, 2 * one):
                    for s in range(base, base + min(one, size)):
                        table[s + one] += weight * f[s]
        _closing(bit[step], last, step, slot_of)
        for b in range(after[step] - 1, -1, -1):
            if slot_of[b] >= 0:
                _close(table, full, b, slot_null[slot_of[b]])
                full >>= 1
        _normalise(table, full)

    weights = np.zeros((items, slots))
    alone = np.zeros(items)
    backward[0] = 1.0
    for step in range(items - 1, -1, -1):
        i, size = order[step], 1 << before[step]
        f = forward[offset[step] : offset[step + 1]]
        full = 1 << (after[step] - _closing(bit[step], last, step, slot_of))
        for b in range(after[step]):
            if slot_of[b] >= 0:
                _reopen(backward, full, b, slot_null[slot_of[b]])
                full <<= 1
        mass = 0.0
        for s in range(size):
            table[s] = item_null[i] * backward[s]
            mass += f[s] * table[s]
        alone[i] = mass
        for j in range(slots):
            weight = pairs[i, j]
            if weight > 0.0:
                one, share = 1 << bit[step, j], 0.0
                for base in range(0, size, 2 * one):
                    for s in range(base, base + min(one, size)):
                        rest = weight * backward[s + one]
                        table[s] += rest
                        share += f[s] * rest
                weights[i, j] = share
                mass += share
        alone[i] /= mass
        for j in range(slots):
            weights[i, j] /= mass
        _normalise(table, size)
        table, backward = backward, table
    return weights, alone


@compiled
def obliged_weights(pairs, slot_null):
    """Marginals (M, N) of Prop. 1 when every one of M items has to be paired, M <= N.

    Args:
        pairs: (M, N), slot_null: (N,) scaled weights; Prop. 1 itself has slot_null = 1 everywhere.
    """
    items, slots = pairs.shape
    full = 1 << slots
    tables = np.empty(2 * full)
    forward, backward = tables[:full], tables[full:]
    forward[0] = 1.0
    for subset in range(1, full):
        count = count_ones(subset)
        if count <= items:
            total, left = 0.0, subset
            while left:
                bit = left & -left
                total += pairs[count - 1, lowest_element(left)] * forward[subset ^ bit]
                left ^= bit
            forward[subset] = total
    weights = np.zeros((items, slots))
    for subset in range(full - 1, -1, -1):
        count = count_ones(subset)
        if count == items:
            rest = 1.0
            for j in range(slots):
                if not subset >> j & 1:
                    rest *= slot_null[j]
            backward[subset] = rest
        elif count < items:
            total, reach, left = 0.0, forward[subset], (full - 1) ^ subset
            while left:
                bit = left & -left
                j = lowest_element(left)
                rest = pairs[count, j] * backward[subset | bit]
                total += rest
                weights[count, j] += reach * rest
                left ^= bit
            backward[subset] = total
    for k in range(items):
        for j in range(slots):
            weights[k, j] /= backward[0]
    return weights
