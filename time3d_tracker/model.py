"""The exported graph: frames of one or several cameras in, what the network says about each out. No torch, no ROS."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import ModelError
from camtrack_core.geometry.boxes import Floats, Integers
from camtrack_core.geometry.camera import Pose
from camtrack_core.networks.letterbox import PADDING, fit_into
from camtrack_core.runtime import (
    MOST_FRAMES,
    Device,
    Input,
    Precision,
    Session,
    Stored,
    answering,
    expect_answer,
    expect_classes,
    expect_names,
    expect_sizes,
    open_session,
    stated_names,
)
from time3d_tracker import level
from time3d_tracker.config import INPUTS, MEMORY, OUTPUTS, RESIDENT

SIZES: dict[str, tuple[str | int, ...]] = {
    "image": ("frames", "height", "width", 3), "past_features": ("frames", MEMORY, "slots", "channels"),
}  # fmt: skip
# Sizes of an output behind its frames and slots.
ANSWER: dict[str, tuple[int, ...]] = {
    "scores": (), "class_ids": (), "boxes2d": (4,), "centres": (3,), "sizes": (3,), "yaws": (2,), "usable": (),
    "deviations": (), "velocities": (3,),
}  # fmt: skip
DEMO_MODEL = Path(__file__).parent / "weights" / "time3d_demo.onnx"
STILL = np.array([0.0, 0, 0, 0, 1], np.float32)

Outputs = dict[str, Any]  # as OUTPUTS names them, of one camera: arrays, those of RESIDENT where the session is


@dataclass(frozen=True)
class Remembered:
    """A past frame.

    Attributes:
        time_ns: its stamp.
        pose: of its level frame in the fixed frame; None where unknown.
        features: (K, d) spatial features.
        centres: (K, 3) in its level frame, metres.
        valid: (K,) bool.
        ids: (K,) track of each slot, 0 for none.
        velocities: (K, 3) in the axes of its level frame, metres per second.
    """

    time_ns: int
    pose: Pose | None
    features: Stored
    centres: Floats
    valid: NDArray[np.bool_]
    ids: Integers
    velocities: Floats


@dataclass(frozen=True)
class Query:
    """What the graph is asked about a frame.

    Attributes:
        image: (H, W, 3) uint8 BGR, undistorted.
        time_ns: its stamp.
        projection: (3, 3) pixels of the image from level coordinates (`level.projection`).
        height: of the camera over the ground, metres; 0 where unknown.
        pitch_deviation: standard deviation of the camera's pitch over the ground, radians.
        pose: of the level frame in the fixed frame; None where unknown.
        memory: at most MEMORY past frames of this camera.
    """

    image: NDArray[np.uint8]
    time_ns: int
    projection: Floats
    height: float
    pitch_deviation: float
    pose: Pose | None
    memory: list[Remembered]


class Time3DModel:
    """An exported graph with its resize.

    Attributes:
        cameras: frames that it takes at a time, at most.
        took: seconds that the stages of the last run took, of all its frames together.

    Raises ModelError for a file that is missing or no exported Time3D.
    """

    def __init__(
        self, path: Path, device: Device = "auto", threads: int = 0, precision: Precision = "auto", device_id: int = 0,
        opened: Callable[..., Session] = open_session,
    ) -> None:  # fmt: skip
        self.session: Session = opened(path, device, threads, precision, device_id, RESIDENT)
        self._path = path
        metadata = self.session.metadata
        if metadata.get("camtrack_model") != "time3d":
            raise ModelError(f"{path}: expected a graph exported by time3d_tracker, got {dict(metadata) or 'another'}")
        expect_names(path, self.session, INPUTS, OUTPUTS)
        expect_sizes(path, self.session, SIZES)
        self.class_names = stated_names(path, self.session, "class_names")
        self.attributes = stated_names(path, self.session, "attributes")
        shapes = self.session.input_shapes
        frames, self.height, self.width, _ = shapes["image"]
        self._any_number = frames < 0
        self.cameras = MOST_FRAMES if self._any_number else frames
        _, _, self.slots, self.channels = shapes["past_features"]
        self._shapes = {name: (self.slots, *rest) for name, rest in ANSWER.items()} | {
            "features": (self.slots, self.channels), "association": (MEMORY, self.slots + 1, self.slots + 1),
            "attributes": (self.slots, len(self.attributes)),
        }  # fmt: skip
        self.took: dict[str, float] = {}
        self._nothing = self.session.store((self.slots, self.channels))
        self._input = np.full((self.cameras, self.height, self.width, 3), PADDING, np.uint8)

    def prepare(self, image: NDArray[np.uint8], camera: int) -> float:
        """Puts an image (H, W, 3) BGR into a camera's input, as `fit_into` does; returns its scale."""
        return fit_into(self._input[camera], image)

    def infer(self, queries: Sequence[Query]) -> list[Outputs]:
        """Runs the graph once on at most `cameras` frames; boxes2d come in pixels of the image that was asked about."""
        begin = time.perf_counter()
        scales = [self.prepare(query.image, camera) for camera, query in enumerate(queries)]
        prepared = time.perf_counter()
        rows = len(queries) if self._any_number else self.cameras
        with answering(self._path):
            out = self.session.run({"image": self._input[:rows]} | self._told(queries, scales, rows))
            self.took = {"resize": prepared - begin, "inference": time.perf_counter() - prepared}
            answers = [{name: values[camera] for name, values in out.items()} for camera in range(len(queries))]
            for answer, scale in zip(answers, scales, strict=True):
                expect_answer(answer, self._shapes)
                expect_classes(answer["class_ids"], self.class_names)
                answer["boxes2d"] = answer["boxes2d"] / scale
        return answers

    def _told(self, queries: Sequence[Query], scales: Sequence[float], cameras: int) -> dict[str, Input]:
        """All inputs but the image; cameras that are not asked see a level road and remember nothing."""
        level_camera = np.array([[self.width, 0, self.width / 2], [0, self.width, self.height / 2], [0, 0, 1]])
        projection = np.tile(level_camera.astype(np.float32), (cameras, 1, 1))
        height, pitch_deviation = np.zeros(cameras, np.float32), np.zeros(cameras, np.float32)
        features = [self._nothing] * (cameras * MEMORY)
        centres = np.zeros((cameras, MEMORY, self.slots, 3), np.float32)
        valid = np.zeros((cameras, MEMORY, self.slots), np.float32)
        elapsed, motion = np.zeros((cameras, MEMORY), np.float32), np.tile(STILL, (cameras, MEMORY, 1))
        for camera, (query, scale) in enumerate(zip(queries, scales, strict=True)):
            projection[camera] = np.diag([scale, scale, 1.0]) @ query.projection
            height[camera], pitch_deviation[camera] = query.height, query.pitch_deviation
            for row, past in enumerate(query.memory):
                features[MEMORY * camera + row], centres[camera, row] = past.features, past.centres
                valid[camera, row] = past.valid
                elapsed[camera, row] = (query.time_ns - past.time_ns) * 1e-9
                if query.pose is not None and past.pose is not None:
                    motion[camera, row] = level.motion(past.pose, query.pose)
        return {
            "projection": projection, "height": height, "pitch_deviation": pitch_deviation, "past_features": features,
            "past_centres": centres, "past_valid": valid, "elapsed": elapsed, "motion": motion,
        }  # fmt: skip
