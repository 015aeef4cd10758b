"""Whether an id outlasts a crossing, on scenes made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from camtrack_core.evaluation.crossings import Crossings

LEFT, RIGHT = 7, 9  # the two objects
PATH = (0.0, 30.0, 60.0, 90.0, 120.0)  # left edge of the one that passes; the other one stands at 60


def box(x: float, height: float = 40.0) -> list[float]:
    return [x, 0.0, x + 40.0, height]


def crossed(found: list[dict[int, float]], path: tuple[float, ...] = PATH, height: float = 40.0) -> list[bool]:
    """What is kept while one object goes along `path` past the other; `found` has places by id for each frame."""
    crossings = Crossings()
    for x, seen in zip(path, found, strict=True):
        truth = np.array([box(x, height), box(60.0, height)])
        xyxy = np.array([box(place, height) for place in seen.values()]).reshape(-1, 4)
        crossings.add(np.array([LEFT, RIGHT]), truth, np.array(list(seen), np.int64), xyxy)
    return crossings.kept()


def both(first: int, second: int) -> list[dict[int, float]]:
    return [{first: x, second: 60.0} for x in PATH]


def test_who_keeps_both_ids_keeps_both() -> None:
    assert crossed(both(1, 2)) == [True, True]


def test_who_swaps_them_keeps_none() -> None:
    assert crossed([*both(1, 2)[:3], *both(2, 1)[3:]]) == [False, False]


def test_what_happens_while_they_cover_each_other_is_not_asked() -> None:
    frames = both(1, 2)
    frames[2] = {5: 60.0}
    assert crossed(frames) == [True, True]


def test_a_new_id_afterwards_is_one_loss() -> None:
    assert crossed([{1: x, 2 if x < 60 else 3: 60.0} for x in PATH]) == [True, False]


def test_who_is_not_found_on_one_side_is_not_asked() -> None:
    assert crossed([{1: x, **({2: 60.0} if x < 60 else {})} for x in PATH]) == [True]


def test_a_box_that_overlaps_by_less_than_half_does_not_find() -> None:
    assert crossed([{1: x + 25.0, 2: 60.0} for x in PATH]) == [True]


@pytest.mark.parametrize("path", [(0.0, 5.0, 10.0, 15.0, 19.0), (0.0, 30.0, 60.0, 60.0, 58.0)])
def test_those_that_do_not_meet_or_do_not_part_are_not_asked(path: tuple[float, ...]) -> None:
    assert crossed([{1: x, 2: 60.0} for x in path], path) == []


def test_the_low_ones_are_not_asked() -> None:
    assert crossed(both(1, 2), height=18.0) == []
    assert crossed(both(1, 2), height=19.0) == [True, True]
