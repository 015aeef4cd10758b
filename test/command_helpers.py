"""What tests of commands share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]


def camtrack(*arguments: str, timeout: float = 450) -> subprocess.CompletedProcess[str]:
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
