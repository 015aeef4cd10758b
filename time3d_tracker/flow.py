"""Spatial-temporal information flow (paper Sec. 3.3): attention within a frame, then to the objects of past frames.

The affinity of the current and a past frame has one row and one column more than it has objects. They belong to a
learnt "nobody" on either side, which takes part in the dot products like everybody else.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from time3d_tracker.config import ATTRIBUTES, NetworkConfig
from time3d_tracker.embedding import mlp

HIDDEN = -1e4  # logit of what must not be attended to
MOTION = 6  # elapsed time and the camera's own motion, see level.motion
AFFINITY_LAYER = 1  # the second one (paper Sec. 4.2)
FASTEST = 60.0  # metres per second
# Squared seconds: of a displacement over a time t the share t^2 / (t^2 + STIFFNESS) counts, for places have errors.
STIFFNESS = 0.05


class Memory(NamedTuple):
    """Past frames, P of them for each current one.

    Attributes:
        features: (B, P, K, d) their spatial features.
        centres: (B, P, K, 3) of its objects in the level frame of that time, metres.
        valid: (B, P, K) bool, which slots hold an object; none in a frame that is missing.
        elapsed: (B, P) seconds from each to the current frame.
        motion: (B, P, 5) of the camera from each to the current frame, as `level.motion` gives it; (0, 0, 0, 0, 1)
            where unknown.
    """

    features: Tensor
    centres: Tensor
    valid: Tensor
    elapsed: Tensor
    motion: Tensor


class Flow(NamedTuple):
    """What the temporal flow says about the K objects of the current frame.

    Attributes:
        affinity: (B, P, K + 1, K + 1) logits of Eq. 3; rows are current objects, columns past ones, the last of
            each is nobody.
        velocity: (B, K, 3) in the level frame's axes, metres per second, over ground where the motion is known.
        attributes: (B, K, 3) logits of ATTRIBUTES.
    """

    affinity: Tensor
    velocity: Tensor
    attributes: Tensor


class Attention(nn.Module):
    """Multi-head attention (Eq. 1) without position encoding, as a residual followed by one of an MLP."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))
        self.query_norm, self.key_norm, self.mlp_norm = (nn.LayerNorm(channels) for _ in range(3))
        self.mlp = mlp(channels, 2 * channels, channels)

    def forward(self, x: Tensor, source: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, N, d) and sources (B, M, d), of which (B, M) are valid -> (B, N, d) and the weights before
        softmax (B, heads, N, M), not masked."""
        source = self.key_norm(source)
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, y in ((self.query, self.query_norm(x)), (self.key, source), (self.value, source))
        )
        weights = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        share = (weights + _penalty(valid, weights.dtype)[:, None, None]).softmax(-1)
        x = x + self.out((share @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.mlp_norm(x)), weights


class Alone(nn.Module):
    """An MLP in place of an attention layer: nothing flows between objects (the paper's Table 4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mlp = mlp(channels, 2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class SpatialFlow(nn.Module):
    """Eq. 2: F -> spatial features, (B, K, d)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        count, d = config.spatial_layers, config.embedding
        self.attends = config.flow != "none"
        kinds = (Attention(d, config.attention_heads) if self.attends else Alone(d) for _ in range(count))
        self.layers = nn.ModuleList(kinds)
        self.norm = nn.LayerNorm(d)

    def forward(self, embedding: Tensor, valid: Tensor) -> Tensor:
        """Embeddings (B, K, d) of objects, of which (B, K) are valid; each attends to those and to itself."""
        x = embedding
        for layer in self.layers:
            x = layer(x, x, valid)[0] if self.attends else layer(x)
        return self.norm(x)


class TemporalFlow(nn.Module):
    """Eq. 3 and 4: current and remembered spatial features -> affinities, velocity, attribute."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        d, heads = config.embedding, config.attention_heads
        self.attends = config.flow == "spatial+temporal"
        self.motion = mlp(d + MOTION, d, d)
        self.nobody_now = nn.Parameter(torch.randn(d))
        self.nobody_past = nn.Parameter(torch.randn(d))
        count = config.temporal_layers
        self.layers = nn.ModuleList(Attention(d, heads) if self.attends else Alone(d) for _ in range(count))
        self.affinity = mlp(heads if self.attends else 1, 2 * heads, 1)
        if self.attends:  # affinity starts as likeness: from random projections it stays at chance for long
            layer = self.layers[AFFINITY_LAYER]
            assert isinstance(layer, Attention)
            layer.key.load_state_dict(layer.query.state_dict())
        self.norm = nn.LayerNorm(d)
        self.moved = nn.Linear(4, d)
        self.predict = mlp(d, d, d, 3 + len(ATTRIBUTES))

    def forward(self, now: Tensor, centres: Tensor, memory: Memory) -> Flow:
        """Current spatial features (B, K, d), the objects' centres (B, K, 3) in the level frame, and the memory."""
        slots, past = now.shape[1], memory.elapsed.shape[1]
        told = torch.cat([memory.elapsed[..., None], memory.motion], -1) * now.new_tensor([1, 0.2, 0.2, 0.2, 5, 1])
        told = told[:, :, None].expand(-1, -1, slots, -1)
        aware = memory.features + self.motion(torch.cat([memory.features, told], -1))  # motion modelling
        x = torch.cat([now, self.nobody_now.expand(now.shape[0], 1, -1)], 1)
        source = torch.cat([aware.flatten(1, 2), self.nobody_past.expand(now.shape[0], 1, -1)], 1)
        valid = functional.pad(memory.valid.flatten(1), (0, 1), value=True)
        if self.attends:
            weights = torch.zeros(())
            for number, layer in enumerate(self.layers):
                x, dots = layer(x, source, valid)
                weights = dots if number == AFFINITY_LAYER else weights
        else:
            for layer in self.layers:
                x = layer(x)
            weights = 10 * (functional.normalize(x, dim=-1) @ functional.normalize(source, dim=-1).mT)[:, None]
        logits = weights.sum(1) + self.affinity(weights.movedim(1, -1)).squeeze(-1)  # (B, K + 1, P K + 1)
        known = logits[..., :-1].unflatten(-1, (past, slots)).transpose(1, 2)
        nobody = logits[:, None, :, -1:].expand(-1, past, -1, -1)
        affinity = torch.cat([known, nobody], -1)

        shares = (known + _penalty(memory.valid, known.dtype)[:, :, None]).float()
        shares = torch.cat([shares, nobody.float()], -1).softmax(-1)[:, :, :-1, :-1]
        moved = displacement_velocity(centres.float(), memory, shares)
        tens = torch.cat([moved, moved.norm(dim=-1, keepdim=True)], -1).to(now.dtype) / 10
        said = self.predict(self.norm(x[:, :-1]) + self.moved(tens)).float()
        change, attributes = said.split((3, len(ATTRIBUTES)), -1)
        velocity = FASTEST * ((moved + change) / FASTEST).tanh()
        return Flow(affinity.float(), velocity, attributes)


def displacement_velocity(centres: Tensor, memory: Memory, shares: Tensor) -> Tensor:
    """Velocity that the past places imply: least squares of a steady motion that ends in the present place.

    The paper leaves velocity to the network alone; here the network adds to this. It stays near zero over so short a
    time that the places' errors would rule.

    Args:
        centres: (B, K, 3) present places, metres, in the present level frame.
        memory: the past.
        shares: (B, P, K, K) probabilities that a present object (row) was a past one.

    Returns:
        (B, K, 3) metres per second, over ground where the camera's motion is known.
    """
    x, y, z = memory.centres.float().unbind(-1)
    shift, (sin, cos) = memory.motion[..., None, :3].float(), memory.motion[..., 3:].float().unbind(-1)
    turned = torch.stack([cos[..., None] * x + sin[..., None] * z, y, cos[..., None] * z - sin[..., None] * x], -1)
    then = turned - shift  # the past places in the present level frame
    way = shares.sum(-1, keepdim=True) * centres[:, None] - shares @ then
    time = memory.elapsed[..., None].float()
    weight = (shares.sum(-1) * time**2).sum(1)
    return (way * time[..., None]).sum(1) / (weight + STIFFNESS)[..., None]


def association(affinity: Tensor, now_valid: Tensor, past_valid: Tensor) -> Tensor:
    """Logarithm of the association matrix: row softmax times column softmax, elementwise (in front of Eq. 6).

    The column of nobody is normalised along its rows alone and the row of nobody along its columns: any number of
    objects may be new, or gone.

    Args:
        affinity: (..., K + 1, K + 1) logits.
        now_valid, past_valid: (..., K) bool; slots without an object take no part.

    Returns:
        (..., K + 1, K + 1), not above 0; about HIDDEN where a slot takes no part.
    """
    past = functional.pad(past_valid, (0, 1), value=True)
    now = functional.pad(now_valid, (0, 1), value=True)
    rows = (affinity + _penalty(past, affinity.dtype)[..., None, :]).log_softmax(-1)
    columns = (affinity + _penalty(now, affinity.dtype)[..., None]).log_softmax(-2)
    both = rows[..., :-1, :-1] + columns[..., :-1, :-1]
    new, gone = rows[..., :-1, -1:], columns[..., -1:, :-1]
    corner = torch.zeros_like(new[..., :1, :])
    return torch.cat([torch.cat([both, new], -1), torch.cat([gone, corner], -1)], -2)


def _penalty(valid: Tensor, dtype: torch.dtype) -> Tensor:
    return (~valid).to(dtype) * HIDDEN
