"""Heatmaps of object centres: the Gaussians they are made of and the loss that teaches them.

After CornerNet (Law and Deng 2018), to which GCNet (Eq. 7 to 9) and Time3D (Eq. 5) both refer.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def distillation_loss(logits: Tensor, scores: Tensor) -> Tensor:
    """Cross entropy of logits with a teacher's scores in [0, 1], weighted by the squared error; summed.

    The quality focal loss of Li et al. 2020, least where the confidence is the teacher's score.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, scores, reduction="none")
    return ((scores - logits.sigmoid()) ** 2 * entropy).sum()


def focal_loss(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """GCNet's Eq. 9, summed: penalty-reduced focal loss of logits against a heatmap of the same shape.

    `counted` is 0 where no loss is taken (ignored regions) and broadcasts.
    """
    confidence = logits.sigmoid()
    hit = (1 - confidence) ** 2 * functional.logsigmoid(logits)
    miss = (1 - target) ** 2 * confidence**2 * functional.logsigmoid(-logits)
    return -(torch.where(target == 1, hit, miss) * counted).sum()
