"""The same vehicles through lenses of 40 to 120 degrees: do their depths agree?

    python benchmarks/time3d_lenses.py [--model TIME3D.onnx] [--seeds 9100-9107] [--frames 2] [--device auto] [--json]

Each frame of a generated drive is rendered through every lens from the same place. "As taken" is the median, over the
vehicles that both show, of their depth as a share of that through 70 degrees; "one focal length" is the same of
pictures that are first brought to the focal length of 70 degrees, cropped or padded. What differs in the first and not
in the second comes of how large an object is in the network's input, not of the geometry. Aim: within 3 %.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import head
import numpy as np
from rich.console import Console
from rich.table import Table

from camtrack_core.datasets.drive import Drive, DriveConfig
from camtrack_core.datasets.frames import Frame
from camtrack_core.geometry.boxes import Floats, iou
from camtrack_core.networks.letterbox import PADDING
from time3d_tracker.level import camera_height
from time3d_tracker.model import DEMO_MODEL, Time3DModel
from time3d_tracker.tracker import Tracker

LENSES = (40, 55, 70, 85, 100, 120)
USUAL = 70
VEHICLES = ("car", "van", "truck", "bus")
SURE, OVERLAP = 0.2, 0.5
WIDTH, HEIGHT = 960, 540
Depths = dict[tuple[int, int, int], float]  # by seed, frame and id


def depths(model: Time3DModel, frame: Frame, zoom: float) -> dict[int, float]:
    """Depths by the ids of true vehicles, found in a picture that is enlarged about its principal point."""
    assert frame.camera is not None and frame.labels is not None
    k = frame.camera.intrinsics
    shift = (1 - zoom) * k[:2, 2]
    matrix = np.array([[zoom, 0, shift[0] + (zoom - 1) / 2], [0, zoom, shift[1] + (zoom - 1) / 2]])
    shrunk = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    image = frame.image if zoom == 1 else cv2.warpAffine(
        frame.image, matrix, (WIDTH, HEIGHT), flags=shrunk, borderValue=(PADDING,) * 3
    )  # fmt: skip
    told = k * np.array([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]])
    result = Tracker(model).step(image, frame.time_ns, told, frame.camera_pose, camera_height(frame))
    sure = result.detections.scores > SURE
    found = (result.detected_xyxy[sure] - np.tile(shift, 2)) / zoom
    ahead = result.detections.boxes.centre[sure, 0]
    vehicles = frame.labels[np.isin(np.array(Drive.class_names)[frame.labels.class_ids], VEHICLES)]
    overlap = iou(vehicles.xyxy, found)
    return {
        int(vehicles.ids[row]): float(ahead[overlap[row].argmax()])
        for row in np.flatnonzero(overlap.max(1, initial=0) >= OVERLAP)
    }


def measure(model: Time3DModel, seeds: range, frames: int) -> dict[int, tuple[Depths, Depths]]:
    """Depths through each lens, as taken and with one focal length."""
    found: dict[int, tuple[Depths, Depths]] = {lens: ({}, {}) for lens in LENSES}
    for seed in seeds:
        for lens in LENSES:
            drive = Drive(
                DriveConfig(
                    seed=seed, frames=20 * frames, width=WIDTH, height=HEIGHT, camera="vehicle", field_of_view=lens
                )
            )
            zoom = np.tan(np.radians(lens / 2)) / np.tan(np.radians(USUAL / 2))
            for number in range(0, 20 * frames, 20):
                frame = drive.frame(number)
                for depth, factor in zip(found[lens], (1.0, zoom), strict=True):
                    depth |= {(seed, number, i): z for i, z in depths(model, frame, factor).items()}
    return found


def shares(depth: Depths, usual: Depths) -> Floats:
    """Of what both show: depth as a share of the usual one."""
    return np.array([depth[key] / usual[key] for key in depth.keys() & usual.keys()])


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--seeds", default="9100-9107")
    parser.add_argument("--frames", type=int, default=2, help="of each drive, a second apart")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    found = measure(
        Time3DModel(options.model, options.device), range(int(first), int(last or first) + 1), options.frames
    )
    usual = found[USUAL][0]
    rows = []
    for lens, (taken, brought) in found.items():
        as_taken, alike = shares(taken, usual), shares(brought, usual)
        rows.append({"lens": lens, "vehicles": len(as_taken), "as taken": np.median(as_taken),
                     "vehicles alike": len(alike), "one focal length": np.median(alike)})  # fmt: skip
    if options.json:
        print(json.dumps(rows, default=float))
        return
    table = Table("lens, degrees", "vehicles", "as taken", "vehicles", "one focal length")
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(head.ran(main))
