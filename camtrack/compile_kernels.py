"""Compiles the numeric kernels, which numba keeps on disk, so that no node or test waits for the compiler later.

    python -m camtrack.compile_kernels

`run` calls it once after installing. Without it everything works as well, but the first frames come a minute later.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context

from camtrack_core.datasets.drive import Drive, DriveConfig
from pkf_filter.ros.precompile import (
    warm_up_association,
    warm_up_in_image,
    warm_up_in_space,
    warm_up_meeting,
    warm_up_other_programmes,
)
from pkf_filter.space.config import ClassGroup, WorldConfig


def draw_drive() -> None:
    for _ in Drive(DriveConfig(seed=0, frames=2)):
        pass


def warm_up_both_motions_in_space() -> None:
    warm_up_in_space()
    warm_up_in_space(WorldConfig(vehicle=ClassGroup(motion="constant velocity")))


def main() -> None:
    """Processes side by side, as the compiler uses one core; first the association, which both trackers take."""
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        programmes = [pool.submit(warm_up_other_programmes), pool.submit(warm_up_meeting)]
        drive = pool.submit(draw_drive)
        wait(programmes)
        association = pool.submit(warm_up_association)
        wait([association])
        trackers = pool.submit(warm_up_both_motions_in_space), pool.submit(warm_up_in_image)
        for each in (*programmes, drive, association, *trackers):
            each.result()


if __name__ == "__main__":
    main()
