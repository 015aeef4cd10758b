"""A stand-in for TensorRT, written from NVIDIA's documentation, on that for a GPU; ONNX Runtime computes its graphs."""

from __future__ import annotations

import ctypes
import json
import sys
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_helpers import FakeCuda


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
