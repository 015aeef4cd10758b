"""Kernels that are written out, or in vectors, each against the plain loop that it stands for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from association_helpers import enumerated
from numpy.typing import NDArray

from pkf_filter.association import frontier, solvers, two_sided
from pkf_filter.numerics import small_matrices
from pkf_filter.numerics.simd import ELEMENTS, LANES, SUMS

Array = NDArray[np.float64]
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0.1, 1.0, shape)


# --- Small matrices


def symmetric(n: int, seed: int = 0) -> Array:
    root = numbers(n, n, seed=seed)
    return root @ root.T + np.eye(n)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 4), (4, 9), (7, 3)])
def test_small_matrices_are_those_of_the_library(m: int, n: int) -> None:
    H, P, V = numbers(m, n), symmetric(n), symmetric(m, seed=1)
    H[0, -1] = 0.0  # zeros are skipped
    PH = small_matrices.times_transposed(P, H)
    np.testing.assert_allclose(PH, P @ H.T, **CLOSE)
    S = small_matrices.innovation_covariance(H, PH, V, 2.0)
    np.testing.assert_allclose(np.tril(S), np.tril(2.0 * H @ P @ H.T + V), **CLOSE)
    small_matrices.cholesky(S)
    L = np.linalg.cholesky(2.0 * H @ P @ H.T + V)
    np.testing.assert_allclose(np.tril(S), L, **CLOSE)
    below, above = numbers(m), numbers(m)
    small_matrices.solve_lower(S, below)
    small_matrices.solve_upper(S, above)
    np.testing.assert_allclose(L @ below, numbers(m), **CLOSE)
    np.testing.assert_allclose(L.T @ above, numbers(m), **CLOSE)
    target = symmetric(m, seed=2)
    expected = target + H @ P @ H.T
    small_matrices.add_product(target, H, P)
    np.testing.assert_allclose(target, expected, **CLOSE)
    assert np.array_equal(target, target.T)


# --- Eight subsets at a time


@pytest.mark.parametrize("slots", [3, 4, 6])
def test_tables_of_obliged_items_subset_by_subset(slots: int) -> None:
    weights, full = numbers(slots * slots), 1 << slots
    forward, backward = np.full(full, np.nan), np.full(full, np.nan)
    shares = np.full(slots * slots, np.nan)
    frontier._obliged_forward(weights, slots, forward)
    frontier._obliged_backward(weights, slots, forward, backward, shares)

    before, after, events = np.zeros(full), np.zeros(full), np.zeros(slots * slots)
    before[0] = after[full - 1] = 1.0
    for subset in range(1, full):
        k = subset.bit_count() - 1  # the item that is paired last
        before[subset] = sum(weights[j * slots + k] * before[subset ^ 1 << j] for j in bits(subset, slots))
    for subset in range(full - 2, -1, -1):
        k = subset.bit_count()  # the item that is paired next
        for j in bits(full - 1 - subset, slots):
            after[subset] += weights[j * slots + k] * after[subset | 1 << j]
            events[j * slots + k] += before[subset] * after[subset | 1 << j]
    np.testing.assert_allclose(forward, before, **CLOSE)
    np.testing.assert_allclose(backward, after, **CLOSE)
    np.testing.assert_allclose(shares, events, **CLOSE)


def bits(subset: int, count: int) -> list[int]:
    return [j for j in range(count) if subset >> j & 1]


# --- Sixty-four subsets at a time


@pytest.fixture
def blocks() -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The layout of tables over eight columns for three rows."""
    made = np.empty((4, 4), np.int32), np.empty((4, 4), np.int32), np.empty(4, np.int32)
    two_sided._layout(*made)
    return made


COLUMNS = 8
SETS = 1 << COLUMNS


@pytest.mark.parametrize("packed", [True, False])
def test_a_row_is_added_set_by_set(
    blocks: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]], packed: bool
) -> None:
    """Packed, tables hold the listed blocks one after the other; else, as in the last one, each lies at its number."""
    listed, place, count = blocks
    weights, plain = numbers(3, COLUMNS + 1), np.zeros(SETS)
    plain[0] = 1.0
    before = np.zeros(LANES)
    before[0] = 1.0
    for i in range(1, 4):
        there = listed[i, : count[i]]
        after = np.full(len(there) * LANES if packed else SETS, np.nan)
        two_sided._step(before, after, weights[i - 1], there, place[i - 1], i, packed)
        before = after if packed else np.concatenate([after[s * LANES : (s + 1) * LANES] for s in there])
        plain = np.array([
            weights[i - 1, COLUMNS] * plain[s] + sum(weights[i - 1, j] * plain[s ^ 1 << j] for j in bits(s, COLUMNS))
            for s in range(SETS)
        ])  # fmt: skip
        for k, block in enumerate(there):
            np.testing.assert_allclose(
                before[k * LANES : (k + 1) * LANES], plain[block * LANES : (block + 1) * LANES], **CLOSE
            )


@pytest.mark.parametrize("others", [1, 2, 3, 9])
def test_the_halves_meet_column_by_column(others: int) -> None:
    """Nine columns beyond a block's are more than a tile."""
    columns = ELEMENTS + others
    table, missed = numbers(1 << columns), numbers(columns, seed=1)
    plain = table.reshape([2] * columns)  # column j is axis columns - 1 - j
    for j in range(columns):
        without, with_it = np.moveaxis(plain, columns - 1 - j, 0)
        plain = np.stack([missed[j] * without + with_it, without], columns - 1 - j)
    two_sided._meet(table, missed, others)
    np.testing.assert_allclose(table, plain.ravel(), **CLOSE)


def test_derivatives_of_a_row_set_by_set(
    blocks: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]],
) -> None:
    listed, _, count = blocks
    i = 2
    number = int(count[i])
    packed, after, weights = numbers(number * LANES), numbers(SETS, seed=1), numbers(COLUMNS + 1, seed=2)
    before = np.zeros(SETS)
    for k, block in enumerate(listed[i, :number]):
        before[block * LANES : (block + 1) * LANES] = packed[k * LANES : (k + 1) * LANES]
    inside = [s for s in range(SETS) if s // LANES in listed[i, :number]]
    plain, derivative = after.copy(), np.zeros(COLUMNS)
    for s in inside:
        outside = bits(SETS - 1 - s, COLUMNS)
        plain[s] = weights[COLUMNS] * after[s] + sum(weights[j] * after[s | 1 << j] for j in outside)
        for j in outside:
            derivative[j] += before[s] * after[s | 1 << j]
    alone = sum(before[s] * after[s] for s in inside)
    found, sums = np.zeros(COLUMNS), np.empty((COLUMNS - ELEMENTS) * SUMS)
    got = two_sided._derivatives(packed, after, weights, listed[i], 0, number, sums, found)
    assert got == pytest.approx(alone, rel=1e-12)
    np.testing.assert_allclose(found, derivative, **CLOSE)
    np.testing.assert_allclose(after[inside], plain[inside], **CLOSE)


# --- Closed forms


@pytest.mark.parametrize(
    ("kernel", "rows", "columns"),
    [(solvers._star, 1, 4), (solvers._star, 5, 1), (solvers._two_by_two, 2, 2)],
)
def test_closed_forms_are_sums_over_events(kernel: Callable[..., None], rows: int, columns: int) -> None:
    pairs, clutter, missed = numbers(rows, columns), numbers(rows, seed=1), numbers(columns, seed=2)
    expected = enumerated((pairs, clutter, missed))
    kernel(pairs, clutter, missed)
    np.testing.assert_allclose(pairs, expected, **CLOSE)
