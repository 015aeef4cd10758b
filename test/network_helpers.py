"""What tests of the networks share."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, flock
from pathlib import Path

import numpy as np
import pytest
import torch

from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from time3d_tracker.config import NetworkConfig
from time3d_tracker.detector import Objects
from time3d_tracker.export import export
from time3d_tracker.network import Time3D

SMALL = NetworkConfig(backbone="yolox_nano", stride=8, height=96, width=160, channels=16, head_channels=8, slots=12,
                      reid_channels=8, embedding=16, attention_heads=2)  # fmt: skip


def network() -> Time3D:
    torch.manual_seed(0)
    net = Time3D(SMALL)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():  # features of unit variance: cells that differ by more than rounding
        net.train().detector(torch.rand(2, 3, 96, 160) * 255)
    last = net.eval().detector.heatmap[2]
    assert isinstance(last, torch.nn.Conv2d)
    torch.nn.init.constant_(last.bias, 0.0)
    return net


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its graph; the processes of a run make it once, as an export takes seconds."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "time3d_small.onnx"
    with open(path.with_suffix(".lock"), "w") as lock:
        flock(lock, LOCK_EX)
        if not path.exists():
            export(network(), path)
    return path


K = 6


def some_objects(batch: int = 1) -> Objects:
    g = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(batch, K, *shape, generator=g)

    low, yaw = noise(2) * 50, noise() * 6
    return Objects(
        noise().long(), (noise() * 5).long(), noise(), torch.cat([low, low + noise(2) * 40 + 1], -1), noise(9, 2),
        noise(3) * 3 + 0.5, yaw.sin(), yaw.cos(), noise(3) * 20 + 5, noise() > 0, noise(),
        noise(3) * 20 + 5, noise(3) + 0.1, noise(3) > 0.3, noise() + 0.1, noise(8),
    )  # fmt: skip


CAMERA = Camera.from_field_of_view(320, 180, 70)


class Street:
    """Three boxes before a moving, tilted camera: one drives, one stands for a while, one never moves."""

    name = "street"
    class_names = ("van", "pedestrian", "tram")

    def __len__(self) -> int:
        return 6

    def __iter__(self):  # type: ignore[no-untyped-def]
        tilt = np.radians(4)
        turn = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
        for i in range(6):
            pose = Pose(turn @ OPTICAL_IN_VEHICLE, np.array([1000.0 + i, 0.1 * i, 1.5]))
            velocity = np.array([[6.0, 0, 0], [0, 1.2 * (i < 2), 0], [0, 0, 0]])
            centre = np.array([[1015.0 + 0.6 * i, 3, 0.9], [1012, -3, 0.85], [1025, -1, 1.6]])
            size = np.array([[5.0, 2, 1.8], [0.6, 0.6, 1.7], [9, 2.5, 3.2]])
            boxes = Boxes3D(centre, size, np.array([0.3, 1.0, 0.1]), velocity)
            pixels = CAMERA.project(pose.inverse().apply(boxes.corners()))
            xyxy = np.clip(np.concatenate([pixels.min(1), pixels.max(1)], 1), 0, [320, 180, 320, 180])
            labels = Labels(np.array([4, 7, 9]), xyxy, np.array([0, 1, 2]), np.ones(3))
            image = np.full((180, 320, 3), 90, np.uint8)
            yield Frame(1_000_000 + i * 100_000_000, image, labels, camera=CAMERA, camera_pose=pose, boxes3d=boxes)
