"""The global correlation layer: a stored or present query asks all of the current frame where its object is.

Every form has two steps: `look` turns the current frame into what is asked, `read` answers queries.

* `LinearCorrelation` is Eq. 2 as printed. C_ij = W flatten(cos(Q_ij, K)); with unit vectors q^ and k^ the cosine is a
  dot product, so C_ij = W (K^ q^_ij) = (W K^) q^_ij: the (c', c) matrix M = W K^ is all that is ever needed of the
  current frame, and the (h'w') x (h'w') map is never built.
* `PlaceCorrelation` makes the weights sharp, a softmax over the most confident cells, and two rows of W the cells'
  coordinates. It is the form nearest to Eq. 2 that finds an object again.
* `AttentionCorrelation`, the default, reads with the same weights the mean place and the mean V of the current frame
  instead of W's columns. A free W has to learn where each of its cells lies; copies of the old coordinates hide that
  it does not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -30.0  # logit of a cell that may not be found
WINDOW = 0.75  # sizes of the object around the best cell that an answer is read from
LEAST_WINDOW = 0.01  # of it, as a share of the width of the input
SURE = 0.3  # share of the weights near the best cell, below which nothing was found
OFFSET = 0.1  # share of the image by which the box layer moves a place that was read


class Frame(NamedTuple):
    """What a frame says, all maps (B, ., h', w'): keys, not normalised; gate in [0, 1]; values; places in [0, 1]."""

    keys: Tensor
    gate: Tensor
    values: Tensor
    places: Tensor


class Memory(NamedTuple):
    """What is asked of the current frame, for N cells; of the linear form M (B, c', c) alone, as `keys`."""

    keys: Tensor
    log_gate: Tensor
    values: Tensor
    places: Tensor
    cells: Tensor


class Reading(NamedTuple):
    """Answers to P queries.

    Attributes:
        described: (B, d, P) what boxes are made of.
        chosen: (B, d, P) the same as confidence is made of.
        place: (B, 2, P) x, y in [0, 1] that the boxes' centres are offsets from, or None: centres are absolute.
        evidence: (B, e, P) what else confidence is made of.
        logits: (B, P, N) of the weights over the cells of the memory; None where there are none.
    """

    described: Tensor
    chosen: Tensor
    place: Tensor | None
    evidence: Tensor
    logits: Tensor | None


def unit(vectors: Tensor, dim: int = 1) -> Tensor:
    """Vectors scaled to length one along `dim`."""
    return functional.normalize(vectors, dim=dim, eps=1e-6)


class LinearCorrelation(nn.Module):
    """W of Eq. 2: (c', h'w'). Its columns belong to cells, which ties the parameters to the input size."""

    def __init__(self, channels: int, value_channels: int, height: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(smooth_columns(channels, height, width))
        self.described, self.evidence = channels + value_channels, 0

    def look(self, frame: Frame) -> Memory:
        """M = W K^. The gate multiplies the normalised keys: in front of a cosine it would cancel."""
        gated = (unit(frame.keys) * frame.gate).flatten(2)
        summary = torch.matmul(self.weight, gated.transpose(1, 2))
        nothing = summary[:, :0]
        return Memory(summary, nothing, nothing, nothing, nothing)

    def read(
        self, memory: Memory, queries: Tensor, stored: Tensor, extent: Tensor, masked: Tensor | None = None
    ) -> Reading:
        """[C, V] of Eq. 6 for queries (B, c, P), not normalised, and stored [V, place] (B, v + 2, P)."""
        values = stored[:, :-2]
        described = torch.cat([torch.matmul(memory.keys, unit(queries)), values], 1)
        return Reading(described, described, None, described[:, :0], None)


class SharpCorrelation(nn.Module):
    """What the sharp forms share: softmax(t cos(q, k) + log gate) over the most confident cells."""

    def __init__(self, candidates: int) -> None:
        super().__init__()
        self.candidates = candidates
        self.log_temperature = nn.Parameter(torch.tensor(2.3))

    def look(self, frame: Frame) -> Memory:
        """The most confident cells. The gate tells what is there and is not taught by boxes."""
        gate = frame.gate.detach().flatten(2)
        confident, cells = gate.topk(min(self.candidates, gate.shape[2]), dim=2)
        cells = cells[:, 0]
        keys, values, places = (gather(x, cells) for x in (frame.keys, frame.values, frame.places))
        return Memory(unit(keys), confident.clamp(min=1e-4).log(), values, places, cells)

    def weigh(
        self, memory: Memory, queries: Tensor, masked: Tensor | None, cost: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and weights (B, P, N) over the memory's cells, and evidence (B, 3, P) of the match.

        Args:
            cost: (B, P, N) subtracted from the logits.
        """
        cosine = torch.matmul(unit(queries).transpose(1, 2), memory.keys)
        logits = self.log_temperature.exp() * cosine + memory.log_gate
        if cost is not None:
            logits = logits - cost
        if masked is not None:
            logits, cosine = logits.masked_fill(masked, MASKED), cosine.masked_fill(masked, -1.0)
        weights = logits.softmax(2)
        near = (cosine * (memory.log_gate / 2).exp()).amax(2)
        evidence = [near, logits.logsumexp(2) / 5, (weights * cosine).sum(2)]
        return logits, weights, torch.stack(evidence, 1)


class PlaceCorrelation(SharpCorrelation):
    """C = W a with sharp weights a over the confident cells; the first two rows of W start as the coordinates."""

    def __init__(
        self, channels: int, value_channels: int, height: int, width: int, candidates: int, places: Tensor
    ) -> None:
        super().__init__(candidates)
        self.weight = nn.Parameter(torch.cat([places.flatten(2)[0], smooth_columns(channels - 2, height, width)]))
        self.described, self.evidence = channels + value_channels, 3

    def look(self, frame: Frame) -> Memory:
        columns = self.weight.unflatten(1, frame.keys.shape[2:]).expand(frame.keys.shape[0], -1, -1, -1)
        return super().look(frame._replace(values=columns))

    def read(
        self, memory: Memory, queries: Tensor, stored: Tensor, extent: Tensor, masked: Tensor | None = None
    ) -> Reading:
        """As the linear form's; the place is what W's first two rows say."""
        values = stored[:, :-2]
        logits, weights, evidence = self.weigh(memory, queries, masked)
        correlation = torch.matmul(memory.values, weights.transpose(1, 2))
        described = torch.cat([correlation, values], 1)
        return Reading(described, described, correlation[:, :2], evidence, logits)


class AttentionCorrelation(SharpCorrelation):
    """Mean place and mean V of the current frame, by the sharp weights. No coordinates and no old V in the boxes.

    A cell far from the old place costs beta log(1 + distance / extent): what a car moves between two frames is so many
    of its own lengths, near or far, and the logarithm leaves it free to be anywhere where a camera turns.

    Where two objects share the weights their mean is neither: an answer is read around the best cell alone. Where the
    weights are all over the image nothing was found, and the mean of all is nobody's box. In training boxes are read
    from all cells, for that is what moves the weights.
    """

    def __init__(self, value_channels: int, height: int, width: int, candidates: int) -> None:
        super().__init__(candidates)
        self.aspect = height / width
        self.reach = nn.Parameter(torch.tensor(0.0))
        self.described, self.evidence = value_channels, 2 * value_channels + 3

    def read(
        self, memory: Memory, queries: Tensor, stored: Tensor, extent: Tensor, masked: Tensor | None = None
    ) -> Reading:
        """Answers queries (B, c, P) with stored [V, place] (B, v + 2, P).

        Args:
            extent: (B, P) size that the object had, as a share of the width of the input.
            masked: (B, P, N) bool, cells of the memory that may not be found; training only.
        """
        values, places = stored[:, :-2], stored[:, -2:]
        logits, weights, evidence = self.weigh(memory, queries, masked, self.cost(memory, places, extent))
        around = self._around_best(memory, weights, extent).transpose(1, 2)
        chosen = torch.matmul(memory.values, around)
        weights = weights.transpose(1, 2) if self.training else around
        described = torch.matmul(memory.values, weights) if self.training else chosen
        place = torch.matmul(memory.places, weights)
        evidence = torch.cat([values, (chosen - values).abs(), evidence], 1)
        return Reading(described, chosen, place, evidence, logits)

    def _around_best(self, memory: Memory, weights: Tensor, extent: Tensor) -> Tensor:
        """(B, P, N) the weights near the best cell, summing to 1; all of them where those are less than SURE."""
        window = (WINDOW * extent[..., None]).clamp(min=LEAST_WINDOW)
        outside = self.distance(memory, gather_columns(memory.places, weights.argmax(2))) > window
        sure = weights.masked_fill(outside, 0.0).sum(2, keepdim=True) >= SURE
        kept = weights.masked_fill(outside & sure, 0.0)
        return kept / kept.sum(2, keepdim=True)

    def cost(self, memory: Memory, places: Tensor, extent: Tensor) -> Tensor:
        """(B, P, N) of the memory's cells for objects that were at places (B, 2, P)."""
        return 4 * functional.softplus(self.reach) * torch.log1p(self.distance(memory, places) / extent[..., None])

    def distance(self, memory: Memory, places: Tensor) -> Tensor:
        """(B, P, N) of the memory's cells from places (B, 2, P), as shares of the width of the input."""
        across, down = (places[:, axis, :, None] - memory.places[:, axis, None] for axis in (0, 1))
        return (across**2 + (down * self.aspect) ** 2 + 1e-6).sqrt()


def gather(maps: Tensor, cells: Tensor) -> Tensor:
    """(B, c, h', w') at flat cells (B, P) -> (B, c, P)."""
    return gather_columns(maps.flatten(2), cells)


def gather_columns(vectors: Tensor, columns: Tensor) -> Tensor:
    """(B, c, N) at columns (B, P) -> (B, c, P)."""
    return vectors.gather(2, columns[:, None].expand(-1, vectors.shape[1], -1))


def dense_correlation(weight: Tensor, keys: Tensor, gate: Tensor, queries: Tensor) -> Tensor:
    """Eq. 2 as printed, with the (h'w')^2 cosine map: an oracle for tests, far too slow for anything else."""
    cosines = torch.einsum("bcp,bcr->bpr", unit(queries), unit(keys).flatten(2) * gate.flatten(2))
    return torch.einsum("kr,bpr->bkp", weight, cosines)


def smooth_columns(channels: int, height: int, width: int) -> Tensor:
    """Initial W: random low-frequency waves, so that neighbouring cells start with similar columns.

    Independent columns would have to be learnt cell by cell from the few objects that ever visit a cell.
    """
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    frequency = torch.randn(2, channels, 1, 1, generator=generator) * torch.pi
    phase = torch.rand(channels, 1, 1, generator=generator) * 2 * torch.pi
    return torch.cos(frequency[0] * rows + frequency[1] * columns + phase).flatten(1)
