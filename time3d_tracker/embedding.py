"""Heterogeneous cues embedding (paper Sec. 3.2): from boxes, class and Re-ID to one vector F for each object.

Corners enter as waves of several lengths: a small network of raw metres cannot tell half a metre at fifty, and the
association needs it. 2D corners are rays of the level frame, so that nothing depends on the camera. The paper's Table 2
also encodes boxes directly, without corners: cues `direct2d` and `direct3d`.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from time3d_tracker import geometric_reasoning as reasoning
from time3d_tracker.config import NetworkConfig
from time3d_tracker.detector import Objects, invert

RAY_WAVES = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625)  # lengths in units of the ray: tangent of the angle
METRE_WAVES = (256.0, 128.0, 64.0, 32.0, 16.0, 8.0, 4.0)  # lengths in metres
FARTHEST = 200.0  # metres; corners beyond are brought there


class Waves(nn.Module):
    """(..., D) -> (..., 2 D L): sine and cosine of each coordinate at L wavelengths."""

    frequencies: Tensor

    def __init__(self, lengths: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi / torch.tensor(lengths), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        phase = (x[..., None] * self.frequencies).flatten(-2)
        return torch.cat([phase.sin(), phase.cos()], -1)


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


class PointNet(nn.Module):
    """Points (..., P, D) -> (..., d): a three-layer MLP of each point, then the maximum over the points."""

    def __init__(self, dimensions: int, lengths: tuple[float, ...], channels: int) -> None:
        super().__init__()
        self.waves = Waves(lengths)
        self.layers = mlp(2 * dimensions * len(lengths), channels, channels, channels)

    def forward(self, points: Tensor) -> Tensor:
        return self.layers(self.waves(points)).amax(-2)


class CueEmbedding(nn.Module):
    """Objects -> F (B, K, d)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.cues, self.classes = config.cues, len(config.class_names)
        d = config.embedding
        self.box2d = PointNet(2, RAY_WAVES, d)
        self.box3d = PointNet(3, METRE_WAVES, d)
        self.category = mlp(self.classes, d, d)
        self.reid = nn.Linear(config.reid_channels, d)
        self.join = mlp(2 * d, d, d)
        if "direct2d" in self.cues:
            self.direct2d = mlp(4, d, d, d)
        if "direct3d" in self.cues:
            self.direct3d = mlp(8, d, d, d)

    def forward(self, objects: Objects, projection: Tensor) -> Tensor:
        """F of objects seen by cameras `projection` (B, 3, 3); cues that are switched off count nothing."""
        geometry = appearance = objects.scores.new_zeros(*objects.cells.shape, self.reid.out_features)
        if "box2d" in self.cues:
            geometry = geometry + self.box2d(corners2d(objects, projection))
        if "box3d" in self.cues:
            geometry = geometry + self.box3d(corners3d(objects))
        if "direct2d" in self.cues:
            first, _, last, _ = corners2d(objects, projection).unbind(-2)
            geometry = geometry + self.direct2d(torch.cat([(first + last) / 2, last - first], -1))
        if "direct3d" in self.cues:
            pose = (objects.translation.clamp(-FARTHEST, FARTHEST), objects.size)
            geometry = geometry + self.direct3d(torch.cat([*pose, objects.sin[..., None], objects.cos[..., None]], -1))
        if "class" in self.cues:
            one_hot = functional.one_hot(objects.class_ids, self.classes).to(objects.scores.dtype)
            appearance = appearance + self.category(one_hot * objects.scores[..., None])
        if "reid" in self.cues:
            appearance = appearance + self.reid(objects.reid)
        return self.join(torch.cat([appearance, geometry], -1))


def corners2d(objects: Objects, projection: Tensor) -> Tensor:
    """C_2: (B, K, 4, 2) corners of the 2D boxes as rays of the level frame."""
    x1, y1, x2, y2 = objects.box2d.unbind(-1)
    pixels = torch.stack([x1, y1, x2, y1, x2, y2, x1, y2], -1).unflatten(-1, (4, 2))
    ray, _ = reasoning.rays(pixels, invert(projection)[0][:, None])
    return ray.clamp(-4, 4)


def corners3d(objects: Objects) -> Tensor:
    """C_3: (B, K, 8, 3) corners of the 3D boxes in the level frame, metres."""
    offset = reasoning.offsets(objects.size, objects.sin, objects.cos)[..., :8, :]
    return (objects.translation[..., None, :] + offset).clamp(-FARTHEST, FARTHEST)
