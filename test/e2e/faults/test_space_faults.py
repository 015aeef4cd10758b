"""Calibration, transforms and simulated time that misbehave, in front of time3d_tracker and pkf_filter as processes.

Time3D's network is scripted and sees one car; its node is the project's own. Time is simulated: this test is the clock.
"""

from __future__ import annotations

import math
import signal
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import pytest
from fault_helpers import (
    FRAME,
    HEIGHT,
    PATIENCE,
    WIDTH,
    SpaceStage,
    check_space_answers,
    ids,
    places,
    process_of,
    space_stage,
    squares,
)
from ros_helpers import SECOND

TRACKER, FILTER = "time3d_tracker", "pkf_filter"
Runner = subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SpaceStage, Runner]]:
    with space_stage(tmp_path_factory.mktemp("space")) as stage_and_runner:
        yield stage_and_runner


@pytest.fixture
def stage(opened: tuple[SpaceStage, Runner]) -> Iterator[SpaceStage]:
    yield opened[0]
    check_space_answers(opened[0])


def scene(stage: SpaceStage) -> list[str]:
    """A new scene with a track of the car, so much later that nothing is left of the one before."""
    stage.later(10.0)
    found = drive(stage, 6)
    assert len(found) == 1
    return found


def drive(stage: SpaceStage, frames: int) -> list[str]:
    """Ids in the last answer of some frames."""
    for _ in range(frames):
        found = stage.answer(stage.later(0.1), squares(40))
    return ids(found)


def costing(stage: SpaceStage, cause: str, count: int) -> None:
    """Images alone, whose calibration and places are what the test has sent last, until so many more are dropped."""
    enough, deadline = stage.drops(TRACKER, cause) + count, time.monotonic() + PATIENCE
    while stage.drops(TRACKER, cause) < enough:
        assert time.monotonic() < deadline, f"expected {count} of {cause}, got {stage.status}"
        stage.show(stage.later(0.01), squares(40))
        stage.graph.spin_for(0.3)


# --- Calibration


@pytest.mark.parametrize(
    ("change", "cause", "sentence"),
    [
        ({"k": [0.0] * 9}, "no camera_info", "K of camera_info"),
        ({"k": [math.nan] * 9}, "no camera_info", "K of camera_info"),
        ({"d": [0.3, 0.1, 0.0, 0.0]}, "no camera_info", "expected rectified images"),
        ({"width": WIDTH // 2, "height": HEIGHT // 2}, "camera_info of another size", ""),
    ],
)
def test_wrong_calibration_costs_images_until_it_is_right(
    stage: SpaceStage, change: dict, cause: str, sentence: str
) -> None:
    tracks = scene(stage)
    with stage.saying(TRACKER, sentence):
        stage.calibrate(**change)
        stage.graph.spin_for(0.3)
        costing(stage, cause, 3)
    assert drive(stage, 2) == tracks


def test_calibration_that_changes_is_used_from_then_on(stage: SpaceStage) -> None:
    scene(stage)
    before = stage.K
    try:
        stage.K = tuple(2 * value if value == 500.0 else value for value in before)
        assert len(drive(stage, 3)) == 1
    finally:
        stage.K = before


def test_calibration_that_never_comes_costs_all_images_until_it_is_there(
    opened: tuple[SpaceStage, Runner], stage: SpaceStage
) -> None:
    """A tracker that was killed: the one in its place has heard of no calibration, and that is all that it lacks."""
    scene(stage)
    victim = process_of(opened[1], "time3d")
    assert victim is not None
    victim.send_signal(signal.SIGKILL)
    stage.until(lambda: not victim.is_running() and process_of(opened[1], "time3d"), "a new tracker")
    stage.until_up(TRACKER)
    costing(stage, "no camera_info", 3)
    assert stage.drops(TRACKER, "no transform") == 0
    stage.until_answering(40)
    assert len(drive(stage, 4)) == 1


# --- Transforms


def test_without_transforms_images_are_dropped_and_ids_survive(stage: SpaceStage) -> None:
    tracks = scene(stage)
    costing(stage, "no transform", 3)
    assert drive(stage, 2) == tracks


def test_an_image_whose_transform_comes_late_is_answered(stage: SpaceStage) -> None:
    tracks = scene(stage)
    for _ in range(3):
        before, time_ns = len(stage.heard), stage.later(0.1)
        stage.show(time_ns, squares(40))
        stage.graph.spin_for(0.05)
        stage.locate(time_ns)
        stage.until(lambda n=before: len(stage.heard) > n, "an answer")  # type: ignore[misc]
        assert ids(stage.heard[-1]) == tracks


def test_broken_transforms_are_counted_and_the_others_used(stage: SpaceStage) -> None:
    tracks = scene(stage)
    with stage.dropping(FILTER, "broken transform", 1):
        stage.locate(stage.now + FRAME // 2, math.nan)
        stage.graph.spin_for(0.2)
    assert drive(stage, 2) == tracks


def test_a_place_that_jumps_is_told_and_tracked_afresh_within_three_seconds(stage: SpaceStage) -> None:
    tracks = scene(stage)
    with stage.saying(FILTER, "jumps by 40.0 m"):
        stage.place += 40.0
        found = drive(stage, 30)
    assert len(found) == 1 and found != tracks
    assert places(stage.heard[-1])[0, 0] == pytest.approx(stage.place + 20.0, abs=1.0)


def test_two_publishers_of_one_place_are_told(stage: SpaceStage) -> None:
    """The other one, between the images, believes the vehicle 30 m behind."""
    scene(stage)
    with stage.saying(FILTER, "do two publishers send it?"):
        for _ in range(8):
            stage.locate(stage.now + FRAME // 2, stage.place - 30.0)
            drive(stage, 1)
    assert np.isfinite(places(stage.heard[-1])).all()


# --- Simulated time


def test_simulated_time_that_pauses_keeps_the_ids(stage: SpaceStage) -> None:
    tracks = scene(stage)
    stage.graph.spin_for(2.5)  # longer than tracks live unseen, by the machine's clock
    assert drive(stage, 2) == tracks


def test_simulated_time_that_goes_back_starts_afresh_at_the_first_image(stage: SpaceStage) -> None:
    tracks = scene(stage)
    with stage.saying(FILTER, "/clock went backwards"):
        stage.now -= 5 * SECOND + FRAME // 3
        stage.tick()
        stage.graph.spin_for(0.3)
    stage.until_answering(40)  # the tracker in front of the filter does not hear the clock: two might be stragglers
    found = drive(stage, 4)
    assert len(found) == 1 and found != tracks
    stage.later(10.0)
