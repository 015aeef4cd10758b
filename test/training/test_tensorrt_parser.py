"""NVIDIA's own parser and builder over the exported graphs. Nothing here runs on a GPU.

Optional: needs `tensorrt-rtx-cu13-bindings`, `tensorrt-rtx-cu13-libs` and `nvidia-cuda-runtime`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from camtrack_core.networks.half import to_half
from gcnet_tracker import config as gcnet
from gcnet_tracker import export as gcnet_export
from gcnet_tracker.network import GCNet
from time3d_tracker import config as time3d
from time3d_tracker import export as time3d_export
from time3d_tracker.network import Time3D

GCNET = {
    "demo": gcnet.NetworkConfig(backbone="yolox_nano", height=320, width=576, channels=96, correlation_channels=96),
    "paper": gcnet.NetworkConfig(),
}
TIME3D = {
    "demo": time3d.NetworkConfig(backbone="yolox_nano", stride=8, height=480, width=864, slots=64, embedding=128),
    "paper": time3d.NetworkConfig(),
}


@pytest.fixture(scope="module")
def trt() -> Any:
    """NVIDIA's bindings."""
    return pytest.importorskip("tensorrt_rtx_bindings", reason="NVIDIA's tensorrt-rtx wheels are not installed")


def build(trt: Any, path: Path) -> tuple[set[str], list[int]]:
    """Outputs that the parser finds, and sizes of engines for two compute capabilities."""
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    sizes = []
    for capability in (trt.ComputeCapability.SM86, trt.ComputeCapability.SM89):
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability, 0)
        engine = builder.build_serialized_network(network, config)
        assert engine is not None
        sizes.append(engine.nbytes)
    return {network.get_output(i).name for i in range(network.num_outputs)}, sizes


def check(trt: Any, path: Path, outputs: tuple[str, ...]) -> None:
    """A float32 graph is accepted, and so is the float16 one, whose engines are smaller."""
    names, full = build(trt, path)
    assert names == set(outputs)
    onnx.save(to_half(onnx.load(path)), path.with_name("half.onnx"))
    names, half = build(trt, path.with_name("half.onnx"))
    assert names == set(outputs) and max(half) < min(full)


@pytest.mark.parametrize("size", GCNET)
def test_gcnet(trt: Any, tmp_path: Path, size: str) -> None:
    torch.manual_seed(0)
    gcnet_export.export(GCNet(GCNET[size]).eval(), tmp_path / "g.onnx")
    check(trt, tmp_path / "g.onnx", gcnet.OUTPUTS)


@pytest.mark.parametrize("size", TIME3D)
def test_time3d(trt: Any, tmp_path: Path, size: str) -> None:
    torch.manual_seed(0)
    time3d_export.export(Time3D(TIME3D[size]).eval(), tmp_path / "g.onnx")
    check(trt, tmp_path / "g.onnx", time3d.OUTPUTS)
