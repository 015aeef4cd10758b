"""Running an ONNX graph on whatever the machine has.

The graphs of camtrack carry what their user must know (input size, class names) as string metadata.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, Protocol

from numpy.typing import NDArray

from camtrack_core.errors import ConfigurationError, ModelError

Device = Literal["auto", "openvino", "onnxruntime", "cuda", "tensorrt"]
Precision = Literal["auto", "f32", "bf16"]


class Session(Protocol):
    """A compiled graph.

    Attributes:
        engine: what runs it, for diagnostics.
        metadata: the graph's string metadata.
        input_shapes: by input name.
        output_names: in the graph's order.
    """

    @property
    def engine(self) -> str: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    @property
    def output_names(self) -> tuple[str, ...]: ...

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Outputs by name. They may share memory with the session and live until the next run."""


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
        self.input_shapes = {i.name: tuple(i.shape) for i in self._session.get_inputs()}
        self.output_names = tuple(o.name for o in self._session.get_outputs())

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        return dict(zip(self.output_names, self._session.run(self.output_names, dict(inputs)), strict=True))


class OpenVinoSession:
    """OpenVINO on the CPU: bfloat16 where the processor computes in it unless f32 is asked for, float32 elsewhere."""

    def __init__(self, path: Path, threads: int, precision: Precision) -> None:
        import openvino

        core = openvino.Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        computed = "bf16" if native and precision != "f32" else "f32"
        options: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": computed}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(str(path))
            self._compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise ModelError(f"{path}: expected an ONNX graph, got: {str(error).splitlines()[0]}") from error
        self.engine = f"OpenVINO {openvino.__version__.split('-')[0]} ({computed})"
        self.metadata = _openvino_metadata(model)
        self.input_shapes = {i.any_name: tuple(i.shape) for i in self._compiled.inputs}
        # a tensor may have more names than that of the output which it is
        results = [o.get_node().get_friendly_name() for o in self._compiled.outputs]
        self.output_names = tuple(name.removesuffix("/sink_port_0") for name in results)
        self._request = self._compiled.create_infer_request()

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        return {name: self._request.get_output_tensor(i).data for i, name in enumerate(self.output_names)}


def _openvino_metadata(model) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """OpenVINO keeps ONNX metadata in the model's run-time information, under "framework"."""
    info = model.get_rt_info()
    return {key: value.astype(str) for key, value in info["framework"].items()} if "framework" in info else {}


def open_session(path: Path, device: Device = "auto", threads: int = 0, precision: Precision = "auto") -> Session:
    """Compiles a graph.

    Args:
        path: ONNX file.
        device: "auto" is OpenVINO where it is installed, else ONNX Runtime on the CPU.
        threads: of the CPU; 0 leaves it to the library.
        precision: what a float32 graph is computed in. "f32" is float32; "auto" and "bf16" are bfloat16 with OpenVINO
            on a processor that has it, else float32. ONNX Runtime knows no bfloat16 on a CPU and refuses to be asked.

    Raises:
        ModelError: the file is missing or is no graph.
        ConfigurationError: the device is not available here, or does not compute in this precision.
    """
    if not path.is_file():
        raise ModelError(f"{path}: expected a model file, found none")
    if device == "auto":
        device = "openvino" if _installed("openvino") else "onnxruntime"
    if device == "openvino":
        return OpenVinoSession(path, threads, precision)
    providers = {
        "onnxruntime": ["CPUExecutionProvider"],
        "cuda": ["CUDAExecutionProvider"],
        "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
    }
    return OnnxRuntimeSession(path, providers[device], threads, precision)


def expect_names(path: Path, session: Session, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Raises ModelError for a graph that does not take exactly these inputs or lacks one of these outputs."""
    given, made = session.input_shapes.keys(), session.output_names
    lacking = [name for name in outputs if name not in made]
    if given != set(inputs):
        raise ModelError(f"{path}: expected the inputs {', '.join(inputs)}, its graph has {', '.join(given)}")
    if lacking:
        raise ModelError(f"{path}: expected the outputs {', '.join(outputs)}, its graph lacks {', '.join(lacking)}")


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None
