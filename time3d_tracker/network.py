"""Time3D (paper Fig. 2): detector, embedding, spatial and temporal flow, in the order in which a frame passes them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from camtrack_core.config import validated
from time3d_tracker.config import NetworkConfig
from time3d_tracker.detector import Detector, Objects, Peaks, Raw, find_peaks
from time3d_tracker.embedding import CueEmbedding
from time3d_tracker.flow import Flow, Memory, SpatialFlow, TemporalFlow

LEAST_SCORE = 0.1  # of a peak that takes part in the flow


class Slots(NamedTuple):
    """K slots of B frames.

    Attributes:
        cells: (B, K) int, flat cell of the feature map.
        peak: class and score there.
        valid: (B, K) bool, slots that hold an object.
        owner: (B, K) int, row of the label that a slot was made for, -1 for none.
    """

    cells: Tensor
    peak: Peaks
    valid: Tensor
    owner: Tensor


class Time3D(nn.Module):
    """The network. Images go through `detect` and `describe` once; `temporal` compares what those give."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.detector = Detector(config)
        self.embedding = CueEmbedding(config)
        self.spatial = SpatialFlow(config)
        self.temporal = TemporalFlow(config)

    def describe(self, objects: Objects, valid: Tensor, projection: Tensor) -> Tensor:
        """Spatial features (B, K, d) of objects, of which (B, K) are valid, seen by cameras (B, 3, 3)."""
        return self.spatial(self.embedding(objects, projection), valid)

    def flow(self, now: Tensor, centres: Tensor, memory: Memory) -> Flow:
        """What remembered frames say about the objects of the current one, from their spatial features (B, K, d) and
        centres (B, K, 3)."""
        return self.temporal(now, centres, memory)


def reconfigured(network: Time3D, **changes: object) -> Time3D:
    """The same weights under another configuration, in evaluation mode.

    Raises ConfigurationError for values that are none.
    """
    other = Time3D(validated(NetworkConfig, network.config.model_dump() | changes))
    other.load_state_dict(network.state_dict())
    return other.eval()


def training_slots(heatmap: Tensor, cells: Tensor, class_ids: Tensor, labelled: Tensor, count: int) -> Slots:
    """Slots as inference fills them, but with every labelled object in one.

    The labelled objects come first; the heatmap's best peaks fill up, those beside a labelled object left out.

    Args:
        heatmap: (B, n, h', w') logits.
        cells: (B, N, 2) column and row of labelled objects, perhaps a cell beside their centre.
        class_ids: (B, N) their classes.
        labelled: (B, N) bool, rows that hold one.
        count: K.
    """
    width = heatmap.shape[-1]
    peaks, peak = find_peaks(heatmap, count)
    place = torch.stack([peaks % width, torch.div(peaks, width, rounding_mode="floor")], -1)
    beside = (place[:, :, None] - cells[:, None]).abs().amax(-1) <= 2
    known = (beside & labelled[:, None]).any(-1)
    priority = torch.cat([2 * labelled.float(), peak.scores * ~known], 1)
    best, chosen = priority.topk(min(count, priority.shape[1]))
    own = cells[..., 1] * width + cells[..., 0]
    every_class = torch.cat([class_ids, peak.class_ids], 1).gather(1, chosen)
    flat = torch.cat([own, peaks], 1).gather(1, chosen)
    scores = heatmap.float().sigmoid().flatten(1).gather(1, every_class * heatmap[0, 0].numel() + flat)
    rows = torch.arange(priority.shape[1], device=chosen.device)[chosen]
    is_label = (rows < cells.shape[1]) & (best == 2)
    owner = torch.where(is_label, rows, torch.full_like(rows, -1))
    return Slots(flat, Peaks(every_class, scores), best > LEAST_SCORE, owner)


__all__ = ["Memory", "Raw", "Slots", "Time3D", "reconfigured", "training_slots"]
