"""Sessions of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import ConfigurationError, ModelError
from camtrack_core.runtime.base import Input, Precision, joined


class OnnxRuntimeSession:
    """ONNX Runtime with an execution provider of choice. It computes in the types that the graph states."""

    def __init__(self, path: Path, providers: list[str], threads: int, precision: Precision) -> None:
        import onnxruntime

        if precision == "bf16":
            raise ConfigurationError("expected the precision auto or f32 with ONNX Runtime, got bf16")
        missing = set(providers) - set(onnxruntime.get_available_providers())
        if missing:
            have = ", ".join(onnxruntime.get_available_providers())
            raise ConfigurationError(f"expected an ONNX Runtime with {', '.join(missing)}, this one has {have}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # on a GPU it would multiply float32 rounded to 10 bits (TF32) unless told otherwise
        exact = [{"use_tf32": "0"} if precision == "f32" and p == "CUDAExecutionProvider" else {} for p in providers]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers, exact)
        except Exception as error:  # the library raises many types, none of them documented
            raise ModelError(f"{path}: expected an ONNX graph, got: {error}") from error
        self.engine = f"ONNX Runtime {onnxruntime.__version__} ({self._session.get_providers()[0]})"
        self.metadata = self._session.get_modelmeta().custom_metadata_map
        self.input_shapes = {i.name: _shape(i.shape) for i in self._session.get_inputs()}
        self.output_names = tuple(o.name for o in self._session.get_outputs())

    def store(self, shape: tuple[int, ...]) -> NDArray:
        return np.zeros(shape, np.float32)

    def run(self, inputs: Mapping[str, Input]) -> dict[str, NDArray]:
        outputs = self._session.run(self.output_names, joined(inputs, self.input_shapes))
        return dict(zip(self.output_names, outputs, strict=True))


def _shape(sizes: list[int | str | None]) -> tuple[int, ...]:
    """A size that is free has a name here, or none."""
    return tuple(size if isinstance(size, int) else -1 for size in sizes)
