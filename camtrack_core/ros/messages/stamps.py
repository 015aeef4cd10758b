"""Stamps: ROS times as integer nanoseconds, and the order in which they arrive."""

from __future__ import annotations

from enum import Enum
from typing import Any

NANOSECONDS = 1_000_000_000
REORDERING = NANOSECONDS // 2  # a network does not hold a message back for longer than this
RESTART = 3  # stamps from long ago, one after the other, that are a new start


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
    LATE = "late stamp"  # overtaken by a newer one on the way, or a straggler from long ago; not seen before
    JUMP_BACK = "time went backwards"  # a recording that starts again


class StampOrder:
    """Tells new stamps of one source from duplicates, late ones and a source that starts again.

    One stamp that lies far back, more than `window` nanoseconds below the newest, is a straggler: late. So is any
    number of them with new ones in between, as when two publishers share a topic. RESTART of them that ascend one after
    the other are a new start. Stamps that have been there before count for that alike, or a recording shorter than the
    window would never be seen again.
    """

    def __init__(self, window: int = REORDERING) -> None:
        self.newest = 0
        self.window = window
        self._known: set[int] = set()
        self._run: list[int] = []  # the latest stamps that may be the beginning of a new start

    @property
    def may_start_again(self) -> int:
        """How many stamps in a row, the latest ones, may be the beginning of a new start."""
        return len(self._run)

    def judge(self, time_ns: int) -> Arrival:
        """How this stamp stands to the ones judged before; remembers it."""
        if time_ns > self.newest:
            self._known = {known for known in self._known if time_ns - known <= self.window} | {time_ns}
            self.newest, self._run = time_ns, []
            return Arrival.NEW
        known = time_ns in self._known
        if known or self.newest - time_ns > self.window:
            follows = self._run and time_ns > self._run[-1]
            self._run = [*self._run, time_ns] if follows else [time_ns]
            if len(self._run) == RESTART:
                self.newest, self._known, self._run = time_ns, set(self._run), []
                return Arrival.JUMP_BACK
        else:
            self._known.add(time_ns)
        return Arrival.DUPLICATE if known else Arrival.LATE


class SharedOrder:
    """The orders of several sources that live in one time.

    That time starts again where a source starts again and none goes on in the old one meanwhile. A source that starts
    again alone, as when its clock was set back, is late.
    """

    def __init__(self) -> None:
        self._orders: dict[str, StampOrder] = {}
        self._others: dict[str, dict[str, int]] = {}  # by source: newest stamps of others since it was back in time

    def judge(self, source: str, time_ns: int, max_lag: int = 0) -> Arrival:
        """How a stamp stands to those of its source; NEW as well where newer ones overtook it by at most `max_lag` ns.

        JUMP_BACK forgets what all sources have sent: theirs will start again as well.
        """
        order = self._orders.setdefault(source, StampOrder())
        order.window = max(max_lag, REORDERING)
        others = self._others.setdefault(source, {})
        newest, arrival = order.newest, order.judge(time_ns)
        if arrival is Arrival.NEW:
            for name in self._others.keys() - {source}:
                self._others[name][source] = time_ns
        elif arrival is Arrival.JUMP_BACK:
            if any(other - time_ns > order.window for other in others.values()):
                order.newest = newest
                return Arrival.LATE
            self._orders, self._others = {source: order}, {source: {}}
        elif order.may_start_again == 1:
            others.clear()
        if arrival is Arrival.LATE and newest - time_ns <= max_lag:
            return Arrival.NEW
        return arrival

    def reset(self) -> None:
        """Forget all stamps."""
        self._orders, self._others = {}, {}
