"""Scores of the image-plane tracker on recordings, beside those of other trackers on the same detections.

    python benchmarks/pkf_tracking.py [--data FOLDER] [--identities resolved] [--spread mixture] [--json]

KITTI: 2D boxes of PointRCNN's car detections, ten sequences, and each half of them by itself. MOT15: public detections
of the two TUD sequences. One configuration, the default, for all. The data are those under $CAMTRACK_DATA or
../shared/data. The cost is measured on synthetic boxes as well, which need no data.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import head
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from camtrack_core.evaluation.tracking import EvaluationFrame, TrackTruth, score_tracks
from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.geometry.tracks import Tracks2D
from pkf_filter import FilterConfig, Tracker
from pkf_filter.baselines.paper import PaperTracker
from pkf_filter.filtering.update import SPREADS
from pkf_filter.image.smoothing import Smoother

SECOND = 1_000_000_000
Array = NDArray[np.float64]

KITTI = ("0000", "0001", "0003", "0005", "0006", "0010", "0012", "0013", "0015", "0020")
MOT15 = ("TUD-Campus", "TUD-Stadtmitte")

# HOTA, AssA, DetA, IDF1, MOTA, IDSW, median ms a frame; measured on the same detections and thresholds
KITTI_OTHERS = {
    "SORT (trackers 2.6.1)": ("74.24", "77.59", "71.22", "88.03", "80.35", "20", "0.20"),
    "ByteTrack": ("72.73", "78.03", "67.97", "85.50", "74.91", "25", "0.27"),
    "OC-SORT": ("73.03", "76.40", "69.99", "86.94", "78.92", "15", "0.51"),
    "PKF as its authors released it": ("71.32", "73.39", "69.50", "84.29", "77.97", "43", "1.1"),
    "Norfair, delay 2": ("73.96", "77.39", "70.86", "87.75", "79.83", "46", "0.33"),
}
MOT15_OTHERS = {
    "SORT (trackers 2.6.1)": ("50.2", "", "", "71.0", "67.1", "", ""),
    "ByteTrack": ("51.1", "", "", "72.1", "67.5", "", ""),
    "OC-SORT": ("50.0", "", "", "71.7", "65.7", "", ""),
    "PKF as its authors released it": ("52.2", "", "", "76.7", "67.6", "", ""),
    "Norfair, delay 2": ("51.7", "", "", "73.8", "67.1", "", ""),
}
COST_OTHERS = {  # ms a frame by number of boxes
    "SORT": {10: 0.31, 30: 0.81, 60: 1.55},
    "ByteTrack": {10: 0.32, 30: 0.82, 60: 1.57},
    "OC-SORT": {10: 0.53, 30: 1.37, 60: 2.64},
    "PKF as released": {10: 1.5, 30: 3.9, 60: 7.5},
}


class ImageTracker(Protocol):
    def step(self, time_ns: int, measurements: Boxes2D) -> Tracks2D: ...


@dataclass(frozen=True)
class Sequence:
    """One recording: truth, ignored regions and detections, frame by frame."""

    period: float  # seconds
    truth: list[TrackTruth]
    ignored: list[Array]
    detections: list[Boxes2D]


def kitti(folder: Path, name: str) -> Sequence:
    """Cars; vans and hardly visible cars are neither hit nor miss, as in KITTI's own evaluation."""
    labels = [line.split() for line in (folder / "label_02" / f"{name}.txt").read_text().splitlines()]
    frame = np.array([int(row[0]) for row in labels])
    ids = np.array([int(row[1]) for row in labels])
    kind = np.array([row[2] for row in labels])
    values = np.array([row[3:10] for row in labels], np.float64)  # truncation, occlusion, alpha, box
    scored = (kind == "Car") & (values[:, 0] <= 0) & (values[:, 1] <= 2)
    rows = np.loadtxt(folder / "pointrcnn_car" / f"{name}.txt", delimiter=",", ndmin=2)
    scores = 1 / (1 + np.exp(-rows[:, 6]))

    def truth(number: int) -> TrackTruth:
        of = (frame == number) & np.isin(kind, ["Car", "Van"])
        return TrackTruth(ids[of], values[of, 3:], np.zeros(of.sum(), np.int64), scored[of])

    def detections(number: int) -> Boxes2D:
        of = (rows[:, 0] == number) & (scores >= 0.731)
        return Boxes2D(rows[of, 2:6], scores[of], np.zeros(of.sum(), np.int64))

    numbers = range(int(max(frame.max(), rows[:, 0].max())) + 1)
    ignored = [values[(frame == number) & (kind == "DontCare"), 3:] for number in numbers]
    return Sequence(0.1, [truth(n) for n in numbers], ignored, [detections(n) for n in numbers])


def mot15(folder: Path, name: str) -> Sequence:
    """Pedestrians."""
    truth, rows = (np.loadtxt(folder / name / kind / f"{kind}.txt", delimiter=",") for kind in ("gt", "det"))

    def xyxy(table: Array) -> Array:
        return np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], 1)

    def labelled(t: Array) -> TrackTruth:
        return TrackTruth(t[:, 1].astype(np.int64), xyxy(t), np.zeros(len(t), np.int64), t[:, 6] != 0)

    def detected(d: Array) -> Boxes2D:
        d = d[d[:, 6] >= 0.5]
        return Boxes2D(xyxy(d), np.clip(d[:, 6], 0, 1), np.zeros(len(d), np.int64))

    numbers = range(1, int(truth[:, 0].max()) + 1)
    return Sequence(
        0.04,
        [labelled(truth[truth[:, 0] == n]) for n in numbers],
        [np.zeros((0, 4)) for _ in numbers],
        [detected(rows[rows[:, 0] == n]) for n in numbers],
    )


RECORDINGS: tuple[tuple[str, str, Callable[[Path, str], Sequence], tuple[str, ...], float, dict], ...] = (
    ("kitti_tracking", "KITTI car, 2D boxes of PointRCNN, 10 sequences", kitti, KITTI, 25.0, KITTI_OTHERS),
    ("mot15", "MOT15 TUD-Campus and TUD-Stadtmitte, public detections", mot15, MOT15, 0.0, MOT15_OTHERS),
)


def played(sequence: Sequence, tracker: ImageTracker) -> tuple[list[EvaluationFrame], list[float]]:
    """What a tracker makes of a recording, and its milliseconds for each frame."""
    frames, durations = [], []
    for i, boxes in enumerate(sequence.detections):
        start = time.perf_counter()
        tracks = tracker.step(round(i * sequence.period * SECOND), boxes)
        durations.append((time.perf_counter() - start) * 1e3)
        frames.append(EvaluationFrame(sequence.truth[i], tracks, sequence.ignored[i]))
    return frames, durations


def smoothed(sequence: Sequence, smoother: Smoother) -> tuple[list[EvaluationFrame], list[float]]:
    """As `played`, for tracks that come late."""
    found: list[Tracks2D] = []
    durations = []
    for i, boxes in enumerate(sequence.detections):
        start = time.perf_counter()
        found += smoother.step(round(i * sequence.period * SECOND), boxes)
        durations.append((time.perf_counter() - start) * 1e3)
    found += smoother.flush()
    frames = zip(sequence.truth, found, sequence.ignored, strict=True)
    return [EvaluationFrame(*frame) for frame in frames], durations


def score(
    sequences: dict[str, Sequence],
    min_track_height: float,
    tracker: Callable[[], Any] = Tracker,
    play: Callable[[Sequence, Any], tuple[list[EvaluationFrame], list[float]]] = played,
) -> dict[str, float]:
    """Scores in per cent over all sequences together, and milliseconds a frame."""
    results, durations = {}, []
    for name, sequence in sequences.items():
        results[name], cost = play(sequence, tracker())
        durations += cost
    scores = asdict(score_tracks(results, min_track_height))
    percent = {name: 100 * scores[name] for name in ("hota", "ass_a", "det_a", "idf1", "mota")}
    median, p99 = np.percentile(durations, [50, 99])
    cost = {"ms_median": float(median), "ms_p99": float(p99), "ms_mean": float(np.mean(durations))}
    return {**percent, "id_switches": scores["id_switches"], **cost}


def crossing(count: int, frames: int) -> Iterator[Boxes2D]:
    """Boxes that move through each other with constant velocity, one in 20 missed."""
    rng = np.random.default_rng(0)
    centre, velocity = rng.uniform(0, 1200, (count, 2)), rng.normal(0, 4, (count, 2))
    half = rng.uniform(20, 60, (count, 2)) / 2
    for _ in range(frames):
        xyxy = np.concatenate([centre - half, centre + half], 1) + rng.normal(0, 1, (count, 4))
        seen = rng.random(count) < 0.95
        yield Boxes2D(xyxy[seen], np.full(seen.sum(), 0.99), np.zeros(seen.sum(), np.int64))
        centre += velocity


def cost(count: int, frames: int = 300) -> dict[str, float]:
    """Milliseconds of processor time a frame for crossing boxes."""
    tracker, durations = Tracker(), []
    for i, boxes in enumerate(crossing(count, frames)):
        start = time.process_time()
        tracker.step(i * SECOND // 10, boxes)
        durations.append((time.process_time() - start) * 1e3)
    median, p99 = np.percentile(durations, [50, 99])
    return {"ms_median": float(median), "ms_p99": float(p99)}


def show(title: str, ours: dict[str, dict[str, float]], others: dict[str, tuple[str, ...]]) -> None:
    table = Table(title=title)
    for column in ("", "HOTA", "AssA", "DetA", "IDF1", "MOTA", "IDSW", "ms"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in others.items():
        table.add_row(name, *row)
    for name, scores in ours.items():
        percent = [f"{scores[column]:.2f}" for column in ("hota", "ass_a", "det_a", "idf1", "mota")]
        table.add_row(name, *percent, f"{scores['id_switches']:.0f}", f"{scores['ms_median']:.2f}", style="bold")
    Console().print(table)


def show_cost(ours: dict[int, dict[str, float]]) -> None:
    table = Table(title="Synthetic boxes, ms a frame")
    for column in ("boxes", "median", "p99", *COST_OTHERS):
        table.add_column(column, justify="right")
    for count, figures in ours.items():
        others = [f"{costs[count]:.2f}" for costs in COST_OTHERS.values()]
        table.add_row(str(count), f"{figures['ms_median']:.3f}", f"{figures['ms_p99']:.3f}", *others)
    Console().print(table)


def main() -> int:
    parser = head.parser(__doc__)
    default = Path(os.environ.get("CAMTRACK_DATA") or head.ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default, help="folder with kitti_tracking and mot15")
    default_config = FilterConfig()
    parser.add_argument("--identities", choices=("averaged", "resolved"), default=default_config.identities)
    parser.add_argument("--spread", choices=SPREADS, default=default_config.spread)
    arguments = parser.parse_args()
    config = default_config.model_copy(update={"identities": arguments.identities, "spread": arguments.spread})

    def ours() -> Tracker:
        return Tracker(config)

    for tracker in (Tracker(), PaperTracker()):  # compile before anything is timed
        tracker.step(0, Boxes2D.empty())
    figures: dict[str, Any] = {}
    for folder, title, read, names, min_track_height, others in RECORDINGS:
        if not (arguments.data / folder).is_dir():
            print(f"skipped {title}: expected {arguments.data / folder}; set CAMTRACK_DATA or --data")
            continue
        sequences = {name: read(arguments.data / folder, name) for name in names}
        figures[folder] = {
            "the paper's tracker": score(sequences, min_track_height, PaperTracker),
            "this PKF": score(sequences, min_track_height, ours),
            "this PKF, --smooth": score(sequences, min_track_height, lambda: Smoother(ours()), smoothed),
        }
        if len(names) > 2:
            for half, first in (("even", 0), ("odd", 1)):
                chosen = {name: sequences[name] for name in names[first::2]}
                figures[folder][f"this PKF, {half} half"] = score(chosen, min_track_height, ours)
        if not arguments.json:
            show(title, figures[folder], others)
    figures["cost"] = {count: cost(count) for count in (10, 30, 60)}
    if not arguments.json:
        show_cost(figures["cost"])
    if arguments.json:
        print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
