"""The timing of a replay: which frames, when each is due, and reading ahead of a slow source."""

from __future__ import annotations

import heapq
import queue
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from camtrack_core.datasets.frames import Frame, Sequence
from camtrack_core.datasets.sources import open_cameras, open_source
from camtrack_core.errors import DataError

T = TypeVar("T")

SLACK = 0.1  # seconds a frame may be late before the schedule moves instead of being caught up


class Pacer:
    """Tells when frames are due: their recorded distances divided by the rate.

    A source that falls behind moves the schedule: a burst of overdue frames would only be lost on the way. A frame that
    is no later than the first one, as after the end of a loop, is due at once and begins a new schedule.

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
        if self._first_ns is None or time_ns <= self._first_ns:
            self._first_ns, self._started = time_ns, now
        due = self._started + (time_ns - self._first_ns) / 1e9 / self._rate
        if now - due > SLACK:
            self._started += now - due
            self.behind += now - due
        return max(0.0, due - now)


@dataclass(frozen=True)
class CameraFrame:
    """A frame, and the name of the camera that took it."""

    camera: str
    frame: Frame

    @property
    def time_ns(self) -> int:
        return self.frame.time_ns


def together(cameras: Mapping[str, Sequence]) -> Iterator[CameraFrame]:
    """The frames of all cameras in the order of their stamps; where those are equal, in the order of the cameras."""
    return heapq.merge(*(_named(name, s) for name, s in cameras.items()), key=lambda taken: taken.time_ns)


def _named(name: str, sequence: Sequence) -> Iterator[CameraFrame]:
    for frame in sequence:
        yield CameraFrame(name, frame)


def rounds(frames: Iterable[CameraFrame]) -> Iterator[list[CameraFrame]]:
    """The frames in groups that hold each camera at most once: what the cameras saw at about the same time."""
    group: dict[str, CameraFrame] = {}
    try:
        for taken in frames:
            if taken.camera in group:
                yield list(group.values())
                group = {}
            group[taken.camera] = taken
    except DataError:  # what came before the fault is played
        yield list(group.values())
        raise
    if group:
        yield list(group.values())


def excerpt(frames: Iterable[CameraFrame], start: float, duration: float) -> Iterator[CameraFrame]:
    """The frames from `start` seconds after the first one on, for `duration` seconds."""
    first_ns: int | None = None
    for frame in frames:
        first_ns = frame.time_ns if first_ns is None else first_ns
        elapsed = (frame.time_ns - first_ns) / 1e9
        if elapsed >= start + duration:
            return
        if elapsed >= start:
            yield frame


def chosen_cameras(spec: str, names: Collection[str]) -> dict[str, Sequence]:
    """The cameras of these names of a recording, or of "all". Raises DataError where it has no such camera."""
    cameras = open_cameras(spec)
    if list(names) == ["all"]:
        return cameras
    unknown = [name for name in names if name not in cameras]
    if unknown:
        raise DataError(f"{spec}: expected the names of cameras, {', '.join(cameras)}, got {', '.join(unknown)}")
    return {name: cameras[name] for name in names}


def check_source(spec: str, cameras: Collection[str]) -> None:
    """Reads the first frame of a recording. Raises DataError where it cannot be played at all."""
    sequences = chosen_cameras(spec, cameras).values() if cameras else [open_source(spec)]
    if any(next(iter(sequence), None) is None for sequence in sequences):
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
