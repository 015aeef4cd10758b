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
    LATE = "late stamp"  # overtaken by a newer one on the way
    JUMP_BACK = "time went backwards"  # a recording that starts again


class StampOrder:
    """Tells new stamps of one source from duplicates, late ones and a source that starts again.

    A stamp far below the newest is a new start. One slightly below is late; a second late one that follows
    the first in time is a new start too, or a recording shorter than REORDERING would never be seen again.
    """

    def __init__(self) -> None:
        self._newest = 0
        self._late = 0

    def judge(self, time_ns: int) -> Arrival:
        """How this stamp stands to the ones judged before; remembers it."""
        if time_ns == self._newest or time_ns == self._late:
            return Arrival.DUPLICATE
        if time_ns > self._newest:
            self._newest, self._late = time_ns, 0
            return Arrival.NEW
        if self._newest - time_ns < REORDERING and not 0 < self._late < time_ns:
            self._late = time_ns
            return Arrival.LATE
        self._newest, self._late = time_ns, 0
        return Arrival.JUMP_BACK
