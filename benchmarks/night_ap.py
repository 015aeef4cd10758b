"""Average precision at IoU 0.5 of vehicles at night, seen by one motorway camera that nobody trained on.

    python benchmarks/night_ap.py (--model GCNET.onnx | --teacher YOLOX.onnx | --tiled-teacher YOLOX.onnx)
                                  [--precision f32] [--data FOLDER]

The 54 pictures `malam*` of "vehicles" of Roboflow 100, stretched back from 640x640 to 16:9, their twelve classes of
vehicles as one. Further away than where a vehicle's lower edge is at .45 of the picture's height, most vehicles have no
label, and at the picture's edges some have none. So what is further away and what touches an edge is let pass: such a
label need not be found, and such a detection is not counted. This rule was fixed before any training that is judged
by it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import head
import numpy as np
from numpy.typing import NDArray
from vehicle_ap import DATA, add_detectors, chosen_detector, print_scores

from camtrack_core.datasets.video import read_image
from camtrack_core.errors import DataError
from camtrack_core.evaluation.detection import ImageTruth, average_precision
from camtrack_core.geometry.boxes import Floats

ASPECT = 16 / 9
FAR = 0.45  # of the picture's height, lower edges of the farthest vehicles asked for
EDGE = 0.004  # of the picture's size


def pictures(folder: Path, begin: str) -> Iterator[tuple[NDArray[np.uint8], Floats]]:
    """Pictures whose names begin so, stretched back, and their labelled boxes (N, 4), pixels. Raises DataError."""
    paths = sorted((folder / "images").glob(f"{begin}*.jpg"))
    if not paths:
        raise DataError(f"{folder}: expected pictures images/{begin}*.jpg, found none")
    for path in paths:
        image = read_image(path)
        height = image.shape[0]
        image = np.asarray(cv2.resize(image, (round(ASPECT * height), height)), np.uint8)
        label = folder / "labels" / f"{path.stem}.txt"
        try:
            rows = np.array([line.split()[1:] for line in label.read_text().splitlines()], float).reshape(-1, 4)
        except (OSError, ValueError) as error:
            raise DataError(f"{label}: expected a class and a box a line, got {error}") from error
        centre, half = rows[:, :2], rows[:, 2:] / 2
        yield image, np.concatenate([centre - half, centre + half], 1) * np.tile(image.shape[1::-1], 2)


def counts(xyxy: Floats, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N,) whether boxes are near enough and whole."""
    height, width = image.shape[:2]
    margin = EDGE * width
    whole = (xyxy[:, :2] > margin).all(1) & (xyxy[:, 2:] < np.array([width, height]) - margin).all(1)
    return np.asarray(whole & (xyxy[:, 3] > FAR * height), bool)


def main() -> None:
    parser = head.described(__doc__)
    add_detectors(parser)
    folder = DATA / "real2d" / "rf100_toll_cctv"
    parser.add_argument("--data", type=Path, default=folder, help="folder of images and labels (default: %(default)s)")
    arguments = parser.parse_args()
    truth, found = [], []
    detector = chosen_detector(arguments)
    for image, boxes in pictures(arguments.data, "malam"):
        asked = counts(boxes, image)
        truth.append(ImageTruth(boxes[asked], np.zeros(asked.sum(), np.int64), boxes[~asked]))
        detections = detector(image)
        found.append(detections[counts(detections.xyxy, image)])
    print_scores({"night": average_precision(truth, found)})


if __name__ == "__main__":
    sys.exit(head.ran(main))
