"""DLA-34 (Yu et al. 2018) with its upsampling path, as CenterNet and KM3D use it: image -> 64 channels at stride 4.

The upsampling path has plain convolutions or, as published, deformable ones. Those are written with bilinear sampling,
an operator of ONNX since opset 16, so that they need no custom operator; on CPUs they cost several plain ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from camtrack_core.errors import ModelError
from camtrack_core.networks.backbones import ImageNetNormalisation
from camtrack_core.networks.weights import read_torch, tensors

LEVELS = (1, 1, 1, 2, 2, 1)  # blocks or depth of each level
WIDTHS = (16, 32, 64, 128, 256, 512)
FIRST_LEVEL = 2  # of the upsampling path: stride 4
TAPS = tuple((x, y) for y in (-1, 0, 1) for x in (-1, 0, 1))  # of a 3x3 convolution, in the order of its weights
PUBLISHED_STEM = "base_layer.0.weight"  # is in a state dict of the authors' classifier
PUBLISHED_NAMES = (  # of modules: here, and there
    (r"^stem\.", "base_layer."),
    (r"^levels\.(\d)\.", r"level\1."),
    (r"\bleft\.", "tree1."),
    (r"\bright\.", "tree2."),
    (r"\bfirst\.0\.", "conv1."),
    (r"\bfirst\.1\.", "bn1."),
    (r"\bsecond\.0\.", "conv2."),
    (r"\bsecond\.1\.", "bn2."),
    (r"\broot\.0\.", "root.conv."),
    (r"\broot\.1\.", "root.bn."),
)
Layer = Callable[[int, int], nn.Module]  # of the upsampling path: channels in and out -> 3x3 convolution


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def deformable_conv(x: Tensor, shift: Tensor, share: Tensor, weight: Tensor) -> Tensor:
    """Modulated deformable 3x3 convolution (Zhu et al. 2019, Eq. 1), stride 1, zero outside the map.

    Args:
        x: (B, C, H, W).
        shift: (B, 9, H, W, 2) how far each tap is moved, cells to the right and down; taps row by row.
        share: (B, 9, H, W) what counts of each tap.
        weight: (C', C, 3, 3).

    Returns:
        (B, C', H, W).
    """
    height, width = x.shape[2:]
    rows, columns = (torch.arange(n, device=x.device, dtype=shift.dtype) for n in (height, width))
    steps = torch.tensor(TAPS, device=x.device, dtype=shift.dtype)
    cells = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], -1)
    place = cells + steps[:, None, None] + shift
    # sampling counts from -1 at the map's left or top edge, half a cell from the first centre, to 1
    grid = (2 * place + 1) / place.new_tensor([width, height]) - 1
    tapped = functional.grid_sample(x, grid.flatten(1, 2), "bilinear", "zeros", align_corners=False)
    tapped = tapped.unflatten(2, (len(TAPS), height)) * share[:, None]  # (B, C, 9, H, W)
    flat = tapped.flatten(3).flatten(1, 2)
    return (weight.flatten(1).to(flat.dtype) @ flat).unflatten(2, (height, width))


class DeformableConv(nn.Module):
    """Deformable convolution whose shifts and shares a plain one predicts; it starts without shift, at half share."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as a plain convolution
        self.predict = nn.Conv2d(inputs, 3 * len(TAPS), 3, padding=1)
        nn.init.zeros_(self.predict.weight)
        assert self.predict.bias is not None
        nn.init.zeros_(self.predict.bias)

    def forward(self, x: Tensor) -> Tensor:
        shift, share = self.predict(x).float().split((2 * len(TAPS), len(TAPS)), 1)
        shift = shift.unflatten(1, (len(TAPS), 2)).movedim(2, -1)
        return deformable_conv(x.float(), shift, share.sigmoid(), self.weight)


def plain(inputs: int, outputs: int) -> nn.Module:
    """3x3 convolution, batch normalisation, ReLU."""
    return conv(inputs, outputs, 3)


def deformable(inputs: int, outputs: int) -> nn.Module:
    """Deformable 3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(DeformableConv(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


UPSAMPLING: dict[str, Layer] = {"plain": plain, "deformable": deformable}  # by their names in the configuration


class Block(nn.Module):
    """Two 3x3 convolutions; the residual is given, since a tree pools and projects it once."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv(inputs, outputs, 3, stride)
        self.second = nn.Sequential(*list(conv(outputs, outputs, 3))[:2])

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + residual)


class Tree(nn.Module):
    """Hierarchical aggregation: two subtrees, whose outputs a 1x1 convolution joins with those of the ancestors."""

    def __init__(self, depth: int, inputs: int, outputs: int, stride: int, root: int, pass_input: bool) -> None:
        super().__init__()
        self.depth, self.stride, self.pass_input = depth, stride, pass_input
        root = (root or 2 * outputs) + (inputs if pass_input else 0)
        self.left: Block | Tree
        self.right: Block | Tree
        if depth == 1:
            self.left, self.right = Block(inputs, outputs, stride), Block(outputs, outputs, 1)
            self.root = conv(root, outputs, 1)
            self.project = nn.Sequential(*list(conv(inputs, outputs, 1))[:2]) if inputs != outputs else nn.Identity()
        else:
            self.left = Tree(depth - 1, inputs, outputs, stride, 0, False)
            self.right = Tree(depth - 1, outputs, outputs, 1, root + outputs, False)

    def forward(self, x: Tensor, ancestors: tuple[Tensor, ...] = ()) -> Tensor:
        bottom = functional.max_pool2d(x, self.stride, self.stride) if self.stride > 1 else x
        if self.pass_input:
            ancestors = (*ancestors, bottom)
        if isinstance(self.left, Tree) or isinstance(self.right, Tree):
            left = self.left(x)
            return self.right(left, (*ancestors, left))
        left = self.left(x, self.project(bottom))
        right = self.right(left, left)
        return self.root(torch.cat([right, left, *ancestors], 1))


class Merge(nn.Module):
    """Iterative aggregation: brings coarser maps to the finest one, joining each with its finer neighbour."""

    def __init__(self, channels: list[int], output: int, layer: Layer) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(layer(c, output) for c in channels[1:])
        self.join = nn.ModuleList(layer(output, output) for _ in channels[1:])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps, finest first, the first one with `output` channels -> the joined maps, in the order of joining."""
        joined, finest = [], maps[0]
        for reduce, join, x in zip(self.reduce, self.join, maps[1:], strict=True):
            x = functional.interpolate(reduce(x), size=finest.shape[2:], mode="bilinear", align_corners=False)
            finest = join(x + finest)
            joined.append(finest)
        return joined


class DLA34(nn.Module):
    """BGR images (B, 3, H, W) in 0..255 -> features (B, 64, H / 4, W / 4).

    Args:
        upsampling: makes the 3x3 convolutions of the upsampling path.
    """

    channels = 64
    early = ("stem", "levels.0", "levels.1", "levels.2")

    def __init__(self, upsampling: Layer = plain) -> None:
        super().__init__()
        self.normalise = ImageNetNormalisation()
        self.stem = conv(3, WIDTHS[0], 7)
        levels: list[nn.Module] = [conv(WIDTHS[0], WIDTHS[0], 3), conv(WIDTHS[0], WIDTHS[1], 3, 2)]
        levels += [
            Tree(LEVELS[k], WIDTHS[k - 1], WIDTHS[k], 2, 0, pass_input=k > FIRST_LEVEL)
            for k in range(FIRST_LEVEL, len(WIDTHS))
        ]
        self.levels = nn.ModuleList(levels)
        widths = list(WIDTHS[FIRST_LEVEL:])
        # the coarsest two maps are joined at stride 16, then three at stride 8, then four at stride 4
        self.up = nn.ModuleList(
            Merge([widths[k]] + [widths[k + 1]] * (len(widths) - 1 - k), widths[k], upsampling)
            for k in reversed(range(len(widths) - 1))
        )
        self.final = Merge(widths[:3], self.channels, upsampling)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(self.normalise(image))
        maps = []
        for stage in self.levels:
            x = stage(x)
            maps.append(x)
        maps = maps[FIRST_LEVEL:]
        finest_of = [maps[-1]]
        for step, merge in enumerate(self.up):
            start = len(maps) - 2 - step
            maps[start + 1 :] = merge(maps[start:])
            finest_of.insert(0, maps[-1])
        return self.final(finest_of[:3])[-1]

    def load(self, path: Path) -> None:
        """Loads a state dict of this module or, into all but the upsampling path, one that was published for ImageNet.

        Raises ModelError for another one.
        """
        expected = "a DLA-34 state dict"
        found = tensors(path, read_torch(path, expected), expected)
        try:
            if PUBLISHED_STEM in found:
                found = self.state_dict() | self._published(found)
            self.load_state_dict(found)
        except (KeyError, RuntimeError) as error:
            raise ModelError(f"{path}: expected {expected}, got {error}") from error

    def _published(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the stem and the levels under their own names."""
        own = [name for name in self.state_dict() if name.startswith(("stem.", "levels."))]
        counted = [name for name in own if not name.endswith("num_batches_tracked")]  # says nothing of the weights
        return {name: found[published_name(name)] for name in counted}


def published_name(name: str) -> str:
    """What the authors' classifier calls a weight of DLA34's stem or levels."""
    for own, theirs in PUBLISHED_NAMES:
        name = re.sub(own, theirs, name)
    return name
