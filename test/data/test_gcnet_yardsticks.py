"""What the benchmarks ask of a detector on real streets: their rules, and that they are fixed."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import Pose

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("night_ap")


@pytest.fixture
def pandaset(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("pandaset_tracks")


def frame_of(heights: list[float], distances: list[float], points: list[int]) -> Frame:
    """Objects of the classes 0, 1, ..., seen by a camera at the origin."""
    count = len(heights)
    xyxy = np.array([[10.0, 10, 40, 10 + height] for height in heights])
    labels = Labels(np.arange(count) + 1, xyxy, np.arange(count), np.ones(count))
    boxes = Boxes3D(
        np.array([[d, 0, 0] for d in distances]), np.ones((count, 3)), np.zeros(count), np.zeros((count, 3))
    )
    return Frame(0, np.zeros((64, 64, 3), np.uint8), labels, camera_pose=Pose(np.eye(3), np.zeros(3)), boxes3d=boxes,
                 lidar_points=np.array(points))  # fmt: skip


def test_near_vehicles_that_lidar_hits_are_asked_for(pandaset: ModuleType) -> None:
    """One that is asked for, one each too low, too far and hardly hit, a trailer and a pedestrian."""
    names = ("car", "truck", "bus", "car", "trailer", "pedestrian")
    frame = frame_of([20, 19.9, 20, 20, 40, 40], [70, 10, 70.1, 10, 10, 10], [5, 9, 9, 4, 9, 9])
    truth = pandaset.vehicles(frame, names)
    assert truth.ids.tolist() == [1, 2, 3, 4, 5]
    assert truth.scored.tolist() == [True, False, False, False, False]
    with pytest.raises(DataError, match="expected a recording with boxes in space"):
        pandaset.vehicles(replace(frame, lidar_points=None), names)


def test_what_is_asked_for_of_the_open_camera(pandaset: ModuleType, data_root: Path) -> None:
    sequence = open_source(f"{data_root / 'pandaset'}?camera=back_camera")
    asked = [pandaset.vehicles(frame, sequence.class_names).scored.sum() for frame in sequence]
    assert (len(asked), sum(asked)) == (80, 1325)


def test_far_and_cut_vehicles_are_let_pass_at_night(night: ModuleType) -> None:
    image = np.zeros((640, 1138, 3), np.uint8)
    near = [500.0, 200, 560, 289]
    cases = {"near": near, "far": [500, 200, 560, 287], "left": [3, 200, 560, 400], "lower": [500, 400, 560, 638]}
    kept = night.counts(np.array(list(cases.values())), image)
    assert [name for name, keep in zip(cases, kept, strict=True) if keep] == ["near"]


def test_night_pictures_are_stretched_back(night: ModuleType, data_root: Path) -> None:
    """Cars seen from behind or the front are about as wide as high; in the square pictures half as wide."""
    pictures = list(night.pictures(data_root / "real2d" / "rf100_toll_cctv", "malam"))
    assert {image.shape for image, _ in pictures} == {(640, 1138, 3)}
    boxes = np.concatenate([xyxy[night.counts(xyxy, image)] for image, xyxy in pictures])
    assert (len(pictures), len(boxes)) == (54, 202)
    assert 1 < np.median((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1])) < 1.5


def test_without_pictures_or_labels_it_says_so(night: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected pictures images/malam\*\.jpg"):
        next(night.pictures(tmp_path, "malam"))
