"""Training of Time3D (paper Sec. 3.4 and 4.2), end to end or separately, on short clips.

One process by default; under `torchrun` the same command trains on several GPUs and machines. The run's folder holds
the checkpoint (a later start goes on from it), `losses.csv` and `curves.png`, and in the end `weights.pt`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from camtrack_core.errors import ModelError
from camtrack_core.geometry.boxes import Floats
from gcnet_tracker.training import (
    GRADIENT_LIMIT,
    PRECISIONS,
    _join,
    _local_rank,
    _progress,
    cut_log,
    read_checkpoint,
    restore,
    schedule,
)
from gcnet_tracker.training import load_network as load_gcnet
from time3d_tracker.clips import Clip
from time3d_tracker.config import NetworkConfig, TrainingConfig
from time3d_tracker.loader import ClipSamples, batches
from time3d_tracker.network import Time3D
from time3d_tracker.training_step import TrainingStep

PARTS = ("loss", "heatmap", "box2d", "keypoints", "dimensions", "orientation", "position", "depth", "spread", "reid",
         "tracking", "consistency", "refined", "velocity", "attributes")  # fmt: skip


class Run:
    """State of one training: model, optimiser, step, and the folder it is kept in."""

    def __init__(self, folder: Path, network: NetworkConfig, training: TrainingConfig, pretrained: Path | None):
        self.folder, self.network, self.training = folder, network, training
        self.rank, self.world = _join()
        self.device = torch.device("cuda", _local_rank()) if torch.cuda.is_available() else torch.device("cpu")
        torch.manual_seed(training.seed)
        model = Time3D(network)
        backbone = model.detector.features.backbone
        if pretrained is not None:
            load_pretrained(model, pretrained)
        frozen: dict[str, tuple[str, ...]] = {"none": (), "early": backbone.early, "all": ("",)}
        for name in frozen[training.frozen]:
            backbone.get_submodule(name).requires_grad_(False)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        own = {id(p) for p in backbone.parameters()}
        rest = [p for p in self.model.parameters() if id(p) not in own]
        self.optimiser = torch.optim.Adam([{"params": list(backbone.parameters())}, {"params": rest}])
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

    def save_weights(self) -> None:
        """Writes weights.pt, a third of the checkpoint: what export and fine-tuning need."""
        torch.save({"network": self.network.model_dump(), "model": self.model.state_dict()}, self.folder / "weights.pt")

    def set_rate(self) -> None:
        rate = self.training.learning_rate * schedule(self.step, self.training.steps)
        self.optimiser.param_groups[0]["lr"] = rate * self.training.backbone_rate
        self.optimiser.param_groups[1]["lr"] = rate


def train(
    folder: Path,
    clips: list[Clip],
    weights: Floats,
    network: NetworkConfig,
    training: TrainingConfig,
    pretrained: Path | None,
) -> Time3D:
    """Trains, or goes on training, in `folder`; returns the network in evaluation mode.

    Args:
        clips: labelled sequences, drawn with probability proportional to `weights` (len(clips),) and class balance.
        pretrained: weights to start from, see `load_pretrained`; None starts from random.

    Raises:
        ModelError: the folder's checkpoint belongs to another network, or `pretrained` does not fit.
    """
    run = Run(folder, network, training, pretrained)
    module: nn.Module = TrainingStep(run.model, training)
    if run.world > 1:
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module) if run.device.type == "cuda" else module
        module = nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)
    samples = ClipSamples(clips, weights, network, training)
    source = batches(samples, training.batch_size, run.step, run.rank, run.world, training.workers)
    with _progress(run.rank) as progress:
        task = progress.add_task("training", total=training.steps, completed=run.step, parts="")
        for parts in _steps(run, module, source):
            shown = " ".join(f"{name} {parts[name]:.3f}" for name in ("loss", "heatmap", "position", "tracking"))
            progress.update(task, completed=run.step, parts=shown)
            if run.rank == 0:
                _log(run, parts)
    if run.rank == 0:
        run.save()
        run.save_weights()
        plot_curves(folder)
    return run.model.eval()


def _steps(run: Run, module: nn.Module, source: Iterator[dict[str, Tensor]]) -> Iterator[dict[str, float]]:
    """Optimises until the last step; yields the loss parts of each. A step whose loss is not finite is left out."""
    precision = PRECISIONS[run.training.precision]
    module.train()
    while run.step < run.training.steps:
        batch = {k: v.to(run.device, non_blocking=True) for k, v in next(source).items()}
        run.set_rate()
        with torch.autocast(run.device.type, precision, enabled=precision is not torch.float32):
            parts = module(batch)
        run.optimiser.zero_grad(set_to_none=True)
        parts["loss"].backward()
        norm = nn.utils.clip_grad_norm_(run.model.parameters(), GRADIENT_LIMIT)
        if torch.isfinite(norm):
            run.optimiser.step()
        run.step += 1
        if run.rank == 0 and run.step % run.training.checkpoint_every == 0:
            run.save()
        yield {name: float(part.detach()) for name, part in parts.items()}


def load_pretrained(model: Time3D, path: Path) -> None:
    """Weights of a Time3D checkpoint with the same layers and classes, all of them, or else those of the backbone.

    What has no part in the weights, like the input's size, may differ. Raises ModelError where they are another
    network's.
    """
    if path.suffix != ".pt" or "temporal_layers" not in read_checkpoint(path)["network"]:
        load_backbone(model.detector.features.backbone, path)
        return
    found = load_network(path)
    if found.config.class_names != model.config.class_names:
        expected, got = ", ".join(model.config.class_names), ", ".join(found.config.class_names)
        raise ModelError(f"{path}: expected the classes {expected}, got {got}")
    try:
        model.load_state_dict(found.state_dict())
    except RuntimeError as error:
        raise ModelError(f"{path}: expected a Time3D with the same layers, got {found.config}") from error


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Weights as the backbone's own `load` takes them, or those of a GCNet checkpoint (.pt) with the same backbone.

    Raises ModelError where they are another network's.
    """
    with torch.no_grad():
        if path.suffix != ".pt":
            backbone.load(path)  # type: ignore[operator]
            return
        found = load_gcnet(path).backbone.state_dict()
        own = backbone.state_dict()
        if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in own.items()}:
            raise ModelError(f"{path}: expected a GCNet with the same backbone, got another")
        backbone.load_state_dict(found)


def load_network(checkpoint: Path) -> Time3D:
    """The network of a checkpoint, in evaluation mode. Raises ModelError for another kind of file."""
    state = read_checkpoint(checkpoint)
    try:
        model = Time3D(NetworkConfig(**state["network"]))
        model.load_state_dict(state["model"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{checkpoint}: expected a Time3D checkpoint, got {error}") from error
    return model.eval()


def _log(run: Run, parts: dict[str, float]) -> None:
    path = run.folder / "losses.csv"
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", *PARTS])
        writer.writerow([run.step, *(f"{parts[name]:.5f}" for name in PARTS)])


def plot_curves(folder: Path) -> None:
    """Draws losses.csv as curves.png, each part smoothed over a fiftieth of the run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = np.atleast_1d(np.genfromtxt(folder / "losses.csv", delimiter=",", names=True))
    figure, axes = pyplot.subplots(figsize=(9, 6))
    window = max(len(rows) // 50, 1)
    for name in PARTS[1:]:
        smooth = np.convolve(rows[name], np.ones(window) / window, "valid")
        axes.plot(rows["step"][window - 1 :], smooth, label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="symlog", title="Time3D training")
    axes.legend(ncols=2)
    figure.savefig(folder / "curves.png", dpi=120, bbox_inches="tight")
    pyplot.close(figure)
