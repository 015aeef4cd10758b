"""Numbers out of text: integers stay integers, however large, and what is none is refused; ids that are any text."""

from __future__ import annotations

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
        number = float(word)
        if number != number // 1 or abs(number) > 2**53:  # NaN and infinity included
            raise ValueError(f"expected an integer, got {word!r}")
        value = int(number)
    if abs(value) > LARGEST:
        raise ValueError(f"expected an integer of 64 bits, got {word!r}")
    return value


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
