"""Time of all association weights of one frame, against M * N matrix permanents computed one by one.

    python benchmarks/pkf_weights.py [--sizes 5 10 15]

Each permanent is computed as the paper does below 20 x 20, by Ryser's formula with a Gray code (Nijenhuis and Wilf's
form), compiled like our own code. Both give the weights of Prop. 1, for n measurements and n tracks where nothing is
missed and nothing is clutter; the last columns are the same with both nulls, and the bound of what was left out where
that is not exact. Median of several runs, in one process. A second table is a gated scene: 200 tracks on a wide road,
229 measurements. A third has components in which each track may be each measurement, or missed, solved from both ends
of the rows, beside the frontier's dynamic programming over all of them; the aim for twenty tracks is 20 ms. Its times
are the least processor time of all runs, since other programs share the machine.

Where Stone Soup and PyEHM are installed, their joint associators run as well, on n tracks in a row 2 m apart with one
measurement each, with the time of the association alone, hypotheses made beforehand. They are no dependency of this
project; an environment of their own is enough:

    python -m venv ENV && ENV/bin/pip install stonesoup pyehm numba pydantic rich
    PYTHONPATH=. ENV/bin/python benchmarks/pkf_weights.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from typing import Any

import head
import numpy as np
from numba import njit
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pkf_filter import association_weights
from pkf_filter.association.best_event import scale_by_best_event
from pkf_filter.association.frontier import frontier_order, frontier_weights
from pkf_filter.association.solvers import scratch_size

Array = NDArray[np.float64]
PATIENCE = 2.0  # seconds for one cell of the table
GATE = 3.0  # deviations


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


def gated(rng: np.random.Generator) -> None:
    """Tracks on eight lanes of 400 m, nine in ten of them measured with a deviation of 1 m, and 49 measurements of
    nothing."""
    tracks = np.column_stack([rng.uniform(0, 400, 200), 3.5 * rng.integers(0, 8, 200)])
    seen = tracks[rng.permutation(200)[:180]] + rng.normal(scale=1.0, size=(180, 2))
    false = np.column_stack([rng.uniform(0, 400, 49), rng.uniform(-2, 27, 49)])
    measurements = rng.permutation(np.concatenate([seen, false]))
    squared = ((measurements[:, None] - tracks[None]) ** 2).sum(-1)
    log_likelihood = np.where(squared < GATE**2, -squared / 2 - np.log(2 * np.pi), -np.inf) + np.log(0.9)
    log_clutter, log_missed = np.full(229, np.log(49 / (400 * 29))), np.full(200, np.log(0.1))
    found = association_weights(log_likelihood, log_clutter, log_missed)
    time_ms = milliseconds(lambda: association_weights(log_likelihood, log_clutter, log_missed))
    pairs = int(np.isfinite(log_likelihood).sum())
    table = Table("tracks", "measurements", "pairs in the gate", "ms", "exact", title="a gated scene")
    table.add_row("200", "229", str(pairs), f"{time_ms:.3f}", "yes" if found.exact else f"no, {found.error_bound:.0e}")
    Console().print(table)


def least_milliseconds(call: Callable[[], object]) -> float:
    """Least processor time of a call, for what other programs slow down."""
    durations: list[float] = []
    while not durations or (sum(durations) < PATIENCE and len(durations) < 1000):
        start = time.process_time()
        call()
        durations.append(time.process_time() - start)
    return min(durations) * 1e3


def by_frontier(pairs: Array, others: tuple[Any, ...]) -> Array:
    weights = pairs.copy()
    frontier_weights(weights, *others)
    return weights


def ambiguous(rng: np.random.Generator) -> None:
    """Every measurement may be of every track, be clutter, and every track missed."""
    table = Table(title="mutually ambiguous tracks, with clutter and misses, least ms of processor time")
    for column in ("n", "ours", "error bound", "aim", "frontier alone", "times faster", "largest difference"):
        table.add_column(column, justify="right")
    for n in (8, 10, 12, 15, 18, 20):
        log_pairs, null = np.log(rng.uniform(0.01, 1.0, (n, n))), np.full(n, -2.0)
        found = association_weights(log_pairs, null, null)
        ours = least_milliseconds(partial(association_weights, log_pairs, null, null))
        row = [str(n), f"{ours:.3f}", f"{found.error_bound:.0e}", "20" if n == 20 else "-"]
        pairs, clutter, missed = log_pairs.copy(), null.copy(), null.copy()
        order, scratch = np.empty(n, np.int64), np.empty(scratch_size(n, n))
        scale_by_best_event(pairs, clutter, missed, order, scratch)
        states, _ = frontier_order(pairs, order, scratch)
        others = clutter, missed, order, np.empty(int(states) + 1), scratch
        frontier = least_milliseconds(partial(by_frontier, pairs, others))
        difference = np.abs(found.weights - by_frontier(pairs, others)).max()
        table.add_row(*row, f"{frontier:.3f}", f"{frontier / ours:.1f}", f"{difference:.1e}")
    Console().print(table)


def in_a_row(n: int) -> tuple[list[Any], set[Any], Any]:
    """Tracks 2 m apart, a measurement near each, and what makes hypotheses of them, in the terms of Stone Soup."""
    from stonesoup.hypothesiser.probability import PDAHypothesiser
    from stonesoup.models.measurement.linear import LinearGaussian
    from stonesoup.models.transition.linear import CombinedLinearGaussianTransitionModel, ConstantVelocity
    from stonesoup.predictor.kalman import KalmanPredictor
    from stonesoup.types.detection import Detection
    from stonesoup.types.state import GaussianState
    from stonesoup.types.track import Track
    from stonesoup.updater.kalman import KalmanUpdater

    start, now = datetime(2020, 1, 1), datetime(2020, 1, 1, 0, 0, 1)
    rng = np.random.default_rng(n)
    measurement = LinearGaussian(4, (0, 2), np.diag([0.75, 0.75]))
    transition = CombinedLinearGaussianTransitionModel([ConstantVelocity(0.01), ConstantVelocity(0.01)])
    tracks = [
        Track([GaussianState([[2.0 * j], [0], [0], [0]], np.diag([1.5, 0.5, 1.5, 0.5]), timestamp=start)])
        for j in range(n)
    ]
    places = np.stack([2.0 * np.arange(n), np.zeros(n)], 1) + rng.normal(0, 0.9, (n, 2))
    seen = {Detection(z[:, None], timestamp=now, measurement_model=measurement) for z in places}
    hypothesiser = PDAHypothesiser(
        KalmanPredictor(transition),
        KalmanUpdater(measurement),
        clutter_spatial_density=0.125,
        prob_detect=0.9,
        prob_gate=0.95,
    )
    return tracks, seen, hypothesiser


class Remembered:
    """Hypotheses that are made once."""

    def __init__(self, hypothesiser: Any) -> None:
        self._hypothesiser, self._made = hypothesiser, {}  # type: ignore[var-annotated]

    def hypothesise(self, track: Any, detections: Any, timestamp: Any, **options: Any) -> Any:
        if id(track) not in self._made:
            self._made[id(track)] = self._hypothesiser.hypothesise(track, detections, timestamp, **options)
        return self._made[id(track)]


def problem_of(tracks: list[Any], seen: set[Any], hypothesiser: Any, now: datetime) -> tuple[Array, Array, Array]:
    """The same hypotheses for `association_weights`: Stone Soup divides by the clutter density."""
    order = {id(z): k for k, z in enumerate(seen)}
    pairs, missed = np.full((len(seen), len(tracks)), -np.inf), np.zeros(len(tracks))
    for j, track in enumerate(tracks):
        for hypothesis in hypothesiser.hypothesise(track, seen, now):
            weight = float(np.log(float(hypothesis.probability)))
            if hypothesis:
                pairs[order[id(hypothesis.measurement)], j] = weight
            else:
                missed[j] = weight
    return pairs, np.zeros(len(seen)), missed


def against_stone_soup(sizes: list[int], patience: int) -> None:
    """JPDA lists all joint events, so that it is run up to `patience` tracks only."""
    from stonesoup.dataassociator.probability import JPDA, JPDAwithEHM2

    table = Table(title="association of n tracks in a row, ms")
    for column in ("n", "Stone Soup JPDA", "Stone Soup EHM2", "ours", "times faster than EHM2", "largest difference"):
        table.add_column(column, justify="right")
    now = datetime(2020, 1, 1, 0, 0, 1)
    for n in sizes:
        tracks, seen, hypothesiser = in_a_row(n)
        hypothesiser = Remembered(hypothesiser)
        problem = problem_of(tracks, seen, hypothesiser, now)
        found = JPDAwithEHM2(hypothesiser).associate(tracks, seen, now)
        missed = [float(next(h.probability for h in found[track] if not h)) for track in tracks]
        difference = np.abs(association_weights(*problem).missed - missed).max()
        ours = milliseconds(partial(association_weights, *problem))
        ehm2 = milliseconds(partial(JPDAwithEHM2(hypothesiser).associate, tracks, seen, now))
        jpda = f"{milliseconds(partial(JPDA(hypothesiser).associate, tracks, seen, now)):.1f}" if n <= patience else "-"
        table.add_row(str(n), jpda, f"{ehm2:.2f}", f"{ours:.4f}", f"{ehm2 / ours:.0f}", f"{difference:.1e}")
    Console().print(table)


def main() -> int:
    parser = head.described(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 15], help="numbers of tracks")
    sizes = parser.parse_args().sizes

    table = Table(title="all weights, n x n, ms")
    for column in ("n", "permanents one by one", "ours", "times faster", "largest difference", "ours, with nulls",
                   "their error bound"):  # fmt: skip
        table.add_column(column, justify="right")
    rng = np.random.default_rng(0)
    for n in sizes:
        Q = rng.uniform(0.01, 1.0, (n, n))
        log_Q, never, null = np.log(Q), np.full(n, -np.inf), np.full(n, -2.0)
        theirs = milliseconds(lambda Q=Q: weights_by_permanents(Q))
        ours = milliseconds(lambda log_Q=log_Q, never=never: association_weights(log_Q, never, never))
        nulls = milliseconds(lambda log_Q=log_Q, null=null: association_weights(log_Q, null, null))
        difference = np.abs(association_weights(log_Q, never, never).weights - weights_by_permanents(Q)).max()
        bound = association_weights(log_Q, null, null).error_bound
        row = (
            f"{theirs:.4f}",
            f"{ours:.4f}",
            f"{theirs / ours:.1f}",
            f"{difference:.1e}",
            f"{nulls:.4f}",
            f"{bound:.0e}",
        )
        table.add_row(str(n), *row)
    Console().print(table)
    gated(rng)
    ambiguous(rng)
    if find_spec("stonesoup") and find_spec("pyehm"):
        against_stone_soup([3, 5, 10, 20], 5)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
