"""Frames a second of generated drives at 640x360 on one core: python benchmarks/drive.py"""

from __future__ import annotations

import time

from camtrack_core.datasets.drive import Drive, DriveConfig

FRAMES = 40


def main() -> None:
    total = 0.0
    for seed in range(5):
        began = time.perf_counter()
        drive = Drive(DriveConfig(seed=seed, frames=300))
        drive.frame(0)  # compiles where nothing is cached
        ready = time.perf_counter()
        for index in range(0, 300, 300 // FRAMES):
            drive.frame(index)
        seconds = (time.perf_counter() - ready) / len(range(0, 300, 300 // FRAMES))
        total += seconds
        print(
            f"{drive.name}  {drive.kind:8}  ready in {ready - began:5.2f} s  {1 / seconds:5.1f} frames/s",
            flush=True,
        )
    print(f"mean {5 / total:.1f} frames/s")


if __name__ == "__main__":
    main()
