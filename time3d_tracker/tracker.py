"""Tracking over the exported graph (paper Sec. 3.5 and Fig. 4): remembered frames, affinities, assignment.

No torch, no ROS. Where the paper is silent: a trajectory's similarity is the mean, over the remembered frames that
hold it, of the association of the object with it, and an object's own "nobody" competes with that in the same
assignment. Remembered frames are kept at least `memory_spacing` apart, so that five of them reach as far back at
20 frames a second as at 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from camtrack_core.boxes import Boxes3D, Detections3D, Floats, Integers
from camtrack_core.camera import Pose, check_intrinsics
from camtrack_core.tracks import Tracks3D
from time3d_tracker import level
from time3d_tracker.config import MEMORY, TrackerConfig
from time3d_tracker.model import Outputs, Query, Remembered, Time3DModel

ACROSS = 0.25  # error across the line of sight, as a share of that along it
YAW_DEVIATION = 0.15  # radians
LEAST_DEVIATION = 0.1  # metres
CLOSE = 2.0  # metres; a centre that is farther off is not that of the object


@dataclass(frozen=True)
class View:
    """A frame of one camera.

    Attributes:
        image: (H, W, 3) uint8 BGR, undistorted.
        time_ns: its stamp, later than the last one's.
        intrinsics: (3, 3) pixels of the image.
        camera_pose: of the optical frame in the fixed frame (z up): tells the tilt and the camera's motion. None takes
            the camera as level and, for what it knows, still.
        height: of the camera over the ground, metres (`level.height_over_ground`); 0 where unknown.
    """

    image: NDArray[np.uint8]
    time_ns: int
    intrinsics: Floats
    camera_pose: Pose | None = None
    height: float = 0.0


@dataclass(frozen=True)
class Result:
    """Tracks after a frame.

    Attributes:
        tracks: those seen in this frame, in the upright frame: origin at the camera, x ahead, y left, z up.
        xyxy: (N, 4) float, pixels of the original image.
        upright: pose of the upright frame in the camera's optical frame.
        detections: every object that the detector sees in this frame, tracked or not, in the upright frame.
        left_out: objects without a position, or of which anything is not finite.
    """

    tracks: Tracks3D
    xyxy: Floats
    upright: Pose
    detections: Detections3D
    left_out: int


class Tracker:
    """State of the tracking: remembered frames and the next id."""

    def __init__(self, model: Time3DModel, config: TrackerConfig | None = None) -> None:
        self.model, self.config = model, config or TrackerConfig()
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forgets all tracks; their ids are not used again."""
        self._memory: list[Remembered] = []

    def step(
        self, image: NDArray[np.uint8], time_ns: int, intrinsics: Floats, camera_pose: Pose | None = None,
        height: float = 0.0,
    ) -> Result:  # fmt: skip
        """Tracks after the next image; see `View` for the arguments, `query` for the errors."""
        view = View(image, time_ns, intrinsics, camera_pose, height)
        (out,) = self.model.infer([self.query(view)])
        return self.update(view, out)

    def query(self, view: View) -> Query:
        """What to ask the graph about a frame.

        Raises:
            ConfigurationError: the intrinsics are not those of a camera.
            DataError: the camera looks up or down.
        """
        check_intrinsics(view.intrinsics)
        tilted = view.camera_pose if view.camera_pose is not None else level.UPRIGHT
        pose = level.level_pose(tilted) if view.camera_pose is not None else None
        projection = level.projection(view.intrinsics, tilted)
        self._forget(view.time_ns)
        return Query(view.image, view.time_ns, projection, view.height, pose, self._memory.copy())

    def update(self, view: View, out: Outputs) -> Result:
        """Tracks after the frame that `out` answers."""
        tilted = view.camera_pose if view.camera_pose is not None else level.UPRIGHT
        level_pose = level.level_pose(tilted)
        finite = _finite(out)
        usable = finite & (out["usable"] > 0.5)
        found = ~(out["scores"] < self.config.detection_threshold)  # what has NaN for a score is counted below
        out = out | {"association": np.nan_to_num(out["association"], posinf=0, neginf=0)}
        ids = self._assign(out, found & usable)
        pose = level_pose if view.camera_pose is not None else None
        # the graph must not meet again what is not finite: a mask does not keep NaN out of a sum
        features, centres = (np.where(finite[:, None], out[name], 0) for name in ("features", "centres"))
        self._remember(Remembered(view.time_ns, pose, features, centres, ids > 0, ids))
        turn = tilted.rotation.T @ level_pose.rotation  # level to optical
        upright = Pose(turn @ level.UPRIGHT.rotation.T, np.zeros(3))
        left_out = int((found & ~usable).sum())
        return _result(out, ids, usable, left_out, view.image.shape[:2], upright)

    def _assign(self, out: Outputs, present: NDArray[np.bool_]) -> Integers:
        """(K,) track of each slot of the current frame, 0 for none."""
        config = self.config
        ids = np.zeros(len(present), np.int64)
        rows = np.flatnonzero(present)
        known = np.unique(np.concatenate([past.ids for past in self._memory] or [ids]))
        known = known[known > 0]
        similarity, nobody = np.zeros((len(rows), len(known))), np.zeros(len(rows))
        seen = np.zeros(len(known))
        for frame, past in enumerate(self._memory):
            slots = np.flatnonzero(past.ids)
            columns = np.searchsorted(known, past.ids[slots])
            similarity[:, columns] += out["association"][frame][np.ix_(rows, slots)]
            seen[columns] += 1
            nobody += out["association"][frame, rows, -1] / len(self._memory)
        similarity /= np.maximum(seen, 1)
        alone = np.maximum(nobody * config.affinity_threshold, 1e-6)  # each object may also stay without a past
        gain = np.concatenate([np.where(similarity >= config.affinity_threshold, similarity, 0), np.diag(alone)], 1)
        for row, column in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
            if column < len(known) and gain[row, column] > 0:
                ids[rows[row]] = known[column]
            elif out["scores"][rows[row]] >= config.birth_threshold:
                ids[rows[row]] = self._next_id
                self._next_id += 1
        return ids

    def _forget(self, time_ns: int) -> None:
        limit = time_ns - round(self.config.memory_span * 1e9)
        self._memory = [past for past in self._memory if past.time_ns >= limit]

    def _remember(self, frame: Remembered) -> None:
        """Adds the newest frame; the one before it stays only if it is far enough from the one before that."""
        memory = self._memory
        spacing = round(self.config.memory_spacing * 1e9)
        if len(memory) >= 2 and memory[-1].time_ns - memory[-2].time_ns < spacing:
            memory.pop()
        memory.append(frame)
        del memory[:-MEMORY]


def _result(
    out: Outputs,
    ids: Integers,
    usable: NDArray[np.bool_],
    left_out: int,
    size: tuple[int, ...],
    upright: Pose,
) -> Result:
    detections = _detections(out, np.flatnonzero(usable))
    shown = np.flatnonzero(ids)
    found = _detections(out, shown)
    covariance = _covariance(found.boxes.centre, _deviation(out, shown))
    still = np.zeros(len(shown))
    tracks = Tracks3D(ids[shown], found.boxes, covariance, found.scores, found.class_ids, still, found.motions)
    height, width = size
    xyxy = np.clip(out["boxes2d"][shown], 0, [width, height, width, height])
    return Result(tracks, xyxy, upright, detections, left_out)


def _finite(out: Outputs) -> NDArray[np.bool_]:
    """(K,) slots of which the graph says nothing but numbers; the association is between slots."""
    values = (value.reshape(len(value), -1) for name, value in out.items() if name != "association")
    return np.isfinite(np.concatenate(list(values), 1)).all(1)


def _boxes(out: Outputs, rows: Integers) -> Boxes3D:
    """Refined boxes in the upright frame."""
    sin, cos = out["yaws"][rows].T.astype(float)
    return level.from_level(
        out["refined_centres"][rows].astype(float), out["refined_sizes"][rows].astype(float), np.arctan2(sin, cos),
        out["velocities"][rows].astype(float), level.UPRIGHT,
    )  # fmt: skip


def _detections(out: Outputs, rows: Integers) -> Detections3D:
    """Boxes with class and score: the probability that there is an object, times that of its centre being CLOSE.

    The errors of places are of exponential distribution, as `losses.spread_loss` has it.
    """
    close = -np.expm1(-CLOSE / _deviation(out, rows))
    scores = np.clip(out["scores"][rows].astype(float), 0, 1) * close
    motions = out["attributes"][rows].astype(float)
    return Detections3D(_boxes(out, rows), scores, out["class_ids"][rows].astype(np.int64), motions)


def _deviation(out: Outputs, rows: Integers) -> Floats:
    """(N,) expected error of the places, metres."""
    distance = np.linalg.norm(out["refined_centres"][rows].astype(float), axis=1)
    return np.maximum(out["spreads"][rows] * distance, LEAST_DEVIATION)


def _covariance(centre: Floats, deviation: Floats) -> Floats:
    """(N, 4, 4) of centre and yaw: the deviation (N,) along the line of sight, a part of it across."""
    sight = centre / np.maximum(np.linalg.norm(centre, axis=1, keepdims=True), 1e-6)
    along = sight[:, :, None] * sight[:, None]
    covariance = np.zeros((len(centre), 4, 4))
    shape = along + ACROSS**2 * (np.eye(3) - along)
    covariance[:, :3, :3] = deviation[:, None, None] ** 2 * shape
    covariance[:, 3, 3] = YAW_DEVIATION**2
    return covariance
