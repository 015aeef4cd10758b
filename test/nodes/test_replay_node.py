"""Replay: stamps and pixels, pace, who is waited for, the end."""

from __future__ import annotations

import json
import threading
import time
from itertools import count, islice

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from ros_helpers import collect, opened_graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Bool, Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray

from camtrack.nodes import replay as replay_node
from camtrack.nodes import reports
from camtrack.nodes.replay import ReplayNode
from camtrack.replay import Pacer, chosen_cameras, excerpt, read_ahead, rounds, together
from camtrack_core.datasets.drive import RIG
from camtrack_core.datasets.frames import Frame
from camtrack_core.errors import DataError
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.ros.lifecycle import qos
from camtrack_core.ros.messages.image import compressed_to_bgr, to_bgr
from camtrack_core.ros.messages.stamps import to_nanoseconds

SECOND = 1_000_000_000
STAMPS = [SECOND + i * SECOND // 50 for i in range(6)]


class Clip:
    """Six frames of one grey each, 50 a second; some break off."""

    name, class_names = "clip", ()

    def __init__(self, breaks_at=None, shift=0, without=None, **known):
        self.breaks_at, self.shift, self.without, self.known = breaks_at, shift, without, known

    def __len__(self):
        return len(STAMPS)

    def __iter__(self):
        for index, time_ns in enumerate(STAMPS):
            if index == self.breaks_at:
                raise DataError("clip breaks off after 3 frames")
            if index != self.without:
                yield Frame(time_ns + self.shift, np.full((32, 48, 3), 40 * index, np.uint8), **self.known)


# --- Timing


def test_pacer_spreads_frames_by_their_stamps_and_the_rate():
    now = 100.0
    pacer = Pacer(rate=2.0, clock=lambda: now)
    assert pacer.delay(7 * SECOND) == 0.0
    assert pacer.delay(8 * SECOND) == 0.5
    now = 100.4
    assert pacer.delay(8 * SECOND) == pytest.approx(0.1)
    now = 100.55  # a little late: caught up
    assert pacer.delay(8 * SECOND) == 0.0 and pacer.behind == 0.0


def test_pacer_moves_the_schedule_of_a_slow_source_instead_of_rushing():
    now = 0.0
    pacer = Pacer(rate=1.0, clock=lambda: now)
    pacer.delay(1 * SECOND)
    now = 5.0
    assert pacer.delay(2 * SECOND) == 0.0 and pacer.behind == 4.0
    assert pacer.delay(3 * SECOND) == pytest.approx(1.0)


def test_a_stamp_that_is_no_later_than_the_first_begins_a_new_schedule():
    now = 0.0
    pacer = Pacer(rate=1.0, clock=lambda: now)
    assert (pacer.delay(5 * SECOND), pacer.delay(7 * SECOND)) == (0.0, 2.0)
    now = 2.0
    assert (pacer.delay(5 * SECOND), pacer.delay(6 * SECOND), pacer.behind) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize(("start", "duration", "expected"), [(0, 1e9, STAMPS), (0.04, 0.04, STAMPS[2:4]), (1, 1, [])])
def test_excerpt(start, duration, expected):
    assert [taken.time_ns for taken in excerpt(together({"": Clip()}), start, duration)] == expected


def test_cameras_play_together_in_the_order_of_their_stamps():
    """The rear camera is triggered 5 ms later, and misses an image."""
    rear = Clip(shift=5_000_000, without=2)
    played = list(together({"front": Clip(), "rear": rear}))
    assert [taken.time_ns for taken in played] == sorted(taken.time_ns for taken in played)
    groups = [[taken.camera for taken in group] for group in rounds(played)]
    assert groups == [["front", "rear"]] * 2 + [["front"]] + [["front", "rear"]] * 3


def test_cameras_are_chosen_by_name():
    drive = "drive:1?cameras=6&frames=2&width=64&height=64"
    assert list(chosen_cameras(drive, ["back", "front"])) == ["back", "front"]
    assert list(chosen_cameras(drive, ["all"])) == list(RIG)
    with pytest.raises(DataError, match=r"expected the names of cameras, front, front_left, .*, got cam_front"):
        chosen_cameras(drive, ["front", "cam_front"])


def test_read_ahead_keeps_order_and_stays_within_its_bound():
    made = []

    def items():
        for index in count():
            made.append(index)
            yield index

    reader = read_ahead(items(), capacity=4)
    assert list(islice(reader, 10)) == list(range(10))
    time.sleep(0.2)
    assert len(made) <= 10 + 4 + 1
    reader.close()
    assert "read_ahead" not in [thread.name for thread in threading.enumerate()]


def test_read_ahead_raises_in_its_place():
    reader = read_ahead(iter(Clip(breaks_at=3)), capacity=2)
    assert [frame.time_ns for frame in islice(reader, 3)] == STAMPS[:3]
    with pytest.raises(DataError, match="breaks off"):
        next(reader)


# --- The node


@pytest.fixture
def graph():
    with opened_graph() as graph:
        yield graph


@pytest.fixture
def play(graph, monkeypatch):
    """Starts a replay of a clip once a peer listens to it."""

    def start(clip=None, **parameters):
        monkeypatch.setattr(replay_node, "open_source", lambda spec: clip or Clip())
        return graph.start(ReplayNode, source="clip", **parameters)

    return start


def stamps(messages):
    return [to_nanoseconds(message.header.stamp) for message in messages]


def test_images_and_calibration_have_the_recordings_stamps(graph, play):
    peer = graph.peer()
    images = collect(peer, Image, "image", qos.SENSOR_DATA)
    infos = collect(peer, CameraInfo, "camera_info", qos.SENSOR_DATA)
    finished = collect(peer, Bool, "replay/finished", qos.LATCHED)
    node = play(frame_id="front")
    graph.spin_until(lambda: node.exit_code is not None and finished)
    assert stamps(images) == STAMPS and stamps(infos) == STAMPS
    assert [int(to_bgr(image)[0, 0, 0]) for image in images] == [0, 40, 80, 120, 160, 200]
    assert {message.header.frame_id for message in images + infos} == {"front"}
    assert (infos[0].width, infos[0].height, infos[0].k[0]) == (48, 32, 0.0), "expected no calibration"
    assert finished[0].data and node.exit_code == 0


def test_compressed(graph, play):
    images = collect(graph.peer(), CompressedImage, "image/compressed", qos.SENSOR_DATA)
    node = play(compressed=True)
    graph.spin_until(lambda: node.exit_code == 0)
    assert stamps(images) == STAMPS
    assert abs(compressed_to_bgr(images[2]).astype(int) - 80).max() < 3


def test_poses_clock_and_calibration_on_request(graph, play):
    camera = Camera.from_field_of_view(48, 32, 90)
    ego = Pose(np.eye(3), np.array([10.0, 5, 0]))
    mount = Pose(OPTICAL_IN_VEHICLE, np.array([1.5, 0, 1.6]))
    peer = graph.peer()
    collect(peer, Image, "image", qos.SENSOR_DATA)
    infos = collect(peer, CameraInfo, "camera_info", qos.SENSOR_DATA)
    clocks = collect(peer, Clock, "/clock", qos.CLOCK)
    transforms = collect(peer, TFMessage, "/tf", qos.TRANSFORMS)
    clip = Clip(camera=camera, ego_pose=ego, camera_pose=ego @ mount)
    node = play(clip, publish_tf=True, publish_clock=True)
    graph.spin_until(lambda: node.exit_code == 0)
    assert [to_nanoseconds(clock.clock) for clock in clocks][-1] == STAMPS[-1]
    assert np.allclose(np.reshape(infos[0].k, (3, 3)), camera.intrinsics)
    vehicle, optical = transforms[-1].transforms
    assert (vehicle.header.frame_id, vehicle.child_frame_id) == ("map", "base_link")
    assert (optical.header.frame_id, optical.child_frame_id) == ("base_link", "camera")
    shift = optical.transform.translation
    assert np.allclose([shift.x, shift.y, shift.z], [1.5, 0, 1.6])
    assert to_nanoseconds(optical.header.stamp) == STAMPS[-1]


def test_a_calibrated_recording_of_ones_own_is_played_with_its_camera_and_pose(graph, tmp_path):
    """From its files, as docs/data.md lays them out."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((32, 48, 3), 70, np.uint8))
    said = {
        "cameras": {"front": {"width": 48, "height": 32, "fx": 40.0, "fy": 41.0, "cx": 24.0, "cy": 16.0,
                              "over_ground": 1.5}},
        "images": [
            {"camera": "front", "file": "a.png", "time_ns": stamp,
             "pose": {"translation": [index, 2, 1.5], "rotation": [0.5, -0.5, 0.5, -0.5]}}
            for index, stamp in enumerate(STAMPS)
        ],
    }  # fmt: skip
    (tmp_path / "recording.json").write_text(json.dumps(said))
    peer = graph.peer()
    images = collect(peer, Image, "image", qos.SENSOR_DATA)
    infos = collect(peer, CameraInfo, "camera_info", qos.SENSOR_DATA)
    transforms = collect(peer, TFMessage, "/tf", qos.TRANSFORMS)
    node = graph.start(ReplayNode, source=str(tmp_path), publish_tf=True, rate=0.5)
    graph.spin_until(lambda: node.exit_code == 0 and len(images) == len(STAMPS))
    assert stamps(images) == STAMPS and (to_bgr(images[0]) == 70).all()
    assert infos[0].k.tolist() == [40, 0, 24, 0, 41, 16, 0, 0, 1]
    vehicle, optical = transforms[-1].transforms
    places = [each.transform.translation for each in (vehicle, optical)]
    assert [places[0].x + places[1].x, places[0].z + places[1].z] == pytest.approx([len(STAMPS) - 1, 1.5])
    assert places[0].z == pytest.approx(0.0), "expected the vehicle's frame on the ground"


def test_cameras_have_topics_and_frames_of_their_own_and_one_vehicle(graph, monkeypatch):
    ego = Pose(np.eye(3), np.array([10.0, 5, 0]))
    mounts = {"front": Pose(OPTICAL_IN_VEHICLE, np.array([1.5, 0, 1.6])), "rear": Pose(np.eye(3), np.zeros(3))}
    clips = {name: Clip(ego_pose=ego, camera_pose=ego @ mount) for name, mount in mounts.items()}
    monkeypatch.setattr(replay_node, "chosen_cameras", lambda spec, names: {name: clips[name] for name in names})
    peer = graph.peer()
    images = {name: collect(peer, Image, f"{name}/image", qos.SENSOR_DATA) for name in clips}
    transforms = collect(peer, TFMessage, "/tf", qos.TRANSFORMS)
    results = peer.create_publisher(Detection2DArray, "results", qos.RESULTS)
    node = graph.start(ReplayNode, source="clip", cameras="front rear", rate=0.0, publish_tf=True)
    for number in range(1, len(STAMPS) + 1):
        graph.spin_until(lambda n=number: all(len(messages) == n for messages in images.values()))
        graph.spin_for(0.1)
        assert len(images["front"]) == number, "expected no image before the result of the round"
        results.publish(Detection2DArray(header=images["rear"][-1].header))
    graph.spin_until(lambda: node.exit_code == 0)
    assert all(stamps(messages) == STAMPS for messages in images.values()) and not node.monitor.drops
    assert {m.header.frame_id for m in images["rear"]} == {"rear"}
    children = [(to_nanoseconds(t.header.stamp), t.child_frame_id) for m in transforms for t in m.transforms]
    assert children == [(stamp, child) for stamp in STAMPS for child in ("base_link", "front", "rear")]


def test_a_loop_starts_again_with_the_same_stamps(graph, play):
    images = collect(graph.peer(), Image, "image", qos.SENSOR_DATA)
    node = play(loop=True, rate=5.0)
    graph.spin_until(lambda: len(images) > 7)
    assert stamps(images)[:8] == STAMPS + STAMPS[:2] and node.exit_code is None


def test_one_thread_makes_all_rounds_of_a_loop(graph, play, monkeypatch):
    """What a thread has held stays in an arena of malloc's, and another thread takes another one."""
    makers, images = [], collect(graph.peer(), Image, "image", qos.SENSOR_DATA)
    shoot = ReplayNode._shoot
    monkeypatch.setattr(ReplayNode, "_shoot", lambda *taken: makers.append(threading.current_thread()) or shoot(*taken))
    play(loop=True, rate=5.0)
    graph.spin_until(lambda: len(images) > 3 * len(STAMPS))
    assert len(makers) > 3 * len(STAMPS) and len(set(makers)) == 1


def test_a_loop_ends_where_nothing_is_left_to_play(graph, play, monkeypatch):
    clips = iter([Clip(), Clip()])
    monkeypatch.setattr(replay_node, "together", lambda _: together({"": next(clips, ())}))
    images = collect(graph.peer(), Image, "image", qos.SENSOR_DATA)
    node = play(loop=True)
    graph.spin_until(lambda: node.exit_code is not None and len(images) == 2 * len(STAMPS))
    assert node.exit_code == 1 and stamps(images) == 2 * STAMPS


def test_with_rate_0_every_frame_waits_for_its_result(graph, play):
    peer = graph.peer()
    images = collect(peer, Image, "image", qos.SENSOR_DATA)
    results = peer.create_publisher(Detection2DArray, "results", qos.RESULTS)
    node = play(rate=0.0)
    for number in range(1, len(STAMPS) + 1):
        graph.spin_until(lambda expected=number: len(images) == expected)
        graph.spin_for(0.1)
        assert len(images) == number, "expected no image before the result of the last one"
        results.publish(Detection2DArray(header=images[-1].header))
    graph.spin_until(lambda: node.exit_code == 0)
    assert not node.monitor.drops


def test_a_result_that_never_comes_is_given_up(graph, play):
    images = collect(graph.peer(), Image, "image", qos.SENSOR_DATA)
    node = play(rate=0.0, result_timeout=0.05)
    graph.spin_until(lambda: node.exit_code == 0)
    assert stamps(images) == [stamp for stamp in STAMPS for _ in range(3)]
    assert node.monitor.processed == len(STAMPS) and node.monitor.drops == {"waited in vain": 6}


def test_an_image_that_got_lost_is_sent_again(graph, play):
    peer = graph.peer()
    images = collect(peer, Image, "image", qos.SENSOR_DATA)
    results = peer.create_publisher(Detection2DArray, "results", qos.RESULTS)
    node = play(rate=0.0, result_timeout=0.3)
    graph.spin_until(lambda: len(images) == 2)  # the first one, twice: as if it had not arrived
    for number in range(2, len(STAMPS) + 2):
        graph.spin_until(lambda expected=number: len(images) >= expected)
        results.publish(Detection2DArray(header=images[-1].header))
    graph.spin_until(lambda: node.exit_code == 0)
    assert sorted(set(stamps(images))) == STAMPS and stamps(images)[:2] == [STAMPS[0]] * 2


def test_the_replay_waits_for_its_listeners(graph, play):
    first = collect(graph.peer("first"), Image, "image", qos.SENSOR_DATA)
    node = play(wait_for_subscribers=2)
    graph.spin_for(0.5)
    assert first == []
    collect(graph.peer("second"), Image, "image", qos.SENSOR_DATA)
    graph.spin_until(lambda: node.exit_code == 0)
    assert stamps(first) == STAMPS


def test_the_replay_waits_for_who_publishes_the_results(graph, play):
    peer = graph.peer()
    images = collect(peer, Image, "image", qos.SENSOR_DATA)
    node = play(wait_for_results=True)
    graph.spin_for(0.5)
    assert images == []
    peer.create_publisher(Detection2DArray, "results", qos.RESULTS)
    graph.spin_until(lambda: node.exit_code == 0)
    assert stamps(images) == STAMPS and not node.monitor.drops


@pytest.fixture
def tracker(graph):
    """A peer at work on the images that says in its diagnostics what it is told to say."""
    peer = graph.peer("tracker")
    results = peer.create_publisher(Detection2DArray, "results", qos.RESULTS)
    diagnostics = peer.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)

    def report(times=1, **said):
        values = [KeyValue(key=f"{key}./image".replace("drops./image", "drops.any"), value=str(value))
                  for key, value in said.items()]  # fmt: skip
        for _ in range(times):
            diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(name="/tracker", values=values)]))

    def answer():
        results.publish(Detection2DArray(header=report.images[-1].header))

    def begin(node):
        graph.spin_until(diagnostics.get_subscription_count)
        report()
        graph.spin_until(lambda: report.images or node.exit_code is not None)
        return node

    report.images = collect(peer, Image, "image", qos.SENSOR_DATA)
    report.answer, report.begin = answer, begin
    return report


WAITING = {"rate": 0.0, "result_timeout": 0.05, "wait_for_results": True}
OFTEN = 2 * reports.ENOUGH


def test_who_lives_and_has_not_had_the_time_to_answer_is_waited_for(graph, play, tracker):
    """Longer than any timeout, without a second sending, as long as its diagnostics say that it hardly runs."""
    node = tracker.begin(play(**WAITING))
    for number in range(1, len(STAMPS) + 1):
        graph.spin_until(lambda expected=number: len(tracker.images) == expected)
        tracker()
        graph.spin_for(0.5)
        assert len(tracker.images) == number and not node.monitor.drops
        tracker.answer()
    graph.spin_until(lambda: node.exit_code == 0)
    assert stamps(tracker.images) == STAMPS and not node.monitor.drops


def test_who_has_an_image_and_not_done_with_it_is_waited_for(graph, play, tracker):
    """However often it reports in the meantime, and however long that takes."""
    node = tracker.begin(play(**WAITING))
    for number, stamp in enumerate(STAMPS, start=1):
        graph.spin_until(lambda expected=number: len(tracker.images) == expected)
        tracker(OFTEN, taken=stamp, answered=0)
        graph.spin_for(0.5)
        assert len(tracker.images) == number and not node.monitor.drops
        tracker.answer()
    graph.spin_until(lambda: node.exit_code == 0)
    assert stamps(tracker.images) == STAMPS and not node.monitor.drops


@pytest.mark.parametrize("done", [{"answered": STAMPS[0]}, {"answered": 0, "drops": 1}])
def test_who_has_done_with_an_image_is_not_sent_it_again(graph, play, tracker, done):
    """Its result has got lost, or there is none: the next image has its turn."""
    node = tracker.begin(play(**WAITING))
    tracker(OFTEN, taken=STAMPS[0], **done)
    graph.spin_until(lambda: len(tracker.images) > 1)
    assert stamps(tracker.images) == STAMPS[:2] and node.monitor.drops == {"waited in vain": 1}


@pytest.mark.parametrize("said", [{"taken": STAMPS[0] - 1}, {}])
def test_who_has_had_the_time_to_take_an_image_and_has_not_is_sent_it_again(graph, play, tracker, said):
    node = tracker.begin(play(**WAITING))
    graph.spin_for(0.3)
    assert len(tracker.images) == 1
    tracker(OFTEN, **said)
    graph.spin_until(lambda: len(tracker.images) > 1)
    assert stamps(tracker.images[:2]) == [STAMPS[0]] * 2 and not node.monitor.drops


def test_who_has_not_reported_for_long_is_waited_for_no_more(graph, play, tracker, monkeypatch):
    monkeypatch.setattr(reports, "GONE", 0.2)
    node = tracker.begin(play(**WAITING))
    graph.spin_until(lambda: node.exit_code == 0)
    assert stamps(tracker.images) == [stamp for stamp in STAMPS for _ in range(3)]


def test_with_a_recorder_every_frame_waits_until_it_is_written_too(graph, play):
    peer = graph.peer()
    images = collect(peer, Image, "image", qos.SENSOR_DATA)
    results = peer.create_publisher(Detection2DArray, "results", qos.RESULTS)
    written = peer.create_publisher(Header, "written", qos.RESULTS)
    node = play(rate=0.0, wait_for_recorder=True)
    for number in range(1, len(STAMPS) + 1):
        graph.spin_until(lambda expected=number: len(images) == expected)
        results.publish(Detection2DArray(header=images[-1].header))
        graph.spin_for(0.1)
        assert len(images) == number, "expected no image before the last one is written"
        written.publish(images[-1].header)
    graph.spin_until(lambda: node.exit_code == 0)
    assert not node.monitor.drops


def test_who_is_not_active_yet_is_waited_for(graph, play, worker):
    node = play(wait_for_results=True)
    worker(1, "inactive")
    graph.spin_for(0.3)
    assert worker.images == []
    worker(1, "active")
    graph.spin_until(lambda: node.exit_code == 0)
    assert stamps(worker.images) == STAMPS and not node.monitor.drops


@pytest.fixture
def worker(graph):
    """A peer at work on the images, whose results have a subscriber; returns what reports how many it has found."""
    peer = graph.peer("worker")
    peer.create_publisher(Detection2DArray, "results", qos.RESULTS)
    collect(graph.peer("reader"), Detection2DArray, "results", qos.RESULTS)
    diagnostics = peer.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)

    def report(found, state="active"):
        values = [KeyValue(key="subscribers./results", value=str(found)), KeyValue(key="state", value=state)]
        diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(name="/worker", values=values)]))

    report.images = collect(peer, Image, "image", qos.SENSOR_DATA)
    return report


def test_the_replay_waits_until_who_works_has_found_its_subscribers(graph, play, worker):
    node = play(wait_for_results=True)
    graph.spin_for(0.5)
    assert worker.images == []  # the worker has not reported yet
    worker(0)
    graph.spin_for(0.3)
    assert worker.images == []
    worker(1)
    graph.spin_until(lambda: node.exit_code == 0)
    assert stamps(worker.images) == STAMPS and not node.monitor.drops


def test_nodes_that_never_find_each_other_are_told_and_not_waited_for(graph, play, worker, monkeypatch, capfd):
    monkeypatch.setattr(replay_node, "MEETING", 0.3)
    node = play(wait_for_results=True)
    graph.spin_for(0.1)
    worker(0)
    graph.spin_until(lambda: node.exit_code == 0)
    assert stamps(worker.images) == STAMPS and node.monitor.drops == {"waited in vain": 1}
    assert "expected all nodes to find their subscribers, waited 0.3 s" in capfd.readouterr().err


def test_a_replay_that_nobody_listens_to_says_so_and_goes_on(graph, play, capfd):
    node = play(subscriber_timeout=0.2)
    graph.spin_until(lambda: node.exit_code == 0)
    said = capfd.readouterr().err
    assert "waiting for 1 subscribers of /image" in said
    assert "expected 1 subscribers of /image, waited 0.2 s" in said


def test_a_recording_that_breaks_off_ends_with_a_sentence(graph, play, capfd):
    peer = graph.peer()
    images = collect(peer, Image, "image", qos.SENSOR_DATA)
    finished = collect(peer, Bool, "replay/finished", qos.LATCHED)
    node = play(Clip(breaks_at=3))
    graph.spin_until(lambda: node.exit_code is not None and finished)
    assert node.exit_code == 1 and stamps(images) == STAMPS[:3]
    assert "the replay ends: clip breaks off after 3 frames" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({}, "parameter 'source': expected a value, got none"),
        ({"source": "nowhere.mp4"}, "nowhere.mp4"),
        ({"source": "x", "rate": -1.0}, "parameter 'rate': expected greater than or equal to 0, got -1.0"),
    ],
)
def test_a_replay_that_cannot_start(graph, capfd, parameters, sentence):
    assert not graph.add(ReplayNode(**graph.options(parameters))).start()
    assert sentence in capfd.readouterr().err
