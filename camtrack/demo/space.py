"""The demo in space: a generated drive as a bag with calibration, poses and truth, and the scores against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from camtrack.bags.write import BagOptions, write_bag
from camtrack.recording.files import Recorded
from camtrack.recording.space import LEAST_SCORE
from camtrack_core.datasets.frames import Frame, Sequence, truth_of
from camtrack_core.evaluation.space import MATCH_DISTANCE, SpaceFrame, score_in_space
from camtrack_core.evaluation.view import asked_for

FRAME_RATE = 10.0  # of a generated drive
QUALITY = 92  # of its JPEG images
MIN_HEIGHT = 16.0  # pixels; smaller objects are neither hits nor misses
MIN_VISIBLE = 0.3  # share; more hidden objects are neither hits nor misses
FARTHEST = 50.0  # metres; farther objects are neither hits nor misses
RULE = f"matches within {MATCH_DISTANCE:g} m, tracks of score {LEAST_SCORE:g} and more"
Judged = dict[int, list[int]]  # ids that must be found, by stamp


class Noting:
    """A sequence that notes, as it is read, which of its objects must be found: a bag does not keep what is hidden."""

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self.name, self.class_names = sequence.name, sequence.class_names
        self.judged: Judged = {}

    def __len__(self) -> int:
        return len(self._sequence)

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._sequence:
            self.judged[frame.time_ns] = must_be_found(frame)
            yield frame


def must_be_found(frame: Frame) -> list[int]:
    """Ids of the objects that are near, high and visible enough for the camera to see them.

    What a data set says of visibility may hold for all cameras of a vehicle: `camtrack_core.evaluation.view` tells what
    this one shows.
    """
    labels, boxes, camera, pose = frame.labels, frame.boxes3d, frame.camera, frame.camera_pose
    if labels is None or boxes is None or camera is None or pose is None:
        return []
    shown = asked_for(boxes, frame.lidar_points, camera, pose)
    high = labels.xyxy[:, 3] - labels.xyxy[:, 1] >= MIN_HEIGHT
    near = np.linalg.norm(boxes.centre[:, :2] - pose.translation[:2], axis=1) <= FARTHEST
    return [int(i) for i in labels.ids[shown & high & near & (labels.visible >= MIN_VISIBLE)]]


def generate_drive(out: Path, camera: str, seed: int, seconds: float, console: Console) -> Path:
    """Renders a drive to a bag, with what must be found in it beside it; returns the bag's path."""
    from camtrack_core.datasets.drive import Drive, DriveConfig

    drive = Noting(Drive(DriveConfig(seed=seed, frames=round(seconds * FRAME_RATE), frame_rate=FRAME_RATE)))
    path = out / "drive"
    with Progress(console=console) as progress:
        task = progress.add_task("generating a drive (the first one compiles the renderer)", total=len(drive))
        write_bag({camera: drive}, path, BagOptions(quality=QUALITY, truth=True), lambda: progress.advance(task))
    (out / "judged.json").write_text(json.dumps(drive.judged))
    return path


def read_judged(path: Path) -> Judged:
    """What `generate_drive` has written."""
    return {int(time_ns): ids for time_ns, ids in json.loads(path.read_text()).items()}


def judge(sequence: Sequence) -> Judged:
    """What must be found in a recording with boxes in space."""
    return {frame.time_ns: must_be_found(frame) for frame in sequence}


def has_space(frame: Frame) -> bool:
    """Whether a recording tells where its camera is, so that it can be tracked in space."""
    return frame.camera is not None and frame.camera_pose is not None


def scores(truth: Sequence, judged: Judged, recorded: Recorded) -> dict[str, float]:
    """Scores of recorded tracks against a sequence's boxes in space, all classes alike."""
    frames = []
    for frame in truth_of(truth):
        if frame.boxes3d is None or frame.labels is None or frame.time_ns not in judged:
            continue
        rows = sure(recorded.get(frame.time_ns, []))
        ids = np.array([row["id"] for row in rows], np.int64)
        centres = np.array([row["centre"] for row in rows], float).reshape(-1, 3)
        scored = np.isin(frame.labels.ids, judged[frame.time_ns])
        frames.append(SpaceFrame(frame.labels.ids, frame.boxes3d.centre, scored, ids, centres))
    return score_frames(frames)


def sure(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The recorded tracks that count, which are those that a recording draws."""
    return [row for row in rows if row["score"] >= LEAST_SCORE]


def score_frames(frames: list[SpaceFrame]) -> dict[str, float]:
    """Scores by name."""
    found, distance = score_in_space(frames)
    return {
        "HOTA": found.hota, "recall": found.recall, "precision": found.precision, "MOTA": found.mota,
        "IDF1": found.idf1, "id switches": found.id_switches, "mean distance (m)": distance,
    }  # fmt: skip
