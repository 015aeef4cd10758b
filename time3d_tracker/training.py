"""Training of Time3D (paper Sec. 3.4 and 4.2), end to end or separately, on short clips.

The run itself (schedule, checkpoints, several processes) is `camtrack_core.training.run`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from camtrack_core.errors import ModelError
from camtrack_core.geometry.boxes import Floats
from camtrack_core.training.run import Run, read_checkpoint, read_network, trained_weights
from camtrack_core.training.shards import batches
from time3d_tracker.clips import Clip
from time3d_tracker.config import NetworkConfig, TrainingConfig
from time3d_tracker.loader import ClipSamples
from time3d_tracker.network import Time3D
from time3d_tracker.training_step import TrainingStep

PARTS = ("loss", "heatmap", "box2d", "keypoints", "dimensions", "orientation", "facing", "position", "depth",
         "deviation", "reid", "tracking", "consistency", "velocity", "attributes")  # fmt: skip


def train(
    folder: Path,
    clips: list[Clip],
    weights: Floats,
    network: NetworkConfig,
    training: TrainingConfig,
    pretrained: Path | None,
) -> Time3D:
    """Trains, or goes on training, in `folder`; returns the network with the averaged weights, in evaluation mode.

    Args:
        clips: labelled sequences, drawn with probability proportional to `weights` (len(clips),) and class balance.
        pretrained: weights to start from, see `load_pretrained`; None starts from random.

    Raises:
        ModelError: the folder's checkpoint belongs to another network, or `pretrained` does not fit.
    """
    torch.manual_seed(training.seed)
    model = Time3D(network)
    if pretrained is not None:
        load_pretrained(model, pretrained)
    return train_model(folder, model, clips, weights, training)


def train_model(folder: Path, model: Time3D, clips: list[Clip], weights: Floats, training: TrainingConfig) -> Time3D:
    """`train` of a network with the weights that it has."""
    run = Run(folder, model, model.detector.features.backbone, model.config, training, training.steps, PARTS)
    samples = ClipSamples(clips, weights, model.config, training)
    source = batches(samples, training.batch_size, run.step, run.rank, run.world, training.workers)
    run.optimise(run.distribute(TrainingStep(model, training)), source, training.steps)
    run.finish()
    return model


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
        own = backbone.state_dict()
        found = _part(path, "backbone.")
        if {k: v.shape for k, v in found.items()} != {k: v.shape for k, v in own.items()}:
            raise ModelError(f"{path}: expected a GCNet with the same backbone, got another")
        backbone.load_state_dict(found)


def _part(checkpoint: Path, prefix: str) -> dict[str, Tensor]:
    """The weights of a checkpoint under one name, without it. Raises ModelError for another kind of file."""
    weights = trained_weights(checkpoint, read_checkpoint(checkpoint))
    return {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}


def load_network(checkpoint: Path) -> Time3D:
    """The network of a checkpoint, in evaluation mode. Raises ModelError for another kind of file."""
    return read_network(checkpoint, Time3D, NetworkConfig, "Time3D")
