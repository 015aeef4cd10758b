"""The monocular 3D detector (paper Sec. 3.1): KM3D's heads on one feature map.

The heatmap is dense. All other heads, a 3x3 and a 1x1 convolution each, are evaluated at the K chosen cells only, on
the 3x3 patches around them, which gives exactly what dense heads would give there.

Predictions do not depend on the camera: key points are shares of the 2D box, dimensions residuals of class means,
orientation is the observation angle, and the regressed depth is a residual of focal length x height / 2D height. The
distance joins what key points, the regression and, where the camera's height is known, the ground say, by variances.

The network sees no focal length, only how large a picture of an object is, and makes a little too much of large ones:
what each cue says is brought to a virtual camera of one focal length (`calibration.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from time3d_tracker import geometric_reasoning as reasoning
from time3d_tracker.backbone import Features
from time3d_tracker.config import KEYPOINTS, NetworkConfig

HEATMAP_PRIOR = 0.01  # confidence that the heatmap starts with
BINS = 4  # of the observation angle
# Cues of the depth: standard deviations of its logarithm that they start with, and what they never fall below. The
# ground's floor is what kerbs and cambers do; how well the pitch is known comes to it.
CUES = ("keypoints", "regressed", "ground")
FIRST_DEVIATIONS = (0.3, 0.09, 0.02)
DEVIATION_FLOORS = (0.03, 0.03, 0.04)

Raw = dict[str, Tensor]


class Objects(NamedTuple):
    """K objects of B images. All in the level frame and in pixels of the network's input.

    Attributes:
        cells: (B, K) int, flat cell of the feature map.
        class_ids: (B, K) int.
        scores: (B, K) the heatmap's confidence.
        box2d: (B, K, 4) (x1, y1, x2, y2), pixels.
        keypoints: (B, K, 9, 2) pixels.
        size: (B, K, 3) length, width, height, metres.
        sin, cos: (B, K) of the yaw.
        translation: (B, K, 3) centre, metres.
        usable: (B, K) bool, False where the key points fix no position.
        depth: (B, K) the regressed depth alone, metres.
        depths: (B, K, 3) what each of CUES says alone, metres.
        deviations: (B, K, 3) standard deviations of their logarithms.
        known: (B, K, 3) bool, which of them there are.
        deviation: (B, K) standard deviation of the place along the line of sight, as a share of the distance.
        reid: (B, K, c) Re-ID embedding of length 1.
    """

    cells: Tensor
    class_ids: Tensor
    scores: Tensor
    box2d: Tensor
    keypoints: Tensor
    size: Tensor
    sin: Tensor
    cos: Tensor
    translation: Tensor
    usable: Tensor
    depth: Tensor
    depths: Tensor
    deviations: Tensor
    known: Tensor
    deviation: Tensor
    reid: Tensor


class PointHeads(nn.Module):
    """Heads evaluated at chosen cells of a feature map.

    Args:
        channels: of the feature map.
        hidden: channels between the two convolutions of each head.
        outputs: channels of each head, by name.
    """

    def __init__(self, channels: int, hidden: int, outputs: dict[str, int]) -> None:
        super().__init__()
        self.outputs, self.hidden = outputs, hidden
        self.first = nn.Conv2d(channels, hidden * len(outputs), 3, padding=1)  # those of all heads, side by side
        self.second = nn.ModuleDict({name: nn.Conv2d(hidden, count, 1) for name, count in outputs.items()})

    def forward(self, features: Tensor, cells: Tensor) -> Raw:
        """Features (B, C, h', w') at flat cells (B, K) -> (B, K, channels of the head) by name."""
        x = functional.relu(functional.linear(patches(features, cells), self.first.weight.flatten(1), self.first.bias))
        raw = {}
        for name, part in zip(self.outputs, x.split(self.hidden, -1), strict=True):
            layer = self.second[name]
            assert isinstance(layer, nn.Conv2d)
            raw[name] = functional.linear(part, layer.weight.flatten(1), layer.bias)
        return raw


def patches(features: Tensor, cells: Tensor) -> Tensor:
    """(B, K, C * 9) 3x3 patches of (B, C, h', w') around flat cells (B, K), zero outside the map."""
    _, channels, _, width = features.shape
    padded = functional.pad(features, (1, 1, 1, 1)).flatten(2)
    row, column = torch.div(cells, width, rounding_mode="floor"), cells % width
    corner = row * (width + 2) + column  # of the patch, in the padded map
    steps = torch.tensor([y * (width + 2) + x for y in range(3) for x in range(3)], device=cells.device)
    index = (corner[..., None] + steps).flatten(1)
    gathered = padded.gather(2, index[:, None].expand(-1, channels, -1))
    return gathered.unflatten(2, (-1, 9)).transpose(1, 2).flatten(2)


class Detector(nn.Module):
    """Image -> features, heatmap, and objects at chosen cells."""

    class_sizes: Tensor
    bin_centres: Tensor
    asked_cues: Tensor
    floors: Tensor
    focal_powers: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.features = Features(config)
        self.heatmap = nn.Sequential(
            nn.Conv2d(config.channels, config.head_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(config.head_channels, len(config.class_names), 1),
        )
        last = self.heatmap[2]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.constant_(last.bias, -math.log((1 - HEATMAP_PRIOR) / HEATMAP_PRIOR))
        self.heads = PointHeads(
            config.channels,
            config.head_channels,
            {
                "offset": 2, "size2d": 2, "keypoints": 2 * KEYPOINTS, "keypoint_weights": KEYPOINTS, "dimensions": 3,
                "orientation": 3 * BINS, "depth": 1, "deviations": len(CUES), "reid": config.reid_channels,
            },
        )  # fmt: skip
        deviations = self.heads.second["deviations"]
        assert isinstance(deviations, nn.Conv2d) and deviations.bias is not None
        nn.init.zeros_(deviations.weight)
        with torch.no_grad():  # of softplus, inverted
            deviations.bias.copy_(torch.tensor(FIRST_DEVIATIONS).expm1().log())
        self.register_buffer("asked_cues", torch.tensor([cue in config.depth for cue in CUES]), persistent=False)
        self.register_buffer("floors", torch.tensor(DEVIATION_FLOORS), persistent=False)
        self.register_buffer("focal_powers", torch.tensor(config.focal_powers), persistent=False)
        self.register_buffer("class_sizes", torch.tensor(config.class_sizes), persistent=False)
        centres = torch.arange(BINS) * 2 * math.pi / BINS
        self.register_buffer("bin_centres", torch.stack([centres.sin(), centres.cos()], -1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """BGR (B, 3, H, W) in 0..255 -> features (B, C, h', w') and heatmap logits (B, n, h', w')."""
        features = self.features(image)
        return features, self.heatmap(features)

    def objects(
        self, features: Tensor, cells: Tensor, peak: Peaks, projection: Tensor, height: Tensor, pitch_deviation: Tensor
    ) -> tuple[Objects, Raw]:
        """Objects at flat cells (B, K), and what their heads said.

        Args:
            projection: (B, 3, 3) pixels of the input from level coordinates.
            height: (B,) of the camera over the ground, metres; 0 where unknown.
            pitch_deviation: (B,) standard deviation of the camera's stated pitch over the ground, radians.
        """
        raw = {name: value.float() for name, value in self.heads(features, cells).items()}
        return self.decode(raw, cells, peak, projection, height, pitch_deviation), raw

    def decode(
        self, raw: Raw, cells: Tensor, peak: Peaks, projection: Tensor, height: Tensor, pitch_deviation: Tensor
    ) -> Objects:
        """What the heads say, in metres and pixels."""
        stride, width = self.config.stride, self.config.map_size[1]
        inverse, focal = invert(projection)
        row, column = torch.div(cells, width, rounding_mode="floor"), cells % width
        corner = torch.stack([column, row], -1).float()
        centre2d = (corner + raw["offset"]) * stride
        size2d = raw["size2d"].clamp(-2, 6).exp() * stride
        box2d = torch.cat([centre2d - size2d / 2, centre2d + size2d / 2], -1)
        shares = raw["keypoints"].unflatten(-1, (KEYPOINTS, 2))
        keypoints = ((corner + 0.5) * stride)[..., None, :] + shares * size2d[..., None, :]
        ray, ahead = reasoning.rays(keypoints, inverse[:, None])

        size = self.class_sizes[peak.class_ids] * raw["dimensions"].clamp(-2, 2).exp()
        sin, cos = self._yaw(raw["orientation"].unflatten(-1, (BINS, 3)), ray[..., -1, 0])
        estimate = focal[:, None] * size[..., 2].detach() / size2d[..., 1].detach()
        depth = estimate * raw["depth"].squeeze(-1).clamp(-2, 2).exp()
        weight = raw["keypoint_weights"].clamp(-4, 4).exp() * ahead * focal[:, None, None] ** 2
        offset = reasoning.offsets(size, sin, cos)
        alone = reasoning.solve(offset, ray, weight)
        ground, slope = reasoning.ground_depth(offset, ray, height[:, None])
        stretch = (focal / self.config.virtual_focal).log()[:, None, None] * self.focal_powers
        depths = torch.stack([alone.translation[..., 2], depth, ground], -1) * (-stretch).exp()
        known = torch.stack([alone.usable, torch.ones_like(alone.usable), slope > 0], -1) & self.asked_cues
        tilt = pitch_deviation[:, None] / slope.detach().clamp(min=reasoning.LEAST_SLOPE)  # T_z / height = 1 / slope
        tilt = torch.stack([torch.zeros_like(tilt), torch.zeros_like(tilt), tilt], -1)
        deviations = (functional.softplus(raw["deviations"]) ** 2 + self.floors**2 + tilt**2).sqrt()
        joined, deviation, apart = reasoning.fuse(depths, deviations, known)
        deviation = deviation * self.config.deviation_scale * (1 + self.config.disagreement * apart).sqrt()
        position = reasoning.at_depth(offset, ray, weight, joined)
        reid = functional.normalize(raw["reid"], dim=-1)
        return Objects(
            cells, peak.class_ids, peak.scores, box2d, keypoints, size, sin, cos, position.translation,
            position.usable, depths[..., 1], depths, deviations, known, deviation, reid,
        )  # fmt: skip

    def _yaw(self, bins: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
        """Sine and cosine of the yaw: observation angle of the likeliest bin, plus the direction of the ray (B, K).

        Bins (B, K, BINS, 3) hold a logit and the sine and cosine of the residual, of any length.
        """
        best = bins[..., 0].argmax(-1)
        residual = bins[..., 1:].gather(-2, best[..., None, None].expand(-1, -1, 1, 2)).squeeze(-2)
        # a residual of length 0 counts as none
        residual = residual / (residual.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        sin, cos = turn(*self.bin_centres[best].unbind(-1), *residual.unbind(-1))
        ahead = (1 + ray**2).rsqrt()
        sin, cos = turn(sin, cos, ray * ahead, ahead)
        length = (sin**2 + cos**2 + 1e-12).rsqrt()
        return sin * length, cos * length


class Peaks(NamedTuple):
    """Chosen cells of a heatmap.

    Attributes:
        class_ids: (B, K) int, the likeliest class there.
        scores: (B, K) its confidence.
    """

    class_ids: Tensor
    scores: Tensor


def find_peaks(heatmap: Tensor, count: int) -> tuple[Tensor, Peaks]:
    """The best `count` local maxima of logits (B, n, h', w') over all classes: flat cells (B, K), classes, scores."""
    confidence, classes = heatmap.float().sigmoid().max(1, keepdim=True)
    maxima = confidence * (confidence == functional.max_pool2d(confidence, 3, 1, 1))
    scores, cells = maxima.flatten(1).topk(count)
    return cells, Peaks(classes.flatten(1).gather(1, cells), scores)


def turn(sin_a: Tensor, cos_a: Tensor, sin_b: Tensor, cos_b: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine of a sum of two angles."""
    return sin_a * cos_b + cos_a * sin_b, cos_a * cos_b - sin_a * sin_b


def invert(projection: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse (B, 3, 3) and focal length (B,), the geometric mean of both, of K R with R a rotation.

    Written out, since runtimes lack the operators.
    """
    a, b, c = projection.unbind(-2)
    adjugate = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], -1)
    determinant = (a * adjugate[..., 0]).sum(-1)
    return adjugate / determinant[..., None, None], determinant.abs().sqrt()


def _cross(a: Tensor, b: Tensor) -> Tensor:
    x, y, z = a.unbind(-1)
    u, v, w = b.unbind(-1)
    return torch.stack([y * w - z * v, z * u - x * w, x * v - y * u], -1)
