"""Tracking over the exported graph (paper Sec. 3.5 and Fig. 4): remembered frames, affinities, assignment.

No torch, no ROS. Where the paper is silent: a trajectory's similarity is the mean, over the remembered frames that
hold it, of the association of the object with it, and an object's own "nobody" competes with that in the same
assignment. Remembered frames are kept at least `memory_spacing` apart, so that five of them reach as far back at
20 frames a second as at 2.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from camtrack_core.boxes import Boxes3D, Detections3D, Floats, Integers
from camtrack_core.camera import Pose
from camtrack_core.errors import ConfigurationError, ModelError
from camtrack_core.runtime import Device, Session, open_session
from camtrack_core.tracks import Tracks3D
from time3d_tracker import level
from time3d_tracker.config import MEMORY, TrackerConfig

DEMO_MODEL = Path(__file__).parent / "weights" / "time3d_demo.onnx"
PADDING = 114  # grey level below and right of the picture, as in training
STILL = np.array([0.0, 0, 0, 0, 1], np.float32)
ACROSS = 0.25  # error across the line of sight, as a share of that along it
YAW_DEVIATION = 0.15  # radians
LEAST_DEVIATION = 0.1  # metres


@dataclass(frozen=True)
class Remembered:
    """A past frame.

    Attributes:
        time_ns: its stamp.
        pose: of its level frame in the fixed frame; None where unknown.
        features: (K, d) spatial features.
        valid: (K,) bool.
        ids: (K,) track of each slot, 0 for none.
    """

    time_ns: int
    pose: Pose | None
    features: Floats
    valid: NDArray[np.bool_]
    ids: Integers


@dataclass(frozen=True)
class Result:
    """Tracks after a frame.

    Attributes:
        tracks: those seen in this frame, in the upright frame: origin at the camera, x ahead, y left, z up.
        attributes: (N,) int, motion of each, index into the model's attributes.
        xyxy: (N, 4) float, pixels of the original image.
        upright: pose of the upright frame in the camera's optical frame.
        detections: every object that the detector sees in this frame, tracked or not, in the upright frame.
    """

    tracks: Tracks3D
    attributes: Integers
    xyxy: Floats
    upright: Pose
    detections: Detections3D


class Time3DModel:
    """An exported graph with its resize.

    Raises ModelError for a file that is missing or no exported Time3D.
    """

    def __init__(self, path: Path, device: Device = "auto", threads: int = 0) -> None:
        self.session: Session = open_session(path, device, threads)
        metadata = self.session.metadata
        if metadata.get("camtrack_model") != "time3d":
            raise ModelError(f"{path}: expected a graph exported by time3d_tracker, got {dict(metadata) or 'another'}")
        self.class_names: tuple[str, ...] = tuple(json.loads(metadata["class_names"]))
        self.attributes: tuple[str, ...] = tuple(json.loads(metadata["attributes"]))
        shapes = self.session.input_shapes
        _, self.height, self.width, _ = shapes["image"]
        _, _, self.slots, self.channels = shapes["past_features"]
        self._input = np.full((1, self.height, self.width, 3), PADDING, np.uint8)

    def prepare(self, image: NDArray[np.uint8]) -> float:
        """Puts an image (H, W, 3) BGR into the input, top left, rest padded; returns its scale."""
        height, width = image.shape[:2]
        scale = min(self.width / width, self.height / height)
        columns, rows = max(round(width * scale), 1), max(round(height * scale), 1)
        cv2.resize(image, (columns, rows), dst=self._input[0, :rows, :columns])
        self._input[0, rows:] = PADDING
        self._input[0, :rows, columns:] = PADDING
        return scale

    def infer(
        self, projection: Floats, height: float, memory: list[Remembered], time_ns: int, pose: Pose | None
    ) -> dict[str, NDArray]:
        """Runs the graph on the prepared image; outputs as `export.OUTPUTS` names them.

        Args:
            projection: (3, 3) pixels of the network's input.
            height: of the camera over the ground, metres; 0 where unknown.
            memory: at most five past frames.
            time_ns, pose: of the current frame.
        """
        features = np.zeros((1, MEMORY, self.slots, self.channels), np.float32)
        valid = np.zeros((1, MEMORY, self.slots), np.float32)
        elapsed, motion = np.zeros((1, MEMORY), np.float32), np.tile(STILL, (1, MEMORY, 1))
        for row, past in enumerate(memory):
            features[0, row], valid[0, row] = past.features, past.valid
            elapsed[0, row] = (time_ns - past.time_ns) * 1e-9
            if pose is not None and past.pose is not None:
                motion[0, row] = level.motion(past.pose, pose)
        return self.session.run({
            "image": self._input, "projection": projection[None].astype(np.float32),
            "height": np.array([height], np.float32), "past_features": features, "past_valid": valid,
            "elapsed": elapsed, "motion": motion,
        })  # fmt: skip


class Tracker:
    """State of the tracking: remembered frames and the next id."""

    def __init__(self, model: Time3DModel, config: TrackerConfig | None = None) -> None:
        self.model, self.config = model, config or TrackerConfig()
        self._next_id = 1
        self.unusable = 0  # objects without a position, left out
        self.reset()

    def reset(self) -> None:
        """Forgets all tracks; their ids are not used again."""
        self._memory: list[Remembered] = []

    def step(
        self, image: NDArray[np.uint8], time_ns: int, intrinsics: Floats, camera_pose: Pose | None = None,
        height: float = 0.0,
    ) -> Result:  # fmt: skip
        """Tracks after the next image.

        Args:
            image: (H, W, 3) uint8 BGR, undistorted.
            time_ns: its stamp, later than the last one's.
            intrinsics: (3, 3) pixels of the image.
            camera_pose: of the optical frame in the fixed frame (z up): tells the tilt and the camera's motion. None
                takes the camera as level and, for what it knows, still.
            height: of the camera over the ground, metres (`level.height_over_ground`); 0 where unknown.

        Raises:
            ConfigurationError: the intrinsics are not those of a camera.
            DataError: the camera looks up or down.
        """
        scale = self.model.prepare(image)
        return self.update(scale, image.shape[:2], time_ns, intrinsics, camera_pose, height)

    def update(
        self, scale: float, size: tuple[int, int], time_ns: int, intrinsics: Floats, camera_pose: Pose | None,
        height: float,
    ) -> Result:  # fmt: skip
        """The rest of `step` for an image of `size` (height, width) that the model has prepared."""
        check_intrinsics(intrinsics)
        tilted = camera_pose if camera_pose is not None else level.UPRIGHT
        pose = level.level_pose(tilted) if camera_pose is not None else None
        projection = np.diag([scale, scale, 1.0]) @ level.projection(intrinsics, tilted)
        self._forget(time_ns)
        out = self.model.infer(projection, height, self._memory, time_ns, pose)
        finite = np.isfinite(out["refined_centres"]).all(1) & np.isfinite(out["boxes2d"]).all(1)
        usable = finite & (out["usable"] > 0.5)
        found = out["scores"] >= self.config.detection_threshold
        self.unusable += int((found & ~usable).sum())
        ids = self._assign(out, found & usable)
        self._remember(Remembered(time_ns, pose, out["features"].copy(), ids > 0, ids))
        turn = tilted.rotation.T @ level.level_pose(tilted).rotation  # level to optical
        upright = Pose(turn @ level.UPRIGHT.rotation.T, np.zeros(3))
        return _result(out, ids, usable, scale, size, upright)

    def _assign(self, out: dict[str, NDArray], present: NDArray[np.bool_]) -> Integers:
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


def check_intrinsics(intrinsics: Floats) -> None:
    """Raises ConfigurationError for a matrix that is not a pinhole camera's."""
    k = np.asarray(intrinsics)
    if k.shape != (3, 3) or not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0 or k[2, 2] != 1:
        raise ConfigurationError(f"expected finite 3x3 intrinsics with positive focal lengths, got {k.tolist()}")


def _result(
    out: dict[str, NDArray],
    ids: Integers,
    usable: NDArray[np.bool_],
    scale: float,
    size: tuple[int, int],
    upright: Pose,
) -> Result:
    seen = np.flatnonzero(usable)
    detections = Detections3D(_boxes(out, seen), *_judgements(out, seen))
    shown = np.flatnonzero(ids)
    boxes = _boxes(out, shown)
    distance = np.linalg.norm(boxes.centre, axis=1)
    covariance = _covariance(boxes.centre, np.maximum(out["spreads"][shown] * distance, LEAST_DEVIATION))
    tracks = Tracks3D(ids[shown], boxes, covariance, *_judgements(out, shown), np.zeros(len(shown)))
    height, width = size
    xyxy = np.clip(out["boxes2d"][shown] / scale, 0, [width, height, width, height])
    return Result(tracks, out["attributes"][shown].argmax(1), xyxy, upright, detections)


def _boxes(out: dict[str, NDArray], rows: Integers) -> Boxes3D:
    """Refined boxes in the upright frame."""
    sin, cos = out["yaws"][rows].T.astype(float)
    return level.from_level(
        out["refined_centres"][rows].astype(float), out["refined_sizes"][rows].astype(float), np.arctan2(sin, cos),
        out["velocities"][rows].astype(float), level.UPRIGHT,
    )  # fmt: skip


def _judgements(out: dict[str, NDArray], rows: Integers) -> tuple[Floats, Integers]:
    """Scores and classes."""
    return np.clip(out["scores"][rows].astype(float), 0, 1), out["class_ids"][rows].astype(np.int64)


def _covariance(centre: Floats, deviation: Floats) -> Floats:
    """(N, 4, 4) of centre and yaw: the deviation (N,) along the line of sight, a part of it across."""
    sight = centre / np.maximum(np.linalg.norm(centre, axis=1, keepdims=True), 1e-6)
    along = sight[:, :, None] * sight[:, None]
    covariance = np.zeros((len(centre), 4, 4))
    shape = along + ACROSS**2 * (np.eye(3) - along)
    covariance[:, :3, :3] = deviation[:, None, None] ** 2 * shape
    covariance[:, 3, 3] = YAW_DEVIATION**2
    return covariance
