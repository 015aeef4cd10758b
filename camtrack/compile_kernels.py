"""Compiles the numeric kernels, which numba keeps on disk, so that no node or test waits for the compiler later.

    python -m camtrack.compile_kernels

`run` calls it once after installing. Without it everything works as well, but the first frames come a minute later.
"""

from __future__ import annotations

from camtrack_core.datasets.drive import Drive, DriveConfig
from pkf_filter.ros.precompile import warm_up_in_image, warm_up_in_space
from pkf_filter.space.config import ClassGroup, WorldConfig


def main() -> None:
    warm_up_in_image()
    warm_up_in_space()
    warm_up_in_space(WorldConfig(vehicle=ClassGroup(motion="interacting")))
    for _ in Drive(DriveConfig(seed=0, frames=2)):
        pass


if __name__ == "__main__":
    main()
