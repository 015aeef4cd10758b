"""Losses of boxes (paper Eq. 10). Eq. 9 is `camtrack_core.networks.heatmap.focal_loss`.

Eq. 9 divides by the number of cells, Eq. 10 by nothing. Here both are divided by the number of objects, as in
CornerNet, to which the paper refers: the ratio between the two parts then does not depend on the input size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
