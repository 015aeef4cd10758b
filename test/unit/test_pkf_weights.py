"""Association weights against the enumeration of all joint events, and what must not change them."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from association_helpers import Array, Problem, events
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.runtime import _nrt_python, rtsys
from numpy.typing import NDArray

from pkf_filter import AssociationError, association_weights
from pkf_filter.association.best_event import scale_by_best_event
from pkf_filter.association.frontier import frontier_order, frontier_weights, obliged_weights
from pkf_filter.association.solvers import scratch_size


class Marginals(NamedTuple):
    """What the definition says."""

    weights: Array
    clutter: Array
    missed: Array


DECADES = 300 * np.log(10)
EXACT = 1e-12


def enumerated(problem: Problem) -> tuple[Marginals, float] | None:
    """The definition itself, and the log weight of the best event; None where no event is possible."""
    pairs, clutter, missed = problem
    M, N = pairs.shape
    listed = list(events(M, N))
    every = np.array(listed, int).reshape(len(listed), M)
    choices = np.concatenate([pairs, clutter[:, None]], 1)
    log_weight = choices[np.arange(M), every].sum(1)
    used = (every[:, :, None] == np.arange(N)).any(1)
    log_weight = log_weight + np.where(used, 0.0, missed).sum(1)
    best = log_weight.max()
    if best == -np.inf:
        return None
    probability = np.exp(log_weight - best)
    probability /= probability.sum()
    weights = np.einsum("e,ekj->kj", probability, (every[:, :, None] == np.arange(N)).astype(float))
    alone, unused = probability @ (every == -1), probability @ ~used
    return Marginals(weights, alone, unused), best


def log_weight(problem: Problem, assignment: NDArray[np.int64]) -> float:
    pairs, clutter, missed = problem
    total = sum(clutter[k] if j < 0 else pairs[k, j] for k, j in enumerate(assignment))
    return float(total + sum(missed[j] for j in range(len(missed)) if j not in assignment))


def problem(rng: np.random.Generator, M: int, N: int, scale: float, gated: float, forced: float) -> Problem:
    """Log weights spread over 2 * scale, some pairs gated out, some nulls impossible."""

    def draw(shape: tuple[int, ...], share: float) -> Array:
        values = rng.uniform(-scale, scale, shape)
        values[rng.random(shape) < share] = -np.inf
        return values

    return draw((M, N), gated), draw((M,), forced), draw((N,), forced)


problems = st.builds(
    problem,
    rng=st.integers(0, 2**32 - 1).map(np.random.default_rng),
    M=st.integers(0, 5),
    N=st.integers(0, 6),
    scale=st.sampled_from([0.0, 1.0, 10.0, DECADES / 2]),
    gated=st.sampled_from([0.0, 0.3, 0.7]),
    forced=st.sampled_from([0.0, 0.3, 1.0]),
)


def check(problem: Problem) -> None:
    expected = enumerated(problem)
    if expected is None:
        with pytest.raises(AssociationError, match="no joint event"):
            association_weights(*problem)
        return
    truth, best = expected
    got = association_weights(*problem)
    assert got.exact
    np.testing.assert_allclose(got.weights, truth.weights, rtol=0, atol=EXACT)
    np.testing.assert_allclose(got.clutter, truth.clutter, rtol=0, atol=EXACT)
    np.testing.assert_allclose(got.missed, truth.missed, rtol=0, atol=EXACT)
    assert log_weight(problem, got.assignment) == pytest.approx(best, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("M", range(6))
@pytest.mark.parametrize("N", range(7))
@pytest.mark.parametrize("forced", [0.0, 1.0], ids=["nulls", "no nulls"])
def test_every_shape_matches_enumeration(M: int, N: int, forced: float) -> None:
    check(problem(np.random.default_rng(M * 7 + N), M, N, DECADES / 2, 0.0, forced))


@pytest.mark.parametrize("M", range(1, 6))
@pytest.mark.parametrize("N", range(1, 7))
def test_one_side_without_null_matches_enumeration(M: int, N: int) -> None:
    pairs, clutter, missed = problem(np.random.default_rng(M * 7 + N), M, N, 5.0, 0.2, 0.0)
    check((pairs, np.full(M, -np.inf), missed))
    check((pairs, clutter, np.full(N, -np.inf)))


@settings(max_examples=300)
@given(problems)
def test_matches_enumeration(problem: Problem) -> None:
    check(problem)


def test_proposition_1_is_a_ratio_of_permanents() -> None:
    Q = np.array([[3.0, 1.0], [2.0, 5.0]])
    never = np.full(2, -np.inf)
    weights = association_weights(np.log(Q), never, never).weights
    np.testing.assert_allclose(weights, np.array([[15, 2], [2, 15]]) / 17, rtol=1e-14)


@settings(max_examples=50)
@given(problems, st.integers(0, 2**32 - 1))
def test_permuting_rows_and_columns_permutes_the_weights(problem: Problem, seed: int) -> None:
    if enumerated(problem) is None:
        return
    pairs, clutter, missed = problem
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(clutter)), rng.permutation(len(missed))
    plain = association_weights(*problem)
    permuted = association_weights(pairs[rows][:, columns], clutter[rows], missed[columns])
    np.testing.assert_allclose(permuted.weights, plain.weights[rows][:, columns], rtol=0, atol=EXACT)
    np.testing.assert_allclose(permuted.clutter, plain.clutter[rows], rtol=0, atol=EXACT)
    np.testing.assert_allclose(permuted.missed, plain.missed[columns], rtol=0, atol=EXACT)


@settings(max_examples=50)
@given(problems, st.floats(-500, 500))
def test_scaling_a_row_with_its_clutter_changes_nothing(problem: Problem, factor: float) -> None:
    pairs, clutter, missed = problem
    if not len(clutter) or enumerated(problem) is None:
        return
    plain = association_weights(*problem)
    pairs, clutter = pairs.copy(), clutter.copy()
    pairs[0] += factor
    clutter[0] += factor
    scaled = association_weights(pairs, clutter, missed)
    # a sum of 1000 and a small number has lost digits before it comes in
    np.testing.assert_allclose(scaled.weights, plain.weights, rtol=0, atol=1e-11)
    np.testing.assert_allclose(scaled.clutter, plain.clutter, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(12, 12), (8, 30), (30, 8), (80, 60)])
def test_large_problems_sum_to_one(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    pairs, clutter, missed = problem(rng, *shape, 20.0, 0.2, 0.0)
    if min(shape) > 12:  # exact inference needs a gate: a long row of objects, each near to its neighbours only
        pairs[np.abs(np.linspace(0, 1, shape[0])[:, None] - np.linspace(0, 1, shape[1])) > 0.05] = -np.inf
    got = association_weights(pairs, clutter, missed)
    assert got.exact
    assert got.weights.min() >= 0
    np.testing.assert_allclose(got.weights.sum(1) + got.clutter, 1, rtol=0, atol=EXACT)
    np.testing.assert_allclose(got.weights.sum(0) + got.missed, 1, rtol=0, atol=EXACT)
    assert (got.weights.sum(0) <= 1 + EXACT).all() and (got.weights.sum(1) <= 1 + EXACT).all()
    assert not got.weights[pairs == -np.inf].any()


def test_both_exact_programmes_agree() -> None:
    rng = np.random.default_rng(2)
    pairs, clutter, missed = problem(rng, 7, 9, 10.0, 0.2, 0.0)
    clutter = np.full(7, -np.inf)
    order, scratch = np.empty(7, np.int64), np.full(scratch_size(7, 9), np.nan)
    assert scale_by_best_event(pairs, clutter, missed, order, scratch)
    states, _ = frontier_order(pairs, order, scratch)
    by_frontier, by_table = pairs.copy(), pairs.copy()
    frontier_weights(by_frontier, clutter, missed, order, np.full(int(states) + 1, np.nan), scratch)
    obliged_weights(by_table, missed, np.full(2**10 + 2 * 9**2, np.nan))
    np.testing.assert_allclose(by_table, by_frontier, rtol=0, atol=EXACT)
    np.testing.assert_allclose(by_frontier.sum(1), 1, rtol=0, atol=EXACT)


def by_fractions(Q: Array, clutter: Array, missed: Array) -> Array:
    """Weights of a dense problem in exact rational arithmetic: masses over the subsets of columns, row by row."""
    M, N = Q.shape
    pairs = [[Fraction(x) for x in row] for row in Q.tolist()]
    alone, left = [Fraction(x) for x in clutter.tolist()], [Fraction(x) for x in missed.tolist()]
    forward = [[Fraction(0)] * (1 << N) for _ in range(M + 1)]
    forward[0][0] = Fraction(1)
    backward = [[Fraction(0)] * (1 << N) for _ in range(M + 1)]
    for used in range(1 << N):
        backward[M][used] = Fraction(1)
        for j in range(N):
            backward[M][used] *= 1 if used >> j & 1 else left[j]
    for k in range(M):
        for used in range(1 << N):
            before = forward[k][used]
            if before:
                forward[k + 1][used] += before * alone[k]
                for j in range(N):
                    if not used >> j & 1:
                        forward[k + 1][used | 1 << j] += before * pairs[k][j]
    for k in reversed(range(M)):
        for used in range(1 << N):
            after = backward[k + 1]
            free = [j for j in range(N) if not used >> j & 1]
            backward[k][used] = after[used] * alone[k] + sum(pairs[k][j] * after[used | 1 << j] for j in free)
    weights = np.zeros((M, N))
    for k in range(M):
        for j in range(N):
            mass = sum(
                forward[k][used] * pairs[k][j] * backward[k + 1][used | 1 << j]
                for used in range(1 << N)
                if not used >> j & 1 and forward[k][used]
            )
            weights[k, j] = float(mass / backward[0][0])
    return weights


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_matches_rational_arithmetic(scale: float) -> None:
    rng = np.random.default_rng(6)
    for nulls in (np.full(6, 0.25), np.zeros(6)):
        Q = np.exp(rng.uniform(-scale, scale, (6, 6)))
        with np.errstate(divide="ignore"):
            got = association_weights(np.log(Q), np.log(nulls), np.log(nulls)).weights
        # a logarithm of 100 has lost two digits before it comes in
        np.testing.assert_allclose(got, by_fractions(Q, nulls, nulls), rtol=0, atol=1e-13)


def test_matches_high_precision_at_twelve() -> None:
    """Prop. 1 at n = 12 by exact integer permanents: entries are powers of two over 60 decades."""
    n = 12
    exponents = np.random.default_rng(7).integers(-100, 101, (n, n))
    rows = [[1 << int(e) + 100 for e in row] for row in exponents]

    forward, backward = {0: 1}, {(1 << n) - 1: 1}
    tables = [forward]
    for k in range(n):
        table: dict[int, int] = {}
        for used, mass in tables[-1].items():
            for j in range(n):
                if not used >> j & 1:
                    table[used | 1 << j] = table.get(used | 1 << j, 0) + mass * rows[k][j]
        tables.append(table)
    total = tables[n][(1 << n) - 1]
    expected = np.zeros((n, n))
    for k in reversed(range(n)):
        table = dict.fromkeys(tables[k], 0)
        for used, mass in tables[k].items():
            for j in range(n):
                if not used >> j & 1:
                    rest = rows[k][j] * backward[used | 1 << j]
                    table[used] += rest
                    expected[k, j] += float(Fraction(mass * rest, total))
        backward = table
    never = np.full(n, -np.inf)
    got = association_weights(exponents * np.log(2), never, never).weights
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_too_large_a_component_is_approximated_and_says_so() -> None:
    rng = np.random.default_rng(3)
    log_weights = problem(rng, 8, 8, 3.0, 0.0, 0.0)
    exact, rough = association_weights(*log_weights), association_weights(*log_weights, max_states=64.0)
    assert exact.exact and not rough.exact
    assert np.array_equal(rough.assignment, exact.assignment)
    assert (rough.weights.sum(0) <= 1 + EXACT).all() and (rough.weights.sum(1) <= 1 + EXACT).all()
    assert np.abs(rough.weights - exact.weights).max() < 0.25
    assert exact.error_bound == 0 and rough.error_bound == 1


def test_pruning_comes_before_approximation() -> None:
    """Two clusters that only negligible pairs connect: each is exact again once those are gone."""
    rng = np.random.default_rng(4)
    pairs, clutter, missed = problem(rng, 8, 8, 3.0, 0.0, 0.0)
    pairs[:4, 4:] -= 60
    pairs[4:, :4] -= 60
    exact, pruned = association_weights(pairs, clutter, missed), association_weights(pairs, clutter, missed, 200.0)
    assert exact.error_bound == 0.0 < pruned.error_bound
    assert np.abs(pruned.weights - exact.weights).max() <= pruned.error_bound + EXACT
    assert pruned.error_bound < 1e-10
    assert pruned.exact, "such an error is below what rounding leaves of the weights' use"


@pytest.mark.parametrize("max_states", [np.nan, np.inf, 1e13, 0.0, -5.0])
def test_tables_that_no_machine_has_are_refused(max_states: float) -> None:
    with pytest.raises(AssociationError, match="expected max_states from 1 to 1073741824"):
        association_weights(np.zeros((2, 2)), np.zeros(2), np.zeros(2), max_states)


def test_propagation_over_a_large_component_is_bounded_and_near_the_truth() -> None:
    """400 well separated pairs, all linked by faint likelihoods: each marginal is its own pair's up to these."""
    n = 400
    pairs = np.full((n, n), -18.0)
    np.fill_diagonal(pairs, 0.0)
    null = np.full(n, -2.0)
    found = association_weights(pairs, null, null, 2.0**10)
    alone = 1 / (1 + np.exp(-4.0))
    assert found.error_bound == 1.0
    np.testing.assert_allclose(np.diag(found.weights), alone, atol=1e-4)
    assert (found.weights.sum(0) <= 1 + EXACT).all()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3.0))
def test_the_error_bound_holds(seed: int, noise: float) -> None:
    """A row of objects whose likelihoods fall off with the square of the distance, with ever less memory."""
    rng = np.random.default_rng(seed)
    place = 3.0 * np.arange(9)
    measured = place + noise * rng.normal(size=9)
    pairs = -((measured[:, None] - place) ** 2) / 2
    null = np.full(9, -4.0)
    exact = association_weights(pairs, null, null)
    for max_states in (1000.0, 300.0, 100.0):
        rough = association_weights(pairs, null, null, max_states)
        assert np.abs(rough.weights - exact.weights).max() <= rough.error_bound + EXACT


def test_lists_and_other_layouts_are_accepted() -> None:
    rng = np.random.default_rng(8)
    pairs, clutter, missed = problem(rng, 4, 3, 3.0, 0.0, 0.0)
    expected = association_weights(pairs, clutter, missed).weights
    for other in (pairs.tolist(), np.asfortranarray(pairs), pairs.astype(object)):
        assert np.array_equal(association_weights(other, clutter.tolist(), missed).weights, expected)


def test_no_tracks_or_no_measurements() -> None:
    assert association_weights(np.zeros((2, 0)), np.zeros(2), np.zeros(0)).clutter.tolist() == [1, 1]
    assert association_weights(np.zeros((0, 2)), np.zeros(0), np.zeros(2)).missed.tolist() == [1, 1]
    assert association_weights(np.zeros((0, 0)), np.zeros(0), np.zeros(0)).exact


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", range(3))
def test_log_weights_that_are_not_below_infinity_are_refused(value: float, place: int) -> None:
    log_weights = [np.zeros((2, 3)), np.zeros(2), np.zeros(3)]
    log_weights[place].flat[0] = value
    with pytest.raises(AssociationError, match=r"NaN or \+inf"):
        association_weights(*log_weights)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(AssociationError, match=r"\(M, N\)"):
        association_weights(np.zeros((2, 3)), np.zeros(3), np.zeros(2))


def test_more_obliged_measurements_than_tracks_are_refused() -> None:
    with pytest.raises(AssociationError, match="no joint event"):
        association_weights(np.zeros((3, 2)), np.full(3, -np.inf), np.zeros(2))


def allocations(problem: Problem, count: int) -> int:
    """How often one call takes memory for a scene of `count` such components, by numba's own count."""
    pairs, clutter, missed = problem
    rows, columns = pairs.shape
    scene = np.full((count * rows, count * columns), -np.inf)
    for c in range(count):
        scene[c * rows : (c + 1) * rows, c * columns : (c + 1) * columns] = pairs
    many = scene, np.tile(clutter, count), np.tile(missed, count)
    last = association_weights(*many).weights[(count - 1) * rows :, (count - 1) * columns :]
    np.testing.assert_allclose(last, association_weights(*problem).weights, rtol=0, atol=EXACT)
    before = rtsys.get_allocation_stats().alloc
    association_weights(*many)
    return rtsys.get_allocation_stats().alloc - before


SHAPES = [(0, 1), (1, 0), (1, 1), (1, 4), (3, 1), (2, 2), (3, 3), (2, 6), (4, 5), (8, 8), (7, 9), (9, 7)]
OBLIGED = [
    (shape, rows, columns)
    for shape in SHAPES
    for rows in (False, True)
    for columns in (False, True)
    if not (rows and shape[0] > shape[1]) and not (columns and shape[1] > shape[0])
]


@pytest.mark.parametrize(("shape", "rows", "columns"), OBLIGED)
def test_memory_is_taken_as_often_for_fifty_components_as_for_one(
    shape: tuple[int, int], rows: bool, columns: bool
) -> None:
    """By every exact method: closed forms, programmes over subsets, and that from both ends of the rows."""
    pairs, clutter, missed = problem(np.random.default_rng(9), *shape, 3.0, 0.0, 0.0)
    clutter = np.full(shape[0], -np.inf) if rows else clutter
    missed = np.full(shape[1], -np.inf) if columns else missed
    counted = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    try:
        assert allocations((pairs, clutter, missed), 50) == allocations((pairs, clutter, missed), 1) > 0
    finally:
        if not counted:
            _nrt_python.memsys_disable_stats()
