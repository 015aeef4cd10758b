"""The run loop that both networks train by, on a network of one layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from camtrack_core.config import Parameters
from camtrack_core.errors import ModelError
from camtrack_core.networks.backbone_base import Backbone
from camtrack_core.training.config import TrainingParameters
from camtrack_core.training.run import (
    PATIENCE,
    Run,
    autocast_precision,
    read_checkpoint,
    reduce_checkpoint,
    schedule,
    trained_weights,
)


class Stages(Backbone):
    """Two stages with statistics, the first of which may be frozen, a normalisation by its own name like ResNet's."""

    channels, early = (4,), ("first.0", "first.1")

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.second(self.first(image))]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = Stages(), nn.Conv2d(4, 1, 1)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        loss = ((self.head(self.backbone(batch["image"])[0]) - batch["truth"]) ** 2).mean()
        return {"error": loss, "loss": loss}


def batches(first_step: int, broken: tuple[int, ...] = (), by: float = float("inf")) -> Iterator[dict[str, Tensor]]:
    step = first_step
    while True:
        image = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        truth = image.sum(1, keepdim=True)
        step += 1
        yield {"image": image * by if step in broken else image, "truth": truth}


def start(folder: Path, steps: int = 20, **changes: object) -> tuple[Run, Model]:
    torch.manual_seed(0)
    model = Model()
    settings = TrainingParameters(**({"learning_rate": 1e-2, "checkpoint_every": 5} | changes))
    return Run(folder, model, model.backbone, Parameters(), settings, steps, ("error", "loss")), model


def test_the_rate_rises_then_falls_along_one_cosine() -> None:
    shares = np.array([schedule(step, 1000, 100) for step in range(1000)])
    assert shares[0] == pytest.approx(0.01) and shares.argmax() == 99 and shares[100] == 1
    middle = 100 + 900 // 2
    assert shares[middle] == pytest.approx(0.5, abs=1e-3) and shares[-1] < 1e-4
    assert (np.diff(shares[100:]) < 0).all()
    assert schedule(0, 5, 100) == 1  # a tenth of five steps is none


@pytest.mark.parametrize("frozen", ["early", "all"])
def test_frozen_is_frozen_statistics_too(tmp_path: Path, frozen: str) -> None:
    run, model = start(tmp_path, frozen=frozen)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    run.optimise(run.distribute(model), batches(0), 20)
    still = "backbone.first" if frozen == "early" else "backbone"
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(still), name


def test_frozen_is_frozen_where_several_gpus_share_statistics(tmp_path: Path) -> None:
    """There every normalisation is replaced by one that talks to the other processes."""
    run, model = start(tmp_path, frozen="early")
    before = {name: x.clone() for name, x in model.state_dict().items()}
    run.optimise(nn.SyncBatchNorm.convert_sync_batchnorm(model), batches(0), 3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("backbone.first"), name


def test_a_step_that_is_not_finite_leaves_no_trace(tmp_path: Path) -> None:
    """Weights, statistics, their averages, the optimiser's moments and the checkpoint are those before that batch."""
    run, model = start(tmp_path / "broken", averaging=0.5, checkpoint_every=1)
    run.optimise(run.distribute(model), batches(0, broken=(3,)), 2)
    before = read_checkpoint(run.checkpoint)
    run.optimise(run.distribute(model), batches(2, broken=(3,)), 3)
    after = read_checkpoint(run.checkpoint)
    assert (before.pop("step"), after.pop("step")) == (2, 3)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    torch.testing.assert_close(dict(model.state_dict()), dict(before["model"]), rtol=0, atol=0)
    run.optimise(run.distribute(model), batches(3), 20)
    assert all(torch.isfinite(x).all() for x in run.finish().state_dict().values())
    rows = (tmp_path / "broken" / "losses.csv").read_text().splitlines()
    assert len(rows) == 21 and "nan" in rows[3]


def test_statistics_that_are_not_finite_leave_no_trace_either(tmp_path: Path) -> None:
    """A variance beyond float32 makes normalised features 0: the loss and its gradients are finite all the same."""
    run, model = start(tmp_path, averaging=0.0)
    run.optimise(run.distribute(model), batches(0), 2)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    run.optimise(run.distribute(model), batches(2, broken=(3,), by=1e25), 3)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    torch.testing.assert_close(run.average, before, rtol=0, atol=0)


def test_a_run_without_finite_gradients_gives_up(tmp_path: Path) -> None:
    run, model = start(tmp_path, steps=200)
    with pytest.raises(ModelError, match=f"none in {PATIENCE} steps"):
        run.optimise(run.distribute(model), batches(0, broken=tuple(range(200))), 200)
    assert run.step == PATIENCE
    assert all(torch.isfinite(x).all() for x in read_checkpoint(tmp_path / "checkpoint.pt")["model"].values())


def test_the_result_is_the_moving_average(tmp_path: Path) -> None:
    """Against the recursion in plain numbers, of one weight."""
    run, model = start(tmp_path, averaging=0.5)
    expected = model.head.bias.item()
    for step in range(1, 21):
        run.optimise(run.distribute(model), batches(step - 1), step)
        decay = min(0.5, step / (9 + step))
        expected = decay * expected + (1 - decay) * model.head.bias.item()
    last = model.head.bias.item()
    assert run.finish().head.bias.item() == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(last, rel=1e-3)
    averaged = read_checkpoint(tmp_path / "weights.pt")
    assert trained_weights(tmp_path, averaged)["head.bias"].item() == pytest.approx(expected)
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    assert trained_weights(tmp_path, state)["head.bias"].item() == pytest.approx(expected)
    assert state["model"]["head.bias"].item() == pytest.approx(last)


def test_a_reduced_checkpoint_goes_on(tmp_path: Path) -> None:
    run, model = start(tmp_path / "whole")
    run.optimise(run.distribute(model), batches(0), 10)
    run.save()
    (tmp_path / "reduced").mkdir()
    reduce_checkpoint(run.checkpoint, tmp_path / "reduced" / "checkpoint.pt")
    resumed, again = start(tmp_path / "reduced")
    assert resumed.step == 10
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-3, atol=1e-6, msg=name)
        assert value.dtype == model.state_dict()[name].dtype
    assert torch.equal(again.backbone.second[1].running_var, model.backbone.second[1].running_var)
    resumed.optimise(resumed.distribute(again), batches(10), 20)
    run.optimise(run.distribute(model), batches(10), 20)
    torch.testing.assert_close(again.head.weight, model.head.weight, rtol=0.2, atol=0.02)


def test_biases_and_normalisations_do_not_decay(tmp_path: Path) -> None:
    run, model = start(tmp_path, weight_decay=0.1, backbone_rate=0.5)
    found = {id(p): (g["weight_decay"], g["share"]) for g in run.optimiser.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        decays = name.endswith("weight") and parameter.ndim == 4
        assert found[id(parameter)] == (0.1 if decays else 0.0, 0.5 if name.startswith("backbone") else 1.0), name


def test_the_named_precision_is_taken_on_every_processor() -> None:
    device = torch.device("cpu")
    assert autocast_precision("float32", device) is torch.float32
    assert autocast_precision("bfloat16", device) is torch.bfloat16
    assert autocast_precision("auto", device) in (torch.float32, torch.bfloat16)
