"""Detection and tracking scores of a GCNet model on generated drives that it was not trained on.

    python benchmarks/drive_scores.py [--model GCNET.onnx] [--seeds 9000-9011] [--frames 60] [--precision f32] [--json]

Objects lower than 20 pixels or hidden by more than 70 per cent are neither hits nor misses.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import head
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from camtrack_core.datasets.frames import Frame, Sequence
from camtrack_core.datasets.sources import open_labelled
from camtrack_core.evaluation.detection import ImageTruth, average_precision
from camtrack_core.evaluation.tracking import EvaluationFrame, evaluation_frame, score_tracks
from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.geometry.tracks import Tracks2D
from gcnet_tracker.tracker import DEMO_MODEL, Detector, GCNetModel, Tracker
from pkf_filter import Tracker as Filter

MIN_HEIGHT = 20.0  # pixels
MIN_VISIBLE = 0.3
VEHICLES = ("car", "van", "truck", "bus")


def image_truth(frame: Frame, wanted: tuple[int, ...]) -> ImageTruth:
    """Objects of the wanted classes that are high and visible enough; all others are ignored regions."""
    labels = frame.labels
    assert labels is not None
    high = labels.xyxy[:, 3] - labels.xyxy[:, 1] >= MIN_HEIGHT
    counted = high & (labels.visible >= MIN_VISIBLE) & np.isin(labels.class_ids, wanted)
    return ImageTruth(labels.xyxy[counted], labels.class_ids[counted], labels.xyxy[~counted])


def run(model: GCNetModel, sequences: list[Sequence]) -> dict[str, float]:
    """Scores over all sequences together."""
    vehicle_truth: list[ImageTruth] = []
    all_truth: list[ImageTruth] = []
    found: list[Boxes2D] = []
    tracked: dict[str, list[EvaluationFrame]] = {}
    filtered: dict[str, list[EvaluationFrame]] = {}
    detector = Detector(model)
    vehicles = tuple(i for i, name in enumerate(model.class_names) if name in VEHICLES)
    for sequence in track(sequences, "scoring", console=Console(stderr=True)):
        tracker, smoother = Tracker(model), Filter()
        wanted = tuple(i for i, name in enumerate(sequence.class_names) if name in VEHICLES)
        tracked[sequence.name], filtered[sequence.name] = [], []
        for frame in sequence:
            boxes = detector(frame.image)
            heights = boxes.xyxy[:, 3] - boxes.xyxy[:, 1]
            found.append(boxes[heights >= 0.9 * MIN_HEIGHT])
            vehicle_truth.append(image_truth(frame, wanted))
            all_truth.append(image_truth(frame, tuple(range(len(sequence.class_names)))))
            tracks = tracker.step(frame.image)
            smooth = smoother.step(frame.time_ns, Boxes2D(tracks.xyxy, tracks.scores, tracks.class_ids))
            tracked[sequence.name].append(judged(frame, tracks))
            filtered[sequence.name].append(judged(frame, smooth))
    vehicle_boxes = [boxes[np.isin(boxes.class_ids, vehicles)] for boxes in found]
    gcnet, pkf = score_tracks(tracked, MIN_HEIGHT), score_tracks(filtered, MIN_HEIGHT)
    return {
        "vehicle_AP50": average_precision(vehicle_truth, vehicle_boxes).ap,
        "AP50": average_precision(all_truth, found).ap,
        **{f"gcnet_{k}": v for k, v in asdict(gcnet).items() if k in ("hota", "mota", "idf1", "id_switches")},
        **{f"pkf_{k}": v for k, v in asdict(pkf).items() if k in ("hota", "mota", "idf1", "id_switches")},
        "frames": len(found),
    }


def judged(frame: Frame, tracks: Tracks2D) -> EvaluationFrame:
    return evaluation_frame(frame, tracks, MIN_HEIGHT, MIN_VISIBLE)


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--seeds", default="9000-9011", help="of the drives (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=60, help="of each drive (default: %(default)s)")
    head.add_engine(parser)
    arguments = parser.parse_args()
    sequences = list(open_labelled([f"drive:{arguments.seeds}?frames={arguments.frames}"]))
    scores = run(GCNetModel(arguments.model, arguments.device, precision=arguments.precision), sequences)
    if arguments.json:
        print(json.dumps(scores))
        return
    table = Table("score", "value", title=f"{arguments.model.name} on drives {arguments.seeds}")
    for name, value in scores.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(head.ran(main))
