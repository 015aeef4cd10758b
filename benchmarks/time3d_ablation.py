"""Ablations of Time3D: trains every variant on generated drives and scores it by nuScenes' official measures.

    python benchmarks/time3d_ablation.py [--steps 3600] [--tables coupling cues flow] [--seeds 0 1] [--train 1000-1199]
                                         [--test 9000-9007] [--config TRAINING.yaml] [--detector CHECKPOINT.pt]
                                         [--width 576 --height 320] [--out FOLDER] [--json]

The tables of the paper: 1, detector and flow trained end to end or separately; 2, the cues of the embedding; 4, the
information flow. A variant is a change of the configuration, see VARIANTS; the paper's AMOTA on nuScenes stands beside
it, of the test set in table 1 and of the validation set in the others. All variants see the same samples in the same
order. Clips, runs, graphs and scores stay in --out, and what was interrupted goes on; a row that is there is not
trained again. With several --seeds each number is their mean, with half their range.

`--detector` gives every row the detector of a Time3D checkpoint to start from, and leaves embedding and flow to be
learnt: few steps, as those of config/time3d_ablation.yaml, then tell of the association, which the tables compare.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import head
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from time3d_scores import Collected, counted, judged, official, placed, rows_of

from camtrack_core.datasets.frames import Frame, Sequence
from camtrack_core.datasets.sources import open_labelled
from camtrack_core.files import write_whole
from camtrack_core.geometry.boxes import Boxes3D, Floats, Integers
from camtrack_core.geometry.camera import Pose
from time3d_tracker import clips
from time3d_tracker.cli import RunConfig, read_config
from time3d_tracker.export import export, resized
from time3d_tracker.level import camera_height
from time3d_tracker.model import Time3DModel
from time3d_tracker.network import Time3D
from time3d_tracker.tracker import Tracker
from time3d_tracker.training import load_network, train_model

ROOT = Path(__file__).resolve().parents[1]
SHOWN = {"mAP": 3, "trans_err": 2, "AMOTA": 3, "IDS": 0}  # digits of the columns


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        network, training: what differs from the configuration.
        paper: AMOTA there, per cent.
    """

    network: dict[str, Any]
    training: dict[str, Any]
    paper: float


FULL = Variant({}, {}, 26.0)
VARIANTS: dict[str, dict[str, Variant]] = {
    "coupling": {"end to end": Variant({}, {}, 21.4), "separate": Variant({}, {"coupling": "separate"}, 15.6)},
    "cues": {
        "class": Variant({"cues": ("class",)}, {}, 2.4),
        "2D corners": Variant({"cues": ("box2d",)}, {}, 8.9),
        "3D corners": Variant({"cues": ("box3d",)}, {}, 11.2),
        "Re-ID": Variant({"cues": ("reid",)}, {}, 16.5),
        "3D corners, Re-ID": Variant({"cues": ("box3d", "reid")}, {}, 24.7),
        "2D and 3D corners, Re-ID": Variant({"cues": ("box2d", "box3d", "reid")}, {}, 25.8),
        "all": FULL,
        "all, boxes directly": Variant({"cues": ("class", "direct2d", "direct3d", "reid")}, {}, 19.0),
    },
    "flow": {
        "spatial and temporal": FULL,
        "spatial": Variant({"flow": "spatial"}, {}, 23.9),
        "none": Variant({"flow": "none"}, {}, 17.9),
    },
}


@dataclass(frozen=True)
class Recipe:
    """What all rows share.

    Attributes:
        folder: of runs.
        drives: clips to train on.
        detector: checkpoint of the Time3D whose detector every row starts from; None: random weights.
        size: height and width of the graphs that are scored.
    """

    folder: Path
    config: RunConfig
    drives: list[clips.Clip]
    steps: int
    detector: Path | None
    size: tuple[int, int]

    def graph(self, variant: Variant, seed: int) -> Path:
        """The exported graph of a variant, trained where it is missing."""
        changes = {**variant.network, **variant.training, "steps": self.steps, "seed": seed}
        name = "_".join(f"{k}-{'+'.join(v) if isinstance(v, tuple) else v}" for k, v in changes.items())
        folder = self.folder / name
        path = folder / "time3d.onnx"
        if not path.exists():
            network = type(self.config.network)(**(self.config.network.model_dump() | variant.network))
            values = self.config.training.model_dump() | variant.training | {"steps": self.steps, "seed": seed}
            training = type(self.config.training)(**values)
            torch.manual_seed(seed)
            model = Time3D(network)
            if self.detector is not None:
                model.detector.load_state_dict(load_network(self.detector).detector.state_dict())
            train_model(folder, model, self.drives, np.ones(len(self.drives)), training)
            export(resized(model, *self.size), path)
        return path


def prepared(folder: Path, drives: str, class_names: tuple[str, ...], console: Console) -> list[clips.Clip]:
    """Clips of drives, made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for drive in track(list(open_labelled([drives])), "preparing", console=console):
        paths.append(folder / f"{drive.name}.npz")
        if not paths[-1].exists():
            clips.save(clips.from_sequence(drive, class_names), paths[-1])
    return [clips.load(path) for path in paths]


def score(path: Path, drives: list[tuple[Sequence, list[Frame]]], console: Console) -> dict[str, float]:
    """Official mAP, translation error, AMOTA and identity switches of one graph; kept beside it."""
    kept = path.with_name("scores.json")
    if not kept.exists():
        model, collected = Time3DModel(path), Collected()
        for drive, frames in track(drives, path.parent.name, console=console):
            tracker = Tracker(model)
            for frame in frames:
                collect(collected, drive, frame, tracker, model.class_names)
        scores = official(collected, console)
        found, tracks = scores["detections"], scores["Time3D"]
        switches = float(np.nan_to_num(tracks["IDS"]))  # without any track the devkit says NaN
        row = {"mAP": found["mAP"], "trans_err": found["trans_err"], "AMOTA": tracks["AMOTA"], "IDS": switches}
        write_whole(kept, json.dumps(row).encode())
    return json.loads(kept.read_text())


def collect(collected: Collected, drive: Sequence, frame: Frame, tracker: Tracker, names: tuple[str, ...]) -> None:
    """Truth, detections and tracks of one frame."""
    assert frame.camera is not None and frame.labels is not None
    assert frame.camera_pose is not None and frame.boxes3d is not None
    pose, must = frame.camera_pose, judged(frame, drive.class_names)
    result = tracker.step(frame.image, frame.time_ns, frame.camera.intrinsics, pose, camera_height(frame))
    ids, own = frame.labels.ids[must], [drive.class_names[c] for c in frame.labels.class_ids[must]]
    rows = rows_of(frame.boxes3d[must], np.full(must.sum(), -1.0), own, [str(i) for i in ids], pose.translation)
    collected.add("truth", drive.name, frame, rows)

    def add(method: str, boxes: Boxes3D, scores: Floats, class_ids: Integers, ids: Integers) -> None:
        there: Pose = pose @ result.upright
        found = placed(boxes, there)
        rows = rows_of(found, scores, [names[c] for c in class_ids], [str(i) for i in ids], pose.translation)
        keep = counted(frame, must, found.centre)
        collected.add(method, drive.name, frame, [row for row, kept in zip(rows, keep, strict=True) if kept])

    found, tracks = result.detections, result.tracks
    add("detections", found.boxes, found.scores, found.class_ids, np.arange(len(found)) + 1)
    add("Time3D", tracks.boxes, tracks.scores, tracks.class_ids, tracks.ids)


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--steps", type=int, default=3600, help="of each training (default: %(default)s)")
    parser.add_argument("--tables", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings (default: 0)")
    parser.add_argument("--train", default="1000-1199", help="seeds of the drives (default: %(default)s)")
    parser.add_argument("--train-frames", type=int, default=48, help="of each (default: %(default)s)")
    parser.add_argument("--test", default="9000-9007", help="seeds of the drives (default: %(default)s)")
    parser.add_argument("--test-frames", type=int, default=60, help="of each (default: %(default)s)")
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "time3d_demo.yaml")
    parser.add_argument("--detector", type=Path, help="Time3D checkpoint whose detector every row starts from")
    parser.add_argument("--width", type=int, help="of the tested graphs, pixels; as trained if not given")
    parser.add_argument("--height", type=int, help="of the tested graphs, pixels; as trained if not given")
    parser.add_argument("--out", type=Path, default=Path("time3d_ablation"))
    arguments = parser.parse_args()
    console = Console(stderr=True)
    torch.set_num_threads(1)
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    config = read_config(arguments.config)
    names, size = config.network.class_names, (config.network.height, config.network.width)
    train = f"drive:{arguments.train}?frames={arguments.train_frames}&frame_rate=10"
    recipe = Recipe(
        arguments.out / "runs", config, prepared(arguments.out / "clips", train, names, console), arguments.steps,
        arguments.detector, (arguments.height or size[0], arguments.width or size[1]),
    )  # fmt: skip
    test = list(open_labelled([f"drive:{arguments.test}?frames={arguments.test_frames}&frame_rate=10"]))
    shown = [(drive, list(drive)) for drive in track(test, "driving", console=console)]
    for seed in arguments.seeds:
        for table in arguments.tables:
            for name, variant in VARIANTS[table].items():
                scored = score(recipe.graph(variant, seed), shown, console)
                rows.setdefault(table, {}).setdefault(name, []).append(scored)
    if arguments.json:
        print(json.dumps(rows))
        return
    for title, by_name in rows.items():
        table = Table(title, "mAP", "translation error (m)", "AMOTA", "switches", "AMOTA, paper")
        for name, seeds in by_name.items():
            values = [spread([row[key] for row in seeds], digits) for key, digits in SHOWN.items()]
            table.add_row(name, *values, f"{VARIANTS[title][name].paper / 100:.3f}")
        Console().print(table)


def spread(values: list[float], digits: int) -> str:
    """The mean and, of several, half their range."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.ptp(values) / 2:.{digits}f}"


if __name__ == "__main__":
    sys.exit(head.ran(main))
