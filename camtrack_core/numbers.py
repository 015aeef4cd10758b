"""Numbers out of text: integers stay integers, and what is none is refused; ids that are any text."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Integers

MOST_FRAMES = 10_000_000  # of a recording: four days at 25 a second
NOWHERE: Integers = np.zeros(0, np.int64)
LARGEST = 2**63 - 1  # an int64
NO_TRACK = ("", "-1")  # what stands where an id should, of a detection that is no track
FIRST_RENAMED = 1_000_000_000  # above what trackers count to


def integer(text: str) -> int:
    """The integer that a text states, also as 12.0 or 1e3.

    Raises ValueError for what is none, or does not fit into 64 bits. A float holds integers up to 2^53 only: digits
    never pass through one, and a larger number with a point or an exponent is refused.
    """
    word = text.strip()
    if word.isascii() and word.lstrip("+-").isdigit():
        value = int(word) if len(word) <= 20 else LARGEST + 1
    else:
        number = finite_number(word)
        if number % 1 or abs(number) > 2**53:
            raise ValueError(f"expected an integer, got {word!r}")
        value = int(number)
    if abs(value) > LARGEST:
        raise ValueError(f"expected an integer of 64 bits, got {word!r}")
    return value


def finite_number(text: str) -> float:
    """A finite number of plain digits. Raises ValueError for all else, like 1_0, superscripts and NaN."""
    word = text.strip()
    try:
        value = float(word) if word.isascii() and "_" not in word else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {word[:40]!r}")
    return value


def frame_number(text: str, first: int) -> int:
    """The number of a frame, which count from `first`. Raises ValueError for what no recording has."""
    value = integer(text)
    if not first <= value <= MOST_FRAMES:
        raise ValueError(f"expected a frame number from {first} to {MOST_FRAMES}, got {value}")
    return value


def read_text(path: Path) -> str:
    """A text in UTF-8, with or without a byte order mark. Raises DataError, naming the file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise DataError(f"cannot read {path}: expected a text in UTF-8") from None


def rows_of(keys: Integers) -> dict[int, Integers]:
    """The places of the rows of every frame, or id, that has any, in their order.

    Time and memory follow the rows, not the frames' numbers.
    """
    order = np.argsort(keys, kind="stable")
    numbers, starts = np.unique(keys[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)) if len(numbers) else {}


class IdNumbers:
    """Whole numbers for the ids of messages, which are any text: two ids never get the same one.

    Plain decimals stand for themselves; others, like UUIDs, are numbered as they come.

    Attributes:
        renamed: the numbers of those that do not stand for themselves.
    """

    def __init__(self) -> None:
        self.renamed: dict[str, int] = {}
        self._taken: dict[int, str] = {}
        self._next = FIRST_RENAMED

    def __getitem__(self, text: str) -> int:
        """The number of an id; -1 of a detection that is no track."""
        if text in NO_TRACK:
            return -1
        known = self.renamed.get(text)
        if known is not None:
            return known
        if _is_plain(text) and self._taken.setdefault(int(text), text) == text:
            return int(text)
        while self._next in self._taken:
            self._next += 1
        self._taken[self._next] = text
        self.renamed[text] = self._next
        return self._next


def _is_plain(text: str) -> bool:
    """Whether a text is how a whole number of 63 bits is written: 007 is not, 7 is."""
    return text.isascii() and text.isdigit() and len(text) <= 19 and str(int(text)) == text and int(text) <= LARGEST
