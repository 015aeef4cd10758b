"""KITTI's tracking result text: tracks in space with their boxes in the image, a row an object, frames from 0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from camtrack_core.datasets.kitti.rows import to_camera
from camtrack_core.geometry.boxes import Boxes3D, Floats
from camtrack_core.geometry.tracks import Tracks3D

# Names that the official evaluation knows, by those of this project; a bus has none there.
KINDS = {"car": "Car", "truck": "Truck", "bus": "Misc", "pedestrian": "Pedestrian", "cyclist": "Cyclist"}
UNLABELLED = "-1 -1"  # truncation and occlusion


def write_kitti(path: Path, frames: Sequence[tuple[Tracks3D, Boxes3D, Floats]], class_names: Sequence[str]) -> None:
    """Writes tracks frame by frame; raises OSError.

    Args:
        path: the text.
        frames: of each the tracks, their boxes in the vehicle frame of the reference camera (x ahead, y left, z up),
            and their boxes in the image, (N, 4) pixels.
        class_names: that the tracks' class_ids index.
    """
    lines = []
    for number, (tracks, boxes, xyxy) in enumerate(frames):
        centre, size, turn = to_camera(boxes)
        alpha = (turn - np.arctan2(centre[:, 0], centre[:, 2]) + np.pi) % (2 * np.pi) - np.pi
        numbers = np.column_stack([alpha, xyxy, size, centre, turn, tracks.scores])
        for identity, class_id, row in zip(tracks.ids, tracks.class_ids, numbers, strict=True):
            name = class_names[class_id]
            values = " ".join(f"{value:.4f}" for value in row)
            lines.append(f"{number} {identity} {KINDS.get(name, name.capitalize())} {UNLABELLED} {values}\n")
    path.write_text("".join(lines))
