"""Pictures that show nothing are told from those that do."""

from __future__ import annotations

import numpy as np
import pytest

from camtrack_core.ros.lifecycle.picture_watch import PictureWatch

FRAME = 100_000_000
NOISE = np.random.default_rng(3)


def pictures(level: int, count: int) -> list[np.ndarray]:
    """Of one grey level, with the noise of a sensor where there is room for it."""
    return [np.clip(level + NOISE.integers(-3, 4, (40, 60, 3)), 0, 255).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize(
    ("levels", "complaint"),
    [
        ([100] * 20, None),
        ([2] * 5, "black"),
        ([2] * 4, None),
        ([100, 2] * 10, None),
        ([253] * 6, "white"),
        ([253] * 6 + [100], None),
        ([2] * 6 + [100, 2], None),
    ],
)
def test_black_and_white_pictures_in_a_row_are_told(levels: list[int], complaint: str | None) -> None:
    watch = PictureWatch()
    for index, level in enumerate(levels):
        watch.look(pictures(level, 1)[0], index * FRAME)
    said = watch.complaint()
    assert said is None if complaint is None else f"images are {complaint}" in str(said)


def test_one_picture_again_and_again_is_told_after_a_second() -> None:
    watch, picture = PictureWatch(), pictures(100, 1)[0]
    for index in range(10):
        watch.look(picture.copy(), index * FRAME)
    assert watch.complaint() is None
    watch.look(picture.copy(), 10 * FRAME)
    assert "do not change for 1 s" in str(watch.complaint())
    watch.look(pictures(100, 1)[0], 11 * FRAME)
    assert watch.complaint() is None


def test_a_picture_that_changes_in_one_pixel_between_those_looked_at_is_another_one() -> None:
    watch, picture = PictureWatch(), pictures(100, 1)[0]
    for index in range(30):
        picture[3, 5, 0] = index
        watch.look(picture, index * FRAME)
    assert watch.complaint() is None


def test_a_picture_of_another_size_is_another_one() -> None:
    watch = PictureWatch()
    for index in range(30):
        watch.look(np.full((40 + 8 * (index % 2), 60, 3), 100, np.uint8), index * FRAME)
    assert watch.complaint() is None
