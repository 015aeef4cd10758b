"""Sessions of ONNX Runtime: on the CPU, and on a GPU with CUDA's or TensorRT's provider."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import ConfigurationError, ModelError
from camtrack_core.runtime import engines
from camtrack_core.runtime.base import Input, Precision, joined
from camtrack_core.runtime.cuda import DeviceSession, Places, Stream, Tensor
from camtrack_core.runtime.graphs import computed_in, in_precision, read_graph

PROVIDERS = {"cuda": "CUDAExecutionProvider", "onnxruntime_tensorrt": "TensorrtExecutionProvider"}
TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


class OnnxRuntimeSession:
    """ONNX Runtime on the CPU. It computes in the types that the graph states."""

    notice = None

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = _opened_on_cpu(path, options)
        self.engine = f"ONNX Runtime {onnxruntime.__version__} (CPUExecutionProvider)"
        self.metadata = self._session.get_modelmeta().custom_metadata_map
        self.input_shapes = {i.name: _shape(i.shape) for i in self._session.get_inputs()}
        self.output_names = tuple(o.name for o in self._session.get_outputs())

    def store(self, shape: tuple[int, ...]) -> NDArray:
        return np.zeros(shape, np.float32)

    def run(self, inputs: Mapping[str, Input]) -> dict[str, NDArray]:
        outputs = self._session.run(self.output_names, joined(inputs, self.input_shapes))
        return dict(zip(self.output_names, outputs, strict=True))


class GpuOnnxRuntimeSession(DeviceSession):
    """ONNX Runtime on a GPU, inputs and outputs bound to addresses that stay.

    A graph of which anything would run on the CPU is refused.

    Args:
        device: whose provider.
        others: as TensorRtSession's.
    """

    def __init__(
        self, path: Path, device: Literal["cuda", "onnxruntime_tensorrt"], device_id: int, precision: Precision,
        resident: Collection[str], frames: int,
    ) -> None:  # fmt: skip
        import onnxruntime

        graph, stream = read_graph(path), Stream(device_id)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        self._device_id = device_id
        self._session = _opened(path, in_precision(graph, precision), options, _providers(device, stream))
        first = self._session.get_providers()[0]
        if first != PROVIDERS[device]:  # it goes on without what it cannot load
            raise ConfigurationError(f"expected ONNX Runtime to load {PROVIDERS[device]}, it runs {first}")
        inputs = {i.name: Tensor(_shape(i.shape), TYPES[i.type]) for i in self._session.get_inputs()}
        outputs = {o.name: Tensor(_shape(o.shape), TYPES[o.type]) for o in self._session.get_outputs()}
        super().__init__(stream, Places(stream, inputs, outputs, resident, frames))
        computed = computed_in(graph, precision)
        self.engine = f"ONNX Runtime {onnxruntime.__version__} ({PROVIDERS[device]}, {computed})"
        self.metadata, self.input_shapes, self.output_names = graph.metadata, graph.input_shapes, graph.output_names
        self._bindings: dict[int, Any] = {}  # by number of frames

    def _compute(self, frames: int) -> None:
        if frames not in self._bindings:
            self._bindings[frames] = self._bind(frames)
        self._session.run_with_iobinding(self._bindings[frames])
        self._places.download(frames)

    def _bind(self, frames: int) -> Any:
        binding = self._session.io_binding()
        for name in self._places.device:
            bind = binding.bind_input if name in self.input_shapes else binding.bind_output
            place = self._places.on_device(name, frames)
            bind(name, "cuda", self._device_id, place.dtype.type, place.shape, place.address)
        return binding


def expect_graph(path: Path) -> None:
    """Raises ModelError for a file that ONNX Runtime does not take; it looks at all that a graph says.

    OpenVINO ends the process at some: a convolution without weights is enough.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    _opened_on_cpu(path, options)


def why_no_provider(device: str) -> str | None:
    """Why ONNX Runtime has no such provider here, or None."""
    import onnxruntime

    have = onnxruntime.get_available_providers()
    return (
        None
        if PROVIDERS[device] in have
        else f"expected an ONNX Runtime with {PROVIDERS[device]}, this one has {', '.join(have)}"
    )


def _providers(device: str, stream: Stream) -> list[tuple[str, dict[str, str]]]:
    """With options: the given stream, nothing rounded that the graph does not round, engines kept on disk."""
    shared = {"device_id": str(stream.device_id), "user_compute_stream": str(stream.handle)}
    cuda = (PROVIDERS["cuda"], {**shared, "use_tf32": "0"})
    if device == "cuda":
        return [cuda]
    place = engines.folder() / "onnxruntime"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    cached = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(place), "trt_timing_cache_enable": "1"}
    return [(PROVIDERS[device], {**shared, **cached}), cuda]


def _opened_on_cpu(path: Path, options: Any) -> Any:
    """Without the second try on the CPU, of which ONNX Runtime prints a word."""
    return _opened(path, str(path), options, [("CPUExecutionProvider", {})], enable_fallback=False)


def _opened(
    path: Path, graph: str | bytes, options: Any, providers: list[tuple[str, dict[str, str]]], **more: bool
) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(graph, options, providers, **more)
    except Exception as error:  # the library raises many types, none of them documented
        raise ModelError(f"{path}: expected an ONNX graph, got: {error}") from error


def _shape(sizes: list[int | str | None]) -> tuple[int, ...]:
    """A size that is free has a name here, or none."""
    return tuple(size if isinstance(size, int) else -1 for size in sizes)
