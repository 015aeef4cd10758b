"""Scores of the tracker in space on recordings, beside those of other trackers on the same detections.

    python benchmarks/pkf_world.py [--data FOLDER] [--nuscenes PYTHON] [--identities resolved] [--spread mixture]

KITTI: PointRCNN's car detections, six sequences, without and with the vehicle's motion; the scores are AB3DMOT's, the
milliseconds the median of a frame in the fastest of eight passes.
nuScenes: scene-0103 with two lidar detectors, scored by the official devkit (nuscenes-devkit 1.2.0 with numpy<2 and
motmetrics 1.4.0), which needs an environment of its own: PYTHON is that environment's interpreter.
The data are those under $CAMTRACK_DATA or ../shared/data. All are tracked with the node's defaults; each detector has
its sensor. KITTI is asked of what the node publishes. nuScenes' protocol sweeps a threshold over the mean scores of the
tracks, up to a recall of 1, and scores each class by itself: it is asked of every track that the newest frame measured,
published or not, once for each class that it may be of. Its milliseconds are of processor time.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import head
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.spatial.transform import Rotation

from camtrack_core.datasets.kitti.rows import KittiObjects, from_camera, read_objects
from camtrack_core.evaluation.kitti.kitti3d import score_tracks_3d
from camtrack_core.geometry.boxes import Boxes3D, Detections3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.geometry.tracks import Tracks3D
from pkf_filter import SensorModel, WorldConfig, WorldTracker
from pkf_filter.filtering.update import SPREADS

ROOT = Path(__file__).resolve().parents[1]
SECOND = 1_000_000_000
Array = NDArray[np.float64]

DEFAULT = WorldConfig()

KITTI = ("0001", "0006", "0010", "0012", "0013", "0015")
# Scores are sigmoids of logits; the slopes as `camtrack pkf noise` estimates them.
POINT_RCNN = SensorModel(
    score_offset=0.97, score_slope=0.8, detection_probability=0.6, detection_slope=0.5, miss_time=0.1
)
KITTI_PERIOD = 0.1  # seconds
PASSES = 8  # over the KITTI sequences, of which the fastest counts: other programs only ever slow one down
IMAGE = np.array([1242.0, 375.0])  # pixels
# sAMOTA, AMOTA, AMOTP, MOTA, IDS, FRAG, ms a frame; measured on the same detections
AB3DMOT = {
    "without ego motion": ("87.33", "43.44", "77.57", "84.91", "0", "6", "4.7"),
    "with ego motion": ("87.25", "43.41", "79.10", "86.14", "0", "7", "4.7"),
}

NUSCENES_CLASSES = ("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck")
# Both detectors see the sweeps of half a second together: what is hidden in one of them is detected all the same.
NUSCENES_LIDAR = SensorModel(
    noise=2.0,
    velocity_noise=1.0,
    score_offset=0.35,
    occlusion=0.0,
    detection_probability=0.92,
    detection_slope=1.0,
    miss_time=0.05,
)
LEAST_CLASS = 0.01  # share of a class in the likeliest one's votes, from which on a track may be of it
NUSCENES_SENSORS = {"centerpoint": NUSCENES_LIDAR, "megvii": NUSCENES_LIDAR}
# AMOTA, AMOTP, MOTA, IDS: AB3DMOT and greedy matching by centre distance
NUSCENES_OTHERS = {
    "centerpoint": {"AB3DMOT": (".582", ".729", ".561", "15"), "greedy": (".641", ".504", ".548", "23")},
    "megvii": {"AB3DMOT": (".688", ".747", ".650", "6"), "greedy": (".782", ".513", ".756", "24")},
}
DEVKIT = """
import json, sys
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.tracking.evaluate import TrackingEval
TrackingEval(config_factory("tracking_nips_2019"), sys.argv[1], "mini_val", sys.argv[2], "v1.0-mini", sys.argv[3],
             verbose=False, render_classes=[]).main(render_curves=False)
"""


# --- KITTI


def read_calibration(path: Path) -> Array:
    """(3, 4) projection from the reference camera to pixels of the left colour camera."""
    rows = (line.split() for line in path.read_text().splitlines())
    return np.array(next(row[1:] for row in rows if row and row[0] == "P2:"), np.float64).reshape(3, 4)


def read_poses(path: Path) -> list[Pose]:
    """Poses of a frame at the reference camera with x forward, y left, z up, in where it was at first."""
    to_vehicle = OPTICAL_IN_VEHICLE
    matrices = np.loadtxt(path).reshape(-1, 3, 4)
    return [Pose(to_vehicle @ m[:, :3] @ to_vehicle.T, to_vehicle @ m[:, 3]) for m in matrices]


def moved(boxes: Boxes3D, pose: Pose) -> Boxes3D:
    """Boxes in the frame that `pose` maps to."""
    forward = pose.rotation[:, 0]
    yaw = boxes.yaw + np.arctan2(forward[1], forward[0])
    return Boxes3D(pose.apply(boxes.centre), boxes.size, yaw, boxes.velocity @ pose.rotation.T)


def image_boxes(boxes: Boxes3D, projection: Array) -> Array:
    """(N, 4) images of boxes before the camera, cut to the image; without area where they lie outside."""
    corners = boxes.corners() @ OPTICAL_IN_VEHICLE
    homogeneous = np.concatenate([corners, np.ones((*corners.shape[:2], 1))], -1) @ projection.T
    pixels = homogeneous[..., :2] / np.maximum(homogeneous[..., 2:], 0.1)
    return np.concatenate([np.clip(pixels.min(1), 0, IMAGE), np.clip(pixels.max(1), 0, IMAGE)], 1)


def track_kitti(
    folder: Path, name: str, length: int, with_poses: bool, config: WorldConfig = DEFAULT
) -> tuple[KittiObjects, list[float]]:
    """Tracks of a sequence in the camera's place, as read_objects gives them, and milliseconds of each frame."""
    rows = np.loadtxt(folder / "pointrcnn_car" / f"{name}.txt", delimiter=",", ndmin=2)
    boxes = from_camera(rows[:, 10:13], rows[:, 7:10], rows[:, 13])
    scores = 1 / (1 + np.exp(-rows[:, 6]))
    projection = read_calibration(folder / "calib" / f"{name}.txt")
    here = Pose(np.eye(3), np.zeros(3))
    poses = read_poses(folder / "poses" / f"{name}.txt") if with_poses else [here] * length
    tracker = WorldTracker(config, {"lidar": POINT_RCNN})
    car = tracker.class_id("car")
    durations, found = [], []
    for frame in range(length):
        of = rows[:, 0] == frame
        detections = Detections3D(moved(boxes[of], poses[frame]), scores[of], np.full(of.sum(), car))
        start = time.perf_counter()
        tracks = tracker.step(round(frame * KITTI_PERIOD * SECOND), detections, "lidar", poses[frame])
        durations.append((time.perf_counter() - start) * 1e3)
        found.append(_rows(frame, tracks, moved(tracks.boxes, poses[frame].inverse()), projection))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    frames, ids, kinds, nothing, xyxy, centre, size, yaw, velocity, logits = columns
    boxes = Boxes3D(centre, size, yaw, velocity)
    return KittiObjects(frames, ids, kinds, nothing, nothing, xyxy, boxes, logits), durations


def _rows(frame: int, tracks: Tracks3D, boxes: Boxes3D, projection: Array) -> tuple[NDArray, ...]:
    """Columns of the tracks whose image lies in the image: the others cannot be labelled."""
    xyxy = image_boxes(boxes, projection)
    seen = (boxes.centre[:, 0] > 0.5) & ((xyxy[:, 2:] - xyxy[:, :2]) > 1).all(1)
    boxes, count = boxes[seen], int(seen.sum())
    logits = np.log(tracks.scores[seen] / (1 - tracks.scores[seen]))
    same = np.full(count, frame), tracks.ids[seen], np.full(count, "Car"), np.zeros(count, np.int64), xyxy[seen]
    return (*same, boxes.centre, boxes.size, boxes.yaw, boxes.velocity, logits)


def score_kitti(
    folder: Path, names: Sequence[str], with_poses: bool, config: WorldConfig = DEFAULT
) -> dict[str, float]:
    """Scores as AB3DMOT's evaluation has them, and those of the definition (see score_tracks_3d), in per cent."""
    truth = {name: read_objects(folder / "label_02" / f"{name}.txt") for name in names}
    lengths = {name: int(truth[name].frames.max()) + 1 for name in names}
    passes = [
        {name: track_kitti(folder, name, lengths[name], with_poses, config) for name in names} for _ in range(PASSES)
    ]
    tracks = {name: found for name, (found, _) in passes[0].items()}
    percentiles = [np.percentile(np.concatenate([took for _, took in each.values()]), [50, 99]) for each in passes]
    scores, definition = (asdict(score_tracks_3d(truth, tracks, slack=slack)) for slack in (0.0, 1e-9))
    percent = {name: 100 * scores[name] for name in ("samota", "amota", "amotp", "mota")}
    percent |= {f"{name}_definition": 100 * definition[name] for name in ("samota", "amota", "amotp", "mota")}
    counts = {name: scores[name] for name in ("id_switches", "fragmentations")}
    median, p99 = min(percentiles, key=lambda each: each[0])
    return {**percent, **counts, "ms_median": float(median), "ms_p99": float(p99)}


def ab3dmot_by_definition(folder: Path) -> dict[str, float]:
    """AB3DMOT's stored tracks (without ego motion), scored by the definition."""
    truth = {name: read_objects(folder / "label_02" / f"{name}.txt") for name in KITTI}
    tracks = {name: read_objects(folder / "ab3dmot" / "tracks" / f"{name}.txt") for name in KITTI}
    scores = asdict(score_tracks_3d(truth, tracks, slack=1e-9))
    return {name: 100 * scores[name] for name in ("samota", "amota", "amotp", "mota")}


# --- nuScenes


def nuscenes_frames(folder: Path) -> list[tuple[str, int]]:
    """Token and stamp in nanoseconds of every sample of the scene, in order."""
    samples = {row["token"]: row for row in json.loads((folder / "v1.0-mini" / "sample.json").read_text())}
    token = json.loads((folder / "v1.0-mini" / "scene.json").read_text())[0]["first_sample_token"]
    frames = []
    while token:
        frames.append((token, samples[token]["timestamp"] * 1000))
        token = samples[token]["next"]
    return frames


def lidar_places(folder: Path) -> dict[str, Pose]:
    """By sample, where the lidar was: it sees what nearer objects do not hide. It looks all around: no axes count."""
    names = ("ego_pose", "calibrated_sensor", "sample_data")
    ego, sensors, frames = (json.loads((folder / "v1.0-mini" / f"{name}.json").read_text()) for name in names)
    vehicles = {row["token"]: (row["rotation"], row["translation"]) for row in ego}
    mounted = {row["token"]: np.array(row["translation"]) for row in sensors}
    places = {}
    for row in frames:
        if "LIDAR_TOP" in row["filename"] and row["is_key_frame"]:
            (w, *xyz), origin = vehicles[row["ego_pose_token"]]
            turn = Rotation.from_quat([*xyz, w])
            place = turn.apply(mounted[row["calibrated_sensor_token"]]) + origin
            places[row["sample_token"]] = Pose(np.eye(3), place)
    return places


def nuscenes_detections(rows: list[dict], tracker: WorldTracker) -> Detections3D:
    """Rows of a submission, of which the classes without tracking task are left out."""
    rows = [row for row in rows if row["detection_name"] in NUSCENES_CLASSES]
    centre = np.array([row["translation"] for row in rows], np.float64).reshape(-1, 3)
    width_first = np.array([row["size"] for row in rows], np.float64).reshape(-1, 3)
    w, x, y, z = np.array([row["rotation"] for row in rows], np.float64).reshape(-1, 4).T
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2))
    velocity = np.array([(*row["velocity"], 0.0) for row in rows], np.float64).reshape(-1, 3)
    boxes = Boxes3D(centre, width_first[:, [1, 0, 2]], yaw, velocity)
    class_ids = np.array([tracker.class_id(row["detection_name"]) for row in rows], np.int64)
    return Detections3D(boxes, np.array([row["detection_score"] for row in rows], np.float64), class_ids)


def measured_tracks(tracker: WorldTracker) -> Tracks3D:
    """Those that the newest frame has measured, published or not."""
    state = tracker.state
    assert tracker.time_ns is not None
    return tracker.as_tracks(state.rows((~state.coasting).nonzero()[0]), tracker.time_ns)


def nuscenes_rows(token: str, tracks: Tracks3D, names: Sequence[str]) -> list[dict]:
    """Tracks as rows of a submission, the best 500 by score: one for each class, by its share in the likeliest's."""
    boxes, classes = tracks.boxes, tracks.states.class_probabilities
    shares = classes / classes.max(1, keepdims=True, initial=1e-9)
    scores = np.where(shares >= LEAST_CLASS, tracks.scores[:, None] * shares, -1.0)
    order = np.argsort(-scores, axis=None)[: min(500, int((scores >= 0).sum()))]
    return [
        {
            "sample_token": token,
            "translation": boxes.centre[i].tolist(),
            "size": boxes.size[i, [1, 0, 2]].tolist(),
            "rotation": [float(np.cos(boxes.yaw[i] / 2)), 0.0, 0.0, float(np.sin(boxes.yaw[i] / 2))],
            "velocity": boxes.velocity[i, :2].tolist(),
            "tracking_id": f"{tracks.ids[i]}-{names[c]}",
            "tracking_name": names[c],
            "tracking_score": float(scores[i, c]),
        }
        for i, c in zip(*np.unravel_index(order, scores.shape), strict=True)
    ]


def score_nuscenes(folder: Path, detector: str, python: Path, config: WorldConfig = DEFAULT) -> dict[str, float]:
    """Mean scores over the classes present, by the official devkit, and milliseconds of processor time a frame."""
    submission = json.loads((folder / "detections" / f"{detector}.json").read_text())
    tracker = WorldTracker(config, {"lidar": NUSCENES_SENSORS[detector]})
    places = lidar_places(folder)
    results, durations = {}, []
    for token, time_ns in nuscenes_frames(folder):
        detections = nuscenes_detections(submission["results"][token], tracker)
        start = time.process_time()
        tracker.step(time_ns, detections, "lidar", places[token])
        durations.append((time.process_time() - start) * 1e3)
        results[token] = nuscenes_rows(token, measured_tracks(tracker), tracker.class_names)
    with tempfile.TemporaryDirectory() as out:
        path = Path(out) / "tracks.json"
        path.write_text(json.dumps({"meta": submission["meta"], "results": results}))
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(python), "-c", DEVKIT, str(path), out, str(folder)]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        metrics = json.loads((Path(out) / "metrics_summary.json").read_text())
    median, p99 = np.percentile(durations, [50, 99])
    scores = {name: float(metrics[name]) for name in ("amota", "amotp", "mota", "ids")}
    return {**scores, "ms_median": float(median), "ms_p99": float(p99)}


# --- Report


def show(title: str, columns: Sequence[str], others: Mapping[str, tuple[str, ...]], ours: tuple[str, ...]) -> None:
    table = Table("", *columns, title=title)
    for name, row in others.items():
        table.add_row(name, *row)
    table.add_row("this PKF", *ours, style="bold")
    Console().print(table)


def report_kitti(folder: Path, with_poses: bool, config: WorldConfig) -> dict[str, float]:
    ours = score_kitti(folder, KITTI, with_poses, config)
    motion = "with ego motion" if with_poses else "without ego motion"
    values = [f"{ours[name]:.2f}" for name in ("samota", "amota", "amotp", "mota")]
    counts = [str(ours["id_switches"]), str(ours["fragmentations"])]
    columns = ("sAMOTA", "AMOTA", "AMOTP", "MOTA", "IDS", "FRAG", "ms")
    row = (*values, *counts, f"{ours['ms_median']:.2f}")
    show(f"KITTI car, PointRCNN, 6 sequences, {motion}", columns, {"AB3DMOT": AB3DMOT[motion]}, row)
    return ours


def report_nuscenes(folder: Path, detector: str, python: Path, config: WorldConfig) -> dict[str, float]:
    ours = score_nuscenes(folder, detector, python, config)
    spent = f"{ours['ms_median']:.1f}", f"{ours['ms_p99']:.1f}"
    row = (*(f"{ours[name]:.3f}" for name in ("amota", "amotp", "mota")), f"{ours['ids']:.0f}", *spent)
    others = NUSCENES_OTHERS[detector]
    show(f"nuScenes scene-0103, {detector}", ("AMOTA", "AMOTP", "MOTA", "IDS", "ms", "ms p99"), others, row)
    return ours


def main() -> int:
    parser = head.described(__doc__)
    default = Path(os.environ.get("CAMTRACK_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default, help="folder with kitti_tracking and nuscenes")
    parser.add_argument("--nuscenes", type=Path, help="interpreter of an environment with nuscenes-devkit")
    parser.add_argument("--identities", choices=("averaged", "resolved"), default=DEFAULT.identities)
    parser.add_argument("--spread", choices=SPREADS, default=DEFAULT.spread)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON as well")
    arguments = parser.parse_args()
    chosen = {"identities": arguments.identities, "spread": arguments.spread}
    config = DEFAULT.model_copy(update=chosen)

    figures: dict[str, dict[str, float]] = {}
    kitti, nuscenes = arguments.data / "kitti_tracking", arguments.data / "nuscenes"
    if (kitti / "pointrcnn_car").is_dir():
        track_kitti(kitti, KITTI[0], 5, False)  # compile before anything is timed
        figures["kitti"] = report_kitti(kitti, False, config)
        figures["kitti_with_poses"] = report_kitti(kitti, True, config)
        figures["ab3dmot_by_definition"] = ab3dmot_by_definition(kitti)
        for name, row in figures.items():
            values = [f"{row.get(f'{s}_definition', row.get(s)):.2f}" for s in ("samota", "amota", "amotp", "mota")]
            print(f"by the definition, ties kept: {name}: sAMOTA, AMOTA, AMOTP, MOTA {' '.join(values)}")
    else:
        print(f"skipped KITTI: expected {kitti / 'pointrcnn_car'}; set CAMTRACK_DATA or --data")
    if arguments.nuscenes is None or not (nuscenes / "detections").is_dir():
        print(f"skipped nuScenes: needs {nuscenes / 'detections'} and --nuscenes PYTHON with the devkit")
    else:
        for detector in NUSCENES_SENSORS:
            figures[detector] = report_nuscenes(nuscenes, detector, arguments.nuscenes, config)
    if arguments.json:
        print(json.dumps(figures, indent=2))
    return 0 if figures else 1


if __name__ == "__main__":
    raise SystemExit(main())
