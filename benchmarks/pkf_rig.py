"""How many tracks six cameras make of one object: ids and duplicates on generated drives that are seen all around.

    python benchmarks/pkf_rig.py [--seeds 9300-9303] [--seconds 12] [--noise 2] [--json]

Detections are the true boxes that a camera shows, as a detector of monocular images would find them: 3 % off in
distance, with a share of that the same for all that a camera sees, misses in runs, a twentieth taken for another class,
false ones, and objects that the image's edge cuts found shorter and shifted. Neighbouring cameras overlap by some
degrees. One camera's detections come 0.25 s late, another one says nothing for two seconds. The filter has its
defaults, the sensors the noise of cameras in config/camera_fusion.yaml (`--noise`), the detector's own runs of misses,
and an `occlusion` (`--occlusion`) for distances that do not always tell who is before whom. Counted are the published
tracks within 2 m of an object: the ids that each object has had, and how often a second track stood at one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field

import head
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_cameras
from camtrack_core.geometry.boxes import Boxes3D, Detections3D
from camtrack_core.geometry.camera import Pose
from camtrack_core.geometry.tracks import Tracks3D
from pkf_filter.space.config import SensorModel
from pkf_filter.space.tracker import WorldTracker

RATE = 10.0  # frames a second
RANGE = 50.0  # metres
LEAST_VISIBLE, CUT = 0.3, 0.7  # visible shares: below the first nothing is found, below the second a shorter box
DEPTH, SAME_DEPTH, ACROSS = 0.03, 0.015, 0.1  # shares of the distance; metres
MISSED, MISS_TIME = 0.1, 0.3  # share of the time; mean duration of a run, seconds
OTHER_CLASS = 0.05
FALSE = 0.3  # a frame
LATE, LATENESS = "back", 0.25  # seconds
SILENT, SILENCE = "front_left", (5.0, 7.0)  # seconds
NEAR = 2.0  # metres
SETTLED = 1.0  # seconds for which an object must have been seen to count
Array = NDArray[np.float64]


@dataclass
class Detector:
    """What one camera finds, frame after frame."""

    rng: np.random.Generator
    class_ids: list[int]
    missing: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.same = self.rng.normal(scale=SAME_DEPTH)

    def find(self, frame: Frame) -> tuple[Detections3D, set[int]]:
        """Detections in the fixed frame, and the ids of the objects that the camera shows."""
        assert frame.labels is not None and frame.boxes3d is not None and frame.camera_pose is not None
        eye, boxes, rng = frame.camera_pose.translation, frame.boxes3d, self.rng
        distance = np.linalg.norm(boxes.centre - eye, axis=1)
        shown = (frame.labels.visible >= LEAST_VISIBLE) & (distance < RANGE)
        ids = frame.labels.ids[shown].tolist()
        found = np.array([not self._misses(track) for track in ids], bool)
        rows = shown.nonzero()[0][found] if len(ids) else np.zeros(0, np.int64)
        count, sight = len(rows), boxes.centre[rows] - eye
        cut = frame.labels.visible[rows] < CUT
        centre = boxes.centre[rows] + sight * (self.same + rng.normal(scale=DEPTH, size=(count, 1)))
        centre += rng.normal(scale=ACROSS, size=(count, 3)) * [1, 1, 0.5]
        size = boxes.size[rows] * rng.normal(1, 0.06, (count, 3))
        along = np.stack([np.cos(boxes.yaw[rows]), np.sin(boxes.yaw[rows]), np.zeros(count)], 1)
        centre += (cut * rng.uniform(-0.2, 0.2, count) * size[:, 0])[:, None] * along
        size[:, 0] *= np.where(cut, 0.6, 1.0)
        yaw = boxes.yaw[rows] + rng.normal(scale=0.1, size=count) + np.pi * (rng.random(count) < 0.1)
        classes = np.array([self.class_ids[k] for k in frame.labels.class_ids[rows]], np.int64)
        classes = np.where(rng.random(count) < OTHER_CLASS, rng.choice(self.class_ids, count), classes)
        true = Detections3D(
            Boxes3D(centre, size, yaw, np.full((count, 3), np.nan)), rng.uniform(0.6, 0.98, count), classes
        )
        return joined(true, self._false(frame.camera_pose)), set(ids)

    def _misses(self, track: int) -> bool:
        """Misses come in runs: a Markov chain of two states."""
        before = self.missing.get(track, False)
        stays = np.exp(-1 / RATE / MISS_TIME)
        misses = self.rng.random() < (stays if before else (1 - stays) * MISSED / (1 - MISSED))
        self.missing[track] = bool(misses)
        return bool(misses)

    def _false(self, pose: Pose) -> Detections3D:
        rng, count = self.rng, self.rng.poisson(FALSE)
        ahead, aside = rng.uniform(5, RANGE, count), rng.uniform(-0.5, 0.5, count)
        centre = pose.apply(np.stack([ahead * aside, np.full(count, 1.0), ahead], 1))
        size = np.tile([4.2, 1.8, 1.5], (count, 1))
        boxes = Boxes3D(centre, size, rng.uniform(-3, 3, count), np.full((count, 3), np.nan))
        return Detections3D(boxes, rng.uniform(0.1, 0.6, count), np.full(count, self.class_ids[0]))


def joined(a: Detections3D, b: Detections3D) -> Detections3D:
    boxes = Boxes3D(
        *(np.concatenate([x, y]) for x, y in zip(vars(a.boxes).values(), vars(b.boxes).values(), strict=True))
    )
    return Detections3D(boxes, np.concatenate([a.scores, b.scores]), np.concatenate([a.class_ids, b.class_ids]))


@dataclass
class Count:
    """What was published at the objects.

    Attributes:
        ids: by object, those of its tracks. seen: rounds in which a camera showed it, found: in which it had a track,
            both once it has been seen for a while.
        last: by object, the id of its newest track.
        duplicates: tracks that stood at an object which had one, summed over rounds; astray: at none.
        rounds: number.
    """

    ids: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    seen: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    found: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    last: dict[int, int] = field(default_factory=dict)
    duplicates: int = 0
    astray: int = 0
    rounds: int = 0

    def add(self, truth: dict[int, Array], shown: set[int], tracks: Tracks3D) -> None:
        """Who had a track keeps it while it is near; the others are matched at the least sum of distances."""
        self.rounds += 1
        names = list(truth)
        centres = np.array([truth[name][:2] for name in names]).reshape(-1, 2)
        gaps = np.linalg.norm(tracks.boxes.centre[:, None, :2] - centres, axis=-1)
        kept = tracks.ids[:, None] == np.array([self.last.get(name, 0) for name in names])
        cost = np.where(gaps <= NEAR, gaps - 1e3 * kept, 1e6)
        pairs = [pair for pair in zip(*linear_sum_assignment(cost), strict=True) if gaps[pair] <= NEAR]
        taken = {names[column]: int(tracks.ids[row]) for row, column in pairs}
        others = np.setdiff1d(np.arange(len(tracks)), [row for row, _ in pairs])
        near = (gaps[others] <= NEAR).any(1) if names else np.zeros(len(others), bool)
        self.duplicates += int(near.sum())
        self.astray += int((~near).sum())
        self.last |= taken
        for name in shown:
            self.seen[name] += 1
            if name in taken and self.seen[name] >= SETTLED * RATE:
                self.found[name] += 1
                self.ids[name].add(taken[name])


def drive(seed: int, seconds: float, noise: float, occlusion: float, count: Count) -> None:
    size = "width=320&height=180"
    cameras = open_cameras(f"drive:{seed}?cameras=6&frames={round(seconds * RATE)}&frame_rate={RATE:g}&{size}")
    frames = {name: iter(sequence) for name, sequence in cameras.items()}
    first = next(iter(cameras.values()))
    model = SensorModel(
        noise=noise,
        field_of_view=75.0,
        range=RANGE,
        depth_noise=0.04,
        occlusion=occlusion,
        detection_probability=1 - MISSED,
        miss_time=MISS_TIME,
        score_offset=0.4,
    )
    tracker = WorldTracker(sensors=dict.fromkeys(frames, model))
    class_ids = [tracker.class_id(name) for name in first.class_names]
    detectors = {name: Detector(np.random.default_rng([seed, k]), class_ids) for k, name in enumerate(frames)}
    held: list[tuple[int, Detections3D, Pose]] = []  # of the late camera
    for index in range(round(seconds * RATE)):
        truth: dict[int, Array] = {}
        shown: set[int] = set()
        for name, sequence in frames.items():
            frame = next(sequence)
            assert frame.labels is not None and frame.boxes3d is not None and frame.camera_pose is not None
            truth |= dict(zip(frame.labels.ids.tolist(), frame.boxes3d.centre, strict=True))
            found, seen = detectors[name].find(frame)
            if name == SILENT and SILENCE[0] <= index / RATE < SILENCE[1]:
                continue
            shown |= seen
            if name == LATE:
                held.append((frame.time_ns, found, frame.camera_pose))
            else:
                tracks = tracker.step(frame.time_ns, found, name, frame.camera_pose)
        while held and frame.time_ns - held[0][0] >= LATENESS * 1e9:
            time_ns, late, pose = held.pop(0)
            tracks = tracker.step(time_ns, late, LATE, pose)
        count.add(truth, shown, tracks)


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--seeds", default="9300-9303", help="of the drives (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each drive (default: %(default)s)")
    parser.add_argument("--noise", type=float, default=2.0, help="of the sensors (default: %(default)s)")
    parser.add_argument("--occlusion", type=float, default=0.8, help="of the sensors (default: %(default)s)")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    count, objects, ids, found, seen = Count(), 0, 0, 0, 0
    for seed in range(int(first), int(last or first) + 1):
        one = Count()
        drive(seed, arguments.seconds, arguments.noise, arguments.occlusion, one)
        objects, ids = objects + len(one.ids), ids + sum(map(len, one.ids.values()))
        settled = {name: rounds - SETTLED * RATE + 1 for name, rounds in one.seen.items() if rounds >= SETTLED * RATE}
        found, seen = found + sum(one.found.values()), seen + sum(settled.values())
        count.duplicates, count.astray = count.duplicates + one.duplicates, count.astray + one.astray
        count.rounds += one.rounds
    figures = {
        "objects": objects, "ids_per_object": ids / max(objects, 1), "found": found / max(seen, 1),
        "duplicates_per_round": count.duplicates / count.rounds, "astray_per_round": count.astray / count.rounds,
    }  # fmt: skip
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    table = Table(*figures, title=f"six cameras, {count.rounds} rounds")
    table.add_row(*(f"{value:.3g}" for value in figures.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
