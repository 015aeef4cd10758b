"""What `camtrack evaluate` prints: tables, or JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from camtrack.evaluation.nuscenes import evaluate_submissions, submissions
from camtrack.evaluation.run import (
    ALL,
    Evaluation,
    Rules,
    evaluate_along,
    evaluate_detections,
    evaluate_tracks,
    read_splits,
)
from camtrack.evaluation.view import evaluate_view
from camtrack_core.commands import make_console, print_json
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.evaluation.kitti.kitti3d import Scores3D
from camtrack_core.evaluation.nuscenes.devkit import Task
from camtrack_core.evaluation.view import BANDS, LIMITS

__all__ = [
    "Rules",
    "check_options",
    "run_along",
    "run_detections",
    "run_official",
    "run_tracks",
    "run_view",
    "submissions",
]
# Options that apply to each kind of predictions, of those that not all have.
OPTIONS = {
    "submissions of nuScenes": {"detections", "eval_set"},
    "tracks along --pr-curve": {"pr_curve", "kind", "min_height", "min_visible"},
    "--detections": {"detections", "iou", "split"},
    "tracks": {"kind", "min_height", "min_visible"},
    "--view": {"view"},
}
WIDEST = 1000  # columns that a table may need
SHARES = {
    "HOTA": "hota", "DetA": "det_a", "AssA": "ass_a", "MOTA": "mota", "IDF1": "idf1", "Rcll": "recall",
    "Prcn": "precision", "MOTP": "motp",
}  # fmt: skip
COUNTS = {
    "IDs": "id_switches", "Frag": "fragmentations", "FN": "misses", "FP": "false_positives", "MT": "mostly_tracked",
    "ML": "mostly_lost",
}  # fmt: skip


def check_options(kind: str, given: set[str]) -> None:
    """Raises ConfigurationError where one of the parameters given does not apply to a kind of predictions."""
    wrong = sorted(given & set().union(*OPTIONS.values()) - OPTIONS[kind])
    if wrong:
        raise ConfigurationError(f"--{wrong[0].replace('_', '-')} does not apply to {kind}")


def run_official(files: list[Path], truth: list[str], task: Task, eval_set: str, as_json: bool) -> None:
    """nuScenes' scores of submissions."""
    console = make_console(stderr=True)
    found = evaluate_submissions(files, truth, task, eval_set, lambda text: console.print(text))
    if as_json:
        print_json(asdict(found))
        return
    console = make_console()
    names = list(next(iter(found.classes.values()), {}))
    table = Table("class", *names)
    for name, scores in found.classes.items():
        table.add_row(name, *("" if math.isnan(value) else _text(value) for value in scores.values()))
    _print_whole(console, table)
    console.print(", ".join(f"{name} {_text(value)}" for name, value in found.scores.items()))
    missing = f", {found.missing} of them not in the submission and taken as empty" if found.missing else ""
    left_out = f"; {found.left_out} submitted key frames of other scenes left out" if found.left_out else ""
    console.print(f"{found.samples} key frames of {found.eval_set}{missing}{left_out}")


def run_view(predictions: Path, truth: list[str], as_json: bool) -> None:
    """Scores against what the cameras can see."""
    found = evaluate_view(predictions, truth)
    if as_json:
        print_json({name: _plain(asdict(scores)) for name, scores in found.items()})
        return
    console = make_console()
    limits = ", ".join(f"{limit:g}" for limit in LIMITS)
    table = Table("class", "objects", "2D AP50", f"AP at {limits} m", "HOTA", "AMOTA")
    for name, one in found.items():
        pairs = zip(one.scores.ap, one.errors.ap, strict=True)
        table.add_row(name, str(one.scores.asked.sum()), f"{one.scores.ap2d:.3f} ± {one.errors.ap2d:.3f}",
                      ", ".join(f"{ap:.3f} ± {error:.3f}" for ap, error in pairs), f"{one.hota:.3f}",
                      f"{one.amota:.3f}")  # fmt: skip
    _print_whole(console, table)
    table = Table("class", "distance m", "objects", "found / true depth", "error m", f"recall at {limits} m")
    for name, one in found.items():
        for k, (near, far) in enumerate(pairwise(BANDS)):
            if one.scores.asked[k]:
                recall = ", ".join(f"{x:.2f}" for x in one.scores.recall[:, k])
                table.add_row(name, f"{near:g} to {far:g}", str(one.scores.asked[k]),
                              f"{one.scores.depth_ratio[k]:.2f} ± {one.errors.depth_ratio[k]:.2f}",
                              f"{one.scores.error[k]:.2f} ± {one.errors.error[k]:.2f}", recall)  # fmt: skip
    _print_whole(console, table)


def _plain(value: Any) -> Any:
    """Arrays as lists, and NaN, which JSON has not, as null."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value.tolist()]
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def run_tracks(predictions: Path, truth: list[str], rules: Rules, as_json: bool) -> None:
    """Scores of tracks."""
    evaluation = evaluate_tracks(predictions, truth, rules)
    if as_json:
        print_json(asdict(evaluation))
    else:
        console = make_console()
        if evaluation.in_image:
            _print_whole(console, _table(evaluation))
        else:
            console.print("in the image: not scored: no boxes")
        if evaluation.spatial is not None and evaluation.unrounded is not None:
            said, unrounded = _listed(evaluation.spatial), _listed(evaluation.unrounded)
            console.print(f"in space: {said}")
            if unrounded != said:
                console.print(f"without the rounding by which tracks drop out of AB3DMOT's evaluation: {unrounded}")
    if evaluation.in_image:
        _check_counts(evaluation.combined.truth, evaluation.combined.tracks, truth, predictions)


def _listed(scores: Scores3D) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in asdict(scores).items())


def _check_counts(objects: int, found: int, truth: list[str], predictions: Path) -> None:
    """Raises DataError for scores of nothing, which say nothing."""
    if not objects:
        raise DataError(f"{' '.join(truth)}: expected objects to score against, found none")
    if not found:
        raise DataError(f"{predictions}: expected predictions to score, found none that count")


def run_detections(predictions: Path, truth: list[str], iou: float, splits: list[str], as_json: bool) -> None:
    """Average precision of detections."""
    if not 0 < iou <= 1:
        raise ConfigurationError(f"--iou: expected a fraction above 0, got {iou}")
    results = evaluate_detections(predictions, truth, iou, read_splits(splits))
    if as_json:
        print_json({name: {"ap": ap, "objects": count} for name, (ap, count) in results.items()})
    else:
        table = Table("sequences", "objects", f"AP at IoU {iou:g}")
        for name, (ap, count) in results.items():
            table.add_row(name, str(count), f"{ap:.4f}")
        make_console().print(table)
    if not results[ALL][1]:
        raise DataError(f"{' '.join(truth)}: expected objects to score against, found none")


def run_along(predictions: Path, truth: list[str], curve: Path, rules: Rules, as_json: bool) -> None:
    """UA-DETRAC's PR scores."""
    scores = evaluate_along(predictions, truth, curve, rules)
    if as_json:
        print_json(scores)
        return
    table = Table(*scores)
    table.add_row(*(f"{value:.2f}" for value in scores.values()))
    make_console().print(table)


def _table(evaluation: Evaluation) -> Table:
    table = Table("sequence", *SHARES, *COUNTS)
    rows = [*evaluation.sequences.items(), ("combined", evaluation.combined)]
    for name, scores in rows if len(evaluation.sequences) > 1 else rows[:1]:
        values = [f"{getattr(scores, share):.4f}" for share in SHARES.values()]
        table.add_row(name, *values, *(str(getattr(scores, count)) for count in COUNTS.values()))
    return table


def _print_whole(console: Console, table: Table) -> None:
    """On narrow terminals lines are broken rather than names cut."""
    console.width = max(console.width, console.measure(table, options=console.options.update(width=WIDEST)).maximum)
    console.print(table)


def _text(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"
