"""What kernels take from the inside of numba, each against the plain loop or the sentence that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from pkf_filter.numerics import simd
from pkf_filter.numerics.simd import ELEMENTS, LANES, SUMS

Array = NDArray[Any]
SUBSETS = range(LANES)
precisions = pytest.mark.parametrize("precision", [np.float64, np.float32])


def numbers(precision: type, count: int = LANES, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-2, 2, count).astype(precision)


@pytest.mark.parametrize("subset", [1, 2, 6, 0b101000, 2**62, 2**63 - 1])
def test_subsets_are_counted_and_searched(subset: int) -> None:
    ones = numba.njit(lambda s: simd.count_ones(s))
    lowest = numba.njit(lambda s: simd.lowest_element(s))
    assert ones(np.int64(subset)) == f"{subset:b}".count("1")
    assert lowest(np.int64(subset)) == next(e for e in range(63) if subset >> e & 1)


def test_memory_is_looked_at_and_not_copied() -> None:
    @numba.njit
    def write(memory: Array) -> tuple[int, int]:
        simd.integers(memory, 2)[1] = 7
        view = simd.matrix(memory[2:], 2, 3)
        view[1, 2] = 5.0
        return view.shape

    memory = np.zeros(9)
    assert write(memory) == (2, 3)
    assert memory[:2].view(np.int64).tolist() == [0, 7]
    assert memory[2:8].reshape(2, 3).tolist() == [[0, 0, 0], [0, 0, 5]] and memory[8] == 0


@precisions
def test_arithmetic_of_lanes(precision: type) -> None:
    @numba.njit
    def work(a: Array, b: Array, factor: Any, out: Array) -> tuple[float, float]:
        x, y = simd.load(a, 0), simd.load(b, 3)
        simd.store(out, 0, simd.scaled(factor, x))
        simd.store(out, LANES + 1, simd.add_scaled(x, factor, y))
        sums = simd.add_products(simd.load_sums(a, 0), x, y)
        return simd.total_of(x), simd.total_of(sums) + simd.total_of(simd.zeros(a))

    a, b, factor = numbers(precision), numbers(precision, LANES + 3, seed=1), precision(0.7)
    out = np.full(2 * LANES + 2, 9.0, precision)
    total, products = work(a, b, factor, out)
    step = float(np.finfo(precision).eps)
    close = {"rtol": 4 * step, "atol": 4 * step}
    np.testing.assert_allclose(out[:LANES], [factor * x for x in a], **close)
    np.testing.assert_allclose(out[LANES + 1 : -1], [x + factor * y for x, y in zip(a, b[3:], strict=True)], **close)
    assert out[LANES] == out[-1] == 9.0  # nothing beside the lanes is written
    assert total == pytest.approx(sum(float(x) for x in a), abs=1e-12)
    expected = sum(float(x) for x in a[:SUMS]) + sum(float(x) * float(y) for x, y in zip(a, b[3:], strict=True))
    assert products == pytest.approx(expected, abs=100 * step)


def moved(kind: str) -> Callable[[Array, int], list[float]]:
    """What each lane becomes when an element is added, given, left out or swapped: the definition, a lane at a time."""
    return {
        "ADDED": lambda a, e: [a[s ^ e] if s & e else 0.0 for s in SUBSETS],
        "GIVEN": lambda a, e: [0.0 if s & e else a[s | e] for s in SUBSETS],
        "WITHOUT": lambda a, e: [0.0 if s & e else a[s] for s in SUBSETS],
        "SWAPPED": lambda a, e: [a[s ^ e] for s in SUBSETS],
    }[kind]


@pytest.mark.parametrize("kind", ["ADDED", "GIVEN", "WITHOUT", "SWAPPED"])
def test_elements_move_lanes(kind: str) -> None:
    a = numbers(np.float64)
    for element in range(ELEMENTS):
        move = getattr(simd, kind)[element]

        @numba.njit
        def work(source: Array, out: Array, move: Any = move) -> None:
            simd.store(out, 0, move(simd.load(source, 0)))

        out = np.empty(LANES)
        work(a, out)
        assert out.tolist() == moved(kind)(a, 1 << element)
