"""Exported graphs: what they must hold to be a model, whatever runs them. The graphs here copy their image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from camtrack_core.errors import ModelError
from camtrack_core.runtime import Device, expect_names, open_session
from gcnet_tracker import config as gcnet
from gcnet_tracker.tracker import GCNetModel
from time3d_tracker import config as time3d
from time3d_tracker.model import Time3DModel

engines = pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
GCNET = {"camtrack_model": "gcnet", "class_names": json.dumps(["car"]), "height": "96", "width": "64"}
TIME3D = {"camtrack_model": "time3d", "class_names": json.dumps(["car"]), "attributes": json.dumps(["moving"])}


def a_graph(path: Path, metadata: dict[str, str], inputs: Sequence[str], outputs: Sequence[str]) -> Path:
    """Every output is the image, 32 high and 64 wide."""
    given, made = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [1, 32, 64, 3]) for name in names]
        for names in (inputs, outputs)
    )
    nodes = [onnx.helper.make_node("Identity", ["image"], [name]) for name in outputs]
    graph = onnx.helper.make_graph(nodes, "g", given, made)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


@engines
def test_a_session_says_and_does_what_the_graph_has(tmp_path: Path, engine: Device) -> None:
    session = open_session(a_graph(tmp_path / "g.onnx", {"a": "b"}, ("image",), ("second", "first")), engine)
    assert session.output_names == ("second", "first")
    assert session.input_shapes == {"image": (1, 32, 64, 3)} and session.metadata["a"] == "b"
    image = np.random.default_rng(0).integers(0, 255, (1, 32, 64, 3), np.uint8)
    out = session.run({"image": image})
    assert list(out) == ["second", "first"]
    np.testing.assert_array_equal(out["first"], image)


@engines
def test_an_input_may_come_in_parts_and_the_number_of_frames_may_be_free(tmp_path: Path, engine: Device) -> None:
    free = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["frames", 2, 3, 4]) for n in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", free[:1], free[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "g.onnx")
    session = open_session(tmp_path / "g.onnx", engine)
    assert session.input_shapes == {"x": (-1, 2, 3, 4)}
    for frames in (3, 1):
        parts = [session.store((3, 4)) for _ in range(2 * frames)]
        for number, part in enumerate(parts):
            part[:] = np.full((3, 4), number, np.float32)
        parts[0][:, 1] = parts[1][:, 0]
        (out,) = session.run({"x": parts}).values()
        expected = np.repeat(np.arange(2 * frames, dtype=np.float32), 12).reshape(frames, 2, 3, 4)
        expected[0, 0, :, 1] = 1
        np.testing.assert_array_equal(out, expected)


@engines
def test_names_that_lack_or_are_too_many_are_a_sentence(tmp_path: Path, engine: Device) -> None:
    path = a_graph(tmp_path / "g.onnx", {}, ("image",), ("a", "b"))
    session = open_session(path, engine)
    expect_names(path, session, ("image",), ("b",))  # more outputs than needed do no harm
    with pytest.raises(ModelError, match=r"g\.onnx: expected the outputs a, c, d, its graph lacks c, d"):
        expect_names(path, session, ("image",), ("a", "c", "d"))
    with pytest.raises(ModelError, match=r"g\.onnx: expected the inputs image, queries, its graph has image$"):
        expect_names(path, session, ("image", "queries"), ("a",))
    with pytest.raises(ModelError, match="expected the inputs other, its graph has image"):
        expect_names(path, session, ("other",), ("a",))


@pytest.mark.parametrize(("metadata", "inputs", "outputs", "sentence"), [
    ({}, gcnet.INPUTS, gcnet.OUTPUTS, "expected a graph exported by gcnet_tracker"),
    (GCNET, gcnet.INPUTS, gcnet.OUTPUTS, "states an input of 96x64, its graph takes 32x64"),
    ({**GCNET, "height": "1e9"}, gcnet.INPUTS, gcnet.OUTPUTS, "states an input of 1e9x64, its graph takes 32x64"),
    ({**GCNET, "height": "32"}, gcnet.INPUTS, gcnet.OUTPUTS, "an input queries of framesxcx128, .* takes 1x32x64x3"),
    ({"camtrack_model": "gcnet"}, gcnet.INPUTS, gcnet.OUTPUTS, "a list of names as class_names, it states ''"),
    ({**GCNET, "class_names": "[1]"}, gcnet.INPUTS, gcnet.OUTPUTS, r"names as class_names, it states '\[1\]'"),
    ({**GCNET, "class_names": "[" * 10**5}, gcnet.INPUTS, gcnet.OUTPUTS, "a list of names as class_names"),
    (GCNET, gcnet.INPUTS[:1], gcnet.OUTPUTS, "expected the inputs image, queries, values, its graph has image"),
    (GCNET, gcnet.INPUTS, gcnet.OUTPUTS[1:], "expected the outputs boxes, .*, its graph lacks boxes"),
])  # fmt: skip
def test_gcnet_refuses_other_graphs(
    tmp_path: Path, metadata: dict[str, str], inputs: Sequence[str], outputs: Sequence[str], sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        GCNetModel(a_graph(tmp_path / "g.onnx", metadata, inputs, outputs), "onnxruntime")


@pytest.mark.parametrize(("metadata", "inputs", "outputs", "sentence"), [
    ({}, time3d.INPUTS, time3d.OUTPUTS, "expected a graph exported by time3d_tracker"),
    (TIME3D, ("image", "camera"), time3d.OUTPUTS, "expected the inputs image, projection, .*, its graph has image"),
    (TIME3D, time3d.INPUTS, time3d.OUTPUTS, "an input past_features of framesx5xslotsxchannels, .* takes 1x32x64x3"),
    (TIME3D, time3d.INPUTS, [n for n in time3d.OUTPUTS if n != "deviations"], "its graph lacks deviations"),
])  # fmt: skip
def test_time3d_refuses_other_graphs(
    tmp_path: Path, metadata: dict[str, str], inputs: Sequence[str], outputs: Sequence[str], sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        Time3DModel(a_graph(tmp_path / "g.onnx", metadata, inputs, outputs), "onnxruntime")
