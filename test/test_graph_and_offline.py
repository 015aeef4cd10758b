"""The ROS graph and the offline run are one method: the same frames give the same tracks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_cli import camtrack

from camtrack.methods import Engine, Run
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from camtrack_core.tracks import Tracks2D
from gcnet_tracker.tracker import DEMO_MODEL


@pytest.mark.skipif(not DEMO_MODEL.exists(), reason="the demo weights are not here")
def test_the_nodes_and_the_offline_run_give_the_same_tracks(data_root: Path, tmp_path: Path) -> None:
    """Nine real images through replay, gcnet_tracker, pkf_filter and recorder, and through `track --method stack`."""
    source = tmp_path / "images"
    source.mkdir()
    for frame in open_source(str(data_root / "uadetrac/Insight-MVT_Annotation_Train/MVI_20011")):
        cv2.imwrite(str(source / f"{frame.time_ns:019d}.png"), cv2.resize(frame.image, (480, 270)))
    arguments = ["--input", str(source), "--out", str(tmp_path / "out"), "--rate", "0", "--device", "onnxruntime"]
    done = camtrack("demo", *arguments, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/tracks.jsonl").read_text().splitlines()]
    recorded = {line["time_ns"]: line["tracks"] for line in lines}

    # Images travel as a camera's do, best effort: on a busy machine one may get lost, and no node has seen it.
    frames = [frame for frame in open_source(str(source)) if frame.time_ns in recorded]
    assert len(frames) == len(recorded) >= 6
    count = 0
    tracked = Engine(Run("stack", DEMO_MODEL, "onnxruntime")).tracks(Seen(frames))
    for frame, tracks in zip(frames, tracked, strict=True):
        found = recorded[frame.time_ns]
        assert isinstance(tracks, Tracks2D) and [t["id"] for t in found] == tracks.ids.tolist()
        xyxy = np.array([t["xyxy"] for t in found], float).reshape(-1, 4)
        np.testing.assert_allclose(xyxy, tracks.xyxy, atol=1e-3)  # centre and size on the way
        np.testing.assert_allclose([t["score"] for t in found], tracks.scores, atol=1e-6)
        count += len(found)
    assert count > 10


class Seen(list[Frame]):
    """Frames as a recording."""

    name, class_names = "seen", ()
