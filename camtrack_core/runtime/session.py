"""Running an ONNX graph on whatever the machine has.

The graphs of camtrack carry what their user must know (input size, class names) as string metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from camtrack_core.errors import CamtrackError, ConfigurationError, ModelError
from camtrack_core.runtime import engines
from camtrack_core.runtime.base import AUTO, MOST_FRAMES, Device, Precision, Session
from camtrack_core.runtime.building import BuildingSession, build_command
from camtrack_core.runtime.cuda import installed, why_no_gpu
from camtrack_core.runtime.graphs import read_graph
from camtrack_core.runtime.manifest import check_model
from camtrack_core.runtime.onnx_runtime import GpuOnnxRuntimeSession, OnnxRuntimeSession, why_no_provider
from camtrack_core.runtime.openvino import OpenVinoSession
from camtrack_core.runtime.tensorrt import TensorRtSession, engine_key

log = logging.getLogger(__name__)

NAMES = {
    "tensorrt": "TensorRT", "cuda": "ONNX Runtime with CUDA", "onnxruntime_tensorrt": "ONNX Runtime with TensorRT",
    "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime",
}  # fmt: skip
PRECISIONS = {
    "tensorrt": ("auto", "f32", "f16"), "cuda": ("auto", "f32", "f16"), "onnxruntime_tensorrt": ("auto", "f32", "f16"),
    "openvino": ("auto", "f32", "bf16"), "onnxruntime": ("auto", "f32"),
}  # fmt: skip


@dataclass(frozen=True)
class _Wanted:
    """The arguments of `open_session` but the device."""

    path: Path
    threads: int
    precision: Precision
    device_id: int
    resident: Collection[str]
    frames: int


def open_session(
    path: Path,
    device: Device = "auto",
    threads: int = 0,
    precision: Precision = "auto",
    device_id: int = 0,
    resident: Collection[str] = (),
    frames: int = MOST_FRAMES,
) -> Session:
    """Compiles a graph. With TensorRT that takes minutes the first time.

    Args:
        path: ONNX file.
        device: what runs it. "auto" is the first of AUTO that this machine has, and that takes the graph.
        threads: of the CPU; 0 leaves it to the library.
        precision: what a float32 graph is computed in. "f32" is float32; "bf16" is for OpenVINO alone, bfloat16 on a
            processor that has it, else float32; "f16" is for GPUs alone, float16 convolutions; "auto" is bf16 with
            OpenVINO, f16 on a GPU and f32 with ONNX Runtime on the CPU.
        device_id: number of the GPU.
        resident: outputs that stay where the session computes, as `Stored`.
        frames: at most so many at a time, of a graph that takes any number.

    Raises:
        ModelError: the file is missing, is no graph, or not the one that a manifest beside it states.
        ConfigurationError: the device is not available here, or does not compute in this precision.
        DeviceError: the GPU fails.
    """
    return _first(device, _Wanted(path, threads, precision, device_id, resident, frames), _open)


def open_serving_session(
    path: Path,
    device: Device = "auto",
    threads: int = 0,
    precision: Precision = "auto",
    device_id: int = 0,
    resident: Collection[str] = (),
    frames: int = MOST_FRAMES,
) -> Session:
    """As `open_session`, but soon: the next device that can serves while TensorRT's engine is built."""
    return _first(device, _Wanted(path, threads, precision, device_id, resident, frames), _open_serving)


def _first(device: Device, wanted: _Wanted, opened: Callable[[Device, _Wanted], Session]) -> Session:
    """The session of a device, of "auto" the first that opens; says why it is none before it."""
    if not wanted.path.is_file():
        raise ModelError(f"{wanted.path}: expected a model file, found none")
    check_model(wanted.path)
    return _first_of(AUTO, wanted, opened) if device == "auto" else opened(device, wanted)


def _first_of(devices: Collection[Device], wanted: _Wanted, opened: Callable[[Device, _Wanted], Session]) -> Session:
    first, *others = devices
    try:
        session = opened(first, wanted)
    except CamtrackError as error:
        log.info("%s does not run %s: %s", NAMES[first], wanted.path.name, error)
        if others:
            return _first_of(others, wanted, opened)
        raise
    log.info("%s runs %s", session.engine, wanted.path.name)
    return session


def _open(device: Device, wanted: _Wanted) -> Session:
    """Raises ConfigurationError where the device is not available, and what its session raises."""
    path, precision, device_id, frames = wanted.path, wanted.precision, wanted.device_id, wanted.frames
    why = why_not(device, precision, device_id)
    if why is not None:
        raise ConfigurationError(why)
    if device == "tensorrt":
        return TensorRtSession(path, device_id, precision, wanted.resident, frames)
    if device == "cuda" or device == "onnxruntime_tensorrt":
        return GpuOnnxRuntimeSession(path, device, device_id, precision, wanted.resident, frames)
    if device == "openvino":
        return OpenVinoSession(path, wanted.threads, precision)
    return OnnxRuntimeSession(path, wanted.threads)


def _open_serving(device: Device, wanted: _Wanted) -> Session:
    path, precision, device_id, frames = wanted.path, wanted.precision, wanted.device_id, wanted.frames
    if device != "tensorrt" or why_not(device, precision, device_id) is not None:
        return _open(device, wanted)
    if engines.load(engine_key(read_graph(path), device_id, precision, frames)) is not None:
        return _open(device, wanted)
    meanwhile = wanted if precision == "f32" else replace(wanted, precision="auto")
    others = [other for other in AUTO if other != "tensorrt"]
    command = build_command(str(path), "--precision", precision, "--device-id", str(device_id), "--frames", str(frames))
    return BuildingSession(_first_of(others, meanwhile, _open), command, partial(_open, device, wanted))


def why_not(device: Device, precision: Precision = "auto", device_id: int = 0) -> str | None:
    """Why a device cannot be used here for this precision, or None."""
    if precision not in PRECISIONS[device]:
        expected = " or ".join(PRECISIONS[device])
        return f"expected the precision {expected} with {NAMES[device]}, got {precision}"
    gpu = device not in ("openvino", "onnxruntime")
    needed = {
        "tensorrt": ("onnx", "tensorrt"), "cuda": ("onnx", "onnxruntime"), "openvino": ("openvino", "onnxruntime"),
        "onnxruntime": ("onnxruntime",), "onnxruntime_tensorrt": ("onnx", "onnxruntime"),
    }[device]  # fmt: skip
    missing = [package for package in needed if not installed(package)]
    if missing:
        return f"expected the package {missing[0]} for {NAMES[device]}, it is not installed"
    if gpu and (why := why_no_gpu(device_id)) is not None:
        return f"expected a GPU for {NAMES[device]}, but {why}"
    return why_no_provider(device) if device in ("cuda", "onnxruntime_tensorrt") else None
