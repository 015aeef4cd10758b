"""Graphs of any content: each tracks with finite numbers, or is refused with a sentence that names its file."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, helper, parser

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import fuzz

from camtrack_core.errors import CamtrackError, ModelError
from camtrack_core.runtime import Device
from gcnet_tracker.tracker import GCNetModel, Tracker

METADATA = {"camtrack_model": "gcnet", "class_names": json.dumps(["car"]), "height": "32", "width": "64"}
# The sizes and names of GCNet's: one box as often as there are slots, seen as well as the image is bright.
GRAPH = """
<ir_version: 9, opset_import: ["" : 17]>
g (uint8[1, 32, 64, 3] image, float[1, 2, 128] queries, float[1, 3, 128] values) => (
    float[1, 128, 4] boxes, float[1, 128] scores, int64[1, 128] class_ids,
    float[1, 2, 128] new_queries, float[1, 3, 128] new_values, float[1, 128, 4] track_boxes,
    float[1, 128] track_confidences, float[1, 2, 128] track_queries, float[1, 3, 128] track_values
) {
    pixels = Cast <to = 1> (image)
    mean = ReduceMean <axes = [1, 2, 3], keepdims = 0> (pixels)
    white = Constant <value = float {255.0}> ()
    share = Div (mean, white)
    slots = Constant <value = int64[2] {1, 128}> ()
    scores = Expand (share, slots)
    corners = Constant <value = float[4] {10.0, 8.0, 40.0, 28.0}> ()
    four = Constant <value = int64[3] {1, 128, 4}> ()
    boxes = Expand (corners, four)
    nothing = Sub (scores, scores)
    class_ids = Cast <to = 7> (nothing)
    new_queries = Identity (queries)
    new_values = Identity (values)
    track_boxes = Identity (boxes)
    track_confidences = Identity (scores)
    track_queries = Identity (queries)
    track_values = Identity (values)
}
"""
SIZES = (0, -1, 1, 3, 129, 2**31, 2**62)
engines = pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
some = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def a_model(metadata: dict[str, str]) -> ModelProto:
    model = parser.parse_model(GRAPH)
    helper.set_model_props(model, metadata)
    return model


def tracked_or_refused(path: Path, engine: Device) -> bool:
    """Whether the graph tracks three bright images; else it was refused with a sentence."""
    try:
        model = GCNetModel(path, engine, threads=1)
        tracker = Tracker(model)
        for _ in range(3):
            tracks = tracker.step(np.full((32, 64, 3), 240, np.uint8))
            assert np.isfinite(tracks.xyxy).all() and set(tracks.class_ids) <= set(range(len(model.class_names)))
    except CamtrackError as error:
        assert isinstance(error, ModelError) and str(path) in str(error)
        assert "expected" in str(error) or "states" in str(error)
        return False
    return True


def change(model: ModelProto, rng: random.Random) -> None:
    """Some of the graph's description says something else."""
    graph = model.graph
    for _ in range(rng.choice((1, 1, 2, 4))):
        node, other = rng.choice(graph.node), rng.choice(graph.node)
        value = rng.choice([*graph.input, *graph.output])
        kind = rng.randrange(7)
        if kind == 0:
            node.op_type = rng.choice((other.op_type, "Conv", "Loop", "Nonsense", ""))
        elif kind == 1 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(("", "nobody", *other.output, *node.output))
        elif kind == 2:
            node.output[0] = rng.choice(("", "other", *other.output))
        elif kind == 3 and value.type.tensor_type.shape.dim:
            rng.choice(value.type.tensor_type.shape.dim).dim_value = rng.choice(SIZES)
        elif kind == 4:
            value.type.tensor_type.elem_type = rng.randrange(-1, 26)
        elif kind == 5 and node.attribute:
            attribute = node.attribute[0]
            if attribute.type == AttributeProto.TENSOR:
                attribute.t.data_type = rng.choice((attribute.t.data_type, rng.randrange(-1, 26)))
                for values in (attribute.t.dims, attribute.t.int64_data, attribute.t.float_data):
                    values[:] = [rng.choice((one, *SIZES)) for one in values]
            elif attribute.ints:
                attribute.ints[:] = [rng.choice((one, *SIZES)) for one in attribute.ints]
            else:
                attribute.i = rng.choice((0, 1, 7, 8, 10, 11, 99, 2**40))
        elif kind == 6:
            rng.choice((graph.node, graph.input, graph.output)).pop()


@engines
def test_the_graph_itself_tracks(engine: Device, tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(a_model(METADATA).SerializeToString())
    assert tracked_or_refused(tmp_path / "g.onnx", engine)


@engines
def test_a_convolution_without_weights_is_refused(engine: Device, tmp_path: Path) -> None:
    """OpenVINO ends the process that reads it."""
    model = a_model(METADATA)
    model.graph.node[0].op_type = "Conv"
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"g\.onnx: expected an ONNX graph, got: .*Conv"):
        GCNetModel(tmp_path / "g.onnx", engine)


@engines
def test_a_library_prints_nothing_about_a_graph(engine: Device, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """ONNX Runtime tells of a second try where the name of an operator is no text."""
    (tmp_path / "g.onnx").write_bytes(a_model(METADATA).SerializeToString().replace(b"Expand", b"Exp\x82nd"))
    assert not tracked_or_refused(tmp_path / "g.onnx", engine)
    assert capfd.readouterr().out == ""


@engines
@given(data=st.binary(max_size=200), seed=st.integers(0, 2**32))
@some
def test_bytes_that_are_none_are_refused(engine: Device, tmp_path: Path, data: bytes, seed: int) -> None:
    path, rng, whole = tmp_path / "g.onnx", random.Random(seed), a_model(METADATA).SerializeToString()
    for content in (data, fuzz.mutated(whole, rng), whole[: rng.randrange(len(whole))]):
        path.write_bytes(content)
        tracked_or_refused(path, engine)


@engines
@given(seed=st.integers(0, 2**32))
@some
def test_a_graph_that_says_something_else_is_refused_or_tracks(engine: Device, tmp_path: Path, seed: int) -> None:
    model = a_model(METADATA)
    change(model, random.Random(seed))
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    tracked_or_refused(tmp_path / "g.onnx", engine)


@engines
@given(name=st.sampled_from(sorted(METADATA)), text=st.text(max_size=20) | st.integers().map(str))
@some
def test_metadata_that_say_anything_are_refused(engine: Device, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "g.onnx").write_bytes(a_model({**METADATA, name: text}).SerializeToString())
    assert tracked_or_refused(tmp_path / "g.onnx", engine) == (text == METADATA[name])


@engines
@pytest.mark.parametrize(("old", "new", "said"), [
    ("slots = Constant <value = int64[2] {1, 128}>", "slots = Constant <value = int64[2] {1, 64}>", "class_ids|scores"),
    ("new_queries = Identity (queries)", "new_queries = Identity (values)", "new_queries of 3x128 in place of 2x128"),
    ("track_boxes = Identity (boxes)", "track_boxes = Identity (queries)", "track_boxes of 64x4 in place of 128x4"),
    ("class_ids = Cast <to = 7> (nothing)", "class_ids = Cast <to = 7> (pixels)", "class_ids"),
    ("nothing = Sub (scores, scores)", "nothing = Add (scores, scores)", "class_ids of 1 to 1 for 1 classes"),
])  # fmt: skip
def test_answers_of_other_sizes_are_a_sentence(engine: Device, tmp_path: Path, old: str, new: str, said: str) -> None:
    model = parser.parse_model(GRAPH.replace(old, new))
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    helper.set_model_props(model, METADATA)
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    tracker = Tracker(GCNetModel(tmp_path / "g.onnx", engine, threads=1))
    with pytest.raises(ModelError, match=rf"g\.onnx: expected the answer of an exported graph, got: .*({said})"):
        tracker.step(np.full((32, 64, 3), 240, np.uint8))
