"""What a sensor saw at one time, as the tracker in space needs it: boxes in space, or boxes in an image.

Both say how they look from the tracks (`linearised`), how dense false detections are (`log_clutter`) and where a new
track starts (`births`, `new_states`): a box in an image does so through the ground, where a camera's is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Boxes2D, Detections3D, Floats, Integers
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.ground import HALF_LENGTH, on_ground, place_deviation, usual_sizes
from pkf_filter.filtering.linearised import gaussian
from pkf_filter.image import kernels as image_kernels
from pkf_filter.image import models
from pkf_filter.space import kernels, own_noise, projection, seams
from pkf_filter.space import models as world
from pkf_filter.space.config import EVERYWHERE, SensorModel, WorldConfig
from pkf_filter.space.state import WorldState

HEIGHTS = 4.0  # metres over which the centres of false detections spread
RELATIVE_SIZES = 1.0  # range of the sizes of false detections, relative to the size itself
MIN_EXTENT = 10.0  # pixels; smaller boxes are measured no better
BORDER = 2.0  # pixels; what ends within them of the image's lower edge stands on ground that is not shown
VAGUE = 0.35  # share of the distance; of what is known worse no track starts
SAME_IMAGE = 0.5  # IoU from which on a box is of a track, or of a likelier box
ACROSS = 0.02  # of the distance, across the line of sight
GROUND_HEIGHT = 0.2  # metres by which the ground is not flat
SIZE_SPREAD = 0.15  # of usual sizes, in themselves
UNKNOWN_YAW = 0.9  # rad, of a yaw on the half circle that may be any
OPTICAL = 0.7  # vertical part of a frame's z axis below which it is a camera's optical frame


class Linearisation(NamedTuple):
    """M measurements as N tracks see them.

    Attributes:
        innovation: (M, N, m), H: (N, m, 10), V: (N, m, m), as in `linearised`.
        facing: (M, N) 1 where a measurement faces as the track does, -1 the opposite way, 0 where it does not tell.
        odd: (M, N) log density of shapes that say nothing about the track, over the expected one's; 0 for all others.
        in_view: (N,) bool, whether the sensor can be expected to see the track.
        unhidden: (N,) share of a track's detections that the tracks before it leave.
        own: (M, 4, 4) covariances that the measurements state, see `own_noise`; None where none does.
    """

    innovation: Floats
    H: Floats
    V: Floats
    facing: Floats
    odd: Floats
    in_view: NDArray[np.bool_]
    unhidden: Floats
    own: Floats | None = None

    def log_density(self, covariance: Floats, gate: float) -> Floats:
        """(M, N) of the innovations, for states of covariance (N, 10, 10); -inf beyond the gate."""
        if self.own is None:
            return gaussian(self.innovation, self.H, self.V, covariance, gate)[1]
        return own_noise.log_densities(self.innovation, self.V, covariance, self.own, gate)

    def merged(self, weights: Floats) -> Linearisation:
        """One noise a track for all of its measurements, with which they correct as with each its own."""
        if self.own is None:
            return self
        innovation, V = own_noise.merged(self.innovation, self.V, self.own, weights)
        return self._replace(innovation=innovation, V=V)


@dataclass(frozen=True)
class SpaceView:
    """Boxes in the fixed frame, seen by a sensor at `pose` in it (x forward, or an optical frame), None if unknown.

    Attributes:
        own: (M, 4, 4) covariance of place and yaw that the detections state, NaN where one states none; or None.
        class_names: of the class ids.
    """

    detections: Detections3D
    sensor: SensorModel
    pose: Pose | None
    own: Floats | None = None
    class_names: tuple[str, ...] = ()

    @property
    def scores(self) -> Floats:
        return self.detections.scores

    @property
    def class_ids(self) -> Integers:
        return self.detections.class_ids

    @cached_property
    def measurements(self) -> Floats:
        """(M, 7), see `models`."""
        return world.to_measurements(self.detections.boxes)

    def measurable(self) -> NDArray[np.bool_]:
        return np.asarray(world.measurable(self.measurements))

    def rows(self, rows: Integers) -> SpaceView:
        own = None if self.own is None else self.own[rows]
        return replace(self, detections=self.detections[rows], own=own)

    @cached_property
    def cut(self) -> Floats:
        """(M,) which end of each box the edge of the view cuts, see `seams`."""
        if self.pose is None or self.sensor.field_of_view == 360:
            return np.zeros(len(self.measurements))
        origin = np.asarray(self.pose.translation, np.float64)
        angle = np.radians(self.sensor.field_of_view)
        return np.asarray(seams.cut_ends(self.measurements, origin, self._ahead(self.pose), angle))

    @cached_property
    def unseen(self) -> Floats:
        """(M,) deviation of what the objects are longer than their boxes where these are cut, metres."""
        names = [self.class_names[k] for k in self.class_ids.tolist()]
        return seams.unseen_lengths(names, self.measurements[:, world.LENGTH])

    def end_spread(self, mean: Floats, covariance: Floats, weights: Floats, parameters: Floats) -> Floats | None:
        """(N, 10, 10) to be added to the covariance of tracks after the update, as they may be longer than they were
        seen; None where no box is cut.

        Args:
            mean: (N, 10), covariance: (N, 10, 10), parameters: (N, 12) of the tracks.
            weights: (M, N), of the association.
        """
        if not self.cut.any():
            return None
        noise = self._noise(mean, parameters)
        return np.asarray(seams.end_spread(mean, covariance, self.measurements, self.cut, self.unseen, weights, noise))

    def linearised(
        self, states: Floats, covariance: Floats, existence: Floats, parameters: Floats, gate: float
    ) -> Linearisation:
        V = self._noise(states, parameters)
        widest = V if self.own is None else own_noise.widest(V, self.own)
        innovation, facing, odd = world.innovations(self.measurements, self.cut, states, covariance, widest, gate)
        H = np.empty((len(states), *world.MEASUREMENT_MATRIX.shape))
        H[:] = world.MEASUREMENT_MATRIX
        in_view, unhidden = self._in_view(states), self._unhidden(states, existence)
        return Linearisation(innovation, H, V, facing, odd, in_view, unhidden, self.own)

    def log_clutter(self) -> Floats:
        """(M,) log density of false detections of even score, in the units of the measurements."""
        size = RELATIVE_SIZES * self.detections.boxes.size
        return np.asarray(
            np.log(self.sensor.clutter_density / HEIGHTS / np.pi / (size[:, 0] * size[:, 1] * size[:, 2]))
        )

    def births(self, newborn: Floats, config: WorldConfig, states: Floats, existence: Floats) -> Floats:
        """(M,) existence of the tracks that detections start, 0 where one starts none.

        Args:
            newborn: (M,) that such tracks would have.
            states: (N, 10), existence: (N,) of the tracks.
        """
        return np.asarray(
            kernels.births(newborn, config.min_birth, self.measurements, states, existence, config.same_object)
        )

    def vote_of_doubles(
        self, own: Integers, groups: Integers, state: WorldState, voted: Floats, votes: Floats, same: float
    ) -> None:
        """Votes (N, C), in place, of the detections of objects that have another class's detection for their own.

        Args:
            own: (N,), voted: (K, C), see `kernels.vote_of_doubles`.
            groups: (M,) class groups of the detections; state: of the tracks.
        """
        seen = self.measurements, self.class_ids, groups, self.scores
        kernels.vote_of_doubles(own, *seen, voted, state.mean, state.groups, votes, same)

    def new_states(self, rows: Integers, parameters: Floats) -> tuple[Floats, Floats]:
        """Mean (R, 10) and covariance (R, 10, 10) of tracks that start at these detections."""
        z, velocity = self.measurements[rows], self.detections.boxes.velocity[rows]
        noise = self._noise(z, parameters)
        if self.own is not None:
            noise = own_noise.of_pairs(noise, self.own[rows])
        mean, covariance = world.initial_state(z, noise, velocity, self.sensor.velocity_noise, parameters)
        if self.cut.any():
            cut, unseen, own = self.cut[rows], self.unseen[rows], np.eye(len(rows))
            covariance += seams.end_spread(mean, covariance, z, cut, unseen, own, noise)
        return mean, covariance

    def velocities(self, mean: Floats, weights: Floats) -> tuple[Floats, Floats, Floats, Floats] | None:
        """The velocities of the detections as measurements, None where none is known.

        Args:
            mean: (N, 10) of the tracks.
            weights: (M, N), of the association by place.

        Returns:
            innovation (M, N, 2), H (N, 2, 10) and V (N, 2, 2), as in `linearised`, and the weights (M, N) of those that
            are known.
        """
        velocity = self.detections.boxes.velocity
        if not np.isfinite(velocity[:, :2]).any():
            return None
        innovation, known = world.velocity_innovations(velocity, weights, mean)
        H = np.tile(world.VELOCITY_MATRIX, (len(mean), 1, 1))
        V = np.tile(self.sensor.velocity_noise**2 * np.eye(2), (len(mean), 1, 1))
        return innovation, H, V, known

    def along_own_axes(self, offsets: Floats) -> Floats:
        """(3,) mean innovations (7,) of the place along the sensor's axes, whichever way it faces."""
        return np.asarray(offsets[:3] if self.pose is None else offsets[:3] @ self.pose.rotation)

    def _unhidden(self, states: Floats, existence: Floats) -> Floats:
        """(N,) share of the detections of each track that those nearer in its direction leave."""
        if self.pose is None:
            return np.ones(len(states))
        origin = np.asarray(self.pose.translation, np.float64)
        return np.asarray(1.0 - self.sensor.occlusion * kernels.covered_by_bearing(states, origin, existence))

    def _ahead(self, pose: Pose) -> Floats:
        """(2,) middle of the field of view: the sensor's x axis, or the z axis of an optical frame, which is nearly
        horizontal there."""
        rotation = np.asarray(pose.rotation, np.float64)
        return rotation[:2, 2].copy() if abs(rotation[2, 2]) < OPTICAL else rotation[:2, 0].copy()

    def _in_view(self, states: Floats) -> NDArray[np.bool_]:
        """(N,) within the sensor's range and field of view."""
        if self.pose is None or (self.sensor.field_of_view == 360 and self.sensor.range == EVERYWHERE):
            return np.ones(len(states), bool)
        ahead = self._ahead(self.pose)
        offset = states[:, :2] - self.pose.translation[:2]
        along, across = offset @ ahead, offset[:, 1] * ahead[0] - offset[:, 0] * ahead[1]
        near = np.hypot(offset[:, 0], offset[:, 1]) <= self.sensor.range
        return np.asarray(near & (np.abs(np.arctan2(across, along)) <= np.radians(self.sensor.field_of_view) / 2))

    def _noise(self, states: Floats, parameters: Floats) -> Floats:
        sensor = self.sensor
        depth, origin = (0.0, np.zeros(3)) if self.pose is None else (sensor.depth_noise, self.pose.translation)
        return np.asarray(world.measurement_noise(states, parameters, sensor.noise, depth, origin))


@dataclass(frozen=True)
class ImageView:
    """Boxes in the image of a camera at `pose` in the fixed frame (optical frame).

    They start tracks where they stand on flat ground, `height` metres below the camera; 0 where that is not known.
    `class_names` are of the class ids.
    """

    detections: Boxes2D
    sensor: SensorModel
    camera: Camera
    pose: Pose
    height: float = 0.0
    class_names: tuple[str, ...] = ()

    @property
    def scores(self) -> Floats:
        return self.detections.scores

    @property
    def class_ids(self) -> Integers:
        return self.detections.class_ids

    def measurable(self) -> NDArray[np.bool_]:
        return np.asarray(models.measurable(self.detections.xyxy))

    def rows(self, rows: Integers) -> ImageView:
        return replace(self, detections=self.detections[rows])

    def linearised(
        self, states: Floats, covariance: Floats, existence: Floats, parameters: Floats, gate: float
    ) -> Linearisation:
        camera, pose = self.camera, self.pose
        size = np.array([camera.width, camera.height], np.float64)
        sides, H, in_view = projection.project(states, camera.intrinsics, pose.rotation, pose.translation, size)
        extent = np.tile(np.maximum(sides[:, 2:] - sides[:, :2], MIN_EXTENT), 2)
        V = (self.sensor.pixel_noise * extent)[:, :, None] ** 2 * np.eye(projection.SIDES)
        innovation = self.detections.xyxy[:, None] - sides
        innovation[:, ~in_view] = np.inf  # beyond every gate
        unhidden = 1.0 - self.sensor.occlusion * self._covered(states, sides, existence)
        nothing = np.zeros(innovation.shape[:2])
        return Linearisation(innovation, H, V, nothing, nothing, in_view, unhidden)

    def _covered(self, states: Floats, sides: Floats, existence: Floats) -> Floats:
        """(N,) expected share of the images (N, 4) of tracks that lies behind those of tracks nearer to the camera.

        What is nearer is told by the depths of the centres. What lies partly behind the camera covers nothing.
        """
        depth = (states[:, :3] - self.pose.translation) @ self.pose.rotation[:, 2]
        nearness = np.argsort(np.argsort(-depth))
        return np.asarray(models.covered(sides, existence, nearness))

    @cached_property
    def places(self) -> Floats:
        """(M, 2) metres to the right and ahead of the camera on the ground; NaN where that is known too badly."""
        detections, pitch = self.detections, np.radians(self.sensor.pitch_deviation)
        if not pitch or self.height <= 0:
            return np.full((len(detections), 2), np.nan)
        names = np.array(self.class_names, np.str_)[detections.class_ids]
        xyxy = np.asarray(detections.xyxy, np.float64)
        place = on_ground(xyxy, names, self.camera.intrinsics, self.pose, self.height)
        distance = np.linalg.norm(place, axis=1)
        cut = (xyxy[:, 3] >= self.camera.height - BORDER) | (distance > self.sensor.range)
        vague = place_deviation(distance, self.height, pitch) > VAGUE * distance
        return np.where((cut | vague)[:, None], np.nan, place)

    def births(self, newborn: Floats, config: WorldConfig, states: Floats, existence: Floats) -> Floats:
        """As SpaceView's, of boxes that stand on the ground and share the image of no track and of no likelier box."""
        xyxy = np.ascontiguousarray(self.detections.xyxy, np.float64)
        standing = np.where(np.isfinite(self.places).all(1), newborn, 0.0)
        if not standing.any():
            return standing
        camera, pose = self.camera, self.pose
        size = np.array([camera.width, camera.height], np.float64)
        sides, _, _ = projection.project(states, camera.intrinsics, pose.rotation, pose.translation, size)
        shown = sides[((sides[:, 2:] - sides[:, :2]) > 0).all(1)]
        alone = image_kernels.births(standing, models.overlap(xyxy, shown), config.min_birth, SAME_IMAGE)
        return np.asarray(image_kernels.without_doubles(alone, xyxy, SAME_IMAGE))

    def new_states(self, rows: Integers, parameters: Floats) -> tuple[Floats, Floats]:
        """As SpaceView's: on the ground, of the class's usual size, and of a heading that nobody knows."""
        place, names = self.places[rows], np.array(self.class_names, np.str_)[self.detections.class_ids[rows]]
        distance, size = np.linalg.norm(place, axis=1), usual_sizes(names)
        ahead = self.pose.rotation[:2, 2] / np.hypot(*self.pose.rotation[:2, 2])
        sight = (place[:, 1:] * ahead + place[:, :1] * [ahead[1], -ahead[0]]) / distance[:, None]
        measurements = np.zeros((len(rows), world.MEASUREMENT_SIZE))
        measurements[:, : world.Z] = self.pose.translation[:2] + distance[:, None] * sight
        measurements[:, world.Z] = self.pose.translation[2] - self.height + size[:, 2] / 2
        measurements[:, world.YAW] = np.arctan2(sight[:, 1], sight[:, 0])
        measurements[:, world.LENGTH :] = size
        pitch = np.radians(self.sensor.pitch_deviation)
        deviation = np.hypot(place_deviation(distance, self.height, pitch), HALF_LENGTH)
        along = sight[:, :, None] * sight[:, None]
        noise = np.zeros((len(rows), world.MEASUREMENT_SIZE, world.MEASUREMENT_SIZE))
        noise[:, :2, :2] = deviation[:, None, None] ** 2 * along
        noise[:, :2, :2] += ((ACROSS * distance) ** 2)[:, None, None] * (np.eye(2) - along)
        noise[:, world.Z, world.Z] = GROUND_HEIGHT**2 + (pitch * distance) ** 2
        noise[:, world.YAW, world.YAW] = UNKNOWN_YAW**2
        for k, axis in enumerate(range(world.LENGTH, world.HEIGHT + 1)):
            noise[:, axis, axis] = (SIZE_SPREAD * size[:, k]) ** 2
        unknown = np.full((len(rows), 3), np.nan)
        mean, covariance = world.initial_state(measurements, noise, unknown, 1.0, parameters)
        return mean, covariance

    def end_spread(self, mean: Floats, covariance: Floats, weights: Floats, parameters: Floats) -> None:
        """None: boxes in an image do not grow."""

    def velocities(self, mean: Floats, weights: Floats) -> None:
        """None: an image tells no velocity."""

    def along_own_axes(self, offsets: Floats) -> Floats:
        """(3,) mean innovations (4,) of the sides as shifts to the right and down, and as growth."""
        left, top, right, bottom = offsets.tolist()
        return np.array([left + right, top + bottom, (right - left + bottom - top) / 2]) / 2

    def log_clutter(self) -> Floats:
        """(M,) log density of false detections of even score, in the units of the measurements."""
        extent = self.detections.xyxy[:, 2:] - self.detections.xyxy[:, :2]
        everywhere = self.sensor.clutter_boxes / (self.camera.width * self.camera.height)
        return np.asarray(np.log(everywhere) - np.log(RELATIVE_SIZES * extent).sum(1))


View = SpaceView | ImageView
