"""Compiles the numeric kernels, which numba keeps on disk, so that no node or test waits for the compiler later.

    python -m camtrack.compile_kernels

`run` calls it once after installing. Without it everything works as well, but the first frames come a minute later.
"""

from __future__ import annotations

import numpy as np

from camtrack_core.boxes import Boxes2D
from camtrack_core.datasets.drive import Drive, DriveConfig
from pkf_filter import Tracker
from pkf_filter.fusion_node import warm_up

FRAME = 100_000_000  # nanoseconds


def main() -> None:
    tracker = Tracker()
    boxes = np.array([[10.0, 10, 60, 40], [30, 15, 80, 45], [300, 100, 340, 180]])
    for index in range(4):
        tracker.step(index * FRAME, Boxes2D(boxes + index, np.full(3, 0.9), np.zeros(3, np.int64)))
    warm_up()
    for _ in Drive(DriveConfig(seed=0, frames=2)):
        pass


if __name__ == "__main__":
    main()
