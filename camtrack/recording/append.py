"""Files that grow by whole pieces."""

from __future__ import annotations

import os
from pathlib import Path

from camtrack_core.errors import DataError


class AppendedFile:
    """A file, made anew, that grows by whole pieces: what does not fit on the disk is taken back, the rest stays valid.

    Raises DataError where it cannot be written, or is there already.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb", buffering=0)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}") from error

    def append(self, data: bytes) -> int:
        """All of the data or, with a DataError, nothing; returns where it begins."""
        place = self._file.tell()
        try:
            written = self._file.write(data)
            while written < len(data):  # a disk that fills up takes a part of it first
                written += self._file.write(data[written:])
        except OSError as error:
            self._file.truncate(place)
            self._file.seek(place)
            raise DataError(f"cannot write {self._path}: {error.strerror}") from error
        return place

    def change(self, place: int, data: bytes) -> None:
        """Writes over what is there."""
        os.pwrite(self._file.fileno(), data, place)

    def close(self) -> None:
        self._file.close()
