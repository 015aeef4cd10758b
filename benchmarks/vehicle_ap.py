"""Average precision at IoU 0.5 of vehicles on the nuScenes key frames, for a GCNet model or a COCO teacher.

usage: python benchmarks/vehicle_ap.py (--model GCNET.onnx | --teacher YOLOX.onnx | --tiled-teacher YOLOX.onnx)
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import CamtrackError
from camtrack_core.geometry.boxes import Boxes2D

Detector = Callable[[NDArray[np.uint8]], Boxes2D]

VEHICLES = ("car", "van", "truck", "bus")
DATA = Path(os.environ.get("CAMTRACK_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def gcnet(path: Path) -> Detector:
    """The vehicles that an exported GCNet finds in an image."""
    from gcnet_tracker import tracker

    model = tracker.GCNetModel(path)
    detector = tracker.Detector(model)
    vehicles = [i for i, name in enumerate(model.class_names) if name in VEHICLES]
    return lambda image: _of_classes(detector(image), vehicles)


def teacher(path: Path) -> Detector:
    """The vehicles that a COCO teacher finds in the whole image."""
    from camtrack_core.labelling.teacher import COCO_VEHICLES, Yolox

    yolox = Yolox(path)
    return lambda image: _of_classes(yolox(image), COCO_VEHICLES)


def tiled_teacher(path: Path) -> Detector:
    """The vehicles that a COCO teacher finds in the whole image and in its tiles."""
    from camtrack_core.labelling.teacher import COCO_VEHICLES, Yolox, detect_with_tiles

    yolox = Yolox(path)
    return lambda image: _of_classes(detect_with_tiles(yolox, image), COCO_VEHICLES)


def _of_classes(boxes: Boxes2D, class_ids: list[int] | tuple[int, ...]) -> Boxes2D:
    return boxes[np.isin(boxes.class_ids, class_ids)]


def main() -> int:
    from camtrack_core.evaluation.vehicles import score_vehicles

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    detectors = parser.add_mutually_exclusive_group(required=True)
    detectors.add_argument("--model", type=Path, help="an exported GCNet")
    detectors.add_argument("--teacher", type=Path, help="a YOLOX graph with COCO classes")
    detectors.add_argument("--tiled-teacher", type=Path, help="the same, on tiles of the image too")
    parser.add_argument("--data", type=Path, default=DATA / "nuscenes", help="nuScenes folder (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        if arguments.model:
            detector = gcnet(arguments.model)
        elif arguments.teacher:
            detector = teacher(arguments.teacher)
        else:
            detector = tiled_teacher(arguments.tiled_teacher)
        scores = score_vehicles(arguments.data, detector)
    except CamtrackError as error:
        print(error, file=sys.stderr)
        return 1
    for name, value in asdict(scores).items():
        print(f"{name:<10} {value:.3f}" if isinstance(value, float) else f"{name:<10} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
