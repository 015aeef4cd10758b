"""Nodes of one process share a model, and nobody keeps it once none of them uses it."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from ros_helpers import opened_graph
from scripted_helpers import OneBox, OneCar

from gcnet_tracker import node as gcnet_node
from time3d_tracker import node as time3d_node


@pytest.mark.parametrize(
    ("module", "model", "node", "stand_in"),
    [(gcnet_node, "GCNetModel", "GCNetNode", OneBox), (time3d_node, "Time3DModel", "Time3DNode", OneCar)],
)
def test_a_model_goes_with_the_last_node_that_uses_it(
    module: Any, model: str, node: str, stand_in: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[weakref.ref[Any]] = []

    def load(*_: object) -> Any:
        loaded = stand_in()
        made.append(weakref.ref(loaded))
        return loaded

    monkeypatch.setattr(module, model, load)
    file = tmp_path / "model.onnx"
    file.touch()
    with opened_graph() as graph:
        kind = getattr(module, node)
        front, rear = (
            graph.add(kind(namespace=name, **graph.options({"model": str(file)}))) for name in ("front", "rear")
        )
        assert front.start() and rear.start()
        assert len(made) == 1, "expected one model for both"
        for each, alive in ((front, True), (rear, False)):
            each.trigger_deactivate()
            each.trigger_cleanup()
            gc.collect()
            assert (made[0]() is not None) == alive
        file.write_bytes(b"another one")
        assert front.start() and rear.start()
        assert len(made) == 2 and made[1]() is not None
