"""All that a GPU is to be measured for, in one run of less than eight minutes; without a GPU it says so.

    python benchmarks/gpu.py [--device-id 0] [--json]

Parity: what the shipped networks see on a generated drive, beside ONNX Runtime in float32 on the CPU: boxes with
scores of 0.3 and more that are found again, and how far their scores and places (1 - IoU in the image, metres in
space) differ.
Latency: one run of the graph with its copies, of the shipped networks, and of both networks at their size with random
weights for 1, 4 and 8 cameras at a time, by one engine for any number up to that; there torch on the same GPU is beside
it, in time and in numbers. Node: image message in to tracks message out (`node_latency.py`). Seconds to open a session
include the building of an engine where the cache has none. What time does not allow is left out, and said.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import head
import numpy as np
from numpy.typing import NDArray
from precision import Differences, compare_in_image, compare_in_space, look
from rich.console import Console
from rich.table import Table

from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import CamtrackError
from camtrack_core.runtime import Device, Precision, Session, open_session
from camtrack_core.runtime.cuda import find_gpu, why_no_gpu
from camtrack_core.runtime.session import why_not
from gcnet_tracker.tracker import DEMO_MODEL as GCNET
from gcnet_tracker.tracker import Detector, GCNetModel
from time3d_tracker.model import DEMO_MODEL as TIME3D
from time3d_tracker.model import Time3DModel
from time3d_tracker.tracker import Tracker

BUDGET = 460.0  # seconds
DRIVE = "drive:9000?frames=16&frame_rate=10"
BACKENDS: tuple[tuple[Device, Precision], ...] = (
    ("tensorrt", "f16"), ("tensorrt", "f32"), ("cuda", "f16"), ("cuda", "f32"),
)  # fmt: skip
BATCHES = (1, 4, 8)
RUNS, WARM_UP = 300, 20
NODE = 90.0  # seconds that a node may take
Figures = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A part of the run and how long it may take, seconds."""

    name: str
    seconds: float
    measure: Callable[[], Figures]


def parity_in_image(device: Device, precision: Precision, device_id: int, frames: list[Frame]) -> Figures:
    begin = time.perf_counter()
    model = GCNetModel(GCNET, device, 0, precision, device_id)
    opened = time.perf_counter() - begin
    there, here, differences = Detector(model), Detector(GCNetModel(GCNET, "onnxruntime")), Differences()
    for frame in frames:
        compare_in_image(differences, here(frame.image), there(frame.image))
    return {"engine": model.session.engine, "opened_s": opened, **parity(differences), **latency(model.session)}


def parity_in_space(device: Device, precision: Precision, device_id: int, frames: list[Frame]) -> Figures:
    begin = time.perf_counter()
    model = Time3DModel(TIME3D, device, 0, precision, device_id)
    opened = time.perf_counter() - begin
    there, here, differences = Tracker(model), Tracker(Time3DModel(TIME3D, "onnxruntime")), Differences()
    for frame in frames:
        compare_in_space(differences, look(here, frame).detections, look(there, frame).detections)
    return {"engine": model.session.engine, "opened_s": opened, **parity(differences), **latency(model.session)}


def parity(differences: Differences) -> Figures:
    scores, places = differences.scores or [np.nan], differences.places or [np.nan]
    return {
        "boxes": differences.compared, "matched": len(differences.scores) / max(differences.compared, 1),
        "score_p99": float(np.percentile(scores, 99)), "place_p50": float(np.median(places)),
        "place_p99": float(np.percentile(places, 99)),
    }  # fmt: skip


def example(session: Session, frames: int = 1) -> dict[str, NDArray]:
    """Inputs of the right shapes: a picture of noise, a level camera, nothing stored."""
    rng = np.random.default_rng(0)
    shapes = {name: tuple(frames if s == -1 else s for s in shape) for name, shape in session.input_shapes.items()}
    given: dict[str, NDArray] = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    given["image"] = rng.integers(0, 256, shapes["image"], np.uint8)
    if "projection" in given:
        _, height, width, _ = shapes["image"]
        given["projection"][:] = [[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]]
    if "motion" in given:
        given["motion"][..., 4] = 1
    return given


def latency(session: Session, frames: int = 1) -> Figures:
    """Milliseconds of a run: copies up, the graph, results back."""
    inputs = example(session, frames)
    return timed(lambda: session.run(inputs), RUNS)


def timed(run: Callable[[], object], runs: int) -> Figures:
    """Milliseconds of a run, after some that are not counted."""
    taken = []
    for _ in range(runs + WARM_UP):
        begin = time.perf_counter()
        run()
        taken.append(1e3 * (time.perf_counter() - begin))
    p50, p99 = np.percentile(taken[WARM_UP:], (50, 99)).tolist()
    return {"p50_ms": p50, "p99_ms": p99}


def write_gcnet(path: Path) -> Any:
    """Writes GCNet's graph for any number of cameras, with random weights; returns its module."""
    from gcnet_tracker.config import NetworkConfig
    from gcnet_tracker.export import FrameGraph, export
    from gcnet_tracker.network import GCNet

    network = GCNet(NetworkConfig(backbone="yolox_nano", height=352, width=640, channels=96)).eval()
    export(network, path, cameras=0)
    return FrameGraph(network, "query")


def write_time3d(path: Path) -> Any:
    """The same of Time3D."""
    from time3d_tracker.config import NetworkConfig
    from time3d_tracker.export import FrameGraph, export
    from time3d_tracker.network import Time3D

    config = NetworkConfig(backbone="yolox_nano", stride=8, height=480, width=864, slots=64, embedding=128)
    network = Time3D(config).eval()
    export(network, path, cameras=0)
    return FrameGraph(network)


def batches(write: Callable[[Path], Any], device_id: int) -> Figures:
    """A network with random weights for several cameras at a time: TensorRT beside torch."""
    import torch

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any_number.onnx"
        graph = write(path).to(torch_device(device_id)).eval()
        precisions: tuple[Precision, ...] = ("f16", "f32")
        sessions = {p: open_session(path, "tensorrt", 0, p, device_id, frames=max(BATCHES)) for p in precisions}
        for cameras in BATCHES:
            inputs = example(sessions["f32"], cameras)
            found, expected = sessions["f32"].run(inputs), run_torch(graph, inputs)
            of = {p: latency(session, cameras) for p, session in sessions.items()}
            of["torch f32"] = timed(lambda given=inputs: run_torch(graph, given), WARM_UP)  # type: ignore[misc]
            figures |= {f"{cameras} cameras, {p} {name}": v for p, times in of.items() for name, v in times.items()}
            apart = np.abs(found["scores"] - expected[list(found).index("scores")])
            # The middle: an untrained network's map is so flat that rounding makes and unmakes peaks at the end.
            figures[f"{cameras} cameras, scores differ by p50"] = float(np.median(apart))
    return figures


def torch_device(device_id: int) -> str:
    return f"cuda:{device_id}"


def run_torch(graph: Any, inputs: dict[str, NDArray]) -> list[NDArray]:
    """Outputs of the module on its own device, back on the host."""
    import torch

    device = next(graph.parameters()).device
    with torch.no_grad():
        outputs = graph(*(torch.from_numpy(value).to(device) for value in inputs.values()))
    return [output.cpu().numpy() for output in outputs]


def node(kind: str) -> Figures:
    """Of a node as a process, at 20 Hz and 1600x900, with whatever `auto` takes."""
    command = [sys.executable, str(Path(__file__).with_name("node_latency.py")), "--node", kind, "--frames", "300"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=NODE, check=False)
    if done.returncode:
        raise CamtrackError((done.stderr.strip().splitlines() or ["no words"])[-1])
    (figures,) = json.loads(done.stdout.splitlines()[-1]).values()  # of the one rate
    return dict(figures)


def steps(device_id: int) -> list[Step]:
    """TensorRT's parity and latency, nodes, batches, then the other backends."""
    (half, full), others = BACKENDS[:2], BACKENDS[2:]
    nodes = [Step(f"node {kind}", NODE, lambda kind=kind: node(kind)) for kind in ("gcnet", "time3d")]
    frames = list(open_source(DRIVE))
    return [
        *parities(half, device_id, frames), *parities(full, device_id, frames), *nodes, *of_batches(device_id),
        *(step for backend in others for step in parities(backend, device_id, frames)),
    ]  # fmt: skip


def parities(backend: tuple[Device, Precision], device_id: int, frames: list[Frame]) -> list[Step]:
    device, precision = backend
    if (why := why_not(device, precision, device_id)) is not None:
        return [Step(f"{device} {precision}", 0, lambda: {"left out": why})]
    return [
        Step(f"{name} {device} {precision}", 60, partial(measure, device, precision, device_id, frames))
        for name, measure in (("gcnet", parity_in_image), ("time3d", parity_in_space))
    ]


def of_batches(device_id: int) -> list[Step]:
    if find_spec("torch") is None:
        return [Step("batches", 0, lambda: {"left out": "expected the package torch, it is not installed"})]
    if (why := why_not("tensorrt", "f16", device_id)) is not None:
        return [Step("batches", 0, lambda: {"left out": why})]
    cameras = ", ".join(map(str, BATCHES))
    return [
        Step(f"{name}, {cameras} cameras", 90, partial(batches, write, device_id))
        for name, write in (("gcnet", write_gcnet), ("time3d", write_time3d))
    ]


def measure_all(todo: list[Step], budget: float) -> dict[str, Figures]:
    """Figures by step; the sentence of what failed or was left out in their place."""
    begin, results = time.monotonic(), {}
    for step in todo:
        left = budget - (time.monotonic() - begin)
        if left < step.seconds:
            results[step.name] = {"left out": f"{left:.0f} s are left, it may take {step.seconds:.0f}"}
            continue
        try:
            results[step.name] = step.measure()
        except (CamtrackError, RuntimeError, subprocess.TimeoutExpired) as error:  # torch's are RuntimeErrors
            results[step.name] = {"failed": str(error)}
    return results


def machine(device_id: int) -> Figures:
    gpu = find_gpu(device_id)
    return {
        "gpu": gpu.name,
        "driver": gpu.driver,
        "processor": platform.processor(),
        "python": platform.python_version(),
    }


def main() -> int:
    parser = head.parser(__doc__)
    parser.add_argument("--device-id", type=int, default=0, help="number of the GPU (default: %(default)s)")
    arguments = parser.parse_args()
    why = why_no_gpu(arguments.device_id)
    if why is not None:
        print(f"nothing is measured: {why}", file=sys.stderr)
        return 2
    described = machine(arguments.device_id)
    results = measure_all(steps(arguments.device_id), BUDGET)
    if arguments.json:
        print(json.dumps({"machine": described, **results}, indent=1))
        return 0
    console = Console()
    console.print(", ".join(f"{name} {value}" for name, value in described.items()))
    for name, figures in results.items():
        table = Table("", "value", title=name)
        for label, value in figures.items():
            table.add_row(label, f"{value:.4g}" if isinstance(value, float) else str(value))
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
