"""Objects that nuScenes' lidar detectors see and nobody annotated: to find one is neither right nor wrong.

The rule, fixed before any training that is judged by it: a box of any submission in the folder `detections` is an
unannotated object if its score is at least 0.3 and it lies more than 2 m, along the ground, from every annotation of
its key frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from camtrack_core.evaluation.nuscenes.submission import SubmittedBoxes, read_submission
from camtrack_core.geometry.boxes import Floats

LEAST_SCORE = 0.3
ANNOTATED = 2.0  # metres; a box that is closer to an annotation is of the same object


def read_lidar_boxes(root: Path) -> list[dict[str, SubmittedBoxes]]:
    """The submissions in `root`/detections, boxes by token of the key frame; none where there is no such folder.

    Raises DataError for a broken one.
    """
    return [read_submission(path) for path in sorted((root / "detections").glob("*.json"))]


def unannotated(found: SubmittedBoxes, annotated: Floats) -> SubmittedBoxes:
    """Those of the boxes found in a key frame that are of none of its annotations, centres (N, 3) in the map."""
    gap = np.linalg.norm(found.boxes.centre[:, None, :2] - annotated[None, :, :2], axis=-1)
    return found[(found.scores >= LEAST_SCORE) & (gap.min(1, initial=np.inf) > ANNOTATED)]
