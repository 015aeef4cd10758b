"""What every backbone has."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn


class Backbone(nn.Module):
    """Image -> feature maps at strides 8, 16 and 32.

    Attributes:
        channels: of the three maps.
        early: names of the modules up to stride 8 or less, which training may leave as they are.
    """

    channels: tuple[int, ...]
    early: tuple[str, ...]

    def forward(self, image: Tensor) -> list[Tensor]:
        """BGR images (B, 3, H, W) in 0..255 -> three maps, finest first."""
        raise NotImplementedError

    def load(self, path: Path) -> None:
        """Loads pretrained weights. Raises ModelError for another network's."""
        raise NotImplementedError
