"""What tests of both networks' training share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from camtrack_core.networks.backbone_base import Backbone
from camtrack_core.networks.dla import DLA34
from camtrack_core.training.run import Run, frozen, read_checkpoint


def check_guards(run: Run, step: nn.Module, source: Iterator[dict[str, Tensor]], backbone: Backbone | DLA34) -> None:
    """Three steps of a run that saves each of them, the second on images that are not finite.

    That one leaves no trace in weights, statistics, their averages and the checkpoint; the others change the network,
    but for the frozen stages of its backbone, statistics too.
    """
    still = {id(x) for part in frozen(backbone, run.training.frozen) for x in (*part.parameters(), *part.buffers())}
    named = dict([*run.model.named_parameters(), *run.model.named_buffers()])
    first = {name: x.clone() for name, x in named.items()}
    run.optimise(step, source, 1)
    before = read_checkpoint(run.checkpoint)
    run.optimise(step, ({**batch, "image": batch["image"].float() * torch.inf} for batch in source), 2)
    after = read_checkpoint(run.checkpoint)
    assert (before.pop("step"), after.pop("step")) == (1, 2)
    assert before.pop("network") == after.pop("network")
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert "nan" in (run.folder / "losses.csv").read_text().splitlines()[2]
    run.optimise(step, source, 3)
    changed = {name for name, x in named.items() if not torch.equal(x, first[name])}
    assert still and not {name for name in changed if id(named[name]) in still}
    own = [name for name, x in named.items() if name.endswith("running_var") and id(x) not in still]
    assert own and changed.issuperset(own)
    assert {name for name in changed if name.endswith("weight")}
