"""Running an ONNX graph on whatever the machine has.

The graphs of camtrack carry what their user must know (input size, class names) as string metadata.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from camtrack_core.errors import ModelError
from camtrack_core.runtime.base import Device, Precision, Session
from camtrack_core.runtime.manifest import check_model
from camtrack_core.runtime.onnx_runtime import OnnxRuntimeSession
from camtrack_core.runtime.openvino import OpenVinoSession


def open_session(
    path: Path,
    device: Device = "auto",
    threads: int = 0,
    precision: Precision = "auto",
    resident: Collection[str] = (),
    frames: int = 1,
) -> Session:
    """Compiles a graph.

    Args:
        path: ONNX file.
        device: "auto" is OpenVINO where it is installed, else ONNX Runtime on the CPU.
        threads: of the CPU; 0 leaves it to the library.
        precision: what a float32 graph is computed in. "f32" is float32; "auto" and "bf16" are bfloat16 with OpenVINO
            on a processor that has it, else float32. ONNX Runtime knows no bfloat16 on a CPU and refuses to be asked.
        resident: outputs that stay where the session computes, as `Stored`.
        frames: at most so many at a time, of a graph that takes any number.

    Raises:
        ModelError: the file is missing, is no graph, or not the one that a manifest beside it states.
        ConfigurationError: the device is not available here, or does not compute in this precision.
    """
    if not path.is_file():
        raise ModelError(f"{path}: expected a model file, found none")
    check_model(path)
    if device == "auto":
        device = "openvino" if find_spec("openvino") else "onnxruntime"
    if device == "openvino":
        return OpenVinoSession(path, threads, precision)
    providers = {
        "onnxruntime": ["CPUExecutionProvider"],
        "cuda": ["CUDAExecutionProvider"],
        "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
    }
    return OnnxRuntimeSession(path, providers[device], threads, precision)
