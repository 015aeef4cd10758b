"""Bags that were cut off, spoilt or lost their metadata: what is whole is read, the rest is named."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_helpers import BOTH, Trip

from camtrack.bags.write import BagOptions, write_bag
from camtrack_core.datasets.rosbag.bag import BagSequence, read_messages
from camtrack_core.datasets.rosbag.cut import CutOffMcap, is_cut_off
from camtrack_core.datasets.sources import open_cameras, open_source
from camtrack_core.errors import DataError


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


def test_metadata_that_are_missing_or_broken(tmp_path: Path) -> None:
    write_bag({"left": Trip()}, tmp_path / "trip", BagOptions())
    metadata = tmp_path / "trip/metadata.yaml"
    text = metadata.read_text()
    metadata.unlink()
    assert len(list(open_source(str(tmp_path / "trip")))) == 4  # as after a recorder that was killed
    metadata.write_text(text[: len(text) // 3])
    with pytest.raises(DataError, match=r"bag .*trip cannot be read"):
        open_source(str(tmp_path / "trip"))
    shutil.rmtree(tmp_path / "trip")
    with pytest.raises(DataError, match="does not exist"):
        BagSequence(tmp_path / "trip")
