"""Tables VII to IX of the paper, run again: the ambiguity check, gating, and the time of permanents and weights.

    python benchmarks/pkf_paper_tables.py [--data FOLDER] [--seeds 200] [--patience 5]

Table VII is on MOT17 and DanceTrack in the paper and on the recordings of benchmarks/pkf_tracking.py here, with the
paper's tracker as `pkf_filter.baselines.paper` has it: rows compare within a column, not with the paper's. "Without
check" means that all pairs of boxes that touch are weighed, however little; the paper then lists permanents where we
have dynamic programming, hence its times. Table VIII is one run in the paper and a mean over seeds here; its JPDAF is
the paper's, which takes no track as missed. The paper does not say which score the check ranks where points have no
IoU: here it is the likelihood. Table IX: n x n uniform random numbers, where every row and every column is paired."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import head
import numpy as np
from head import ROOT
from pkf_tracking import RECORDINGS, score
from pkf_weights import milliseconds, permanent, weights_by_permanents
from rich.console import Console
from rich.table import Table
from simulation import LOST, errors, none_missed, standard_error

from camtrack_core.geometry.boxes import Floats as Array
from pkf_filter import association_weights
from pkf_filter.baselines.paper import PaperConfig, PaperTracker, ambiguous, matched
from pkf_filter.filtering import estimators
from pkf_filter.filtering.estimators import Estimator, Hypotheses
from pkf_filter.filtering.update import pkf_update

NEVER, ALWAYS = 2.0, 0.0  # thresholds of the check at which nothing, and everything, is ambiguous
TRACKERS = {
    "binary": PaperConfig(ambiguity_threshold=NEVER),
    "PKF without check": PaperConfig(ambiguity_threshold=ALWAYS, weight_threshold=0.0),
    "PKF": PaperConfig(),
}
TABLE_7 = {  # HOTA, IDF1, ms a frame on MOT17 and DanceTrack
    "binary": ("64.9", "76.9", "5.9", "47.8", "48.3", "3.4"),
    "PKF without check": ("44.9", "52.8", "4970.6", "44.2", "45.2", "121.2"),
    "PKF": ("66.8", "78.5", "6.2", "53.5", "53.3", "3.7"),
}
TABLE_8 = {"binary": "14.20", "JPDAF without gating": "15.21", "JPDAF with gating": "0.66", "JPDAF with check": "0.79"}
TABLE_9 = {5: ("0.003", "0.03"), 10: ("0.01", "0.2"), 15: ("2.0", "14.5"), 20: ("26.5", "1073.6")}
TABLE_9[30] = ("67.8 (sampled)", "1766.6")
GROWTH = 2.2  # time of a permanent from one size to the next


def table_7(data: Path) -> None:
    table = Table("", title="Table VII: HOTA, IDF1, mean ms a frame")
    columns: dict[str, list[str]] = {name: [] for name in TRACKERS}
    for folder, title, read, names, min_track_height, _ in RECORDINGS:
        if not (data / folder).is_dir():
            print(f"skipped {title}: expected {data / folder}; set CAMTRACK_DATA or --data")
            continue
        table.add_column(title)
        sequences = {name: read(data / folder, name) for name in names}
        for name, config in TRACKERS.items():
            found = score(sequences, min_track_height, partial(PaperTracker, config))
            columns[name].append(f"{found['hota']:.1f}, {found['idf1']:.1f}, {found['ms_mean']:.2f}")
    table.add_column("paper: MOT17")
    table.add_column("DanceTrack")
    for name, found in columns.items():
        paper = TABLE_7[name]
        table.add_row(name, *found, ", ".join(paper[:3]), ", ".join(paper[3:]))
    Console(width=170).print(table)


def checked(
    mean: Array, covariance: Array, H: Array, V: Array, measurements: Array, hypotheses: Hypotheses
) -> tuple[Array, Array]:
    """The paper's JPDAF of what the ambiguity check (Sec. V-A) marks; the rest is paired by the best total score."""
    weights = np.zeros(hypotheses.log_likelihood.shape)
    for run in np.ndindex(weights.shape[:-2]):
        log_likelihood = hypotheses.log_likelihood[run]
        scores = np.exp(log_likelihood)
        matches = matched(scores, np.nextafter(0.0, 1.0))
        rows, columns = ambiguous(scores, matches, PaperConfig().ambiguity_threshold)
        for k, j in matches:
            weights[run][k, j] = not rows[k]
        part = np.ix_(rows, columns)
        problem = log_likelihood[part], hypotheses.log_clutter[run][rows], hypotheses.log_missed[run][columns]
        weights[run][part] = association_weights(*problem).weights
    total = weights.sum(-2, keepdims=True)
    return pkf_update(mean, covariance, H, V, measurements, weights / np.where(total > 0, total, 1.0), "mixture")


def table_8(seeds: int) -> None:
    filters: dict[str, tuple[Estimator, float]] = {  # and the share of measurements within the gate
        "binary": (estimators.nearest, 1.0),
        "JPDAF without gating": (none_missed, 1.0),
        "JPDAF with gating": (none_missed, 0.95),
        "JPDAF with check": (checked, 1.0),
    }
    columns = ("object 1", "2", "3", "4", "5", "mean (standard error)", "median of objects", "failed", "paper, one run")
    table = Table("", *columns, title=f"Table VIII: mean error of five objects, {seeds} seeds")
    for name, (estimator, gate) in filters.items():
        found = errors(estimator, 5, 0.75, 0.9, seeds, gate)
        runs = found.mean(1)
        summary = f"{runs.mean():.2f} ({standard_error(runs):.2f})", f"{np.median(found):.2f}"
        each = [f"{error:.2f}" for error in found.mean(0)]
        table.add_row(name, *each, *summary, f"{100 * (found > LOST).mean():.1f} %", TABLE_8[name])
    Console(width=170).print(table)


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def table_9(patience: float) -> None:
    """A cell that is expected to take longer than `patience` seconds is left out."""
    columns = ("n", "paper: permanent", "here", "paper: weights", "by permanents here", "ours", "exact")
    table = Table(*columns, title="Table IX: ms")
    rng = np.random.default_rng(0)
    permanent(np.ones((2, 2))), weights_by_permanents(np.ones((2, 2)))  # compiled before anything is timed
    expected, before = 0.0, 0
    for n, paper in TABLE_9.items():
        Q = rng.uniform(0.01, 1.0, (n, n))
        never, one, all_weights = np.full(n, -np.inf), "-", "-"
        expected *= GROWTH ** (n - before)
        if expected < patience:
            expected = seconds(partial(permanent, Q))
            one = f"{milliseconds(partial(permanent, Q)):.4f}"
        if expected * n**2 < patience:
            all_weights = f"{milliseconds(partial(weights_by_permanents, Q)):.4f}"
        before = n
        ours = milliseconds(partial(association_weights, np.log(Q), never, never))
        bound = association_weights(np.log(Q), never, never).error_bound
        exact = "yes" if bound == 0.0 else f"no, within {bound:.0e}" if bound < 1.0 else "no, without bound"
        table.add_row(str(n), paper[0], one, paper[1], all_weights, f"{ours:.4f}", exact)
    Console(width=170).print(table)


def main() -> int:
    parser = head.described(__doc__)
    default = Path(os.environ.get("CAMTRACK_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default, help="folder with kitti_tracking and mot15")
    parser.add_argument("--seeds", type=int, default=200, help="runs of Table VIII")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds for one cell of Table IX")
    arguments = parser.parse_args()
    table_7(arguments.data)
    table_8(arguments.seeds)
    table_9(arguments.patience)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
