"""Targets and losses against loops over the paper's equations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from camtrack_core.networks.heatmap import focal_loss
from camtrack_core.training import gaussians
from gcnet_tracker import losses, targets


def test_deviation_leaves_the_threshold_iou_at_three_sigma() -> None:
    """Eq. 8: two equal intervals shifted by 3 sigma overlap with IoU 0.3."""
    size, shift = 10.0, 3 * gaussians.deviations(np.array([10.0]))[0]
    assert (size - shift) / (size + shift) == pytest.approx(0.3)


boxes = st.lists(
    st.tuples(st.floats(0, 150), st.floats(0, 90), st.floats(9, 60), st.floats(9, 60), st.integers(0, 1)),
    min_size=0,
    max_size=6,
)


@settings(max_examples=40)
@given(boxes)
def test_heatmaps_are_equation_7(rows: list[tuple[float, float, float, float, int]]) -> None:
    xyxy = np.array([[x, y, x + w, y + h] for x, y, w, h, _ in rows]).reshape(-1, 4)
    keep = (xyxy[:, 2:] + xyxy[:, :2] < [2 * 192, 2 * 128]).all(1)
    xyxy, classes = xyxy[keep], np.array([r[4] for r in rows], int)[keep]
    result = gaussians.build(xyxy, classes, np.zeros((0, 4)), 2, 8, (16, 24))
    for i, j in np.ndindex(16, 24):
        values = []
        for x1, y1, x2, y2 in xyxy / 8:
            ci, cj = math.floor((y1 + y2) / 2), math.floor((x1 + x2) / 2)
            si, sj = (side * 0.7 / 3.9 for side in (y2 - y1, x2 - x1))
            values.append(math.exp(-((i - ci) ** 2) / (2 * si**2) - (j - cj) ** 2 / (2 * sj**2)))
        for k in range(2):
            expected = max((v for v, c in zip(values, classes, strict=True) if c == k), default=0)
            assert result.heatmap[k, i, j] == pytest.approx(expected, abs=1e-6)


def test_ignored_regions_are_not_counted_but_labels_inside_are() -> None:
    labels, ignored = np.array([[40.0, 40, 72, 72]]), np.array([[0.0, 0, 100, 100]])
    result = gaussians.build(labels, np.array([0]), ignored, 1, 8, (16, 24))
    assert result.counted[1, 1] == 0 and result.counted[15, 23] == 1
    assert result.counted[7, 7] == 1


def test_tracking_follows_identities() -> None:
    """9 is row 1 of the current frame, 5 is there but not asked for, 7 has left."""
    rows = targets.follow(np.array([7, 9, 5]), np.array([4, 9]), np.array([4, 9, 5]))
    assert rows.tolist() == [targets.ABSENT, 1, targets.UNKNOWN]


def test_focal_loss_is_equation_9() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4), torch.rand(2, 3, 4)
    target[0, 1, 2] = 1.0
    counted = (torch.rand(2, 1, 4) > 0.3).float()
    total = 0.0
    for index in np.ndindex(2, 3, 4):
        y, g = torch.sigmoid(logits[index]).item(), target[index].item()
        term = (1 - y) ** 2 * math.log(y) if g == 1 else (1 - g) ** 2 * y**2 * math.log(1 - y)
        total -= term * counted[index[0], 0, index[2]].item()
    assert focal_loss(logits, target, counted).item() == pytest.approx(total, rel=1e-5)


def ciou(a: list[float], b: list[float]) -> float:
    """Zheng et al., one pair, by hand."""
    wa, ha, wb, hb = a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]
    overlap = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    iou = overlap / (wa * ha + wb * hb - overlap)
    distance = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    v = 4 / math.pi**2 * (math.atan(wb / hb) - math.atan(wa / ha)) ** 2
    alpha = v / (1 - iou + v) if v else 0
    return iou - distance / diagonal - alpha * v


side = st.floats(0.05, 0.5)
box = st.tuples(st.floats(0, 1), st.floats(0, 1), side, side)


@settings(max_examples=60)
@given(box, box)
def test_ciou_is_equation_10(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    first, second = ([x, y, x + w, y + h] for x, y, w, h in (a, b))
    value = losses.ciou_loss(torch.tensor([first]).double(), torch.tensor([second]).double())
    assert value.item() == pytest.approx(1 - ciou(first, second), abs=1e-6)
