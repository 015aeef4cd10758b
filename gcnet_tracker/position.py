"""Position embeddings P of the global correlation layer (paper Eq. 5 and Table 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def circular(channels: int, height: int, width: int) -> Tensor:
    """Eq. 5: (c, h', w') embedding whose cosine similarity falls with distance.

    The similarity of two rows is cos(pi (i1 - i2) / h') and likewise for columns: near positions agree, opposite
    borders are opposed.
    """
    phase = 4 * math.pi * torch.arange(channels // 2, dtype=torch.float64)[:, None] / channels
    rows = torch.cos(phase + math.pi * torch.arange(height, dtype=torch.float64) / height)
    phase = 4 * math.pi * torch.arange(channels // 2, channels, dtype=torch.float64)[:, None] / channels
    columns = torch.cos(phase + math.pi * torch.arange(width, dtype=torch.float64) / width)
    return _spread(rows, columns)


def explicit(channels: int, height: int, width: int) -> Tensor:
    """Table 1, "explicit Pos. Ebd.": the row index in the first half of the channels, the column in the second."""
    rows = torch.arange(height, dtype=torch.float64).expand(channels // 2, height)
    columns = torch.arange(width, dtype=torch.float64).expand(channels - channels // 2, width)
    return _spread(rows, columns)


def _spread(rows: Tensor, columns: Tensor) -> Tensor:
    """(c/2, h') and (c/2, w') to one (c, h', w') map."""
    height, width = rows.shape[1], columns.shape[1]
    return torch.cat([rows[:, :, None].expand(-1, -1, width), columns[:, None, :].expand(-1, height, -1)]).float()


EMBEDDINGS = {"circular": circular, "explicit": explicit}
