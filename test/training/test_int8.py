"""int8 graphs: which convolutions they quantise, and that ranges come from what a tracker asks about real frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import numpy_helper

from camtrack.quantize import quantize
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError, ModelError
from camtrack_core.networks.int8 import quantised, write_int8
from camtrack_core.runtime import open_session
from camtrack_core.runtime.graphs import cast_first, computed_in, read_graph
from gcnet_tracker.tracker import DEMO_MODEL


def a_chain(channels: int = 32) -> onnx.ModelProto:
    """Convolutions of a backbone, the first, a pointwise and a depthwise one, and a head."""
    rng = np.random.default_rng(0)
    shapes = {"a": (channels, 3, 3, 3), "b": (channels, channels, 1, 1), "c": (channels, 1, 3, 3)}
    shapes["d"] = (4, channels, 1, 1)
    weights = [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), f"w{n}") for n, s in shapes.items()]
    nodes, value = [], "image"
    for name, group in {"a": 1, "b": 1, "c": channels, "d": 1}.items():
        pad = [1] * 4 if name in "ac" else [0] * 4
        bias = f"network.{'head' if name == 'd' else 'backbone'}.{name}.bias"
        weights.append(numpy_helper.from_array(np.zeros(shapes[name][0], np.float32), bias))
        given = [value, f"w{name}", bias]
        nodes.append(onnx.helper.make_node("Conv", given, [name], f"conv_{name}", group=group, pads=pad))
        value = name
    kind = onnx.TensorProto.FLOAT
    taken = onnx.helper.make_tensor_value_info("image", kind, [1, 3, 8, 8])
    made = onnx.helper.make_tensor_value_info("d", kind, [1, 4, 8, 8])
    graph = onnx.helper.make_graph(nodes, "g", [taken], [made], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    onnx.helper.set_model_props(model, {"camtrack_model": "other", "precision": "float32"})
    return model


def test_pointwise_convolutions_are_quantised_and_close_to_what_they_were(tmp_path: Path) -> None:
    model, rng = a_chain(), np.random.default_rng(1)
    assert quantised(model) == ["conv_b"]
    inputs = [{"image": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(4)]
    write_int8(model, tmp_path / "q.onnx", inputs)
    onnx.save(model, tmp_path / "f.onnx")
    written = onnx.load(tmp_path / "q.onnx")
    kinds = [node.op_type for node in written.graph.node]
    assert kinds.count("Conv") == 4 and kinds.count("QuantizeLinear") == 1 and kinds.count("DequantizeLinear") == 2
    zeros = [t for t in written.graph.initializer if "zero_point" in t.name]
    assert zeros and all(t.data_type == onnx.TensorProto.INT8 and not numpy_helper.to_array(t).any() for t in zeros)
    graph = read_graph(tmp_path / "q.onnx")
    assert graph.metadata["camtrack_model"] == "other" and computed_in(graph, "auto") == "int8"
    found, expected = (open_session(tmp_path / f"{n}.onnx", "onnxruntime").run(inputs[0])["d"] for n in "qf")
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_the_shipped_network_is_calibrated_on_a_drive(tmp_path: Path) -> None:
    source = "drive:9001?frames=5&frame_rate=5"
    assert quantize(DEMO_MODEL, tmp_path / "q.onnx", [source], 2) == 2
    image = next(iter(open_source(source))).image
    given = {n: np.zeros(s, np.float32) for n, s in read_graph(DEMO_MODEL).input_shapes.items()}
    height, width = given["image"].shape[1:3]
    given["image"] = cv2.resize(image, (width, height))[None]
    found, expected = (open_session(p, "onnxruntime").run(given)["scores"] for p in (tmp_path / "q.onnx", DEMO_MODEL))
    assert 0.001 < np.abs(found - expected).mean() < 0.2


def test_what_is_no_float32_graph_of_ours_is_refused(tmp_path: Path) -> None:
    onnx.save(a_chain(), tmp_path / "f.onnx")
    with pytest.raises(ModelError, match="expected an exported GCNet or Time3D in float32, got other in float32"):
        quantize(tmp_path / "f.onnx", tmp_path / "q.onnx", ["drive:1"], 1)


def test_bytes_are_made_to_floats_before_they_are_transposed() -> None:
    """TensorRT transposes no bytes; graphs of before and after compute the same."""
    shipped = cast_first(read_graph(DEMO_MODEL).model)
    assert [node.op_type for node in shipped.graph.node if "image" in node.input] == ["Cast"]
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 2, 3, 3])
    out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1, 3, 2, 3])
    nodes = [
        onnx.helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Cast", ["turned"], ["out"], to=onnx.TensorProto.FLOAT),
    ]
    before = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [image], [out]))
    after = cast_first(before)
    onnx.checker.check_model(after, full_check=True)
    assert [node.op_type for node in after.graph.node] == ["Cast", "Transpose"]
    given = {"image": np.arange(18, dtype=np.uint8).reshape(1, 2, 3, 3)}
    expected, found = (onnx.reference.ReferenceEvaluator(m).run(None, given)[0] for m in (before, after))
    np.testing.assert_array_equal(found, expected)


def test_a_source_without_frames_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        quantize(DEMO_MODEL, tmp_path / "q.onnx", [str(tmp_path)], 1)
