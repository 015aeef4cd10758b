"""Losses (paper Eq. 5 to 8). Each is a sum over the objects that count, divided by their number.

Lengths are taken as shares of the distance or of the 2D box, so that near objects do not drown far ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from time3d_tracker import geometric_reasoning as reasoning
from time3d_tracker.detector import BINS, Objects, Raw
from time3d_tracker.flow import HIDDEN

SMALLEST = 8.0  # pixels; key points of smaller boxes weigh no more than those of such
BIN_REACH = 1.5  # bins whose residual is trained, in half widths of a bin around its centre
REID_TEMPERATURE = 0.1

Truth = dict[str, Tensor]  # as `targets.build` makes it, rows picked for the slots: (..., K, ...)


def mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of values (...) over those that count (..., bool); 0 where none does."""
    return torch.where(counted, values, torch.zeros_like(values)).sum() / counted.sum().clamp(min=1)


# --------------------------------------------------------------------------------- Eq. 5, all but the heatmap


def box2d_loss(raw: Raw, truth: Truth, corner: Tensor, stride: int, counted: Tensor) -> Tensor:
    """L1 of the centre's offset from its cell and of the logarithm of the size; `corner` (..., K, 2) is the cell."""
    low, high = truth["box2d"].split(2, -1)
    offset = (low + high) / 2 / stride - corner
    size = ((high - low) / stride).clamp(min=0.1).log()
    return mean(((raw["offset"] - offset).abs() + (raw["size2d"] - size).abs()).sum(-1), counted)


def keypoint_loss(objects: Objects, truth: Truth, counted: Tensor) -> Tensor:
    """L_kc: L1 distance of the key points as a share of the 2D box, mean over those that are asked for."""
    low, high = truth["box2d"].split(2, -1)
    extent = (high - low).clamp(min=SMALLEST)
    error = ((objects.keypoints - truth["keypoints"]).abs() / extent[..., None, :]).sum(-1)
    return mean(error, truth["keypoints_asked"] & counted[..., None])


def dimension_loss(objects: Objects, truth: Truth, counted: Tensor) -> Tensor:
    """L_D: L1 of the logarithms of length, width and height."""
    error = (objects.size.log() - truth["size"].clamp(min=0.05).log()).abs().sum(-1)
    return mean(error, counted)


def orientation_loss(raw: Raw, truth: Truth, counted: Tensor) -> Tensor:
    """L_O: multi-bin loss of the observation angle: which bin is nearest, and the residual of bins near enough."""
    bins, residual = _bins(raw, truth)
    nearest = residual.abs().argmin(-1)
    choice = functional.cross_entropy(bins[..., 0].flatten(0, -2), nearest.flatten(), reduction="none")
    said = functional.normalize(bins[..., 1:], dim=-1)
    error = 1 - said[..., 0] * residual.sin() - said[..., 1] * residual.cos()
    near = residual.abs() <= BIN_REACH * torch.pi / BINS
    return mean(choice.view_as(nearest), counted) + mean(error, near & counted[..., None])


def facing_loss(raw: Raw, truth: Truth, counted: Tensor) -> Tensor:
    """Which end is the front, of objects whose way in the image alone tells it: the bin nearest to their observation
    angle, roughly known as it is, against the opposite one."""
    bins, residual = _bins(raw, truth)
    nearest = residual.abs().argmin(-1, keepdim=True)
    lead = bins[..., 0].gather(-1, nearest) - bins[..., 0].gather(-1, (nearest + BINS // 2) % BINS)
    return mean(functional.softplus(-lead).squeeze(-1), counted)


def _bins(raw: Raw, truth: Truth) -> tuple[Tensor, Tensor]:
    """Bins (B, K, BINS, 3) as they are predicted, and what the true observation angle is beyond each (B, K, BINS)."""
    translation = truth["translation"]
    alpha = truth["yaw"] - torch.atan2(translation[..., 0], translation[..., 2])
    residual = alpha[..., None] - torch.arange(BINS, device=alpha.device) * 2 * torch.pi / BINS
    return raw["orientation"].unflatten(-1, (BINS, 3)), torch.atan2(residual.sin(), residual.cos())


def position_loss(objects: Objects, truth: Truth, counted: Tensor) -> Tensor:
    """L_T: log(1 + e) of the distance e of the solved position as a share of the true distance.

    The logarithm bounds what a position far off, from key points that still say nothing, does to the weights.
    """
    return mean(torch.log1p(_position_error(objects, truth)), counted & objects.usable)


def depth_loss(objects: Objects, truth: Truth, counted: Tensor) -> Tensor:
    """L1 of the logarithm of the regressed depth."""
    error = (objects.depth.clamp(min=1e-3).log() - truth["translation"][..., 2].clamp(min=0.1).log()).abs()
    return mean(error, counted)


def deviation_loss(objects: Objects, truth: Truth, counted: Tensor) -> Tensor:
    """Negative log-likelihood of the errors of depth, of each cue and of the joined one, Laplacian with the predicted
    standard deviations; moves those alone."""
    true = truth["translation"][..., 2].clamp(min=0.1).log()
    cues = (objects.depths.clamp(min=reasoning.NEAREST).log() - true[..., None]).abs()
    joined = (objects.translation[..., 2].clamp(min=reasoning.NEAREST).log() - true).abs()
    each = _laplacian(cues, objects.deviations)
    return mean(each, counted[..., None] & objects.known) + mean(
        _laplacian(joined, objects.deviation), counted & objects.usable
    )


def _laplacian(error: Tensor, deviation: Tensor) -> Tensor:
    """Negative log-likelihood, up to a constant, of errors that count as no larger than 1."""
    return 2**0.5 * error.detach().clamp(max=1) / deviation + deviation.log()


def _position_error(objects: Objects, truth: Truth) -> Tensor:
    distance = truth["translation"].norm(dim=-1).clamp(min=1)
    return (objects.translation - truth["translation"]).norm(dim=-1) / distance


# ------------------------------------------------------------------------------------ Re-ID, Eq. 6 and Eq. 7


def reid_loss(reid: Tensor, ids: Tensor) -> Tensor:
    """Identity loss: each object must find its other views among all others of the clip and of the batch.

    Args:
        reid: (B, T, K, c) of length 1.
        ids: (B, T, K) int, of objects of one clip, -1 for none.
    """
    batch = torch.arange(len(ids), device=ids.device)[:, None, None].expand_as(ids)
    chosen = ids >= 0
    x, own, clip = reid[chosen], ids[chosen], batch[chosen]
    same = (own[:, None] == own) & (clip[:, None] == clip)
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    logits = (x @ x.mT / REID_TEMPERATURE).masked_fill(itself, HIDDEN)
    likely = logits.log_softmax(-1)
    positive = same & ~itself
    count = positive.sum(-1)
    each = -torch.where(positive, likely, torch.zeros_like(likely)).sum(-1) / count.clamp(min=1)
    return mean(each, count > 0)


def tracking_loss(log_association: Tensor, now_ids: Tensor, past_ids: Tensor, counted: Tensor) -> Tensor:
    """Eq. 6: cross-entropy of the association matrix.

    Args:
        log_association: (..., K + 1, K + 1), see `flow.association`.
        now_ids, past_ids: (..., K) identities, -1 for slots whose object is not labelled: they are not asked.
        counted: (...) bool, False for frames that are missing.
    """
    now, past = now_ids >= 0, past_ids >= 0
    same = (now_ids[..., :, None] == past_ids[..., None, :]) & now[..., :, None]
    new = now & ~same.any(-1)
    gone = past & ~same.any(-2)
    truth = torch.cat([
        torch.cat([same, new[..., None]], -1),
        functional.pad(gone, (0, 1))[..., None, :],
    ], -2)  # fmt: skip
    return mean(-log_association, truth & counted[..., None, None])


def consistency_loss(corners: Tensor, truth: Tensor, distance: Tensor, ids: Tensor) -> Tensor:
    """Eq. 7: how far each corner of an object moved between two frames, against how far it truly did.

    Args:
        corners: (B, T, K, 8, 3) of the boxes in the fixed frame, metres.
        truth: the same of the true boxes.
        distance: (B, T, K) of the true boxes from the camera, metres, by which errors are divided.
        ids: (B, T, K) identities, -1 for none.
    """
    total = corners.new_zeros(())
    count = torch.zeros((), device=ids.device)
    for later in range(1, ids.shape[1]):
        for earlier in range(later):
            same = (ids[:, later, :, None] == ids[:, earlier, None]) & (ids[:, later, :, None] >= 0)
            batch, i, j = torch.nonzero(same, as_tuple=True)
            moved = _length(corners[batch, later, i] - corners[batch, earlier, j])
            truly = _length(truth[batch, later, i] - truth[batch, earlier, j])
            error = _length(moved - truly) / 8**0.5 / distance[batch, later, i].clamp(min=1)
            total, count = total + torch.log1p(error).sum(), count + len(batch)
    return total / count.clamp(min=1)


def _length(x: Tensor) -> Tensor:
    """Euclidean norm over the last dimension, with a gradient at 0."""
    return (x.square().sum(-1) + 1e-8).sqrt()


# ------------------------------------------------------------------------- what the temporal flow predicts


def velocity_loss(velocity: Tensor, truth: Truth, counted: Tensor) -> Tensor:
    """Huber loss of the velocity (..., K, 3), in tens of metres per second."""
    error = functional.smooth_l1_loss(velocity / 10, truth["velocity"] / 10, reduction="none", beta=0.1).sum(-1)
    return mean(error, counted)


def attribute_loss(logits: Tensor, truth: Truth, counted: Tensor) -> Tensor:
    """Cross-entropy of the motion attribute (..., K, 3)."""
    each = functional.cross_entropy(logits.flatten(0, -2), truth["attributes"].flatten(), reduction="none")
    return mean(each.view_as(truth["attributes"]), counted)


def corners(translation: Tensor, size: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """(..., K, 8, 3) corners of boxes in the level frame."""
    return translation[..., None, :] + reasoning.offsets(size, sin, cos)[..., :8, :]
