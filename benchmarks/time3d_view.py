"""Time3D on real streets, by what the evaluated camera can see (`camtrack_core/evaluation/view.py`).

    python benchmarks/time3d_view.py [--model TIME3D.onnx ...] [--data FOLDER] [--pitch DEGREES] [--height METRES]
        [--only nuScenes] [--device openvino] [--plot reliability.png] [--json]

Sets: nuScenes' scene-0103, PandaSet's back_camera and three images of KITTI, on which nothing is trained, front_camera
50-59, on which checkpoints are chosen, and drives. `--pitch` and `--height` falsify what the tracker is told of the
camera. Several models, such as one and the same in int8, are looked at one after the other. Besides, `ground_boxes`:
Time3D's own 2D boxes set on flat ground by their lower edges. Of KITTI's ten sequences only labels are there: their 2D
boxes on the ground, every second, are `ground_boxes of labels`, which finds all that is asked for and ranks it by how
sure the ground is. Standard errors are a jackknife over eight stretches of frames.
"within" is the share of found objects whose true depth lies within 1 and 2 stated standard deviations, a second table
has it by distance, and `--plot` draws it for every number of them, beside that of a normal distribution.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import head
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from camtrack.evaluation.view import NAMES
from camtrack.offline.ground import PITCH_DEVIATION
from camtrack_core.datasets.frames import Frame, Sequence, Skipping, truth_of
from camtrack_core.datasets.kitti.sequences import CAMERA_HEIGHT
from camtrack_core.datasets.nuscenes import NuScenesSequence
from camtrack_core.datasets.sources import list_sources, open_source
from camtrack_core.evaluation.view import BANDS, OVERLAP, Seen, by_band, score_view, standard_errors, true_objects
from camtrack_core.geometry.boxes import Boxes3D, Floats, iou
from camtrack_core.geometry.camera import Pose
from camtrack_core.geometry.ground import on_ground, place_deviation
from time3d_tracker.level import camera_height
from time3d_tracker.model import DEMO_MODEL, Time3DModel
from time3d_tracker.tracker import Result, Tracker

DATA = Path(os.environ.get("CAMTRACK_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
SOURCES = {
    "nuScenes scene-0103": "{data}/nuscenes?scene=scene-0103&camera=CAM_FRONT",
    "PandaSet back_camera": "{data}/pandaset?camera=back_camera",
    "PandaSet front_camera 50-59": "{data}/pandaset?camera=front_camera&frames=50-59",
    "KITTI 0001, 3 images": "{data}/kitti_tracking?sequence=0001",
    "drives 9000-9007": "drive:9000-9007?frames=10&frame_rate=5",
}
LABELLED = "KITTI, ten sequences"
SPACING = 10  # frames between those of KITTI's sequences that are looked at, a second
DEVIATIONS = np.linspace(0, 3, 61)  # at which reliability is looked at
LIDAR_SCORE = 0.3  # of a lidar detector's find that nobody annotated, which is let pass
ANNOTATED = 2.0  # metres; a find that is closer to an annotation is of the same object
GROUPS = ("vehicle", "pedestrian")


def unannotated(root: Path, token: str, boxes: Boxes3D) -> Boxes3D:
    """What the lidar detectors in nuScenes' folder see in a sample and nobody annotated, in the fixed frame."""
    found = []
    for path in sorted((root / "detections").glob("*.json")):
        found += [x for x in json.loads(path.read_text())["results"][token] if x["detection_score"] >= LIDAR_SCORE]
    centre = np.array([x["translation"] for x in found]).reshape(-1, 3)
    size = np.array([x["size"] for x in found]).reshape(-1, 3)[:, [1, 0, 2]]
    gap = np.linalg.norm(centre[:, None, :2] - boxes.centre[None, :, :2], axis=-1)
    new = gap.min(1, initial=np.inf) > ANNOTATED
    return Boxes3D(centre, size, np.zeros(len(size)), np.zeros_like(centre))[new]


def frames_of(spec: str) -> Iterator[tuple[Frame, Seen]]:
    """Frames with what they show; those whose images are missing are left out."""
    sequence = open_source(spec)
    pairs: Iterable[tuple[Frame, Any]] = ((frame, None) for frame in Skipping(sequence))
    if isinstance(sequence, NuScenesSequence):
        pairs = zip(sequence, sequence.keys(), strict=True)
    for frame, sample in pairs:
        assert frame.labels is not None and frame.boxes3d is not None
        assert frame.camera is not None and frame.camera_pose is not None
        names = usual_names(sequence)[frame.labels.class_ids]
        neutral = unannotated(Path(spec.partition("?")[0]), sample[0], frame.boxes3d) if sample else None
        yield frame, true_objects(frame.boxes3d, names, frame.lidar_points, frame.camera, frame.camera_pose, neutral)


def usual_names(sequence: Sequence) -> NDArray[np.str_]:
    """Names of a data set's classes as `camtrack evaluate --view` has them."""
    return np.array([NAMES.get(name.lower(), name.lower()) for name in sequence.class_names])


def labels_on_ground(root: Path) -> tuple[list[Seen], list[Seen]]:
    """What KITTI's sequences show, and the labels' own 2D boxes on the ground, for which no image is needed.

    The score is the probability that the place is right to 2 m, from how well the ground is known.
    """
    asked, found = [], []
    for spec in list_sources(str(root)):
        sequence = open_source(spec)
        for truth in itertools.islice(truth_of(sequence), 0, None, SPACING):
            assert truth.labels is not None and truth.boxes3d is not None
            assert truth.camera is not None and truth.camera_pose is not None
            names, xyxy = usual_names(sequence)[truth.labels.class_ids], truth.labels.xyxy
            place = on_ground(xyxy, names, truth.camera.intrinsics, truth.camera_pose, CAMERA_HEIGHT)
            deviation = place_deviation(np.linalg.norm(place, axis=1), CAMERA_HEIGHT, PITCH_DEVIATION)
            said = Seen(place, place[:, 1], xyxy, names, -np.expm1(-(2**0.5) * 2 / deviation))
            asked.append(true_objects(truth.boxes3d, names, None, truth.camera, truth.camera_pose))
            found.append(said[np.isfinite(place).all(1)])
    return asked, found


def told(frame: Frame, pitch: float, height: float) -> tuple[Pose, float]:
    """Pose and height of the camera as they are stated, falsified by degrees and metres."""
    assert frame.camera_pose is not None
    cos, sin = np.cos(np.radians(pitch)), np.sin(np.radians(pitch))
    turned = frame.camera_pose.rotation @ [[1, 0, 0], [0, cos, -sin], [0, sin, cos]]
    return Pose(turned, frame.camera_pose.translation), camera_height(frame) + height


def seen(result: Result, frame: Frame, model: Time3DModel) -> Seen:
    found = result.detections
    place = np.stack([-found.boxes.centre[:, 1], found.boxes.centre[:, 0]], -1)
    return Seen(place, place[:, 1], result.detected_xyxy, np.array(model.class_names)[found.class_ids], found.scores)


def grounded(said: Seen, frame: Frame, pose: Pose, height: float) -> Seen:
    """The same 2D boxes, their places taken from the ground."""
    assert frame.camera is not None
    place = on_ground(said.xyxy, said.class_names, frame.camera.intrinsics, pose, height)
    known = np.isfinite(place).all(1)
    return Seen(place, place[:, 1], said.xyxy, said.class_names, said.score)[known]


def scored(name: str, method: str, truth: list[Seen], found: list[Seen]) -> list[dict[str, Any]]:
    """A row of the table for each of GROUPS."""
    return [
        {"set": name, "method": method, "group": group, **asdict(score_view(truth, found, group)),
         "standard_error": asdict(standard_errors(truth, found, group))}
        for group in GROUPS
    ]  # fmt: skip


def in_deviations(truth: list[Seen], found: list[Seen], deviations: list[Floats]) -> Floats:
    """(M, 2) metres to asked vehicles found in 2D by a detection of score .15, and its depth's error in deviations."""
    errors = []
    for t, f, deviation in zip(truth, found, deviations, strict=True):
        overlap = iou(f.xyxy, t.xyxy) * (f.score > 0.15)[:, None]
        for column in np.flatnonzero((t.score > 0) & (overlap.max(0, initial=0) >= OVERLAP)):
            row = overlap[:, column].argmax()
            error = abs(f.depth[row] - t.depth[column]) / deviation[row]
            errors.append((float(np.linalg.norm(t.place[column])), error))
    return np.array(errors).reshape(-1, 2)


def within(errors: Floats, deviations: Floats) -> Floats:
    """Share of the errors below so many standard deviations each; NaN without any."""
    return np.array([(errors < limit).mean() if len(errors) else np.nan for limit in deviations])


def plot_reliability(errors: dict[str, Floats], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4.5))
    axes.plot(DEVIATIONS, [math.erf(x / math.sqrt(2)) for x in DEVIATIONS], "k--", label="normal distribution")
    for name, one in errors.items():
        axes.plot(DEVIATIONS, within(one, DEVIATIONS), label=f"{name} ({len(one)} vehicles)")
    axes.set(xlabel="stated standard deviations", ylabel="share of true depths within", xlim=(0, 3), ylim=(0, 1))
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=100, bbox_inches="tight")


def measured(model: Time3DModel, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Floats]]:
    """Rows of the table, and the errors in stated deviations by set."""
    rows: list[dict[str, Any]] = []
    reliability: dict[str, Floats] = {}
    for name, spec in SOURCES.items():
        if options.only not in name:
            continue
        truth: list[Seen] = []
        found: dict[str, list[Seen]] = {"Time3D": [], "ground_boxes": []}
        deviations: list[Floats] = []
        for source in list_sources(spec.format(data=options.data)):
            tracker = Tracker(model)
            for frame, true in frames_of(source):
                pose, height = told(frame, options.pitch, options.height)
                assert frame.camera is not None
                result = tracker.step(frame.image, frame.time_ns, frame.camera.intrinsics, pose, height)
                said = seen(result, frame, model)
                truth.append(true)
                found["Time3D"].append(said)
                found["ground_boxes"].append(grounded(said, frame, pose, height))
                deviations.append(result.detected_deviation)
        own = [row for method, said_all in found.items() for row in scored(name, method, truth, said_all)]
        distance, reliability[name] = in_deviations(truth, found["Time3D"], deviations).T
        own[0]["within"] = within(reliability[name], np.array([1.0, 2.0]))
        own[0]["within_by_distance"] = {
            "vehicles": np.histogram(distance, BANDS)[0],
            **{limit: by_band(distance, (reliability[name] < limit).astype(float), np.mean) for limit in (1, 2)},
        }
        rows += own
    return rows, reliability


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--model", type=Path, nargs="+", default=[DEMO_MODEL])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--pitch", type=float, default=0.0, help="degrees up by which the stated pitch is off")
    parser.add_argument("--height", type=float, default=0.0, help="metres by which the stated height is off")
    parser.add_argument("--only", default="", help="part of the name of the sets to run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--plot", type=Path, help="PNG of the reliability of the stated deviations")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    reliability: dict[str, Floats] = {}
    for path in options.model:
        own, errors = measured(Time3DModel(path, options.device), options)
        rows += [{"model": path.stem, **row} for row in own]
        reliability |= {f"{path.stem}, {name}": error for name, error in errors.items()}
    if options.only in LABELLED:
        labelled = scored(LABELLED, "ground_boxes of labels", *labels_on_ground(options.data / "kitti_tracking"))
        rows += [{"model": "", **row} for row in labelled]
    if options.plot:
        plot_reliability(reliability, options.plot)
    if options.json:
        print(json.dumps(rows, default=lambda x: x.tolist()))
        return
    table = Table(
        "model", "set", "method", "group", "asked", "2D AP50", "AP .5 / 1 / 2 / 4 m", "depth ratio", "error m", "within"
    )
    for row in rows:
        spread = row["standard_error"]
        table.add_row(
            row["model"], row["set"], row["method"], row["group"], str(row["asked"].sum()),
            f"{row['ap2d']:.3f}±{spread['ap2d']:.3f}",
            " ".join(f"{a:.3f}±{e:.3f}" for a, e in zip(row["ap"], spread["ap"], strict=True)),
            " ".join(f"{x:.2f}" for x in row["depth_ratio"]), " ".join(f"{x:.2f}" for x in row["error"]),
            " ".join(f"{x:.2f}" for x in row.get("within", [])),
        )  # fmt: skip
    Console(width=210).print(table)
    bands = [f"{low:.0f} to {high:.0f} m" for low, high in itertools.pairwise(BANDS)]
    table = Table("model", "set", *bands, title="found vehicles, and how many of them are within 1 and 2 deviations")
    for row in rows:
        if shares := row.get("within_by_distance"):
            cells = zip(shares["vehicles"], shares[1], shares[2], strict=True)
            table.add_row(row["model"], row["set"], *(f"{n}: {one:.2f} {two:.2f}" for n, one, two in cells))
    Console(width=210).print(table)


if __name__ == "__main__":
    sys.exit(head.ran(main))
