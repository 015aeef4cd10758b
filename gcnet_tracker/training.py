"""Training of GCNet in two stages (paper Sec. 3.2): detection alone, then detection and tracking on pairs of frames.

One process by default; under `torchrun` the same command trains on several GPUs and machines. The run's folder holds
the checkpoint (a later start goes on from it), `losses.csv` and `curves.png`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, distributed, nn

from camtrack_core.config import Parameters
from camtrack_core.errors import ModelError
from camtrack_core.geometry.boxes import Floats
from gcnet_tracker import losses
from gcnet_tracker.clips import Clip
from gcnet_tracker.config import NetworkConfig, TrainingConfig
from gcnet_tracker.loader import ClipSamples, batches
from gcnet_tracker.network import FrameFeatures, GCNet, to_xyxy

WARM_UP = 100  # steps, at most a tenth of the stage
GRADIENT_LIMIT = 10.0  # norm
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TrainingStep(nn.Module):
    """The loss of Eq. 12 as one module, so that distributed training wraps one forward."""

    def __init__(self, network: GCNet, box_weight: float) -> None:
        super().__init__()
        self.network, self.box_weight = network, box_weight
        self.aspect = network.config.height / network.config.width

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss parts of a batch as `loader.ClipSamples` makes it: frames (B, 1 or 2, ...)."""
        frames = batch["image"].shape[1]
        network = self.network
        images = batch["image"].flatten(0, 1).to(memory_format=torch.channels_last)
        features = network(images.float())
        queries, values = features.queries.flatten(2), features.values.flatten(2)
        detected = network.describe(features.summary, queries, values)
        objects = batch["objects"].sum().clamp(min=1)

        parts = {"heatmap": self._heatmap(features, batch) / objects}
        if frames == 1:
            boxes = to_xyxy(network.boxes(detected))
            parts["box"] = self._boxes(boxes, batch, "owner", batch["truth"].flatten(0, 1)) / objects
            return parts | {"loss": parts["heatmap"] + self.box_weight * parts["box"]}

        # the past frame's [Q, V] ask the current frame's M
        tracked = network.describe(features.summary[1::2], queries[0::2], values[0::2])
        boxes = to_xyxy(network.boxes(torch.cat([detected, tracked])))
        split = len(detected)
        parts["box"] = self._boxes(boxes[:split], batch, "owner", batch["truth"].flatten(0, 1)) / objects
        parts["track_box"] = 2 * self._boxes(boxes[split:], batch, "track_owner", batch["truth"][:, 1]) / objects
        confidence = network.confidence(tracked)
        target, counted = batch["track_confidence"].flatten(1), batch["track_counted"].flatten(1)
        # positives are cells here, not objects
        parts["confidence"] = losses.focal_loss(confidence.float(), target, counted) / target.sum().clamp(min=1)
        loss = parts["heatmap"] + parts["confidence"]
        return parts | {"loss": loss + self.box_weight * (parts["box"] + parts["track_box"])}

    @staticmethod
    def _heatmap(features: FrameFeatures, batch: dict[str, Tensor]) -> Tensor:
        counted = batch["counted"].flatten(0, 1)[:, None]
        return losses.focal_loss(features.heatmap.float(), batch["heatmap"].flatten(0, 1), counted)

    def _boxes(self, boxes: Tensor, batch: dict[str, Tensor], owner: str, truth: Tensor) -> Tensor:
        owners = batch[owner].reshape(len(boxes), -1)
        weight = (batch["weight"] if owner == "owner" else batch["weight"][:, 0]).reshape(len(boxes), -1)
        return losses.box_loss(boxes, truth, owners, weight, self.aspect)


def schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine to zero."""
    warm_up = min(WARM_UP, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + float(np.cos(np.pi * (step - warm_up) / max(steps - warm_up, 1))))


class Run:
    """State of one training: model, optimiser, step, and the folder it is kept in."""

    def __init__(self, folder: Path, network: NetworkConfig, training: TrainingConfig, pretrained: Path | None):
        self.folder, self.network, self.training = folder, network, training
        self.rank, self.world = _join()
        self.device = torch.device("cuda", _local_rank()) if torch.cuda.is_available() else torch.device("cpu")
        torch.manual_seed(training.seed)
        model = GCNet(network)
        if pretrained is not None:
            model.backbone.load(pretrained)
        frozen: dict[str, tuple[str, ...]] = {"none": (), "early": model.backbone.early, "all": ("",)}
        for name in frozen[training.frozen]:
            model.backbone.get_submodule(name).requires_grad_(False)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        backbone = list(self.model.backbone.parameters())
        rest = [p for n, p in self.model.named_parameters() if not n.startswith("backbone.")]
        self.optimiser = torch.optim.Adam([{"params": backbone}, {"params": rest}])
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._resume()
        if self.rank == 0:
            cut_log(folder / "losses.csv", self.step)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _resume(self) -> None:
        state = read_checkpoint(self.checkpoint, self.device)
        self.step = restore(self.checkpoint, state, self.network, self.model, self.optimiser)

    def save(self) -> None:
        """Writes the checkpoint, complete or not at all."""
        state = {
            "network": self.network.model_dump(),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        temporary = self.checkpoint.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def set_rate(self) -> None:
        done, steps = _stage_position(self.step, self.training)
        rate = self.training.learning_rate * schedule(done, steps)
        self.optimiser.param_groups[0]["lr"] = rate * self.training.backbone_rate
        self.optimiser.param_groups[1]["lr"] = rate


def train(
    folder: Path,
    clips: list[Clip],
    weights: Floats,
    network: NetworkConfig,
    training: TrainingConfig,
    pretrained: Path | None,
) -> GCNet:
    """Trains, or goes on training, in `folder`; returns the network in evaluation mode.

    Args:
        clips: labelled sequences, drawn with probability proportional to `weights` (len(clips),).
        pretrained: weights of the backbone, as its `load` takes them; None starts from random.

    Raises:
        ModelError: the folder's checkpoint belongs to another network, or `pretrained` does not fit.
    """
    run = Run(folder, network, training, pretrained)
    module: nn.Module = TrainingStep(run.model, training.box_weight)
    if run.world > 1:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module) if run.device.type == "cuda" else module
        module = nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)
    total = training.detection_steps + training.tracking_steps
    with _progress(run.rank) as progress:
        task = progress.add_task("training", total=total, completed=run.step, parts="")
        for frames, end in ((1, training.detection_steps), (2, total)):
            if run.step >= end:
                continue
            samples = ClipSamples(clips, weights, network, frames, training.max_gap, training.seed)
            source = batches(samples, training.batch_size // frames, run.step, run.rank, run.world, training.workers)
            for parts in _steps(run, module, source, end):
                progress.update(task, completed=run.step, parts=" ".join(f"{k} {v:.3f}" for k, v in parts.items()))
                if run.rank == 0:
                    _log(run, frames, parts)
    if run.rank == 0:
        run.save()
        plot_curves(folder)
    return run.model.eval()


def _steps(run: Run, module: nn.Module, source: Iterator[dict[str, Tensor]], end: int) -> Iterator[dict[str, float]]:
    """Optimises until step `end`; yields the loss parts of each step."""
    precision = PRECISIONS[run.training.precision]
    module.train()
    while run.step < end:
        batch = {k: v.to(run.device, non_blocking=True) for k, v in next(source).items()}
        run.set_rate()
        with torch.autocast(run.device.type, precision, enabled=precision is not torch.float32):
            parts = module(batch)
        run.optimiser.zero_grad(set_to_none=True)
        parts["loss"].backward()
        nn.utils.clip_grad_norm_(run.model.parameters(), GRADIENT_LIMIT)
        run.optimiser.step()
        run.step += 1
        if run.rank == 0 and run.step % run.training.checkpoint_every == 0:
            run.save()
        yield {name: float(part.detach()) for name, part in parts.items()}


def load_network(checkpoint: Path) -> GCNet:
    """The network of a checkpoint, in evaluation mode. Raises ModelError for another kind of file."""
    state = read_checkpoint(checkpoint)
    try:
        model = GCNet(NetworkConfig(**state["network"]))
        model.load_state_dict(state["model"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{checkpoint}: expected a GCNet checkpoint, got {error}") from error
    return model.eval()


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a training has saved, whichever tracker's. Raises ModelError for another kind of file."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # of broken files torch raises what its unpickling happens to: a dozen kinds
        raise ModelError(f"{path}: expected a checkpoint, got {type(error).__name__}: {error}") from error
    if not isinstance(state, dict) or not isinstance(state.get("network"), dict):
        raise ModelError(f"{path}: expected a checkpoint, got {type(state).__name__} without a network")
    return state


def restore(
    path: Path, state: dict[str, Any], network: Parameters, model: nn.Module, optimiser: torch.optim.Optimizer
) -> int:
    """Puts the state of a checkpoint into a model and its optimiser; returns its step.

    Raises ModelError where the state is of another network or lacks anything.
    """
    try:
        if type(network)(**state["network"]) != network:
            raise ValueError("another one")
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: expected the network {network}, got {state['network']}") from error
    try:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: expected a checkpoint of this training, got {error}") from error


def cut_log(path: Path, step: int) -> None:
    """Leaves out the rows of a losses.csv after a step: a run that was interrupted goes on there and writes them again.

    An interrupted row at the end goes as well.
    """
    if not path.exists():
        return
    with open(path, newline="") as file:
        header, *rows = [*file.read().splitlines(keepends=True), ""]
    kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= step]
    temporary = path.with_suffix(".part")
    temporary.write_text(header + "".join(kept), newline="")
    temporary.replace(path)


def _stage_position(step: int, training: TrainingConfig) -> tuple[int, int]:
    """Steps done in the current stage, and the stage's length."""
    if step < training.detection_steps:
        return step, training.detection_steps
    return step - training.detection_steps, training.tracking_steps


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


def _join() -> tuple[int, int]:
    """Rank and number of processes; joins the group that torchrun made, if it did."""
    if not distributed.is_torchelastic_launched():
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return distributed.get_rank(), distributed.get_world_size()


def _progress(rank: int) -> Progress:
    return Progress(
        TextColumn("{task.description} {task.completed}/{task.total}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[parts]}"),
        console=Console(stderr=True),
        disable=rank != 0,
    )


def _log(run: Run, stage: int, parts: dict[str, float]) -> None:
    path = run.folder / "losses.csv"
    names = ["heatmap", "box", "track_box", "confidence", "loss"]
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "stage", *names])
        writer.writerow([run.step, stage, *(f"{parts[n]:.5f}" if n in parts else "" for n in names)])


def plot_curves(folder: Path) -> None:
    """Draws losses.csv as curves.png, each part smoothed over a fiftieth of the run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with open(folder / "losses.csv", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    figure, axes = pyplot.subplots(figsize=(9, 5))
    window = max(len(rows) // 50, 1)
    for name in ("heatmap", "box", "track_box", "confidence"):
        points = np.array([[int(r["step"]), float(r[name])] for r in rows if r[name]])
        if len(points) >= window:
            smooth = np.convolve(points[:, 1], np.ones(window) / window, "valid")
            axes.plot(points[window - 1 :, 0], smooth, label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title="GCNet training")
    axes.legend()
    figure.savefig(folder / "curves.png", dpi=120, bbox_inches="tight")
    pyplot.close(figure)
