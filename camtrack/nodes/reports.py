"""What nodes say in `/diagnostics`, and what it tells of an image that was sent and has not led to a result yet."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from camtrack_core.ros.lifecycle.node import ANSWERED, TAKEN

ENOUGH = 3  # reports of a node after which it must have seen an image, if that arrived
GONE = 60.0  # seconds without a report after which a node is waited for no more
DROPS = "drops."


@dataclass(frozen=True)
class Report:
    """The newest diagnostics of a node.

    Attributes:
        number: how many there have been.
        came: monotonic seconds.
        values: what they say, by key.
    """

    number: int
    came: float
    values: Mapping[str, str]

    def has_taken(self, images: Mapping[str, int]) -> bool:
        """Whether all these images, stamps in nanoseconds by topic, have arrived."""
        return all(self.values.get(TAKEN + topic) == str(time_ns) for topic, time_ns in images.items())

    def has_answered(self, images: Mapping[str, int]) -> bool:
        return all(self.values.get(ANSWERED + topic) == str(time_ns) for topic, time_ns in images.items())

    @property
    def drops(self) -> int:
        """Measurements that the node has dropped so far."""
        return sum(int(value) for key, value in self.values.items() if key.startswith(DROPS))


class Reports(dict[str, Report]):
    """The newest report of each node, by its full name."""

    def hear(self, message: Any) -> None:
        """Take in a DiagnosticArray."""
        for status in message.status:
            number = self[status.name].number + 1 if status.name in self else 1
            values = {pair.key: pair.value for pair in status.values}
            self[status.name] = Report(number, time.monotonic(), values)


class Sending:
    """Images of one moment that are about to be sent, and what those at work say from then on."""

    def __init__(self, reports: Reports, expected: Mapping[str, Mapping[str, int]]) -> None:
        """`expected` holds, by the names of those at work, the images that each should get: stamps by topic."""
        self._reports = reports
        self._expected = expected
        self._before = {name: reports[name] for name in expected if name in reports}

    def is_worked_on(self) -> bool:
        """Whether somebody lives who has not reported often enough to have seen the images, or has not done with them.

        With an image is done who has answered it, and who has dropped anything since.
        """
        now = time.monotonic()
        alive = [name for name in self._before if now - self._reports[name].came < GONE]
        return any(self._is_busy(name) for name in alive)

    def _is_busy(self, name: str) -> bool:
        before, report, images = self._before[name], self._reports[name], self._expected[name]
        if report.number < before.number + ENOUGH:
            return True
        return report.has_taken(images) and not report.has_answered(images) and report.drops == before.drops

    def may_be_lost(self) -> bool:
        """Whether somebody says that it lacks the images, or nobody tells which ones have arrived."""
        takers = {name: images for name, images in self._expected.items() if images}
        said = [
            self._reports[name].has_taken(images)
            for name, images in takers.items()
            if name in self._reports and any(key.startswith(TAKEN) for key in self._reports[name].values)
        ]
        return not said or not all(said)
