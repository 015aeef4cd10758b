"""Measurements that come late, and the ids of tracks, which both trackers keep in the same way.

A measurement older than the newest is sorted in as if it had come in time: back to the tracks before the first newer
one, and then all of them again. What has been shown must not change by that, so every measurement remembers which
tracks its rows have started.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from camtrack_core.errors import CamtrackError
from camtrack_core.geometry.boxes import Integers

SECOND = 1_000_000_000  # nanoseconds
MAX_BUFFERED = 256  # measurements that late ones can be sorted into

State = TypeVar("State")


class TimeError(CamtrackError):
    """A measurement older than the filter's state."""

    cause = "older than the state"


@dataclass
class Entry(Generic[State]):
    """One measurement, and the tracks just before it with their time, nanoseconds, None where there was none.

    `ids` are those of the tracks that its rows have started.
    """

    time_ns: int
    before_ns: int | None
    before: State
    ids: dict[int, int] = field(default_factory=dict)


EntryT = TypeVar("EntryT", bound=Entry)


class History(Generic[EntryT]):
    """The last measurements in the order of their stamps, and the ids that were given away."""

    def __init__(self) -> None:
        self.entries: deque[EntryT] = deque()
        self._next_id = 1
        self._fresh = 1  # the first id that nobody had seen before the measurement which is being sorted in

    def clear(self) -> None:
        """Forget all measurements; ids are not used again."""
        self.entries.clear()

    def back_to(self, time_ns: int, newest_ns: int | None, max_lag: float) -> list[EntryT]:
        """Take back the measurements newer than a stamp, oldest first: they are to be processed again after it.

        Args:
            newest_ns: stamp of the newest measurement; max_lag: seconds that one may be older.

        Raises:
            TimeError: the stamp is older than that, or than what is kept.
        """
        self._fresh = self._next_id
        if newest_ns is None or time_ns >= newest_ns:
            return []
        later = [entry for entry in self.entries if entry.time_ns > time_ns]
        before_ns = later[0].before_ns
        oldest_ns = max(newest_ns - round(max_lag * SECOND), time_ns if before_ns is None else before_ns)
        if time_ns < oldest_ns:
            raise TimeError(f"expected a stamp of at least {oldest_ns} ns, got {time_ns} ns; reset to start afresh")
        for _ in later:
            self.entries.pop()
        return later

    def forget(self, newest_ns: int, max_lag: float) -> None:
        """Drop the measurements that no late one can come before."""
        oldest_ns = newest_ns - round(max_lag * SECOND)
        entries = self.entries
        while len(entries) > MAX_BUFFERED or (len(entries) > 1 and entries[1].time_ns < oldest_ns):
            entries.popleft()

    def id_of(self, entry: EntryT, row: int) -> int:
        """The id of the track that a row starts: the same one when its measurement is processed again."""
        if row not in entry.ids:
            entry.ids[row] = self._next_id
            self._next_id += 1
        return entry.ids[row]

    def keep_ids(self, entry: EntryT, assignment: Integers, ids: Integers) -> Integers:
        """(N,) ids of the tracks: where a late measurement has just started the track that this one had started
        before, the old id stays.

        Args:
            assignment: (M,) the most probable track of each row, -1 for none; ids: (N,) as they are, not changed.
        """
        for row, known in entry.ids.items():
            column = assignment[row]
            if column < 0 or known in ids or ids[column] < self._fresh:
                continue
            ids = ids.copy()
            renamed, ids[column] = ids[column], known
            for other in self.entries:
                other.ids = {r: known if track == renamed else track for r, track in other.ids.items()}
        return ids
