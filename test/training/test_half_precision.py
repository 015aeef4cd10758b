"""float16 graphs against the float32 graphs that they were made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from camtrack_core.networks.half import to_half, trunk
from camtrack_core.runtime import open_session
from gcnet_tracker.config import NetworkConfig
from gcnet_tracker.export import example_inputs, export
from gcnet_tracker.network import GCNet
from gcnet_tracker.tracker import DEMO_MODEL as GCNET_DEMO
from time3d_tracker.model import DEMO_MODEL as TIME3D_DEMO

GEOMETRY = {"Div", "Floor", "Softmax", "ReduceL2", "TopK", "GatherElements", "MatMul", "Gemm", "LayerNormalization"}


def test_indices_are_exact_where_half_precision_cannot_count_the_cells(tmp_path: Path) -> None:
    """7168 cells: counted in half precision, almost every second stored object is refreshed from a wrong one."""
    torch.manual_seed(0)
    config = {"channels": 16, "correlation_channels": 16, "correlation": "linear"}
    network = GCNet(NetworkConfig(backbone="yolox_nano", height=512, width=896, **config))
    image, queries, values = example_inputs(network.eval())
    values[:, :2] = torch.randn(values[:, :2].shape)  # the centres of the boxes, all over the image
    given = {"image": image.numpy(), "queries": torch.randn(queries.shape).numpy(), "values": values.numpy()}
    found: dict[str, dict[str, NDArray]] = {}
    export(network, tmp_path / "float32.onnx")
    onnx.save(to_half(onnx.load(tmp_path / "float32.onnx")), tmp_path / "float16.onnx")
    for precision in ("float32", "float16"):
        found[precision] = open_session(tmp_path / f"{precision}.onnx", "onnxruntime").run(given)
    full, half = found["float32"], found["float16"]
    left, top, right, bottom = full["track_boxes"].T / 8
    cells = (top + bottom).clip(0, 127) // 2 * 112 + (left + right).clip(0, 223) // 2
    assert (cells > 2048).mean() > 0.5 and len(np.unique(cells)) > 50
    deviation = full["track_queries"].std()
    wrong = np.abs(half["track_queries"] - full["track_queries"]).max(1) > 0.01 * deviation
    assert wrong.mean() < 0.06  # boxes that lie on the edge of a cell


@pytest.mark.parametrize("model", [GCNET_DEMO, TIME3D_DEMO])
def test_only_what_convolutions_need_is_halved(model: Path) -> None:
    if not model.is_file():
        pytest.skip(f"{model.name} is not here")
    graph = onnx.load(model)
    half = to_half(graph)
    onnx.checker.check_model(half, full_check=True)
    inside = trunk(graph)
    kinds = {node.op_type for node in graph.graph.node if node.output[0] in inside}
    assert "Conv" in kinds and not kinds & GEOMETRY
    halved = {
        t.name.removesuffix("_float16") for t in half.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16
    }
    kernels = {n.input[1] for n in graph.graph.node if n.op_type == "Conv" and n.output[0] in inside}
    assert kernels <= halved
    casts = sum(n.op_type == "Cast" for n in half.graph.node) - sum(n.op_type == "Cast" for n in graph.graph.node)
    assert 0 < casts <= 8  # where float32 begins and ends, not around every node
    assert [(i.name, i.type) for i in half.graph.input] == [(i.name, i.type) for i in graph.graph.input]
    assert [(o.name, o.type) for o in half.graph.output] == [(o.name, o.type) for o in graph.graph.output]
