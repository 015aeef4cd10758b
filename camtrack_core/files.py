"""Files that are whole or absent, whatever ends the process that writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
