"""DLA-34's deformable convolutions: against plain ones, against loops, and in an exported graph."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from camtrack_core.errors import ConfigurationError, ModelError
from camtrack_core.networks.dla import DLA34, DeformableConv, Merge, deformable, deformable_conv
from time3d_tracker.backbone import Features
from time3d_tracker.config import INPUTS, OUTPUTS, NetworkConfig
from time3d_tracker.export import FrameGraph, example_inputs, export
from time3d_tracker.network import Time3D


def test_without_shift_and_at_full_share_it_is_a_plain_convolution() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 5, 7).double(), torch.randn(4, 3, 3, 3).double()
    found = deformable_conv(x, torch.zeros(2, 9, 5, 7, 2).double(), torch.ones(2, 9, 5, 7).double(), weight)
    torch.testing.assert_close(found, functional.conv2d(x, weight, padding=1), rtol=0, atol=1e-12)


def test_any_shift_and_share_against_loops() -> None:
    """Bilinear weights written out, cells outside the map counting as zero; shifts lead far outside too."""
    rng = np.random.default_rng(1)
    x, weight = rng.normal(0, 1, (2, 3, 5, 6)), rng.normal(0, 1, (4, 3, 3, 3))
    shift, share = rng.normal(0, 2.5, (2, 9, 5, 6, 2)), rng.uniform(0, 1, (2, 9, 5, 6))
    expected = np.zeros((2, 4, 5, 6))
    for b, row, column, tap in itertools.product(range(2), range(5), range(6), range(9)):
        at_x = column + tap % 3 - 1 + shift[b, tap, row, column, 0]
        at_y = row + tap // 3 - 1 + shift[b, tap, row, column, 1]
        value = np.zeros(3)
        for y, x_ in itertools.product(range(5), range(6)):
            value += max(0, 1 - abs(at_y - y)) * max(0, 1 - abs(at_x - x_)) * x[b, :, y, x_]
        expected[b, :, row, column] += share[b, tap, row, column] * weight[:, :, tap // 3, tap % 3] @ value
    found = deformable_conv(*(torch.from_numpy(a) for a in (x, shift, share, weight)))
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_it_starts_as_half_a_plain_convolution_and_learns_to_shift() -> None:
    torch.manual_seed(0)
    layer, x = DeformableConv(3, 3), torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(layer(x), functional.conv2d(x, layer.weight, padding=1) / 2, rtol=0, atol=1e-5)
    with torch.no_grad():  # a blank layer that may learn nothing but where to look
        layer.weight.zero_()
        for c in range(3):
            layer.weight[c, c, 1, 1] = 2
    layer.weight.requires_grad_(False)
    smooth = functional.avg_pool2d(torch.randn(1, 3, 26, 26), 5, 1)[..., :20, :20]
    aim = functional.pad(smooth[..., 1:], (0, 1))  # the picture one cell to the left: each cell sees its right one
    optimiser = torch.optim.Adam(layer.predict.parameters(), 0.02)
    first = last = 0.0
    for step in range(60):
        loss = functional.mse_loss(layer(smooth), aim)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < 0.4 * first
    assert layer.predict.bias[8].item() > 0.3  # shift of the middle tap to the right


def test_the_exported_graph_gives_the_same_values(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    merge = Merge([4, 8], 4, deformable)
    for module in merge.modules():
        if isinstance(module, DeformableConv):  # shifts and shares are not those of the start
            nn.init.normal_(module.predict.weight, std=0.05)
            nn.init.normal_(module.predict.bias, std=1.0)
    merge.eval()
    fine, coarse = torch.randn(1, 4, 12, 16), torch.randn(1, 8, 6, 8)
    path = tmp_path / "merge.onnx"
    torch.onnx.export(
        merge, ([fine, coarse],), str(path), opset_version=20, dynamo=True, external_data=False, verbose=False
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (fine.numpy(), coarse.numpy()), strict=True)))
    with torch.no_grad():
        (expected,) = merge([fine, coarse])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.05


def test_the_configuration_chooses_the_convolutions() -> None:
    small = NetworkConfig(height=64, width=96, slots=8, upsampling="deformable")
    kinds = [isinstance(m, DeformableConv) for m in Features(small).modules()]
    assert sum(kinds) == 2 * (3 + 2 + 1) + 2 * 2  # reduce and join of each map that is merged
    assert not any(isinstance(m, DeformableConv) for m in Features(NetworkConfig()).modules())
    with pytest.raises((ConfigurationError, ValueError), match="plain upsampling with resnet18"):
        NetworkConfig(backbone="resnet18", upsampling="deformable")


@pytest.mark.parametrize("upsampling", ["plain", "deformable"])
def test_the_whole_graph_is_of_common_operators_and_says_what_torch_says(tmp_path: Path, upsampling: str) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(
        height=96, width=160, upsampling=upsampling, channels=16, head_channels=8, slots=12, reid_channels=8,
        embedding=16, attention_heads=2, spatial_layers=1, temporal_layers=2,
    )  # type: ignore[arg-type]  # fmt: skip
    network = Time3D(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
        if isinstance(module, DeformableConv):
            nn.init.normal_(module.predict.bias, std=1.0)
    with torch.no_grad():  # features of unit variance: cells that differ by more than rounding
        network.train().detector(torch.rand(2, 3, 96, 160) * 255)
    last = network.eval().detector.heatmap[2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.constant_(last.bias, 0.0)
    path = tmp_path / "dla.onnx"
    export(network, path)
    graph = onnx.load(str(path))
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"} and not graph.functions
    assert not {"DeformConv", "NonZero"} & {node.op_type for node in graph.graph.node}
    inputs = example_inputs(network)
    with torch.no_grad():
        expected = FrameGraph(network)(*inputs)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(list(OUTPUTS), {n: x.numpy() for n, x in zip(INPUTS, inputs, strict=True)})
    for name, mine, theirs in zip(OUTPUTS, found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=2e-3, atol=1e-3, err_msg=name)
    assert found[0].max() > 0.3


def published() -> dict[str, torch.Tensor]:
    """A state dict in the form of the authors' ImageNet classifier, written down from its layers."""
    state: dict[str, torch.Tensor] = {}

    def layer(conv: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        state[f"{conv}.weight"] = torch.randn(outputs, inputs, kernel, kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{part}"] = torch.rand(outputs)

    def tree(name: str, inputs: int, outputs: int, joined: int) -> None:
        for branch, channels in (("tree1", inputs), ("tree2", outputs)):
            layer(f"{name}.{branch}.conv1", f"{name}.{branch}.bn1", outputs, channels, 3)
            layer(f"{name}.{branch}.conv2", f"{name}.{branch}.bn2", outputs, outputs, 3)
        layer(f"{name}.root.conv", f"{name}.root.bn", outputs, joined, 1)
        if inputs != outputs:
            layer(f"{name}.project.0", f"{name}.project.1", outputs, inputs, 1)

    layer("base_layer.0", "base_layer.1", 16, 3, 7)
    layer("level0.0", "level0.1", 16, 16, 3)
    layer("level1.0", "level1.1", 32, 16, 3)
    tree("level2", 32, 64, 128)
    tree("level3.tree1", 64, 128, 256)
    tree("level3.tree2", 128, 128, 448)
    tree("level4.tree1", 128, 256, 512)
    tree("level4.tree2", 256, 256, 896)
    tree("level5", 256, 512, 1280)
    layer("level3.project.0", "level3.project.1", 128, 64, 1)  # published, and used by nobody
    state["fc.weight"], state["fc.bias"] = torch.randn(1000, 512, 1, 1), torch.randn(1000)
    return state


def test_the_published_imagenet_weights_are_a_start(tmp_path: Path) -> None:
    """Everything before the upsampling path is theirs, the rest stays as it was."""
    torch.manual_seed(0)
    model, state = DLA34(), published()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    torch.save(state, tmp_path / "dla34.pth")
    model.load(tmp_path / "dla34.pth")
    after = model.state_dict()
    assert torch.equal(after["levels.3.right.left.second.0.weight"], state["level3.tree2.tree1.conv2.weight"])
    assert torch.equal(after["levels.5.root.1.running_var"], state["level5.root.bn.running_var"])
    assert torch.equal(after["levels.4.left.project.0.weight"], state["level4.tree1.project.0.weight"])
    trunk = [name for name in after if name.startswith(("stem", "levels")) and not name.endswith("tracked")]
    unused = [name for name in state if name.startswith(("fc", "level3.project"))]
    assert len(trunk) == len(state) - len(unused)
    assert not any(torch.equal(after[name], before[name]) for name in trunk)
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith(("up", "final")))
    again = DLA34()
    torch.save(after, tmp_path / "own.pth")
    again.load(tmp_path / "own.pth")
    assert torch.equal(again.state_dict()["stem.0.weight"], state["base_layer.0.weight"])


@pytest.mark.parametrize(
    "broken", [{"base_layer.0.weight": torch.zeros(16, 3, 7, 7)}, {"fc.bias": torch.zeros(2)}, [1]]
)
def test_other_weights_are_refused(tmp_path: Path, broken: object) -> None:
    torch.save(broken, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other\.pth: expected a DLA-34 state dict"):
        DLA34().load(tmp_path / "other.pth")
