"""Training of GCNet in two stages (paper Sec. 3.2): detection alone, then detection and tracking on pairs of frames.

The run itself (schedule, checkpoints, several processes) is `camtrack_core.training.run`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from camtrack_core.geometry.boxes import Floats
from camtrack_core.networks.heatmap import distillation_loss, focal_loss
from camtrack_core.training.gaussians import deviations
from camtrack_core.training.run import Run, read_checkpoint, read_network, trained_weights
from camtrack_core.training.shards import batches
from gcnet_tracker import losses
from gcnet_tracker.clips import Clip
from gcnet_tracker.config import NetworkConfig, TrainingConfig
from gcnet_tracker.correlation import Memory, gather
from gcnet_tracker.loader import ClipSamples
from gcnet_tracker.network import FrameFeatures, GCNet, to_xyxy
from gcnet_tracker.targets import ABSENT, UNKNOWN

PARTS = ("heatmap", "teachers", "box", "track_box", "confidence", "matching", "loss")
ASKED = 32  # objects a frame that are asked for
MAPS = "map "  # and a number: of the backbone, in a batch
OWN = 0.02  # of Eq. 7, from which a cell is taken for the object's
JITTER = 0.15  # of a box's size, how far from its centre it is asked for, at most


class TrainingStep(nn.Module):
    """The loss of Eq. 12 as one module, so that distributed training wraps one forward.

    Eq. 10 takes every assigned cell of an object; here each object is asked for once, near its centre: that is where
    Algorithm 1 asks, and a query costs as many products as the memory has cells.
    """

    def __init__(self, network: GCNet, training: TrainingConfig) -> None:
        super().__init__()
        self.network, self.training_config = network, training
        self.aspect = network.config.height / network.config.width
        self.rows, self.columns = network.config.map_size
        self.resting: list[nn.Module] = []

    def rest(self, *parts: nn.Module) -> None:
        """Leaves parts of the network as they are from now on, statistics too."""
        self.resting += parts
        for part in parts:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> TrainingStep:
        super().train(mode)
        for part in self.resting:
            part.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss parts of a batch as `loader.ClipSamples` makes it: frames (B, 1 or 2, ...).

        Frames are images or, under names that begin with MAPS, the backbone's maps of them, finest first.
        """
        network = self.network
        maps = [x.flatten(0, 1).float() for name, x in batch.items() if name.startswith(MAPS)]
        if not maps:
            maps = network.backbone(batch["image"].flatten(0, 1).to(memory_format=torch.channels_last).float())
        found = network.correlate(network.neck(maps))
        truth = batch["truth"][:, :, :ASKED]
        exists = torch.arange(truth.shape[2], device=truth.device) < batch["objects"][..., None]
        objects = exists.sum().clamp(min=1)
        cells = self._cells(truth, JITTER * batch["jitter"][:, :, :ASKED])
        queries, stored = gather(found.queries, cells.flatten(0, 1)), gather(found.stored, cells.flatten(0, 1))

        parts = {"heatmap": self._heatmap(found, batch) / batch["objects"].sum().clamp(min=1)}
        parts["teachers"] = self._teachers(found, batch)
        answer = network.ask(found.memory, queries, stored)
        parts["box"] = self._ciou(answer.boxes, truth.flatten(0, 1), exists.flatten(0, 1)).sum() / objects
        loss = parts["heatmap"] + self.training_config.teacher_weight * parts["teachers"]
        loss = loss + self.training_config.box_weight * parts["box"]
        if truth.shape[1] == 2:
            tracking = self._track(found, queries[0::2], stored[0::2], batch, truth[:, 1])
            loss = loss + self.training_config.box_weight * tracking["track_box"] + tracking["confidence"]
            loss = loss + self.training_config.matching_weight * tracking["matching"]
            parts |= tracking
        return parts | {"loss": loss}

    def _track(
        self, found: FrameFeatures, queries: Tensor, stored: Tensor, batch: dict[str, Tensor], truth: Tensor
    ) -> dict[str, Tensor]:
        """The past frame's [Q, V] ask the current frame, a quarter as many of another pair's ask it too."""
        memory = Memory(*(part[1::2] for part in found.memory))
        relation = batch["relation"][:, :ASKED]
        rows = torch.arange(ASKED, device=relation.device) < batch["objects"][:, :1].roll(1, 0)
        foreign = (batch["clip"] != batch["clip"].roll(1))[:, None]
        others = torch.where(rows & foreign, ABSENT, UNKNOWN)
        few = slice(0, ASKED // 4)
        relation = torch.cat([relation, others[:, few]], 1)
        queries = torch.cat([queries, queries.roll(1, 0)[..., few]], 2)
        stored = torch.cat([stored, stored.roll(1, 0)[..., few]], 2)

        there = (relation >= 0) & (relation < truth.shape[1])
        target = truth.gather(1, relation.clamp(0, truth.shape[1] - 1)[..., None].expand(-1, -1, 4))
        near = self._near(target, memory)
        chance = torch.cat([batch["chance"][:, :ASKED], torch.ones_like(others[:, few], dtype=torch.float32)], 1)
        hidden = there & (chance < self.training_config.hidden)
        if near is None:  # Eq. 2 as printed has no cells to mask
            hidden = torch.zeros_like(there)
        present, known = there & ~hidden, there | (relation == ABSENT)
        masked = None if near is None else (near > OWN) & hidden[..., None]
        answer = self.network.ask(memory, queries, stored, masked)
        count = present.sum().clamp(min=1)
        parts = {"track_box": self._ciou(answer.boxes, target, present).sum() / count}
        own = present & sees_own(answer.logits, near)
        unsure = functional.binary_cross_entropy_with_logits(
            answer.confidence.float()[known], own[known].float(), reduction="sum"
        )
        parts["confidence"] = unsure / known.sum().clamp(min=1)
        parts["matching"] = self._matching(answer.logits, near, present)
        return parts

    def _matching(self, logits: Tensor | None, near: Tensor | None, present: Tensor) -> Tensor:
        """Cross entropy of the weights with the cells at the object's centre, where the memory has such cells."""
        if logits is None or near is None:
            return present.new_zeros((), dtype=torch.float32)
        right = near > 0.5
        rows = present & right.any(2)
        chances = logits.float().log_softmax(2).masked_fill(~right, -1e4).logsumexp(2)
        return -chances[rows].sum() / rows.sum().clamp(min=1)

    def _near(self, truth: Tensor, memory: Memory) -> Tensor | None:
        """Eq. 7: G (B, P, N) of boxes (B, P, 4) at the memory's cells."""
        if not memory.cells.numel():
            return None
        size = truth.new_tensor([self.columns, self.rows])
        centre = ((truth[..., :2] + truth[..., 2:]) / 2 * size).floor()
        share = float(deviations(np.ones(1))[0])
        sigma = share * ((truth[..., 2:] - truth[..., :2]) * size).clamp(min=1e-2)
        cells = torch.stack([memory.cells % self.columns, memory.cells // self.columns], -1)
        apart = (cells[:, None] - centre[:, :, None]) / sigma[:, :, None]
        return torch.exp(-(apart**2).sum(-1) / 2)

    def _cells(self, truth: Tensor, jitter: Tensor) -> Tensor:
        """Flat cells of boxes' centres (..., 4) -> (...,), moved by `jitter` (..., 2) of their size."""
        size = truth.new_tensor([self.columns, self.rows])
        low, high = truth[..., :2], truth[..., 2:]
        centre = (low + high) / 2 + jitter * (high - low)
        cell = (centre * size).floor().clamp(min=0).minimum(size - 1).long()
        return cell[..., 1] * self.columns + cell[..., 0]

    @staticmethod
    def _heatmap(features: FrameFeatures, batch: dict[str, Tensor]) -> Tensor:
        counted = batch["counted"].flatten(0, 1)[:, None]
        return focal_loss(features.heatmap.float(), batch["heatmap"].flatten(0, 1), counted)

    @staticmethod
    def _teachers(features: FrameFeatures, batch: dict[str, Tensor]) -> Tensor:
        """Distance from the detectors' scores, in ignored regions too, an object they see in these images."""
        looked = batch["looked"].flatten() > 0
        scores = batch["taught"].flatten(0, 1)[looked]
        return distillation_loss(features.heatmap.float()[looked], scores) / scores.amax((2, 3)).sum().clamp(min=1)

    def _ciou(self, boxes: Tensor, truth: Tensor, wanted: Tensor) -> Tensor:
        """Losses of the wanted boxes (B, 4, P), in distances of pixels."""
        scale = truth.new_tensor([1, self.aspect, 1, self.aspect])
        return losses.ciou_loss(to_xyxy(boxes).transpose(1, 2)[wanted].float() * scale, truth[wanted] * scale)


def sees_own(logits: Tensor | None, near: Tensor | None) -> Tensor:
    """(B, P) whether the best cell of logits (B, P, N) is the object's own by Eq. 7's G (B, P, N); True without cells.

    Who looks at another object is not sure, however present his own is.
    """
    if logits is None or near is None:
        return torch.tensor(True)
    return near.gather(2, logits.argmax(2, keepdim=True))[..., 0] > OWN


class MapPairs(Dataset):
    """The first `count` pairs of samples with the maps of a backbone at rest in place of images, computed once."""

    def __init__(self, samples: ClipSamples, network: GCNet, count: int, seed: int) -> None:
        network.eval()
        self.seed = seed
        self.pairs = []
        with torch.inference_mode():
            for index in range(count):
                sample = {name: torch.as_tensor(value) for name, value in samples[index].items()}
                image = sample.pop("image").float()
                maps = enumerate(network.backbone(image))
                self.pairs.append(sample | {f"{MAPS}{number}": x.half().contiguous() for number, x in maps})

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        return self.pairs[int(rng.integers(len(self.pairs)))]


def train(
    folder: Path,
    clips: list[Clip],
    weights: Floats,
    network: NetworkConfig,
    training: TrainingConfig,
    pretrained: Path | None,
    start: Path | None = None,
) -> GCNet:
    """Trains, or goes on training, in `folder`; returns the network with the averaged weights, in evaluation mode.

    Args:
        clips: labelled sequences, drawn with probability proportional to `weights` (len(clips),).
        pretrained: weights of the backbone, as its `load` takes them; None starts from random.
        start: checkpoint or weights of a GCNet; what the network has of it is taken over.

    Raises:
        ModelError: the folder's checkpoint belongs to another network, or `pretrained` does not fit.
    """
    torch.manual_seed(training.seed)
    model = GCNet(network)
    if pretrained is not None:
        model.backbone.load(pretrained)
    if start is not None:
        take_over(model, start)
    both = training.detection_steps + training.tracking_steps
    total = both + training.head_steps
    run = Run(folder, model, model.backbone, network, training, total, PARTS)
    step = TrainingStep(model, training)
    module = run.distribute(step)
    for frames, end in ((1, training.detection_steps), (2, both)):
        if run.step < end:
            samples = ClipSamples(clips, weights, network, frames, training.max_gap, training.seed)
            size = training.batch_size // frames
            run.optimise(module, batches(samples, size, run.step, run.rank, run.world, training.workers), end)
    if run.step < total:
        step.rest(model.backbone)
        samples = ClipSamples(clips, weights, network, 2, training.max_gap, training.seed)
        pairs = MapPairs(samples, model, training.head_pairs, training.seed)
        run.optimise(module, batches(pairs, training.batch_size, run.step, run.rank, run.world, 0), total)
    run.finish()
    return model


def take_over(model: GCNet, path: Path) -> None:
    """Copies from a checkpoint what the model has under the same name and of the same shape.

    Raises ModelError for another kind of file.
    """
    given, own = trained_weights(path, read_checkpoint(path)), model.state_dict()
    model.load_state_dict(own | {name: x for name, x in given.items() if name in own and x.shape == own[name].shape})


def load_network(checkpoint: Path) -> GCNet:
    """The network of a checkpoint, in evaluation mode. Raises ModelError for another kind of file."""
    return read_network(checkpoint, GCNet, NetworkConfig, "GCNet")
