"""Losses (paper Eq. 9, 10 and 12).

Eq. 9 divides by the number of cells, Eq. 10 by nothing. Here both are divided by the number of objects, as in
CornerNet, to which the paper refers: the ratio between the two parts then does not depend on the input size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def focal_loss(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Eq. 9, summed: penalty-reduced focal loss of logits against Ygt of the same shape.

    `counted` is 0 where no loss is taken (ignored regions) and broadcasts.
    """
    confidence = logits.sigmoid()
    hit = (1 - confidence) ** 2 * functional.logsigmoid(logits)
    miss = (1 - target) ** 2 * confidence**2 * functional.logsigmoid(-logits)
    return -(torch.where(target == 1, hit, miss) * counted).sum()


def ciou_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """1 - CIoU (Zheng et al. 2020) of boxes (P, 4) and truth (P, 4), both (x1, y1, x2, y2): (P,)."""
    low, high = torch.maximum(boxes[:, :2], truth[:, :2]), torch.minimum(boxes[:, 2:], truth[:, 2:])
    size, truth_size = boxes[:, 2:] - boxes[:, :2], truth[:, 2:] - truth[:, :2]
    overlap = (high - low).clamp(min=0).prod(1)
    iou = overlap / (size.prod(1) + truth_size.prod(1) - overlap + 1e-9)

    hull = torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])
    offset = (boxes[:, :2] + boxes[:, 2:] - truth[:, :2] - truth[:, 2:]) / 2
    distance = (offset**2).sum(1) / ((hull**2).sum(1) + 1e-9)

    angle = torch.atan(size[:, 0] / (size[:, 1] + 1e-9))
    truth_angle = torch.atan(truth_size[:, 0] / (truth_size[:, 1] + 1e-9))
    shape = 4 / math.pi**2 * (truth_angle - angle) ** 2
    with torch.no_grad():
        trade_off = shape / (1 - iou + shape + 1e-9)
    return 1 - iou + distance + trade_off * shape


def box_loss(boxes: Tensor, truth: Tensor, owner: Tensor, weight: Tensor, aspect: float) -> Tensor:
    """Eq. 10, summed: CIoU loss of the assigned cells.

    Args:
        boxes: (B, 4, P) (x1, y1, x2, y2), shares of the input's width and height.
        truth: (B, N, 4) of the same, padded.
        owner: (B, P) int, row of truth, -1 for none (Eq. 11).
        weight: (B, P) beta.
        aspect: the input's height over its width, which makes the distances those of pixels.
    """
    batch, cell = torch.nonzero(owner >= 0, as_tuple=True)
    scale = boxes.new_tensor([1, aspect, 1, aspect])
    losses = ciou_loss(boxes[batch, :, cell].float() * scale, truth[batch, owner[batch, cell]].float() * scale)
    return (losses * weight[batch, cell]).sum()
