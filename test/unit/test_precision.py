"""The demo networks in bfloat16 against float32, as sets of boxes.

Where the processor does not compute in bfloat16 OpenVINO takes float32 for both, and the bounds hold all the more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

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
    return [*open_source("drive:9001?frames=4&frame_rate=1"), *open_source("drive:9100?frames=2&frame_rate=1")]


def an_input(path: Path) -> dict[str, NDArray]:
    given = {name: np.zeros(shape, np.float32) for name, shape in open_session(path, "openvino").input_shapes.items()}
    return given | {"image": np.random.default_rng(0).integers(0, 255, given["image"].shape, np.uint8)}


@pytest.mark.parametrize("path", [DEMO_MODEL, TIME3D_MODEL], ids=["gcnet", "time3d"])
def test_bfloat16_rounds_where_the_processor_has_it_and_only_there(path: Path) -> None:
    given, has = an_input(path), "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    exact, rounded = (open_session(path, "openvino", precision=precision) for precision in ("f32", "bf16"))
    assert rounded.engine.endswith("(bf16)" if has else "(f32)")
    apart = np.abs(np.sort(exact.run(given)["scores"].copy()) - np.sort(rounded.run(given)["scores"])).max()
    assert apart > 1e-4 if has else apart < 1e-6


@pytest.mark.parametrize("path", [DEMO_MODEL, TIME3D_MODEL], ids=["gcnet", "time3d"])
def test_float32_is_float32_on_every_processor_and_engine(path: Path) -> None:
    given = an_input(path)
    ours, other = (open_session(path, engine, precision="f32") for engine in ("openvino", "onnxruntime"))
    assert "(f32)" in ours.engine
    found, expected = ours.run(given), other.run(given)
    np.testing.assert_allclose(np.sort(found["scores"]), np.sort(expected["scores"]), atol=2e-5)


def test_onnx_runtime_refuses_bfloat16() -> None:
    with pytest.raises(ConfigurationError, match="expected the precision auto or f32 with ONNX Runtime, got bf16"):
        open_session(DEMO_MODEL, "onnxruntime", precision="bf16")


def test_gcnet_sees_the_same_boxes_in_bfloat16(frames: list[Frame]) -> None:
    exact, rounded = (Detector(GCNetModel(precision=precision)) for precision in ("f32", "bf16"))
    pairs = [(exact(frame.image), rounded(frame.image)) for frame in frames]
    assert_alike([(1 - iou(a.xyxy, b.xyxy), a.scores, b.scores) for a, b in pairs], farthest=0.5, typical=0.15)


def test_time3d_sees_the_same_objects_in_bfloat16(frames: list[Frame]) -> None:
    exact, rounded = (Tracker(Time3DModel(TIME3D_MODEL, precision=precision)) for precision in ("f32", "bf16"))
    pairs = []
    for frame in frames:
        assert frame.camera is not None
        view = (frame.image, frame.time_ns, frame.camera.intrinsics, frame.camera_pose, camera_height(frame))
        a, b = exact.step(*view).detections, rounded.step(*view).detections
        pairs.append((np.linalg.norm(a.boxes.centre[:, None] - b.boxes.centre, axis=-1), a.scores, b.scores))
    assert_alike(pairs, farthest=2.0, typical=0.3)  # metres


def assert_alike(frames: list[tuple[Floats, Floats, Floats]], farthest: float, typical: float) -> None:
    """Nine of ten shown boxes of either precision are found again by the other, in place and score.

    Of each frame: how far the boxes lie from each other (N, M), the scores (N,) and (M,). `typical` is the most that
    half of them may lie apart.
    """
    found: list[bool] = []
    nearest: list[float] = []
    for apart, scores, others in frames:
        again = (apart <= farthest) & (np.abs(scores[:, None] - others) <= 0.15)
        found += [*again.any(1)[scores >= SHOWN], *again.any(0)[others >= SHOWN]]
        nearest += apart[scores >= SHOWN].min(1).tolist()
    assert len(nearest) >= 30
    assert np.mean(found) >= 0.9
    assert np.median(nearest) <= typical
