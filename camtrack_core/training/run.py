"""The run of a training: optimise, average, log, save, and go on where it stopped. Both networks train by it.

One process by default; under `torchrun` the same command trains on several GPUs and machines. A run's folder holds
`checkpoint.pt` (a later start goes on from it), `losses.csv` and `curves.png`, and in the end `weights.pt`, the moving
average of the weights, which is what export and fine-tuning take.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, distributed, nn

from camtrack_core.config import Parameters
from camtrack_core.errors import ModelError
from camtrack_core.files import whole, write_whole
from camtrack_core.networks.backbone_base import Backbone
from camtrack_core.networks.dla import DLA34
from camtrack_core.networks.weights import M, read_torch, sizes, tensors, with_weights
from camtrack_core.runtime.manifest import check_model
from camtrack_core.training.config import TrainingParameters

C = TypeVar("C", bound=Parameters)
GRADIENT_LIMIT = 10.0  # norm
PATIENCE = 50  # steps in a row whose gradients are not finite before a run gives up


class Run:
    """State of one training: model, moving average, optimiser, step, and the folder they are kept in.

    Attributes:
        model: being trained.
        average: the moving average of the model's state, by name.
        step: steps done.
        rank, world: this process and how many there are.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        backbone: Backbone | DLA34,
        network: Parameters,
        training: TrainingParameters,
        steps: int,
        parts: tuple[str, ...],
    ) -> None:
        """Starts a run or, where the folder has a checkpoint, goes on with it.

        Args:
            model: on the CPU, with the weights to start from.
            backbone: the model's, whose rate is its own and whose stages may be frozen.
            network: what the checkpoint states about the model.
            steps: of the whole run.
            parts: names of the loss parts, columns of losses.csv.

        Raises:
            ModelError: the folder's checkpoint is of another network, or is none.
        """
        self.folder, self.network, self.training, self.steps, self.parts = folder, network, training, steps, parts
        self.rank, self.world = _join()
        self.device = torch.device("cuda", _local_rank()) if torch.cuda.is_available() else torch.device("cpu")
        self._backbone = backbone
        for module in frozen(backbone, training.frozen):
            module.requires_grad_(False)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(parameter_groups(self.model, backbone, training))
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._resume()
        if self.rank == 0:
            cut_log(folder / "losses.csv", self.step, parts)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def distribute(self, module: nn.Module) -> nn.Module:
        """A module around the model as this process trains it: by itself, or with those of the other processes."""
        if self.world == 1:
            return module
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module) if self.device.type == "cuda" else module
        return nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)

    def optimise(self, module: nn.Module, source: Iterator[dict[str, Tensor]], end: int) -> None:
        """Trains until step `end`.

        A step whose gradients or statistics are not finite is left out: neither weights nor statistics keep anything
        of it.

        Args:
            module: as `distribute` gives it; maps a batch to its loss parts, "loss" being their sum.
            source: batches, the first one for the present step.

        Raises:
            ModelError: PATIENCE steps in a row were left out.
        """
        precision = autocast_precision(self.training.precision, self.device)
        left_out = 0
        module.train()
        for still in frozen(self._backbone, self.training.frozen):
            still.eval()
        with progress(self.rank) as bar:
            task = bar.add_task("training", total=self.steps, completed=self.step, parts="")
            while self.step < end:
                batch = {name: x.to(self.device, non_blocking=True) for name, x in next(source).items()}
                statistics = [buffer.clone() for buffer in self.model.buffers()]
                with torch.autocast(self.device.type, precision, enabled=precision is not torch.float32):
                    parts = module(batch)
                self.optimiser.zero_grad(set_to_none=True)
                (parts["loss"] * _finite(self.model.buffers())).backward()
                if torch.isfinite(nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_LIMIT)):
                    self._set_rate()
                    self.optimiser.step()
                    self._average()
                    left_out = 0
                else:
                    for buffer, before in zip(self.model.buffers(), statistics, strict=True):
                        buffer.copy_(before)
                    left_out += 1
                self.step += 1
                self._record({name: float(part.detach()) for name, part in parts.items()}, bar, task)
                if left_out == PATIENCE:
                    raise ModelError(
                        f"{self.folder}: expected finite gradients, got none in {PATIENCE} steps; lower learning_rate"
                    )

    def finish(self) -> nn.Module:
        """Saves the run; returns the model with the averaged weights, in evaluation mode."""
        if self.rank == 0:
            self.save()
            plot_curves(self.folder, self.parts)
        self.model.load_state_dict(self.average)
        if self.rank == 0:
            write_state(self.folder / "weights.pt", {"network": self.network.model_dump(), "model": self.average})
        return self.model.eval()

    def save(self) -> None:
        state = {
            "network": self.network.model_dump(),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        write_state(self.checkpoint, state)

    def _resume(self) -> None:
        path, state = self.checkpoint, read_checkpoint(self.checkpoint, self.device)
        try:
            if type(self.network)(**state["network"]) != self.network:
                raise ValueError("another one")
        except (TypeError, ValueError) as error:
            raise ModelError(f"{path}: expected the network {self.network}, got {state['network']}") from error
        try:
            self.model.load_state_dict(state["model"])
            average = tensors(path, state["average"], "a checkpoint of this training")
            if sizes(average) != sizes(self.average):
                raise ValueError("another network's average")
            self.average = {name: x.to(self.average[name].dtype) for name, x in average.items()}
            if "optimiser" in state:  # a reduced checkpoint has none: its moments are gathered anew
                self.optimiser.load_state_dict(state["optimiser"])
            self.step = int(state["step"])
        except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: expected a checkpoint of this training, got {error}") from error

    def _set_rate(self) -> None:
        rate = self.training.learning_rate * schedule(self.step, self.steps, self.training.warm_up)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]

    @torch.no_grad()
    def _average(self) -> None:
        """The first steps count less: an average over ten steps of what it has seen so far."""
        decay = min(self.training.averaging, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def _record(self, parts: dict[str, float], bar: Progress, task: Any) -> None:
        if self.rank != 0:
            return
        bar.update(task, completed=self.step, parts=" ".join(f"{k} {v:.3f}" for k, v in list(parts.items())[-4:]))
        append_log(self.folder / "losses.csv", self.step, self.parts, parts)
        if self.step % self.training.checkpoint_every == 0:
            self.save()


# ------------------------------------------------------------------------------------------------ optimisation


def schedule(step: int, steps: int, warm_up: int) -> float:
    """Share of the peak learning rate: linear warm-up, then one cosine to zero."""
    warm_up = min(warm_up, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + float(np.cos(np.pi * (step - warm_up) / max(steps - warm_up, 1))))


def frozen(backbone: Backbone | DLA34, stages: str) -> list[nn.Module]:
    """The modules of the backbone that "none", "early" or "all" leaves as they are."""
    names: dict[str, tuple[str, ...]] = {"none": (), "early": backbone.early, "all": ("",)}
    return [backbone.get_submodule(name) for name in names[stages]]


def _finite(statistics: Iterable[Tensor]) -> Tensor | float:
    """1 where all numbers are finite, else NaN; times the loss it reaches every process, by the gradients."""
    return sum((0.0 * x.sum() for x in statistics), 1.0)


def parameter_groups(model: nn.Module, backbone: nn.Module, training: TrainingParameters) -> list[dict[str, Any]]:
    """Parameters by their share of the learning rate and by weight decay, which biases and normalisations have not."""
    own = {id(parameter) for parameter in backbone.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        share = training.backbone_rate if id(parameter) in own else 1.0
        decay = training.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(parameter)
    return [{"params": x, "share": share, "weight_decay": decay} for (share, decay), x in groups.items()]


def autocast_precision(precision: str, device: torch.device) -> torch.dtype:
    """The type of products and convolutions; "auto" takes bfloat16 where the hardware computes with it."""
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if _processor_has_bfloat16() else torch.float32


def _processor_has_bfloat16() -> bool:
    cpu_information = Path("/proc/cpuinfo")
    flags = cpu_information.read_text().split() if cpu_information.exists() else []
    return bool({"avx512_bf16", "amx_bf16", "bf16"}.intersection(flags))


# ------------------------------------------------------------------------------------------------- checkpoints


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Writes a file of torch, complete or not at all."""
    with whole(path) as partial:
        torch.save(state, partial)


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a training has saved, whichever network's. Raises ModelError for another kind of file.

    Also for one that is not what a manifest beside it states.
    """
    check_model(path)
    state = read_torch(path, "a checkpoint", device)
    if not isinstance(state, dict) or not isinstance(state.get("network"), dict):
        raise ModelError(f"{path}: expected a checkpoint, got {type(state).__name__} without a network")
    return state


def trained_weights(path: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    """The weights to use of a checkpoint's content: the moving average, of weights.pt the only ones there are.

    Raises ModelError where there are none.
    """
    return tensors(path, state.get("average", state.get("model")), "a checkpoint")


def read_network(checkpoint: Path, network: Callable[[C], M], config: Callable[..., C], name: str) -> M:
    """The network of a checkpoint, in evaluation mode. Raises ModelError for another kind of file.

    Args:
        network: makes it of its configuration, and `config` that of the values in the checkpoint.
        name: of the network, for the sentence.
    """
    state = read_checkpoint(checkpoint)
    try:
        stated = config(**state["network"])
        model = with_weights(lambda: network(stated), trained_weights(checkpoint, state))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{checkpoint}: expected a {name} checkpoint, got {error}") from error
    return model.eval()


def reduce_checkpoint(checkpoint: Path, out: Path) -> None:
    """Writes a checkpoint without the optimiser's moments and with weights in half precision, a sixth of its size.

    A run goes on from it as from the whole one, the moments being gathered anew. Statistics keep their precision, since
    variances may be beyond the range of half precision. Raises ModelError for another kind of file.
    """
    state, expected = read_checkpoint(checkpoint), "a checkpoint of a run"
    if not isinstance(state.get("step"), int):
        raise ModelError(f"{checkpoint}: expected {expected}, got one without 'step'")
    parts = {part: tensors(checkpoint, state.get(part), expected) for part in ("model", "average")}
    reduced = {part: {name: _halved(name, x) for name, x in found.items()} for part, found in parts.items()}
    write_state(out, {"network": state["network"], **reduced, "step": state["step"]})


def _halved(name: str, value: Tensor) -> Tensor:
    return value if name.endswith(("running_mean", "running_var")) or value.dtype != torch.float32 else value.half()


# ------------------------------------------------------------------------------------------------- log


def append_log(path: Path, step: int, names: tuple[str, ...], parts: dict[str, float]) -> None:
    """One row of losses.csv; a part that a step has not stays empty."""
    with open(path, "a", newline="") as file:
        csv.writer(file).writerow([step, *(f"{parts[name]:.5f}" if name in parts else "" for name in names)])


def cut_log(path: Path, step: int, names: tuple[str, ...]) -> None:
    """Makes a losses.csv, or leaves out its rows after a step: a run that was interrupted writes them again.

    An interrupted row at the end goes as well.
    """
    lines = path.read_bytes().decode().splitlines(keepends=True) if path.exists() else []
    kept = [row for row in lines[1:] if row.endswith("\n") and int(row.split(",")[0]) <= step]
    write_whole(path, f"{','.join(['step', *names])}\r\n{''.join(kept)}")


def plot_curves(folder: Path, names: tuple[str, ...]) -> None:
    """Draws losses.csv as curves.png, each part smoothed over a fiftieth of the run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = np.atleast_1d(np.genfromtxt(folder / "losses.csv", delimiter=",", names=True))
    figure, axes = pyplot.subplots(figsize=(9, 6))
    window = max(len(rows) // 50, 1)
    for name in names:
        known = rows[np.isfinite(rows[name])]
        if len(known) >= window:
            smooth = np.convolve(known[name], np.ones(window) / window, "valid")
            axes.plot(known["step"][window - 1 :], smooth, label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="symlog", title=folder.name)
    axes.legend(ncols=2)
    with whole(folder / "curves.png") as partial:
        figure.savefig(partial, format="png", dpi=120, bbox_inches="tight")
    pyplot.close(figure)


# ------------------------------------------------------------------------------------------------- processes


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


def _join() -> tuple[int, int]:
    """Rank and number of processes; joins the group that torchrun made, if it did."""
    if not distributed.is_torchelastic_launched():
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return distributed.get_rank(), distributed.get_world_size()


def progress(rank: int) -> Progress:
    """The bar of a run, on standard error; only the first of several processes shows one."""
    return Progress(
        TextColumn("{task.description} {task.completed}/{task.total}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[parts]}"),
        console=Console(stderr=True),
        disable=rank != 0,
    )
