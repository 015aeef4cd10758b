"""Sessions of OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import ModelError
from camtrack_core.runtime.base import Input, Precision, joined
from camtrack_core.runtime.onnx_runtime import expect_graph


class OpenVinoSession:
    """OpenVINO on the CPU: bfloat16 where the processor computes in it unless f32 is asked for, float32 elsewhere."""

    notice = None

    def __init__(self, path: Path, threads: int, precision: Precision) -> None:
        import openvino

        expect_graph(path)
        core = openvino.Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        computed = "bf16" if native and precision != "f32" else "f32"
        options: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": computed}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(str(path))
            self._compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise ModelError(f"{path}: expected an ONNX graph, got: {str(error).splitlines()[0]}") from error
        self.engine = f"OpenVINO {openvino.__version__.split('-')[0]} ({computed})"
        self.metadata = _metadata(model)
        self.input_shapes = {i.any_name: _shape(i.partial_shape) for i in self._compiled.inputs}
        # a tensor may have more names than that of the output which it is
        results = [o.get_node().get_friendly_name() for o in self._compiled.outputs]
        self.output_names = tuple(name.removesuffix("/sink_port_0") for name in results)
        self._request = self._compiled.create_infer_request()

    def store(self, shape: tuple[int, ...]) -> NDArray:
        return np.zeros(shape, np.float32)

    def run(self, inputs: Mapping[str, Input]) -> dict[str, NDArray]:
        self._request.infer(joined(inputs, self.input_shapes), share_inputs=True, share_outputs=True)
        return {name: self._request.get_output_tensor(i).data for i, name in enumerate(self.output_names)}


def _shape(partial) -> tuple[int, ...]:  # type: ignore[no-untyped-def]
    return tuple(-1 if size.is_dynamic else size.get_length() for size in partial)


def _metadata(model) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """OpenVINO keeps ONNX metadata in the model's run-time information, under "framework"."""
    info = model.get_rt_info()
    return {key: value.astype(str) for key, value in info["framework"].items()} if "framework" in info else {}
