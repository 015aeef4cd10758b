"""Stand-ins for the networks, whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from camtrack_core.geometry.boxes import Boxes2D
from gcnet_tracker import tracker as gcnet
from gcnet_tracker.config import SLOTS
from time3d_tracker import model as time3d
from time3d_tracker.config import MEMORY


class OneBox:
    """Stands for a model of two cameras: in each one car that stands still, tracked by the first slot."""

    class_names, height, width, cameras = ("car",), 96, 160, 2

    def __init__(self) -> None:
        self.session = SimpleNamespace(engine="none", notice=None)
        self.took: dict[str, float] = {}
        self.batches: list[int] = []  # how many frames went together

    def slots(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((4, SLOTS)), np.zeros((4, SLOTS))

    def infer(self, queries: Sequence[gcnet.Query]) -> list[gcnet.FrameOutput]:
        self.batches.append(len(queries))
        return [self.answer(query) for query in queries]

    def answer(self, query: gcnet.Query) -> gcnet.FrameOutput:
        box = np.array([[10.0, 10, 60, 50]])
        found = Boxes2D(box, np.array([0.9]), np.zeros(1, np.int64))
        new, confidences = np.zeros((4, 1)), np.eye(1, SLOTS)[0]
        return gcnet.FrameOutput(found, new, new, np.tile(box, (SLOTS, 1)), confidences, query.queries, query.values)


class OneCar:
    """Stands for a model: one car, 20 m ahead and 2 m to the right, which drives away."""

    class_names, attributes = ("car",), ("moving", "stopped", "parked")
    height, width, slots, channels = 96, 160, 2, 4

    def __init__(self, cameras: int = 1) -> None:
        self.session = SimpleNamespace(engine="none", notice=None)
        self.cameras = cameras
        self.took: dict[str, float] = {}
        self.heights: list[float] = []
        self.pitch_deviations: list[float] = []
        self.projections: list[np.ndarray] = []
        self.batches: list[int] = []  # how many frames went together

    def infer(self, queries: Sequence[time3d.Query]) -> list[time3d.Outputs]:
        self.batches.append(len(queries))
        return [self.answer(query) for query in queries]

    def answer(self, query: time3d.Query) -> time3d.Outputs:
        self.heights.append(query.height)
        self.pitch_deviations.append(query.pitch_deviation)
        self.projections.append(query.projection)
        k = self.slots
        association = np.zeros((MEMORY, k + 1, k + 1), np.float32)
        association[:, range(k), range(k)] = 0.9
        centres = np.tile([[2.0, 0.5, 20.0]], (k, 1))
        return {
            "scores": np.array([0.9, 0.0]), "class_ids": np.zeros(k, np.int32),
            "boxes2d": np.tile([[10.0, 10, 30, 30]], (k, 1)), "usable": np.ones(k), "deviations": np.full(k, 0.05),
            "centres": centres, "sizes": np.tile([[4.0, 1.8, 1.5]], (k, 1)),
            "yaws": np.tile([[0.0, 1.0]], (k, 1)), "features": np.zeros((k, 4), np.float32), "association": association,
            "velocities": np.tile([[0.0, 0.0, 5.0]], (k, 1)), "attributes": np.eye(3)[np.zeros(k, int)],
        }  # fmt: skip
