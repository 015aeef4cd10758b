"""Bags that were cut off, spoilt or lost their metadata: what is whole is read, the rest is named."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from data_helpers import BOTH, Trip
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from camtrack.bags.results import write_results
from camtrack.bags.write import BagOptions, raw, write_bag
from camtrack_core.datasets.rosbag import types, unpacking
from camtrack_core.datasets.rosbag.bag import BagSequence, list_topics, read_messages
from camtrack_core.datasets.rosbag.cut import CutOffMcap, is_cut_off
from camtrack_core.datasets.sources import open_cameras, open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.mot_text import read_mot


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five images of more than a chunk each, so that every one lies in a chunk of its own."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(5):
        cv2.imwrite(str(folder / f"{k}.png"), np.full((700, 700, 3), 40 * k, np.uint8))
    return folder


def cut(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])


@BOTH
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.6, 0.9, 0.999])
def test_truncated_bags_are_a_sentence(tmp_path: Path, storage: str, share: float) -> None:
    write_bag({"left": Trip(count=12)}, tmp_path / "trip", BagOptions(storage, truth=True))  # type: ignore[arg-type]
    (file,) = [p for p in (tmp_path / "trip").iterdir() if p.suffix != ".yaml"]
    cut(file, share)
    try:
        frames = list(open_source(str(tmp_path / "trip")))
    except DataError as error:
        assert "trip" in str(error)
    else:  # sqlite3 does without its last page where that holds no messages
        assert storage == "sqlite3" and share > 0.9 and len(frames) == 12


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_of_a_recording_that_was_cut_off_the_whole_chunks_are_read(
    tmp_path: Path, pictures: Path, share: float, metadata: bool
) -> None:
    write_bag(open_cameras(str(pictures)), tmp_path / "trip", BagOptions())
    if not metadata:
        (tmp_path / "trip/metadata.yaml").unlink()
    cut(tmp_path / "trip/trip.mcap", share)
    expected = int(share * 5)  # an image a chunk
    sequence = open_source(str(tmp_path / "trip"))
    assert len(sequence) == expected
    frames = []
    with pytest.raises(DataError, match=r"trip is broken: the recording breaks off after \d+ whole messages"):
        frames.extend(sequence)  # a list keeps what came before the error
    assert [frame.image[0, 0, 0] for frame in frames] == [40 * k for k in range(expected)]


@pytest.mark.parametrize("compression", ["", "lz4", "zstd"])
def test_what_is_cut_off_is_read_through_any_compression(tmp_path: Path, compression: str) -> None:
    """A file as the recorder writes it, here with chunks of three messages and messages outside of chunks."""
    import lz4.frame
    from rosbags.rosbag2 import storage_mcap

    pack = {
        "": bytes,
        "lz4": lz4.frame.compress,
        "zstd": storage_mcap.zstd.compress,
    }[compression]
    word = lambda text: len(text).to_bytes(4, "little") + text.encode()  # noqa: E731
    record = lambda code, content: bytes([code]) + len(content).to_bytes(8, "little") + content  # noqa: E731
    schema = record(3, b"\x01\x00" + word("std_msgs/msg/String") + word("ros2msg") + word("string data"))
    channel = record(4, b"\x07\x00\x01\x00" + word("/words") + word("cdr") + word(""))

    def message(time_ns: int) -> bytes:
        return record(5, b"\x07\x00" + bytes(4) + 2 * time_ns.to_bytes(8, "little") + b"%d" % time_ns)

    def chunk(content: bytes) -> bytes:
        packed = pack(content)
        head = bytes(16) + len(content).to_bytes(8, "little") + zlib.crc32(content).to_bytes(4, "little")
        return record(6, head + word(compression) + len(packed).to_bytes(8, "little") + packed)

    file = tmp_path / "words.mcap"
    head = b"\x89MCAP0\r\n" + record(1, word("ros2") + word("test"))
    whole = head + chunk(schema + channel + message(2) + message(1) + message(3)) + message(4)
    for last in (chunk(message(5)), message(5)):
        for end in range(len(last)):
            file.write_bytes(whole + last[:end])
            assert is_cut_off(file)
            reader, found = CutOffMcap(file), []
            assert reader.topics["/words"].msgcount == 4
            with pytest.raises(EOFError, match="after 4 whole messages"):
                found.extend(reader.messages(reader.connections))
            assert [(time_ns, data) for _, time_ns, data in found] == [(k, b"%d" % k) for k in (1, 2, 3, 4)]
    file.write_bytes(whole + bytes(4096))
    assert CutOffMcap(file).topics["/words"].msgcount == 4
    broken = bytearray(whole + chunk(message(5)))
    broken[-1] ^= 1
    file.write_bytes(broken)
    reader, found = CutOffMcap(file), []
    with pytest.raises(Exception, match=r"."):
        found.extend(reader.messages(reader.connections))
    assert len(found) == 4


@BOTH
def test_noise_anywhere_in_a_bag_is_a_sentence_or_frames(tmp_path: Path, storage: str) -> None:
    """No byte that is changed makes anything but frames of the right form, or a sentence."""
    write_bag({"left": Trip(count=3)}, tmp_path / "trip", BagOptions(storage, 80, truth=True))  # type: ignore[arg-type]
    (file,) = [p for p in (tmp_path / "trip").iterdir() if p.suffix != ".yaml"]
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        begin = int(rng.integers(0, len(data) - 40))
        data[begin : begin + 40] = rng.integers(0, 256, 40, np.uint8).tobytes()
        file.write_bytes(data)
        try:
            frames = list(open_source(str(tmp_path / "trip")))
        except DataError as error:
            refused += 1
            assert "trip" in str(error)
        else:
            assert all(f.image.ndim == 3 for f in frames)
    assert refused > 5


def test_a_corrupt_chunk_is_named_and_what_came_before_is_given(tmp_path: Path, pictures: Path) -> None:
    write_bag(open_cameras(str(pictures)), tmp_path / "trip", BagOptions())
    file = tmp_path / "trip/trip.mcap"
    data = bytearray(file.read_bytes())
    begin = data.find(b"\x06", 3 * 1_470_000)  # somewhere in the fourth
    chunk = data.rfind(b"bgr8", 0, begin) - 300
    data[chunk : chunk + 300] = b"\xff" * 300
    file.write_bytes(data)
    frames = []
    with pytest.raises(DataError, match="trip"):
        for _, _, message in read_messages(tmp_path / "trip", {"/camera/image"}):
            frames.append(message)
    assert 1 <= len(frames) < 5
    given = []
    with pytest.raises(DataError, match="trip"):
        given.extend(open_source(str(tmp_path / "trip")))
    assert len(given) == len(frames)


def test_metadata_that_are_missing_or_broken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_bag({"left": Trip()}, tmp_path / "trip", BagOptions())
    metadata = tmp_path / "trip/metadata.yaml"
    text = metadata.read_text()
    metadata.unlink()
    assert len(list(open_source(str(tmp_path / "trip")))) == 4  # as after a recorder that was killed
    for broken in (
        text[: len(text) // 3],
        "",
        "- 1",
        text.replace("storage_identifier: mcap", "storage_identifier: ''"),
    ):
        metadata.write_text(broken)
        assert len(list(open_source(str(tmp_path / "trip")))) == 4
    assert "its files are read without it" in caplog.text
    shutil.rmtree(tmp_path / "trip")
    with pytest.raises(DataError, match="does not exist"):
        BagSequence(tmp_path / "trip")


def split_in_two(folder: Path) -> list[Path]:
    """A recording of 6 frames in two files of 3, without metadata."""
    folder.mkdir()
    frames = list(Trip(count=6))
    for number, part in enumerate((frames[:3], frames[3:])):
        with Writer(folder / "part", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            image = writer.add_connection("/left/image", types.IMAGE, typestore=types.typestore())
            for frame in part:
                writer.write(image, frame.time_ns, types.serialise(raw(frame, "left")))
        (folder / "part/part.mcap").rename(folder / f"trip_{number + 9}.mcap")  # 9 comes before 10
        shutil.rmtree(folder / "part")
    return sorted(folder.iterdir())


def test_split_files_without_metadata_are_read_together(tmp_path: Path) -> None:
    split_in_two(tmp_path / "trip")
    sequence = open_source(str(tmp_path / "trip"))
    assert len(sequence) == 6
    assert [frame.time_ns for frame in sequence] == [frame.time_ns for frame in Trip(count=6)]
    assert list_topics(tmp_path / "trip") == {"/left/image": (types.IMAGE, 6)}


@pytest.mark.parametrize("share", [0.02, 0.5, 0.8])
def test_of_split_files_that_a_kill_has_cut_the_whole_messages_are_read(tmp_path: Path, share: float) -> None:
    first, second = split_in_two(tmp_path / "trip")  # trip_10, trip_9
    cut(first, share)
    whole = {0.02: 3, 0.5: 4, 0.8: 5}[share]  # whole images of the chunk that is not
    frames = []
    with pytest.raises(DataError, match=r"trip is broken: the recording breaks off after \d whole messages"):
        frames.extend(open_source(str(tmp_path / "trip")))
    assert [f.time_ns for f in frames] == [f.time_ns for f in Trip(count=6)][:whole]
    cut(second, 0.8)  # a file in the middle does not keep those behind it
    frames = []
    with pytest.raises(DataError, match="breaks off"):
        frames.extend(open_source(str(tmp_path / "trip")))
    assert len(frames) == whole - 1


def test_files_that_are_compressed_as_a_whole_are_named(tmp_path: Path) -> None:
    first, second = split_in_two(tmp_path / "trip")
    second.unlink()
    first.rename(first.with_name("trip.mcap.zstd"))
    with pytest.raises(DataError, match=r"trip\.mcap\.zstd is compressed as a whole \(zstd\); expected it unpacked"):
        open_source(str(tmp_path / "trip"))


def test_compression_that_is_not_known_is_named(tmp_path: Path) -> None:
    write_bag({"left": Trip()}, tmp_path / "trip", BagOptions())
    metadata = tmp_path / "trip/metadata.yaml"
    said = yaml.safe_load(metadata.read_text())
    said["rosbag2_bagfile_information"].update(compression_mode="MESSAGE", compression_format="brotli")
    metadata.write_text(yaml.safe_dump(said))
    with pytest.raises(DataError, match="expected it compressed by zstd or not at all, got 'brotli'"):
        open_source(str(tmp_path / "trip"))


def compressed_bag(path: Path, mode: CompressionMode) -> Path:
    packing = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    packing.set_compression(mode, CompressionFormat.ZSTD)
    with packing as writer:
        image = writer.add_connection("/left/image", types.IMAGE, typestore=types.typestore())
        for frame in Trip():
            writer.write(image, frame.time_ns, types.serialise(raw(frame, "left")))
    return path


def test_compressed_messages_without_metadata_are_named(tmp_path: Path) -> None:
    path = compressed_bag(tmp_path / "trip", CompressionMode.MESSAGE)
    (path / "metadata.yaml").unlink()
    with pytest.raises(DataError, match=r"/left/image: its messages are compressed \(zstd\), and metadata\.yaml"):
        list(open_source(str(path)))


@pytest.mark.parametrize("mode", [CompressionMode.MESSAGE, CompressionMode.FILE, CompressionMode.STORAGE])
def test_what_is_compressed_is_read_and_never_unpacked_to_more_than_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: CompressionMode
) -> None:
    path = compressed_bag(tmp_path / "trip", mode)
    assert [frame.time_ns for frame in open_source(str(path))] == [frame.time_ns for frame in Trip()]
    monkeypatch.setattr(unpacking, "MOST_BYTES", 4000)  # an image has 9216
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: SimpleNamespace(free=8000))
    refused = r"trip (is broken: expected (chunks of )?at most 4000 bytes|cannot be read: .* does not fit into half)"
    with pytest.raises(DataError, match=refused):
        list(open_source(str(path)))


def test_a_file_that_defines_a_type_without_one_of_its_fields_is_named(tmp_path: Path) -> None:
    """As one whose definition was damaged: its messages read well and lack what everybody expects of them."""
    write_bag({"left": Trip()}, tmp_path / "trip", BagOptions("sqlite3"))
    (file,) = (tmp_path / "trip").glob("*.db3")
    whole = file.read_bytes()
    for field, other in ((b"Transform transform", b"Transform transf0rm"), (b"float64[9] k", b"float64[9] K")):
        assert whole.count(field)
        file.write_bytes(whole.replace(field, other))
        with pytest.raises(DataError, match=r"its file defines .*(TransformStamped|CameraInfo)\b.* in another way"):
            list(open_source(str(tmp_path / "trip")))


ENDLESS = """
    CREATE VIEW messages AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n)
    SELECT id, (SELECT min(id) FROM topics) AS topic_id, id AS timestamp, zeroblob(100000000) AS data FROM n"""
LARGE = """
    CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER,
    data BLOB GENERATED ALWAYS AS (zeroblob(100000000)))"""


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("messages", [ENDLESS, LARGE])
def test_messages_that_a_database_computes_are_refused(tmp_path: Path, messages: str, metadata: bool) -> None:
    write_bag({"left": Trip()}, tmp_path / "trip", BagOptions("sqlite3"))
    if not metadata:
        (tmp_path / "trip/metadata.yaml").unlink()
    (file,) = (tmp_path / "trip").glob("*.db3")
    with closing(sqlite3.connect(file)) as database:
        database.executescript(f"DROP TABLE messages; {messages}")
    with pytest.raises(DataError, match="expected messages that are stored in a table, got some that are computed"):
        open_source(str(tmp_path / "trip"))


FOXY = {
    "Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox2D bbox\n"
        "sensor_msgs/Image source_img\nbool is_tracking\nstring tracking_id"
    ),
    "ObjectHypothesisWithPose": "string id\nfloat64 score\ngeometry_msgs/PoseWithCovariance pose",
    "BoundingBox2D": "geometry_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
}


def store_of(definitions: dict[str, str]) -> Any:
    store = get_typestore(Stores.ROS2_FOXY)
    found: dict[str, Any] = {}
    for name, text in definitions.items():
        found.update(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
    store.register(found)
    return store


def results_by(store: Any, folder: Path, make: Any) -> Path:
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection("/tracks", types.DETECTIONS_2D, typestore=store)
        for frame in Trip():
            head = store.types["std_msgs/msg/Header"](types.stamp(frame.time_ns), "left")
            value = store.types[types.DETECTIONS_2D](head, [make(head)])
            writer.write(topic, frame.time_ns, store.serialize_cdr(value, types.DETECTIONS_2D))
    return folder


def test_detections_of_an_older_release_are_read_by_the_definition_in_the_file(tmp_path: Path) -> None:
    store = store_of(FOXY)

    def make(head: Any) -> Any:
        kinds = store.types
        result = kinds["vision_msgs/msg/ObjectHypothesisWithPose"]("car", 0.75, types.no_pose())
        centre = kinds["geometry_msgs/msg/Pose2D"](40.0, 30.0, 0.0)
        box = kinds["vision_msgs/msg/BoundingBox2D"](centre, 20.0, 10.0)
        image = kinds["sensor_msgs/msg/Image"](head, 0, 0, "", 0, 0, np.zeros(0, np.uint8))
        return kinds["vision_msgs/msg/Detection2D"](head, [result], box, image, True, "7")

    results_by(store, tmp_path / "old", make)
    write_bag({"left": Trip()}, tmp_path / "trip", BagOptions())
    written = write_results(tmp_path / "old", str(tmp_path / "trip"), tmp_path / "out")
    for tracks in read_mot(written.file, 4):
        assert tracks.ids.tolist() == [7] and tracks.xyxy.tolist() == [[30, 25, 50, 35]]
        assert tracks.scores.tolist() == [0.75]


def test_a_definition_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    store = store_of({**FOXY, "Detection2D": "std_msgs/Header header\nstring label"})
    results_by(store, tmp_path / "odd", lambda head: store.types["vision_msgs/msg/Detection2D"](head, "car"))
    write_bag({"left": Trip()}, tmp_path / "trip", BagOptions())
    words = r"odd, /tracks: its file defines vision_msgs/msg/Detection2D in another way than ROS Jazzy does"
    with pytest.raises(DataError, match=words):
        write_results(tmp_path / "odd", str(tmp_path / "trip"), tmp_path / "out")


@pytest.mark.parametrize("profile", ["", "ros2"])
@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_messages_that_are_not_of_ros_are_named(tmp_path: Path, encoding: str, profile: str) -> None:
    word = lambda text: len(text).to_bytes(4, "little") + text.encode()  # noqa: E731
    record = lambda code, content: bytes([code]) + len(content).to_bytes(8, "little") + content  # noqa: E731
    schema = record(3, b"\x01\x00" + word("foxglove.CompressedImage") + word(encoding) + word("abcd"))
    channel = record(4, b"\x07\x00\x01\x00" + word("/image") + word(encoding) + word(""))
    message = record(5, b"\x07\x00" + bytes(4) + 2 * (5).to_bytes(8, "little") + b"\x08\x01")
    magic = b"\x89MCAP0\r\n"
    end = record(15, bytes(4)) + record(2, bytes(20)) + magic
    (tmp_path / "other.mcap").write_bytes(
        magic + record(1, word(profile) + word("x")) + schema + channel + message + end
    )
    with pytest.raises(DataError, match=rf"other\.mcap: expected messages of ROS 2 \(cdr\), got {encoding}"):
        open_source(str(tmp_path / "other.mcap"))
