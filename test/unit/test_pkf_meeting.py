"""The dynamic programme from both ends of the rows, alone and as what large components are given to."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import comb, factorial, inf
from typing import Any

import numpy as np
import pytest
from association_helpers import Array, Problem, enumerated
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pkf_filter import association_weights
from pkf_filter.association.best_event import scale_by_best_event
from pkf_filter.association.frontier import frontier_order, frontier_weights
from pkf_filter.association.solvers import scratch_size
from pkf_filter.association.two_sided import MOST_COLUMNS, MOST_ROWS, meeting_cost, meeting_weights, single_error

EXACT = 1e-12


@cache
def workspace(precision: Any) -> NDArray[Any]:
    return np.full(1 << 17, 7.0, precision)  # what another component left there must not matter


def met(problem: Problem, precision: Any = np.float64) -> Array:
    """Marginals by the programme in question."""
    weights = problem[0].copy()
    meeting_weights(weights, *problem[1:], workspace(precision))
    return weights


def by_frontier(problem: Problem) -> Array:
    weights = problem[0].copy()
    order, scratch = np.empty(len(weights), np.int64), np.full(scratch_size(*weights.shape), 7.0)
    states, _ = frontier_order(weights, order, scratch)
    frontier_weights(weights, *problem[1:], order, np.full(int(states) + 1, 7.0), scratch)
    return weights


def scaled(seed: int, rows: int, columns: int, spread: float, gated: float = 0.0) -> Problem:
    """Scaled weights of a random component, with some pairs gated out."""
    rng = np.random.default_rng(seed)
    pairs = rng.uniform(-spread, spread, (rows, columns))
    pairs[rng.random((rows, columns)) < gated] = -np.inf
    clutter, missed = rng.uniform(-spread, spread, rows), rng.uniform(-spread, spread, columns)
    scratch = np.empty(scratch_size(rows, columns))
    assert scale_by_best_event(pairs, clutter, missed, np.empty(rows, np.int64), scratch)
    return pairs, clutter, missed


def by_fractions(problem: Problem) -> Array:
    """Marginals in rational arithmetic, from the masses of all sets of columns that the rows before and after use."""
    pairs, clutter, missed = ([[Fraction(x) for x in row] for row in np.atleast_2d(part).tolist()] for part in problem)
    rows, columns = len(pairs), len(missed[0])

    def used(order: range) -> list[dict[int, Fraction]]:
        tables = [{0: Fraction(1)}]
        for k in order:
            table: dict[int, Fraction] = {}
            for taken, mass in tables[-1].items():
                table[taken] = table.get(taken, Fraction(0)) + mass * clutter[0][k]
                for j in range(columns):
                    if not taken >> j & 1:
                        table[taken | 1 << j] = table.get(taken | 1 << j, Fraction(0)) + mass * pairs[k][j]
            tables.append(table)
        return tables

    everything = (1 << columns) - 1
    alone = [Fraction(1)] * (1 << columns)
    for free in range(1, 1 << columns):
        lowest = (free & -free).bit_length() - 1
        alone[free] = alone[free & (free - 1)] * missed[0][lowest]
    before, after = used(range(rows)), used(range(rows - 1, -1, -1))
    total = sum(mass * alone[everything ^ taken] for taken, mass in before[rows].items())
    weights = np.zeros((rows, columns))
    for k in range(rows):
        for j in range(columns):
            share = Fraction(0)
            for first, mass in before[k].items():
                if not first >> j & 1:
                    for then, rest in after[rows - 1 - k].items():
                        if not then & (first | 1 << j):
                            share += mass * rest * alone[everything ^ first ^ then ^ 1 << j]
            weights[k, j] = float(pairs[k][j] * share / total)
    return weights


@pytest.mark.parametrize("shape", [(2, 7), (3, 7), (3, 8), (4, 7)])
@pytest.mark.parametrize("spread", [0.0, 3.0, 300.0])
def test_matches_the_definition(shape: tuple[int, int], spread: float) -> None:
    problem = scaled(shape[0], *shape, spread, gated=0.2 if shape[0] == 4 else 0.0)
    expected = enumerated(problem)
    np.testing.assert_allclose(met(problem), expected, rtol=0, atol=EXACT)
    np.testing.assert_allclose(met(problem, np.float32), expected, rtol=0, atol=single_error(*shape))


def test_matches_rational_arithmetic() -> None:
    problem = scaled(5, 6, 8, 4.0)
    expected = by_fractions(problem)
    np.testing.assert_allclose(met(problem), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", [(7, 7), (12, 12), (13, 9), (9, 13), (30, 8), (64, 7), (13, 13)])
@pytest.mark.parametrize("spread", [1.0, 20.0])
def test_matches_the_frontier(shape: tuple[int, int], spread: float) -> None:
    problem = scaled(shape[0] * 31 + shape[1], *shape, spread, gated=0.1)
    np.testing.assert_allclose(met(problem), by_frontier(problem), rtol=0, atol=EXACT)


@pytest.mark.parametrize("size", [7, 10, 13])
@pytest.mark.parametrize("spread", [0.0, 1.0, 10.0, 60.0])
def test_single_precision_keeps_its_bound(size: int, spread: float) -> None:
    """Down to weights whose products underflow: what they lose is negligible beside the best event."""
    problem = scaled(size, size, size, spread)
    exact, single = met(problem), met(problem, np.float32)
    assert np.abs(single - exact).max() <= single_error(size, size) < 1e-4


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(2, 9),
    columns=st.integers(7, 10),
    spread=st.sampled_from([0.0, 2.0, 30.0, 300.0]),
    gated=st.sampled_from([0.0, 0.5]),
)
def test_sums_and_permutations(seed: int, rows: int, columns: int, spread: float, gated: float) -> None:
    pairs, clutter, missed = scaled(seed, rows, columns, spread, gated)
    plain = met((pairs, clutter, missed))
    assert (plain >= 0).all() and not plain[pairs == 0].any()
    assert (plain.sum(0) <= 1 + EXACT).all() and (plain.sum(1) <= 1 + EXACT).all()
    rng = np.random.default_rng(seed)
    r, s = rng.permutation(rows), rng.permutation(columns)
    permuted = met((np.ascontiguousarray(pairs[r][:, s]), clutter[r], missed[s]))
    np.testing.assert_allclose(permuted, plain[r][:, s], rtol=0, atol=EXACT)


def test_sizes_that_it_is_not_for() -> None:
    assert meeting_cost(8, 6) == meeting_cost(1, 8) == (inf, inf)
    assert meeting_cost(8, MOST_COLUMNS + 1) == meeting_cost(MOST_ROWS + 1, 8) == (inf, inf)
    assert meeting_cost(8, 7)[0] < meeting_cost(9, 7)[0] < meeting_cost(9, 8)[0] < inf


def alike(size: int, pair: float, null: float) -> float:
    """The weight of every pair where all pairs weigh the same, and all nulls: by the number of pairs in an event."""
    events = [
        comb(size, m) ** 2 * factorial(m) * Fraction(pair) ** m * Fraction(null) ** (2 * (size - m))
        for m in range(size + 1)
    ]
    return float(sum(m * mass for m, mass in enumerate(events)) / sum(events) / size**2)


@pytest.mark.parametrize(("size", "bound"), [(16, 0.0), (17, 0.0), (20, 1e-4)])
def test_large_components_are_solved_with_a_bound(size: int, bound: float) -> None:
    null = np.full(size, np.log(0.125))
    found = association_weights(np.full((size, size), np.log(0.5)), null, null)
    assert found.error_bound <= bound and found.exact == (bound == 0)
    expected = alike(size, 0.5, 0.125)
    np.testing.assert_allclose(found.weights, expected, rtol=0, atol=found.error_bound + EXACT)
    np.testing.assert_allclose(found.missed, 1 - size * expected, rtol=0, atol=found.error_bound + EXACT)


@pytest.mark.parametrize("shape", [(12, 12), (10, 14), (14, 10)])
def test_what_does_not_fit_in_double_precision_is_solved_in_single(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    problem = rng.uniform(-2, 2, shape), rng.uniform(-2, 0, shape[0]), rng.uniform(-2, 0, shape[1])
    exact = association_weights(*problem)
    least = meeting_cost(max(shape), min(shape))[0] / 2
    single, rough = association_weights(*problem, least + 1), association_weights(*problem, least / 2)
    assert exact.exact and not single.exact
    assert 0 < single.error_bound < 1e-4 and rough.error_bound == 1
    for name in ("weights", "clutter", "missed"):
        assert np.abs(getattr(single, name) - getattr(exact, name)).max() <= single.error_bound
    assert np.array_equal(single.assignment, exact.assignment)
