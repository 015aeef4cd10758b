"""What tests of commands share."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np

from camtrack.cli import main

ROOT = Path(__file__).parents[1]


def camtrack(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in this process: what it prints and its exit code."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.dict(os.environ, COLUMNS="200"),
        patch("sys.argv", ["camtrack", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def camtrack_process(*arguments: str, timeout: float = 450) -> subprocess.CompletedProcess[str]:
    """A command as a process, as of a person who types it."""
    return subprocess.run(
        [sys.executable, "-m", "camtrack.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )


def a_video(path: Path, frames: int = 12) -> str:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 192))
    for index in range(frames):
        image = np.full((192, 320, 3), 120, np.uint8)
        cv2.rectangle(image, (20 + 8 * index, 80), (100 + 8 * index, 130), (40, 40, 200), -1)
        writer.write(image)
    writer.release()
    return str(path)
