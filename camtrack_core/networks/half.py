"""float16 graphs: two-dimensional convolutions and what lies between them, all the rest float32.

Half precision counts exactly only to 2048 and has eleven bits: indices of cells, coordinates in pixels, normalisation,
attention and geometric reasoning need more. They cost little beside the convolutions, and stay as they were.
ONNX Runtime's converter leaves the nodes of these graphs unsorted, and a pair of casts around every other one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def trunk(model: onnx.ModelProto) -> set[str]:
    """Outputs of the two-dimensional convolutions, and all float32 values that one of them is computed from."""
    graph, floats = model.graph, _floats(model)
    rank = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    waiting = [node.output[0] for node in graph.node if node.op_type == "Conv" and rank.get(node.input[1]) == 4]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in maker and name in floats and name not in found:
            found.add(name)
            waiting += maker[name].input
    return found


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its trunk in float16; inputs, outputs and all else keep their types."""
    import numpy as np
    from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

    half = ModelProto()
    half.CopyFrom(model)
    graph, inside, floats = half.graph, trunk(model), _floats(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[NodeProto] = []
    made: dict[str, TensorProto | NodeProto] = {}

    def converted(name: str, kind: int) -> str:
        """Name of a value in another type, made where it is first asked for."""
        other = f"{name}_{TensorProto.DataType.Name(kind).lower()}"
        if other not in made and name in weights:
            made[other] = numpy_helper.from_array(numpy_helper.to_array(weights[name]).astype(np.float16), other)
            graph.initializer.append(made[other])
        elif other not in made:
            made[other] = helper.make_node("Cast", [name], [other], f"to_{other}", to=kind)
            nodes.append(made[other])
        return other

    for node in graph.node:
        in_trunk = node.output[0] in inside
        if in_trunk and node.op_type == "Cast":
            node.attribute[0].i = TensorProto.FLOAT16
        for place, name in enumerate(node.input):
            scales = node.op_type == "Resize" and place > 0  # of a size, not values
            if in_trunk and name in floats - inside and not scales:
                node.input[place] = converted(name, TensorProto.FLOAT16)
            elif not in_trunk and name in inside:
                node.input[place] = converted(name, TensorProto.FLOAT)
        nodes.append(NodeProto.FromString(node.SerializeToString()))
    used = {name for node in nodes for name in node.input}
    kept = [TensorProto.FromString(t.SerializeToString()) for t in graph.initializer if t.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return half


def _floats(model: onnx.ModelProto) -> set[str]:
    """Names of the float32 values of a graph, its weights among them and its outputs not."""
    from onnx import TensorProto, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    weights = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    values = [*graph.value_info, *graph.input]
    return weights | {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
