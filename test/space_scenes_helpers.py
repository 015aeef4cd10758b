"""Small scenes in space: objects that move, sensors that see them with noise, and what a tracker makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from camtrack_core.datasets.projected import project_boxes
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D
from pkf_filter.space.tracker import WorldTracker

SECOND = 1_000_000_000
SIZES = {
    "car": (4.5, 1.8, 1.5),
    "truck": (8.0, 2.5, 3.0),
    "bus": (12.0, 2.5, 3.2),
    "pedestrian": (0.7, 0.7, 1.75),
    "bicycle": (1.8, 0.7, 1.5),
}
WIDE, HIGH = Camera.from_field_of_view(1600, 900, 80.0), 1.6  # pixels, degrees; metres over the ground
Box = tuple[str, float, float, float] | tuple[str, float, float, float, float]  # class, x, y, yaw; length if not usual


def facing(degrees: float) -> Pose:
    """A sensor at the origin, 1.5 m above the ground, that looks along a bearing."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return Pose(np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]]), np.array([0, 0, 1.5]))


def seen(tracker: WorldTracker, boxes: list[Box], rng: np.random.Generator, noise: float = 0.05) -> Detections3D:
    """Detections of boxes on the ground; `noise` is the deviation of the place in metres."""
    size = np.array([SIZES[name] for name, *_ in boxes]).reshape(-1, 3)
    size[:, 0] = [box[4] if len(box) == 5 else SIZES[box[0]][0] for box in boxes]
    ground = np.array([box[1:4] for box in boxes]).reshape(-1, 3)
    centre = np.concatenate([ground[:, :2], size[:, 2:] / 2], 1) + rng.normal(scale=noise, size=(len(boxes), 3))
    unknown = np.full((len(boxes), 3), np.nan)
    classes = np.array([tracker.class_id(name) for name, *_ in boxes], np.int64)
    yaw = ground[:, 2] + rng.normal(scale=0.02, size=len(boxes))
    return Detections3D(Boxes3D(centre, size, yaw, unknown), np.full(len(boxes), 0.95), classes)


def run(
    tracker: WorldTracker, rate: int, until: float, scene: Callable[[str, float], list[Box]], poses: dict[str, Pose]
) -> list[tuple[float, Tracks3D]]:
    """Time and tracks after each round of all sensors, which look one after the other within a period.

    Args:
        rate: rounds a second.
        until: seconds.
        scene: what a sensor finds at a time.
        poses: of the sensors by name.
    """
    rng, found = np.random.default_rng(0), []
    for frame in range(round(until * rate)):
        for turn, (name, pose) in enumerate(poses.items()):
            time = (frame + turn / len(poses)) / rate
            tracks = tracker.step(round(time * SECOND), seen(tracker, scene(name, time), rng), name, pose)
        found.append((time, tracks))
    return found


def cut_by_view(box: Box, pose: Pose, field_of_view: float) -> list[Box]:
    """The part of a box whose middle line a sensor's view shows, or none; `field_of_view` in degrees."""
    name, x, y, yaw = box[:4]
    along = np.linspace(-0.5, 0.5, 241) * SIZES[name][0]
    points = np.stack([x + along * np.cos(yaw), y + along * np.sin(yaw), np.zeros(len(along))], 1)
    ahead, aside = ((points - pose.translation)[:, :2] @ pose.rotation[:2, :2]).T
    shown = along[np.abs(np.arctan2(aside, ahead)) <= np.radians(field_of_view) / 2]
    if not len(shown):
        return []
    middle, length = (shown[0] + shown[-1]) / 2, max(shown[-1] - shown[0], 0.1)
    return [(name, x + middle * np.cos(yaw), y + middle * np.sin(yaw), yaw, length)]


def pictured(tracker: WorldTracker, boxes: list[Box], eye: Pose, rng: np.random.Generator) -> Boxes2D:
    """Boxes of what a camera shows of boxes on the ground, 2 % of their sides off."""
    size = np.array([SIZES[name] for name, *_ in boxes])
    ground = np.array([place for _, *place in boxes])
    centre = np.concatenate([ground[:, :2], size[:, 2:] / 2], 1)
    true = Boxes3D(centre, size, ground[:, 2], np.zeros((len(boxes), 3)))
    xyxy, _, share = project_boxes(true, WIDE, eye)
    sides = np.tile(xyxy[:, 2:] - xyxy[:, :2], 2)
    classes = np.array([tracker.class_id(name) for name, *_ in boxes], np.int64)
    found = Boxes2D(xyxy + 0.02 * sides * rng.normal(size=xyxy.shape), np.full(len(boxes), 0.95), classes)
    return found[share > 0.9]
