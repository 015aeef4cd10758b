"""What a running node knows about itself: rate, latency of its stages, drops by cause and warnings."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import numpy as np

WINDOW = 512  # latencies remembered for a stage


class StageTimer:
    """Context manager that measures how long its block takes; remembers the last WINDOW durations in seconds.

    A block that raises is not counted: how long a failure takes says nothing about the work.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.durations: deque[float] = deque(maxlen=WINDOW)
        self._clock = clock
        self._started = 0.0

    def __enter__(self) -> StageTimer:
        self._started = self._clock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self.durations.append(self._clock() - self._started)

    def percentile(self, share: float) -> float:
        """The duration in seconds that `share` per cent of the remembered ones do not exceed."""
        return float(np.percentile(self.durations, share))


@dataclass(frozen=True)
class Report:
    """The figures of one reporting period.

    Attributes:
        warnings: one sentence for each thing that is not as it should be; empty when all is well.
        rate: finished measurements per second.
        values: names and formatted figures, in the order to be shown.
    """

    warnings: tuple[str, ...]
    rate: float
    values: dict[str, str]


class Monitor:
    """Collects what a node reports about itself. Memory is bounded by the number of stages and causes.

    Attributes:
        warnings: standing warnings, a sentence by topic of complaint; remove the entry when it is over.
        facts: further values to show, such as the engine in use.
        drops: number of dropped measurements by cause.
        processed: number of finished measurements.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.warnings: dict[str, str] = {}
        self.facts: dict[str, str] = {}
        self.drops: Counter[str] = Counter()
        self.processed = 0
        self._stages: dict[str, StageTimer] = {}
        self._events: list[str] = []
        self._clock = clock
        self._reported = (clock(), 0, 0)

    def stage(self, name: str) -> StageTimer:
        """The timer of a stage, to be used as `with monitor.stage("inference"):`."""
        return self._stages.setdefault(name, StageTimer())

    def drop(self, cause: str, count: int = 1) -> int:
        """Count dropped measurements; returns how many this cause has cost so far."""
        self.drops[cause] += count
        return self.drops[cause]

    def event(self, sentence: str) -> None:
        """A warning that belongs to the next report only."""
        self._events.append(sentence)

    def report(self) -> Report:
        """The figures since the last report; begins a new period."""
        then, processed, dropped = self._reported
        now, total_dropped = self._clock(), self.drops.total()
        self._reported = (now, self.processed, total_dropped)
        rate = (self.processed - processed) / max(now - then, 1e-9)

        warnings = [*self.warnings.values(), *self._events]
        if total_dropped > dropped:
            warnings.append(f"dropped {total_dropped - dropped} in the last {now - then:.0f} s")
        self._events = []

        values = {"rate_hz": f"{rate:.1f}", "processed": str(self.processed), **self.facts}
        values |= {f"drops.{cause}": str(count) for cause, count in sorted(self.drops.items())}
        for name, timer in self._stages.items():
            if timer.durations:
                values[f"latency.{name}.p50_ms"] = f"{timer.percentile(50) * 1e3:.2f}"
                values[f"latency.{name}.p99_ms"] = f"{timer.percentile(99) * 1e3:.2f}"
        return Report(tuple(warnings), rate, values)
