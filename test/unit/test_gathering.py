"""Which measurements are taken together and who is silent: told by stamps, whatever the time that passes."""

from __future__ import annotations

import itertools

import pytest

from pkf_filter.ros.gathering import LONGEST, Gathering

SECOND = 1_000_000_000
PERIOD = SECOND // 2


def pair(timeout: float = 2.0) -> Gathering:
    return Gathering([("image", "objects"), ("lidar",)], dict.fromkeys(("image", "objects", "lidar"), timeout))


def add(gathering: Gathering, sensor: str, frame: int) -> list[list[str]]:
    """What comes out when a sensor's result of a frame comes, each measurement as SENSOR FRAME."""
    return gathering.add(sensor, SECOND + frame * PERIOD, f"{sensor} {frame}")


IMAGES, OBJECTS = ("image 0", "image 1"), ("objects 0", "objects 1")


@pytest.mark.parametrize("places", list(itertools.combinations(range(4), 2)))
def test_a_stamp_comes_out_complete_and_in_the_order_of_the_group_whoever_comes_first(places: tuple[int, int]) -> None:
    images, objects = iter(IMAGES), iter(OBJECTS)
    gathering = pair()
    out = []
    for place in range(4):
        sensor, frame = next(images if place in places else objects).split()
        out += add(gathering, sensor, int(frame))
    assert out == [["image 0", "objects 0"], ["image 1", "objects 1"]]


def test_a_sensor_of_no_group_does_not_wait_and_is_not_waited_for() -> None:
    gathering = pair()
    assert add(gathering, "lidar", 0) == [["lidar 0"]]
    assert add(gathering, "image", 0) == []
    assert add(gathering, "lidar", 1) == [["lidar 1"]]
    assert add(gathering, "objects", 0) == [["image 0", "objects 0"]]


def test_a_stamp_that_a_sensor_leaves_out_comes_out_with_its_next_answer() -> None:
    gathering = pair()
    assert add(gathering, "image", 0) == add(gathering, "image", 1) == []
    assert add(gathering, "objects", 1) == [["image 0"], ["image 1", "objects 1"]]


def test_an_answer_that_cannot_be_used_counts_as_one() -> None:
    gathering = pair()
    assert gathering.add("image", SECOND, None) == []
    assert add(gathering, "objects", 0) == [["objects 0"]]


@pytest.mark.parametrize("ever", [False, True])
def test_a_sensor_is_silent_once_the_stamps_of_others_have_gone_on_for_its_timeout(ever: bool) -> None:
    gathering = pair(timeout=2.0)
    if ever:
        add(gathering, "objects", 0)
    out = [add(gathering, "image", frame) for frame in range(6)]
    held = out[1:5] if ever else out[:5]
    assert not any(held) and out[0] != [["image 0"]]
    assert gathering.is_silent("objects") and not gathering.is_silent("image")
    assert out[5][-1] == ["image 5"] and [x[0] for x in out[5]] == [f"image {k}" for k in range(1 if ever else 0, 6)]
    assert add(gathering, "image", 6) == [["image 6"]]


def test_a_sensor_that_was_silent_is_waited_for_again_from_its_next_answer_on() -> None:
    gathering = pair(timeout=1.0)
    for frame in range(8):
        add(gathering, "image", frame)
    assert gathering.is_silent("objects")
    assert add(gathering, "objects", 2) == [["objects 2"]]  # late: the tracker decides what it is worth
    for frame in (6, 7):
        add(gathering, "objects", frame)
    assert not gathering.is_silent("objects")
    assert add(gathering, "image", 8) == []
    assert add(gathering, "objects", 8) == [["image 8", "objects 8"]]


def test_a_slow_sensor_is_given_three_of_its_own_periods() -> None:
    """Every fourth frame, two seconds apart: longer than its timeout."""
    gathering = pair(timeout=1.0)
    for frame in range(80):
        add(gathering, "image", frame)
        if frame % 4 == 3:
            add(gathering, "objects", frame)
    assert gathering.paces["objects"].period == pytest.approx(2.0, rel=0.05)
    assert gathering.allowance("objects") == pytest.approx(6.0, rel=0.05)
    assert gathering.paces["objects"].answered == pytest.approx(0.25, abs=0.1)
    assert gathering.paces["image"].answered == pytest.approx(1.0)
    held = [add(gathering, "image", 80 + k) for k in range(11)]
    assert not any(held)


def test_the_second_stamp_of_a_slow_recording_may_come_later_than_a_timeout() -> None:
    gathering = pair(timeout=0.3)
    for frame in range(4):
        assert add(gathering, "image", frame) == []
        assert add(gathering, "objects", frame) == [[f"image {frame}", f"objects {frame}"]]
    for frame in range(4, 7):
        assert add(gathering, "image", frame) == []
    assert [len(group) for group in add(gathering, "image", 7)] == [1, 1, 1, 1]


def test_however_slow_a_sensor_was_its_silence_is_bounded() -> None:
    gathering = pair(timeout=1.0)
    for frame in range(0, 4000, 100):
        add(gathering, "image", frame)
        add(gathering, "objects", frame)
    assert gathering.allowance("objects") == LONGEST


def test_a_result_behind_all_others_does_not_turn_the_time_back() -> None:
    gathering = pair()
    add(gathering, "objects", 5)
    add(gathering, "objects", 3)
    assert gathering.paces["objects"].newest_ns == SECOND + 5 * PERIOD
    assert gathering.paces["objects"].lag == pytest.approx(0.2 * 1.0)


def test_after_a_reset_nobody_has_been_heard() -> None:
    gathering = pair()
    add(gathering, "image", 9)
    gathering.reset()
    assert add(gathering, "image", 0) == []
    assert add(gathering, "objects", 0) == [["image 0", "objects 0"]]
