"""A camera that misbehaves in time and in what it shows, in front of a detector and pkf_filter as processes.

The detector's network is scripted, so that it is known what must be found; its node is the project's own. Each test
says what is shown and what must hold. What holds for every answer is in `check_answers`, after each test.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from fault_helpers import FRAME, Stage, check_answers, ids, image_stage, process_of, squares
from ros_helpers import SECOND
from sensor_msgs.msg import Image

from camtrack_core.ros.lifecycle.node import TAKEN
from camtrack_core.ros.lifecycle.qos import SENSOR_DATA
from camtrack_core.ros.messages.stamps import to_nanoseconds

CAMERA = "detector"  # the node that hears the camera


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, object]]:
    with image_stage(tmp_path_factory.mktemp("image")) as stage_and_runner:
        yield stage_and_runner


@pytest.fixture
def stage(played: tuple[Stage, object]) -> Iterator[Stage]:
    yield played[0]
    check_answers(played[0])


# --- Time


def test_a_gap_of_a_second_keeps_the_ids(stage: Stage) -> None:
    tracks = stage.scene(40, 200)
    stage.later(0.9)
    assert stage.film(40, 200, frames=1) == tracks


def test_a_gap_of_five_seconds_ends_tracks_and_new_ones_come_within_three_frames(stage: Stage) -> None:
    tracks = stage.scene(40, 200)
    stage.later(5.0)
    found = stage.film(40, 200, frames=3)
    assert len(found) == 2 and not set(found) & set(tracks)


def test_a_camera_that_stops_is_missed_until_it_is_back(stage: Stage) -> None:
    with stage.saying(CAMERA, "no image on /image for"):
        tracks = stage.scene(40)
    stage.until_quiet(CAMERA, "no image", lambda: stage.film(40, frames=1) == tracks)


def test_a_camera_that_stutters_keeps_the_ids(stage: Stage) -> None:
    tracks = stage.scene(40, 200)
    for seconds in random.Random(1).choices([0.01, 0.03, 0.1, 0.3, 0.6], k=20):
        assert stage.film(40, 200, frames=1, step=seconds) == tracks


def test_a_camera_that_doubles_and_quarters_its_rate_keeps_the_ids(stage: Stage) -> None:
    tracks = stage.scene(40)
    places = iter(np.arange(40, 200, 2.5))
    for step in (0.1, 0.05, 0.2):
        for _ in range(6):
            assert stage.film(next(places), frames=1, step=step) == tracks


def test_an_image_that_comes_late_is_dropped(stage: Stage) -> None:
    tracks = stage.scene(40)
    stage.refused(CAMERA, "late stamp", stage.now - FRAME // 2, squares(45))
    assert stage.film(40, frames=2) == tracks


def test_images_out_of_order_cost_the_overtaken_ones(stage: Stage) -> None:
    tracks = stage.scene(40)
    for _ in range(3):
        first, second = stage.later(0.1), stage.later(0.1)
        assert ids(stage.answer(second, squares(40))) == tracks
        stage.refused(CAMERA, "late stamp", first, squares(40))
    assert stage.film(40, frames=1) == tracks


def test_images_that_come_twice_are_answered_once(stage: Stage) -> None:
    tracks = stage.scene(40)
    for _ in range(3):
        assert stage.film(40, frames=1) == tracks
        stage.refused(CAMERA, "duplicate stamp", stage.now, squares(40))


@pytest.mark.parametrize(
    ("stamp", "cause"),
    [(0, "zero stamp"), (4_000_000_000 * (SECOND // 2), "stamp from the future"), (SECOND, "late stamp")],
)
def test_one_wrong_stamp_costs_one_image(stage: Stage, stamp: int, cause: str) -> None:
    """Zero, the year 2033, and 1970: none of them resets anything."""
    tracks = stage.scene(40)
    stage.refused(CAMERA, cause, stamp, squares(40))
    assert stage.film(40, frames=2) == tracks


def test_a_recording_in_a_loop_starts_afresh_each_time_within_five_frames(stage: Stage) -> None:
    """Two frames might be stragglers for the detector, and two of its answers for the filter behind it."""
    before = stage.scene(40)
    begin = stage.now
    for _ in range(2):
        stage.now = begin - 8 * SECOND
        with stage.saying(CAMERA, "went backwards"), stage.saying("pkf_filter", "went backwards"):
            for _ in range(2):
                stage.refused(CAMERA, "late stamp", stage.later(0.1), squares(40))
            for _ in range(2):
                stage.show(stage.later(0.1), squares(40))
                stage.until(lambda n=stage.now: stage.status[CAMERA].get(f"{TAKEN}/image") == str(n), "it to be taken")  # type: ignore[misc]
            stage.forget_answers_since(stage.now)
            after = stage.film(40, frames=5)
        assert len(after) == 1 and after != before
        before = after
        stage.later(8.0)
    stage.now = begin


def test_a_second_camera_on_the_topic_is_an_error_and_resets_nothing(stage: Stage) -> None:
    """It shows its own images, whose stamps are 30 s behind, between those of the first."""
    tracks = stage.scene(40)
    other = stage.peer.create_publisher(Image, "image", SENSOR_DATA)
    try:
        with stage.saying(CAMERA, "expected one publisher on /image, found 2"):
            pass  # by then it hears both
        for _ in range(6):
            assert stage.film(40, frames=1) == tracks
            with stage.dropping(CAMERA, "late stamp", 1):
                other.publish(stage.image(stage.now - 30 * SECOND, squares(200)))
        stage.until(lambda: stage.status[CAMERA]["level"] == "2", "an error")
    finally:
        stage.peer.destroy_publisher(other)


# --- Images


def test_images_that_change_their_size_are_tracked_in_theirs(stage: Stage) -> None:
    stage.scene(40)
    for height, width in ((360, 640), (90, 160), (180, 320)):
        for _ in range(4):
            found = stage.answer(stage.later(0.1), squares(width // 2, height=height, width=width))
        assert len(found.detections) == 1


@pytest.mark.parametrize("encoding", ["rgb8", "mono8", "bgra8", "mono16"])
def test_an_encoding_that_changes_keeps_the_ids(stage: Stage, encoding: str) -> None:
    channels = {"rgb8": 3, "mono8": 1, "bgra8": 4, "mono16": 2}[encoding]
    tracks = stage.scene(40, 200)
    for _ in range(3):
        grey = squares(40, 200)[:, :, :1]
        message = stage.image(stage.later(0.1), squares(40, 200))
        message.encoding, message.step = encoding, channels * grey.shape[1]
        message.data = np.repeat(grey, channels, 2).tobytes()
        assert ids(stage.answer_to(message, squares(40, 200))) == tracks


def test_truncated_and_unknown_images_are_counted_and_the_next_one_is_answered(stage: Stage) -> None:
    tracks = stage.scene(40)
    truncated, empty, unknown = {"data": b"\0" * 100}, {"height": 0, "width": 0, "data": b""}, {"encoding": "64FC7"}
    for change, cause in ((truncated, "wrong size"), (empty, "wrong size"), (unknown, "unknown encoding")):
        message = stage.image(stage.later(0.01), squares(40))
        for name, value in change.items():
            setattr(message, name, value)
        with stage.dropping(CAMERA, cause, 1):
            stage.camera.publish(message)
    assert stage.film(40, frames=1) == tracks


@pytest.mark.parametrize(("level", "sentence"), [(0, "black"), (255, "white")])
def test_black_and_saturated_images_show_nothing_and_are_told(stage: Stage, level: int, sentence: str) -> None:
    tracks = stage.scene(40, 200)
    with stage.saying(CAMERA, f"images are {sentence}"):
        for _ in range(8):
            found = stage.answer(stage.later(0.1), np.full((180, 320, 3), level, np.uint8))
            assert not found.detections
    assert stage.film(40, 200, frames=2) == tracks
    stage.until_quiet(CAMERA, sentence)


def test_frozen_images_are_told(stage: Stage) -> None:
    """The same pixels under new stamps, as of a driver that hangs."""
    stage.scene(40)
    with stage.saying(CAMERA, "images do not change"):
        stage.film(40, frames=30)


def test_scenes_that_empty_and_fill_are_answered_frame_by_frame(stage: Stage) -> None:
    for count in (0, 3, 0, 1, 0):
        stage.later(3.0)
        assert len(stage.film(*(40.0 + 80 * i for i in range(count)), frames=3)) == count


def test_five_hundred_objects_are_all_tracked(stage: Stage) -> None:
    image = np.full((600, 1000, 3), 20, np.uint8)
    for index in range(500):
        top, left = 10 + 28 * (index // 25), 10 + 39 * (index % 25)
        image[top : top + 16, left : left + 20] = 230
    stage.later(10.0)
    found = [set(ids(stage.answer(stage.later(0.1), image))) for _ in range(4)]
    assert len(found[-1]) == 500 and found[-1] == found[-2]
    assert len(stage.scene(40)) == 1


# --- Processes


def test_a_detector_that_stalls_answers_the_newest_image_and_counts_those_it_never_saw(
    played: tuple[Stage, object], stage: Stage
) -> None:
    """Its process is stopped for as long as thirty images take to come, of which its queue holds three."""

    def unseen() -> int:
        return stage.drops(CAMERA, "overwritten unseen") + stage.drops(CAMERA, "lost in transport")

    tracks = stage.scene(40)
    process, before = process_of(played[1], "stand_in_nodes.py"), unseen()  # type: ignore[arg-type]
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        shown = [stage.later(0.01) for _ in range(30)]
        for time_ns in shown:
            stage.show(time_ns, squares(40))
    finally:
        process.send_signal(signal.SIGCONT)
    stage.until(lambda: to_nanoseconds(stage.heard[-1].header.stamp) == shown[-1], "an answer to the newest image")
    answered = {to_nanoseconds(message.header.stamp) for message in stage.heard} & set(shown)
    assert len(answered) < len(shown)
    stage.until(lambda: unseen() == before + len(shown) - len(answered), "all others counted")
    assert stage.film(40, frames=1) == tracks


@pytest.mark.parametrize("name", ["detector", "pkf_filter"])
def test_a_node_that_is_killed_comes_back_and_the_other_stays(
    played: tuple[Stage, object], stage: Stage, name: str
) -> None:
    (other,) = {"detector", "pkf_filter"} - {name}
    part = {"detector": "stand_in_nodes.py", "pkf_filter": "pkf_filter.ros.node"}
    runner = played[1]
    stage.scene(40)
    victim, witness = process_of(runner, part[name]), process_of(runner, part[other])  # type: ignore[arg-type]
    assert victim is not None and witness is not None
    victim.send_signal(signal.SIGKILL)
    stage.until(lambda: not victim.is_running() and process_of(runner, part[name]), f"a new {name}")  # type: ignore[arg-type]
    stage.until_up(name)
    stage.until_answering(40)
    assert len(stage.film(40, frames=3)) == 1
    assert witness.is_running()
