"""A model's file that changes under a running process: it tells so, and goes on with what it has loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from fault_helpers import Stage, boxes, launched, node, process_of, squares
from ros_helpers import opened_graph
from vision_msgs.msg import Detection2DArray

from gcnet_tracker.tracker import DEMO_MODEL

TRACKER = "gcnet_tracker"


def test_a_model_that_is_rewritten_replaced_and_removed_is_told_and_every_image_answered(tmp_path: Path) -> None:
    model, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    shutil.copy(DEMO_MODEL, model)
    command = node("gcnet_tracker.node", "-p", f"model:={model}", "-p", "threads:=1")
    with launched(tmp_path, tracker=command) as runner, opened_graph() as graph:
        stage = Stage(graph, Detection2DArray, f"{TRACKER}/tracks")
        stage.until_up(TRACKER)
        stage.until_answering(40)
        process = process_of(runner, "gcnet_tracker.node")
        assert process is not None and stage.status[TRACKER]["model"] == "model.onnx"
        assert "model" not in stage.status[TRACKER]["message"]
        with stage.saying(TRACKER, f"{model} is not the model any more that was loaded"):
            model.write_bytes(DEMO_MODEL.read_bytes()[:1000])  # in its place, as a copy that is under way
        answered(stage)
        other.write_bytes(b"none")
        other.rename(model)
        answered(stage)
        model.unlink()
        answered(stage)
        assert process.is_running() and stage.status[TRACKER]["state"] == "active"


def answered(stage: Stage) -> None:
    """Frames before and after the next report of the node."""
    stage.status.pop(TRACKER)
    for _ in range(2):
        assert np.isfinite(boxes(stage.answer(stage.later(0.1), squares(40, 200)))).all()
        stage.until(lambda: TRACKER in stage.status, "a report")
    assert "is not the model any more" in stage.status[TRACKER]["message"]
