"""UA-DETRAC's scores of detector and tracker together: CLEAR MOT along the detector's precision-recall curve.

Source: L. Wen et al., "UA-DETRAC: A New Benchmark and Protocol for Multi-Object Detection and Tracking", CVIU 2020.
The tracker runs once for each threshold on the detections' scores; a PR score is half the line integral of the score
along the curve (p, r), so that a perfect score at all recalls and precisions gives one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from camtrack_core.errors import DataError
from camtrack_core.evaluation.tracking import TrackingScores
from camtrack_core.geometry.boxes import Floats

LEAST_IOU = 0.7  # of a detection with the object that it is of
COLUMNS = ("Rcll", "Prcn", "FAR", "MT", "PT", "ML", "FP", "FN", "IDs", "FM", "MOTA", "MOTP", "MOTAL")


@dataclass(frozen=True)
class Curve:
    """A detector's precision and recall at rising thresholds, fractions.

    Attributes:
        recall, precision: (T,) float.
    """

    recall: Floats
    precision: Floats


def read_curve(path: str | Path) -> Curve:
    """A curve in the toolkit's text: recall and precision a line. Raises DataError, naming the file."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
        table = np.array([line.split() for line in lines if line.strip()], float).reshape(-1, 2)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"expected recall and precision a line in {path}, got: {error}") from error
    if len(table) < 2 or not ((table >= 0) & (table <= 1)).all():
        raise DataError(f"{path}: expected two or more pairs of fractions, got {len(table)} lines")
    return Curve(table[:, 0], table[:, 1])


def row(scores: TrackingScores) -> Floats:
    """(13,) the toolkit's columns of one run: fractions in per cent, counts as they are."""
    objects = max(scores.mostly_tracked + scores.partly_tracked + scores.mostly_lost, 1)
    shares = (scores.mostly_tracked / objects, scores.partly_tracked / objects, scores.mostly_lost / objects)
    return np.array(
        [
            100 * scores.recall, 100 * scores.precision, scores.false_positives / max(scores.frames, 1),
            *(100 * share for share in shares),
            scores.false_positives, scores.misses, scores.id_switches, scores.fragmentations,
            100 * scores.mota, 100 * scores.motp, 100 * scores.motal,
        ]
    )  # fmt: skip


def integrate(curve: Curve, rows: Sequence[Floats] | Floats) -> Floats:
    """(K,) half the line integral along the curve of scores (T, K), a row a threshold.

    Raises DataError where the two are of different lengths.
    """
    values = np.asarray(rows, float)
    if len(values) != len(curve.recall):
        raise DataError(f"expected scores at the {len(curve.recall)} points of the curve, got {len(values)}")
    steps = np.hypot(np.diff(curve.recall), np.diff(curve.precision))
    return np.asarray(steps @ (values[1:] + values[:-1]) / 4)


def area(curve: Curve, step: float = 1e-4) -> float:
    """Average precision: the mean over recalls of the linearly interpolated precision, 0 beyond the curve."""
    order = np.argsort(curve.recall, kind="stable")
    recalls = np.arange(0, 1 + step / 2, step)
    found = np.interp(recalls, curve.recall[order], curve.precision[order], right=0.0)
    return float(np.trapezoid(found, recalls))
