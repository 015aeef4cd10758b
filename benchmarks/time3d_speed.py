"""Speed of Time3D: stages of a frame of the tracker, and what heads evaluated at the peaks alone save.

    python benchmarks/time3d_speed.py [--model TIME3D.onnx | --config TRAINING.yaml | --paper] [--frames 60] [--json]

Stages: prepare (resize and padding), inference (the exported graph with what is remembered), tracking (association,
memory, boxes in space). --config and --paper take the sizes of a training configuration and of the paper with random
weights: time does not depend on them. Heads: two graphs of the same weights, from the image to the heads' values at
the peaks, one with the heads evaluated at the peaks and one with dense heads; their runs alternate, so that the ratio
holds on a busy machine too.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import head
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from camtrack_core.networks.graph import OPSET
from camtrack_core.runtime import Session, open_session
from time3d_tracker.cli import read_config
from time3d_tracker.config import NetworkConfig
from time3d_tracker.detector import Detector, find_peaks
from time3d_tracker.export import export
from time3d_tracker.level import camera_height
from time3d_tracker.model import DEMO_MODEL, Outputs, Query, Time3DModel
from time3d_tracker.network import Time3D
from time3d_tracker.tracker import Tracker

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 8  # frames that are not counted; after them the memory is full
SEED = 9000  # of the drive


class TimedModel(Time3DModel):
    """Notes how long each stage takes, milliseconds."""

    def __init__(self, path: Path, device: Any, threads: int) -> None:
        super().__init__(path, device, threads)
        self.times: dict[str, list[float]] = {"prepare": [], "inference": []}

    def prepare(self, image: NDArray[np.uint8], camera: int) -> float:
        begin = time.perf_counter()
        scale = super().prepare(image, camera)
        self.times["prepare"].append(1e3 * (time.perf_counter() - begin))
        return scale

    def infer(self, queries: Sequence[Query]) -> list[Outputs]:
        begin = time.perf_counter()
        outputs = super().infer(queries)
        prepared = sum(self.times["prepare"][-len(queries) :])
        self.times["inference"].append(1e3 * (time.perf_counter() - begin) - prepared)
        return outputs


def measure_stages(model: TimedModel, pictures: list[Frame], count: int) -> dict[str, list[float]]:
    """Milliseconds of each stage and of the whole, of `count` frames 0.1 s apart."""
    tracker, whole = Tracker(model), []
    for number, frame in enumerate(islice(cycle(pictures), count + WARM_UP)):
        assert frame.camera is not None
        begin = time.perf_counter()
        tracker.step(
            frame.image, number * 100_000_000, frame.camera.intrinsics, frame.camera_pose, camera_height(frame)
        )
        whole.append(1e3 * (time.perf_counter() - begin))
    stages = {name: values[WARM_UP:] for name, values in model.times.items()}
    whole = whole[WARM_UP:]
    rest = [w - p - i for w, p, i in zip(whole, stages["prepare"], stages["inference"], strict=True)]
    return stages | {"tracking": rest, "frame": whole}


class SparseHeads(nn.Module):
    """Image (1, 3, H, W) -> values of all heads at the peaks (1, K, channels)."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> Tensor:
        features, heatmap = self.detector(image)
        cells, _ = find_peaks(heatmap, self.detector.config.slots)
        return self.at(features, cells)

    def at(self, features: Tensor, cells: Tensor) -> Tensor:
        return torch.cat(list(self.detector.heads(features, cells).values()), -1)


class DenseHeads(SparseHeads):
    """The same by heads evaluated at every cell, of which the peaks' values are taken."""

    def at(self, features: Tensor, cells: Tensor) -> Tensor:
        heads = self.detector.heads
        hidden = functional.relu(heads.first(features)).split(heads.hidden, 1)
        dense = torch.cat([heads.second[name](part) for name, part in zip(heads.outputs, hidden, strict=True)], 1)
        return dense.flatten(2).gather(2, cells[:, None].expand(-1, dense.shape[1], -1)).transpose(1, 2)


def gflop(module: nn.Module, image: Tensor) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(image)
    return counter.get_total_flops() / 1e9


def run_of(module: nn.Module, image: Tensor, path: Path, device: Any, threads: int) -> Callable[[], NDArray]:
    """Runs the exported module on the image."""
    torch.onnx.export(
        module, (image,), str(path), input_names=["image"], output_names=["heads"], opset_version=OPSET, dynamo=True,
        external_data=False, verbose=False,
    )  # fmt: skip
    session: Session = open_session(path, device, threads)
    return lambda: session.run({"image": image.numpy()})["heads"]


def measure_heads(config: NetworkConfig, device: Any, threads: int, count: int) -> dict[str, float]:
    torch.manual_seed(0)
    detector = Time3D(config).detector.eval()
    image = torch.rand(1, 3, config.height, config.width) * 255
    modules = (SparseHeads(detector).eval(), DenseHeads(detector).eval())
    with tempfile.TemporaryDirectory() as folder:
        runs = [run_of(m, image, Path(folder) / f"{i}.onnx", device, threads) for i, m in enumerate(modules)]
        outputs = [run() for run in runs]
        times: list[list[float]] = [[], []]
        for _ in range(count):
            for run, taken in zip(runs, times, strict=True):
                begin = time.perf_counter()
                run()
                taken.append(1e3 * (time.perf_counter() - begin))
    sparse, dense = (float(np.median(t)) for t in times)
    operations = [gflop(m, image) for m in modules]
    return {
        "sparse_ms": sparse, "dense_ms": dense, "ratio": sparse / dense,
        "sparse_gflop": operations[0], "dense_gflop": operations[1], "gflop_ratio": operations[0] / operations[1],
        "largest_difference": float(np.abs(outputs[0] - outputs[1]).max()),
    }  # fmt: skip


def pictures() -> list[Frame]:
    return list(islice(open_source(f"drive:{SEED}?frames=24&frame_rate=10"), 24))


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL, help="exported Time3D (default: the demo's)")
    parser.add_argument("--config", type=Path, help="sizes of a training configuration, random weights")
    parser.add_argument("--paper", action="store_true", help="the paper's sizes, random weights")
    parser.add_argument("--frames", type=int, default=60, help="that are counted (default: %(default)s)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="of the runtime; 0 is its own choice")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = read_config(arguments.config or ROOT / "config" / "time3d_demo.yaml").network
        config, path = NetworkConfig() if arguments.paper else config, arguments.model
        if arguments.paper or arguments.config:
            path = Path(folder) / "random.onnx"
            torch.manual_seed(0)
            export(Time3D(config).eval(), path)
        model = TimedModel(path, arguments.device, arguments.threads)
        stages = measure_stages(model, pictures(), arguments.frames)
    heads = measure_heads(config, arguments.device, arguments.threads, max(arguments.frames // 2, 3))
    percentiles = {name: np.percentile(values, (50, 99)).tolist() for name, values in stages.items()}
    rate = 1e3 / float(np.mean(stages["frame"]))
    if arguments.json:
        print(json.dumps({"stages_ms": percentiles, "frames_per_second": rate, "heads": heads}))
        return
    size = f"{model.width}x{model.height}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    table = Table("stage", "p50 (ms)", "p99 (ms)", title=f"{path.name}, {size}: {rate:.1f} frames/s")
    for name, (middle, high) in percentiles.items():
        table.add_row(name, f"{middle:.2f}", f"{high:.2f}")
    Console().print(table)
    table = Table("heads", "ms", "GFLOP", title=f"detector at {config.width}x{config.height}, {config.slots} peaks")
    for name in ("sparse", "dense"):
        table.add_row(name, f"{heads[f'{name}_ms']:.1f}", f"{heads[f'{name}_gflop']:.2f}")
    table.add_row("sparse / dense", f"{heads['ratio']:.2f}", f"{heads['gflop_ratio']:.2f}", style="bold")
    table.caption = f"largest difference of a value {heads['largest_difference']:.1e}"
    Console().print(table)


if __name__ == "__main__":
    sys.exit(head.ran(main))
