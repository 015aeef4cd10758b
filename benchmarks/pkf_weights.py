"""Time of all association weights of one frame, against M * N matrix permanents computed one by one.

    python benchmarks/pkf_weights.py [--sizes 5 10 15]

Each permanent is computed as the paper does below 20 x 20, by Ryser's formula with a Gray code (Nijenhuis and Wilf's
form), compiled like our own code. Both give the weights of Prop. 1, for n measurements and n tracks where nothing is
missed and nothing is clutter; the last column is the same with both nulls. Median of several runs, in one process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pkf_filter import association_weights

Array = NDArray[np.float64]
PATIENCE = 2.0  # seconds for one cell of the table


@njit(cache=True)
def permanent(A):  # type: ignore[no-untyped-def]
    """Permanent of A (n, n) in O(n 2^n): column sums of all subsets of columns, one column changed at a time."""
    n = A.shape[0]
    if n == 0:
        return 1.0
    sums = A[:, n - 1] - A.sum(1) / 2
    total, sign = np.prod(sums), 1.0
    for step in range(1, 1 << (n - 1)):
        column = 0
        while not step >> column & 1:
            column += 1
        change = 1.0 if (step ^ (step >> 1)) >> column & 1 else -1.0
        product = 1.0
        for row in range(n):
            sums[row] += change * A[row, column]
            product *= sums[row]
        sign = -sign
        total += sign * product
    return (4 * (n & 1) - 2) * total


@njit(cache=True)
def weights_by_permanents(Q):  # type: ignore[no-untyped-def]
    """Weights (n, n) of Prop. 1: w_kj = Q_kj per(Q without row k and column j), each row normalised."""
    n = Q.shape[0]
    weights = np.empty((n, n))
    minor = np.empty((n - 1, n - 1))
    for k in range(n):
        for j in range(n):
            for row in range(n - 1):
                for column in range(n - 1):
                    minor[row, column] = Q[row + (row >= k), column + (column >= j)]
            weights[k, j] = Q[k, j] * permanent(minor)
        weights[k] /= weights[k].sum()
    return weights


def milliseconds(call: Callable[[], object]) -> float:
    """Median time of a call, after one that is not counted."""
    call()
    durations: list[float] = []
    while len(durations) < 5 or (sum(durations) < PATIENCE and len(durations) < 1000):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations)) * 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 15], help="numbers of tracks")
    sizes = parser.parse_args().sizes

    table = Table(title="all weights, n x n, ms")
    for column in ("n", "permanents one by one", "ours", "times faster", "largest difference", "ours, with nulls"):
        table.add_column(column, justify="right")
    rng = np.random.default_rng(0)
    for n in sizes:
        Q = rng.uniform(0.01, 1.0, (n, n))
        log_Q, never, null = np.log(Q), np.full(n, -np.inf), np.full(n, -2.0)
        theirs = milliseconds(lambda Q=Q: weights_by_permanents(Q))
        ours = milliseconds(lambda log_Q=log_Q, never=never: association_weights(log_Q, never, never))
        nulls = milliseconds(lambda log_Q=log_Q, null=null: association_weights(log_Q, null, null))
        difference = np.abs(association_weights(log_Q, never, never).weights - weights_by_permanents(Q)).max()
        row = (f"{theirs:.4f}", f"{ours:.4f}", f"{theirs / ours:.1f}", f"{difference:.1e}", f"{nulls:.4f}")
        table.add_row(str(n), *row)
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
