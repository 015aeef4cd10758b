"""Average precision at IoU 0.5 of vehicles on the nuScenes key frames, for a GCNet model or a COCO teacher.

    python benchmarks/vehicle_ap.py (--model GCNET.onnx | --teacher YOLOX.onnx | --tiled-teacher YOLOX.onnx)
                                    [--precision f32] [--data FOLDER]   (a teacher may be a PicoDet of ncnn: .param)

By two truths, and both are published. `annotated`: what has an annotation is to be found, all else is false. But many
real vehicles have none, so `unannotated vehicles ignored`: a vehicle that one of the lidar detectors in the folder
sees with a score of 0.3 or more, more than 2 m from every annotation, is an ignored region. Truth boxes are hulls of
boxes in space, looser than the vehicle in the picture. The rules were fixed before any training that is judged by them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import head
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from camtrack_core.evaluation.detection import DetectionScores
from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.runtime import Device, Precision

Detector = Callable[[NDArray[np.uint8]], Boxes2D]

VEHICLES = ("car", "van", "truck", "bus")
DATA = Path(os.environ.get("CAMTRACK_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def gcnet(path: Path, device: Device, precision: Precision) -> Detector:
    """The vehicles that an exported GCNet finds in an image."""
    from gcnet_tracker import tracker

    model = tracker.GCNetModel(path, device, precision=precision)
    detector = tracker.Detector(model)
    vehicles = [i for i, name in enumerate(model.class_names) if name in VEHICLES]
    return lambda image: _of_classes(detector(image), vehicles)


def teacher(path: Path) -> Detector:
    """The vehicles that a COCO teacher finds in the whole image: YOLOX as ONNX, or PicoDet as ncnn's .param."""
    from camtrack_core.labelling.picodet import PicoDet
    from camtrack_core.labelling.teacher import COCO_VEHICLES, Yolox

    detector: Detector = PicoDet(path) if path.suffix == ".param" else Yolox(path)
    return lambda image: _of_classes(detector(image), COCO_VEHICLES)


def tiled_teacher(path: Path) -> Detector:
    """The vehicles that a COCO teacher finds in the whole image and in its tiles."""
    from camtrack_core.labelling.teacher import COCO_VEHICLES, Yolox, detect_with_tiles

    yolox = Yolox(path)
    return lambda image: _of_classes(detect_with_tiles(yolox, image), COCO_VEHICLES)


def _of_classes(boxes: Boxes2D, class_ids: list[int] | tuple[int, ...]) -> Boxes2D:
    return boxes[np.isin(boxes.class_ids, class_ids)]


def add_detectors(parser: argparse.ArgumentParser) -> None:
    """The options that name what is scored."""
    detectors = parser.add_mutually_exclusive_group(required=True)
    detectors.add_argument("--model", type=Path, help="an exported GCNet")
    detectors.add_argument("--teacher", type=Path, help="a YOLOX graph or a PicoDet with COCO classes")
    detectors.add_argument("--tiled-teacher", type=Path, help="the same, on tiles of the image too")
    head.add_engine(parser)


def chosen_detector(arguments: argparse.Namespace) -> Detector:
    """What the options of `add_detectors` name."""
    if arguments.model:
        return gcnet(arguments.model, arguments.device, arguments.precision)
    return teacher(arguments.teacher) if arguments.teacher else tiled_teacher(arguments.tiled_teacher)


def print_scores(scores: dict[str, DetectionScores]) -> None:
    """A table, a column each."""
    table = Table("score", *scores)
    for field in fields(DetectionScores):
        values = (getattr(x, field.name) for x in scores.values())
        table.add_row(field.name, *(f"{x:.3f}" if isinstance(x, float) else str(x) for x in values))
    Console().print(table)


def main() -> None:
    from camtrack_core.evaluation.vehicles import score_vehicles

    parser = head.described(__doc__)
    add_detectors(parser)
    parser.add_argument("--data", type=Path, default=DATA / "nuscenes", help="nuScenes folder (default: %(default)s)")
    arguments = parser.parse_args()
    scores = score_vehicles(arguments.data, chosen_detector(arguments))
    print_scores(scores)


if __name__ == "__main__":
    sys.exit(head.ran(main))
