"""Time3D's embedding and information flow against plain loops, and what they must not depend on."""

import numpy as np
import pytest
import torch
from network_helpers import some_objects

from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from time3d_tracker import flow as flows
from time3d_tracker.config import NetworkConfig
from time3d_tracker.embedding import CueEmbedding, PointNet, corners2d, corners3d
from time3d_tracker.flow import Attention, Memory, SpatialFlow, TemporalFlow, association
from time3d_tracker.level import corners, level_pose
from time3d_tracker.level import motion as motion_between
from time3d_tracker.losses import tracking_loss

CONFIG = NetworkConfig(backbone="yolox_nano", stride=8, height=96, width=160, slots=6, reid_channels=8, embedding=16,
                       attention_heads=2)  # fmt: skip
K, D = 6, 16
PROJECTION = torch.tensor([[110.0, 0, 80], [0, 110, 48], [0, 0, 1]])[None]


def memory(past: int, batch: int = 1, seed: int = 1) -> Memory:
    g = torch.Generator().manual_seed(seed)
    valid = torch.ones(batch, past, K, dtype=torch.bool)
    still = torch.tensor([0.0, 0, 0, 0, 1]).expand(batch, past, 5)
    elapsed = torch.rand(batch, past, generator=g)
    features, centres = torch.randn(batch, past, K, D, generator=g), torch.randn(batch, past, K, 3, generator=g)
    return Memory(features, centres, valid, elapsed, still)


def places(seed: int = 2) -> torch.Tensor:
    return 10 * torch.randn(1, K, 3, generator=torch.Generator().manual_seed(seed))


def test_corners_are_those_of_the_boxes() -> None:
    objects = some_objects()
    yaw = torch.atan2(objects.sin, objects.cos)
    expected = corners(objects.translation[0].numpy(), objects.size[0].numpy(), yaw[0].numpy())
    np.testing.assert_allclose(corners3d(objects)[0], expected, atol=1e-4)
    for box, rays in zip(objects.box2d[0], corners2d(objects, PROJECTION)[0], strict=True):
        x1, y1, x2, y2 = box.tolist()
        expected = [[(x - 80) / 110, (y - 48) / 110] for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
        np.testing.assert_allclose(rays, expected, atol=1e-5)


def test_pointnet_against_loops_and_in_any_order_of_points() -> None:
    torch.manual_seed(0)
    net = PointNet(3, (8.0, 2.0), 7)
    points = torch.randn(5, 8, 3)
    each = []
    for point in points[0]:
        waves = [2 * np.pi * float(x) / length for x in point for length in (8.0, 2.0)]
        x = torch.tensor([np.sin(w) for w in waves] + [np.cos(w) for w in waves], dtype=torch.float32)
        for layer in (net.layers[0], net.layers[2]):
            x = (layer.weight @ x + layer.bias).clamp(min=0)
        each.append(net.layers[4].weight @ x + net.layers[4].bias)
    torch.testing.assert_close(net(points)[0], torch.stack(each).max(0).values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(points), net(points[:, torch.randperm(8)]))


@pytest.mark.parametrize("cue", ["class", "box2d", "box3d", "direct2d", "direct3d", "reid"])
def test_each_cue_alone_decides_and_the_others_do_not(cue: str) -> None:
    torch.manual_seed(0)
    embedding = CueEmbedding(CONFIG.model_copy(update={"cues": (cue,)}))
    objects = some_objects()
    changes = {
        "class": objects._replace(class_ids=(objects.class_ids + 1) % 5),
        "box2d": objects._replace(box2d=objects.box2d + 3),
        "box3d": objects._replace(translation=objects.translation + 0.7),
        "reid": objects._replace(reid=objects.reid.flip(-1)),
    }
    before = embedding(objects, PROJECTION)
    assert before.shape == (1, K, D)
    for name, changed in changes.items():
        same = torch.equal(before, embedding(changed, PROJECTION))
        assert same == (name != cue.replace("direct", "box")), name


def test_attention_against_loops() -> None:
    torch.manual_seed(0)
    layer = Attention(4, 2)
    x, source = torch.randn(1, 3, 4), torch.randn(1, 5, 4)
    valid = torch.tensor([[True, True, False, True, False]])
    found, weights = layer(x, source, valid)
    for i in range(3):
        parts = []
        for h in range(2):
            q = layer.query(layer.query_norm(x[0, i]))[2 * h : 2 * h + 2]
            dots = []
            for j in range(5):
                dots.append((q @ layer.key(layer.key_norm(source[0, j]))[2 * h : 2 * h + 2]) / 2**0.5)
                assert weights[0, h, i, j].item() == pytest.approx(dots[j].item(), abs=1e-5)
            share = {j: float(torch.exp(dots[j])) for j in range(5) if valid[0, j]}
            total = sum(share.values())
            parts.append(sum(s / total * layer.value(layer.key_norm(source[0, j]))[2 * h : 2 * h + 2]
                             for j, s in share.items()))  # fmt: skip
        y = x[0, i] + layer.out(torch.cat(parts))
        torch.testing.assert_close(found[0, i], y + layer.mlp(layer.mlp_norm(y)), rtol=1e-4, atol=1e-5)


def test_spatial_flow_has_no_order_and_ignores_empty_slots() -> None:
    torch.manual_seed(0)
    spatial = SpatialFlow(CONFIG)
    x, valid = torch.randn(1, K, D), torch.tensor([[True] * 4 + [False] * 2])
    order = torch.randperm(K)
    torch.testing.assert_close(spatial(x, valid)[:, order], spatial(x[:, order], valid[:, order]), rtol=0, atol=1e-5)
    other = x.clone()
    other[:, 4:] = 9.0
    torch.testing.assert_close(spatial(x, valid)[:, :4], spatial(other, valid)[:, :4])


def test_affinities_against_loops() -> None:
    torch.manual_seed(0)
    net = TemporalFlow(CONFIG)
    now, past = torch.randn(1, K, D), memory(2)
    found = net(now, places(), past)
    assert found.affinity.shape == (1, 2, K + 1, K + 1)
    # the layers in turn, over everybody of both frames and nobody
    told = torch.tensor([1, 0.2, 0.2, 0.2, 5, 1])
    source = []
    for p in range(2):
        for j in range(K):
            f = past.features[0, p, j]
            step = torch.cat([past.elapsed[0, p, None], past.motion[0, p]]) * told
            source.append(f + net.motion(torch.cat([f, step])))
    everybody = torch.stack([*source, net.nobody_past])[None]
    x = torch.cat([now, net.nobody_now[None, None]], 1)
    x, _ = net.layers[0](x, everybody, torch.ones(1, 2 * K + 1, dtype=torch.bool))
    layer = net.layers[flows.AFFINITY_LAYER]
    for i in range(K + 1):
        for j, key in enumerate(everybody[0]):
            q, k = layer.query(layer.query_norm(x[0, i])), layer.key(layer.key_norm(key))
            dots = torch.stack([q[8 * h : 8 * h + 8] @ k[8 * h : 8 * h + 8] / 8**0.5 for h in range(2)])
            expected = (dots.sum() + net.affinity(dots)).item()
            pairs = [(j // K, j % K)] if j < 2 * K else [(0, K), (1, K)]
            for p, column in pairs:
                assert found.affinity[0, p, i, column].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["spatial+temporal", "spatial", "none"])
def test_a_missing_frame_changes_nothing(kind: str) -> None:
    torch.manual_seed(0)
    net = TemporalFlow(CONFIG.model_copy(update={"flow": kind}))
    now, past = torch.randn(1, K, D), memory(3)
    valid = past.valid.clone()
    valid[:, 1] = False
    garbage = past.features.clone(), past.centres.clone()
    for values in garbage:
        values[:, 1] = 1e3
    a, b = (
        net(now, places(), past._replace(features=f, centres=c, valid=valid))
        for f, c in ((past.features, past.centres), garbage)
    )
    torch.testing.assert_close(a.velocity, b.velocity)
    torch.testing.assert_close(a.affinity[:, [0, 2]], b.affinity[:, [0, 2]])
    nothing = net(now, places(), past._replace(valid=torch.zeros_like(valid)))
    assert all(torch.isfinite(x).all() for x in nothing)


def test_time_matters_through_seconds() -> None:
    torch.manual_seed(0)
    net = TemporalFlow(CONFIG)
    now, past = torch.randn(1, K, D), memory(1)
    later = net(now, places(), past._replace(elapsed=past.elapsed + 0.5))
    assert not torch.allclose(net(now, places(), past).affinity, later.affinity)


def test_displacement_velocity_against_loops() -> None:
    """The minimum over v of the weighted squares of (present - v t - past), a little drawn to zero."""
    past, now = memory(3), places()
    motion = torch.tensor([[1.0, 0.5, -2, np.sin(0.3), np.cos(0.3)]]).expand(1, 3, 5)
    past = past._replace(motion=motion)
    shares = torch.rand(1, 3, K, K, generator=torch.Generator().manual_seed(3)) / K
    found = flows.displacement_velocity(now, past, shares)
    turn = np.array([[np.cos(0.3), 0, np.sin(0.3)], [0, 1, 0], [-np.sin(0.3), 0, np.cos(0.3)]])
    for i in range(K):
        upper, lower = np.zeros(3), flows.STIFFNESS
        for p in range(3):
            t = past.elapsed[0, p].item()
            for j in range(K):
                then = turn @ past.centres[0, p, j].numpy() - [1.0, 0.5, -2]
                upper += shares[0, p, i, j].item() * t * (now[0, i].numpy() - then)
                lower += shares[0, p, i, j].item() * t**2
        np.testing.assert_allclose(found[0, i], upper / lower, rtol=1e-4)


def test_displacement_velocity_of_known_motions() -> None:
    """Objects at rest, seen from a turning car, and moving ones, by the motion that the tracker computes."""
    rng = np.random.default_rng(0)
    velocity = np.where(np.arange(K)[:, None] < 2, 0.0, rng.normal(0, 8, (K, 3)))
    world = rng.normal(0, 15, (K, 3))
    poses = [level_pose(pose_at(t)) for t in (0.0, 0.7, 1.5)]
    inside = [(world + velocity * t - p.translation) @ p.rotation for p, t in zip(poses, (0.0, 0.7, 1.5), strict=True)]
    motion = torch.tensor(np.array([motion_between(p, poses[2]) for p in poses[:2]]), dtype=torch.float32)[None]
    everyone = torch.ones(1, 2, K, dtype=torch.bool)
    centres = torch.tensor(np.array(inside[:2]), dtype=torch.float32)[None]
    past = Memory(torch.zeros(1, 2, K, D), centres, everyone, torch.tensor([[1.5, 0.8]]), motion)
    now = torch.tensor(inside[2], dtype=torch.float32)[None]
    found = flows.displacement_velocity(now, past, torch.eye(K).expand(1, 2, K, K))
    drawn = (1.5**2 + 0.8**2) / (1.5**2 + 0.8**2 + flows.STIFFNESS)
    np.testing.assert_allclose(found[0], drawn * velocity @ poses[2].rotation, atol=1e-4)


def pose_at(t: float) -> Pose:
    """A car's camera in a bend, tilted downward a little."""
    yaw, tilt = 0.4 * t, 0.1
    heading = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    down = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    return Pose(heading @ OPTICAL_IN_VEHICLE @ down, np.array([9.0 * t, 2 * t**2, 1.5]))


def test_association_against_loops() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4, 5))[:, :4]
    found = association(torch.tensor(logits), torch.ones(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)).exp()
    for i in range(4):
        for j in range(4):
            row = np.exp(logits[i, j]) / sum(np.exp(logits[i, k]) for k in range(4))
            column = np.exp(logits[i, j]) / sum(np.exp(logits[k, j]) for k in range(4))
            expected = row * column if i < 3 and j < 3 else row if i < 3 else column if j < 3 else 1.0
            assert found[i, j].item() == pytest.approx(expected)


def test_association_leaves_out_empty_slots() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double()
    now, past = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    found = association(logits, now, past).exp()
    rows, columns = [0, 1, 3], [0, 2, 3]
    small = association(logits[rows][:, columns], now[:2], past[:2] | True).exp()
    torch.testing.assert_close(found[:2][:, columns], small[:2])
    assert found[:2, 1].max() < 1e-9
    assert (found[:2][:, [0, 1, 2]].sum(1) + found[:2, 3] <= 1 + 1e-9).all()


def test_the_flow_learns_to_associate_by_likeness() -> None:
    """From chance to two in three objects in 40 steps: affinities of random projections would still be at chance."""
    torch.manual_seed(0)
    spatial, temporal = SpatialFlow(CONFIG), TemporalFlow(CONFIG)
    optimiser = torch.optim.Adam([*spatial.parameters(), *temporal.parameters()], 3e-3)
    everyone = torch.ones(8, K, dtype=torch.bool)
    still = torch.tensor([0.0, 0, 0, 0, 1]).expand(8, 1, 5)
    identity, right = torch.arange(K).expand(8, 1, K), []
    for _ in range(40):
        past = torch.randn(8, K, D)
        order = torch.stack([torch.randperm(K) for _ in range(8)])
        now = past.gather(1, order[..., None].expand(-1, -1, D)) + 0.3 * torch.randn(8, K, D)
        nowhere = torch.zeros(8, K, 3)
        seen = Memory(spatial(past, everyone)[:, None], nowhere[:, None], everyone[:, None], torch.rand(8, 1), still)
        log_association = association(
            temporal(spatial(now, everyone), nowhere, seen).affinity, everyone[:, None], everyone[:, None]
        )
        loss = tracking_loss(log_association, order[:, None], identity, torch.ones(8, 1, dtype=torch.bool))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        right.append((log_association[:, 0, :-1, :-1].argmax(-1) == order).float().mean().item())
    assert np.mean(right[-5:]) > 2 / 3
