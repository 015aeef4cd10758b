"""Time3D's level frame and geometric reasoning, against general solvers and round trips."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from time3d_tracker import geometric_reasoning as reasoning
from time3d_tracker import level

KITTI = np.array([[721.5377, 0, 609.5593], [0, 721.5377, 172.854], [0, 0, 1]])
NUSCENES = np.array([[1266.417203, 0, 816.267020], [0, 1266.417203, 491.507066], [0, 0, 1]])


def rotation(axis: int, angle: float) -> np.ndarray:
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[i, j], [i, j]] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def random_pose(rng: np.random.Generator) -> Pose:
    """A camera with up to 25 degrees of pitch and 5 of roll."""
    turn = rotation(2, rng.uniform(-np.pi, np.pi)) @ rotation(1, rng.uniform(-0.4, 0.4))
    return Pose(turn @ rotation(0, rng.uniform(-0.09, 0.09)) @ OPTICAL_IN_VEHICLE, rng.normal(0, 50, 3))


def random_boxes(rng: np.random.Generator, pose: Pose, count: int) -> Boxes3D:
    """Boxes 6 to 80 m before a camera's level frame, all corners in front of it."""
    depth = rng.uniform(12, 80, count)
    centre = np.stack([rng.uniform(-0.4, 0.4, count) * depth, rng.uniform(-1, 3, count), depth], -1)
    size = rng.uniform([0.4, 0.4, 1.0], [8, 2.6, 3.5], (count, 3))
    return level.from_level(centre, size, rng.uniform(-np.pi, np.pi, count), rng.normal(0, 5, (count, 3)), pose)


def intrinsics_of(rng: np.random.Generator) -> np.ndarray:
    focal = rng.uniform(200, 2000)
    return np.array([[focal, 0, rng.uniform(200, 900)], [0, focal * rng.uniform(0.9, 1.1), rng.uniform(100, 500)],
                     [0, 0, 1]])  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_level_frame_is_upright_and_looks_where_the_camera_does(seed: int) -> None:
    pose = random_pose(np.random.default_rng(seed))
    flat = level.level_pose(pose)
    np.testing.assert_allclose(flat.rotation.T @ flat.rotation, np.eye(3), atol=1e-12)
    assert np.linalg.det(flat.rotation) == pytest.approx(1)
    np.testing.assert_allclose(flat.rotation[:, 1], [0, 0, -1], atol=1e-12)
    assert (flat.rotation.T @ pose.rotation[:, 2])[0] == pytest.approx(0, abs=1e-12)


def test_a_camera_that_looks_down_is_refused() -> None:
    with pytest.raises(DataError, match="looks ahead"):
        level.level_pose(Pose(rotation(1, np.pi / 2) @ OPTICAL_IN_VEHICLE, np.zeros(3)))


@pytest.mark.parametrize("seed", range(5))
def test_level_boxes_have_the_corners_of_the_fixed_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flat = level.level_pose(random_pose(rng))
    boxes = random_boxes(rng, flat, 20)
    centre, yaw, velocity = level.to_level(boxes, flat)
    found = flat.apply(level.corners(centre, boxes.size, yaw))
    for mine, theirs in zip(found, boxes.corners(), strict=True):  # the same eight points, in another order
        distance = np.linalg.norm(mine[:, None] - theirs, axis=-1)
        assert sorted(distance.argmin(1)) == list(range(8))
        assert distance.min(1).max() < 1e-9
    back = level.from_level(centre, boxes.size, yaw, velocity, flat)
    np.testing.assert_allclose(back.centre, boxes.centre, atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * back.yaw), np.exp(1j * boxes.yaw), atol=1e-9)
    np.testing.assert_allclose(back.velocity, boxes.velocity, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_projection_agrees_with_the_camera(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose, intrinsics = random_pose(rng), intrinsics_of(rng)
    points = rng.uniform([-5, -2, 8], [5, 2, 40], (30, 3))  # of the level frame
    optical = pose.inverse().apply(level.level_pose(pose).apply(points))
    image = optical @ intrinsics.T
    found = reasoning.project(torch.from_numpy(points), torch.from_numpy(level.projection(intrinsics, pose)))
    np.testing.assert_allclose(found.numpy(), image[:, :2] / image[:, 2:], atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_motion_carries_points_of_the_past_frame_to_the_present_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    past, now = (level.level_pose(random_pose(rng)) for _ in range(2))
    x, y, z, sin, cos = level.motion(past, now)
    points = rng.normal(0, 20, (10, 3))
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    np.testing.assert_allclose(points @ turn.T - [x, y, z], now.inverse().apply(past.apply(points)), atol=1e-9)


def keypoints(boxes: Boxes3D, pose: Pose, projection: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """D, pixels and the true centres of boxes."""
    centre, yaw, _ = level.to_level(boxes, pose)
    size, angle = torch.from_numpy(boxes.size), torch.from_numpy(yaw)
    offset = reasoning.offsets(size, angle.sin(), angle.cos())
    return offset, reasoning.project(torch.from_numpy(centre)[:, None] + offset, torch.from_numpy(projection)), centre


def round_trip(intrinsics: np.ndarray, rng: np.random.Generator) -> None:
    pose = random_pose(rng)
    flat, projection = level.level_pose(pose), level.projection(intrinsics, pose)
    offset, pixels, centre = keypoints(random_boxes(rng, flat, 50), flat, projection)
    ray, ahead = reasoning.rays(pixels, torch.from_numpy(np.linalg.inv(projection)))
    weight = torch.from_numpy(rng.uniform(0.1, 3, (50, 9)))
    found = reasoning.solve(offset, ray, weight)
    assert ahead.all()
    assert found.usable.all()
    np.testing.assert_allclose(found.translation.numpy(), centre, atol=1e-6)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_a_projected_box_is_recovered_by_any_camera(seed: int) -> None:
    rng = np.random.default_rng(seed)
    round_trip(intrinsics_of(rng), rng)


@pytest.mark.parametrize("intrinsics", [KITTI, NUSCENES], ids=["KITTI", "nuScenes"])
def test_a_projected_box_is_recovered_by_the_cameras_of_data_sets(intrinsics: np.ndarray) -> None:
    round_trip(intrinsics, np.random.default_rng(1))


def test_a_projected_box_is_recovered_by_the_cameras_on_disk(data_root) -> None:  # type: ignore[no-untyped-def]
    cameras = []
    for path in sorted((data_root / "kitti_tracking" / "calib").glob("*.txt")):
        line = next(x for x in path.read_text().splitlines() if x.startswith("P2"))
        cameras.append(np.array(line.split()[1:], float).reshape(3, 4)[:, :3])
    table = data_root / "nuscenes" / "v1.0-mini" / "calibrated_sensor.json"
    if table.exists():
        cameras += [np.array(x["camera_intrinsic"]) for x in json.loads(table.read_text()) if x["camera_intrinsic"]]
    if not cameras:
        pytest.skip(f"no cameras in {data_root}")
    for number, intrinsics in enumerate(cameras):
        round_trip(intrinsics, np.random.default_rng(number))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_the_closed_form_is_the_least_squares_solution(seed: int) -> None:
    rng = np.random.default_rng(seed)
    offset, ray = rng.normal(0, 1.5, (9, 3)), rng.normal(0, 0.2, (9, 2))
    weight = rng.uniform(0, 2, 9)
    rows, right = [], []
    for (dx, dy, dz), (u, v), w in zip(offset, ray, np.sqrt(weight), strict=True):
        rows += [[w, 0, -w * u], [0, w, -w * v]]
        right += [w * (u * dz - dx), w * (v * dz - dy)]
    expected = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    given = [torch.tensor(x, dtype=torch.float64) for x in (offset, ray, weight)]
    found = reasoning.solve(*given)
    assert bool(found.usable) == (expected[2] > reasoning.NEAREST)
    if found.usable:
        np.testing.assert_allclose(found.translation.numpy(), expected, rtol=1e-7, atol=1e-7)

    depth = rng.uniform(5, 60)  # given: the other two unknowns solve what is left
    left = np.array(right) - np.array(rows)[:, 2] * depth
    across = np.linalg.lstsq(np.array(rows)[:, :2], left, rcond=None)[0]
    placed = reasoning.at_depth(*given, torch.tensor(depth))
    np.testing.assert_allclose(placed.translation.numpy(), [*across, depth], rtol=1e-7, atol=1e-7)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_cues_join_as_the_likeliest_depth_of_independent_log_normal_errors(seed: int) -> None:
    """Against a search over the likelihood, its maximum and its curvature there."""
    rng = np.random.default_rng(seed)
    depth, deviation = np.exp(rng.uniform(2, 3.5, 3)), rng.uniform(0.03, 0.4, 3)
    known = np.array([True, *(rng.random(2) < 0.7)])
    grid = np.linspace(1.5, 4, 250_001)
    cost = (((grid[:, None] - np.log(depth)) / deviation) ** 2 / 2)[:, known].sum(1)
    best = cost.argmin()
    step = grid[1] - grid[0]
    curvature = (cost[best + 2000] - 2 * cost[best] + cost[best - 2000]) / (2000 * step) ** 2
    joined, spread, apart = reasoning.fuse(*(torch.tensor(x) for x in (depth, deviation, known)))
    assert joined.item() == pytest.approx(np.exp(grid[best]), rel=1e-4)
    assert spread.item() == pytest.approx(curvature**-0.5, rel=1e-3)
    assert apart.item() == pytest.approx(2 * cost[best] / max(known.sum() - 1, 1), rel=1e-3, abs=1e-9)


def test_cues_that_err_as_they_say_disagree_by_1_on_average() -> None:
    rng = np.random.default_rng(3)
    deviation = rng.uniform(0.03, 0.2, (20_000, 3))
    depth = 20 * np.exp(deviation * rng.normal(size=deviation.shape))
    for cues in (2, 3):
        known = torch.arange(3).expand(20_000, 3) < cues
        _, _, apart = reasoning.fuse(torch.from_numpy(depth), torch.from_numpy(deviation), known)
        assert apart.mean().item() == pytest.approx(1, abs=0.03)


def test_cues_that_are_none_leave_a_finite_nothing_with_gradients() -> None:
    depth = torch.tensor([[0.0, torch.inf, 5.0], [0.0, 0.0, 0.0]], requires_grad=True)
    deviation = torch.full((2, 3), 0.1, requires_grad=True)
    known = torch.tensor([[True, False, True], [True, False, False]])
    joined, spread, apart = reasoning.fuse(depth, deviation, known)
    assert joined.tolist() == pytest.approx([5.0, 0.0])
    assert spread.tolist() == pytest.approx([0.1, 1.0])
    assert apart.tolist() == pytest.approx([0.0, 0.0])
    (joined.sum() + spread.sum() + apart.sum()).backward()
    assert torch.isfinite(depth.grad).all() and torch.isfinite(deviation.grad).all()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_the_ground_tells_the_depth_whatever_the_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, depth = rng.uniform(1, 8), rng.uniform(12, 40)
    size = torch.from_numpy(rng.uniform([0.4, 0.4, 1.0], [5, 2.6, 3.5]))
    yaw = torch.tensor(rng.uniform(-np.pi, np.pi))
    offset = reasoning.offsets(size, yaw.sin(), yaw.cos())
    points = offset + torch.tensor([rng.uniform(-5, 5), height - size[2] / 2, depth])
    ray = points[:, :2] / points[:, 2:]
    found, slope = reasoning.ground_depth(offset, ray, torch.tensor(height))
    assert found.item() == pytest.approx(depth)
    assert slope.item() == pytest.approx(float((height / points[:4, 2]).mean()))
    wrong, _ = reasoning.ground_depth(0.8 * offset, ray, torch.tensor(height))
    assert wrong.item() == pytest.approx(depth)
    for unknown in (reasoning.ground_depth(offset, ray, torch.tensor(0.0)),
                    reasoning.ground_depth(offset, -ray, torch.tensor(height))):  # fmt: skip
        assert unknown[0] == unknown[1] == 0


def test_gradients_are_exact() -> None:
    rng = np.random.default_rng(2)
    pose = random_pose(rng)
    flat, projection = level.level_pose(pose), level.projection(KITTI, pose)
    offset, pixels, _ = keypoints(random_boxes(rng, flat, 3), flat, projection)
    ray, _ = reasoning.rays(pixels, torch.from_numpy(np.linalg.inv(projection)))
    inputs = [x.detach().requires_grad_() for x in (offset, ray, torch.rand(3, 9).double())]
    assert torch.autograd.gradcheck(lambda *x: reasoning.solve(*x).translation, inputs)
    depth, deviation = torch.rand(3, 2).double() + 10, torch.rand(3, 2).double() + 0.1
    cues = [x.requires_grad_() for x in (depth, deviation)]
    assert torch.autograd.gradcheck(lambda *x: reasoning.fuse(*x, torch.ones(3, 2, dtype=torch.bool)), cues)


def test_degenerate_key_points_are_reported_and_stay_finite() -> None:
    offset = reasoning.offsets(torch.tensor([[4.0, 2, 1.5]]), torch.zeros(1), torch.ones(1)).requires_grad_()
    one = torch.zeros(1, 9, 2, requires_grad=True)  # all in one pixel: no depth
    behind = offset.detach()[..., :2] / (offset.detach()[..., 2:] - 10)  # the rays of a box at z = -10
    for ray, weight in ((one, torch.ones(1, 9)), (behind, torch.ones(1, 9)), (behind, torch.zeros(1, 9)),
                        (behind * torch.nan, torch.ones(1, 9))):  # fmt: skip
        found = reasoning.solve(offset, ray, weight)
        assert not found.usable.any()
        assert torch.isfinite(found.translation).all()
    found = reasoning.solve(offset, one, torch.ones(1, 9))
    assert torch.isfinite(found.translation).all()
    found.translation.sum().backward()
    assert torch.isfinite(one.grad).all()
    assert torch.isfinite(offset.grad).all()


def test_rays_that_look_back_are_reported() -> None:
    # a camera that looks 60 degrees up: its lowest pixels look ahead, its highest ones back
    matrix = KITTI @ rotation(0, np.radians(60))
    _, ahead = reasoning.rays(torch.tensor([[600.0, 5000.0], [600.0, -5000.0]]).double(),
                              torch.from_numpy(np.linalg.inv(matrix)))  # fmt: skip
    assert set(ahead.tolist()) == {True, False}
