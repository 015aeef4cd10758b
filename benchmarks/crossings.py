"""Ids over crossings, of Time3D and of fakes over the very same boxes: what the learnt association is worth.

    python benchmarks/crossings.py [--model TIME3D.onnx] [--source 'RECORDING?QUERY']... [--precision f32] [--json]

Objects whose pictures cover each other by .3 and part again: of those found on both sides, the share that keeps its id
(camtrack_core/evaluation/crossings.py). The fakes know nothing but the boxes that Time3D finds: "IoU" assigns them to
the last boxes of its tracks by the greatest sum of IoU (at least .1), "centre" by the least sum of distances in the
image (at most the box's height), both with a memory of MEMORY seconds; "random" draws one of as many ids as there are
boxes. Beside each share stands its standard error, as of independent objects.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import head
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from camtrack_core.datasets.sources import open_labelled
from camtrack_core.errors import DataError
from camtrack_core.evaluation.crossings import Crossings
from camtrack_core.geometry.boxes import Floats, Integers, iou
from time3d_tracker.level import camera_height
from time3d_tracker.model import DEMO_MODEL, Time3DModel
from time3d_tracker.tracker import Tracker

DATA = Path(os.environ.get("CAMTRACK_DATA") or head.ROOT.parent / "shared" / "data")
SOURCES = {
    "nuScenes scene-0103, 2 Hz": f"{DATA / 'nuscenes'}?scene=scene-0103&camera=CAM_FRONT",
    "PandaSet back_camera, 10 Hz": f"{DATA / 'pandaset'}?camera=back_camera",
    "PandaSet front_camera, 10 Hz": f"{DATA / 'pandaset'}?camera=front_camera",
    "drives 9100-9107, 10 Hz": "drive:9100-9107?frames=80&frame_rate=10",
}
MEMORY = 2.0  # seconds that a fake remembers a track which it does not see
LEAST = 0.1  # IoU
Alike = Callable[[Floats, Floats], Floats]  # boxes (M, 4) and last boxes (N, 4) to their likeness (M, N), 0 for none


def by_iou(xyxy: Floats, last: Floats) -> Floats:
    overlap = iou(xyxy, last)
    return np.where(overlap < LEAST, 0.0, overlap)


def by_centre(xyxy: Floats, last: Floats) -> Floats:
    middles = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (xyxy, last)]
    gap = np.linalg.norm(middles[0][:, None] - middles[1][None], axis=-1)
    return np.maximum(1 - gap / (xyxy[:, 3] - xyxy[:, 1])[:, None], 0.0)


class Fake:
    """Ids by the likeness of boxes with the last ones of each track."""

    def __init__(self, alike: Alike) -> None:
        self._alike = alike
        self._ids, self._xyxy, self._seen = np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0)
        self._next = 1

    def step(self, time: float, xyxy: Floats) -> Integers:
        """(M,) ids of the boxes of a frame at so many seconds."""
        ids = np.zeros(len(xyxy), np.int64)
        likeness = self._alike(xyxy, self._xyxy)
        for row, column in zip(*linear_sum_assignment(likeness, maximize=True), strict=True):
            if likeness[row, column] > 0:
                ids[row] = self._ids[column]
        new = ids == 0
        ids[new] = self._next + np.arange(new.sum())
        self._next += int(new.sum())
        unseen = ~np.isin(self._ids, ids) & (time - self._seen <= MEMORY)
        self._ids = np.append(self._ids[unseen], ids)
        self._xyxy = np.concatenate([self._xyxy[unseen], xyxy])
        self._seen = np.append(self._seen[unseen], np.full(len(ids), time))
        return ids


def run(model: Time3DModel, source: str) -> dict[str, list[bool]]:
    """By method, of each object that crossed another, whether it kept its id."""
    rng = np.random.default_rng(0)
    kept: dict[str, list[bool]] = {"Time3D": [], "IoU": [], "centre": [], "random": []}
    for sequence in track(list(open_labelled([source])), source[-40:], console=Console(stderr=True)):
        tracker, fakes = Tracker(model), {"IoU": Fake(by_iou), "centre": Fake(by_centre)}
        seen = {name: Crossings() for name in kept}
        for frame in sequence:
            if frame.labels is None:
                raise DataError(f"expected a recording with labels in every frame, got one without in {source}")
            result = tracker.step(
                frame.image, frame.time_ns, frame.calibrated().intrinsics, frame.camera_pose, camera_height(frame)
            )
            ids = {"Time3D": result.tracks.ids, "random": rng.integers(max(len(result.xyxy), 1), size=len(result.xyxy))}
            ids |= {name: fake.step(frame.time_ns * 1e-9, result.xyxy) for name, fake in fakes.items()}
            for name, crossings in seen.items():
                crossings.add(frame.labels.ids, frame.labels.xyxy, ids[name], result.xyxy)
        for name, crossings in seen.items():
            kept[name] += crossings.kept()
    return kept


def share(kept: Iterable[bool]) -> tuple[float, float]:
    """Of what was kept, and its standard error as of independent draws."""
    drawn = np.array(list(kept), float)
    if not len(drawn):
        return float("nan"), float("nan")
    return float(drawn.mean()), float(np.sqrt(drawn.mean() * (1 - drawn.mean()) / len(drawn)))


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    parser.add_argument("--source", action="append", help="labelled recordings (default: four sets of them)")
    head.add_engine(parser)
    arguments = parser.parse_args()
    model = Time3DModel(arguments.model, arguments.device, precision=arguments.precision)
    sources = {source: source for source in arguments.source} if arguments.source else SOURCES
    figures = {name: run(model, source) for name, source in sources.items()}
    if arguments.json:
        print(json.dumps(figures))
        return
    table = Table("recording", "objects", *next(iter(figures.values())))
    for name, methods in figures.items():
        shares = [f"{mean:.2f} ± {error:.2f}" for mean, error in map(share, methods.values())]
        table.add_row(name, str(len(methods["Time3D"])), *shares)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(head.ran(main))
