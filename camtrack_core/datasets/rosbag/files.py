"""The files of a bag, with or without the metadata.yaml that a recorder writes at its end."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from camtrack_core.datasets.rosbag.cut import Connection, CutOffMcap, encodings, is_cut_off
from camtrack_core.datasets.rosbag.unpacking import limit_reader, unpack_file, unpack_message
from camtrack_core.datasets.video import natural_key
from camtrack_core.errors import DataError

LOG = logging.getLogger(__name__)
SUFFIXES = (".mcap", ".db3")
STORAGES = ("mcap", "sqlite3")
COMPUTED = """
    SELECT 1 FROM sqlite_master WHERE type = 'view' OR sql LIKE 'create virtual%'
    UNION ALL SELECT 1 FROM sqlite_master AS made, pragma_table_xinfo(made.name) AS part WHERE part.hidden
"""  # a row for all that a database would make up rather than read
PACKED = (".zstd", ".zst", ".lz4", ".gz", ".bz2")


def is_storage(path: Path) -> bool:
    """Whether a file is, by its name, one of a bag, which may be compressed as a whole."""
    return path.suffix in SUFFIXES or (path.suffix in PACKED and path.with_suffix("").suffix in SUFFIXES)


def definition(connection: Any) -> str:
    """How the file defines a connection's type; empty where it does not."""
    if isinstance(connection, Connection):
        return connection.definition
    return connection.msgdef.data if connection.msgdef.format.name == "MSG" else ""


def open_files(path: Path) -> Any:
    """An open reader of rosbags for a bag's folder or file, or what stands in for one.

    Without metadata, or where a recorder was killed, the files are read one after the other.

    Raises:
        DataError: there is no file, or they are compressed in a way that is not known.
        Oversized: what they unpack to is larger than it may be. Whatever else broken bytes make of the reader.
    """
    from rosbags.rosbag2 import Reader

    limit_reader()
    files = sorted((p for p in path.iterdir() if is_storage(p)), key=natural_key) if path.is_dir() else [path]
    described = path.is_dir() and (path / "metadata.yaml").is_file()
    compressed = _compressed(path / "metadata.yaml") if described else None
    if compressed == "file":
        return _UnpackedFiles(files)
    if compressed == "message":
        return FilesInARow(files, unpack_message)
    cut_off = [file for file in files if file.suffix == ".mcap" and is_cut_off(file)]
    if compressed == "none" and not cut_off:
        for file in files:
            _check_stored(file)
        reader = Reader(path)
        reader.open()
        return reader
    packed = next((file for file in files if file.suffix in PACKED), None)
    if packed is not None:
        kind = packed.suffix.lstrip(".")
        raise DataError(
            f"bag {path}: {packed.name} is compressed as a whole ({kind}); expected it unpacked, or a metadata.yaml "
            "that says so"
        )
    if not files:
        raise DataError(f"bag {path}: expected {' or '.join(SUFFIXES)} files, found none")
    return FilesInARow(files)


def other_encodings(path: Path) -> str:
    """How the messages of a bag's mcap files are written, where it is not as ROS 2 does; empty where it is."""
    found: set[str] = set()
    for file in path.iterdir() if path.is_dir() else [path]:
        if file.suffix == ".mcap":
            with suppress(Exception):  # of broken files: what can be told is told
                found |= encodings(file)
    return ", ".join(sorted(found - {"cdr"}))


def _check_stored(file: Path) -> None:
    """Raises DataError for a database whose messages are computed: they may have any size, and no end.

    Also sqlite3.Error for one that is broken.
    """
    if file.suffix != ".db3":
        return
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
        if database.execute(COMPUTED).fetchone():
            raise DataError(f"bag {file}: expected messages that are stored in a table, got some that are computed")


def _compressed(metadata: Path) -> str | None:
    """What a metadata.yaml says is compressed, by zstd: none, message or file; None where it does not tell.

    Raises DataError for another compression.
    """
    try:
        said = yaml.safe_load(metadata.read_text())["rosbag2_bagfile_information"]
        mode, compression = said.get("compression_mode") or "", said.get("compression_format") or ""
        storage = said["storage_identifier"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        _warn(f"bag {metadata.parent}: metadata.yaml is broken; its files are read without it")
        return None
    mode = mode.lower()
    if mode not in ("", "none") and compression != "zstd":
        raise DataError(f"bag {metadata.parent}: expected it compressed by zstd or not at all, got {compression!r}")
    if storage not in STORAGES:
        _warn(f"bag {metadata.parent}: metadata.yaml names no storage; its files are read without it")
        return None
    return mode if mode in ("message", "file") else "none"


@cache  # a bag is opened several times
def _warn(sentence: str) -> None:
    LOG.warning("%s", sentence)


class FilesInARow:
    """Stands in for a reader of rosbags: the files of a recording that was split, one after the other.

    Args:
        unpack: makes a message of what is stored of it.

    Raises EOFError where not one message is whole.

    Attributes:
        topics: the connections by topic, with the messages of all files; connections: the same.
    """

    def __init__(self, files: list[Path], unpack: Callable[[bytes], bytes] = bytes) -> None:
        from rosbags.rosbag2 import Reader

        self._unpack = unpack
        self._readers: list[Any] = []
        self._fault: EOFError | None = None
        for file in files:
            _check_stored(file)
            if file.suffix == ".mcap" and is_cut_off(file):
                try:
                    self._readers.append(CutOffMcap(file))
                except EOFError as error:
                    self._fault = self._fault or error
            else:
                self._readers.append(Reader(file))
                self._readers[-1].open()
        if self._fault is not None and not self._readers:
            raise self._fault
        counts: dict[Connection, int] = {}
        for reader in self._readers:
            for found in reader.connections:
                key = Connection(found.topic, found.msgtype, definition(found))
                counts[key] = counts.get(key, 0) + found.msgcount
        self.connections = [
            Connection(found.topic, found.msgtype, found.definition, count) for found, count in counts.items()
        ]
        self.topics = {found.topic: found for found in self.connections}

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, time of recording and bytes of messages.

        Raises:
            EOFError: when all that are whole have been given, where a file is cut off.
        """
        wanted = {(found.topic, found.msgtype): found for found in connections}
        fault = self._fault
        for reader in self._readers:
            own = [found for found in reader.connections if (found.topic, found.msgtype) in wanted]
            try:
                for found, time_ns, data in reader.messages(own) if own else ():
                    yield wanted[found.topic, found.msgtype], time_ns, self._unpack(data)
            except EOFError as error:
                fault = fault or error
        if fault is not None:
            raise fault

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


class _UnpackedFiles(FilesInARow):
    """Of files that are compressed as a whole, which lie unpacked in a folder of their own until this is closed."""

    def __init__(self, files: list[Path]) -> None:
        self._folder = TemporaryDirectory(prefix="camtrack-bag-")
        try:
            super().__init__([self._unpacked(file) for file in files])
        except BaseException:
            self._folder.cleanup()
            raise

    def _unpacked(self, file: Path) -> Path:
        if file.suffix not in PACKED:
            return file
        target = Path(self._folder.name) / file.stem
        unpack_file(file, target)
        return target

    def close(self) -> None:
        super().close()
        self._folder.cleanup()
