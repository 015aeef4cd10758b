"""The global correlation layer (paper Eq. 2), in its linear form.

Every correlation vector is C_ij = W flatten(cos(Q_ij, K)). With unit vectors q^ and k^ the cosine is a dot product,
so C_ij = W (K^ q^_ij) = (W K^) q^_ij: the (c', c) matrix M = W K^ is all that is ever needed of the current frame.
It is computed once, costs c' c a query afterwards, and the (h'w') x (h'w') map is never built.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def unit(vectors: Tensor, dim: int = 1) -> Tensor:
    """Vectors scaled to length one along `dim`."""
    return functional.normalize(vectors, dim=dim, eps=1e-6)


class GlobalCorrelation(nn.Module):
    """W of Eq. 2: (c', h'w'). Its columns belong to cells, which ties the parameters to the input size."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(_smooth_columns(channels, height, width))

    def summarise(self, keys: Tensor, gate: Tensor) -> Tensor:
        """M = W K^ of one frame.

        The gate multiplies the normalised keys: in front of a cosine it would cancel.

        Args:
            keys: (B, c, h', w'), not normalised.
            gate: (B, 1, h', w') in [0, 1].

        Returns:
            (B, c', c)
        """
        gated = (unit(keys) * gate).flatten(2)
        return torch.matmul(self.weight, gated.transpose(1, 2))

    @staticmethod
    def correlate(summary: Tensor, queries: Tensor) -> Tensor:
        """C of Eq. 2 for queries (B, c, P), not normalised: (B, c', P)."""
        return torch.matmul(summary, unit(queries))


def dense_correlation(weight: Tensor, keys: Tensor, gate: Tensor, queries: Tensor) -> Tensor:
    """Eq. 2 as printed, with the (h'w')^2 cosine map: an oracle for tests, far too slow for anything else."""
    cosines = torch.einsum("bcp,bcr->bpr", unit(queries), unit(keys).flatten(2) * gate.flatten(2))
    return torch.einsum("kr,bpr->bkp", weight, cosines)


def _smooth_columns(channels: int, height: int, width: int) -> Tensor:
    """Initial W: random low-frequency waves, so that neighbouring cells start with similar columns.

    Independent columns would have to be learnt cell by cell from the few objects that ever visit a cell.
    """
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    frequency = torch.randn(2, channels, 1, 1, generator=generator) * torch.pi
    phase = torch.rand(channels, 1, 1, generator=generator) * 2 * torch.pi
    return torch.cos(frequency[0] * rows + frequency[1] * columns + phase).flatten(1)
