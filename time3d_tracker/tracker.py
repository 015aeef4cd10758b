"""Tracking over the exported graph (paper Sec. 3.5 and Fig. 4): remembered frames, affinities, assignment.

No torch, no ROS. An object's similarity to a track is the mean of their association over the remembered frames that
hold the track; the paper has the sum. Where it is silent: no object continues a track that cannot have come so far
(`_near`), and what is less similar than a threshold to every track starts one. Remembered frames are kept at least
`memory_spacing` apart, so that five of them reach as far back at 20 frames a second as at 2.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from camtrack_core.geometry.boxes import Boxes3D, Detections3D, Floats, Integers
from camtrack_core.geometry.camera import Pose, check_intrinsics
from camtrack_core.geometry.tracks import Tracks3D
from camtrack_core.runtime import Stored
from time3d_tracker import level
from time3d_tracker.config import MEMORY, RESIDENT, TrackerConfig
from time3d_tracker.model import Outputs, Query, Remembered, Time3DModel

ACROSS = 0.25  # deviation across the line of sight, as a share of that along it
YAW_DEVIATION = 0.15  # radians
LEAST_DEVIATION = 0.1  # metres
CLOSE = 2.0  # metres; a centre that is farther off is not that of the object
# How far an object may be from where its track leads.
REACH = 1.0  # metres, and half the object's length: that is where places of large ones err
REACH_SHARE = 0.05  # of the distance from the camera, besides: errors of places grow with it
REACH_DEVIATIONS = 2.0  # of its place, besides: a depth in doubt jumps from frame to frame
STRAY = 3.0  # metres per second since the track was seen, besides: errors of velocities
STRAY_NEW = 20.0  # the same of a track seen once, whose velocity is a guess


@dataclass(frozen=True)
class View:
    """A frame of one camera.

    Attributes:
        image: (H, W, 3) uint8 BGR, undistorted.
        time_ns: its stamp, later than the last one's.
        intrinsics: (3, 3) pixels of the image.
        camera_pose: of the optical frame in the fixed frame (z up): tells the tilt and the camera's motion. None takes
            the camera as level and, for what it knows, still.
        height: of the camera over the ground, metres (`ground.height_over_ground`); 0 where unknown.
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
        detected_xyxy: (M, 4) float, their boxes in pixels of the original image.
        detected_deviation: (M,) float, standard deviation of their places along the line of sight, metres.
        left_out: objects without a position, or of which anything is not finite.
    """

    tracks: Tracks3D
    xyxy: Floats
    upright: Pose
    detections: Detections3D
    detected_xyxy: Floats
    detected_deviation: Floats
    left_out: int

    @classmethod
    def empty(cls, upright: Pose = level.UPRIGHT) -> Result:
        """Of a frame in which nothing is seen."""
        none = np.zeros((0, 4))
        return cls(Tracks3D.empty(), none, upright, Detections3D.empty(), none, np.zeros(0), left_out=0)


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
        pitch_deviation = float(np.radians(self.config.pitch_deviation))
        return Query(view.image, view.time_ns, projection, view.height, pitch_deviation, pose, self._memory.copy())

    def update(self, view: View, out: Outputs) -> Result:
        """Tracks after the frame that `out` answers."""
        tilted = view.camera_pose if view.camera_pose is not None else level.UPRIGHT
        pose = level.level_pose(tilted) if view.camera_pose is not None else None
        finite = _finite(out)
        usable = finite & (out["usable"] > 0.5)
        found = ~(out["scores"] < self.config.detection_threshold)  # what has NaN for a score is counted below
        left_out = int((found & ~usable).sum())
        features = _remembered(out, finite)
        out = _cleaned(out, finite)
        ids = self._assign(out, found & usable, view.time_ns, pose)
        centres, velocities = out["centres"], out["velocities"]
        self._remember(Remembered(view.time_ns, pose, features, centres, ids > 0, ids, velocities))
        upright = level.upright_pose(tilted)
        shown = np.flatnonzero(ids)
        tracks = _tracks(out, shown, ids[shown])
        height, width = view.image.shape[:2]
        xyxy = np.clip(out["boxes2d"], 0, [width, height, width, height])
        seen = np.flatnonzero(usable)
        return Result(tracks, xyxy[shown], upright, _detections(out, seen), xyxy[seen], _deviation(out, seen), left_out)

    def _assign(self, out: Outputs, present: NDArray[np.bool_], time_ns: int, pose: Pose | None) -> Integers:
        """(K,) track of each slot of the current frame, 0 for none."""
        config = self.config
        ids = np.zeros(len(present), np.int64)
        rows = np.flatnonzero(present)
        known = np.unique(np.concatenate([past.ids for past in self._memory] or [ids]))
        known = known[known > 0]
        similarity, seen = np.zeros((len(rows), len(known))), np.zeros(len(known))
        for frame, past in enumerate(self._memory):
            slots = np.flatnonzero(past.ids)
            columns = np.searchsorted(known, past.ids[slots])
            similarity[:, columns] += out["association"][frame][np.ix_(rows, slots)]
            seen[columns] += 1
        similarity /= seen
        near = _near(self._memory, known, time_ns, pose, out, rows)
        likely = near & (similarity >= config.affinity_threshold)
        gain = np.where(likely, similarity, 0)
        for row, column in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
            if likely[row, column]:
                ids[rows[row]] = known[column]
        for row in rows[(ids[rows] == 0) & (out["scores"][rows] >= config.birth_threshold)]:
            ids[row] = self._next_id
            self._next_id += 1
        return ids

    def _forget(self, time_ns: int) -> None:
        limit = time_ns - round(self.config.memory_span * 1e9)
        self._memory = [past for past in self._memory if past.time_ns >= limit]

    def _remember(self, frame: Remembered) -> None:
        """Adds the newest frame. The one before it stays if it is far enough from the one before that, or holds the
        last sighting of a track. What is one too many is the frame with the fewest of those, a crowded one or an old
        one first."""
        memory, spacing = [*self._memory, frame], round(self.config.memory_spacing * 1e9)
        crowded = [False, *(b.time_ns - a.time_ns < spacing for a, b in itertools.pairwise(memory))]
        last = _last_sightings(memory)
        if len(memory) > 2 and crowded[-2] and last[-2] == 0:
            del memory[-2]
        elif len(memory) > MEMORY:
            del memory[min(range(MEMORY), key=lambda i: (last[i], not crowded[i], i))]
        self._memory = memory


def _last_sightings(memory: list[Remembered]) -> list[int]:
    """How many tracks each frame holds that no later one does."""
    later: set[int] = set()
    counts = []
    for past in reversed(memory):
        own = set(past.ids[past.ids > 0].tolist())
        counts.append(len(own - later))
        later |= own
    return counts[::-1]


def _near(
    memory: list[Remembered], known: Integers, time_ns: int, pose: Pose | None, out: Outputs, rows: Integers
) -> NDArray[np.bool_]:
    """(N, T) whether objects, rows (N,) of what the graph says about the level frame `pose`, lie where the newest
    frame that holds each of the known tracks (T,) says that it went. All do where the camera's motion is not known."""
    near, centres = np.ones((len(rows), len(known)), bool), out["centres"][rows]
    if pose is None:
        return near
    place, seen = pose.apply(centres.astype(float)), np.zeros(len(known))
    reach = REACH + out["sizes"][rows, 0] / 2 + REACH_SHARE * np.linalg.norm(centres, axis=1)
    reach += REACH_DEVIATIONS * _deviation(out, rows)
    for past in memory:
        slots = np.flatnonzero(past.ids)
        columns = np.searchsorted(known, past.ids[slots])
        seen[columns] += 1
        if past.pose is None:
            near[:, columns] = True
            continue
        elapsed = (time_ns - past.time_ns) * 1e-9
        ahead = past.pose.apply(past.centres[slots] + elapsed * past.velocities[slots].astype(float))
        gap = np.linalg.norm(place[:, None, :2] - ahead[None, :, :2], axis=-1)
        near[:, columns] = gap <= reach[:, None] + elapsed * np.where(seen[columns] > 1, STRAY, STRAY_NEW)
    return near


def _tracks(out: Outputs, rows: Integers, ids: Integers) -> Tracks3D:
    found = _detections(out, rows)
    covariance = _covariance(found.boxes.centre, _deviation(out, rows))
    return Tracks3D(ids, found.boxes, covariance, found.scores, found.class_ids, np.zeros(len(ids)), found.motions)


def _finite(out: Outputs) -> NDArray[np.bool_]:
    """(K,) slots of which the graph says nothing but numbers; the association is between slots.

    Resident outputs are not looked at: velocities and attributes are computed from the features.
    """
    unseen = ("association", *RESIDENT)
    values = (value.reshape(len(value), -1) for name, value in out.items() if name not in unseen)
    return np.isfinite(np.concatenate(list(values), 1)).all(1)


def _remembered(out: Outputs, finite: NDArray[np.bool_]) -> Stored:
    """(K, d) features, with 0 for slots that are not finite: a mask does not keep NaN out of a sum."""
    features: Stored = out["features"].copy()
    for slot in np.flatnonzero(~finite).tolist():
        features[slot] = 0
    return features


def _cleaned(out: Outputs, finite: NDArray[np.bool_]) -> Outputs:
    """What the host looks at, with 0 for slots that are not finite."""
    cleaned = {"association": np.nan_to_num(out["association"], posinf=0, neginf=0)}
    for name, values in out.items():
        if name not in cleaned and name not in RESIDENT:
            cleaned[name] = np.where(finite.reshape(-1, *[1] * (values.ndim - 1)), values, 0)
    return cleaned


def _boxes(out: Outputs, rows: Integers) -> Boxes3D:
    """Boxes in the upright frame."""
    sin, cos = out["yaws"][rows].T.astype(float)
    return level.from_level(
        out["centres"][rows].astype(float), out["sizes"][rows].astype(float), np.arctan2(sin, cos),
        out["velocities"][rows].astype(float), level.UPRIGHT,
    )  # fmt: skip


def _detections(out: Outputs, rows: Integers) -> Detections3D:
    """Boxes with class and score: the probability that there is an object, times that of its centre being CLOSE.

    The errors of places are Laplacian, as `losses.deviation_loss` has it.
    """
    close = -np.expm1(-(2**0.5) * CLOSE / _deviation(out, rows))
    scores = np.clip(out["scores"][rows].astype(float), 0, 1) * close
    motions = out["attributes"][rows].astype(float)
    return Detections3D(_boxes(out, rows), scores, out["class_ids"][rows].astype(np.int64), motions)


def _deviation(out: Outputs, rows: Integers) -> Floats:
    """(N,) standard deviation of the places along the line of sight, metres."""
    distance = np.linalg.norm(out["centres"][rows].astype(float), axis=1)
    return np.maximum(out["deviations"][rows] * distance, LEAST_DEVIATION)


def _covariance(centre: Floats, deviation: Floats) -> Floats:
    """(N, 4, 4) of centre and yaw: the deviation (N,) along the line of sight, a part of it across."""
    sight = centre / np.maximum(np.linalg.norm(centre, axis=1, keepdims=True), 1e-6)
    along = sight[:, :, None] * sight[:, None]
    covariance = np.zeros((len(centre), 4, 4))
    shape = along + ACROSS**2 * (np.eye(3) - along)
    covariance[:, :3, :3] = deviation[:, None, None] ** 2 * shape
    covariance[:, 3, 3] = YAW_DEVIATION**2
    return covariance
