"""Files that are whole or absent, whatever ends the process that writes them, and folders that nothing is lost in."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

import psutil

from camtrack_core.errors import DataError

LONGEST_NAME = 255  # bytes, of a file or folder
JSON_MEMORY = 4  # bytes that a byte of a data set's JSON takes while it is read: measured, of records of some fields


@dataclass(frozen=True)
class FileVersion:
    """A file as it is at a time; another one is equal as long as nobody wrote to it or put a file in its place.

    Attributes:
        path: of the file.
        inode, size, time_ns: of what is there, zeros for nothing.
    """

    path: Path
    inode: int
    size: int
    time_ns: int

    @classmethod
    def of(cls, path: Path) -> FileVersion:
        """What is there now."""
        try:
            found = path.stat()
        except OSError:
            return cls(path, 0, 0, 0)
        return cls(path, found.st_ino, found.st_size, found.st_mtime_ns)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to instead of `path`, which appears, or changes, when the block has ended well.

    It is on the disk by then. Raises OSError, where `path` is as it was before.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: str | bytes) -> None:
    """The file appears, or changes, only when all of `data` is on the disk. Raises OSError."""
    with whole(path) as partial:
        partial.write_bytes(data.encode(errors="surrogateescape") if isinstance(data, str) else data)


def read_json(path: Path) -> Any:
    """The content of a JSON file, with or without a byte order mark.

    Raises DataError where it is missing or no JSON, or asks for more memory than there is.
    """
    try:
        expect_memory(path.stat().st_size * JSON_MEMORY, str(path))
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is broken: no JSON or cut off: {error}") from error


def expect_memory(needed: int, what: str) -> None:
    """Raises DataError where so many bytes of memory are not there to be taken."""
    available = psutil.virtual_memory().available
    if needed > available:
        raise DataError(f"{what}: expected it to fit into memory, needs {needed / 1e9:.1f} of {available / 1e9:.1f} GB")


def new_folder(path: Path, files: Collection[str] = ()) -> Path:
    """Makes a folder for a run's files: `path` or, where it holds one of them, the first of path-2, path-3 ... without.

    Args:
        path: as asked for.
        files: names of what will be written; none for anything.

    Raises DataError where it cannot be made.
    """
    path = path.resolve()
    for number in count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            taken = any(os.path.lexists(folder / name) for name in files) if files else any(folder.iterdir())
        except OSError as error:
            raise DataError(f"cannot write to {folder}: {error.strerror}") from error
        if not taken:
            break
    return folder


def named(folder: Path, name: str) -> Path:
    """A file in a folder, by a name that comes out of data.

    Raises DataError for a name that would lead elsewhere, or that no file can have.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name or any(ord(c) < 32 for c in name) or len(name) > 200:
        raise DataError(f"expected a name that a file in {folder} can have, got {name[:80]!r}")
    return folder / name


def below(root: Path, name: str) -> Path:
    """A file of a data set, by the path below its root that the data state.

    Raises DataError for a path that leaves the root, or that no file can have. Links within the root are followed:
    whoever keeps the data made them.
    """
    path = PurePosixPath(name)
    too_long = any(len(part.encode(errors="surrogatepass")) > LONGEST_NAME for part in path.parts)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name or too_long:
        raise DataError(f"expected the path of a file below {root}, got {name[:80]!r}")
    return root / path


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
