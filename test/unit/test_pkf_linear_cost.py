"""The cost of a frame grows linearly with the number of its components, counted in states of dynamic programming.

`max_states` limits the states for one component, and the result says whether they sufficed. So a scene that stays exact
within a limit S visits at most S states a component, however many components there are.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pkf_filter import association_weights

Array = NDArray[np.float64]
Problem = tuple[Array, Array, Array]
SIZE = 6


def component(rng: np.random.Generator) -> Problem:
    """Tracks and measurements that may all be each other's."""
    return rng.normal(0, 1, (SIZE, SIZE)), rng.normal(-1, 0.5, SIZE), rng.normal(-1, 0.5, SIZE)


def scene(components: list[Problem], rng: np.random.Generator) -> tuple[Problem, Array, Array]:
    """Components beside each other, in a random order; and the places of their rows and columns in it."""
    count = SIZE * len(components)
    pairs = np.full((count, count), -np.inf)
    for c, (block, _, _) in enumerate(components):
        here = slice(c * SIZE, (c + 1) * SIZE)
        pairs[here, here] = block
    rows, columns = rng.permutation(count), rng.permutation(count)
    clutter, missed = (np.concatenate([one[i] for one in components]) for i in (1, 2))
    return (pairs[np.ix_(rows, columns)], clutter[rows], missed[columns]), np.argsort(rows), np.argsort(columns)


def least_states(problem: Problem) -> int:
    """The smallest limit within which the weights are exact."""
    low, high = 1, 1 << 20
    while low < high:
        middle = (low + high) // 2
        if association_weights(*problem, float(middle)).exact:
            high = middle
        else:
            low = middle + 1
    return low


def test_a_component_alone_needs_the_states_of_the_frontier() -> None:
    """Each of the rows over all subsets of the columns."""
    assert least_states(component(np.random.default_rng(0))) == SIZE * 2**SIZE


@pytest.mark.parametrize("count", [1, 2, 4, 16, 64])
def test_states_a_component_do_not_grow_with_their_number(count: int) -> None:
    rng = np.random.default_rng(count)
    components = [component(rng) for _ in range(count)]
    problem, rows, columns = scene(components, rng)
    each = max(least_states(one) for one in components)
    found = association_weights(*problem, float(each))
    assert found.exact
    assert not association_weights(*problem, float(each - 1)).exact
    for c, one in enumerate(components):
        here = np.ix_(rows[c * SIZE : (c + 1) * SIZE], columns[c * SIZE : (c + 1) * SIZE])
        np.testing.assert_allclose(found.weights[here], association_weights(*one).weights, atol=1e-12)


def test_one_pair_between_two_components_costs_more_than_both() -> None:
    """So that the count above is one of components, and not of the scene's size."""
    rng = np.random.default_rng(7)
    one, other = component(rng), component(rng)
    problem, rows, columns = scene([one, other], rng)
    apart = least_states(problem)
    problem[0][rows[0], columns[SIZE]] = 0.0
    assert least_states(problem) > 2 * apart
