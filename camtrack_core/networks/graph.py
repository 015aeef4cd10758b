"""How a network becomes an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from camtrack_core.networks.half import to_half

OPSET = 20
EXAMPLES = 3  # cameras of the example inputs of a graph for any number; 1 would be taken as fixed


def write_graph(
    network: nn.Module,
    path: Path,
    inputs: tuple[Tensor, ...],
    names: tuple[Sequence[str], Sequence[str]],
    any_number: bool,
    precision: Literal["float32", "float16"],
    metadata: Mapping[str, str],
) -> None:
    """Writes the graph of a network in evaluation mode.

    Args:
        inputs: examples, (cameras, ...) each; names: of the inputs and of the outputs.
        any_number: of cameras, then the examples are of EXAMPLES; else of as many as the examples.
        precision: of the convolutions, see `half.to_half`; also stated in the graph's metadata.
    """
    import onnx

    cameras = torch.export.Dim("cameras", min=1, max=64)
    torch.onnx.export(
        network.eval(), inputs, str(path), input_names=names[0], output_names=names[1], opset_version=OPSET,
        dynamo=True, external_data=False, verbose=False,
        dynamic_shapes=tuple({0: cameras} for _ in inputs) if any_number else None,
    )  # fmt: skip
    model = onnx.load(str(path))
    if precision == "float16":
        model = to_half(model)
    onnx.helper.set_model_props(model, {**metadata, "precision": precision})
    onnx.save(model, str(path))
