"""Time3D's losses, equation by equation, against plain loops."""

import math

import numpy as np
import pytest
import torch
from network_helpers import some_objects

from time3d_tracker import losses
from time3d_tracker.detector import BINS
from time3d_tracker.flow import association

K = 6


def truth() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    low = torch.rand(1, K, 2, generator=g) * 60
    return {
        "box2d": torch.cat([low, low + torch.rand(1, K, 2, generator=g) * 40 + 4], -1),
        "keypoints": torch.rand(1, K, 9, 2, generator=g) * 80,
        "keypoints_asked": torch.rand(1, K, 9, generator=g) > 0.3,
        "size": torch.rand(1, K, 3, generator=g) * 4 + 0.5,
        "yaw": torch.rand(1, K, generator=g) * 6 - 3,
        "translation": torch.rand(1, K, 3, generator=g) * 20 + 3,
        "velocity": torch.randn(1, K, 3, generator=g) * 6,
        "attributes": torch.randint(0, 3, (1, K), generator=g),
    }


COUNTED = torch.tensor([[True, True, False, True, False, True]])
ROWS = [0, 1, 3, 5]


def test_box2d_loss() -> None:
    t, raw, corner = truth(), {"offset": torch.rand(1, K, 2), "size2d": torch.randn(1, K, 2)}, torch.ones(1, K, 2) * 3
    total = 0.0
    for i in ROWS:
        x1, y1, x2, y2 = t["box2d"][0, i].tolist()
        for axis, (low, high) in enumerate(((x1, x2), (y1, y2))):
            total += abs(raw["offset"][0, i, axis].item() - ((low + high) / 16 - 3))
            total += abs(raw["size2d"][0, i, axis].item() - math.log((high - low) / 8))
    assert losses.box2d_loss(raw, t, corner, 8, COUNTED).item() == pytest.approx(total / 4, rel=1e-5)


def test_keypoint_loss() -> None:
    t, objects = truth(), some_objects()
    total, count = 0.0, 0
    for i in ROWS:
        x1, y1, x2, y2 = t["box2d"][0, i].tolist()
        for k in range(9):
            if t["keypoints_asked"][0, i, k]:
                dx, dy = (objects.keypoints[0, i, k] - t["keypoints"][0, i, k]).tolist()
                total += abs(dx) / max(x2 - x1, 8) + abs(dy) / max(y2 - y1, 8)
                count += 1
    assert losses.keypoint_loss(objects, t, COUNTED).item() == pytest.approx(total / count, rel=1e-5)


def test_dimension_and_depth_loss() -> None:
    t, objects = truth(), some_objects()
    size = sum(abs(math.log(objects.size[0, i, a] / t["size"][0, i, a])) for i in ROWS for a in range(3))
    depth = sum(abs(math.log(objects.depth[0, i] / t["translation"][0, i, 2])) for i in ROWS)
    assert losses.dimension_loss(objects, t, COUNTED).item() == pytest.approx(size / 4, rel=1e-5)
    assert losses.depth_loss(objects, t, COUNTED).item() == pytest.approx(depth / 4, rel=1e-5)


def test_orientation_loss() -> None:
    t = truth()
    raw = {"orientation": torch.randn(1, K, 3 * BINS, generator=torch.Generator().manual_seed(0))}
    choice, residuals = [], []
    for i in ROWS:
        x, _, z = t["translation"][0, i].tolist()
        alpha = t["yaw"][0, i].item() - math.atan2(x, z)
        bins = raw["orientation"][0, i].view(BINS, 3).numpy()
        distance = [abs(np.angle(np.exp(1j * (alpha - b * math.pi / 2)))) for b in range(BINS)]
        logits = bins[:, 0]
        choice.append(np.log(np.exp(logits).sum()) - logits[int(np.argmin(distance))])
        for b in range(BINS):
            if distance[b] <= 1.5 * math.pi / 4:
                said = math.atan2(bins[b, 1], bins[b, 2])
                residuals.append(1 - math.cos(said - (alpha - b * math.pi / 2)))
    expected = np.mean(choice) + np.mean(residuals)
    assert losses.orientation_loss(raw, t, COUNTED).item() == pytest.approx(expected, rel=1e-4)


def test_position_and_deviation_loss() -> None:
    t, objects = truth(), some_objects()
    errors = {
        i: math.dist(objects.translation[0, i], t["translation"][0, i]) / math.hypot(*t["translation"][0, i].tolist())
        for i in ROWS
    }
    position = np.mean([math.log1p(e) for e in errors.values()])

    def surprise(depth: torch.Tensor, deviation: torch.Tensor, i: int) -> float:
        error = abs(math.log(depth.item() / t["translation"][0, i, 2].item()))
        return math.sqrt(2) * min(error, 1) / deviation.item() + math.log(deviation.item())

    joined = np.mean([surprise(objects.translation[0, i, 2], objects.deviation[0, i], i) for i in ROWS])
    cues = [surprise(objects.depths[0, i, c], objects.deviations[0, i, c], i)
            for i in ROWS for c in range(3) if objects.known[0, i, c]]  # fmt: skip
    assert losses.position_loss(objects, t, COUNTED).item() == pytest.approx(position, rel=1e-4)
    assert losses.deviation_loss(objects, t, COUNTED).item() == pytest.approx(float(joined + np.mean(cues)), rel=1e-4)
    nowhere = objects._replace(usable=torch.zeros_like(objects.usable))
    assert losses.position_loss(nowhere, t, COUNTED).item() == 0


def test_identity_loss() -> None:
    g = torch.Generator().manual_seed(0)
    reid = torch.nn.functional.normalize(torch.randn(2, 2, 3, 4, generator=g), dim=-1)
    ids = torch.tensor([[[1, 2, -1], [2, 1, 5]], [[1, -1, 4], [4, 7, 1]]])
    views = [(b, f, k) for b in range(2) for f in range(2) for k in range(3) if ids[b, f, k] >= 0]
    total = []
    for me in views:
        likeness = {you: math.exp(float(reid[me] @ reid[you]) / 0.1) for you in views if you != me}
        same = [you for you in likeness if you[0] == me[0] and ids[you] == ids[me]]
        if same:
            total.append(-np.mean([math.log(likeness[you] / sum(likeness.values())) for you in same]))
    assert losses.reid_loss(reid, ids).item() == pytest.approx(float(np.mean(total)), rel=1e-4)


def test_tracking_loss_equation_6() -> None:
    g = torch.Generator().manual_seed(0)
    affinity = torch.randn(1, 2, 4, 4, generator=g)
    everyone = torch.ones(1, 2, 3, dtype=torch.bool)
    log_association = association(affinity, everyone, everyone)
    now = torch.tensor([[[7, -1, 9], [7, -1, 9]]])
    past = torch.tensor([[[9, 3, -1], [1, 7, 9]]])
    total = []
    for p in range(2):
        before = past[0, p].tolist()
        for i, own in enumerate(now[0, p].tolist()):
            if own >= 0:
                total.append(-log_association[0, p, i, before.index(own) if own in before else 3].item())
        for j, own in enumerate(before):
            if own >= 0 and own not in now[0, p].tolist():
                total.append(-log_association[0, p, 3, j].item())
    counted = torch.ones(1, 2, dtype=torch.bool)
    assert losses.tracking_loss(log_association, now, past, counted).item() == pytest.approx(np.mean(total), rel=1e-5)
    assert losses.tracking_loss(log_association, now, past, ~counted).item() == 0


def test_consistency_loss_equation_7() -> None:
    g = torch.Generator().manual_seed(0)
    found, true = torch.randn(2, 3, 4, 8, 3, generator=g) * 9, torch.randn(2, 3, 4, 8, 3, generator=g) * 9
    distance = torch.rand(2, 3, 4, generator=g) * 30
    ids = torch.tensor([[[1, 2, -1, 3], [3, 1, -1, -1], [1, 4, 2, -1]], [[5, 6, 7, 8], [8, 7, 6, -1], [5, -1, -1, 7]]])
    total = []
    for b in range(2):
        for t in range(3):
            for s in range(t):
                for i in range(4):
                    for j in range(4):
                        if ids[b, t, i] >= 0 and ids[b, t, i] == ids[b, s, j]:
                            moved = [math.dist(found[b, t, i, c], found[b, s, j, c]) for c in range(8)]
                            truly = [math.dist(true[b, t, i, c], true[b, s, j, c]) for c in range(8)]
                            error = math.dist(moved, truly) / math.sqrt(8) / max(distance[b, t, i].item(), 1)
                            total.append(math.log1p(error))
    expected = float(np.mean(total))
    assert losses.consistency_loss(found, true, distance, ids).item() == pytest.approx(expected, rel=1e-4)
    assert losses.consistency_loss(true + 5, true, distance, ids).item() == pytest.approx(0, abs=1e-4)


def test_velocity_and_attribute_loss() -> None:
    t = truth()
    velocity = torch.randn(1, K, 3, generator=torch.Generator().manual_seed(1)) * 6
    logits = torch.randn(1, K, 3, generator=torch.Generator().manual_seed(2))
    total = 0.0
    for i in ROWS:
        for axis in range(3):
            e = abs(velocity[0, i, axis].item() - t["velocity"][0, i, axis].item()) / 10
            total += e - 0.05 if e > 0.1 else e * e / 0.2
    assert losses.velocity_loss(velocity, t, COUNTED).item() == pytest.approx(total / 4, rel=1e-4)
    expected = np.mean([
        math.log(logits[0, i].exp().sum()) - logits[0, i, t["attributes"][0, i]].item() for i in ROWS
    ])  # fmt: skip
    assert losses.attribute_loss(logits, t, COUNTED).item() == pytest.approx(float(expected), rel=1e-4)


def test_no_object_is_no_loss() -> None:
    t, nobody = truth(), torch.zeros(1, K, dtype=torch.bool)
    objects = some_objects()
    for loss in (losses.keypoint_loss, losses.dimension_loss, losses.position_loss, losses.depth_loss):
        assert loss(objects, t, nobody).item() == 0
    assert losses.reid_loss(objects.reid[:, None], torch.full((1, 1, K), -1)).item() == 0
