"""Files of weights of any content: what is no network's is refused with a sentence, runs nothing, takes no memory."""

from __future__ import annotations

import io
import pickle
import random
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import fuzz
from network_helpers import SMALL

import gcnet_tracker.training
import time3d_tracker.training
from camtrack_core.errors import ModelError
from camtrack_core.networks.backbones import BACKBONES
from camtrack_core.networks.dla import DLA34
from camtrack_core.networks.weights import sizes
from camtrack_core.training.run import reduce_checkpoint
from gcnet_tracker.config import NetworkConfig
from gcnet_tracker.network import GCNet
from time3d_tracker.network import Time3D

GCNET = NetworkConfig(backbone="yolox_nano", height=64, width=96, channels=16, correlation_channels=16)
KINDS: dict[str, Callable[[], Any]] = {"gcnet": lambda: GCNet(GCNET), "time3d": lambda: Time3D(SMALL)}
READERS: dict[str, Callable[[Path], object]] = {
    "gcnet": gcnet_tracker.training.load_network,
    "take over": lambda path: gcnet_tracker.training.take_over(GCNet(GCNET), path),
    "time3d": time3d_tracker.training.load_network,
    "backbone": lambda path: time3d_tracker.training.load_backbone(GCNet(GCNET).backbone, path),
    "resnet": lambda path: BACKBONES["resnet18"]().load(path),
    "efficientnet": lambda path: BACKBONES["efficientnet_lite0"]().load(path),
    "dla": lambda path: DLA34().load(path),
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)
TENSORS = st.sampled_from([
    torch.zeros(()), torch.zeros(0), torch.zeros(3, 4), torch.full((2,), torch.nan), torch.zeros(2, dtype=torch.long),
    torch.zeros(1).expand(10**6, 10**6), torch.zeros(2, 2).to_sparse(), torch.zeros(2, dtype=torch.complex64),
])  # fmt: skip
few = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def content(kind: str) -> dict[str, Any]:
    """Of a checkpoint of either network."""
    network = KINDS[kind]()
    return {"network": network.config.model_dump(), "model": network.state_dict()}


def refused_or_read(read: Callable[[Path], object], path: Path) -> bool:
    try:
        read(path)
    except ModelError as error:
        assert str(path) in str(error) and "expected" in str(error)
        return False
    return True


@pytest.mark.parametrize("reader", READERS)
@given(data=st.binary(max_size=200), seed=st.integers(0, 2**32))
@few
def test_bytes_that_are_none_are_refused(reader: str, tmp_path: Path, data: bytes, seed: int) -> None:
    path, rng, written = tmp_path / "x.pt", random.Random(seed), io.BytesIO()
    torch.save({"network": GCNET.model_dump(), "model": {"a": torch.zeros(3)}}, written)
    for some in (data, fuzz.mutated(written.getvalue(), rng), written.getvalue()[: rng.randrange(2000)]):
        path.write_bytes(some)
        refused_or_read(READERS[reader], path)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@few
def test_checkpoints_that_say_anything_are_refused_or_a_network(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    """One thing of a whole checkpoint is another one: of what it says of itself, of its weights, or of its parts."""
    whole, path = content(kind), tmp_path / "x.pt"
    part = data.draw(st.sampled_from(["network", "model", ""]))
    if part:
        name = data.draw(st.sampled_from(sorted(whole[part])))
        value = data.draw(st.integers(-1, 10**7) | ANYTHING if part == "network" else TENSORS | ANYTHING)
        changed = {**whole, part: {**whole[part], name: value}}
    else:
        name = data.draw(st.sampled_from(["network", "model", "average", "step"]))
        changed = {**whole, "average": whole["model"], "step": 1, name: data.draw(ANYTHING)}
    torch.save(changed, path)
    if refused_or_read(READERS[kind], path):
        network = READERS[kind](path)
        assert isinstance(network, nn.Module) and sizes(network.state_dict()) == sizes(whole["model"])
    refused_or_read(lambda path: reduce_checkpoint(path, tmp_path / "reduced.pt"), path)


@pytest.mark.parametrize("reader", READERS)
def test_no_code_of_a_file_runs(reader: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (ran,)

    torch.save({"network": GCNET.model_dump(), "model": {"x": Code()}}, tmp_path / "x.pt")
    (tmp_path / "y.pt").write_bytes(pickle.dumps(Code()))
    for name in ("x.pt", "y.pt"):
        assert not refused_or_read(READERS[reader], tmp_path / name)
    assert not ran.exists()
    pickle.loads((tmp_path / "y.pt").read_bytes())
    assert ran.exists()


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [("gcnet", "channels", 2**20), ("gcnet", "backbone", "resnet50"), ("time3d", "head_channels", 2**20)],
)
def test_a_network_is_not_made_before_its_weights_are_known_to_fit(
    kind: str, name: str, value: object, tmp_path: Path
) -> None:
    """Some would have terabytes."""
    whole = content(kind)
    torch.save({**whole, "network": {**whole["network"], name: value}}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"x\.pt: expected a \w+ checkpoint, got .* for .*, expected"):
        READERS[kind](tmp_path / "x.pt")
