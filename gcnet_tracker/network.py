"""GCNet (paper Sec. 3.1): joint detection and tracking by global correlation.

Read top to bottom: backbone, neck to F at stride 8, classification branch to the heatmap Yd, then Q, K, V and the
boxes of Eq. 4 to 6. Detection asks the current frame's M = W K^ with the current queries, tracking asks it with the
stored [Q_i, V_i] of each track; all weights but the confidence of tracks are shared.

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
from gcnet_tracker.correlation import GlobalCorrelation
from gcnet_tracker.position import EMBEDDINGS

HEATMAP_PRIOR = 0.01  # confidence that the classification branch starts with, as in CornerNet


class FrameFeatures(NamedTuple):
    """What one pass over an image gives.

    Attributes:
        heatmap: (B, n, h', w') logits of Yd.
        queries: (B, c, h', w') Q.
        values: (B, c, h', w') V; zero channels in the ablation without V.
        summary: (B, c', c) M = W K^, all that tracking needs of this frame.
        keys: (B, c, h', w') K, not normalised, not gated.
    """

    heatmap: Tensor
    queries: Tensor
    values: Tensor
    summary: Tensor
    keys: Tensor


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


class NoValue(nn.Module):
    """Table 1, "Without V": no channels."""

    def forward(self, features: Tensor) -> Tensor:
        return features[:, :0]


GATES = {"confidence": ConfidenceGate, "none": OpenGate}


class GCNet(nn.Module):
    """Global Correlation Network. Images are BGR (B, 3, H, W) in 0..255; boxes are (x, y, w, h) in [0, 1]."""

    position: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        height, width = config.map_size
        c = config.channels
        value_channels = c if config.local == "value" else 0
        described = config.correlation_channels + value_channels

        self.backbone: Backbone = BACKBONES[config.backbone]()
        self.neck = Neck(self.backbone.channels, c, height, width)
        to_heatmap = nn.Conv2d(c, len(config.class_names), 1)
        nn.init.constant_(_bias(to_heatmap), math.log(HEATMAP_PRIOR / (1 - HEATMAP_PRIOR)))
        self.classification = nn.Sequential(ConvBlock(c, c, 3), to_heatmap)
        self.register_buffer("position", EMBEDDINGS[config.position](c, height, width)[None], persistent=False)
        self.to_query, self.query_norm = nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)
        self.to_key, self.key_norm = nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)
        self.to_value = nn.Conv2d(c, c, 1) if config.local == "value" else NoValue()
        self.gate = GATES[config.gate]()
        self.correlation = GlobalCorrelation(config.correlation_channels, height, width)
        self.box_norm = nn.BatchNorm1d(described)
        self.to_box = nn.Conv1d(described, 4, 1)
        self.confidence_norm = nn.BatchNorm1d(described)
        self.to_confidence = nn.Conv1d(described, 1, 1)
        self._start_from_priors()

    def _start_from_priors(self) -> None:
        nn.init.normal_(self.to_box.weight, std=0.01)
        # a box at its own cell, a tenth of the image wide and high
        _bias(self.to_box).data = torch.tensor([0.5, 0.5, -2.3, -2.3])
        if isinstance(self.to_value, nn.Conv2d):
            # F ends with the coordinates; V passes them on, normalised: uniform with a deviation of 1 / sqrt 3
            x, y = -1, -2
            for channel, output in ((x, 0), (y, 1)):
                self.to_value.weight.data[channel] = 0
                self.to_value.weight.data[channel, channel] = 1
                self.to_box.weight.data[:, channel] = 0
                self.to_box.weight.data[output, channel] = 0.5 / 3**0.5
        nn.init.normal_(self.to_confidence.weight, std=0.01)

    def forward(self, image: Tensor) -> FrameFeatures:
        """One pass over the image (Eq. 4, and M of Eq. 2)."""
        features = self.neck(self.backbone(image))
        heatmap = self.classification(features)
        queries = self.query_norm(self.to_query(features) + self.position)
        keys = self.key_norm(self.to_key(features) + self.position)
        summary = self.correlation.summarise(keys, self.gate(heatmap))
        return FrameFeatures(heatmap, queries, self.to_value(features), summary, keys)

    def describe(self, summary: Tensor, queries: Tensor, values: Tensor) -> Tensor:
        """[C, V] of Eq. 6 for P positions: queries (B, c, P) and values (B, c, P) -> (B, c' + c, P)."""
        return torch.cat([self.correlation.correlate(summary, queries), values], 1)

    def boxes(self, described: Tensor) -> Tensor:
        """Eq. 6: absolute boxes (B, 4, P), (x, y, w, h) as shares of the input's width and height."""
        centre, log_size = self.to_box(self.box_norm(described)).split(2, dim=1)
        return torch.cat([centre, log_size.clamp(-7, 1).exp()], 1)

    def confidence(self, described: Tensor) -> Tensor:
        """Logits (B, P) that the objects asked for are in the current image (the unshared layer of Fig. 4)."""
        return self.to_confidence(self.confidence_norm(described)).squeeze(1)


def _bias(layer: nn.Conv1d | nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def to_xyxy(boxes: Tensor) -> Tensor:
    """(B, 4, P) (x, y, w, h) -> (x1, y1, x2, y2)."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], 1)
