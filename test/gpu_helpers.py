"""A stand-in for a GPU, written from NVIDIA's documentation: cuda.bindings.runtime and tensorrt over the host's memory.

It keeps the rules that a real one has and tests can break: work on a stream may be done as late as at the next
synchronisation; what is captured is not done; addresses are those of one side; memory that the host handed over must
still be there. Graphs are computed by ONNX Runtime.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest


class CudaError(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100
    cudaErrorStreamCaptureUnsupported = 900


class MemcpyKind(IntEnum):
    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class CaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class FakeCuda(ModuleType):
    """cuda.bindings.runtime with `gpus`; every function returns a tuple that begins with an error.

    Attributes:
        memory: bytes a GPU has left.
        calls: names of the functions that were called, in order.
        uncapturable: whether a stream cannot be captured.
        downloaded: addresses on the device that were copied to the host.
    """

    cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode = CudaError, MemcpyKind, CaptureMode
    cudaStreamNonBlocking = 1

    def __init__(self, gpus: tuple[str, ...] = ("Stand-in GPU",), memory: int = 1 << 30) -> None:
        super().__init__("cuda.bindings.runtime")
        self.gpus, self.memory = gpus, memory
        self.calls: list[str] = []
        self.uncapturable = False
        self.downloaded: set[int] = set()
        self.current = 0
        self.device: dict[int, Any] = {}  # blocks by address
        self.pinned: dict[int, Any] = {}
        self.waiting: dict[int, list[Callable[[], None]]] = {}  # by stream
        self.capturing: dict[int, list[Callable[[], None]]] = {}

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("cuda") and callable(value) and not isinstance(value, type):
            super().__getattribute__("calls").append(name)
        return value

    def cudaGetErrorString(self, error: CudaError) -> tuple[Any, ...]:
        return CudaError.cudaSuccess, CudaError(error).name.encode()

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return (CudaError.cudaSuccess, len(self.gpus)) if self.gpus else (CudaError.cudaErrorNoDevice, None)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        if not 0 <= device < len(self.gpus):
            return CudaError.cudaErrorInvalidValue, None
        return CudaError.cudaSuccess, SimpleNamespace(name=self.gpus[device].encode())

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return CudaError.cudaSuccess, 12060

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:
        self.current = device
        return (CudaError.cudaSuccess,)

    # --- Memory

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if self.capturing:
            return CudaError.cudaErrorStreamCaptureUnsupported, None
        if size > self.memory:
            return CudaError.cudaErrorMemoryAllocation, None
        self.memory -= size
        return CudaError.cudaSuccess, self._block(self.device, size)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        return CudaError.cudaSuccess, self._block(self.pinned, size)

    @staticmethod
    def _block(blocks: dict[int, Any], size: int) -> int:
        block = np.full(size, 0xCD, np.uint8)  # never zero by itself
        blocks[block.ctypes.data] = block
        return block.ctypes.data

    def within(self, blocks: dict[int, Any], address: int, size: int) -> bool:
        return any(begin <= address and address + size <= begin + len(block) for begin, block in blocks.items())

    # --- Streams

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = 100 + len(self.waiting)
        self.waiting[stream] = []
        return CudaError.cudaSuccess, stream

    def put(self, stream: int, work: Callable[[], None]) -> None:
        """Work that is done at the latest when somebody waits for the stream."""
        self.capturing.get(stream, self.waiting[stream]).append(work)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        if stream in self.capturing:
            return (CudaError.cudaErrorStreamCaptureUnsupported,)
        waiting, self.waiting[stream] = self.waiting[stream], []
        for work in waiting:
            work()
        return (CudaError.cudaSuccess,)

    def cudaMemcpy2DAsync(
        self, to: int, pitch: int, of: int, pitch_of: int, width: int, height: int, kind: MemcpyKind, stream: int
    ) -> tuple[Any, ...]:
        if height > 1 and (pitch < width or pitch_of < width):
            return (CudaError.cudaErrorInvalidValue,)
        target_on_device = kind in (MemcpyKind.cudaMemcpyHostToDevice, MemcpyKind.cudaMemcpyDeviceToDevice)
        source_on_device = kind in (MemcpyKind.cudaMemcpyDeviceToHost, MemcpyKind.cudaMemcpyDeviceToDevice)
        for address, step, there in ((to, pitch, target_on_device), (of, pitch_of, source_on_device)):
            if self.within(self.device, address, step * (height - 1) + width) != there:
                return (CudaError.cudaErrorInvalidValue,)
        if stream in self.capturing and not all(
            there or self.within(self.pinned, address, width)
            for address, there in ((to, target_on_device), (of, source_on_device))
        ):
            return (CudaError.cudaErrorStreamCaptureUnsupported,)

        if kind == MemcpyKind.cudaMemcpyDeviceToHost:
            self.downloaded.add(of)

        def work() -> None:
            for row in range(height):
                ctypes.memmove(to + row * pitch, of + row * pitch_of, width)

        self.put(stream, work)
        return (CudaError.cudaSuccess,)

    def cudaMemset2DAsync(
        self, address: int, pitch: int, value: int, width: int, height: int, stream: int
    ) -> tuple[Any, ...]:
        if not self.within(self.device, address, pitch * (height - 1) + width):
            return (CudaError.cudaErrorInvalidValue,)

        def work() -> None:
            for row in range(height):
                ctypes.memset(address + row * pitch, value, width)

        self.put(stream, work)
        return (CudaError.cudaSuccess,)

    # --- Graphs

    def cudaStreamBeginCapture(self, stream: int, mode: CaptureMode) -> tuple[Any, ...]:
        if self.uncapturable:
            return (CudaError.cudaErrorStreamCaptureUnsupported,)
        self.capturing[stream] = []
        return (CudaError.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        return CudaError.cudaSuccess, self.capturing.pop(stream)

    def cudaGraphInstantiate(self, graph: list[Callable[[], None]], flags: int) -> tuple[Any, ...]:
        return CudaError.cudaSuccess, list(graph)

    def cudaGraphDestroy(self, graph: object) -> tuple[Any, ...]:
        return (CudaError.cudaSuccess,)

    def cudaGraphLaunch(self, graph: list[Callable[[], None]], stream: int) -> tuple[Any, ...]:
        self.put(stream, lambda: [work() for work in graph] and None)
        return (CudaError.cudaSuccess,)


class Flag(IntEnum):
    STRONGLY_TYPED = 1
    TF32 = 6


class FakeTensorRt(ModuleType):
    """tensorrt over FakeCuda; an engine is the ONNX graph with a magic word, its version and its profile.

    Attributes:
        builds: how many engines were built.
        refuses: what the parser says of every graph; nothing if empty.
    """

    def __init__(self, cuda: FakeCuda, version: str = "10.3.0") -> None:
        super().__init__("tensorrt")
        self.cuda, self.__version__ = cuda, version
        self.builds, self.refuses = 0, ""
        self.NetworkDefinitionCreationFlag = self.BuilderFlag = Flag
        self.ILogger = FakeLogger

    def Builder(self, logger: Any) -> Any:
        return FakeBuilder(self, logger)

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        return FakeParser(self, network)

    def Runtime(self, logger: Any) -> Any:
        return FakeRuntime(self, logger)

    @staticmethod
    def nptype(dtype: Any) -> Any:
        return dtype


class FakeLogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class FakeParser:
    def __init__(self, library: FakeTensorRt, network: SimpleNamespace) -> None:
        self.library, self.network = library, network
        self.num_errors = 0

    def parse(self, graph: bytes) -> bool:
        self.num_errors = int(bool(self.library.refuses))
        self.network.graph = graph
        return not self.library.refuses

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: self.library.refuses)


class FakeProfile(dict[str, tuple[Any, ...]]):
    def set_shape(self, name: str, least: tuple[int, ...], best: tuple[int, ...], most: tuple[int, ...]) -> None:
        self[name] = (least, best, most)


class FakeConfig:
    def __init__(self) -> None:
        self.flags = {Flag.TF32}
        self.profile = FakeProfile()

    def clear_flag(self, flag: Flag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: FakeProfile) -> int:
        self.profile = profile
        return 0


class FakeBuilder:
    def __init__(self, library: FakeTensorRt, logger: Any) -> None:
        self.library, self.logger = library, logger
        self.create_builder_config, self.create_optimization_profile = FakeConfig, FakeProfile

    def create_network(self, flags: int) -> SimpleNamespace:
        assert flags == 1 << int(Flag.STRONGLY_TYPED)
        return SimpleNamespace(graph=b"")

    def build_serialized_network(self, network: SimpleNamespace, config: FakeConfig) -> bytes:
        assert Flag.TF32 not in config.flags
        self.library.builds += 1
        header = json.dumps({"version": self.library.__version__, "profile": config.profile})
        return b"PLAN" + header.encode() + b"\0" + network.graph


class FakeRuntime:
    def __init__(self, library: FakeTensorRt, logger: Any) -> None:
        self.library, self.logger = library, logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        header, _, graph = plan.removeprefix(b"PLAN").partition(b"\0")
        stated = json.loads(header)
        if stated["version"] != self.library.__version__:
            self.logger.log(FakeLogger.ERROR, f"the engine is of version {stated['version']}")
            return None
        return FakeEngine(self.library, graph, stated["profile"])


class FakeEngine:
    """Sizes and types of the tensors come from ONNX Runtime, as does what is computed."""

    def __init__(self, library: FakeTensorRt, graph: bytes, profile: dict[str, Any]) -> None:
        import onnxruntime

        self.library, self.profile = library, profile
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        types = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int32)": np.int32}
        values = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.shapes = {v.name: tuple(s if isinstance(s, int) else -1 for s in v.shape) for v in values}
        self.types = {v.name: types[v.type] for v in values}
        self.inputs = [v.name for v in self.session.get_inputs()]
        self.names = sorted(self.shapes)  # in no order that a user may count on
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.types[name]

    def create_execution_context(self) -> Any:
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.shapes = dict(engine.shapes)
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.profile[name]
        self.shapes[name] = tuple(shape)
        return all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        engine, addresses = self.engine, dict(self.addresses)
        if addresses.keys() != engine.shapes.keys() or any(-1 in self.shapes[name] for name in engine.inputs):
            return False
        shapes = {name: self.shapes[name] for name in engine.inputs}

        def work() -> None:
            given = {name: self._array(addresses[name], shapes[name], engine.types[name]) for name in engine.inputs}
            names = [output.name for output in engine.session.get_outputs()]
            for name, value in zip(names, engine.session.run(names, given), strict=True):
                self._array(addresses[name], value.shape, engine.types[name])[...] = value

        engine.library.cuda.put(stream, work)
        return True

    def _array(self, address: int, shape: tuple[int, ...], dtype: Any) -> Any:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        assert self.engine.library.cuda.within(self.engine.library.cuda.device, address, size)
        return np.ndarray(shape, dtype, (ctypes.c_byte * size).from_address(address))


def install(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda | None = None) -> FakeTensorRt:
    """Makes a stand-in what `import` finds in this process; without `cuda` one GPU. Returns its TensorRT."""
    runtime = cuda or FakeCuda()
    library = FakeTensorRt(runtime)
    package, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    bindings.runtime = runtime  # type: ignore[attr-defined]
    modules = {"cuda": package, "cuda.bindings": bindings, "cuda.bindings.runtime": runtime, "tensorrt": library}
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    return library


class FakeOnnxRuntime(ModuleType):
    """onnxruntime with providers for FakeCuda's GPU.

    Attributes:
        loads: providers that it can load; of those that it is asked for it takes these, and says nothing of the others.
        on_cpu: what it says of a graph of which something would run on the CPU; nothing if empty.
        given, providers: what the last session was opened with.
        bound: how many bindings were made.
    """

    def __init__(self, cuda: FakeCuda) -> None:
        import onnxruntime

        super().__init__("onnxruntime")
        self.real, self.cuda, self.__version__ = onnxruntime, cuda, onnxruntime.__version__
        self.loads = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
        self.on_cpu = ""
        self.given: dict[str, str] = {}
        self.providers: list[tuple[str, dict[str, str]]] = []
        self.bound = 0

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    def SessionOptions(self) -> Any:
        self.given = {}
        return SimpleNamespace(
            add_session_config_entry=lambda key, value: self.given.update({key.removeprefix("session."): value})
        )

    def InferenceSession(self, graph: Any, options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
        self.providers = providers
        if self.on_cpu and providers[0][0] != "CPUExecutionProvider":
            raise RuntimeError(self.on_cpu)
        session = FakeOnnxRuntimeSession(self, graph)
        session.names = [name for name, _ in providers if name in self.loads] or ["CPUExecutionProvider"]
        return session


class FakeOnnxRuntimeSession:
    def __init__(self, library: FakeOnnxRuntime, graph: Any) -> None:
        self.library, self.names = library, [""]
        self.real = library.real.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.get_inputs, self.get_outputs = self.real.get_inputs, self.real.get_outputs
        self.get_modelmeta = self.real.get_modelmeta

    def get_providers(self) -> list[str]:
        return self.names

    def io_binding(self) -> Any:
        self.library.bound += 1
        binding = SimpleNamespace(inputs={}, outputs={})
        for side in ("input", "output"):
            places = getattr(binding, f"{side}s")

            def bind(
                name: str,
                kind: str,
                device: int,
                dtype: Any,
                shape: tuple[int, ...],
                address: int,
                places: Any = places,
            ) -> None:
                size = int(np.prod(shape)) * np.dtype(dtype).itemsize
                assert kind == "cuda" and self.library.cuda.within(self.library.cuda.device, address, size)
                memory = (ctypes.c_byte * size).from_address(address)
                places[name] = np.ndarray(shape, dtype, memory)

            setattr(binding, f"bind_{side}", bind)
        return binding

    def run_with_iobinding(self, binding: Any) -> None:
        stream = int(self.library.providers[0][1]["user_compute_stream"])

        def work() -> None:
            for name, value in zip(binding.outputs, self.real.run(list(binding.outputs), binding.inputs), strict=True):
                binding.outputs[name][...] = value

        self.library.cuda.put(stream, work)


def install_onnxruntime(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> FakeOnnxRuntime:
    """Makes an ONNX Runtime with a GPU what `import` finds in this process."""
    library = FakeOnnxRuntime(cuda)
    library.__spec__ = ModuleSpec("onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", library)
    return library
