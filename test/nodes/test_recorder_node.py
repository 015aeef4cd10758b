"""The recorder: images joined with their tracks, an annotated video, tracks as text."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from ros_helpers import image_message, opened_graph
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from camtrack.nodes.recorder import RecorderNode
from camtrack.recording.files import Joiner, NamedTracks, Recording
from camtrack.recording.video import VideoFile
from camtrack_core.errors import DataError
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.ros.lifecycle import qos
from camtrack_core.ros.messages.detections2d import from_tracks

SECOND = 1_000_000_000
STAMPS = [SECOND + i * SECOND // 50 for i in range(6)]


@pytest.fixture
def graph():
    with opened_graph() as graph:
        yield graph


def named(*ids: int) -> NamedTracks:
    boxes = np.array([[5.0 + i, 4, 25 + i, 20] for i in ids]).reshape(-1, 4)
    return NamedTracks(Tracks2D(np.array(ids), boxes, np.ones(len(ids)), np.zeros(len(ids), int)), ("car",))


def joined(events, capacity=4):
    """What a joiner gives out for a string such as 'i1 t1': stamps; -1 without tracks, 1j without an image."""

    def shown(complete):
        return [
            t if image is not None and tracks else -t if image is not None else t * 1j for t, image, tracks in complete
        ]

    joiner, given = Joiner(capacity), []
    picture = np.zeros((2, 2, 3), np.uint8)
    for event in events.split():
        time_ns = int(event[1:])
        complete = joiner.add_image(time_ns, picture) if event[0] == "i" else joiner.add_tracks(time_ns, named(1))
        given.append(shown(complete))
    return given, shown(joiner.flush())


@pytest.mark.parametrize(
    ("events", "given", "left"),
    [
        ("i1 t1 i2 t2", [[], [1], [], [2]], []),
        ("t1 i1 t2 i2", [[], [1], [], [2]], []),
        ("i1 i2 i3 t1 t2 t3", [[], [], [], [1], [2], [3]], []),
        ("i1 i2 i3 t3", [[], [], [], [-1, -2, 3]], []),
        ("i1 i2 i3 i4 i5", [[], [], [], [], [-1]], [-2, -3, -4, -5]),
        ("t1 t2 t3 t4 t5 i1 i5", [[], [], [], [], [1j], [-1], [2j, 3j, 4j, 5]], []),
        ("i1 t1 t2 i3 t3", [[], [1], [], [2j], [3]], []),
        ("i1 t1 t1 i2 t1 t2", [[], [1], [], [], [], [2]], []),
        ("i1 t1 t2 t3", [[], [1], [], []], [2j, 3j]),
    ],
)
def test_joiner(events, given, left):
    assert joined(events) == (given, left)


def test_a_recording_can_be_read_again(tmp_path):
    recording = Recording(tmp_path / "new/out")
    for index, tracks in enumerate([named(3), None, named(3, 4)]):
        recording.write(STAMPS[index], np.zeros((64, 96, 3), np.uint8), tracks)
    recording.close()
    capture = cv2.VideoCapture(str(tmp_path / "new/out/tracks.mp4"))
    frames = [image for success, image in iter(capture.read, (False, None)) if success]
    assert len(frames) == 3 and times_of(tmp_path / "new/out/tracks.mp4") == [0, 20, 40]
    assert frames[0].max() > 100 and frames[1].max() < 50, "expected a box, then none"
    mot = (tmp_path / "new/out/tracks.txt").read_text().splitlines()
    assert mot[0] == "1,3,8.00,4.00,20.00,16.00,1.0000,-1,-1,-1"
    assert [row.split(",")[:2] for row in mot] == [["1", "3"], ["3", "3"], ["3", "4"]]
    lines = [json.loads(line) for line in (tmp_path / "new/out/tracks.jsonl").read_text().splitlines()]
    assert [(line["time_ns"], line["frame"]) for line in lines] == [(STAMPS[0], 1), (STAMPS[2], 3)]
    assert lines[1]["tracks"][1] == {"id": 4, "class": "car", "score": 1.0, "xyxy": [9, 4, 29, 20]}


def test_tracks_whose_image_was_lost_are_recorded_as_text(tmp_path):
    recording = Recording(tmp_path)
    picture = np.zeros((64, 96, 3), np.uint8)
    for index, (image, tracks) in enumerate([(None, named(3)), (picture, named(4)), (None, None)]):
        recording.write(STAMPS[index], image, tracks)
    recording.close()
    lines = [json.loads(line) for line in (tmp_path / "tracks.jsonl").read_text().splitlines()]
    found = [(line["time_ns"], line["frame"], line["tracks"][0]["id"]) for line in lines]
    assert found == [(STAMPS[0], None, 3), (STAMPS[1], 1, 4)]
    assert [row.split(",")[:2] for row in (tmp_path / "tracks.txt").read_text().splitlines()] == [["1", "4"]]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write to .*file/out"):
        Recording(tmp_path / "file/out")


def test_a_recording_leaves_an_earlier_one_alone(tmp_path):
    """Nor does it touch what else is in the folder."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    folders = []
    for ids in ((1,), (2, 3)):
        recording = Recording(tmp_path / "out")
        recording.write(SECOND, np.zeros((64, 96, 3), np.uint8), named(*ids))
        recording.close()
        folders.append(recording.folder)
    assert folders == [tmp_path / "out", tmp_path / "out-2"]
    assert [len((folder / "tracks.txt").read_text().splitlines()) for folder in folders] == [1, 2]
    assert (tmp_path / "out/notes.txt").read_text() == "mine"


def times_of(video):
    """Milliseconds of every frame from the first."""
    capture, times = cv2.VideoCapture(str(video)), []
    while capture.read()[0]:
        times.append(round(capture.get(cv2.CAP_PROP_POS_MSEC), 3))
    return times


def test_frames_have_the_distances_of_their_stamps(tmp_path):
    """A stamp that is not after the one before comes a frame later."""
    video = VideoFile(tmp_path / "a.mp4")
    for milliseconds in (1000, 1040, 1500, 3000, 100, 200):
        video.write(milliseconds * 10**6, np.zeros((64, 96, 3), np.uint8))
    video.close()
    assert times_of(tmp_path / "a.mp4") == [0, 40, 500, 2000, 3500, 3600]


KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from camtrack.recording.files import Recording
recording = Recording(Path(sys.argv[1]))
for k in range(7):
    recording.write(10**9 + k * 10**8, np.full((64, 96, 3), 30 * k, np.uint8), None)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_video_of_a_recorder_that_was_killed_can_be_played(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], env=environment)
    assert done.returncode == -signal.SIGKILL
    capture = cv2.VideoCapture(str(tmp_path / "out/tracks.mp4"))
    frames = [image for success, image in iter(capture.read, (False, None)) if success]
    assert [round(float(frame.mean()) / 30) for frame in frames] == list(range(7))
    assert times_of(tmp_path / "out/tracks.mp4") == [100 * k for k in range(7)]


def test_a_full_disk_is_an_error_at_once_and_what_was_written_stays(tmp_path):
    video = VideoFile(tmp_path / "a.mp4")
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    video.write(SECOND, picture)
    size = (tmp_path / "a.mp4").stat().st_size
    with limited(size + 100), pytest.raises(DataError, match=r"cannot write .*a\.mp4: File too large"):
        video.write(2 * SECOND, picture)
    assert (tmp_path / "a.mp4").stat().st_size == size
    video.write(3 * SECOND, picture)  # there is room again
    video.close()
    assert times_of(tmp_path / "a.mp4") == [0, 2000]


@contextmanager
def limited(size):
    """Files of this process end there, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_the_recorder_writes_what_it_hears(graph, tmp_path):
    node = graph.start(RecorderNode, folder=str(tmp_path))
    peer = graph.peer()
    images = peer.create_publisher(Image, "image", qos.SENSOR_DATA)
    tracks = peer.create_publisher(Detection2DArray, "tracks", qos.RESULTS)
    graph.spin_until(lambda: images.get_subscription_count() and tracks.get_subscription_count())
    for number, time_ns in enumerate(STAMPS, 1):
        message = image_message(time_ns, height=64, width=96)
        images.publish(message)
        tracks.publish(from_tracks(named(number).tracks, ("car",), message.header))
        graph.spin_until(lambda expected=number: node.monitor.processed == expected)
    lost = image_message(STAMPS[-1] + 1, height=64, width=96).header  # its image never comes
    tracks.publish(from_tracks(named(9).tracks, ("car",), lost))
    images.publish(image_message(STAMPS[-1] + 2, height=64, width=96))
    graph.spin_until(lambda: node.monitor.drops.get("no image") == 1)
    node.close()
    lines = [json.loads(line) for line in (tmp_path / "tracks.jsonl").read_text().splitlines()]
    assert [line["time_ns"] for line in lines] == [*STAMPS, STAMPS[-1] + 1]
    assert [line["frame"] for line in lines] == [1, 2, 3, 4, 5, 6, None]
    assert len(times_of(tmp_path / "tracks.mp4")) == 7


def test_a_write_that_fails_at_the_end_leaves_a_video_that_can_be_played(graph, tmp_path):
    node = graph.start(RecorderNode, folder=str(tmp_path))
    node._recording._lines._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    peer = graph.peer()
    images = peer.create_publisher(Image, "image", qos.SENSOR_DATA)
    tracks = peer.create_publisher(Detection2DArray, "tracks", qos.RESULTS)
    graph.spin_until(lambda: images.get_subscription_count() and tracks.get_subscription_count())
    for number, time_ns in enumerate(STAMPS[:2], 1):
        images.publish(image_message(time_ns, height=64, width=96))
        graph.spin_until(lambda expected=number: node.monitor.processed == expected)
    header = image_message(STAMPS[2]).header  # its image never comes: written, in vain, as the node ends
    tracks.publish(from_tracks(named(1).tracks, ("car",), header))
    graph.spin_until(lambda: node._recording.frames == 2)
    node.close()
    assert len(times_of(tmp_path / "tracks.mp4")) == 2
