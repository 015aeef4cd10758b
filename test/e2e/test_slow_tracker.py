"""A tracker that hardly gets the processor is late, never lost: the stack with one process stopped again and again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import psutil
import pytest
from command_helpers import ROOT
from diagnostic_msgs.msg import DiagnosticArray
from ros_helpers import collect, opened_graph
from vision_msgs.msg import Detection3DArray

from camtrack.bags.write import BagOptions, write_bag
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from camtrack_core.geometry.camera import Camera
from camtrack_core.ros.lifecycle.qos import DIAGNOSTICS, RESULTS
from camtrack_core.ros.messages.stamps import to_nanoseconds
from gcnet_tracker.tracker import DEMO_MODEL as GCNET_MODEL
from time3d_tracker.model import DEMO_MODEL as TIME3D_MODEL

SLOW = "time3d_tracker_node"
SIXFOLD = (0.25, 0.05)  # seconds that it is stopped and runs, again and again
QUEUE = 3  # images that wait for a node
PATIENCE = 1200.0  # seconds; on a quiet machine a run takes less than a minute

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (GCNET_MODEL.exists() and TIME3D_MODEL.exists()), reason="the demo weights are not here"),
    pytest.mark.timeout(3 * PATIENCE),
]


class Clip(list[Frame]):
    """Frames as a recording."""

    name = "clip"
    class_names: tuple[str, ...] = ()


def street(data_root: Path, frames: int, out: Path) -> str:
    """The beginning of a recording of a street, two images a second of half the size, as a bag; its path."""
    scene = open_source(f"{data_root / 'nuscenes'}?scene=scene-0103&camera=CAM_FRONT")
    write_bag({"camera": Clip(halved(frame) for frame in islice(scene, frames))}, out, BagOptions(quality=95))
    return str(out)


def halved(frame: Frame) -> Frame:
    assert frame.camera is not None
    height, width = frame.image.shape[0] // 2, frame.image.shape[1] // 2
    k = frame.camera.intrinsics * [[0.5], [0.5], [1.0]]
    return replace(frame, image=cv2.resize(frame.image, (width, height)), camera=Camera(k, width, height), labels=None)


class Heard:
    """What the nodes of a demo say while it runs."""

    def __init__(self, graph: Any) -> None:
        peer = graph.peer("listener")
        self.objects = collect(peer, Detection3DArray, "/camera/time3d_tracker/tracks", RESULTS)
        self.fused = collect(peer, Detection3DArray, "/camera/pkf_filter/tracks", RESULTS)
        self._reports = collect(peer, DiagnosticArray, "/diagnostics", DIAGNOSTICS)

    def of(self, node: str) -> list[Any]:
        return [s for message in self._reports for s in message.status if s.name == f"/camera/{node}"]

    def values(self, node: str) -> dict[str, str]:
        """At the end."""
        return {pair.key: pair.value for pair in self.of(node)[-1].values}

    def drops(self, node: str) -> dict[str, int]:
        """By cause, at the end."""
        values = self.values(node).items()
        return {key.removeprefix("drops."): int(n) for key, n in values if key.startswith("drops.")}


@contextmanager
def stopping(process: psutil.Process, stopped: float, running: float) -> Iterator[list[int]]:
    """The slow node among the children of a process, present ones and those to come, gets a share of the time.

    Yields the process id of each stop so far.
    """
    ended, stops = threading.Event(), list[int]()

    def stop() -> None:
        with suppress(psutil.NoSuchProcess):
            while not ended.wait(running):
                for child in [child for child in process.children(recursive=True) if is_slow(child)]:
                    with suppress(psutil.NoSuchProcess):
                        child.suspend()
                        stops.append(child.pid)
                        ended.wait(stopped)
                        child.resume()

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield stops
    finally:
        ended.set()
        thread.join()


def is_slow(process: psutil.Process) -> bool:
    try:
        return any(SLOW in word for word in process.cmdline())
    except psutil.Error:
        return False


@contextmanager
def demo(source: str, out: Path, rate: float) -> Iterator[tuple[psutil.Process, Any, Heard]]:
    """A demo that has begun, the graph that its nodes are in, and what is heard of them; awaits its end."""
    arguments = ["--input", source, "--out", str(out), "--rate", str(rate), "--device", "onnxruntime"]
    command = [sys.executable, "-m", "camtrack.cli", "demo", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with opened_graph() as graph, open(out.with_suffix(".txt"), "w") as said:
        heard = Heard(graph)
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            yield psutil.Process(process.pid), graph, heard
            graph.spin_until(lambda: process.poll() is not None, PATIENCE)
            assert process.returncode == 0, out.with_suffix(".txt").read_text() + (out / "log.txt").read_text()
        finally:
            process.kill()


def stamps(messages: list[Any]) -> set[int]:
    return {to_nanoseconds(message.header.stamp) for message in messages}


def test_at_rate_0_the_tracks_are_the_same_and_nothing_is_dropped(data_root: Path, tmp_path: Path) -> None:
    """Slowed from its start on. One period of the images is longer than the lag that the filter allows for."""
    frames = 6
    source = street(data_root, frames, tmp_path / "street")
    with demo(source, tmp_path / "usual", 0.0):
        pass
    with demo(source, tmp_path / "slow", 0.0) as (process, graph, heard), stopping(process, *SIXFOLD) as stops:
        graph.spin_until(lambda: len(heard.fused) >= frames, PATIENCE)
    assert len(stops) > frames
    usual, slow = (tmp_path / name / "tracks3d.jsonl" for name in ("usual", "slow"))
    assert slow.read_bytes() == usual.read_bytes()
    assert slow.read_text().count("centre") > frames and len(stamps(heard.objects)) == frames
    assert int(heard.values("pkf_filter")["measurements"]) > frames  # GCNet's are one a frame
    # An image may be lost on its way, best effort, and sent again: that is no loss of a result.
    harmless = {"lost in transport", "duplicate stamp"}
    for node in ("replay", "gcnet_tracker", "time3d_tracker", "pkf_filter", "recorder"):
        assert heard.drops(node).keys() <= harmless, node


def test_at_rate_1_what_is_lost_is_told_and_the_tracker_comes_back(data_root: Path, tmp_path: Path) -> None:
    """Its queue holds three images, and each time that it is stopped twice as many come."""
    frames, stopped = 24, QUEUE  # seconds: at two images a second
    source = street(data_root, frames, tmp_path / "street")
    with demo(source, tmp_path / "out", 1.0) as (process, graph, heard):
        graph.spin_until(lambda: heard.objects, PATIENCE)
        with stopping(process, stopped, 0.5) as stops:
            graph.spin_for(2.5 * stopped)
        assert stops
        before = max(stamps(heard.objects))
    answered, fused = stamps(heard.objects), {to_nanoseconds(m.header.stamp): m for m in heard.fused}
    assert len(answered) <= frames - QUEUE
    told = " ".join(status.message for status in heard.of("pkf_filter"))
    assert "% of the stamps of its group 'camera': is it too slow for them?" in told
    dropped = heard.drops("pkf_filter").get("objects too late", 0)
    assert len(answered - fused.keys()) <= dropped, "expected its results to be fused, or counted"
    back = {stamp for stamp in answered if stamp > before}
    assert back and any(fused[stamp].detections for stamp in back & fused.keys())
