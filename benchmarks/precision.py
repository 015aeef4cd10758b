"""What bfloat16 does to the networks: time, scores and places beside float32, on generated drives.

    python benchmarks/precision.py [--seeds 9000-9003] [--frames 24] [--json]

Every frame is seen once in float32 and once in bfloat16, alternately, so that the ratio of times holds on a busy
machine too. Boxes that float32 shows are matched with those of bfloat16 (in the image by overlap of at least 0.5, in
space within 2 m); matched are how many, and differences are theirs. Average precision and tracks in each precision:
`drive_scores.py --precision` and `time3d_scores.py --precision`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import head
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_labelled
from camtrack_core.geometry.boxes import Boxes2D, Detections3D, iou
from camtrack_core.runtime import Precision
from gcnet_tracker.tracker import Detector, GCNetModel
from time3d_tracker.level import camera_height
from time3d_tracker.model import DEMO_MODEL, Time3DModel
from time3d_tracker.tracker import Result, Tracker

PRECISIONS: tuple[Precision, Precision] = ("f32", "bf16")
SHOWN = 0.3  # scores of the boxes that are compared
LEAST_OVERLAP, FARTHEST = 0.5, 2.0  # of a match in the image and, metres, in space
T = TypeVar("T")


@dataclass
class Differences:
    """Of one network: milliseconds of a frame by precision, and differences of matched boxes."""

    times: dict[Precision, list[float]] = field(default_factory=lambda: {p: [] for p in PRECISIONS})
    compared: int = 0
    scores: list[float] = field(default_factory=list)
    places: list[float] = field(default_factory=list)

    def add(self, apart: NDArray[np.float64], farthest: float, scores: NDArray[np.float64]) -> None:
        """Of a frame: distances (N, M) of N boxes to M others and differences (N, M) of their scores."""
        self.compared += len(apart)
        if apart.shape[1]:
            for row, column in enumerate(apart.argmin(1)):
                if apart[row, column] <= farthest:
                    self.places.append(float(apart[row, column]))
                    self.scores.append(float(scores[row, column]))

    def summary(self) -> dict[str, float]:
        exact, rounded = (float(np.median(self.times[p])) for p in PRECISIONS)
        middle, high = (np.percentile([self.scores, self.places], q, axis=1).tolist() for q in (50, 99))
        return {
            "f32_ms": exact, "bf16_ms": rounded, "ratio": rounded / exact,
            "boxes": self.compared, "matched": len(self.scores) / max(self.compared, 1),
            "score_p50": middle[0], "score_p99": high[0], "place_p50": middle[1], "place_p99": high[1],
        }  # fmt: skip

    def timed(self, precision: Precision, run: Callable[..., T], *arguments: object) -> T:
        begin = time.perf_counter()
        result = run(*arguments)
        self.times[precision].append(1e3 * (time.perf_counter() - begin))
        return result


def compare_in_image(differences: Differences, exact: Boxes2D, rounded: Boxes2D) -> None:
    """The place is compared as 1 - IoU."""
    shown = exact[exact.scores >= SHOWN]
    scores = np.abs(shown.scores[:, None] - rounded.scores)
    differences.add(1 - iou(shown.xyxy, rounded.xyxy), 1 - LEAST_OVERLAP, scores)


def compare_in_space(differences: Differences, exact: Detections3D, rounded: Detections3D) -> None:
    """The place is compared in metres."""
    shown = exact[exact.scores >= SHOWN]
    apart = np.linalg.norm(shown.boxes.centre[:, None] - rounded.boxes.centre, axis=-1)
    differences.add(apart, FARTHEST, np.abs(shown.scores[:, None] - rounded.scores))


def look(tracker: Tracker, frame: Frame) -> Result:
    assert frame.camera is not None
    return tracker.step(frame.image, frame.time_ns, frame.camera.intrinsics, frame.camera_pose, camera_height(frame))


def measure(seeds: str, frames: int) -> tuple[dict[str, Differences], list[str]]:
    """Differences by network, and the engines that ran."""
    gcnet = {p: GCNetModel(precision=p) for p in PRECISIONS}
    time3d = {p: Time3DModel(DEMO_MODEL, precision=p) for p in PRECISIONS}
    found = {"GCNet": Differences(), "Time3D": Differences()}
    sequences = list(open_labelled([f"drive:{seeds}?frames={frames}&frame_rate=10"]))
    for sequence in track(sequences, "driving", console=Console(stderr=True)):
        detectors = {p: Detector(model) for p, model in gcnet.items()}
        trackers = {p: Tracker(model) for p, model in time3d.items()}
        for frame in sequence:
            in_image = [found["GCNet"].timed(p, detectors[p], frame.image) for p in PRECISIONS]
            in_space = [found["Time3D"].timed(p, look, trackers[p], frame) for p in PRECISIONS]
            compare_in_image(found["GCNet"], *in_image)
            compare_in_space(found["Time3D"], *(result.detections for result in in_space))
    return found, [gcnet[p].session.engine for p in PRECISIONS]


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--seeds", default="9000-9003", help="of the drives (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=24, help="of each drive (default: %(default)s)")
    arguments = parser.parse_args()
    found, engines = measure(arguments.seeds, arguments.frames)
    summaries = {name: differences.summary() for name, differences in found.items()}
    if arguments.json:
        print(json.dumps({"engines": engines} | summaries))
        return
    table = Table("", *summaries, title=" beside ".join(engines))
    for name in next(iter(summaries.values())):
        table.add_row(name, *(f"{summary[name]:.4g}" for summary in summaries.values()))
    table.caption = "places: 1 - IoU in the image, metres in space"
    Console().print(table)


if __name__ == "__main__":
    sys.exit(head.ran(main))
