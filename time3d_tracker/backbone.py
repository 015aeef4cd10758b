"""One feature map from an image: DLA-34's own, or a pyramid of the shared backbones joined from coarse to fine."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from camtrack_core.networks.backbone_base import Backbone
from camtrack_core.networks.backbones import BACKBONES
from camtrack_core.networks.dla import DLA34, UPSAMPLING, conv
from time3d_tracker.config import NetworkConfig


class Pyramid(nn.Module):
    """Adds the coarser maps (strides 32, 16) to the finer ones, down to stride 8 or 4."""

    def __init__(self, inputs: tuple[int, ...], channels: int, stride: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in inputs)
        self.smooth = conv(channels, channels, 3)
        self.refine = conv(channels, channels, 3) if stride == 4 else nn.Identity()
        self.stride = stride

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps at strides 8, 16 and 32 -> (B, channels, H / stride, W / stride)."""
        fine, middle, coarse = (lateral(x) for lateral, x in zip(self.lateral, maps, strict=True))
        middle = middle + functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        x = self.smooth(fine + functional.interpolate(middle, scale_factor=2.0, mode="nearest"))
        if self.stride == 4:
            x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.refine(x)


class Features(nn.Module):
    """BGR images (B, 3, H, W) in 0..255 -> features (B, channels, h', w')."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.backbone: DLA34 | Backbone
        self.neck: nn.Module
        if config.backbone == "dla34":
            self.backbone = DLA34(UPSAMPLING[config.upsampling])
            same = config.channels == DLA34.channels
            self.neck = nn.Identity() if same else conv(DLA34.channels, config.channels, 1)
        else:
            self.backbone = BACKBONES[config.backbone]()
            self.neck = Pyramid(self.backbone.channels, config.channels, config.stride)

    def forward(self, image: Tensor) -> Tensor:
        return self.neck(self.backbone(image))
