"""bag, replay, track and evaluate as a person types them: what they write, and a sentence for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import a_video, camtrack

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("command", ["bag", "replay", "track", "evaluate", "report"])
def test_help_shows_an_example(command: str) -> None:
    done = camtrack(command, "--help")
    assert done.returncode == 0 and f"Example: camtrack {command}" in done.stdout


def test_a_video_becomes_a_bag_and_is_replayed(tmp_path: Path) -> None:
    """Every image of the bag arrives at a ROS subscriber, with the time that it was recorded at."""
    bag = str(tmp_path / "clip")
    done = camtrack("bag", a_video(tmp_path / "clip.mp4"), bag, "--compressed")
    assert done.returncode == 0 and "24 messages" in done.stdout, done.stderr
    again = camtrack("bag", str(tmp_path / "clip.mp4"), bag)
    assert again.returncode == 2 and "is there already" in again.stderr and "Traceback" not in again.stderr

    listener = subprocess.Popen(
        [sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    played = camtrack("replay", bag, "--rate", "0.5", "--compressed", "--namespace", "left", "--clock")
    stamps, _ = listener.communicate(timeout=60)
    assert played.returncode == 0, played.stderr
    assert [int(s) for s in stamps.split()] == [1_000_000_000 + k * 100_000_000 for k in range(12)]


LISTENER = """
import time, rclpy
from sensor_msgs.msg import CompressedImage
from camtrack_core.ros.qos import SENSOR_DATA
rclpy.init()
node, stamps = rclpy.create_node("listener"), []
topic = "/left/image/compressed"
node.create_subscription(
    CompressedImage, topic, lambda m: stamps.append(m.header.stamp.sec * 10**9 + m.header.stamp.nanosec), SENSOR_DATA)
end = time.monotonic() + 50
while len(stamps) < 12 and time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.2)
print(*stamps)
"""


def test_public_detections_are_tracked_and_scored(data_root: Path, tmp_path: Path) -> None:
    data, out = str(data_root / "mot15"), str(tmp_path / "tracks")
    tracked = camtrack("track", data, "--method", "pkf", "--out", out, "--jobs", "1", "--json")
    assert tracked.returncode == 0, tracked.stderr
    assert [r["frames"] for r in json.loads(tracked.stdout)] == [71, 179]
    scored = camtrack("evaluate", out, "--truth", data, "--json")
    assert scored.returncode == 0, scored.stderr
    scores = json.loads(scored.stdout)
    assert set(scores["sequences"]) == {"TUD-Campus", "TUD-Stadtmitte"}
    assert 0.3 < scores["combined"]["hota"] < 0.9 and scores["combined"]["frames"] == 250
    table = camtrack("evaluate", out, "--truth", data)
    assert f"{scores['combined']['hota']:.4f}" in table.stdout and "combined" in table.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bag", "missing.mp4", "out"), "does not exist"),
        (("bag", "drive:x", "out"), "seed"),
        (("replay", "missing.mcap"), "does not exist"),
        (("track", "missing.mp4", "--out", "out"), "does not exist"),
        (("track", "drive:1", "--out", "out", "--device", "abacus"), "--device"),
        (("track", "drive:1", "--out", "out", "--model", "none.onnx"), "none.onnx"),
        (("evaluate", "none", "--truth", "missing.mp4"), "does not exist"),
        (("report", "none", "--truth", "missing.mp4", "--out", "out"), "does not exist"),
        (("evaluate", ".", "--truth", "drive:1", "--pr-curve", "none.txt"), "none.txt"),
        (("evaluate", ".", "--truth", "drive:1", "--detections", "--iou", "2"), "--iou"),
        (("evaluate", ".", "--truth", "drive:1", "--detections", "--split", "hard"), "NAME=FILE"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = camtrack(*(str(tmp_path / "out") if a == "out" else a for a in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr and "Traceback" not in done.stdout + done.stderr
