"""Frames a second of generated drives at 640x360; shading uses all cores: python benchmarks/drive.py"""

from __future__ import annotations

import time

import numpy as np

from camtrack_core.datasets.drive import Drive, DriveConfig
from camtrack_core.geometry.boxes import Floats

FRAMES = range(0, 300, 10)


def main() -> None:
    rates = []
    for seed in range(5):
        began = time.perf_counter()
        drive = Drive(DriveConfig(seed=seed, frames=300))
        drive.frame(0)  # compiles where nothing is cached
        ready = time.perf_counter() - began
        wall, busy = time.perf_counter(), time.process_time()
        for index in FRAMES:
            drive.frame(index)
        # where other programs share the core, its own time tells more than the clock
        rate = len(FRAMES) / np.array([time.perf_counter() - wall, time.process_time() - busy])
        rates.append(rate)
        print(f"{drive.name}  {drive.kind:8}  ready in {ready:5.2f} s  {_told(rate)}", flush=True)
    print(f"mean  {_told(np.mean(rates, axis=0))}")


def _told(rate: Floats) -> str:
    return f"{rate[0]:5.1f} frames/s, {rate[1]:5.1f} frames/s of processor time"


if __name__ == "__main__":
    main()
