"""The trunk of YOLOX-nano (Ge et al. 2021): CSP-Darknet, path aggregation and the features of its decoupled heads.

The published ONNX file has its batch normalisations folded into the convolutions, and so has this module. Its
features were learnt on COCO, which makes it by far the strongest start for a small detector of road users.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from camtrack_core.errors import ModelError
from camtrack_core.networks.backbone_base import Backbone


class Conv(nn.Sequential):
    """Convolution with bias, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups), nn.SiLU(inplace=True))


class Separable(nn.Sequential):
    """Depthwise 3x3, then pointwise, each with SiLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(Conv(inputs, inputs, 3, stride, groups=inputs), Conv(inputs, outputs))


class Residual(nn.Module):
    def __init__(self, channels: int, add: bool) -> None:
        super().__init__()
        self.steps = nn.Sequential(Conv(channels, channels), Separable(channels, channels))
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        return x + self.steps(x) if self.add else self.steps(x)


class CrossStage(nn.Module):
    """Cross-stage partial layer: half of the channels pass through residual blocks, the other half around them."""

    def __init__(self, inputs: int, outputs: int, depth: int, add: bool = True) -> None:
        super().__init__()
        self.through = Conv(inputs, outputs // 2)
        self.around = Conv(inputs, outputs // 2)
        self.blocks = nn.Sequential(*(Residual(outputs // 2, add) for _ in range(depth)))
        self.merge = Conv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(torch.cat([self.blocks(self.through(x)), self.around(x)], 1))


class PyramidPooling(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = Conv(channels, channels // 2)
        self.expand = Conv(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        pools = [functional.max_pool2d(x, size, 1, size // 2) for size in (5, 9, 13)]
        return self.expand(torch.cat([x, *pools], 1))


class Focus(Conv):
    """3x3 convolution of an image's four phases, (B, 3, H, W) -> (B, outputs, H/2, W/2).

    The weights (outputs, 12, 3, 3) are those of the published network, whose input channels are the phases, column
    before row, of three colours. They run as one 6x6 kernel of stride 2: cutting the phases out takes longer than
    the convolution.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__(12, outputs, 3)

    def forward(self, image: Tensor) -> Tensor:
        convolution = cast(nn.Conv2d, self[0])
        phases = convolution.weight.unflatten(1, (2, 2, 3))  # column, row, colour
        kernel = phases.permute(0, 3, 4, 2, 5, 1).flatten(4, 5).flatten(2, 3)
        return functional.silu(functional.conv2d(image, kernel, convolution.bias, stride=2, padding=2))


def upsample(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class Head(nn.Module):
    """One level of the decoupled head, up to its last features: classification and regression, concatenated."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.stem = Conv(inputs, 64)
        self.classification = nn.Sequential(Separable(64, 64), Separable(64, 64))
        self.regression = nn.Sequential(Separable(64, 64), Separable(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([self.classification(x), self.regression(x)], 1)


class YoloxNano(Backbone):
    """BGR images (B, 3, H, W) in 0..255 -> features (B, 128, ., .) at strides 8, 16 and 32.

    The modules are defined in the order in which they run, which is the order of the tensors in the ONNX file.
    """

    channels = (128, 128, 128)
    early = ("stem", "dark2", "dark3")

    def __init__(self) -> None:
        super().__init__()
        self.stem = Focus(16)
        self.dark2 = nn.Sequential(Separable(16, 32, 2), CrossStage(32, 32, 1))
        self.dark3 = nn.Sequential(Separable(32, 64, 2), CrossStage(64, 64, 3))
        self.dark4 = nn.Sequential(Separable(64, 128, 2), CrossStage(128, 128, 3))
        self.dark5 = nn.Sequential(Separable(128, 256, 2), PyramidPooling(256), CrossStage(256, 256, 1, add=False))
        self.lateral5 = Conv(256, 128)
        self.top_down4 = CrossStage(256, 128, 1, add=False)
        self.lateral4 = Conv(128, 64)
        self.top_down3 = CrossStage(128, 64, 1, add=False)
        self.down3 = Separable(64, 64, 2)
        self.bottom_up4 = CrossStage(128, 128, 1, add=False)
        self.down4 = Separable(128, 128, 2)
        self.bottom_up5 = CrossStage(256, 256, 1, add=False)
        self.heads = nn.ModuleList(Head(channels) for channels in (64, 128, 256))

    def forward(self, image: Tensor) -> list[Tensor]:
        c3 = self.dark3(self.dark2(self.stem(image)))
        c4 = self.dark4(c3)
        c5 = self.dark5(c4)
        p5 = self.lateral5(c5)
        p4 = self.lateral4(self.top_down4(torch.cat([upsample(p5), c4], 1)))
        n3 = self.top_down3(torch.cat([upsample(p4), c3], 1))
        n4 = self.bottom_up4(torch.cat([self.down3(n3), p4], 1))
        n5 = self.bottom_up5(torch.cat([self.down4(n4), p5], 1))
        return [head(x) for head, x in zip(self.heads, (n3, n4, n5), strict=True)]

    def load(self, path: Path) -> None:
        """Loads the published ONNX file. Raises ModelError where it is another network."""
        import onnx  # training only
        from onnx import numpy_helper

        graph = onnx.load(str(path)).graph
        tensors = {i.name: i for i in graph.initializer}
        convolutions = [n for n in graph.node if n.op_type == "Conv" and "preds" not in n.input[1]]
        given = [
            torch.from_numpy(numpy_helper.to_array(tensors[name]).copy())
            for name in sorted({x for n in convolutions for x in n.input[1:]}, key=list(tensors).index)
        ]
        own = list(self.state_dict().values())
        if [t.shape for t in own] != [t.shape for t in given]:
            raise ModelError(f"{path}: expected the {len(own)} tensors of YOLOX-nano, got {len(given)} others")
        for target, value in zip(own, given, strict=True):
            target.copy_(value)
