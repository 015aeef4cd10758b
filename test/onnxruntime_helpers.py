"""A stand-in for ONNX Runtime with a GPU, the stand-in for one; the real one computes graphs, on the CPU."""

from __future__ import annotations

import ctypes
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_helpers import FakeCuda


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

    def InferenceSession(
        self, graph: Any, options: Any, providers: list[tuple[str, dict[str, str]]], enable_fallback: bool = True
    ) -> Any:
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
