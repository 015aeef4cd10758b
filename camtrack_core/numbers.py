"""Numbers out of text: integers stay integers, however large, and what is none is refused."""

from __future__ import annotations

LARGEST = 2**63 - 1  # an int64


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
