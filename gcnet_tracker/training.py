"""Training of GCNet in two stages (paper Sec. 3.2): detection alone, then detection and tracking on pairs of frames.

The run itself (schedule, checkpoints, several processes) is `camtrack_core.training.run`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from camtrack_core.errors import ModelError
from camtrack_core.geometry.boxes import Floats
from camtrack_core.networks.heatmap import focal_loss
from camtrack_core.training.run import Run, read_checkpoint, trained_weights
from camtrack_core.training.shards import batches
from gcnet_tracker import losses
from gcnet_tracker.clips import Clip
from gcnet_tracker.config import NetworkConfig, TrainingConfig
from gcnet_tracker.loader import ClipSamples
from gcnet_tracker.network import FrameFeatures, GCNet, to_xyxy

PARTS = ("heatmap", "box", "track_box", "confidence", "loss")


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
        parts["confidence"] = focal_loss(confidence.float(), target, counted) / target.sum().clamp(min=1)
        loss = parts["heatmap"] + parts["confidence"]
        return parts | {"loss": loss + self.box_weight * (parts["box"] + parts["track_box"])}

    @staticmethod
    def _heatmap(features: FrameFeatures, batch: dict[str, Tensor]) -> Tensor:
        counted = batch["counted"].flatten(0, 1)[:, None]
        return focal_loss(features.heatmap.float(), batch["heatmap"].flatten(0, 1), counted)

    def _boxes(self, boxes: Tensor, batch: dict[str, Tensor], owner: str, truth: Tensor) -> Tensor:
        owners = batch[owner].reshape(len(boxes), -1)
        weight = (batch["weight"] if owner == "owner" else batch["weight"][:, 0]).reshape(len(boxes), -1)
        return losses.box_loss(boxes, truth, owners, weight, self.aspect)


def train(
    folder: Path,
    clips: list[Clip],
    weights: Floats,
    network: NetworkConfig,
    training: TrainingConfig,
    pretrained: Path | None,
) -> GCNet:
    """Trains, or goes on training, in `folder`; returns the network with the averaged weights, in evaluation mode.

    Args:
        clips: labelled sequences, drawn with probability proportional to `weights` (len(clips),).
        pretrained: weights of the backbone, as its `load` takes them; None starts from random.

    Raises:
        ModelError: the folder's checkpoint belongs to another network, or `pretrained` does not fit.
    """
    torch.manual_seed(training.seed)
    model = GCNet(network)
    if pretrained is not None:
        model.backbone.load(pretrained)
    total = training.detection_steps + training.tracking_steps
    run = Run(folder, model, model.backbone, network, training, total, PARTS)
    module = run.distribute(TrainingStep(model, training.box_weight))
    for frames, end in ((1, training.detection_steps), (2, total)):
        if run.step < end:
            samples = ClipSamples(clips, weights, network, frames, training.max_gap, training.seed)
            size = training.batch_size // frames
            run.optimise(module, batches(samples, size, run.step, run.rank, run.world, training.workers), end)
    run.finish()
    return model


def load_network(checkpoint: Path) -> GCNet:
    """The network of a checkpoint, in evaluation mode. Raises ModelError for another kind of file."""
    state = read_checkpoint(checkpoint)
    try:
        model = GCNet(NetworkConfig(**state["network"]))
        model.load_state_dict(trained_weights(state))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{checkpoint}: expected a GCNet checkpoint, got {error}") from error
    return model.eval()
