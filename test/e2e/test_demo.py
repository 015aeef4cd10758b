"""The demo's care for its processes, its folder and its window; test_cli.py runs it from end to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from command_helpers import ROOT, a_video, camtrack
from rich.console import Console

from camtrack.demo import run
from camtrack.demo.run import Demo, end_processes, launch_folder, run_demo
from camtrack.demo.window import to_ppm
from camtrack_core.errors import DataError
from gcnet_tracker.tracker import DEMO_MODEL

DEAF = (
    "import signal, subprocess, sys, time\n"
    "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
    "node = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
    "print(subprocess.Popen(node, start_new_session=True).pid, flush=True)\n"
    "time.sleep(60)"
)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def until(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "expected a condition to come true, it never did"
        time.sleep(0.02)


def test_what_a_deaf_launcher_has_started_ends_with_it() -> None:
    command = [sys.executable, "-c", DEAF]
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert launcher.stdout is not None
    node = int(launcher.stdout.readline())
    end_processes(launcher, patience=0.3)
    assert launcher.returncode == -signal.SIGKILL
    until(lambda: not is_alive(node))


@pytest.mark.skipif(not DEMO_MODEL.exists(), reason="the demo weights are not here")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 2), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_signal_ends_the_demo_and_its_processes(tmp_path: Path, number: int, code: int) -> None:
    source, out = a_video(tmp_path / "it's #1: clip.mp4"), tmp_path / "out"
    out.mkdir()
    (out / "tracks.jsonl").write_text('{"time_ns": 1, "frame": 1, "tracks": []}\n')  # of an earlier demo
    command = [sys.executable, "-m", "camtrack.cli", "demo", "--input", source, "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    demo = subprocess.Popen(command, text=True, env=environment, **pipes)  # type: ignore[call-overload]
    until(lambda: len(psutil.Process(demo.pid).children(recursive=True)) > 2)  # the launcher and its nodes
    started = [process.pid for process in psutil.Process(demo.pid).children(recursive=True)]
    demo.send_signal(number)
    output, _ = demo.communicate(timeout=300)
    assert demo.returncode == code, output
    assert ("expected the tracks of at least one frame" in output) == (number == signal.SIGINT)
    assert "Traceback" not in output
    until(lambda: not any(map(is_alive, started)))


def test_a_signal_that_meets_an_import_ends_the_demo_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import of a compiled module makes an error of its own of it."""

    @contextmanager
    def interrupted(name: str) -> Iterator[None]:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as interrupt:
            raise ImportError("initialization failed") from interrupt
        yield

    monkeypatch.setattr(run, "listening", interrupted)
    source, model = a_video(tmp_path / "clip.mp4"), tmp_path / "none.onnx"
    demo = Demo(source, tmp_path / "out", 7, 1.0, 1.0, model, None, "auto", 0, "auto", False, False)
    with pytest.raises(DataError, match="expected the tracks of at least one frame"):
        run_demo(demo, Console())


def test_what_is_in_the_output_folder_stays(tmp_path: Path) -> None:
    """A broken recording ends the demo early: by then its own folder is made, and nobody else's is touched."""
    out = tmp_path / "out"
    (out / "drive").mkdir(parents=True)
    for name in ("drive/mine", "log.txt", "tracks.mp4", "tracks.txt", "tracks.jsonl", "tracks3d.jsonl", "judged.json"):
        (out / name).write_text("mine")
    (tmp_path / "broken.mp4").write_text("no video")
    for _ in range(2):
        demo = Demo(str(tmp_path / "broken.mp4"), out, 7, 1.0, 1.0, None, None, "auto", 0, "auto", False, False)
        with pytest.raises(DataError, match="not a readable video"):
            run_demo(demo, Console())
    assert all(path.read_text() == "mine" for path in out.rglob("*") if path.is_file())
    assert len(list(out.rglob("*"))) == 8 and (tmp_path / "out-2").is_dir()


def test_without_a_display_a_window_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    done = camtrack("demo", "--view", "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and "--view: expected" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_a_window_is_given_is_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert (cv2.imdecode(np.frombuffer(to_ppm(image), np.uint8), cv2.IMREAD_COLOR) == image).all()


def test_launch_files_are_found_in_an_installation_and_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    assert launch_folder() == ROOT / "launch"
    installed = tmp_path / "share" / "camtrack" / "launch"
    installed.mkdir(parents=True)
    assert launch_folder() == installed
