"""Time3D on drives that it was not trained on, generated or real, by nuScenes' official measures.

    python benchmarks/time3d_scores.py [--model TIME3D.onnx] [--seeds 9000-9015] [--frames 60] [--precision f32]
                                       [--source 'PANDASET?camera=back_camera']

Detections: mAP over centre distances of 0.5, 1, 2 and 4 m and the errors of matches. Tracks: AMOTA and AMOTP of
Time3D's own association, of the same detections under a constant-velocity Kalman filter with Hungarian matching, of
PKF on Time3D's tracks, and of PKF on those and GCNet's boxes. Drives run at 10 frames/s, each with its own camera,
height and traffic; `--source` takes a labelled recording in their place. Objects lower than 16 pixels, hidden by more
than 70 per cent or of a class that no network here has are neither hits nor misses; the ranges are nuScenes' (vehicles
50 m, others 40 m). The devkit runs in its own environment, made on first use.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import head
import numpy as np
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_labelled
from camtrack_core.evaluation.nuscenes.devkit import devkit_python
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D, Floats, Integers
from camtrack_core.geometry.camera import Pose
from camtrack_core.geometry.tracks import Tracks3D
from gcnet_tracker.tracker import GCNetModel
from gcnet_tracker.tracker import Tracker as ImageTracker
from pkf_filter.space.config import SensorModel, WorldConfig
from pkf_filter.space.tracker import WorldTracker
from time3d_tracker.level import camera_height
from time3d_tracker.model import DEMO_MODEL, Time3DModel
from time3d_tracker.tracker import Result, Tracker

ROOT = Path(__file__).resolve().parents[1]
MIN_HEIGHT, MIN_VISIBLE = 16.0, 0.3
IGNORED_WITHIN = 2.0  # metres: a box nearest to an object that is not judged is not judged either
NAMES = {"cyclist": "bicycle", "van": "car"}  # nuScenes' classes
UNKNOWN = ("trailer", "construction_vehicle")  # classes that no network here has
Boxes = dict[str, dict[str, list[dict[str, Any]]]]


@dataclass
class Collected:
    """Boxes of every method as benchmarks/devkit_boxes.py reads them."""

    truth: Boxes = field(default_factory=dict)
    methods: dict[str, Boxes] = field(default_factory=dict)

    def add(self, method: str, sequence: str, frame: Frame, rows: list[dict[str, Any]]) -> None:
        boxes = self.truth if method == "truth" else self.methods.setdefault(method, {})
        boxes.setdefault(sequence, {})[str(frame.time_ns // 1000)] = rows


def rows_of(boxes: Boxes3D, scores: Floats, names: Sequence[str], ids: Sequence[str], ego: Floats) -> list[dict]:
    return [
        {
            "id": ids[i], "name": NAMES.get(names[i], names[i]), "score": float(scores[i]), "ego": ego.tolist(),
            "translation": boxes.centre[i].tolist(), "size": boxes.size[i, [1, 0, 2]].tolist(),
            "rotation": [float(np.cos(boxes.yaw[i] / 2)), 0.0, 0.0, float(np.sin(boxes.yaw[i] / 2))],
            "velocity": np.nan_to_num(boxes.velocity[i, :2]).tolist(),
        }
        for i in range(len(boxes))
    ]  # fmt: skip


def judged(frame: Frame, class_names: Sequence[str]) -> np.ndarray:
    """Which of a frame's labels must be found."""
    assert frame.labels is not None
    high = frame.labels.xyxy[:, 3] - frame.labels.xyxy[:, 1] >= MIN_HEIGHT
    known = ~np.isin(np.array(class_names)[frame.labels.class_ids], UNKNOWN)
    return high & known & (frame.labels.visible >= MIN_VISIBLE)


def counted(frame: Frame, must: np.ndarray, centres: Floats) -> np.ndarray:
    """Which found boxes count: all but those next to a label that need not be found; `must` says which need."""
    assert frame.boxes3d is not None
    if not len(centres) or not len(frame.boxes3d):
        return np.ones(len(centres), bool)
    distance = np.linalg.norm(centres[:, None, :2] - frame.boxes3d.centre[None, :, :2], axis=-1)
    return (distance.min(1) > IGNORED_WITHIN) | must[distance.argmin(1)]


def placed(boxes: Boxes3D, pose: Pose) -> Boxes3D:
    """Boxes of a frame with z up in the fixed frame, whose z is up as well."""
    turn = float(np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0]))
    return Boxes3D(pose.apply(boxes.centre), boxes.size, boxes.yaw + turn, boxes.velocity @ pose.rotation.T)


class KalmanTracker:
    """What Time3D must beat: constant velocity on the ground, Hungarian matching of predicted centres by class."""

    DEVIATION, DEPTH, ACCELERATION = 0.3, 0.04, 2.0  # metres, share of the distance, m / s^1.5
    GATE, SILENCE = 4.0, 0.5  # Mahalanobis distance, seconds
    LEAST, BIRTH = 0.05, 0.1  # scores of what is associated and of what starts a track: the best of four pairs

    def __init__(self) -> None:
        self.ids, self.classes = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.mean, self.covariance = np.zeros((0, 4)), np.zeros((0, 4, 4))
        self.seen = np.zeros(0)
        self.time, self.next = 0.0, 1

    def step(self, time: float, found: Detections3D, camera: Floats) -> tuple[Integers, Floats]:
        """Ids (M,) of the detections, 0 for none, and filtered centres (M, 2)."""
        dt, self.time = time - self.time, time
        move = np.eye(4)
        move[:2, 2:] = dt * np.eye(2)
        noise = self.ACCELERATION**2 * np.kron([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]], np.eye(2))
        self.mean, self.covariance = self.mean @ move.T, move @ self.covariance @ move.T + noise
        centres, classes = found.boxes.centre[:, :2], found.class_ids
        deviation = self.DEVIATION + self.DEPTH * np.linalg.norm(centres - camera[:2], axis=1)
        measured = deviation[:, None, None] ** 2 * np.eye(2)
        gap = centres[:, None] - self.mean[None, :, :2]
        spread = measured[:, None] + self.covariance[None, :, :2, :2]
        distance = np.sqrt(np.einsum("mni,mnij,mnj->mn", gap, np.linalg.inv(spread), gap))
        distance[classes[:, None] != self.classes] = 1e6
        cost = np.minimum(distance, self.GATE)
        ids, filtered = np.zeros(len(centres), np.int64), centres.copy()
        for m, n in zip(*linear_sum_assignment(cost), strict=True):
            if distance[m, n] < self.GATE:
                gain = self.covariance[n][:, :2] @ np.linalg.inv(spread[m, n])
                self.mean[n] += gain @ gap[m, n]
                self.covariance[n] -= gain @ self.covariance[n][:2]
                self.seen[n], ids[m], filtered[m] = time, self.ids[n], self.mean[n, :2]
        new = np.flatnonzero((ids == 0) & (found.scores >= self.BIRTH))
        ids[new] = np.arange(self.next, self.next + len(new))
        self.next += len(new)
        started = np.zeros((len(new), 4, 4))
        started[:, :2, :2] = measured[new]
        started[:, 2, 2] = started[:, 3, 3] = 100.0
        self.ids, self.classes = np.append(self.ids, ids[new]), np.append(self.classes, classes[new])
        self.mean = np.concatenate([self.mean, np.pad(centres[new], ((0, 0), (0, 2)))])
        self.covariance = np.concatenate([self.covariance, started])
        self.seen = np.append(self.seen, np.full(len(new), time))
        kept = time - self.seen <= self.SILENCE
        self.ids, self.classes, self.seen = self.ids[kept], self.classes[kept], self.seen[kept]
        self.mean, self.covariance = self.mean[kept], self.covariance[kept]
        return ids, filtered


def configured_filter() -> WorldTracker:
    """The filter of config/camera_fusion.yaml."""
    values = yaml.safe_load((ROOT / "config" / "camera_fusion.yaml").read_text())["/**"]["ros__parameters"]
    known = set(SensorModel.model_fields)
    sensors = {n: SensorModel(**{k: v for k, v in values[n].items() if k in known}) for n in values["sensors"]}
    return WorldTracker(WorldConfig(**values.get("world", {})), sensors)


class Methods:
    """All trackers on one sequence."""

    def __init__(self, model: Time3DModel, image_model: GCNetModel, collected: Collected, sequence: str) -> None:
        self.model, self.image_model, self.collected, self.sequence = model, image_model, collected, sequence
        self.own, self.image, self.kalman = Tracker(model), ImageTracker(image_model), KalmanTracker()
        self.alone, self.fused = configured_filter(), configured_filter()

    def step(self, frame: Frame, class_names: Sequence[str]) -> None:
        assert frame.camera is not None and frame.camera_pose is not None
        assert frame.labels is not None and frame.boxes3d is not None
        pose = frame.camera_pose
        result = self.own.step(frame.image, frame.time_ns, frame.camera.intrinsics, pose, camera_height(frame))
        ego, must, labels = pose.translation, judged(frame, class_names), frame.labels
        self.must = must
        names = [class_names[c] for c in labels.class_ids[must]]
        truth = rows_of(frame.boxes3d[must], np.full(must.sum(), -1.0), names, [str(i) for i in labels.ids[must]], ego)
        self.collected.add("truth", self.sequence, frame, truth)

        upright = pose @ result.upright
        found, tracks = result.detections, result.tracks
        world = Detections3D(placed(found.boxes, upright), found.scores, found.class_ids)
        self._add("detections", frame, world.boxes, found.scores, found.class_ids, np.arange(len(found)) + 1)
        own = placed(tracks.boxes, upright)
        self._add("Time3D", frame, own, tracks.scores, tracks.class_ids, tracks.ids)

        strong = world[found.scores >= self.kalman.LEAST]
        ids, centres = self.kalman.step(frame.time_ns * 1e-9, strong, ego)
        filtered = Boxes3D(
            np.column_stack([centres, strong.boxes.centre[:, 2]]), strong.boxes.size, strong.boxes.yaw,
            strong.boxes.velocity,
        )  # fmt: skip
        shown = ids > 0
        self._add("Kalman filter + Hungarian", frame, filtered[shown], strong.scores[shown], strong.class_ids[shown],
                  ids[shown])  # fmt: skip
        self._fuse(frame, result, Detections3D(own, tracks.scores, tracks.class_ids))

    def _fuse(self, frame: Frame, result: Result, own: Detections3D) -> None:
        pose, camera = frame.camera_pose, frame.camera
        assert pose is not None and camera is not None
        seen = self.image.step(frame.image)
        for name, tracker in (("Time3D + PKF", self.alone), ("Time3D + GCNet + PKF", self.fused)):
            ids = np.array([tracker.class_id(self.model.class_names[c]) for c in own.class_ids], np.int64)
            tracks: Tracks3D = tracker.step(frame.time_ns, Detections3D(own.boxes, own.scores, ids), "objects", pose)
            if tracker is self.fused:
                ids = np.array([tracker.class_id(self.image_model.class_names[c]) for c in seen.class_ids], np.int64)
                boxes = Boxes2D(seen.xyxy, seen.scores, ids)
                tracks = tracker.step_image(frame.time_ns, boxes, camera, pose, "image")
            names = [tracker.class_names[c] for c in tracks.class_ids]
            self._add_named(name, frame, tracks.boxes, tracks.scores, names, tracks.ids)

    def _add(
        self, method: str, frame: Frame, boxes: Boxes3D, scores: Floats, class_ids: Integers, ids: Integers
    ) -> None:
        self._add_named(method, frame, boxes, scores, [self.model.class_names[c] for c in class_ids], ids)

    def _add_named(
        self, method: str, frame: Frame, boxes: Boxes3D, scores: Floats, names: list[str], ids: Integers
    ) -> None:
        assert frame.camera_pose is not None
        rows = rows_of(boxes, scores, names, [str(i) for i in ids], frame.camera_pose.translation)
        kept = counted(frame, self.must, boxes.centre)
        self.collected.add(method, self.sequence, frame, [row for row, keep in zip(rows, kept, strict=True) if keep])


def official(collected: Collected, console: Console) -> dict[str, dict[str, Any]]:
    """Scores by method, from the devkit."""
    python = devkit_python(console.print)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "boxes.json", Path(folder) / "scores.json"
        source.write_text(json.dumps({"truth": collected.truth, "methods": collected.methods}))
        script = Path(__file__).with_name("devkit_boxes.py")
        subprocess.run([str(python), str(script), str(source), str(out)], check=True, capture_output=True)
        return json.loads(out.read_text())


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--seeds", default="9000-9015", help="of the drives (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=60, help="of each drive (default: %(default)s)")
    parser.add_argument("--source", action="append", help="labelled recording to score on in place of the drives")
    head.add_engine(parser)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    collected = Collected()
    model = Time3DModel(arguments.model, arguments.device, precision=arguments.precision)
    image_model = GCNetModel(device=arguments.device, precision=arguments.precision)
    drives = f"drive:{arguments.seeds}?frames={arguments.frames}&frame_rate=10"
    sources = arguments.source or [drives]
    for sequence in track(list(open_labelled(sources)), "driving", console=console):
        methods = Methods(model, image_model, collected, sequence.name)
        for frame in sequence:
            methods.step(frame, sequence.class_names)
    scores = official(collected, console)
    if arguments.json:
        print(json.dumps(scores))
        return
    found = scores.pop("detections")
    table = Table("class", "AP", "translation error (m)", title=f"detections, {arguments.model.name}")
    for name, ap in found["AP"].items():
        table.add_row(name, f"{ap:.3f}", f"{found['errors'][name]['trans_err']:.2f}")
    table.add_row("mean", f"{found['mAP']:.3f}", f"{found['trans_err']:.2f}", style="bold")
    Console().print(table)
    table = Table("tracks", "AMOTA", "AMOTP (m)", "identity switches")
    for name, row in scores.items():
        switches = "-" if np.isnan(row["IDS"]) else f"{row['IDS']:.0f}"
        table.add_row(name, f"{row['AMOTA']:.3f}", f"{row['AMOTP']:.2f}", switches)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(head.ran(main))
