"""Stamps: ROS times as integer nanoseconds, and the order in which they arrive."""

from __future__ import annotations

from enum import Enum
from typing import Any

NANOSECONDS = 1_000_000_000
REORDERING = NANOSECONDS // 2  # a network does not hold a message back for longer than this


def to_nanoseconds(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces Time."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def fill_stamp(stamp: Any, time_ns: int) -> Any:
    """Write nanoseconds into a builtin_interfaces Time and return it."""
    stamp.sec, stamp.nanosec = divmod(int(time_ns), NANOSECONDS)
    return stamp


class Arrival(Enum):
    """How a stamp stands to those before it."""

    NEW = "new"
    DUPLICATE = "duplicate stamp"
    LATE = "late stamp"  # overtaken by a newer one on the way, not seen before
    JUMP_BACK = "time went backwards"  # a recording that starts again


class StampOrder:
    """Tells new stamps of one source from duplicates, late ones and a source that starts again.

    A stamp more than `window` nanoseconds below the newest is a new start. Nearer ones are late, or duplicates where
    they have been there before; a second such duplicate that follows the first in time is a new start too, or a
    recording shorter than the window would never be seen again.
    """

    def __init__(self, window: int = REORDERING) -> None:
        self.newest = 0
        self._window = window
        self._known: set[int] = set()
        self._repeated = 0

    def judge(self, time_ns: int) -> Arrival:
        """How this stamp stands to the ones judged before; remembers it."""
        if time_ns > self.newest:
            self._known = {known for known in self._known if time_ns - known <= self._window} | {time_ns}
            self.newest, self._repeated = time_ns, 0
            return Arrival.NEW
        if time_ns == self.newest:
            return Arrival.DUPLICATE
        if self.newest - time_ns > self._window or (time_ns in self._known and 0 < self._repeated < time_ns):
            self.newest, self._known, self._repeated = time_ns, {time_ns}, 0
            return Arrival.JUMP_BACK
        if time_ns in self._known:
            self._repeated = time_ns
            return Arrival.DUPLICATE
        self._known.add(time_ns)
        return Arrival.LATE
