"""The timing of a replay: which frames, when each is due, and reading ahead of a slow source."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError

T = TypeVar("T")

SLACK = 0.1  # seconds a frame may be late before the schedule moves instead of being caught up


class Pacer:
    """Tells when frames are due: their recorded distances divided by the rate.

    A source that falls behind moves the schedule: a burst of overdue frames would only be lost on the way.

    Attributes:
        behind: seconds by which the schedule has moved so far.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.behind = 0.0
        self._rate = rate
        self._clock = clock
        self._first_ns: int | None = None
        self._started = 0.0

    def delay(self, time_ns: int) -> float:
        """Seconds from now until a frame with this stamp is due; at least 0."""
        now = self._clock()
        if self._first_ns is None:
            self._first_ns, self._started = time_ns, now
        due = self._started + (time_ns - self._first_ns) / 1e9 / self._rate
        if now - due > SLACK:
            self._started += now - due
            self.behind += now - due
        return max(0.0, due - now)


def excerpt(frames: Iterable[Frame], start: float, duration: float) -> Iterator[Frame]:
    """The frames from `start` seconds after the first one on, for `duration` seconds."""
    first_ns: int | None = None
    for frame in frames:
        first_ns = frame.time_ns if first_ns is None else first_ns
        elapsed = (frame.time_ns - first_ns) / 1e9
        if elapsed >= start + duration:
            return
        if elapsed >= start:
            yield frame


def check_source(spec: str) -> None:
    """Reads the first frame of a recording. Raises DataError where it cannot be played at all."""
    if next(iter(open_source(spec)), None) is None:
        raise DataError(f"{spec}: expected at least one frame, found none")


def read_ahead(items: Iterable[T], capacity: int) -> Generator[T, None, None]:
    """The items, made by a thread that is at most `capacity` items ahead.

    What making them raises is raised here, in its place. Closing the iterator ends the thread.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(capacity)
    closed = threading.Event()

    def work() -> None:
        try:
            for item in items:
                ready.put((item, None))
                if closed.is_set():
                    return
            ready.put((None, StopIteration()))
        except Exception as error:  # handed over to the reader
            ready.put((None, error))

    thread = threading.Thread(target=work, name="read_ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        closed.set()
        while thread.is_alive():  # it may be waiting for room, perhaps more than once
            with suppress(queue.Empty):
                ready.get(timeout=0.05)
