"""Few bytes that ask for much memory are refused before it is taken."""

from __future__ import annotations

import gzip
import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import lz4.frame
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rosbags.rosbag2 import storage_mcap
from rosbags.rosbag2.storage_mcap import zstd
from std_msgs.msg import Header

from camtrack_core import encoded
from camtrack_core.datasets import labelled
from camtrack_core.datasets.motchallenge import read_info
from camtrack_core.datasets.nuscenes import Tables
from camtrack_core.datasets.rosbag import unpacking
from camtrack_core.datasets.uadetrac import UaDetracSequence
from camtrack_core.encoded import Undecodable, decode, stated_size
from camtrack_core.errors import DataError
from camtrack_core.files import read_json
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from camtrack_core.ros.messages import cdr, cdr3d
from pkf_filter.image.tracker import Tracker
from pkf_filter.life.scores import MAX_BOXES
from pkf_filter.space.tracker import WorldTracker

HEADER = Header(stamp=Time(sec=1), frame_id="camera")


@contextmanager
def little_memory(most: float = 50e6) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def png(width: int, height: int) -> bytes:
    """A whole PNG of few bytes, whatever size it claims."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(1, 1), (640, 360), (33, 1000)])
@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_the_size_before_the_pixels_is_theirs(ending: str, size: tuple[int, int]) -> None:
    width, height = size
    _, data = cv2.imencode(ending, np.full((height, width, 3), 90, np.uint8))
    assert stated_size(data.tobytes()) == size and decode(data).shape[:2] == (height, width)


def test_images_of_hundreds_of_millions_of_pixels_are_refused_by_what_they_claim() -> None:
    with pytest.raises(Undecodable, match="at most 100000000 pixels, got 24000x24000"):
        decode(png(24000, 24000))
    _, small = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    data = bytearray(small.tobytes())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(Undecodable, match="got 65000x65000"):
        decode(bytes(data))


@pytest.mark.parametrize("between", [b"\xff", b"\xff\x01", b"\xff\xd0", b"\0\1\2", b"\xff\0", b"\xff\xff\xff\1\1"])
def test_a_size_that_stands_behind_what_decoders_skip_is_found(between: bytes) -> None:
    """Fill bytes, markers without content, bytes that belong to no segment: before the tables and before the size."""
    _, small = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    data = small.tobytes()
    tables, frame = data.index(b"\xff\xdb"), data.index(b"\xff\xc0")
    bomb = data[:tables] + between + data[tables:frame] + between + data[frame : frame + 5]
    whole = bomb + data[frame + 5 :]
    assert stated_size(whole) == (8, 8) and decode(whole).shape == (8, 8, 3)
    with pytest.raises(Undecodable, match="got 65000x65000"):
        decode(bomb + struct.pack(">HH", 65000, 65000) + data[frame + 9 :])


@pytest.mark.parametrize("ending", [".bmp", ".webp", ".ppm", ".tiff"])
def test_other_kinds_of_images_whose_size_is_not_known_before_are_refused(ending: str) -> None:
    _, data = cv2.imencode(ending, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(Undecodable, match="expected a JPEG or PNG image"):
        decode(data.tobytes())


def test_what_says_nothing_of_its_size_is_left_to_the_decoder() -> None:
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x10", b"\x89PNG\r\n", b"BM" + bytes(60)):
        assert stated_size(data) is None
    assert encoded.MOST_PIXELS > 8000 * 6000


def labels(path: Path, frames: str, padding: int = 0) -> Path:
    lines = [labelled.TITLE, "# source: a.mp4", "# image size: 640 360", f"# frames: {frames}", "# classes: car"]
    text = "\n".join([*lines, "1,1,1,2,30,40,car,0.9"]) + "\n" * (padding + 1)
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_labels_that_unpack_to_more_than_any_text_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "MOST_BYTES", 1_000_000)
    file = labels(tmp_path / "a.txt.gz", "3", padding=100_000_000)
    assert file.stat().st_size < 200_000
    with little_memory(), pytest.raises(DataError, match="expected at most 1000000 bytes of text"):
        labelled.read_labels(file)


def test_the_memory_of_labels_follows_their_rows(tmp_path: Path) -> None:
    with little_memory():
        stored = labelled.read_labels(labels(tmp_path / "a.txt.gz", "1000000"))
    assert len(stored.frames) == 1_000_000 and len(stored.frames[0]) == 1 and not len(stored.frames[999_999])
    for frames in ("50000000", "-1", "1e400", "many"):
        with little_memory(), pytest.raises(DataError, match="header"):
            labelled.read_labels(labels(tmp_path / "b.txt.gz", frames))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_annotations_with_entities_are_refused(tmp_path: Path, encoding: str) -> None:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 9))
    head = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE sequence [<!ENTITY e0 "ha">{entities}]>'
    folder = tmp_path / "DETRAC-Train-Annotations-XML"
    folder.mkdir()
    (folder / "MVI_1.xml").write_bytes(f'{head}<sequence name="&e8;"/>'.encode(encoding))
    with little_memory(), pytest.raises(DataError, match="expected no document type, got sequence"):
        UaDetracSequence(tmp_path, "MVI_1")


def test_messages_of_more_detections_than_anyone_has_are_refused() -> None:
    for claimed, unpack in ((2**32 - 1, cdr.unpack), (10_001, cdr.unpack), (2**32 - 1, cdr3d.unpack_detections)):
        data = bytearray(cdr.pack(HEADER, [], [], np.zeros(0), np.zeros((0, 4))))
        data[-4:] = struct.pack("<I", claimed)
        with little_memory(), pytest.raises(DataError, match=f"at most 10000 detections, got {claimed}"):
            unpack(bytes(data))


def test_of_more_boxes_than_can_be_tracked_the_best_are_taken_in_the_image_and_in_space() -> None:
    count = MAX_BOXES + 300
    columns, rows = np.arange(count) % 40, np.arange(count) // 40
    corner = np.stack([30.0 * columns, 30.0 * rows], 1)
    scores = np.where(np.arange(count) < MAX_BOXES, 0.99, 0.3)
    image = Tracker()
    image.step(10**9, Boxes2D(np.concatenate([corner, corner + 20], 1), scores, np.zeros(count, np.int64)))
    centre = np.concatenate([corner, np.full((count, 1), 0.75)], 1)
    boxes = Boxes3D(centre, np.tile([4.0, 1.8, 1.5], (count, 1)), np.zeros(count), np.full((count, 3), np.nan))
    space = WorldTracker()
    space.class_id("car")
    space.step(10**9, Detections3D(boxes, scores, np.zeros(count, np.int64)))
    assert image.dropped == space.dropped == 300
    assert len(image._tracks) <= MAX_BOXES and len(space._state.ids) <= MAX_BOXES


def test_json_for_which_there_is_no_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scene.json").write_text('[{"token": "a"}]')
    with open(tmp_path / "sample_data.json", "wb") as file:
        file.truncate(2**40)  # of which the disk holds nothing
    for read in (lambda: read_json(tmp_path / "sample_data.json"), lambda: Tables(tmp_path)):
        with little_memory(), pytest.raises(DataError, match=r"expected it to fit into memory, needs 4398\.0 of"):
            read()
    assert read_json(tmp_path / "scene.json") == [{"token": "a"}]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "[1, 2", "\xff", ""])
def test_json_that_is_none_or_deeper_than_any_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scene.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"scene\.json is broken: no JSON or cut off"):
        read_json(path)


@pytest.mark.parametrize("length", ["10000001", "1000000000000"])
def test_recordings_longer_than_any_are_refused(tmp_path: Path, length: str) -> None:
    (tmp_path / "seqinfo.ini").write_text(f"[Sequence]\nseqLength={length}\n")
    with pytest.raises(DataError, match=f"expected a frame number from 0 to 10000000, got {length}"):
        read_info(tmp_path / "seqinfo.ini")


@pytest.mark.parametrize("pack", [zstd.compress, lz4.frame.compress])
def test_a_chunk_of_a_bag_is_unpacked_to_no_more_than_it_states(pack: Callable[[bytes], bytes]) -> None:
    unpack = {zstd.compress: unpacking.unpack_zstd, lz4.frame.compress: unpacking.unpack_lz4}[pack]
    content = bytes(range(256)) * 100
    assert unpack(pack(content), len(content)) == content
    assert unpack(pack(content) + pack(content), 2 * len(content)) == 2 * content and unpack(b"", 0) == b""
    with pytest.raises(unpacking.Oversized, match="at most 25599 bytes"):
        unpack(pack(content), len(content) - 1)
    with pytest.raises(EOFError):
        unpack(pack(content)[:-5], len(content))
    bomb = pack(bytes(100_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(unpacking.Oversized, match="at most 1000 bytes"):
        unpack(bomb, 1000)
    with pytest.raises(unpacking.Oversized, match="got one that claims 4000000000"):
        unpack(bomb, 4_000_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KB


def test_the_reader_of_bags_unpacks_within_these_bounds() -> None:
    unpacking.limit_reader()
    with pytest.raises(unpacking.Oversized):
        storage_mcap.decompress(zstd.compress(bytes(1_000_000)), "zstd", 1000, 0)
