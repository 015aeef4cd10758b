"""Every launch file as a user starts it: images in, tracks with the right values out, figures, and a clean end.

On a host with ROS 2 under `ros2 launch`, elsewhere under our runner.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from launch_helpers import DRIVES, FILES, LAUNCH
from ros_helpers import opened_graph, start_process

LAUNCHER = ["ros2", "launch"] if shutil.which("ros2") else [sys.executable, "-m", "camtrack.launch.runner"]


@contextmanager
def launched(file: str, arguments: dict[str, str]) -> Iterator[None]:
    """A launch file's processes, ended as by Ctrl-C."""
    given = [f"{name}:={value}" for name, value in arguments.items()]
    command = [*LAUNCHER, str(LAUNCH / file), "device:=onnxruntime", *given]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "Traceback" not in output, output


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_images_become_tracks(file: str) -> None:
    arguments, drive = DRIVES[file]
    with launched(file, arguments), opened_graph() as graph:
        drive(graph)


@pytest.mark.parametrize("file", FILES)
def test_a_wrong_model_ends_the_launch_with_a_sentence(file: str) -> None:
    node = "time3d_tracker" if file.startswith("time3d") else "gcnet_tracker"
    model = "model" if file.startswith(("tracking", "time3d")) else "model_2d"
    command = [str(LAUNCH / file), f"{model}:=nowhere.onnx", *(["cameras:=front"] if "cameras" in file else [])]
    process = start_process(f"import sys; from camtrack.launch.runner import main; sys.exit(main({command}))")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    # The others may be told to end while Python itself starts, which has its own way to say so.
    said = [line for line in output.splitlines() if line.startswith(f"[{node}]")]
    assert any("nowhere.onnx: expected a model file, found none" in line for line in said)
    assert not any("Traceback" in line for line in said)
