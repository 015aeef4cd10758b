"""Compiling ahead what the first measurements would wait for: without a cache on disk it takes seconds. No ROS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from camtrack_core.geometry.camera import Camera, Pose
from pkf_filter.association.best_event import scale_by_best_event
from pkf_filter.association.frontier import frontier_order, frontier_weights, obliged_weights
from pkf_filter.association.solvers import scratch_size
from pkf_filter.association.two_sided import meeting_cost, meeting_weights
from pkf_filter.association.weights import association_weights
from pkf_filter.image.config import FilterConfig
from pkf_filter.image.tracker import Tracker
from pkf_filter.space.config import VEHICLE, SensorModel, WorldConfig
from pkf_filter.space.tracker import WorldTracker

FRAME = 100_000_000  # nanoseconds


@contextmanager
def _kept_on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "free some space, or let NUMBA_CACHE_DIR name another folder"
        raise DataError(f"cannot keep the compiled kernels: {error.strerror}; {remedy}") from error


@_kept_on_disk()
def warm_up_meeting() -> None:
    """Of the association the programme that takes longest, in both precisions. Raises DataError where the disk is full.

    Another process may compile the other programmes meanwhile; `warm_up_association` finds both on disk.
    """
    rows, columns = 2, 7
    entries, _ = meeting_cost(rows, columns)
    for precision in (np.float64, np.float32):
        tables = np.empty(int(entries), precision)
        meeting_weights(np.ones((rows, columns)), np.ones(rows), np.ones(columns), tables)


@_kept_on_disk()
def warm_up_other_programmes() -> None:
    """See `warm_up_meeting`. Raises DataError where the disk is full."""
    size = 3
    pairs, clutter, missed = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    order, scratch = np.empty(size, np.int64), np.empty(scratch_size(size, size))
    scale_by_best_event(pairs, clutter, missed, order, scratch)
    states, _ = frontier_order(pairs, order, scratch)
    frontier_weights(pairs, clutter, missed, order, np.empty(int(states) + 1), scratch)
    obliged_weights(np.ones((size, size)), np.ones(size), np.empty(2 ** (size + 1) + 2 * size**2))


@_kept_on_disk()
def warm_up_association() -> None:
    """The association weights, which both filters take. Raises DataError where the disk is full."""
    association_weights(np.zeros((1, 1)), np.zeros(1), np.zeros(1))


@_kept_on_disk()
def warm_up_in_image(config: FilterConfig | None = None) -> None:
    """The image-plane filter: births, ambiguous updates, a death. Raises DataError where the disk is full."""
    tracker = Tracker(config)
    boxes = np.array([[10.0, 10, 60, 40], [30, 15, 80, 45], [300, 100, 340, 180]])
    for index, count in enumerate((3, 3, 3, 2, 0)):
        found = Boxes2D(boxes[:count] + index, np.full(count, 0.9), np.zeros(count, np.int64))
        tracker.step(index * FRAME, found)


@_kept_on_disk()
def warm_up_in_space(config: WorldConfig | None = None) -> None:
    """The filter in space: boxes in space and in an image. Raises DataError where the disk is full.

    Of the configuration counts whether a group has interacting motions: then other kernels run, for all groups.
    """
    interacting = any(group.motion == "interacting" for group in (config or WorldConfig()).groups())
    motion = "interacting" if interacting else VEHICLE.motion
    world = WorldConfig(vehicle=VEHICLE.model_copy(update={"motion": motion}))
    tracker = WorldTracker(world, {"": SensorModel(score_offset=0.1, depth_noise=0.01, field_of_view=90.0)})
    car = np.array([tracker.class_id("car")])
    here, camera = Pose(np.eye(3), np.zeros(3)), Camera.from_field_of_view(100, 100, 90)
    # One object and several, found, missed and new, with velocities and without, one of them cut by the view's edge:
    # arrays of another layout are another type, for which everything is compiled anew.
    stated = np.tile(0.1 * np.eye(4), (3, 1, 1))
    for i, (count, speed) in enumerate([(1, np.nan), (1, np.nan), (3, np.nan), (3, 0.0), (2, 0.0), (3, 0.0), (1, 0.0)]):
        centre = np.array([[0.0, 0.0, 10.0], [4.0, 0.0, 10.0], [4.0, 4.0, 10.0]])[:count]
        boxes = Boxes3D(centre, np.ones((count, 3)), np.zeros(count), np.full((count, 3), speed))
        covariance = stated[:count] if i % 2 else None
        tracker.step(i * FRAME, Detections3D(boxes, np.full(count, 0.9), car.repeat(count)), "", here, covariance)
    image = Boxes2D(np.array([[45.0, 45.0, 55.0, 55.0]]), np.array([0.9]), car)
    if not len(tracker.step_image(10 * FRAME, image, camera, here)):
        raise ConfigurationError("expected the filter to track a box at its start, it did not")
