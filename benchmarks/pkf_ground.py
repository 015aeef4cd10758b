"""A bird's-eye view from boxes in the image alone: GCNet and PKF, without Time3D, on a real street.

    python benchmarks/pkf_ground.py [--model GCNET.onnx] [--source FOLDER?camera=back_camera] [--pitch 0.5] [--json]

GCNet's tracked boxes start tracks on flat ground and correct them, as pkf_filter_node does with a sensor of kind
boxes_2d. Asked for are vehicles within 40 m of PandaSet's back_camera, 80 frames at 10 Hz, that at least half of the
image shows. Each is matched with one published track within 15 % of its distance and 2 m, at the least sum of gaps.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import head
import numpy as np
from scipy.optimize import linear_sum_assignment

from camtrack_core.datasets.sources import open_source
from camtrack_core.geometry.boxes import Boxes2D
from gcnet_tracker.tracker import DEMO_MODEL, GCNetModel, Tracker
from pkf_filter.space.config import SensorModel
from pkf_filter.space.tracker import WorldTracker
from time3d_tracker.level import camera_height

DATA = Path(os.environ.get("CAMTRACK_DATA") or head.ROOT.parent / "shared" / "data")
VEHICLES = ("car", "van", "truck", "bus", "trailer", "construction_vehicle")
REACH = 40.0  # metres
SHARE, BASE = 0.15, 2.0  # of the distance; metres
SHOWN, MIN_LIDAR_POINTS = 0.5, 5


def run(model: GCNetModel, source: str, pitch: float) -> dict[str, float]:
    sequence = open_source(source)
    boxes_of, tracker = Tracker(model), WorldTracker(sensors={"boxes": SensorModel(pitch_deviation=pitch)})
    numbers = np.array([tracker.class_id(name) for name in model.class_names], np.int64)
    objects, matched, published = 0, 0, 0
    gaps, shares, spread, ids = [], [], [], {}
    for frame in sequence:
        seen, pose = boxes_of.step(frame.image), frame.camera_pose
        boxes = Boxes2D(seen.xyxy, seen.scores, numbers[seen.class_ids])
        tracks = tracker.step_image(frame.time_ns, boxes, frame.calibrated(), pose, "boxes", camera_height(frame))
        tracks = tracks[np.isin(np.array(tracker.class_names)[tracks.class_ids], VEHICLES)]
        names = np.array(sequence.class_names)[frame.labels.class_ids]
        distance = np.linalg.norm(frame.boxes3d.centre[:, :2] - pose.translation[:2], axis=1)
        asked = np.isin(names, VEHICLES) & (distance <= REACH) & (frame.labels.visible >= SHOWN)
        asked &= frame.lidar_points >= MIN_LIDAR_POINTS
        truth, far = frame.boxes3d.centre[asked, :2], distance[asked]
        apart = np.linalg.norm(truth[:, None] - tracks.boxes.centre[None, :, :2], axis=-1)
        near = apart <= SHARE * far[:, None] + BASE
        rows, columns = linear_sum_assignment(np.where(near, apart, 1e6))
        objects, published = objects + len(truth), published + len(tracks)
        for row, column in zip(rows, columns, strict=True):
            if near[row, column]:
                matched += 1
                gaps.append(apart[row, column])
                shares.append(apart[row, column] / far[row])
                variance = np.linalg.eigvalsh(tracks.covariance[column, :2, :2].astype(float)).max()
                spread.append(apart[row, column] / np.sqrt(variance))
                ids.setdefault(int(frame.labels.ids[asked][row]), set()).add(int(tracks.ids[column]))
    return {
        "vehicles": objects, "found": matched / max(objects, 1), "median_gap_m": float(np.median(gaps)),
        "p90_gap_m": float(np.percentile(gaps, 90)), "median_share": float(np.median(shares)),
        "within_2_deviations": float(np.mean(np.array(spread) <= 2)), "tracks_a_frame": published / len(sequence),
        "ids_per_object": sum(map(len, ids.values())) / max(len(ids), 1),
    }  # fmt: skip


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--source", default=f"{DATA / 'pandaset'}?camera=back_camera", help="(default: %(default)s)")
    parser.add_argument("--pitch", type=float, default=0.5, help="deviation, degrees (default: %(default)s)")
    arguments = parser.parse_args()
    figures = run(GCNetModel(arguments.model, precision="f32"), arguments.source, arguments.pitch)
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:20} {value:.3f}")


if __name__ == "__main__":
    sys.exit(head.ran(main))
