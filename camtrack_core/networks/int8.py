"""int8 graphs: convolutions over quantised inputs and weights, as Q/DQ nodes say it; all the rest as it was.

Depthwise convolutions stay as they are, and so does the first one: their few weights a channel lose the most and take
the least time. Quantisation is symmetric, for TensorRT knows no other, and leaves out the biases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx


def quantised(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that int8 is for: two-dimensional ones over all channels, but the first."""
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}

    def groups(node: onnx.NodeProto) -> int:
        return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)

    flat = [n for n in model.graph.node if n.op_type == "Conv" and len(weights.get(n.input[1], ())) == 4]
    return [node.name for node in flat[1:] if groups(node) == 1]


def write_int8(model: onnx.ModelProto, out: Path, inputs: Iterable[Mapping[str, NDArray]]) -> None:
    """Writes the graph in int8, with ranges of the values that it computes from these inputs, one frame each."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self, given: Iterator[Mapping[str, NDArray]]) -> None:
            self.given = given

        def get_next(self) -> dict[str, NDArray] | None:
            found = next(self.given, None)
            return None if found is None else dict(found)

    quantize_static(
        model, out, Reader(iter(inputs)), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"], per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, nodes_to_quantize=quantised(model),
        extra_options={
            "ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        },
    )  # fmt: skip
    written = onnx.load(out)
    stated = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(written, stated | {"precision": "int8"})
    onnx.save(written, out)
