"""A stand-in for a GPU, written from NVIDIA's documentation: cuda.bindings.runtime over the host's memory.

It keeps the rules that a real one has and tests can break: work on a stream may be done as late as at the next
synchronisation; what is captured is not done; addresses are those of one side; memory that the host handed over must
still be there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


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
