"""Clips: labelled sequences with boxes in space, decoded once and kept as JPEG and arrays for training."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.frames import Labels, Sequence
from camtrack_core.errors import DataError
from camtrack_core.files import whole
from camtrack_core.geometry.boxes import Boxes3D, Floats, Integers
from camtrack_core.geometry.camera import Pose
from camtrack_core.numbers import rows_of
from camtrack_core.training.stored import ALIASES, decoded, encoded, shrunk
from time3d_tracker import facing, level
from time3d_tracker.config import ATTRIBUTES
from time3d_tracker.level import camera_height

NAMES = ALIASES | {"bicycle": "cyclist"}  # of data sets' classes that the network may call otherwise
MOVING_SPEED = 0.3  # metres per second
VELOCITY_REACH = 0.5  # seconds before and after a frame in which an object's own way tells its velocity
STATED = {  # motions by the ends of nuScenes' attributes
    "moving": "moving", "parked": "parked",
    "stopped": "stopped", "standing": "stopped", "sitting_lying_down": "stopped",
}  # fmt: skip
ASSUMED_VIEW = 60.0  # degrees across, of a lens that nobody states: labels in the image alone ask nothing of it
PARKING_CLASSES = ("car", "truck", "bus")  # of what never moves, these are parked and others stand


@dataclass(frozen=True)
class Clip:
    """One labelled sequence of N frames.

    Attributes:
        frames: JPEG data of each.
        times: (N,) int64 stamps, nanoseconds.
        intrinsics: (N, 3, 3) pixels of the stored images; assumed where they are unknown.
        poses: of the camera's optical frame in the fixed frame; level where nothing is known of it.
        heights: (N,) of the camera over the ground, metres; 0 where unknown.
        labels: of each frame; class_ids index the class names that the clip was made for, -1 for any other class.
        boxes: in the fixed frame, same rows as labels; velocity NaN where unknown, all but the yaw where the image has
            labels in the image alone, and the yaw too where nothing tells it.
        attributes: of each label, index into ATTRIBUTES, as the data set states it or else from the velocities; says
            nothing where the velocity is unknown.
        ignored: (M, 4) regions of each frame, pixels.
    """

    frames: list[NDArray[np.uint8]]
    times: Integers
    intrinsics: Floats
    poses: list[Pose]
    heights: Floats
    labels: list[Labels]
    boxes: list[Boxes3D]
    attributes: list[Integers]
    ignored: list[Floats]

    def __len__(self) -> int:
        return len(self.frames)

    def image(self, index: int) -> NDArray[np.uint8]:
        return decoded(self.frames[index])


def from_sequence(sequence: Sequence, class_names: tuple[str, ...]) -> Clip:
    """Reads every labelled frame of a sequence, but those with boxes in space without the camera and its pose.

    Raises DataError if there is none.
    """
    class_map = np.array([class_index(name, class_names) for name in sequence.class_names] + [-1], np.int64)
    clip = Clip([], np.zeros(0, np.int64), np.zeros((0, 3, 3)), [], np.zeros(0), [], [], [], [])
    times, intrinsics, heights, stated, alone = [], [], [], [], []
    for frame in sequence:
        known, camera, pose, boxes = frame.labels, frame.camera, frame.camera_pose, frame.boxes3d
        if known is None or (boxes is not None and (camera is None or pose is None)):
            continue
        image, shrink = shrunk(frame.image)
        clip.frames.append(encoded(image))
        times.append(frame.time_ns)
        lens = assumed_intrinsics(frame.image.shape[:2]) if camera is None else camera.intrinsics
        intrinsics.append(lens * [[shrink], [shrink], [1.0]])
        clip.poses.append(level.UPRIGHT if pose is None else pose)
        heights.append(camera_height(frame))
        clip.labels.append(Labels(known.ids, known.xyxy * shrink, class_map[known.class_ids], known.visible))
        clip.boxes.append(unknown_boxes(len(known)) if boxes is None else boxes)
        alone.append(boxes is None and pose is not None)
        clip.ignored.append(frame.ignored * shrink)
        stated.append(stated_motions([""] * len(known) if frame.attributes is None else frame.attributes.tolist()))
    if not times:
        raise DataError(
            f"{sequence.name}: expected frames labelled in the image alone or with camera, pose and boxes, found none"
        )
    stamps = np.array(times, np.int64)
    if all(alone) and _stands(clip.poses):
        sizes = np.array([clip.image(i).shape[1::-1] for i in range(len(clip))])
        found = facing.headings(stamps, clip.labels, np.array(intrinsics), sizes)
        clip.boxes[:] = [_headed(yaw, level.level_pose(pose)) for yaw, pose in zip(found, clip.poses, strict=True)]
    moving = with_velocities(stamps, clip.labels, clip.boxes)
    derived = motion_attributes(clip.labels, moving, class_names)
    attributes = [np.where(said >= 0, said, own) for said, own in zip(stated, derived, strict=True)]
    return Clip(clip.frames, stamps, np.array(intrinsics), clip.poses, np.array(heights), clip.labels, moving,
                attributes, clip.ignored)  # fmt: skip


def assumed_intrinsics(size: tuple[int, int]) -> Floats:
    """(3, 3) of a lens of ASSUMED_VIEW whose picture has this height and width in pixels."""
    height, width = size
    focal = width / 2 / math.tan(math.radians(ASSUMED_VIEW / 2))
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def unknown_boxes(count: int) -> Boxes3D:
    """Boxes of which nothing is known."""
    nothing = np.full((count, 3), np.nan)
    return Boxes3D(nothing, nothing, np.full(count, np.nan), nothing)


def _stands(poses: list[Pose]) -> bool:
    first = poses[0]
    return all(
        np.allclose(pose.rotation, first.rotation) and np.allclose(pose.translation, first.translation)
        for pose in poses
    )


def _headed(yaw: Floats, pose: Pose) -> Boxes3D:
    """Boxes of which only the heading in the level frame `pose` is known."""
    nothing = unknown_boxes(len(yaw))
    return replace(nothing, yaw=level.from_level(nothing.centre, nothing.size, yaw, nothing.velocity, pose).yaw)


def class_index(name: str, class_names: tuple[str, ...]) -> int:
    """Index of a data set's class among `class_names`, by its own name or else by NAMES; -1 where there is none."""
    own = name.lower()
    found = own if own in class_names else NAMES.get(own, own)
    return class_names.index(found) if found in class_names else -1


def with_velocities(times: Integers, labels: list[Labels], boxes: list[Boxes3D]) -> list[Boxes3D]:
    """Boxes whose unknown velocities come from the object's own way.

    From its first to its last sight within VELOCITY_REACH of the frame; NaN where that is only one.
    """
    seconds = (times - times[0]) * 1e-9
    at = np.concatenate([np.full(len(known), t) for t, known in zip(seconds, labels, strict=True)])
    sights = rows_of(np.concatenate([known.ids for known in labels]))
    centres = np.concatenate([b.centre for b in boxes])
    complete = []
    for t, known, found in zip(seconds, labels, boxes, strict=True):
        velocity = found.velocity.copy()
        for row in np.flatnonzero(np.isnan(velocity).any(1)):
            own = sights[int(known.ids[row])]
            first, last = own[np.abs(at[own] - t) <= VELOCITY_REACH][[0, -1]]
            if at[last] > at[first]:
                velocity[row] = (centres[last] - centres[first]) / (at[last] - at[first])
        complete.append(replace(found, velocity=velocity))
    return complete


def stated_motions(attributes: list[str]) -> Integers:
    """(N,) index into ATTRIBUTES of what a data set says, like vehicle.parked; -1 where that tells no motion."""
    motions = [STATED.get(name.rpartition(".")[2]) for name in attributes]
    return np.array([-1 if motion is None else ATTRIBUTES.index(motion) for motion in motions], np.int64)


def motion_attributes(labels: list[Labels], boxes: list[Boxes3D], class_names: tuple[str, ...]) -> list[Integers]:
    """Motion of each label from its speed: a vehicle that never moves in the sequence is parked, others stop."""
    ever: set[int] = set()
    speeds = [np.linalg.norm(np.nan_to_num(b.velocity), axis=1) for b in boxes]
    for known, speed in zip(labels, speeds, strict=True):
        ever.update(known.ids[speed > MOVING_SPEED].tolist())
    parking = np.array([name in PARKING_CLASSES for name in class_names] + [False])
    moving, stopped, parked = range(len(ATTRIBUTES))
    attributes = []
    for known, speed in zip(labels, speeds, strict=True):
        still = np.where(parking[known.class_ids] & ~np.isin(known.ids, list(ever)), parked, stopped)
        attributes.append(np.where(speed > MOVING_SPEED, moving, still))
    return attributes


def save(clip: Clip, path: Path) -> None:
    """Writes a clip to one .npz file, complete or not at all."""
    with whole(path) as partial, open(partial, "wb") as file:
        np.savez(
            file,
            jpeg=np.concatenate(clip.frames),
            jpeg_sizes=np.array([len(x) for x in clip.frames]),
            times=clip.times,
            intrinsics=clip.intrinsics,
            rotations=np.array([p.rotation for p in clip.poses]),
            translations=np.array([p.translation for p in clip.poses]),
            heights=clip.heights,
            label_frame=np.concatenate([np.full(len(x), i) for i, x in enumerate(clip.labels)]),
            ids=np.concatenate([x.ids for x in clip.labels]),
            xyxy=np.concatenate([x.xyxy for x in clip.labels]),
            class_ids=np.concatenate([x.class_ids for x in clip.labels]),
            visible=np.concatenate([x.visible for x in clip.labels]),
            centre=np.concatenate([x.centre for x in clip.boxes]),
            size=np.concatenate([x.size for x in clip.boxes]),
            yaw=np.concatenate([x.yaw for x in clip.boxes]),
            velocity=np.concatenate([x.velocity for x in clip.boxes]),
            attributes=np.concatenate(clip.attributes),
            ignored_frame=np.concatenate([np.full(len(x), i) for i, x in enumerate(clip.ignored)]),
            ignored=np.concatenate([x.reshape(-1, 4) for x in clip.ignored]),
        )


def load(path: Path) -> Clip:
    """Reads what `save` wrote. Raises DataError for anything else."""
    try:
        with np.load(path) as data:
            a = {name: data[name] for name in data.files}
        frames = np.split(a["jpeg"], np.cumsum(a["jpeg_sizes"])[:-1])
        rows = [a["label_frame"] == i for i in range(len(frames))]
        labels = Labels(a["ids"], a["xyxy"], a["class_ids"], a["visible"])
        boxes = Boxes3D(a["centre"], a["size"], a["yaw"], a["velocity"])
        poses = [Pose(r, t) for r, t in zip(a["rotations"], a["translations"], strict=True)]
        ignored = [a["ignored"][a["ignored_frame"] == i] for i in range(len(frames))]
        return Clip(frames, a["times"], a["intrinsics"], poses, a["heights"], [labels[r] for r in rows],
                    [boxes[r] for r in rows], [a["attributes"][r] for r in rows], ignored)  # fmt: skip
    except (OSError, KeyError, ValueError, zlib.error, BadZipFile) as error:
        raise DataError(f"{path}: expected a clip written by `camtrack time3d clips`, got {error}") from error
