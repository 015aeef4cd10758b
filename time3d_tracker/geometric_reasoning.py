"""Geometric reasoning: the position of a box from its projected key points, its dimensions and its yaw.

With D the offset of a key point from the box's centre T and (u, v) its ray, both in the level frame, the pinhole says
    T_x - u T_z = u D_z - D_x,    T_y - v T_z = v D_z - D_y
for each of the nine key points (Li 2020): 18 equations in three unknowns, solved by weighted least squares. T_x and
T_y are eliminated by taking weighted means, which leaves one division. The camera enters through its rays alone.

Key points know depth from size. Two more cues may join, which the paper has not: a regressed depth, and the depth at
which the box stands on the ground, where the camera's height is known; that one does not depend on the size, but on the
camera's pitch. `fuse` weighs them by their variances, and `at_depth` is the least-squares position of that depth.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from time3d_tracker.level import CORNER_SIGNS

NEAREST = 0.3  # metres; a box whose centre is closer, or behind the camera, is none
LEAST_SPREAD = 1e-7  # weighted variance of the rays below which they fix no depth
LEAST_WEIGHT = 1e-9
LEAST_SLOPE = 0.01  # of a ray that meets the ground; a flatter one does so anywhere
FARTHEST = 1e3  # metres; depths beyond are brought there before they are joined


class Position(NamedTuple):
    """What the key points say.

    Attributes:
        translation: (..., 3) the centre in the level frame, metres; on the mean ray at NEAREST where not usable.
        usable: (...) bool, False where the key points fix no position in front of the camera.
    """

    translation: Tensor
    usable: Tensor


def offsets(size: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """D: (..., 9, 3) offsets of the eight corners and the centre from the centre, in the level frame.

    Args:
        size: (..., 3) length, width, height, metres.
        sin, cos: (...) of the yaw.
    """
    signs = torch.as_tensor(CORNER_SIGNS, dtype=size.dtype, device=size.device)
    half = size[..., None, :] / 2
    along, down, across = signs[:, 0] * half[..., 0], signs[:, 1] * half[..., 2], signs[:, 2] * half[..., 1]
    sin, cos = sin[..., None], cos[..., None]
    local = torch.stack([cos * along + sin * across, down, cos * across - sin * along], -1)
    return torch.cat([local, torch.zeros_like(local[..., :1, :])], -2)


def project(points: Tensor, projection: Tensor) -> Tensor:
    """Pixels (..., P, 2) of points (..., P, 3) of the level frame; meaningless, but finite, behind the camera."""
    image = points @ projection.transpose(-1, -2)
    depth = image[..., 2:]
    return image[..., :2] / torch.where(depth.abs() < 1e-3, torch.full_like(depth, 1e-3), depth)


def rays(pixels: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Rays (..., P, 2) = (x / z, y / z) in the level frame of pixels (..., P, 2), and whether they look ahead (..., P).

    Args:
        inverse: (..., 3, 3) of the projection.
    """
    direction = pixels @ inverse[..., :2].transpose(-1, -2) + inverse[..., None, :, 2]
    ahead = direction[..., 2:] > 1e-2 * direction[..., :2].abs().amax(-1, keepdim=True) + 1e-6
    safe = torch.where(ahead, direction[..., 2:], torch.ones_like(direction[..., 2:]))
    return torch.where(ahead, direction[..., :2] / safe, torch.zeros_like(direction[..., :2])), ahead.squeeze(-1)


def ground_depth(offset: Tensor, ray: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
    """Depth at which a box stands on the ground, from the rays of its bottom corners: T_z = height / v - D_z.

    The mean over the four corners does not depend on the box's size: the corners' D_z cancel.

    Args:
        offset: (..., 9, 3) D.
        ray: (..., 9, 2) u and v.
        height: (...) of the camera over the ground, metres; 0 where unknown.

    Returns:
        Depth (...), metres, and v (...), the mean slope of the rays, by which it is exact: an error of v is one of
        T_z v. Both 0 where the height is unknown or a corner is not well below the horizon.
    """
    v = ray[..., :4, 1]
    known = (height > 0) & (v.amin(-1) > LEAST_SLOPE)
    v = torch.where(known[..., None], v, torch.ones_like(v))
    depth = (height[..., None] / v - offset[..., :4, 2]).mean(-1)
    return torch.where(known, depth, torch.zeros_like(depth)), torch.where(known, v.mean(-1), torch.zeros_like(depth))


def solve(offset: Tensor, ray: Tensor, weight: Tensor) -> Position:
    """The weighted least-squares position from key points alone, differentiable in all arguments.

    Args:
        offset: (..., 9, 3) D.
        ray: (..., 9, 2) u and v.
        weight: (..., 9) of each key point's two equations, not negative.
    """
    share, enough = _shares(weight)
    right = ray * offset[..., 2:] - offset[..., :2]  # the equations' right-hand sides
    ray_spread = ray - (share[..., None] * ray).sum(-2, keepdim=True)
    right_spread = right - (share[..., None] * right).sum(-2, keepdim=True)
    variance = (share[..., None] * ray_spread**2).sum((-2, -1))
    covariance = (share[..., None] * ray_spread * right_spread).sum((-2, -1))
    conditioned = enough & (variance > LEAST_SPREAD)
    along = -covariance / torch.where(conditioned, variance, torch.ones_like(variance))
    return at_depth(offset, ray, weight, torch.where(conditioned, along, torch.zeros_like(along)))


def at_depth(offset: Tensor, ray: Tensor, weight: Tensor, depth: Tensor) -> Position:
    """The weighted least-squares position whose T_z is `depth` (...), metres; other arguments as `solve` has them.

    Not usable where no key point counts or the depth is none in front of the camera.
    """
    share, enough = _shares(weight)
    mean_ray = (share[..., None] * ray).sum(-2)
    mean_right = (share[..., None] * (ray * offset[..., 2:] - offset[..., :2])).sum(-2)
    usable = enough & (depth > NEAREST)  # False for NaN as well
    along = torch.where(usable, depth, torch.full_like(depth, NEAREST))
    across = mean_ray * along[..., None]
    across = torch.where(usable[..., None], mean_right + across, across.nan_to_num())
    return Position(torch.cat([across, along[..., None]], -1), usable)


def fuse(depth: Tensor, deviation: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cues of one depth, joined in the logarithm, in which their errors are about normal, by their variances.

    Args:
        depth: (..., C) metres.
        deviation: (..., C) standard deviation of each one's logarithm, above 0.
        known: (..., C) bool, the cues there are.

    Returns:
        Depth (...), metres, the standard deviation (...) of its logarithm, and how far the cues disagree (...): the
        square of their distance from the joined depth in their own deviations, a degree of freedom (Birge 1932), which
        is 1 on average where each errs by itself and as much as it says. Depth 0 and deviation 1 where there is no cue,
        disagreement 0 where there is only one.
    """
    known = known & (depth > NEAREST)
    any_known = known.any(-1)
    log_depth = torch.where(known, depth, torch.ones_like(depth)).clamp(max=FARTHEST).log()
    precision = torch.where(known, deviation**-2, torch.zeros_like(deviation))
    total = torch.where(any_known, precision.sum(-1), torch.ones_like(depth[..., 0]))
    mean = (precision * log_depth).sum(-1) / total
    joined = mean.exp()
    apart = (precision * (log_depth - mean[..., None]) ** 2).sum(-1) / (known.sum(-1) - 1).clamp(min=1)
    return torch.where(any_known, joined, torch.zeros_like(joined)), total.rsqrt(), apart


def _shares(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (..., P) over their sum, and whether there is one to speak of (...)."""
    total = weight.sum(-1)
    enough = total > LEAST_WEIGHT
    return weight / torch.where(enough, total, torch.ones_like(total))[..., None], enough
