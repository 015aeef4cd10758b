"""int8 graphs: convolutions over quantised inputs and weights, as Q/DQ nodes say it; all the rest as it was.

Heads stay as they are, for they lose the most, and so do depthwise convolutions and those over few channels, which take
the least time. Quantisation is symmetric, for TensorRT knows no other, and leaves out the biases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx


LEAST_CHANNELS = 32


def quantised(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that int8 is for: of the backbone, over all of at least LEAST_CHANNELS channels."""
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}

    def groups(node: onnx.NodeProto) -> int:
        return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)

    def fits(node: onnx.NodeProto) -> bool:
        shape = weights.get(node.input[1], ())
        wide = len(shape) == 4 and shape[1] >= LEAST_CHANNELS
        return wide and groups(node) == 1 and ".backbone." in "".join(node.input[2:])  # the name of its bias

    return [node.name for node in model.graph.node if node.op_type == "Conv" and fits(node)]


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

    own = onnx.ModelProto()
    own.CopyFrom(model)  # what it is given, it changes
    quantize_static(
        own, out, Reader(iter(inputs)), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"], per_channel=True,
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
