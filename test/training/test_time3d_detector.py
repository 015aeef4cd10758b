"""Time3D's detector: sparse heads against dense ones, decoding against exact boxes."""

import numpy as np
import pytest
import torch

from time3d_tracker import detector
from time3d_tracker import geometric_reasoning as reasoning
from time3d_tracker.backbone import Features
from time3d_tracker.config import NetworkConfig
from time3d_tracker.detector import BINS, Detector, Peaks, PointHeads, find_peaks, invert

SMALL = NetworkConfig(backbone="yolox_nano", stride=8, height=96, width=160, channels=16, head_channels=8, slots=16,
                      reid_channels=8, embedding=16, attention_heads=2)  # fmt: skip


def test_sparse_heads_equal_dense_ones_everywhere() -> None:
    torch.manual_seed(0)
    heads = PointHeads(6, 5, {"a": 2, "b": 3}).double()
    features = torch.randn(2, 6, 7, 9).double()
    hidden = heads.first(features).relu()  # what dense heads compute
    dense = {"a": heads.second["a"](hidden[:, :5]), "b": heads.second["b"](hidden[:, 5:])}
    cells = torch.stack([torch.randperm(63) for _ in range(2)])  # borders and corners among them
    sparse = heads(features, cells)
    for name, expected in dense.items():
        expected = expected.flatten(2).gather(2, cells[:, None].expand(-1, expected.shape[1], -1)).transpose(1, 2)
        torch.testing.assert_close(sparse[name], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("backbone", "stride"), [("dla34", 4), ("yolox_nano", 8), ("yolox_nano", 4), ("resnet18", 8)])
def test_features_have_the_stated_shape(backbone: str, stride: int) -> None:
    config = SMALL.model_copy(update={"backbone": backbone, "stride": stride, "channels": 24})
    features = Features(config).eval()(torch.rand(1, 3, 96, 160) * 255)
    assert features.shape == (1, 24, 96 // stride, 160 // stride)
    assert torch.isfinite(features).all()


def test_peaks_are_the_best_local_maxima() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 3, 8, 10))
    cells, peaks = find_peaks(torch.from_numpy(logits), 5)
    for batch, image in enumerate(1 / (1 + np.exp(-logits))):
        best = image.max(0)
        found = [
            (best[y, x], y * 10 + x, image[:, y, x].argmax())
            for y in range(8) for x in range(10)
            if best[y, x] == best[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max()
        ]  # fmt: skip
        expected = sorted(found, reverse=True)[:5]
        assert cells[batch].tolist() == [cell for _, cell, _ in expected]
        assert peaks.class_ids[batch].tolist() == [c for _, _, c in expected]
        np.testing.assert_allclose(peaks.scores[batch], [s for s, _, _ in expected], rtol=1e-6)


def test_inverse_and_focal_length_of_tilted_cameras() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        fx, fy = rng.uniform(200, 900, 2)
        rotation = np.linalg.qr(rng.normal(0, 1, (3, 3)))[0]
        matrix = np.array([[fx, 0, rng.uniform(100, 400)], [0, fy, 99.0], [0, 0, 1]]) @ rotation
        inverse, focal = invert(torch.from_numpy(matrix)[None])
        np.testing.assert_allclose(inverse[0], np.linalg.inv(matrix), atol=1e-12)
        assert focal.item() == pytest.approx(np.sqrt(fx * fy))


@pytest.mark.parametrize("depth", ["keypoints", "keypoints+regressed", "keypoints+regressed+ground"])
def test_perfect_heads_decode_to_the_true_box(depth: str) -> None:
    config = SMALL.model_copy(update={"depth": depth})
    network = Detector(config)
    rng = np.random.default_rng(3)
    projection = torch.tensor([[110.0, 0, 80], [0, 110, 48], [0, 0, 1]], dtype=torch.float64)[None]
    for yaw in rng.uniform(-np.pi, np.pi, 20):
        class_id = int(rng.integers(5))
        size = np.array(config.class_sizes[class_id]) * rng.uniform(0.8, 1.2, 3)
        centre = np.array([rng.uniform(-8, 8), rng.uniform(0, 1.5), rng.uniform(15, 30)])
        alpha = yaw - np.arctan2(centre[0], centre[2])
        angle = torch.tensor([[yaw]])
        offset = reasoning.offsets(torch.tensor(size)[None, None], angle.sin(), angle.cos())
        pixels = reasoning.project(torch.tensor(centre)[None, None, None] + offset, projection[:, None])[0, 0].numpy()
        low, high = pixels.min(0), pixels.max(0)
        cell = np.floor((low + high) / 16)
        raw = {
            "offset": (low + high) / 16 - cell,
            "size2d": np.log((high - low) / 8),
            "keypoints": ((pixels - (cell + 0.5) * 8) / (high - low)).ravel(),
            "keypoint_weights": rng.normal(0, 1, 9),
            "dimensions": np.log(size / config.class_sizes[class_id]),
            "orientation": orientation(alpha, rng),
            "depth": [np.log(centre[2] / (110 * size[2] / (high - low)[1]))],
            "deviations": np.log(np.expm1([0.2, 0.1, 0.05])),
            "reid": rng.normal(0, 1, 8),
        }
        heads = {name: torch.tensor(np.asarray(value, float))[None, None] for name, value in raw.items()}
        cells = torch.tensor([[int(cell[1] * 20 + cell[0])]])
        peak = Peaks(torch.tensor([[class_id]]), torch.ones(1, 1))
        height = torch.tensor([centre[1] + size[2] / 2])
        found = network.double().decode(heads, cells, peak, projection, height, torch.tensor([0.01]).double())
        assert found.usable.all()
        np.testing.assert_allclose(found.translation[0, 0], centre, atol=1e-4)
        np.testing.assert_allclose(found.size[0, 0], size, atol=1e-6)
        np.testing.assert_allclose([found.sin.item(), found.cos.item()], [np.sin(yaw), np.cos(yaw)], atol=1e-5)
        np.testing.assert_allclose(found.box2d[0, 0], [*low, *high], atol=1e-5)
        np.testing.assert_allclose(found.depth.item(), centre[2], atol=1e-4)
        # at 0.01 radians of pitch the ground's distance is off by 0.01 distance / height
        slope = height.item() * np.mean(1 / (centre[2] + offset[0, 0, :4, 2].numpy()))
        stated = np.hypot([0.2, 0.1, 0.05], [0.03, 0.03, np.hypot(0.04, 0.01 / slope)])
        np.testing.assert_allclose(found.deviations[0, 0], stated, rtol=1e-6)
        joined = stated[: len(config.depth.split("+"))]
        assert found.deviation.item() == pytest.approx((joined**-2.0).sum() ** -0.5, rel=1e-6)


def test_the_ground_corrects_a_box_of_the_wrong_size() -> None:
    """A car taken for one of nine tenths of its size appears a tenth too near; on the ground it stays in place."""
    config = SMALL.model_copy(update={"depth": "keypoints+regressed+ground"})
    network = Detector(config).double()
    projection = torch.tensor([[110.0, 0, 80], [0, 110, 48], [0, 0, 1]], dtype=torch.float64)[None]
    size, centre = torch.tensor(config.class_sizes[0]).double(), torch.tensor([2.0, 1.2, 20.0]).double()
    offset = reasoning.offsets(size, torch.zeros(()).double(), torch.ones(()).double())
    pixels = reasoning.project(centre + offset, projection[0])
    raw = {name: torch.zeros(1, 1, count).double() for name, count in network.heads.outputs.items()}
    cells, peak = torch.tensor([[6 * 20 + 10]]), Peaks(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1))
    raw["keypoints"] = ((pixels - torch.tensor([84.0, 52.0])) / 8).reshape(1, 1, -1)
    raw["dimensions"] += np.log(0.9)
    raw["orientation"][..., 0], raw["orientation"][..., 2::3] = 9.0, 1.0  # along the ray
    raw["deviations"] += torch.tensor([-2.0, 3.0, -6.0])  # the regression, of an arbitrary 2D box, says nothing
    level_road = torch.zeros(1).double()
    found = [network.decode(raw, cells, peak, projection, torch.tensor([height]).double(), level_road)
             for height in (0.0, 1.2 + config.class_sizes[0][2] / 2)]  # fmt: skip
    error = [(x.translation[0, 0, 2] - 20).abs().item() for x in found]
    assert error[0] > 1.5
    assert error[1] < 0.4


def orientation(alpha: float, rng: np.random.Generator) -> np.ndarray:
    """What the head says of an observation angle: the nearest bin wins, its residual has any length."""
    centres = np.arange(BINS) * 2 * np.pi / BINS
    distance = np.abs(np.angle(np.exp(1j * (alpha - centres))))
    bins = rng.normal(0, 1, (BINS, 3))
    bins[:, 0] = -distance
    residual = alpha - centres[distance.argmin()]
    bins[distance.argmin(), 1:] = rng.uniform(0.5, 2) * np.array([np.sin(residual), np.cos(residual)])
    return bins.ravel()


def test_a_zoomed_camera_changes_pixels_and_no_position() -> None:
    """Depth is independent of the camera: twice the focal length and twice the picture are the same box."""
    torch.manual_seed(0)
    network = Detector(SMALL.model_copy(update={"depth": "keypoints"}))
    raw = {name: torch.randn(1, 4, count) * 0.3 for name, count in network.heads.outputs.items()}
    cells, peak = torch.tensor([[41, 42, 90, 91]]), Peaks(torch.tensor([[0, 1, 2, 3]]), torch.ones(1, 4))
    projection = torch.tensor([[[110.0, 0, 80], [0, 110, 48], [0, 0, 1]]])
    unknown = torch.zeros(1)
    near = network.decode(raw, cells, peak, projection, unknown, unknown)
    network.config = network.config.model_copy(update={"stride": 16, "height": 192, "width": 320})
    far = network.decode(raw, cells, peak, torch.diag(torch.tensor([2.0, 2, 1])) @ projection, unknown, unknown)
    torch.testing.assert_close(near.box2d * 2, far.box2d)
    assert near.usable.any()
    torch.testing.assert_close(near.translation, far.translation, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(near.depth, far.depth)


def test_objects_of_random_weights_are_finite() -> None:
    torch.manual_seed(0)
    network = Detector(SMALL).eval()
    features, heatmap = network(torch.rand(2, 3, 96, 160) * 255)
    cells, peak = find_peaks(heatmap, SMALL.slots)
    projection = torch.from_numpy(np.array([[110.0, 0, 80], [0, 110, 48], [0, 0, 1]], np.float32)).expand(2, 3, 3)
    objects, _ = network.objects(features, cells, peak, projection, torch.full((2,), 1.5), torch.full((2,), 0.005))
    for name, value in objects._asdict().items():
        assert torch.isfinite(value.float()).all(), name
        assert value.shape[:2] == (2, SMALL.slots)
    torch.testing.assert_close(objects.reid.norm(dim=-1), torch.ones(2, SMALL.slots))
    assert detector.HEATMAP_PRIOR * 0.1 < heatmap.sigmoid().mean() < detector.HEATMAP_PRIOR * 10
    torch.testing.assert_close(objects.sin**2 + objects.cos**2, torch.ones(2, SMALL.slots))
