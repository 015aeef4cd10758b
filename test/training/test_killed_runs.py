"""A training that is killed at any moment goes on as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from camtrack_core.config import Parameters
from camtrack_core.networks.backbone_base import Backbone
from camtrack_core.training.config import TrainingParameters
from camtrack_core.training.run import Run, read_checkpoint

KILLS, STEPS = 200, 120
LINES = 4000  # of Python, at most, that a process executes before it is killed: a few steps with their checkpoints
ROOT = Path(__file__).parents[2]


class Layer(Backbone):
    channels, early = (2,), ()

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.layer(image)]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Layer()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        loss = ((self.backbone(batch["image"])[0].sum(1) - batch["image"][:, 0]) ** 2).mean()
        return {"loss": loss}


def batches(step: int) -> Iterator[dict[str, Tensor]]:
    while True:
        yield {"image": torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(step))}
        step += 1


def train(folder: Path) -> None:
    torch.manual_seed(0)
    model = Model()
    settings = TrainingParameters(learning_rate=1e-2, checkpoint_every=2, precision="float32")
    run = Run(folder, model, model.backbone, Parameters(), settings, STEPS, ("loss",))
    run.optimise(run.distribute(model), batches(run.step), STEPS)
    run.finish()


def kill_after(lines: int) -> None:
    """This process ends, without any clean-up, when it has executed so many lines of Python."""
    left = lines

    def count(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    sys.settrace(count)


def in_a_child(folder: Path, lines: int | None) -> int:
    """Trains in a process of its own; returns its exit status."""
    child = os.fork()
    if not child:
        try:
            if lines is not None:
                kill_after(lines)
            train(folder)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    moments = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        code = in_a_child(folder / "killed", moments.randint(1, LINES))
        assert code in (0, -signal.SIGKILL), code
        killed += code == -signal.SIGKILL
    assert in_a_child(folder / "killed", None) == 0
    assert in_a_child(folder / "whole", None) == 0
    print(killed)


@pytest.mark.slow
def test_a_run_that_was_killed_two_hundred_times_ends_as_one_that_was_not(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > KILLS // 2
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert (killed / "losses.csv").read_text() == (whole / "losses.csv").read_text()
    for name in ("checkpoint.pt", "weights.pt"):
        found, expected = read_checkpoint(killed / name)["model"], read_checkpoint(whole / name)["model"]
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in whole.iterdir())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
