"""Memory, a stream and graphs of an NVIDIA GPU, over NVIDIA's own bindings (`cuda.bindings.runtime`)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from camtrack_core.errors import CamtrackError
from camtrack_core.runtime.base import Input

DRIVER = Path("/sys/module/nvidia/version")  # written by the driver of discrete GPUs


class DeviceError(CamtrackError):
    """A call to the GPU that failed."""


# --- Which GPU


@dataclass(frozen=True)
class Gpu:
    """What an engine is made for."""

    name: str
    driver: str


def why_no_gpu(device_id: int) -> str | None:
    """Why GPU number `device_id` cannot be used here, or None."""
    if not installed("cuda.bindings"):
        return "the package cuda-bindings is not installed"
    try:
        count = call("cudaGetDeviceCount")
    except (DeviceError, ImportError, RuntimeError) as error:  # the bindings raise where they find no CUDA runtime
        return f"no NVIDIA GPU answers ({error})"
    return None if device_id < count else f"expected a GPU of number {device_id}, this machine has {count}"


def find_gpu(device_id: int) -> Gpu:
    """Raises DeviceError where there is none."""
    properties = call("cudaGetDeviceProperties", device_id)
    version = call("cudaDriverGetVersion")
    driver = DRIVER.read_text().strip() if DRIVER.is_file() else "unknown"
    return Gpu(properties.name.decode(), f"{driver}, CUDA {version // 1000}.{version % 1000 // 10}")


def find_gpus() -> list[Gpu]:
    """All of this machine, by number."""
    return [find_gpu(device_id) for device_id in range(call("cudaGetDeviceCount"))]


def installed(package: str) -> bool:
    """Whether a package, or a module of one, can be found."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # that in which it lies
        return False


# --- Calls


def call(function: str, *arguments: Any) -> Any:
    """What a function of the CUDA runtime returns beside its error. Raises DeviceError with the runtime's words."""
    runtime = _runtime()
    error, *values = getattr(runtime, function)(*arguments)
    if error != runtime.cudaError_t.cudaSuccess:
        _, words = runtime.cudaGetErrorString(error)
        raise DeviceError(f"{function}: {words.decode()}")
    return values[0] if values else None


def _runtime() -> ModuleType:
    from cuda.bindings import runtime

    return runtime


class Stream:
    """Work on one GPU, done in order, and memory for it. What is freed is kept for the next array of its size."""

    def __init__(self, device_id: int) -> None:
        self.device_id = device_id
        self.use()
        self.handle = int(call("cudaStreamCreateWithFlags", _runtime().cudaStreamNonBlocking))
        self._free: dict[int, list[int]] = {}

    def use(self) -> None:
        """Makes the GPU that of the calling thread."""
        call("cudaSetDevice", self.device_id)

    def synchronise(self) -> None:
        """Waits until all work is done."""
        call("cudaStreamSynchronize", self.handle)

    def allocate(self, size: int) -> int:
        """Address of this many bytes on the GPU."""
        if self._free.get(size):
            return self._free[size].pop()
        self.use()
        return int(call("cudaMalloc", size))

    def free(self, address: int, size: int) -> None:
        """To be used again by what comes later on this stream."""
        self._free.setdefault(size, []).append(address)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """Memory of the host that the GPU reads and writes by itself, as long as the process lasts."""
        self.use()
        size = max(_size(shape, dtype), 1)
        address = int(call("cudaMallocHost", size))
        memory = memoryview((ctypes.c_byte * size).from_address(address)).cast("B")
        return np.ndarray(shape, dtype, memory)

    def capture(self, work: Callable[[], None]) -> Any:
        """A graph of what `work` puts on the stream, which is not done now. Raises DeviceError where it must not be."""
        mode = _runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call("cudaStreamBeginCapture", self.handle, mode)
        try:
            work()
        finally:
            graph = call("cudaStreamEndCapture", self.handle)
        executable = call("cudaGraphInstantiate", graph, 0)
        call("cudaGraphDestroy", graph)
        return executable

    def launch(self, graph: Any) -> None:
        call("cudaGraphLaunch", graph, self.handle)


# --- Arrays


class _Block:
    """Memory that its stream gets back when nobody looks at it any more."""

    def __init__(self, stream: Stream, size: int) -> None:
        self.stream, self.size = stream, size
        self.address = stream.allocate(max(size, 1))

    def __del__(self) -> None:
        if hasattr(self, "address"):
            self.stream.free(self.address, max(self.size, 1))


class DeviceArray:
    """An array in a GPU's memory, or a part of one: `Stored`. What is done with it is put on its stream."""

    def __init__(
        self, block: _Block, dtype: DTypeLike, shape: tuple[int, ...], strides: tuple[int, ...], address: int
    ) -> None:
        self.dtype, self.shape, self.strides, self.address = np.dtype(dtype), shape, strides, address
        self._block = block

    @classmethod
    def empty(cls, stream: Stream, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> DeviceArray:
        block = _Block(stream, _size(shape, dtype))
        strides = np.empty(shape, dtype).strides
        return cls(block, dtype, tuple(shape), strides, block.address)

    def __getitem__(self, index: Any, /) -> DeviceArray:
        indices = index if isinstance(index, tuple) else (index,)
        address, shape, strides = self.address, list(self.shape), list(self.strides)
        for axis in reversed(range(len(indices))):
            chosen: int | range = range(shape[axis])[indices[axis]]  # checks and counts as Python's own sequences do
            if isinstance(chosen, int):
                address += chosen * strides.pop(axis)
                shape.pop(axis)
            else:
                address += chosen.start * strides[axis]
                shape[axis], strides[axis] = len(chosen), chosen.step * strides[axis]
        return DeviceArray(self._block, self.dtype, tuple(shape), tuple(strides), address)

    def __setitem__(self, index: Any, value: Any, /) -> None:
        target, stream = self[index], self._block.stream
        if isinstance(value, DeviceArray):
            target._copy(value.address, value.shape, value.strides, "DeviceToDevice")
        elif isinstance(value, np.ndarray):
            value = np.ascontiguousarray(value, self.dtype)
            target._copy(value.ctypes.data, value.shape, value.strides, "HostToDevice")
            stream.synchronise()  # the value may go now
        elif value == 0:
            for line in _lines(target.shape, self.dtype.itemsize, (target.strides,), (target.address,)):
                call("cudaMemset2DAsync", *line.addresses, *line.pitches, 0, line.width, line.count, stream.handle)
        else:
            raise TypeError(f"expected an array or 0, got {value!r}")

    def copy(self) -> DeviceArray:
        made = DeviceArray.empty(self._block.stream, self.shape, self.dtype)
        made[:] = self
        return made

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        """The values in the host's memory; waits for them."""
        host, stream = np.empty(self.shape, self.dtype), self._block.stream
        self.read_into(host)
        stream.synchronise()
        return host if dtype is None else host.astype(dtype)

    def reshape(self, shape: tuple[int, ...]) -> DeviceArray:
        """The same memory in another shape; the array must be contiguous."""
        if int(np.prod(shape)) != int(np.prod(self.shape)):
            raise ValueError(f"expected an array of shape {self.shape}, got parts of {shape}")
        return DeviceArray(self._block, self.dtype, shape, np.empty(shape, self.dtype).strides, self.address)

    def read_into(self, host: NDArray) -> None:
        """Puts the values into contiguous memory of the host, later."""
        there = DeviceArray(self._block, self.dtype, host.shape, host.strides, host.ctypes.data)
        there._copy(self.address, self.shape, self.strides, "DeviceToHost")

    def write_from(self, host: NDArray) -> None:
        """Takes its values from contiguous memory of the host, later."""
        self._copy(host.ctypes.data, host.shape, host.strides, "HostToDevice")

    def _copy(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...], direction: str) -> None:
        if shape != self.shape:
            raise ValueError(f"expected an array of shape {self.shape}, got {shape}")
        kind = getattr(_runtime().cudaMemcpyKind, f"cudaMemcpy{direction}")
        for line in _lines(shape, self.dtype.itemsize, (self.strides, strides), (self.address, address)):
            (to, of), (pitch, pitch_of) = line.addresses, line.pitches
            call("cudaMemcpy2DAsync", to, pitch, of, pitch_of, line.width, line.count, kind, self._block.stream.handle)


@dataclass(frozen=True)
class _Lines:
    """`count` lines of `width` bytes, which begin `pitches` bytes after each other; one address and pitch an array."""

    addresses: tuple[int, ...]
    pitches: tuple[int, ...]
    width: int
    count: int


def _lines(
    shape: tuple[int, ...], itemsize: int, strides: tuple[tuple[int, ...], ...], addresses: tuple[int, ...]
) -> Iterator[_Lines]:
    """Arrays of one shape as lines that are contiguous in each of them."""
    rank, width = len(shape), itemsize
    while rank and (shape[rank - 1] == 1 or all(s[rank - 1] == width for s in strides)):
        width *= shape[rank - 1]
        rank -= 1
    if 0 in shape:
        return
    if rank > 1:
        for row in range(shape[0]):
            moved = tuple(a + row * s[0] for a, s in zip(addresses, strides, strict=True))
            yield from _lines(shape[1:], itemsize, tuple(s[1:] for s in strides), moved)
    elif rank == 1:
        yield _Lines(addresses, tuple(s[0] for s in strides), width, shape[0])
    else:
        yield _Lines(addresses, (width,) * len(addresses), width, 1)


def _size(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


# --- What a graph takes and makes


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph; the first number of its shape is -1 where the number of frames is free."""

    shape: tuple[int, ...]
    dtype: Any


class Places:
    """Memory for the inputs and outputs of a graph, at addresses that stay.

    Args:
        stream: that all work is put on.
        inputs, outputs: by name.
        resident: outputs that the host does not read.
        frames: the most at a time.
    """

    def __init__(
        self, stream: Stream, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], resident: Collection[str],
        frames: int,
    ) -> None:  # fmt: skip
        tensors = {**inputs, **outputs}
        self.stream, self.frames = stream, frames
        self.outputs, self.resident = tuple(outputs), frozenset(resident)
        self.free = frozenset(name for name, tensor in tensors.items() if tensor.shape and tensor.shape[0] == -1)
        shapes = {name: self._shape(tensor.shape, frames) for name, tensor in tensors.items()}
        self.device = {name: DeviceArray.empty(stream, shapes[name], t.dtype) for name, t in tensors.items()}
        read = (name for name in tensors if name not in self.resident)
        self.host = {name: stream.pinned(shapes[name], tensors[name].dtype) for name in read}

    @staticmethod
    def _shape(shape: tuple[int, ...], frames: int) -> tuple[int, ...]:
        return tuple(frames if size == -1 else size for size in shape)

    def on_device(self, name: str, frames: int) -> DeviceArray:
        return self.device[name][:frames] if name in self.free else self.device[name]

    def on_host(self, name: str, frames: int) -> NDArray:
        return self.host[name][:frames] if name in self.free else self.host[name]

    def give(self, inputs: Mapping[str, Input]) -> tuple[int, frozenset[str]]:
        """Puts inputs into their places: whole arrays in pinned memory, stored parts on the device.

        Returns the number of frames and the names of what is still to be uploaded.
        """
        frames = max((self._count(name, given) for name, given in inputs.items() if name in self.free), default=1)
        if frames > self.frames:
            raise ValueError(f"expected at most {self.frames} frames, got {frames}")
        whole = frozenset(name for name, given in inputs.items() if isinstance(given, np.ndarray))
        for name, given in inputs.items():
            if name in whole:
                place = self.on_host(name, frames)
                array = np.asarray(given)
                if array.shape != place.shape:
                    raise ValueError(f"{name}: expected an array of shape {place.shape}, got {array.shape}")
                place[...] = array
            else:
                rows = self.on_device(name, frames).reshape((len(given), *given[0].shape))
                for row, part in enumerate(given):
                    rows[row] = part
        return frames, whole

    def _count(self, name: str, given: Input) -> int:
        """Frames in an input."""
        if isinstance(given, np.ndarray):
            return len(given)
        return len(given) * int(np.prod(given[0].shape)) // int(np.prod(self.device[name].shape[1:]))

    def upload(self, names: Collection[str], frames: int) -> None:
        for name in sorted(names):
            self.on_device(name, frames).write_from(self.on_host(name, frames))

    def download(self, frames: int) -> None:
        for name in self.outputs:
            if name not in self.resident:
                self.on_device(name, frames).read_into(self.on_host(name, frames))

    def results(self, frames: int) -> dict[str, Any]:
        """Outputs by name, valid until the next run."""
        return {n: (self.on_device if n in self.resident else self.on_host)(n, frames) for n in self.outputs}


class DeviceSession:
    """What sessions on a GPU share: inputs go up, results come back, what is resident stays. Subclasses compute."""

    notice = None

    def __init__(self, stream: Stream, places: Places) -> None:
        self._stream, self._places = stream, places

    def store(self, shape: tuple[int, ...]) -> DeviceArray:
        array = DeviceArray.empty(self._stream, shape)
        array[:] = 0
        return array

    def run(self, inputs: Mapping[str, Input]) -> dict[str, Any]:
        stream, places = self._stream, self._places
        stream.use()
        frames, whole = places.give(inputs)
        places.upload(whole, frames)
        self._compute(frames)
        stream.synchronise()
        return places.results(frames)

    def _compute(self, frames: int) -> None:
        """Puts the work on so many frames, and the download of its results, on the stream."""
        raise NotImplementedError
