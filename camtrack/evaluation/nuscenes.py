"""`camtrack evaluate` of nuScenes submissions: the official devkit's scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from camtrack.offline.run import SETTINGS
from camtrack_core.datasets.nuscenes import NuScenesSequence
from camtrack_core.datasets.sources import list_sources, open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.nuscenes.devkit import OfficialScores, Task, official_scores
from camtrack_core.evaluation.nuscenes.submission import best, has_detections, has_tracks, merge


def submissions(predictions: Path) -> list[Path]:
    """The submissions that predictions consist of; none where they are of another form."""
    if predictions.is_dir():
        return sorted(path for path in predictions.glob("*.json") if path.name != SETTINGS)
    return [predictions] if predictions.suffix == ".json" else []


def evaluate_submissions(
    files: list[Path], truth: list[str], task: Task, eval_set: str, say: Callable[[str], None]
) -> OfficialScores:
    """Official scores of submissions for different cameras or scenes together.

    Args:
        files: the submissions.
        truth: one source of nuScenes; scored are all key frames of the set, whatever scene it names. Of joined
            submissions the best boxes of each key frame are, as many as one may have.
        task: tracking or detection.
        eval_set: like mini_val; empty for the one of the version that holds most of the submitted key frames.
        say: told before anything that takes long.

    Raises:
        DataError: the truth is another data set, a submission is broken or of another set, or the devkit refuses it.
    """
    sequences = [open_source(list_sources(spec)[0]) for spec in truth]
    roots = {(s.root, s.version) for s in sequences if isinstance(s, NuScenesSequence)}
    if len(roots) != 1 or len(sequences) != 1:
        raise DataError(f"{files[0]}: expected one source of nuScenes as the truth of a submission, got {truth}")
    root, version = roots.pop()
    records, meta = merge(files)
    found = has_tracks(records) if task == "tracking" else has_detections(records)
    if not found and any(records.values()):
        other = "--detections scores the boxes" if task == "tracking" else "these are tracks alone"
        raise DataError(f"{files[0]}: expected {task} records, got others; {other}")
    if len(files) > 1:
        records = best(records, f"{task}_score")
    return official_scores(task, {"meta": meta, "results": records}, root, version, eval_set, say)
