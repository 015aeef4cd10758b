"""What asks a command to end is answered cleanly: a shell's exit code, nothing half written, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from command_helpers import ROOT, a_video

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


def heed_interrupts() -> None:
    """Whoever runs the tests in the background may have made them deaf to Ctrl-C, and their processes with them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(*arguments: str, preexec_fn: Callable[[], None] = heed_interrupts) -> subprocess.Popen[str]:
    """A tracking run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-m", "camtrack.cli", "track", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        preexec_fn=preexec_fn,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_run_that_is_stopped_leaves_nothing_half_written(tmp_path: Path, number: int, code: int) -> None:
    source = a_video(tmp_path / "clip.mp4", frames=300)
    out = tmp_path / "out"
    run = start(source, "--method", "gcnet", "--device", "onnxruntime", "--out", str(out))
    wait_for(out / "run.json", run)
    run.send_signal(number)
    output, _ = run.communicate()
    assert run.returncode == code, output
    assert "Traceback" not in output
    assert {path.name for path in out.iterdir()} <= {"run.json", "clip.source"}
    again = start(source, "--method", "gcnet", "--device", "onnxruntime", "--out", str(out))  # nothing is in its way
    wait_for(out / "clip.source", again)
    again.kill()
    again.communicate()


def test_the_processes_of_a_run_end_with_it(tmp_path: Path) -> None:
    sources = [a_video(tmp_path / f"clip{k}.mp4", frames=300) for k in (1, 2)]
    out = tmp_path / "out"
    run = start(*sources, "--method", "gcnet", "--device", "onnxruntime", "--out", str(out), "--jobs", "2")
    wait_for(out / "clip1.source", run)
    children = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate()
    assert run.returncode == 143 and "Traceback" not in output, output
    gone, alive = psutil.wait_procs(children, timeout=300)
    assert not alive and len(gone) >= 2


def test_a_run_that_ignores_hang_ups_goes_on(tmp_path: Path) -> None:
    """As nohup has it."""
    source = a_video(tmp_path / "clip.mp4", frames=12)
    out = tmp_path / "out"
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    run = start(source, "--method", "gcnet", "--device", "onnxruntime", "--out", str(out), preexec_fn=ignore)
    wait_for(out / "run.json", run)
    run.send_signal(signal.SIGHUP)
    output, _ = run.communicate()
    assert run.returncode == 0 and (out / "clip.txt").is_file(), output
