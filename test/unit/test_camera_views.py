"""The picture of all cameras: whose view is whose can be read before anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from camtrack.demo.cameras import VIEW, mosaic
from camtrack.replay import CameraFrame
from camtrack_core.datasets.frames import Frame


def views_of(grey: int) -> NDArray[np.uint8]:
    image = np.full((VIEW[1], VIEW[0], 3), grey, np.uint8)
    names = ("front_left", "front", "front_right", "back_left", "back", "back_right")
    return mosaic([CameraFrame(name, Frame(1, image)) for name in names], [])


def test_names_of_views_are_the_same_before_sky_and_road() -> None:
    dark, light = views_of(60), views_of(200)
    written = (dark != 60) | (light != 200)
    np.testing.assert_array_equal(dark[written], light[written])
    for top in (0, VIEW[1]):
        for left in (0, VIEW[0], 2 * VIEW[0]):
            label = dark[top : top + 20, left : left + 40]
            assert label.min() == 0 and label.max() == 255
