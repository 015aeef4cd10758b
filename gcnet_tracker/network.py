"""GCNet (paper Sec. 3.1): joint detection and tracking by global correlation.

Read top to bottom: backbone, neck to F at stride 8, classification branch to the heatmap Yd, then Q, K, V and the
boxes of Eq. 4 to 6. Detection asks the current frame with the current queries, tracking asks it with the stored
[Q_i, V_i] of each track; all weights but the confidence of tracks are shared.

Two places where the paper is silent and this network decides:
* Two of F's channels are the coordinates of its cells. A deep ResNet finds them in its zero padding, a small
  pretrained backbone does not, and the boxes are absolute: training starts with each box at its own cell.
* The size is regressed as a logarithm, which keeps it positive and makes small boxes as precise as large ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from camtrack_core.networks.backbone_base import Backbone
from camtrack_core.networks.backbones import BACKBONES
from gcnet_tracker.config import NetworkConfig
from gcnet_tracker.correlation import (
    OFFSET,
    AttentionCorrelation,
    Frame,
    LinearCorrelation,
    Memory,
    PlaceCorrelation,
)
from gcnet_tracker.position import EMBEDDINGS

HEATMAP_PRIOR = 0.01  # confidence that the classification branch starts with, as in CornerNet


class FrameFeatures(NamedTuple):
    """What one pass over an image gives.

    Attributes:
        heatmap: (B, n, h', w') logits of Yd.
        queries: (B, c, h', w') Q.
        stored: (B, v + 2, h', w') what a track keeps beside its query: V and its place, x and y in [0, 1].
        memory: what tracking asks of this frame.
        keys: (B, c, h', w') K, not normalised, not gated.
    """

    heatmap: Tensor
    queries: Tensor
    stored: Tensor
    memory: Memory
    keys: Tensor


class Answer(NamedTuple):
    """Boxes (B, 4, P), (x, y, w, h) as shares of the input; confidence logits (B, P); logits of the weights or None."""

    boxes: Tensor
    confidence: Tensor
    logits: Tensor | None


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Coordinates(nn.Module):
    """Appends two channels: row and column of each cell's centre, from -1 to 1."""

    grid: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        rows = (torch.arange(height) + 0.5) / height * 2 - 1
        columns = (torch.arange(width) + 0.5) / width * 2 - 1
        grid = torch.stack([rows[:, None].expand(height, width), columns[None].expand(height, width)])
        self.register_buffer("grid", grid[None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.grid.to(x.dtype).expand(x.shape[0], -1, -1, -1)], 1)


class Neck(nn.Module):
    """Top-down path with skip connections; only the finest level, F at stride 8, leaves it."""

    def __init__(self, inputs: tuple[int, ...], channels: int, height: int, width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Sequential(Coordinates(height >> level, width >> level), ConvBlock(count + 2, channels, 1))
            for level, count in enumerate(inputs)
        )
        self.smooth = nn.Sequential(
            ConvBlock(channels, channels, 3), ConvBlock(channels, channels - 2, 1), Coordinates(height, width)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.laterals[-1](maps[-1])
        for lateral, finer in zip(self.laterals[-2::-1], maps[-2::-1], strict=True):
            x = lateral(finer) + functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.smooth(x)


class ConfidenceGate(nn.Module):
    """The heatmap as spatial attention: the confidence of the likeliest class (paper Fig. 3)."""

    def forward(self, heatmap: Tensor) -> Tensor:
        return heatmap.sigmoid().amax(1, keepdim=True)


class OpenGate(nn.Module):
    """Table 1, "Without Gate"."""

    def forward(self, heatmap: Tensor) -> Tensor:
        return torch.ones_like(heatmap[:, :1])


class Values(nn.Module):
    """V: a 1x1 convolution of the first `inputs` channels of F, which ends with two coordinates."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.inputs, self.convolution = inputs, nn.Conv2d(inputs, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.convolution(features[:, : self.inputs])


class NoValue(nn.Module):
    """Table 1, "Without V": no channels."""

    def forward(self, features: Tensor) -> Tensor:
        return features[:, :0]


GATES = {"confidence": ConfidenceGate, "none": OpenGate}


class GCNet(nn.Module):
    """Global Correlation Network. Images are BGR (B, 3, H, W) in 0..255; boxes are (x, y, w, h) in [0, 1]."""

    position: Tensor
    places: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        height, width = config.map_size
        c = config.channels
        value_channels = c if config.local == "value" else 0

        self.backbone: Backbone = BACKBONES[config.backbone]()
        self.neck = Neck(self.backbone.channels, c, height, width)
        to_heatmap = nn.Conv2d(c, len(config.class_names), 1)
        nn.init.constant_(_bias(to_heatmap), math.log(HEATMAP_PRIOR / (1 - HEATMAP_PRIOR)))
        self.classification = nn.Sequential(ConvBlock(c, c, 3), to_heatmap)
        self.register_buffer("position", EMBEDDINGS[config.position](c, height, width)[None], persistent=False)
        self.register_buffer("places", (Coordinates(height, width).grid.flip(1) + 1) / 2, persistent=False)
        self.to_query, self.query_norm = nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)
        self.to_key, self.key_norm = nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)
        # the linear form finds a place in V; the others read it, and a coordinate in V would only repeat the old box
        value_inputs = c if config.correlation == "linear" else c - 2
        self.to_value = Values(value_inputs, c) if config.local == "value" else NoValue()
        self.gate = GATES[config.gate]()
        self.correlation = self._correlation(value_channels)
        described, evidence = self.correlation.described, self.correlation.evidence
        self.box_norm = nn.BatchNorm1d(described)
        self.to_box = nn.Conv1d(described, 4, 1)
        self.to_confidence = nn.Sequential(
            nn.BatchNorm1d(described + evidence), nn.Conv1d(described + evidence, 48, 1), nn.ReLU(), nn.Conv1d(48, 1, 1)
        )
        self._start_from_priors()

    def _correlation(self, value_channels: int) -> LinearCorrelation | PlaceCorrelation | AttentionCorrelation:
        config = self.config
        height, width = config.map_size
        if config.correlation == "linear":
            return LinearCorrelation(config.correlation_channels, value_channels, height, width)
        candidates = config.candidates if config.gate == "confidence" else height * width
        if config.correlation == "places":
            channels = config.correlation_channels
            return PlaceCorrelation(channels, value_channels, height, width, candidates, self.places)
        return AttentionCorrelation(value_channels, height, width, candidates)

    def _start_from_priors(self) -> None:
        nn.init.normal_(self.to_box.weight, std=0.01)
        # a box a tenth of the image wide and high, at its own cell
        start = 0.5 if self.config.correlation == "linear" else 0.0
        _bias(self.to_box).data = torch.tensor([start, start, -2.3, -2.3])
        if isinstance(self.correlation, LinearCorrelation) and isinstance(self.to_value, Values):
            # F ends with the coordinates; V passes them on, normalised: uniform with a deviation of 1 / sqrt 3
            x, y = -1, -2
            weight = self.to_value.convolution.weight.data
            for channel, output in ((x, 0), (y, 1)):
                weight[channel] = 0
                weight[channel, channel] = 1
                self.to_box.weight.data[:, channel] = 0
                self.to_box.weight.data[output, channel] = 0.5 / 3**0.5

    def forward(self, image: Tensor) -> FrameFeatures:
        """One pass over the image."""
        return self.correlate(self.neck(self.backbone(image)))

    def correlate(self, features: Tensor) -> FrameFeatures:
        """Both branches over F: Eq. 4, and the current frame's side of the correlation."""
        heatmap = self.classification(features)
        queries = self.query_norm(self.to_query(features) + self.position)
        keys = self.key_norm(self.to_key(features) + self.position)
        values = self.to_value(features)
        places = self.places.to(features.dtype).expand(features.shape[0], -1, -1, -1)
        memory = self.correlation.look(Frame(keys, self.gate(heatmap), values, places))
        return FrameFeatures(heatmap, queries, torch.cat([values, places.to(values.dtype)], 1), memory, keys)

    def ask(self, memory: Memory, queries: Tensor, stored: Tensor, masked: Tensor | None = None) -> Answer:
        """Where the objects of queries (B, c, P) and stored [V, place] (B, v + 2, P) are in the frame of `memory`.

        Boxes are Eq. 6, by weights that detection and tracking share; only the confidence has layers of its own.
        """
        reading = self.correlation.read(memory, queries, stored, self._extent(stored), masked)
        centre, log_size = self.to_box(self.box_norm(reading.described)).split(2, dim=1)
        if reading.place is not None:
            centre = reading.place + OFFSET * centre
        boxes = torch.cat([centre, log_size.clamp(-7, 1).exp()], 1)
        confidence = self.to_confidence(torch.cat([reading.chosen, reading.evidence], 1)).squeeze(1)
        return Answer(boxes, confidence, reading.logits)

    @torch.no_grad()
    def _extent(self, stored: Tensor) -> Tensor:
        """(B, P) geometric mean of the sides that V of stored (B, v + 2, P) says, as a share of the input's width."""
        values = stored[:, :-2]
        if self.to_box.in_channels != values.shape[1]:  # boxes are made of more than V
            return stored[:, 0]
        norm = self.box_norm  # by its statistics, of which this is no part
        mean, variance = norm.running_mean, norm.running_var
        normal = functional.batch_norm(values, mean, variance, norm.weight, norm.bias, eps=norm.eps)
        log_size = self.to_box(normal)[:, 2:].clamp(-7, 1)
        aspect = self.config.height / self.config.width
        return (log_size.mean(1) + 0.5 * math.log(aspect)).exp()


def _bias(layer: nn.Conv1d | nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def to_xyxy(boxes: Tensor) -> Tensor:
    """(B, 4, P) (x, y, w, h) -> (x1, y1, x2, y2)."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], 1)
