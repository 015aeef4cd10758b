"""Sessions on a GPU over a stand-in of NVIDIA's libraries: what is computed, what stays, what is built and kept."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cuda_helpers import FakeCuda
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime_helpers import FakeOnnxRuntime, install_onnxruntime
from tensorrt_helpers import FakeContext, FakeTensorRt, install
from typer.testing import CliRunner

from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import ConfigurationError, ModelError
from camtrack_core.runtime import engines, open_session
from camtrack_core.runtime.building import BuildingSession
from camtrack_core.runtime.commands import app
from camtrack_core.runtime.cuda import DeviceArray, DeviceError, Stream
from gcnet_tracker.tracker import DEMO_MODEL as GCNET
from gcnet_tracker.tracker import GCNetModel
from gcnet_tracker.tracker import Tracker as ImageTracker
from time3d_tracker.level import camera_height
from time3d_tracker.model import DEMO_MODEL as TIME3D
from time3d_tracker.model import Time3DModel
from time3d_tracker.tracker import Tracker as SpaceTracker


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTensorRt:
    monkeypatch.setenv("CAMTRACK_ENGINES", str(tmp_path / "engines"))
    return install(monkeypatch)


def a_graph(path: Path, frames: int | str = 1, factor: float = 2.0) -> Path:
    """sum = factor * x + state and next = x - state, both of (frames, 2, 3)."""
    kind, shape = onnx.TensorProto.FLOAT, [frames, 2, 3]
    given, made = (
        [onnx.helper.make_tensor_value_info(name, kind, shape) for name in names]
        for names in (("x", "state"), ("sum", "next"))
    )
    nodes = [
        onnx.helper.make_node("Mul", ["x", "factor"], ["scaled"]),
        onnx.helper.make_node("Add", ["scaled", "state"], ["sum"]),
        onnx.helper.make_node("Sub", ["x", "state"], ["next"]),
    ]
    weights = [onnx.numpy_helper.from_array(np.float32(factor), "factor")]
    graph = onnx.helper.make_graph(nodes, "g", given, made, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, {"a": "b"})
    onnx.save(model, path)
    return path


# --- What is computed


@pytest.mark.parametrize("device", ["tensorrt"])
def test_gcnet_tracks_as_on_the_cpu_and_its_features_never_come_back(library: FakeTensorRt, device: Any) -> None:
    frames = [frame.image for frame in open_source("drive:9001?frames=4&frame_rate=5")]
    there, here = GCNetModel(GCNET, device, precision="f32"), GCNetModel(GCNET, "onnxruntime")
    on_gpu, on_cpu = ImageTracker(there), ImageTracker(here)
    seen = 0
    for image in frames:
        found, expected = on_gpu.step(image), on_cpu.step(image)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1e-3)
        seen += len(expected)
    assert seen > 8
    assert isinstance(on_gpu._queries, DeviceArray)
    assert not {"queries", "track_queries", "new_values"} & read_back(library.cuda, there.session)


def test_time3d_tracks_as_on_the_cpu_and_its_memory_never_comes_back(library: FakeTensorRt) -> None:
    there, here = Time3DModel(TIME3D, "tensorrt", precision="f32"), Time3DModel(TIME3D, "onnxruntime")
    on_gpu, on_cpu = SpaceTracker(there), SpaceTracker(here)
    seen = 0
    for frame in open_source("drive:9001?frames=4&frame_rate=2"):
        assert frame.camera is not None
        view = (frame.image, frame.time_ns, frame.camera.intrinsics, frame.camera_pose, camera_height(frame))
        found, expected = on_gpu.step(*view).tracks, on_cpu.step(*view).tracks
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.boxes.centre, expected.boxes.centre, atol=1e-2)
        seen += len(expected)
    assert seen > 8
    assert all(isinstance(past.features, DeviceArray) for past in on_gpu._memory)
    assert not {"features", "reid"} & read_back(library.cuda, there.session)


def read_back(cuda: FakeCuda, session: Any) -> set[str]:
    """Names of the places on the device that were copied to the host."""
    begins = {array.address: name for name, array in session._places.device.items()}
    return {begins[address] for address in cuda.downloaded if address in begins}


def test_results_follow_the_inputs_also_when_replayed_as_a_graph(library: FakeTensorRt, tmp_path: Path) -> None:
    session = open_session(a_graph(tmp_path / "g.onnx"), "tensorrt", resident=("next",))
    assert session.metadata["a"] == "b" and session.output_names == ("sum", "next")
    state, expected = session.store((2, 3)), np.zeros((2, 3), np.float32)
    for number in range(5):
        x = np.random.default_rng(number).normal(size=(1, 2, 3)).astype(np.float32)
        out = session.run({"x": x, "state": [state]})
        np.testing.assert_allclose(out["sum"], 2 * x + expected, rtol=1e-6)
        state[:] = out["next"][0]
        expected = x[0] - expected
    assert library.cuda.calls.count("cudaGraphLaunch") == 4 and library.cuda.calls.count("cudaGraphInstantiate") == 1


def test_an_engine_that_cannot_be_captured_runs_without_a_graph(
    library: FakeTensorRt, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library.cuda.uncapturable = True
    session = open_session(a_graph(tmp_path / "g.onnx"), "tensorrt")
    for number in (1.0, 2.0, 3.0):
        x = np.full((1, 2, 3), number, np.float32)
        np.testing.assert_array_equal(session.run({"x": x, "state": x})["sum"], 3 * x)
    assert caplog.text.count("runs without a CUDA graph") == 1


def test_a_free_number_of_frames_is_what_came_up_to_the_most(library: FakeTensorRt, tmp_path: Path) -> None:
    session = open_session(a_graph(tmp_path / "g.onnx", "frames"), "tensorrt", frames=3)
    stores = [session.store((2, 3)) for _ in range(3)]
    for number, store in enumerate(stores):
        store[:] = np.full((2, 3), number, np.float32)
    for frames in (2, 1, 3, 2, 1):
        x = np.random.default_rng(frames).normal(size=(frames, 2, 3)).astype(np.float32)
        out = session.run({"x": x, "state": stores[:frames]})
        np.testing.assert_allclose(out["sum"], 2 * x + np.arange(frames)[:, None, None], rtol=1e-6)
    with pytest.raises(ValueError, match="expected at most 3 frames, got 4"):
        session.run({"x": np.zeros((4, 2, 3), np.float32), "state": np.zeros((4, 2, 3), np.float32)})


def test_inputs_of_a_wrong_shape_are_refused(library: FakeTensorRt, tmp_path: Path) -> None:
    session = open_session(a_graph(tmp_path / "g.onnx"), "tensorrt")
    right = np.zeros((1, 2, 3), np.float32)
    with pytest.raises(ValueError, match=r"x: expected an array of shape \(1, 2, 3\), got \(2, 3\)"):
        session.run({"x": right[0], "state": right})
    with pytest.raises(ValueError, match="expected an array of shape"):
        session.run({"x": right, "state": [session.store((3,))]})


indices = st.one_of(st.integers(-3, 2), st.builds(slice, st.integers(0, 2), st.integers(0, 3) | st.none()))


@settings(max_examples=100, deadline=None)
@given(index=st.lists(indices, max_size=3), other=st.lists(indices, max_size=3))
def test_arrays_on_the_device_are_indexed_as_numpys_are(index: list[Any], other: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        stream, rng = Stream(0), np.random.default_rng(0)
        arrays = [rng.normal(size=(3, 3, 3)).astype(np.float32) for _ in range(2)]
        devices = [DeviceArray.empty(stream, (3, 3, 3)) for _ in range(2)]
        for device, array in zip(devices, arrays, strict=True):
            device[:] = array
        place, source = tuple(index), tuple(other)
        if arrays[0][place].shape == arrays[1][source].shape:
            arrays[0][place] = arrays[1][source]
            devices[0][place] = devices[1][source]
        np.testing.assert_array_equal(devices[0], arrays[0])
        kept = devices[1].copy()
        arrays[1][place] = 0
        devices[1][place] = 0
        np.testing.assert_array_equal(devices[1], arrays[1])
        assert not np.array_equal(kept, arrays[1]) or not arrays[1][place].size


def test_memory_that_nobody_looks_at_is_used_again(library: FakeTensorRt) -> None:
    stream = Stream(0)
    for _ in range(50):
        part = DeviceArray.empty(stream, (4, 100))[2]
        part[:] = 0
        np.testing.assert_array_equal(part, np.zeros(100))
    assert library.cuda.calls.count("cudaMalloc") <= 3


# --- What fails


def test_a_gpu_without_memory_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAMTRACK_ENGINES", str(tmp_path))
    install(monkeypatch, FakeCuda(memory=64))
    with pytest.raises(DeviceError, match="cudaMalloc: cudaErrorMemoryAllocation"):
        open_session(a_graph(tmp_path / "g.onnx", "frames"), "tensorrt", frames=40)


def test_an_engine_that_fails_to_run_is_a_sentence(
    library: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(a_graph(tmp_path / "g.onnx"), "tensorrt")
    x = np.zeros((1, 2, 3), np.float32)
    monkeypatch.setattr(FakeContext, "execute_async_v3", lambda self, stream: False)
    with pytest.raises(DeviceError, match="expected the engine to run"):
        session.run({"x": x, "state": x})


def test_a_graph_that_the_parser_refuses_is_a_sentence_and_leaves_no_engine(
    library: FakeTensorRt, tmp_path: Path
) -> None:
    library.refuses = "no importer for NonZero"
    with pytest.raises(
        ModelError, match=r"g\.onnx: expected a graph that TensorRT takes, got: no importer for NonZero"
    ):
        open_session(a_graph(tmp_path / "g.onnx"), "tensorrt")
    assert engines.stored() == []


def test_a_missing_gpu_or_library_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = a_graph(tmp_path / "g.onnx")
    monkeypatch.setenv("CAMTRACK_ENGINES", str(tmp_path))
    install(monkeypatch, FakeCuda(gpus=()))
    with pytest.raises(ConfigurationError, match=r"expected a GPU for TensorRT, but no NVIDIA GPU answers .*NoDevice"):
        open_session(path, "tensorrt")
    install(monkeypatch)
    with pytest.raises(ConfigurationError, match="expected a GPU of number 1, this machine has 1"):
        open_session(path, "tensorrt", device_id=1)
    with pytest.raises(ConfigurationError, match="expected the precision auto or f32 or f16 with TensorRT, got bf16"):
        open_session(path, "tensorrt", precision="bf16")
    with pytest.raises(ConfigurationError, match="expected an ONNX Runtime with CUDAExecutionProvider, this one has"):
        open_session(path, "cuda")


# --- What is built and kept


def test_an_engine_is_built_once_for_all_that_it_depends_on(
    library: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_graph(tmp_path / "g.onnx", "frames")

    def builds(**options: Any) -> int:
        before = library.builds
        open_session(path, "tensorrt", **options)
        return library.builds - before

    assert [builds(), builds()] == [1, 0]
    assert [builds(frames=2), builds(frames=2)] == [1, 0]
    assert [builds(precision="f32"), builds(precision="f16"), builds()] == [1, 0, 0]  # auto is f16
    library.cuda.gpus = ("Another GPU",)
    assert [builds(), builds()] == [1, 0]
    monkeypatch.setattr(library, "__version__", "10.9.0")
    assert [builds(), builds()] == [1, 0]
    monkeypatch.setattr(type(library.cuda), "cudaDriverGetVersion", lambda self: (0, 13000))
    assert [builds(), builds()] == [1, 0]
    a_graph(path, "frames", factor=3.0)
    assert [builds(), builds()] == [1, 0]
    assert len(engines.stored()) == 7 and all(each.key is not None for each in engines.stored())


@pytest.mark.parametrize("harm", ["cut", "changed", "empty", "of another key", "of another version", "no header"])
def test_an_engine_that_is_broken_or_foreign_is_never_loaded_but_built_anew(
    library: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    path, loaded = a_graph(tmp_path / "g.onnx"), []
    runtime = library.Runtime
    monkeypatch.setattr(library, "Runtime", lambda logger: Spy(runtime(logger), loaded))
    open_session(path, "tensorrt")
    (file,) = (each.path for each in engines.stored())
    content = file.read_bytes()
    if harm == "of another key":
        open_session(path, "tensorrt", precision="f32")
        (other,) = (each.path for each in engines.stored() if each.path != file)
        os.replace(other, file)
    elif harm == "of another version":  # what the key says and the library does not believe
        key = engines.stored()[0].key
        assert key is not None
        engines.save(key, content.partition(b"\n")[2].replace(b"10.3.0", b"10.2.0"))
    else:
        middle = len(content) - 20
        file.write_bytes({
            "cut": content[:middle], "changed": content[:middle] + b"?" + content[middle + 1 :], "empty": b"",
            "no header": content.partition(b"\n")[2],
        }[harm])  # fmt: skip
    loaded.clear()
    before = library.builds
    x = np.ones((1, 2, 3), np.float32)
    np.testing.assert_array_equal(open_session(path, "tensorrt").run({"x": x, "state": x})["sum"], 3 * x)
    assert library.builds == before + 1
    assert len(loaded) == (2 if harm == "of another version" else 1)
    assert file.read_bytes() == content


class Spy:
    def __init__(self, runtime: Any, loaded: list[bytes]) -> None:
        self.runtime, self.loaded, self.logger = runtime, loaded, runtime.logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        self.loaded.append(plan)
        return self.runtime.deserialize_cuda_engine(plan)


def test_of_two_that_want_an_engine_one_builds_it(library: FakeTensorRt, tmp_path: Path) -> None:
    key = engines.EngineKey("g", "0", "TensorRT 1", "a", "b", "float16", "{}")
    made: list[int] = []

    def build() -> bytes:
        made.append(1)
        time.sleep(0.2)  # so that the others come while it is built
        return b"engine"

    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(engines.load_or_build(key, build))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"engine"] * 4 and len(made) == 1


def test_an_interrupted_build_leaves_the_folder_usable(library: FakeTensorRt, tmp_path: Path) -> None:
    path = a_graph(tmp_path / "g.onnx")
    key = engines.EngineKey("g", "0", "TensorRT 1", "a", "b", "float16", "{}")

    def interrupted() -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engines.load_or_build(key, interrupted)
    (engines.folder() / "g-0.engine.77.partial").write_bytes(b"half")
    assert engines.load(key) is None and engines.load_or_build(key, lambda: b"whole") == b"whole"
    open_session(path, "tensorrt")
    gone = engines.clean(lambda kept: kept != key)
    assert sorted(p.name for p in gone) == sorted([key.file, "g-0.engine.77.partial"])
    assert [each.key.library for each in engines.stored() if each.key] == ["TensorRT 10.3.0"]


def test_a_folder_that_cannot_be_written_is_a_sentence(
    library: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CAMTRACK_ENGINES", str(tmp_path / "file" / "engines"))
    with pytest.raises(ConfigurationError, match="expected a place for engines"):
        open_session(a_graph(tmp_path / "g.onnx"), "tensorrt")


# --- While an engine is built


def test_another_device_serves_until_the_engine_is_ready_and_what_was_stored_goes_on(
    library: FakeTensorRt, tmp_path: Path
) -> None:
    path, done = a_graph(tmp_path / "g.onnx"), tmp_path / "done"
    wait = f"import os, time\nwhile not os.path.exists({str(done)!r}): time.sleep(.02)"
    session = BuildingSession(
        open_session(path, "onnxruntime"), [sys.executable, "-c", wait], lambda: open_session(path, "tensorrt")
    )
    state, expected = session.store((2, 3)), np.zeros((2, 3), np.float32)
    for number in range(6):
        if number == 3:
            assert "ONNX Runtime" in session.engine and "has been building its engine" in (session.notice or "")
            done.touch()
            session.wait()
        x = np.random.default_rng(number).normal(size=(1, 2, 3)).astype(np.float32)
        out = session.run({"x": x, "state": [state]})
        np.testing.assert_allclose(out["sum"], 2 * x + expected, rtol=1e-6)
        state[:] = out["next"][0]
        expected = x[0] - expected
    assert session.engine.startswith("TensorRT 10.3.0") and session.notice is None and library.builds == 1


@pytest.mark.parametrize(("command", "said"), [
    ("raise SystemExit('no memory')", r"built no engine \(exit code 1\): no memory; ONNX Runtime .* runs the model"),
    ("import os; os.kill(os.getpid(), 11)", r"built no engine \(exit code -11\): nothing; ONNX Runtime"),
])  # fmt: skip
def test_a_build_that_fails_is_told_and_the_other_goes_on(tmp_path: Path, command: str, said: str) -> None:
    path = a_graph(tmp_path / "g.onnx")
    session = BuildingSession(open_session(path, "onnxruntime"), [sys.executable, "-c", command], lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    session.wait()
    x = np.ones((1, 2, 3), np.float32)
    np.testing.assert_array_equal(session.run({"x": x, "state": x})["sum"], 3 * x)
    import re

    assert re.search(said, session.notice or "")


# --- Which device


def test_auto_says_why_it_takes_a_device(
    library: FakeTensorRt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = a_graph(tmp_path / "g.onnx")
    caplog.set_level(logging.INFO, "camtrack_core.runtime")
    assert open_session(path).engine.startswith("TensorRT 10.3.0")
    library.refuses = "no importer"
    assert open_session(path, precision="f32").engine.startswith("OpenVINO")
    said = caplog.text
    assert "TensorRT does not run g.onnx" in said and "no importer" in said
    assert "ONNX Runtime with CUDA does not run g.onnx: expected an ONNX Runtime with CUDAExecutionProvider" in said
    assert open_session(path, precision="bf16").engine.startswith("OpenVINO")
    with pytest.raises(ConfigurationError, match="got f16"):
        open_session(path, precision="f16", device="openvino")


# --- ONNX Runtime on a GPU


@pytest.fixture
def ort(library: FakeTensorRt, monkeypatch: pytest.MonkeyPatch) -> FakeOnnxRuntime:
    return install_onnxruntime(monkeypatch, library.cuda)


@pytest.mark.parametrize("device", ["cuda", "onnxruntime_tensorrt"])
def test_onnx_runtime_computes_on_bound_memory(ort: FakeOnnxRuntime, tmp_path: Path, device: Any) -> None:
    session = open_session(a_graph(tmp_path / "g.onnx", "frames"), device, resident=("next",), frames=2)
    state, expected = session.store((2, 3)), np.zeros((2, 3), np.float32)
    for number in range(4):
        x = np.random.default_rng(number).normal(size=(1, 2, 3)).astype(np.float32)
        out = session.run({"x": x, "state": [state]})
        np.testing.assert_allclose(out["sum"], 2 * x + expected, rtol=1e-6)
        state[:] = out["next"][0]
        expected = x[0] - expected
    both = np.ones((2, 2, 3), np.float32)
    np.testing.assert_array_equal(session.run({"x": both, "state": both})["sum"], 3 * both)
    assert not {"next", "state"} & read_back(ort.cuda, session) and ort.bound == 2
    assert "float16" in session.engine and ort.given["disable_cpu_ep_fallback"] == "1"


def test_onnx_runtime_keeps_tensorrts_engines_in_our_folder(ort: FakeOnnxRuntime, tmp_path: Path) -> None:
    open_session(a_graph(tmp_path / "g.onnx"), "onnxruntime_tensorrt")
    first, second = ort.providers
    assert (first[0], second[0]) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert first[1]["trt_engine_cache_enable"] == "1" and Path(first[1]["trt_engine_cache_path"]).is_dir()
    assert first[1]["user_compute_stream"] == second[1]["user_compute_stream"] and second[1]["use_tf32"] == "0"


def test_onnx_runtime_that_would_compute_on_the_cpu_is_refused(ort: FakeOnnxRuntime, tmp_path: Path) -> None:
    path = a_graph(tmp_path / "g.onnx")
    ort.loads = ("CPUExecutionProvider",)  # what it does where a library of CUDA is missing: it goes on without a word
    with pytest.raises(ConfigurationError, match="to load CUDAExecutionProvider, it runs CPUExecutionProvider"):
        open_session(path, "cuda")
    ort.on_cpu = "Fallback to the CPU EP has been disabled"
    with pytest.raises(ModelError, match=r"g\.onnx: .*Fallback to the CPU EP has been disabled"):
        open_session(path, "cuda")
    ort.on_cpu = ""
    assert open_session(path, "onnxruntime").engine.startswith("ONNX Runtime")


# --- Commands


def test_engines_are_built_listed_and_cleaned_by_command(library: FakeTensorRt, tmp_path: Path) -> None:
    first, second = a_graph(tmp_path / "a.onnx"), a_graph(tmp_path / "b.onnx", factor=3.0)
    run = CliRunner().invoke
    built = run(app, ["build", str(first), str(second), "--json"])
    assert (
        built.exit_code == 0
        and list(json.loads(built.stdout)["engines"].values()) == ["TensorRT 10.3.0 (float16) on Stand-in GPU"] * 2
    )
    assert run(app, ["build", str(first)]).exit_code == 0 and library.builds == 2
    listed = run(app, ["list"]).stdout
    assert "2 engines" in listed and "a-" in listed and "float16, TensorRT 10.3.0, Stand-in GPU" in listed
    broken = next(each.path for each in engines.stored() if each.path.name.startswith("a-"))
    broken.write_bytes(b"x")
    assert "broken" in run(app, ["list"]).stdout
    assert json.loads(run(app, ["clean", "--json"]).stdout)["removed"] == [str(broken)]
    library.cuda.gpus = ("Another GPU",)
    assert len(json.loads(run(app, ["clean", "--json"]).stdout)["removed"]) == 1 and engines.stored() == []
    open_session(first, "tensorrt")
    assert len(json.loads(run(app, ["clean", "--all", "--json"]).stdout)["removed"]) == 1


def test_commands_refuse_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAMTRACK_ENGINES", str(tmp_path / "none"))
    install(monkeypatch, FakeCuda(gpus=()))
    path = a_graph(tmp_path / "g.onnx")
    for arguments, said in (
        (["build", str(path)], "expected a GPU for TensorRT"),
        (["build", str(path), "--precision", "half"], "--precision: expected one of auto, f32, bf16, f16, got half"),
        (["clean"], "with --all every engine is removed"),
    ):
        refused = CliRunner().invoke(app, arguments)
        assert isinstance(refused.exception, ConfigurationError) and said in str(refused.exception)
    assert "0 engines" in CliRunner().invoke(app, ["list"]).stdout


# --- The benchmark


def test_the_benchmark_finds_equal_boxes_and_times(library: FakeTensorRt, benchmark: Any) -> None:
    frames = list(open_source("drive:9001?frames=2&frame_rate=1"))
    in_image = benchmark.parity_in_image("tensorrt", "f32", 0, frames)
    in_space = benchmark.parity_in_space("tensorrt", "f32", 0, frames)
    for figures in (in_image, in_space):
        assert figures["boxes"] > 4 and figures["matched"] == 1.0 and figures["place_p99"] < 0.02
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] and "TensorRT" in figures["engine"]


@pytest.mark.parametrize("name", ["gcnet", "time3d"])
def test_the_benchmark_runs_batches_of_both_networks_beside_torch(
    library: FakeTensorRt, benchmark: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(benchmark, "torch_device", lambda device_id: "cpu")
    monkeypatch.setattr(benchmark, "BATCHES", (1, 3))
    (step,) = (step for step in benchmark.of_batches(0) if step.name == f"{name}, 1, 3 cameras")
    figures = step.measure()
    for cameras in (1, 3):
        assert figures[f"{cameras} cameras, scores differ by p50"] < 1e-4
        for backend in ("f16", "f32", "torch f32"):
            of = f"{cameras} cameras, {backend}"
            assert 0 < figures[f"{of} p50_ms"] <= figures[f"{of} p99_ms"]
    assert library.builds == 2  # one engine a precision, whatever the number


def test_the_benchmark_does_all_that_it_promises(library: FakeTensorRt, benchmark: Any) -> None:
    names = [step.name for step in benchmark.steps(0)]
    assert names == [
        "gcnet tensorrt f16", "time3d tensorrt f16", "gcnet tensorrt f32", "time3d tensorrt f32", "node gcnet",
        "node time3d", "gcnet, 1, 4, 8 cameras", "time3d, 1, 4, 8 cameras", "cuda f16", "cuda f32",
    ]  # fmt: skip
    left_out = [step.measure()["left out"] for step in benchmark.steps(0)[-2:]]
    assert all("expected an ONNX Runtime with CUDAExecutionProvider" in why for why in left_out)


def test_the_benchmark_leaves_out_what_time_or_the_machine_does_not_allow(
    library: FakeTensorRt, benchmark: Any
) -> None:
    def fails() -> dict[str, Any]:
        raise ModelError("expected more")

    todo = [
        benchmark.Step("first", 1, lambda: {"a": 1.0}),
        benchmark.Step("long", 1e9, fails),
        benchmark.Step("last", 1, fails),
    ]
    results = benchmark.measure_all(todo, 100.0)
    assert results["first"] == {"a": 1.0} and results["last"] == {"failed": "expected more"}
    assert "s are left, it may take 1000000000" in results["long"]["left out"]


def test_the_benchmark_says_in_one_sentence_that_there_is_no_gpu(benchmark: Any, capsys: Any, monkeypatch: Any) -> None:
    install(monkeypatch, FakeCuda(gpus=()))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert benchmark.main() == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("nothing is measured: no NVIDIA GPU answers")
    assert said.err.count("\n") == 1


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    module = importlib.import_module("gpu")
    monkeypatch.setattr(module, "RUNS", 2)
    monkeypatch.setattr(module, "WARM_UP", 1)
    return module
