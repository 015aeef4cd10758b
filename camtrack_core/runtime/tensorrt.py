"""Sessions of TensorRT: parser, strongly typed network, engine; run on a stream of its own as a CUDA graph.

Precision is the graph's: TensorRT computes in the types that it states. TF32 is off, for it rounds coordinates and
indices, which are float32 on purpose, to ten bits.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from camtrack_core.errors import ModelError
from camtrack_core.runtime import engines
from camtrack_core.runtime.base import Precision
from camtrack_core.runtime.cuda import DeviceError, DeviceSession, Places, Stream, Tensor, find_gpu
from camtrack_core.runtime.engines import EngineKey
from camtrack_core.runtime.graphs import Graph, computed_in, in_precision, read_graph

log = logging.getLogger(__name__)


class TensorRtSession(DeviceSession):
    """An engine of a graph, built where the cache has none.

    Args:
        path: ONNX file.
        device_id: number of the GPU.
        precision: of a float32 graph's convolutions; auto is f16.
        resident: outputs that stay on the GPU.
        frames: at most so many at a time, where the graph leaves it free.

    Raises ModelError where TensorRT does not take the graph, DeviceError where the GPU fails.
    """

    def __init__(
        self, path: Path, device_id: int, precision: Precision, resident: Collection[str], frames: int
    ) -> None:
        graph, stream = read_graph(path), Stream(device_id)
        self._logger = _logger()
        self._runtime = _library().Runtime(self._logger)
        self._engine = load_engine(graph, device_id, precision, frames, self._runtime)
        library, names = _library(), [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        tensors = {name: _tensor(library, self._engine, name) for name in names}
        inputs = {name: tensors[name] for name in graph.input_shapes}
        outputs = {name: tensors[name] for name in graph.output_names}
        super().__init__(stream, Places(stream, inputs, outputs, resident, frames))
        self.engine = f"{library_name()} ({computed_in(graph, precision)}) on {find_gpu(device_id).name}"
        self.metadata, self.input_shapes, self.output_names = graph.metadata, graph.input_shapes, graph.output_names
        self._contexts: dict[
            int, Any
        ] = {}  # by number of frames, as a context keeps the shapes that it was captured with
        self._captured: dict[int, Any] = {}  # CUDA graphs; None where the engine cannot be captured

    def _compute(self, frames: int) -> None:
        captured = self._captured.get(frames)
        if captured is not None:
            self._stream.launch(captured)
            return
        self._execute(frames)
        if frames not in self._captured:  # the first run makes what must not be made while a graph is captured
            self._stream.synchronise()
            self._captured[frames] = self._capture(frames)

    def _execute(self, frames: int) -> None:
        if frames not in self._contexts:
            self._contexts[frames] = self._context(frames)
        if not self._contexts[frames].execute_async_v3(self._stream.handle):
            raise DeviceError(f"TensorRT: expected the engine to run, got: {self._logger.last}")
        self._places.download(frames)

    def _context(self, frames: int) -> Any:
        """An execution context with shapes and addresses."""
        context, places = self._engine.create_execution_context(), self._places
        if context is None:
            raise DeviceError(f"TensorRT: expected memory for {frames} frames, got: {self._logger.last}")
        for name in self.input_shapes:
            if name in places.free:
                context.set_input_shape(name, places.on_device(name, frames).shape)
        for name, array in places.device.items():
            context.set_tensor_address(name, array.address)
        return context

    def _capture(self, frames: int) -> Any:
        try:
            return self._stream.capture(lambda: self._execute(frames))
        except DeviceError as error:
            log.warning("TensorRT runs without a CUDA graph: %s", error)
            return None


def engine_key(graph: Graph, device_id: int, precision: Precision, frames: int) -> EngineKey:
    """All that an engine depends on. Raises DeviceError where there is no GPU."""
    gpu, computed = find_gpu(device_id), computed_in(graph, precision)
    shapes = {name: tuple(frames if size == -1 else size for size in s) for name, s in graph.input_shapes.items()}
    digest = sha256(graph.path.read_bytes()).hexdigest()
    return EngineKey(graph.path.stem, digest, library_name(), gpu.name, gpu.driver, computed, str(shapes))


def load_engine(graph: Graph, device_id: int, precision: Precision, frames: int, runtime: Any) -> Any:
    """The deserialised engine out of the cache, built where it has none that TensorRT takes.

    Raises ModelError where TensorRT does not take the graph.
    """
    key = engine_key(graph, device_id, precision, frames)
    logger = runtime.logger
    for _ in range(2):
        plan = engines.load_or_build(key, lambda: build(graph, precision, frames, logger))
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is not None:
            return engine
        log.warning("%s: TensorRT does not take this engine and builds it anew: %s", key.file, logger.last)
        engines.forget(key)
    raise ModelError(f"{graph.path}: expected an engine that TensorRT loads, got: {logger.last}")


def build(graph: Graph, precision: Precision, frames: int, logger: Any) -> bytes:
    """Builds an engine for the current GPU, which takes minutes.

    Raises ModelError where TensorRT does not take the graph.
    """
    library = _library()
    log.info("TensorRT builds an engine for %s", graph.path)
    builder = library.Builder(logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    if not parser.parse(in_precision(graph, precision)):
        why = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise ModelError(f"{graph.path}: expected a graph that TensorRT takes, got: {why}")
    config = builder.create_builder_config()
    config.clear_flag(library.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    for name, (first, *rest) in graph.input_shapes.items():
        if first == -1:
            profile.set_shape(name, (1, *rest), (frames, *rest), (frames, *rest))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelError(f"{graph.path}: expected a graph that TensorRT builds, got: {logger.last}")
    return bytes(plan)


def _tensor(library: ModuleType, engine: Any, name: str) -> Tensor:
    return Tensor(tuple(engine.get_tensor_shape(name)), library.nptype(engine.get_tensor_dtype(name)))


def library_name() -> str:
    return f"TensorRT {_library().__version__}"


def _library() -> ModuleType:
    import tensorrt

    return tensorrt


def _logger() -> Any:
    """A logger for TensorRT that hands warnings and errors on and remembers the last errors."""
    library = _library()

    class Logger(library.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            library.ILogger.__init__(self)  # as TensorRT demands
            self.errors: deque[str] = deque(maxlen=2)

        @property
        def last(self) -> str:
            return "; ".join(self.errors) or "no reason"

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.INTERNAL_ERROR, library.ILogger.ERROR):
                self.errors.append(message)
                log.error("TensorRT: %s", message)
            elif severity == library.ILogger.WARNING:
                log.debug("TensorRT: %s", message)

    return Logger()
