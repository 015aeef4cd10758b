"""Tracks of vehicles on a real street that nobody trained on: PandaSet's back_camera, 80 frames at 10 Hz.

    python benchmarks/pandaset_tracks.py [--model GCNET.onnx] [--source FOLDER?camera=back_camera] [--precision f32]
                                         [--json]

Asked for are cars, trucks and buses at least 20 pixels high, with 5 lidar points, within 70 m of the camera. All other
vehicles are let pass: a track on one of them is neither hit nor false, and neither is an unmatched track up to 20
pixels high. Truth boxes are hulls of boxes in space, looser than the vehicle in the picture. Scores are of vehicles
regardless of their class, for GCNet's own tracks and for GCNet with PKF at the default thresholds.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import head
import numpy as np
from rich.console import Console
from rich.table import Table

from camtrack_core.datasets.frames import Frame, Sequence
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.tracking import EvaluationFrame, TrackTruth, score_tracks
from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.geometry.tracks import Tracks2D
from gcnet_tracker.tracker import DEMO_MODEL, GCNetModel, Tracker
from pkf_filter import Tracker as Filter

DATA = Path(os.environ.get("CAMTRACK_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
ASKED = ("car", "truck", "bus")
PASSING = ("trailer", "construction_vehicle")
FOUND = ("car", "van", "truck", "bus")  # GCNet's classes of vehicles
MIN_HEIGHT = 20.0  # pixels
MIN_LIDAR_POINTS = 5
REACH = 70.0  # metres
SHOWN = ("hota", "det_a", "ass_a", "mota", "idf1", "id_switches", "precision", "recall")


def vehicles(frame: Frame, class_names: tuple[str, ...]) -> TrackTruth:
    """The vehicles of a frame, those asked for as `scored`. Raises DataError where nobody measured their places."""
    labels, boxes, points, pose = frame.labels, frame.boxes3d, frame.lidar_points, frame.camera_pose
    if labels is None or boxes is None or points is None or pose is None:
        raise DataError("expected a recording with boxes in space and lidar points, as PandaSet's")
    names = np.array(class_names)[labels.class_ids]
    scored = np.isin(names, ASKED) & (labels.xyxy[:, 3] - labels.xyxy[:, 1] >= MIN_HEIGHT)
    scored &= (points >= MIN_LIDAR_POINTS) & (np.linalg.norm(boxes.centre - pose.translation, axis=1) <= REACH)
    return TrackTruth(labels.ids, labels.xyxy, labels.class_ids, scored)[np.isin(names, (*ASKED, *PASSING))]


def run(model: GCNetModel, sequence: Sequence) -> dict[str, dict[str, float]]:
    """Scores of GCNet's own tracks and of those through PKF."""
    own = [i for i, name in enumerate(model.class_names) if name in FOUND]
    tracker, smoother = Tracker(model), Filter()
    judged: dict[str, list[EvaluationFrame]] = {"GCNet": [], "GCNet + PKF": []}
    for frame in sequence:
        truth = vehicles(frame, sequence.class_names)
        tracks = tracker.step(frame.image)
        smooth = smoother.step(frame.time_ns, Boxes2D(tracks.xyxy, tracks.scores, tracks.class_ids))
        for name, found in (("GCNet", tracks), ("GCNet + PKF", smooth)):
            judged[name].append(EvaluationFrame(truth, _of_classes(found, own), frame.ignored))
    found = {name: asdict(score_tracks({"": frames}, MIN_HEIGHT)) for name, frames in judged.items()}
    return {name: {key: scores[key] for key in (*SHOWN, "truth", "frames")} for name, scores in found.items()}


def _of_classes(tracks: Tracks2D, class_ids: list[int]) -> Tracks2D:
    return tracks[np.isin(tracks.class_ids, class_ids)]


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--source", default=f"{DATA / 'pandaset'}?camera=back_camera", help="(default: %(default)s)")
    head.add_engine(parser)
    arguments = parser.parse_args()
    model = GCNetModel(arguments.model, arguments.device, precision=arguments.precision)
    scores = run(model, open_source(arguments.source))
    if arguments.json:
        print(json.dumps(scores))
        return
    counts = next(iter(scores.values()))
    table = Table("tracks of", *SHOWN, title=f"{counts['truth']} vehicles in {counts['frames']} frames")
    for name, values in scores.items():
        cells = (values[key] for key in SHOWN)
        table.add_row(name, *(f"{x:.3f}" if isinstance(x, float) else str(x) for x in cells))
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(head.ran(main))
