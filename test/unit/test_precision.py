"""The demo networks in bfloat16 against float32, as sets of boxes.

Where the processor does not compute in bfloat16 OpenVINO takes float32 for both, and the bounds hold all the more.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.boxes import Floats, iou
from camtrack_core.runtime import open_session
from gcnet_tracker.tracker import DEMO_MODEL, Detector, GCNetModel
from time3d_tracker.level import camera_height
from time3d_tracker.model import DEMO_MODEL as TIME3D_MODEL
from time3d_tracker.model import Time3DModel
from time3d_tracker.tracker import Tracker

SHOWN = 0.4  # a score that is shown


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return list(islice(open_source("drive:9001?frames=2&frame_rate=1"), 2))


@pytest.mark.parametrize("path", [DEMO_MODEL, TIME3D_MODEL], ids=["gcnet", "time3d"])
def test_float32_is_float32_on_every_processor_and_engine(path: Path) -> None:
    given = {name: np.zeros(shape, np.float32) for name, shape in open_session(path, "openvino").input_shapes.items()}
    given["image"] = np.random.default_rng(0).integers(0, 255, given["image"].shape, np.uint8)
    openvino, onnxruntime = (open_session(path, engine, precision="f32") for engine in ("openvino", "onnxruntime"))
    assert "(f32)" in openvino.engine
    found, expected = openvino.run(given), onnxruntime.run(given)
    np.testing.assert_allclose(np.sort(found["scores"]), np.sort(expected["scores"]), atol=2e-5)


def test_onnx_runtime_refuses_bfloat16() -> None:
    with pytest.raises(ConfigurationError, match="expected the precision auto or f32 with ONNX Runtime, got bf16"):
        open_session(DEMO_MODEL, "onnxruntime", precision="bf16")


def test_gcnet_sees_the_same_boxes_in_bfloat16(frames: list[Frame]) -> None:
    exact, rounded = (Detector(GCNetModel(precision=precision)) for precision in ("f32", "bf16"))
    for frame in frames:
        a, b = exact(frame.image), rounded(frame.image)
        apart = 1 - iou(a.xyxy, b.xyxy)
        assert_alike(apart, a.scores, b.scores, farthest=0.5, typical=0.15)


def test_time3d_sees_the_same_objects_in_bfloat16(frames: list[Frame]) -> None:
    exact, rounded = (Tracker(Time3DModel(TIME3D_MODEL, precision=precision)) for precision in ("f32", "bf16"))
    for frame in frames:
        assert frame.camera is not None
        view = (frame.image, frame.time_ns, frame.camera.intrinsics, frame.camera_pose, camera_height(frame))
        a, b = exact.step(*view).detections, rounded.step(*view).detections
        apart = np.linalg.norm(a.boxes.centre[:, None] - b.boxes.centre, axis=-1)
        assert_alike(apart, a.scores, b.scores, farthest=2.0, typical=0.3)  # metres


def assert_alike(apart: Floats, scores: Floats, others: Floats, farthest: float, typical: float) -> None:
    """Nine of ten shown boxes of either precision are found again by the other, in place and score.

    `apart` (N, M) is how far the boxes lie from each other, `typical` the most that half of them may.
    """
    again = (apart <= farthest) & (np.abs(scores[:, None] - others) <= 0.15)
    shown, shown_others = scores >= SHOWN, others >= SHOWN
    assert shown.sum() >= 5
    assert again.any(1)[shown].mean() >= 0.9
    assert again.any(0)[shown_others].mean() >= 0.9
    assert np.median(apart[shown].min(1)) <= typical
