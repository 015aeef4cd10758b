"""GCNet's ablation: its measures tell a branch that copies its box from one that follows its query, and it runs."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from gcnet_tracker.correlation import Memory
from gcnet_tracker.network import Answer, FrameFeatures

torch.set_num_threads(1)  # the tensors are small: threads would only wait for each other

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
WIDE, HIGH = 0.1, 0.125  # of every object, shares of the input
IDS = (1, 2, 3)


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gcnet_ablation")


class Stub:
    """A network whose map says which object stands in a cell; `ask` finds that object or repeats the old place."""

    def __init__(self, rows: int, columns: int, follows: bool) -> None:
        y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
        self.places, self.follows = torch.stack([x, y])[None], follows

    def neck(self, maps: list[Tensor]) -> Tensor:
        return maps[0]

    def correlate(self, features: Tensor) -> FrameFeatures:
        places = self.places.expand(len(features), -1, -1, -1)
        keys = features[:, :1]
        nothing = torch.zeros(len(features), 1, 0)
        memory = Memory(keys.flatten(2), nothing, nothing, places.flatten(2), nothing)
        return FrameFeatures(keys, keys, places, memory, keys)

    def ask(self, memory: Memory, queries: Tensor, stored: Tensor) -> Answer:
        """Boxes of one size; the confidence is that of the best match, of the copying one the same for all."""
        match = (memory.keys.transpose(1, 2) == queries).transpose(1, 2) & (queries > 0).transpose(1, 2)
        cell = match.float().argmax(2)
        found = memory.places.gather(2, cell[:, None].expand(-1, 2, -1))
        centre = found if self.follows else stored
        size = torch.tensor([WIDE, HIGH])[None, :, None].expand(len(centre), 2, centre.shape[2])
        sure = match.any(2).float() * 8 - 4 if self.follows else torch.full_like(centre[:, 0], 3.0)
        return Answer(torch.cat([centre, size], 1), sure, None)


def held(ablation: ModuleType) -> SimpleNamespace:
    """Two recordings of three frames; three objects that stand in rows of cells and move by three cells a frame."""
    rows, columns = ablation.NETWORK.map_size
    cells = sum((rows >> k) * (columns >> k) for k in range(3))
    features, boxes, ids = (
        torch.zeros(6, 1, cells),
        torch.zeros(6, ablation.OBJECTS, 4),
        np.full((6, ablation.OBJECTS), -1),
    )
    for frame in range(6):
        for k, identity in enumerate(IDS):
            row, column, name = 5 + 6 * k, 5 + 3 * (frame % 3), identity + 10 * (frame // 3)
            features[frame, 0, row * columns + column] = name
            x, y = (column + 0.5) / columns, (row + 0.5) / rows
            boxes[frame, k] = torch.tensor([x - WIDE / 2, y - HIGH / 2, x + WIDE / 2, y + HIGH / 2])
            ids[frame, k] = name
    there = [{identity + 10 * (frame // 3) for identity in IDS} for frame in range(6)]
    return ablation.Held(features, boxes, ids, there, np.array([[0, 1, 2], [3, 4, 5]]))


@pytest.mark.parametrize("refreshed", ["", "queries", "keys"])
def test_a_branch_that_follows_its_query_scores_all(ablation: ModuleType, refreshed: str) -> None:
    data = held(ablation)
    scores = ablation.measure(Stub(*ablation.NETWORK.map_size, True), data, 0 * data.features[:1], refreshed)
    for name in ("track soon", "track late", "detection soon", "detection late", "other", "AUC"):
        assert scores[name] == pytest.approx(1, abs=1e-5), name
    assert scores["present"] > 0.9 and scores["absent"] < 0.1 and scores["grey"] < 0.1


def test_a_branch_that_copies_is_the_box_left_standing(ablation: ModuleType) -> None:
    data = held(ablation)
    scores = ablation.measure(Stub(*ablation.NETWORK.map_size, False), data, 0 * data.features[:1])
    wide, moved = WIDE, 3 / ablation.NETWORK.map_size[1]
    assert scores["left soon"] == pytest.approx((wide - moved) / (wide + moved), abs=1e-5)
    for when in ("soon", "late"):
        assert scores[f"track {when}"] == pytest.approx(scores[f"left {when}"], abs=1e-5)
        assert scores[f"detection {when}"] == pytest.approx(1, abs=1e-5)
    assert scores["other"] == 0 and scores["AUC"] == 0.5
    assert scores["present"] == scores["absent"] == scores["grey"]


@pytest.mark.slow
def test_variants_are_trained_once_and_scored(
    ablation: ModuleType, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    drive = "drive:{}?frames=6&frame_rate=5&width=320&height=192"
    arguments = ["gcnet_ablation.py", "--steps", "1", "--seeds", "1", "--pairs", "2", "--json", "--out", str(tmp_path)]
    arguments += ["--train", drive.format("1000-1001"), "--test", drive.format("9000-9001")]
    short = "linear, pairs to .2 s, nobody absent"
    monkeypatch.setattr(sys, "argv", [*arguments, "--variants", short, "attention"])
    monkeypatch.setattr(ablation, "TRAINING", ablation.TRAINING.model_copy(update={"batch_size": 2}))
    ablation.main()
    first = json.loads(capsys.readouterr().out)[drive.format("9000-9001")]
    assert list(first) == [short, "attention", "... Q refreshed", "... K refreshed"]
    assert first[short]["left late"] == first["attention"]["left late"]
    assert 0 < first["attention"]["left late"][0] < first["attention"]["left soon"][0] < 1
    assert all(0 <= value <= 1 for row in first.values() for values in row.values() for value in values)
    weights = [path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/weights.pt")]
    assert len(weights) == 2
    ablation.main()
    assert json.loads(capsys.readouterr().out)[drive.format("9000-9001")] == first
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/weights.pt")] == weights
