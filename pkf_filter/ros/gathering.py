"""Measurements of sensors that share their stamps, gathered by stamp; and which sensors are silent, told by stamps.

A recording may be played at any speed, and a process may be slow for as long as it likes: wall time does not tell
whether a result will come. How far the stamps of the others have gone on without it does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from camtrack_core.ros.messages.stamps import NANOSECONDS

RATE = 0.2  # of the fading means of a sensor's period and lag
MISSED = 3.0  # periods and lags of a sensor that may pass until it is silent
LONGEST = 10.0  # seconds; however slow a sensor has been, so long after its last result it is silent
ANSWERED_RATE = 0.05  # of the fading share of stamps that a sensor answers


@dataclass
class Pace:
    """When a sensor's results come, in seconds between stamps.

    Attributes:
        timeout: after which the sensor is silent, at least.
        newest_ns: stamp of its newest result, -1 before the first one.
        since_ns: from which its silence counts: its newest result, before that the first one of any sensor.
        period: between two of its results, fading mean; 0 until there are two.
        lag: of a result behind the newest one of any sensor when it comes, fading mean.
        answered: fading share of its group's stamps that it has answered in time.
    """

    timeout: float
    newest_ns: int = -1
    since_ns: int = -1
    period: float = 0.0
    lag: float = 0.0
    answered: float = 1.0

    def take(self, time_ns: int, front_ns: int) -> None:
        """A result has come, and the newest one of any sensor is of `front_ns`."""
        if 0 <= self.newest_ns < time_ns:
            gap = (time_ns - self.newest_ns) / NANOSECONDS
            self.period += RATE * (gap - self.period) if self.period else gap
        self.lag += RATE * ((front_ns - time_ns) / NANOSECONDS - self.lag)
        self.newest_ns = self.since_ns = max(self.newest_ns, time_ns)

    def allowance(self, period: float) -> float:
        """Seconds by which the newest stamp of any sensor may be ahead of this one's, whose results come so often."""
        return max(self.timeout, min(MISSED * (period + self.lag), LONGEST))


@dataclass
class _Group:
    members: tuple[str, ...]
    waiting: dict[int, dict[str, Any]] = field(default_factory=dict)  # by stamp, by sensor
    newest_ns: int = -1  # stamp that has come out


class Gathering:
    """Hands measurements on by stamp, once every sensor of the group has answered or is silent.

    Attributes:
        paces: by the name of the sensor.
        front_ns: the newest stamp of any sensor.
    """

    def __init__(self, groups: Iterable[tuple[str, ...]], timeouts: dict[str, float]) -> None:
        """`groups` holds every sensor once; a stamp's measurements come out in the order of its group."""
        self._groups = [_Group(members) for members in groups]
        self._timeouts = timeouts
        self.reset()

    def reset(self) -> None:
        """Time went backwards."""
        self.paces = {name: Pace(timeout) for name, timeout in self._timeouts.items()}
        self.front_ns = 0
        for group in self._groups:
            group.waiting.clear()
            group.newest_ns = -1

    def add(self, sensor: str, time_ns: int, measurement: Any) -> list[list[Any]]:
        """The sets of measurements that are complete with this one, oldest first.

        Args:
            measurement: None where the sensor has answered with nothing that can be used.
        """
        self.front_ns = max(self.front_ns, time_ns)
        self.paces[sensor].take(time_ns, self.front_ns)
        for pace in self.paces.values():
            if pace.since_ns < 0:
                pace.since_ns = self.front_ns
        group = next(group for group in self._groups if sensor in group.members)
        group.waiting.setdefault(time_ns, {})[sensor] = measurement
        complete = [(stamp, members) for each in self._groups for stamp, members in self._complete(each)]
        return [members for _, members in sorted(complete, key=lambda one: one[0])]

    def allowance(self, sensor: str) -> float:
        """Seconds by which the newest stamp of any sensor may be ahead of this one's.

        Who has answered once is expected as often as the others of its group: the second stamp of a slow recording may
        come later than a timeout.
        """
        pace = self.paces[sensor]
        group = next(group for group in self._groups if sensor in group.members)
        usual = max(self.paces[name].period for name in group.members)
        return pace.allowance(pace.period or (usual if pace.newest_ns >= 0 else 0.0))

    def is_silent(self, sensor: str) -> bool:
        return (self.front_ns - self.paces[sensor].since_ns) / NANOSECONDS > self.allowance(sensor)

    def _complete(self, group: _Group) -> list[tuple[int, list[Any]]]:
        complete = []
        for stamp in sorted(group.waiting):
            if any(self._may_answer(name, stamp, group) for name in group.members):
                break
            found = group.waiting.pop(stamp)
            complete.append((stamp, [found[name] for name in group.members if found.get(name) is not None]))
            if stamp <= group.newest_ns:  # it has come out without these
                continue
            group.newest_ns = stamp
            for name in group.members:
                pace = self.paces[name]
                pace.answered += ANSWERED_RATE * ((name in found) - pace.answered)
        return complete

    def _may_answer(self, sensor: str, stamp: int, group: _Group) -> bool:
        """Whether a result of this stamp may still come: neither it nor a newer one has, and the sensor speaks."""
        pace = self.paces[sensor]
        return pace.newest_ns < stamp and not self.is_silent(sensor)
