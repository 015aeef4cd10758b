"""`camtrack report`: runs side by side as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from camtrack.evaluate import Evaluation, Rules, detection_curve, evaluate_tracks
from camtrack_core.boxes import Floats
from camtrack_core.errors import DataError
from camtrack_core.evaluation.tracking import TrackingScores
from camtrack_core.evaluation.uadetrac_pr import Curve

COLOURS = ("#3366aa", "#cc6633", "#339966", "#aa3377", "#888833", "#666666")
SHARES = {
    "HOTA": "hota", "DetA": "det_a", "AssA": "ass_a", "MOTA": "mota", "IDF1": "idf1", "recall": "recall",
    "precision": "precision", "MOTP": "motp",
}  # fmt: skip
ERRORS = {"misses": "misses", "false alarms": "false_positives", "id switches": "id_switches"}
COUNTS = {
    **ERRORS,
    "fragmentations": "fragmentations",
    "mostly tracked": "mostly_tracked",
    "mostly lost": "mostly_lost",
}
COMPARED = ("hota", "mota", "idf1")
RESAMPLES = 2000
PR_IOU = 0.5
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.25em .8em;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}.best{font-weight:bold}svg{max-width:100%;height:auto}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}svg text{fill:#ddd}td,th{border-color:#444}}"
)


@dataclass(frozen=True)
class ReportedRun:
    """A run on the page.

    Attributes:
        name: of its folder.
        evaluation: its scores.
        curve: precision and recall of its boxes, ids not looked at; None on KITTI, whose boxes have classes.
    """

    name: str
    evaluation: Evaluation
    curve: Curve | None


def write_report(runs: list[Path], truth: list[str], out: Path, rules: Rules) -> None:
    """Scores the runs and writes the page.

    Raises:
        DataError: as evaluate_tracks does, two runs bear one name, or the page cannot be written.
    """
    names = [path.resolve().name for path in runs]
    if len(set(names)) < len(names):
        raise DataError(f"expected runs of different names, got {', '.join(names)}")
    reported = [
        ReportedRun(name, evaluate_tracks(path, truth, rules), detection_curve(path, truth, PR_IOU))
        for name, path in zip(names, runs, strict=True)
    ]
    try:
        out.write_text(page(reported))
    except OSError as error:
        raise DataError(f"cannot write the report {out}: {error.strerror}") from error


def page(runs: list[ReportedRun]) -> str:
    """The whole page."""
    count = len(runs[0].evaluation.sequences)
    parts = [
        f"<h1>{escape(' · '.join(run.name for run in runs))}</h1>",
        f"<p>{count} sequences, {runs[0].evaluation.combined.frames} frames, "
        f"{runs[0].evaluation.combined.truth} objects to be found.</p>",
        "<h2>Scores</h2>",
        _score_table(runs),
        *(["<h2>What changed</h2>", _changes(runs)] if len(runs) > 1 else []),
        "<h2>Errors</h2>",
        _bars("share of objects", list(ERRORS), [_errors(run.evaluation.combined) for run in runs], runs),
        *(["<h2>Precision and recall of boxes</h2>", _curves(runs)] if any(run.curve for run in runs) else []),
        "<h2>Sequences</h2>",
        _bars("HOTA", list(runs[0].evaluation.sequences), [_each(run, "hota") for run in runs], runs),
        _sequence_table(runs),
    ]
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>camtrack report</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def paired_interval(a: Floats, b: Floats, seed: int = 0) -> tuple[float, float, float]:
    """Mean of b - a over sequences (N,) and its 95 % interval by bootstrap over the sequences."""
    difference = b - a
    rows = np.random.default_rng(seed).integers(0, len(difference), (RESAMPLES, len(difference)))
    low, high = np.percentile(difference[rows].mean(1), [2.5, 97.5])
    return float(difference.mean()), float(low), float(high)


def _each(run: ReportedRun, name: str) -> list[float]:
    return [float(getattr(scores, name)) for scores in run.evaluation.sequences.values()]


def _errors(scores: TrackingScores) -> list[float]:
    return [getattr(scores, name) / max(scores.truth, 1) for name in ERRORS.values()]


# -------------------------------------------------------------------------------------------------- tables


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    lines = ["".join(f"<th>{cell}</th>" for cell in head)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _score_table(runs: list[ReportedRun]) -> str:
    rows = [_row(label, field, runs, lambda v: f"{v:.4f}") for label, field in SHARES.items()]
    rows += [_row(label, field, runs, lambda v: f"{v:.0f}") for label, field in COUNTS.items()]
    return _table(["", *(escape(run.name) for run in runs)], rows)


def _row(label: str, field: str, runs: list[ReportedRun], text: Callable[[float], str]) -> list[str]:
    values = [float(getattr(run.evaluation.combined, field)) for run in runs]
    low_is_good = field in (*ERRORS.values(), "fragmentations", "mostly_lost")
    best = min(values) if low_is_good else max(values)
    marked = len(set(values)) > 1
    return [label, *(f'<span class="best">{text(v)}</span>' if marked and v == best else text(v) for v in values)]


def _changes(runs: list[ReportedRun]) -> str:
    rows = []
    for run in runs[1:]:
        for name in COMPARED:
            first, other = np.array(_each(runs[0], name)), np.array(_each(run, name))
            mean, low, high = paired_interval(first, other)
            word = "better" if low > 0 else "worse" if high < 0 else "not certain"
            rows.append([escape(run.name), name.upper(), f"{mean:+.4f}", f"{low:+.4f} to {high:+.4f}", word])
    head = ["against " + escape(runs[0].name), "score", "mean over sequences", "95 % interval", ""]
    return _table(head, rows) + "<p>Intervals by bootstrap over the sequences.</p>"


def _sequence_table(runs: list[ReportedRun]) -> str:
    names = list(runs[0].evaluation.sequences)
    head = ["sequence", *(f"{escape(run.name)} {label}" for run in runs for label in ("HOTA", "MOTA", "IDs"))]
    rows = []
    for name in names:
        cells = [escape(name)]
        for run in runs:
            scores = run.evaluation.sequences[name]
            cells += [f"{scores.hota:.3f}", f"{scores.mota:.3f}", str(scores.id_switches)]
        rows.append(cells)
    return _table(head, rows)


# ------------------------------------------------------------------------------------------------ pictures


def _legend(runs: list[ReportedRun], x: float) -> str:
    entries = []
    for k, run in enumerate(runs):
        entries.append(f'<rect x="{x}" y="{8 + 18 * k}" width="12" height="12" fill="{_colour(k)}"/>')
        entries.append(f'<text x="{x + 18}" y="{18 + 18 * k}">{escape(run.name)}</text>')
    return "".join(entries)


def _colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]


def _bars(title: str, labels: list[str], values: list[list[float]], runs: list[ReportedRun]) -> str:
    """Groups of horizontal bars, a group a label and a bar a run; negative values have none."""
    thickness, gap = 12, 10
    group = thickness * len(runs) + gap
    top, height = 24, 24 + group * len(labels)
    scale = 420 / max(1e-9, *(v for row in values for v in row))
    shapes = [f'<text x="170" y="14" font-weight="bold">{escape(title)}</text>']
    for i, label in enumerate(labels):
        y = top + i * group
        shapes.append(f'<text x="160" y="{y + group / 2}" text-anchor="end">{escape(label)}</text>')
        for k in range(len(runs)):
            value, row = values[k][i], y + k * thickness
            length = max(value, 0) * scale
            bar = f'<rect x="170" y="{row}" width="{length:.1f}" height="{thickness - 2}" fill="{_colour(k)}"/>'
            shapes += [bar, f'<text x="{175 + length:.1f}" y="{row + 9}" font-size="10">{value:.3f}</text>']
    return _svg(860, max(height, 18 * len(runs) + 12), [*shapes, _legend(runs, 670)])


def _curves(runs: list[ReportedRun]) -> str:
    """Precision over recall."""
    left, top, side = 60, 20, 360
    shapes = [f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#999"/>']
    for tick in np.linspace(0, 1, 6):
        x, y = left + tick * side, top + (1 - tick) * side
        shapes.append(f'<text x="{x:.0f}" y="{top + side + 16}" text-anchor="middle">{tick:.1f}</text>')
        shapes.append(f'<text x="{left - 8}" y="{y + 5:.0f}" text-anchor="end">{tick:.1f}</text>')
    for k, run in enumerate(runs):
        if run.curve is not None:
            points = " ".join(
                f"{left + r * side:.1f},{top + (1 - p) * side:.1f}"
                for r, p in zip(run.curve.recall, run.curve.precision, strict=True)
            )
            shapes.append(f'<polyline points="{points}" fill="none" stroke="{_colour(k)}" stroke-width="2"/>')
    shapes.append(f'<text x="{left + side / 2}" y="{top + side + 34}" text-anchor="middle">recall</text>')
    return _svg(860, top + side + 44, [*shapes, _legend(runs, 450)])


def _svg(width: float, height: float, shapes: list[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" font-size="13">{"".join(shapes)}</svg>'
