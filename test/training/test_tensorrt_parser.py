"""NVIDIA's own parser and builder over the graphs, as the sessions hand them over. Nothing here runs on a GPU.

Optional: needs `tensorrt-rtx-cu13-bindings`, `tensorrt-rtx-cu13-libs` and `nvidia-cuda-runtime`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from camtrack_core.networks.int8 import write_int8
from camtrack_core.runtime import Precision, tensorrt
from camtrack_core.runtime.graphs import cast_first, read_graph
from gcnet_tracker import config as gcnet
from gcnet_tracker import export as gcnet_export
from gcnet_tracker.network import GCNet
from gcnet_tracker.tracker import DEMO_MODEL as GCNET_DEMO
from time3d_tracker import config as time3d
from time3d_tracker import export as time3d_export
from time3d_tracker.model import DEMO_MODEL as TIME3D_DEMO
from time3d_tracker.network import Time3D


@pytest.fixture(scope="module")
def trt() -> Any:
    """NVIDIA's bindings."""
    return pytest.importorskip("tensorrt_rtx_bindings", reason="NVIDIA's tensorrt-rtx wheels are not installed")


def export_gcnet(path: Path, **sizes: Any) -> Path:
    gcnet_export.export(GCNet(gcnet.NetworkConfig(**sizes)).eval(), path)
    return path


def export_time3d(path: Path, **sizes: Any) -> Path:
    time3d_export.export(Time3D(time3d.NetworkConfig(**sizes)).eval(), path)
    return path


SMALL = {"backbone": "yolox_nano", "height": 320, "width": 576, "channels": 96, "correlation_channels": 96}
GRAPHS: dict[str, Callable[[Path], Path]] = {
    "gcnet, shipped": lambda path: GCNET_DEMO,
    "time3d, shipped": lambda path: TIME3D_DEMO,
    "gcnet, demo": lambda path: export_gcnet(path, **SMALL),
    "gcnet, demo, linear": lambda path: export_gcnet(path, correlation="linear", **SMALL),
    "gcnet, paper": export_gcnet,
    "time3d, demo": lambda path: export_time3d(
        path, backbone="yolox_nano", stride=8, height=480, width=864, slots=64, embedding=128
    ),
    "time3d, paper": export_time3d,
}


def built(trt: Any, monkeypatch: pytest.MonkeyPatch, path: Path, precision: Precision) -> list[int]:
    """Sizes of the engines for two compute capabilities, which a machine without a GPU has to name."""
    sizes = []
    for capability in (trt.ComputeCapability.SM86, trt.ComputeCapability.SM89):

        class Builder(trt.Builder):
            def create_builder_config(self, capability: Any = capability) -> Any:
                config = super().create_builder_config()
                config.num_compute_capabilities = 1
                config.set_compute_capability(capability, 0)
                return config

        library = SimpleNamespace(**{name: getattr(trt, name) for name in dir(trt)} | {"Builder": Builder})
        monkeypatch.setattr(tensorrt, "_library", lambda library=library: library)
        sizes.append(len(tensorrt.build(read_graph(path), precision, 1, tensorrt._logger())))
    return sizes


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_becomes_an_engine_in_every_precision_smaller_in_float16(
    trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    torch.manual_seed(0)
    path = GRAPHS[name](tmp_path / "g.onnx")
    assert max(built(trt, monkeypatch, path, "f16")) < min(built(trt, monkeypatch, path, "f32"))
    graph = read_graph(path)
    given = {name: np.zeros(shape, np.float32) for name, shape in graph.input_shapes.items()}
    given["image"] = np.random.default_rng(0).integers(0, 256, given["image"].shape, np.uint8)
    write_int8(cast_first(graph.model), tmp_path / "int8.onnx", [given])
    assert min(built(trt, monkeypatch, tmp_path / "int8.onnx", "auto")) > 0
