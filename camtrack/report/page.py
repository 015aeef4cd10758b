"""`camtrack report`: runs side by side as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from camtrack.evaluation.nuscenes import submissions
from camtrack.evaluation.run import Evaluation, LoadedTracks, Rules, detection_curve, load_tracks, score_loaded
from camtrack.evaluation.view import InView, evaluate_view
from camtrack.offline.task import TIMES
from camtrack.report.charts import bars, curves, latencies, table, timeline
from camtrack.report.moments import Moment, as_data, worst_moments
from camtrack.report.space import read_submissions
from camtrack_core.errors import DataError
from camtrack_core.evaluation.breakdown import (
    Bin,
    JudgedFrame,
    by_distance,
    by_height,
    by_visibility,
    judge_sequence,
)
from camtrack_core.evaluation.tracking import TrackingScores
from camtrack_core.evaluation.uadetrac_pr import Curve
from camtrack_core.evaluation.view import BANDS, LIMITS
from camtrack_core.files import named, write_whole
from camtrack_core.geometry.boxes import Floats

GENERATOR = "<title>camtrack report</title>"  # tells a report from other pages
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
LOW_IS_GOOD = ("misses", "false_positives", "id_switches", "fragmentations", "mostly_lost")
SPATIAL = {"sAMOTA": "samota", "AMOTA": "amota", "AMOTP": "amotp", "MOTA in space": "mota", "MOTP in space": "motp"}
COMPARED = ("hota", "mota", "idf1")
RESAMPLES = 2000
PR_IOU = 0.5
MOMENTS = 6  # shown of a run
SHOWN_VIEWS = ("vehicle", "pedestrian")  # groups of classes whose depth and error by distance are drawn
LIVES = 30  # objects on a timeline
IN_SPACE = (
    "<p>In space: a track is right whose centre lies less than 2 m from an object's on the ground, where MOTP is .5; "
    "at no distance it is 1. False tracks have no box in the pictures.</p>"
)
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.25em .8em;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}.best{font-weight:bold}svg{max-width:100%;height:auto}"
    ".moments{display:flex;flex-wrap:wrap;gap:1em}.moments label{cursor:zoom-in;width:16em}"
    ".moments label:has(:checked){width:auto}"
    ".moments img{width:16em;display:block}.moments input{position:absolute;opacity:0}"
    ".moments input:focus-visible+img{outline:3px solid #3366aa}"
    ".moments input:checked+img{width:min(70em,92vw);cursor:zoom-out}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}svg text{fill:#ddd}td,th{border-color:#444}}"
)


@dataclass(frozen=True)
class ReportedRun:
    """A run on the page.

    Attributes:
        name: of its folder.
        evaluation: its scores.
        curve: precision and recall of its boxes in the image, ids not looked at; None on KITTI, whose boxes have
            classes, and in space.
        loaded: its sequences; judged: what became of every object in them.
        moments: its worst frames.
        milliseconds: (F,) float, time of every frame; empty where the run did not write it down.
        in_space: whether it is of nuScenes submissions, matched by the distance of centres.
        view: scores against what the cameras can see, by class; empty where the run or the truth is not in space.
    """

    name: str
    evaluation: Evaluation
    curve: Curve | None
    loaded: list[LoadedTracks]
    judged: list[list[JudgedFrame]]
    moments: list[Moment]
    milliseconds: Floats
    in_space: bool
    view: dict[str, InView]


def write_report(
    runs: list[Path], truth: list[str], out: Path, rules: Rules, images: Path | None = None
) -> list[ReportedRun]:
    """Scores the runs and writes the page and, into the folder `images`, the worst moments as PNG.

    Raises:
        DataError: as evaluate_tracks and read_submissions do, two runs bear one name, one is in space and another
            not, or the page cannot be written.
    """
    names = [path.resolve().name for path in runs]
    if len(set(names)) < len(names):
        raise DataError(f"expected runs of different names, got {', '.join(names)}")
    if len({bool(submissions(path)) for path in runs}) > 1:
        raise DataError("expected runs of texts or runs of submissions, got both: their scores do not compare")
    reported = [read_run(name, path, truth, rules) for name, path in zip(names, runs, strict=True)]
    text = page(reported)
    try:
        if out.exists() and GENERATOR not in out.read_text(errors="replace"):
            raise DataError(f"{out} is there already and is no report of camtrack; expected the name of another file")
        write_whole(out, text)
        if images is not None:
            images.mkdir(parents=True, exist_ok=True)
            for run in reported:
                _write_images(run, images)
    except OSError as error:
        raise DataError(f"cannot write the report {out}: {error.strerror}") from error
    return reported


def read_run(name: str, path: Path, truth: list[str], rules: Rules) -> ReportedRun:
    """Everything that the page shows of a run. Raises DataError as evaluate_tracks and read_submissions do."""
    in_space = bool(submissions(path))
    if in_space:
        loaded, judged, evaluation = read_submissions(path, truth, rules)
    else:
        loaded = load_tracks(path, truth, rules)
        judged = [judge_sequence(one.frames, one.min_track_height) for one in loaded]
        evaluation = score_loaded(loaded, rules)
    return ReportedRun(
        name,
        evaluation,
        None if in_space else detection_curve(loaded, PR_IOU),
        loaded,
        judged,
        worst_moments(loaded, judged, MOMENTS),
        np.concatenate([read_times(one.file) for one in loaded]),
        in_space,
        _view_of(path, truth),
    )


def _view_of(path: Path, truth: list[str]) -> dict[str, InView]:
    try:
        return evaluate_view(path, truth)
    except DataError:  # tracks in the image, or a truth without boxes in space: the page goes without
        return {}


def read_times(file: Path) -> Floats:
    """Milliseconds of each frame, which lie beside the tracks; empty where they do not, or are broken."""
    try:
        values = np.array(file.with_suffix(TIMES).read_text().split(), float)
    except (OSError, ValueError):
        return np.zeros(0)
    return values[np.isfinite(values)]


def page(runs: list[ReportedRun]) -> str:
    """The whole page."""
    first, names = runs[0].evaluation, [run.name for run in runs]
    errors = [
        [getattr(run.evaluation.combined, e) / max(first.combined.truth, 1) for e in ERRORS.values()] for run in runs
    ]
    parts = [
        f"<h1>{escape(' · '.join(names))}</h1>",
        f"<p>{_counted(len(first.sequences), 'sequence')}, {_counted(first.combined.frames, 'frame')}, "
        f"{first.combined.truth} objects to be found.</p>",
        *([IN_SPACE] if runs[0].in_space else []),
        "<h2>Scores</h2>",
        _score_table(runs),
        *(["<h2>What changed</h2>", _changes(runs)] if len(runs) > 1 else []),
        "<h2>Errors</h2>",
        bars("share of objects", list(ERRORS), errors, names),
        *_breakdowns(runs),
        *_views(runs),
    ]
    if any(run.curve for run in runs):
        parts += ["<h2>Precision and recall of boxes</h2>", curves([run.curve for run in runs], names)]
    if any(len(run.milliseconds) for run in runs):
        parts += ["<h2>Latency</h2>", latencies([run.milliseconds for run in runs], names)]
    parts += [
        "<h2>Sequences</h2>",
        bars("HOTA", list(first.sequences), [_each(run.evaluation, "hota") for run in runs], names),
        _sequence_table(runs),
        "<h2>Life of the objects</h2>",
        "<p>Of the sequence with most errors, the objects with most of them: coloured by the track that found them, "
        "grey where none did.</p>",
        *(part for run in runs for part in _timelines(run)),
        "<h2>Worst moments</h2>",
        "<p>Red: missed. Orange: false. Magenta: another track than before. Green: right. A click enlarges.</p>",
        *(part for run in runs for part in _moments(run)),
    ]
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{GENERATOR}'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def summary(runs: list[ReportedRun]) -> list[dict[str, Any]]:
    """Scores, means over sequences with their intervals, and changes against the first run, for JSON."""
    rows = []
    for run in runs:
        each = {name: np.array(_each(run.evaluation, name)) for name in COMPARED}
        means = {name: (float(values.mean()), *interval(values)) for name, values in each.items()}
        first = runs[0].evaluation
        changes = {name: paired_interval(*_pair(first, run.evaluation, name)) for name in COMPARED}
        scores = asdict(run.evaluation.combined)
        rows.append({"name": run.name, "scores": scores, "means": means, "changes": changes})
    return rows


def interval(values: Floats, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over sequences (N,) by bootstrap over the sequences."""
    rows = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[rows].mean(1), [2.5, 97.5])
    return float(low), float(high)


def paired_interval(a: Floats, b: Floats, seed: int = 0) -> tuple[float, float, float]:
    """Mean of b - a over sequences (N,) and its 95 % interval by bootstrap over the sequences."""
    return float((b - a).mean()), *interval(b - a, seed)


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _each(evaluation: Evaluation, name: str) -> list[float]:
    return [float(getattr(scores, name)) for scores in evaluation.sequences.values()]


def _pair(a: Evaluation, b: Evaluation, name: str) -> tuple[Floats, Floats]:
    return np.array(_each(a, name)), np.array(_each(b, name))


# -------------------------------------------------------------------------------------------------- tables


def _score_table(runs: list[ReportedRun]) -> str:
    rows, best = [], []
    for label, field in {**SHARES, **COUNTS}.items():
        values = [float(getattr(run.evaluation.combined, field)) for run in runs]
        texts = [f"{value:.4f}" if label in SHARES else f"{value:.0f}" for value in values]
        good = texts[values.index(min(values) if field in LOW_IS_GOOD else max(values))]
        rows.append([label, *(_with_interval(t, field, run) for t, run in zip(texts, runs, strict=True))])
        best.append({k for k, t in enumerate(texts, start=1) if t == good} if len(set(texts)) > 1 else set())
    for label, field in SPATIAL.items():
        spatial = [run.evaluation.spatial for run in runs]
        known = [f"{getattr(scores, field):.4f}" for scores in spatial if scores is not None]
        texts = ["" if scores is None else f"{getattr(scores, field):.4f}" for scores in spatial]
        if known:
            rows.append([label, *texts])
            good = max(known, key=float)
            best.append({k for k, t in enumerate(texts, start=1) if t == good} if len(set(texts)) > 1 else set())
    several = len(runs[0].evaluation.sequences) > 1
    note = "<p>Behind some scores: the mean over sequences with its 95 % interval, by bootstrap.</p>"
    return table(["", *(run.name for run in runs)], rows, best) + (note if several else "")


def _with_interval(text: str, field: str, run: ReportedRun) -> str:
    if field not in COMPARED or len(run.evaluation.sequences) < 2:
        return text
    values = np.array(_each(run.evaluation, field))
    low, high = interval(values)
    return f"{text}; mean {values.mean():.4f} [{low:.3f}, {high:.3f}]"


def _changes(runs: list[ReportedRun]) -> str:
    rows, one = [], len(runs[0].evaluation.sequences) < 2
    for run in runs[1:]:
        for name in COMPARED:
            mean, low, high = paired_interval(*_pair(runs[0].evaluation, run.evaluation, name))
            word = "better" if low > 0 else "worse" if high < 0 else "not certain" if low < high else "equal"
            certainty = [] if one else [f"{low:+.4f} to {high:+.4f}", word]
            rows.append([run.name, name.upper(), f"{mean:+.4f}", *certainty])
    if one:
        head = [f"against {runs[0].name}", "score", "change"]
        return table(head, rows) + "<p>One sequence does not tell how certain this is.</p>"
    head = [f"against {runs[0].name}", "score", "mean over sequences", "95 % interval", ""]
    return table(head, rows) + "<p>Intervals by bootstrap over the sequences.</p>"


def _breakdowns(runs: list[ReportedRun]) -> list[str]:
    parts = []
    kinds = {"distance": "distance", "height in the image": "height", "share seen": "visibility"}
    if runs[0].in_space:  # where false tracks have no height
        del kinds["height in the image"]
    for title, kind in kinds.items():
        found = [_bins(run, kind) for run in runs]
        rows = [k for k, one in enumerate(found[0]) if any(bins[k].objects or bins[k].false for bins in found)]
        if len(rows) > 1:
            labels = [f"{found[0][k].label} ({found[0][k].objects})" for k in rows]
            rates = [[bins[k].miss_rate for k in rows] for bins in found]
            parts += [f"<h3>By {title}</h3>", bars("share missed", labels, rates, [run.name for run in runs])]
            columns = ("missed", "switched", "false") if kind == "height" else ("missed", "switched")
            head = ["", *(f"{run.name} {what}" for run in runs for what in columns)]
            cells = [[found[0][k].label, *(t for bins in found for t in _cells(bins[k]))] for k in rows]
            parts.append(table(head, cells))
    return parts


def _views(runs: list[ReportedRun]) -> list[str]:
    """Average precision, and by distance depth, error and recall, of the classes that all runs have scores of."""
    if not all(run.view for run in runs):
        return []
    names = [run.name for run in runs]
    columns = ("2D AP50", *(f"AP {limit:g} m" for limit in LIMITS))
    head = ["", "objects", *(f"{name} {column}" for name in names for column in columns)]
    rows = []
    for group, first in runs[0].view.items():
        scores = [run.view[group].scores for run in runs]
        values = [f"{x:.3f}" for one in scores for x in (one.ap2d, *one.ap)]
        rows.append([group, str(first.scores.asked.sum()), *values])
    parts = ["<h2>What the cameras can see</h2>", table(head, rows)]
    for group in [name for name in SHOWN_VIEWS if name in runs[0].view]:
        scores = [run.view[group].scores for run in runs]
        kept = [k for k in range(len(BANDS) - 1) if all(np.isfinite(one.depth_ratio[k]) for one in scores)]
        labels = [f"{BANDS[k]:g} to {BANDS[k + 1]:g} m ({scores[0].asked[k]})" for k in kept]
        charts = {
            "found / true depth, median": [one.depth_ratio[kept].tolist() for one in scores],
            "error of what is found, median, m": [np.nan_to_num(one.error[kept]).tolist() for one in scores],
            f"recall at {LIMITS[2]:g} m": [np.nan_to_num(one.recall[2, kept]).tolist() for one in scores],
        }
        if kept:
            drawn = [bars(title, labels, values, names) for title, values in charts.items()]
            parts += [f"<h3>{group} by distance</h3>", *drawn]
    return parts


def _cells(one: Bin) -> list[str]:
    return [str(n) for n in (one.misses, one.switches, one.false) if n is not None]


def _bins(run: ReportedRun, kind: str) -> list[Bin]:
    frames = [frame for judged in run.judged for frame in judged]
    truth = [t for one in run.loaded for t in one.truth]
    if kind == "height":
        return by_height(frames)
    return by_distance(frames, truth) if kind == "distance" else by_visibility(frames, truth)


def _sequence_table(runs: list[ReportedRun]) -> str:
    def cells(scores: TrackingScores) -> Sequence[str]:
        return f"{scores.hota:.3f}", f"{scores.mota:.3f}", str(scores.id_switches)

    head = ["sequence", *(f"{run.name} {label}" for run in runs for label in ("HOTA", "MOTA", "IDs"))]
    names = list(runs[0].evaluation.sequences)
    rows = [[name, *(c for run in runs for c in cells(run.evaluation.sequences[name]))] for name in names]
    return table(head, rows)


# ------------------------------------------------------------------------------------- lives and moments


def _timelines(run: ReportedRun) -> list[str]:
    worst = max(range(len(run.judged)), key=lambda s: sum(frame.errors for frame in run.judged[s]))
    name = run.loaded[worst].sequence.name
    return [f"<h3>{escape(run.name)}, {escape(name)}</h3>", timeline(run.judged[worst], LIVES)]


def _moments(run: ReportedRun) -> list[str]:
    parts = [f"<h3>{escape(run.name)}</h3>", '<div class="moments">']
    for moment in run.moments:
        what = f"{moment.missed} missed, {moment.false} false, {moment.switched} switched"
        caption = escape(f"{moment.sequence}, frame {moment.number}: {what}")
        if moment.image is None:
            parts.append(f"<p>{caption}; the recording has no images here</p>")
            continue
        picture = f'<img alt="{caption}" src="{as_data(moment.image)}"/>'
        parts.append(f'<label><input type="checkbox"/>{picture}<span>{caption}</span></label>')
    return [*parts, "</div>" if run.moments else "no errors</div>"]


def _write_images(run: ReportedRun, folder: Path) -> None:
    """Raises OSError."""
    for moment in run.moments:
        if moment.image is not None:
            data = cv2.imencode(".png", moment.image)[1].tobytes()
            named(folder, f"{run.name}-{moment.sequence}-{moment.number:06d}.png").write_bytes(data)
