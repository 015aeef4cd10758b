"""`camtrack results`: what a bag has recorded of a tracker, back to files that `evaluate` and `report` read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from camtrack.bags.write import FIXED_FRAME
from camtrack.offline.methods import SUBMITTED, moved
from camtrack.recording.space import velocities_now
from camtrack_core.datasets.frames import Frame, truth_of
from camtrack_core.datasets.kitti.rows import TO_VEHICLE
from camtrack_core.datasets.kitti.sequences import KittiSequence
from camtrack_core.datasets.nuscenes import NuScenesSequence
from camtrack_core.datasets.projected import project_boxes
from camtrack_core.datasets.rosbag import types
from camtrack_core.datasets.rosbag.bag import TRUTH, TRUTH_3D, WholeMessages, list_topics
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.kitti.text import write_kitti
from camtrack_core.evaluation.mot_text import write_mot
from camtrack_core.evaluation.nuscenes.submission import SubmittedBoxes, write_submission
from camtrack_core.files import named, whole, write_whole
from camtrack_core.geometry.boxes import Boxes3D, Floats
from camtrack_core.geometry.tracks import Tracks2D, Tracks3D
from camtrack_core.numbers import IdNumbers
from camtrack_core.ros.messages.frames import frame_name

KINDS = (types.DETECTIONS_2D, types.DETECTIONS_3D)
VELOCITIES = ("velocities", "trajectories")  # beside the tracks of time3d_tracker and of pkf_filter
IDS = ".ids.jsonl"
UNKNOWN = np.full(3, np.nan)
Velocities = dict[str, Floats]  # (3,) metres per second by the track's id


@dataclass(frozen=True)
class Written:
    """What came of a recorded topic.

    Attributes:
        file: with the tracks; topic: that they were recorded on.
        frames: of the recording; answered: those of them that the tracker has answered.
        left_out: detections that are not written: their numbers are none, or they have no result.
        renamed: the numbers that stand for ids that are none; they are written beside the file, to NAME.ids.jsonl.
    """

    file: Path
    topic: str
    frames: int
    answered: int
    left_out: int
    renamed: dict[str, int]

    @property
    def ids_file(self) -> Path:
        """Where `renamed` is written to, where there are any."""
        return self.file.with_suffix(IDS)


def write_results(bag: Path, source: str, out: Path, topic: str = "") -> Written:
    """Writes the tracks of a bag as MOTChallenge text, those in space as a nuScenes submission or KITTI's text.

    Args:
        bag: with the results, a Detection2DArray or Detection3DArray for each image, which bear its stamp; those in
            space may have their velocities on the topic `velocities` or `trajectories` beside them.
        source: the recording that was tracked; its stamps tell which frame a result belongs to.
        out: folder for NAME.txt or NAME.json.
        topic: of the results; may be empty where there is only one beside the truth.

    Raises:
        DataError: the bag has no such results, they are not of the recording, or in space and the recording does not
            tell where its camera was, or the file cannot be written. Where the bag breaks off, the file holds what
            came before.
    """
    topic, kind = _choose(bag, topic)
    sequence = open_source(source)
    spatial = kind == types.DETECTIONS_3D
    recorded = WholeMessages(bag, {topic})
    found = {types.header_time(message): message for _, _, message in recorded}
    frame = next((frame_name(message.header.frame_id) for message in found.values()), FIXED_FRAME)
    if spatial and frame != FIXED_FRAME:
        raise DataError(f"{topic} of {bag}: expected tracks in the frame {FIXED_FRAME}, got them in {frame}")
    stamps = [truth.time_ns for truth in truth_of(sequence)]
    answered = sum(time_ns in found for time_ns in stamps)
    if not found and recorded.fault is None:
        raise DataError(f"{topic} of {bag} holds no results")
    if found and not answered:
        first = f"{next(iter(found)) / 1e9:.3f} s, {source} from {stamps[0] / 1e9:.3f} s on" if stamps else "no frame"
        raise DataError(f"{topic} of {bag} has no result for a frame of {source}: it begins at {first}")
    submission = spatial and isinstance(sequence, NuScenesSequence)
    file = named(out, f"{sequence.name}{'.json' if submission else '.txt'}")
    if file.exists():
        raise DataError(f"{file} is there already; expected a folder without it")
    messages = [found.get(time_ns) for time_ns in stamps]
    numbers = IdNumbers()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with whole(file) as partial:
            if not spatial:
                write_mot(partial, [_tracks(message, numbers) for message in messages])
            elif isinstance(sequence, NuScenesSequence):
                velocities = _velocities(bag, topic)
                keys = [(key, m) for key, m in zip(sequence.keys(), messages, strict=True) if key is not None]
                write_submission(partial, {token: _submitted(message, velocities) for (token, _), message in keys})
            else:
                names = tuple(sorted({best.class_id for message in messages for _, best in _rows(message)}))
                vehicle = isinstance(sequence, KittiSequence)
                seen = [_seen(f, m, names, vehicle, numbers) for f, m in zip(sequence, messages, strict=True)]
                write_kitti(partial, seen, names)
        if numbers.renamed:
            lines = [json.dumps({"id": number, "text": text}) for text, number in numbers.renamed.items()]
            write_whole(file.with_suffix(IDS), "\n".join(lines) + "\n")
    except OSError as error:
        raise DataError(f"cannot write {file}: {error.strerror}") from error
    if recorded.fault is not None:
        raise DataError(f"{recorded.fault}; {file} holds what came before it") from recorded.fault
    left_out = sum(len(message.detections) - len(_rows(message)) for message in messages if message is not None)
    return Written(file, topic, len(stamps), answered, left_out, numbers.renamed)


def _choose(bag: Path, topic: str) -> tuple[str, str]:
    """The topic of results and its type."""
    found = {name: kind for name, (kind, _) in list_topics(bag).items() if kind in KINDS}
    results = [name for name in found if name.rpartition("/")[2] not in (TRUTH, TRUTH_3D)]
    if topic in found:
        return topic, found[topic]
    if topic or len(results) != 1:
        wanted = f"results on {topic}" if topic else "one topic of results beside the truth; name it with --topic"
        raise DataError(f"bag {bag}: expected {wanted}, found {', '.join(found) or 'none'}")
    return results[0], found[results[0]]


def _rows(message: Any) -> list[tuple[Any, Any]]:
    """Every usable detection with its most probable class; none where there is no message."""
    detections = [] if message is None else [d for d in message.detections if _is_usable(d)]
    return [(d, max(d.results, key=lambda result: result.hypothesis.score).hypothesis) for d in detections]


def _is_usable(detection: Any) -> bool:
    """Whether a detection has a result, and numbers that are some."""
    box = detection.bbox
    sizes: tuple[float, ...]
    place: tuple[float, ...]
    if hasattr(box, "size"):  # in space
        sizes = (box.size.x, box.size.y, box.size.z)
        turn = box.center.orientation
        place = (box.center.position.x, box.center.position.y, box.center.position.z, turn.z, turn.w)
    else:
        sizes, place = (box.size_x, box.size_y), (box.center.position.x, box.center.position.y)
    scores = [result.hypothesis.score for result in detection.results]
    return bool(scores) and all(map(math.isfinite, (*place, *sizes, *scores))) and min(sizes) >= 0


def _tracks(message: Any, numbers: IdNumbers) -> Tracks2D:
    rows = _rows(message)
    boxes = [(d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.size_x, d.bbox.size_y) for d, _ in rows]
    centre, half = np.split(np.array(boxes, float).reshape(-1, 4) * [1, 1, 0.5, 0.5], 2, axis=1)
    return Tracks2D(
        np.array([numbers[d.id] for d, _ in rows], np.int64),
        np.concatenate([centre - half, centre + half], 1),
        np.array([best.score for _, best in rows], float),
        np.zeros(len(rows), np.int64),  # the text holds no classes
    )


def _boxes(rows: list[tuple[Any, Any]]) -> Boxes3D:
    """The boxes of detections, in their frame; velocities are no part of them."""
    poses, sizes = [d.bbox.center for d, _ in rows], [d.bbox.size for d, _ in rows]
    return Boxes3D(
        np.array([(p.position.x, p.position.y, p.position.z) for p in poses], float).reshape(-1, 3),
        np.array([(s.x, s.y, s.z) for s in sizes], float).reshape(-1, 3),
        np.array([2 * np.arctan2(p.orientation.z, p.orientation.w) for p in poses], float),
        np.full((len(rows), 3), np.nan),
    )


def _submitted(message: Any, velocities: dict[int, Velocities]) -> SubmittedBoxes:
    """Attributes are not part of the message."""
    rows = _rows(message)
    boxes = _boxes(rows)
    known = velocities.get(types.header_time(message), {}) if rows else {}
    boxes.velocity[:] = np.reshape([known.get(d.id, UNKNOWN) for d, _ in rows], (-1, 3))
    return SubmittedBoxes(
        boxes,
        np.array([best.score for _, best in rows], float),
        np.array([SUBMITTED.get(best.class_id, best.class_id) for _, best in rows], np.str_),
        np.array([d.id for d, _ in rows], np.str_),
        np.full(len(rows), "", np.str_),
    )


def _velocities(bag: Path, topic: str) -> dict[int, Velocities]:
    """What was recorded beside the tracks, by stamp."""
    beside = {f"{topic.rpartition('/')[0]}/{name}" for name in VELOCITIES}
    names = {name for name, (kind, _) in list_topics(bag).items() if name in beside and kind == types.TRAJECTORIES}
    return {types.header_time(message): velocities_now(message) for _, _, message in WholeMessages(bag, names)}


def _seen(
    frame: Frame, message: Any, names: tuple[str, ...], vehicle: bool, numbers: IdNumbers
) -> tuple[Tracks3D, Boxes3D, Floats]:
    """Tracks that the image shows, as write_kitti takes them: from KITTI's `vehicle`, or from the camera.

    Raises DataError where the frame does not tell where its camera was.
    """
    if frame.camera is None or frame.camera_pose is None:
        unknown = "expected a recording that tells where its camera was, for tracks in space"
        raise DataError(frame.camera_fault or unknown)
    camera = frame.camera_pose @ TO_VEHICLE.inverse()
    place = frame.ego_pose if vehicle and frame.ego_pose is not None else camera
    rows = _rows(message)
    boxes, count = _boxes(rows), len(rows)
    xyxy, _, shown = project_boxes(boxes, frame.camera, frame.camera_pose)
    tracks = Tracks3D(
        np.array([numbers[d.id] for d, _ in rows], np.int64),
        boxes,
        np.zeros((count, 4, 4)),
        np.array([best.score for _, best in rows], float),
        np.array([names.index(best.class_id) for _, best in rows], np.int64),
        np.zeros(count),
    )
    return tracks[shown], moved(boxes[shown], place.inverse()), xyxy[shown]
