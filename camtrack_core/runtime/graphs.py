"""ONNX graphs as a GPU takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from camtrack_core.errors import ModelError
from camtrack_core.networks.half import to_half
from camtrack_core.runtime.base import Precision

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Graph:
    """A graph and what it says about itself.

    Attributes:
        path: of its file.
        model: the graph.
        metadata: its string metadata.
        input_shapes: by name; -1 for what is free.
        output_names: in its order.
    """

    path: Path
    model: onnx.ModelProto
    metadata: dict[str, str]
    input_shapes: dict[str, tuple[int, ...]]
    output_names: tuple[str, ...]


def read_graph(path: Path) -> Graph:
    """Raises ModelError for a file that is no graph."""
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's own type, of a package without types
        raise ModelError(f"{path}: expected an ONNX graph, got: {error}") from error
    if not model.graph.node:
        raise ModelError(f"{path}: expected an ONNX graph, got one without nodes")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    return Graph(
        path,
        model,
        {prop.key: prop.value for prop in model.metadata_props},
        {value.name: _shape(value) for value in inputs},
        tuple(value.name for value in model.graph.output),
    )


def computed_in(graph: Graph, precision: Precision) -> str:
    """The type that a GPU computes a graph's convolutions in: a float32 graph in float16 unless f32 is asked for."""
    stated = graph.metadata.get("precision", "float32")
    return "float16" if stated == "float32" and precision != "f32" else stated


def in_precision(graph: Graph, precision: Precision) -> bytes:
    """The graph, serialised, with its convolutions in the type that `computed_in` names."""
    stated = graph.metadata.get("precision", "float32")
    same = computed_in(graph, precision) == stated
    model = cast_first(graph.model)
    return bytes((model if same else to_half(model)).SerializeToString())


def cast_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its image made to float before it is transposed: TensorRT transposes no bytes."""
    from onnx import ModelProto, TensorProto

    changed = ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    images = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
    for turn in graph.node:
        if turn.op_type != "Transpose" or turn.input[0] not in images:
            continue
        users = [node for node in graph.node if turn.output[0] in node.input]
        if len(users) == 1 and users[0].op_type == "Cast":  # the two change their work, not their names
            turn_copy, cast = type(turn).FromString(turn.SerializeToString()), users[0]
            for node, other in ((turn, cast), (cast, turn_copy)):
                node.op_type = other.op_type
                attributes = [type(a).FromString(a.SerializeToString()) for a in other.attribute]
                del node.attribute[:]
                node.attribute.extend(attributes)
            kept = [value for value in graph.value_info if value.name != turn.output[0]]
            del graph.value_info[:]
            graph.value_info.extend(kept)
    return changed


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    sizes = value.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.HasField("dim_value") else -1 for size in sizes)
