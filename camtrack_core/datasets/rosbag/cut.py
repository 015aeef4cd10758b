"""An mcap without its end, as a recorder that was killed or a full disk leaves it: read from its start.

Format: https://mcap.dev/spec. A record is an opcode, the length of its content and the content.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from camtrack_core.datasets.rosbag.unpacking import UNPACK

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
CUT_CHUNK = 0x106  # none of the format's: what is there of a chunk that is cut off
RECORD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, number, time of recording, time of publishing
CHUNK_HEAD = struct.Struct("<QQQI")  # first time, last time, size, CRC


@dataclass(frozen=True)
class Connection:
    """A topic of a bag and its type, as the file defines it; `msgcount` messages of it are whole."""

    topic: str
    msgtype: str
    definition: str = ""
    msgcount: int = 0


Schema = tuple[str, str]  # type and definition
Entry = tuple[str, Schema, int, bytes]  # topic, schema, time of recording in nanoseconds, message


class CutOffMcap:
    """Stands in for the reader of rosbags.

    Attributes:
        topics: the connections by topic; connections: the same.

    Raises:
        EOFError: not even one message is whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        status = path.stat()
        self.topics = _count(path, (status.st_size, status.st_mtime_ns))
        self.connections = list(self.topics.values())

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, time of recording and bytes of messages, in the order of their times within a chunk.

        Raises:
            EOFError: when all that are whole have been given; and whatever a broken record makes of itself.
        """
        wanted = {connection.topic: connection for connection in connections}
        for topic, _, time_ns, data in _entries(self._path):
            if topic in wanted:
                yield wanted[topic], time_ns, data

    def close(self) -> None:
        """There is nothing to close."""


@lru_cache(maxsize=8)
def _count(path: Path, version: tuple[int, int]) -> dict[str, Connection]:
    """What is whole of every topic. Takes a pass, so that it is kept for as long as size and time are the `version`."""
    counts: Counter[tuple[str, Schema]] = Counter()
    try:
        counts.update((topic, schema) for topic, schema, _, _ in _entries(path))
    except Exception:  # the fault is told when the messages have been given
        if not counts:
            raise
    return {topic: Connection(topic, *schema, count) for (topic, schema), count in counts.items()}


def _entries(path: Path) -> Iterator[Entry]:
    """Raises EOFError at the end."""
    count = 0
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        for entry in _Records().entries(file):
            count += 1
            yield entry
    raise EOFError(f"the recording breaks off after {count} whole messages")


def is_cut_off(path: Path) -> bool:
    """Whether a file begins as an mcap and does not end as one. Raises OSError."""
    with path.open("rb") as file:
        begin = file.read(len(MAGIC))
        rest = file.seek(0, 2) - len(MAGIC)
        file.seek(-min(rest, len(MAGIC)), 2)
        return begin == MAGIC and file.read() != MAGIC


def encodings(path: Path) -> set[str]:
    """How an mcap says that its messages are written: cdr in ROS 2, elsewhere protobuf, json and others."""
    found: set[str] = set()
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return found
        for opcode, content in _whole_records(file):
            records = _whole_records(BytesIO(_unpacked(content))) if opcode == CHUNK else [(opcode, content)]
            for inner, part in records:
                if inner == CHANNEL:
                    _, place = _text(part, 4)
                    found.add(_text(part, place)[0])
    return found


class _Records:
    """The messages of records; schemas and channels hold for all records after them."""

    def __init__(self) -> None:
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, tuple[str, Schema]] = {}

    def entries(self, file: BinaryIO) -> Iterator[Entry]:
        """The messages up to the first record that is not whole, those of a chunk in the order of their times."""
        for opcode, content in _whole_records(file):
            if opcode == MESSAGE:
                channel, _, time_ns, _ = MESSAGE_HEAD.unpack_from(content)
                yield (*self._channels[channel], time_ns, content[MESSAGE_HEAD.size :])
            elif opcode == CHUNK:
                yield from sorted(self.entries(BytesIO(_unpacked(content))), key=lambda entry: entry[2])
            elif opcode == CUT_CHUNK:
                yield from self.entries(BytesIO(_begun(content)))
            elif opcode == SCHEMA:
                name, place = _text(content, 2)
                encoding, place = _text(content, place)
                self._schemas[_number(content, 0)] = name, _text(content, place)[0] if encoding == "ros2msg" else ""
            elif opcode == CHANNEL:
                topic, _ = _text(content, 4)
                self._channels[_number(content, 0)] = topic, self._schemas[_number(content, 2)]
            elif opcode == DATA_END:
                return


def _whole_records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Opcode and content of every record up to the first that is not whole, and what there is of that if a chunk."""
    begin = file.tell()
    end = file.seek(0, 2)
    while end - begin >= RECORD.size:
        file.seek(begin)
        opcode, size = RECORD.unpack(file.read(RECORD.size))
        begin += RECORD.size + size
        if begin > end or opcode == 0:  # which no record has: some file systems leave zeros
            if opcode == CHUNK:
                yield CUT_CHUNK, file.read()
            return
        yield opcode, file.read(size)


def _unpacked(content: bytes) -> bytes:
    """The records in a chunk. Raises ValueError for one that is broken, and whatever else the unpacking makes of it."""
    _, _, size, checksum = CHUNK_HEAD.unpack_from(content)
    compression, place = _text(content, CHUNK_HEAD.size)
    records = UNPACK[compression](content[place + 8 :], size)  # after their length
    if len(records) != size or (checksum and zlib.crc32(records) != checksum):
        raise ValueError("a chunk does not fit its checksum")
    return records


def _begun(content: bytes) -> bytes:
    """The records in the beginning of a chunk that is cut off; none where it is compressed, or too short to tell."""
    try:
        compression, place = _text(content, CHUNK_HEAD.size)
    except (struct.error, UnicodeDecodeError):
        return b""
    return b"" if compression else content[place + 8 :]


def _number(content: bytes, place: int) -> int:
    return int.from_bytes(content[place : place + 2], "little")


def _text(content: bytes, place: int) -> tuple[str, int]:
    """A text and the place after it."""
    (size,) = struct.unpack_from("<I", content, place)
    return content[place + 4 : place + 4 + size].decode(), place + 4 + size
