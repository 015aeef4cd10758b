"""What a running node knows about itself: rate, latency of its stages, drops by cause and warnings."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType

import numpy as np

WINDOW = 512  # latencies remembered for a stage


class Level(IntEnum):
    """How a node is, in the numbers of diagnostic_msgs. docs/diagnostics.md says what leads to which.

    OK: all is well. WARN: something was dropped in the last period, or is not as it should be. ERROR: the node does not
    do its work. STALE: it is not active or hears nothing, so that its figures are old.
    """

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


RISING = (Level.OK, Level.WARN, Level.STALE, Level.ERROR)  # a fault is worse than silence


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
        level: the worst of the warnings.
        warnings: one sentence for each thing that is not as it should be; empty when all is well.
        rate: finished measurements per second.
        values: names and formatted figures, in the order to be shown.
    """

    level: Level
    warnings: tuple[str, ...]
    rate: float
    values: dict[str, str]


class Monitor:
    """Collects what a node reports about itself. Memory is bounded by the number of stages and causes.

    Attributes:
        warnings: standing warnings, a sentence by topic of complaint; remove the entry when it is over.
        levels: of the standing warnings that are not WARN.
        facts: further values to show, such as the engine in use.
        drops: number of dropped measurements by cause.
        processed: number of measurements whose result is out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.warnings: dict[str, str] = {}
        self.levels: dict[str, Level] = {}
        self.facts: dict[str, str] = {}
        self.drops: Counter[str] = Counter()
        self.processed = 0
        self._stages: dict[str, StageTimer] = {}
        self._events: dict[str, tuple[Level, str]] = {}
        self._clock = clock
        self._reported = (clock(), 0, 0)

    def stage(self, name: str) -> StageTimer:
        """The timer of a stage, to be used as `with monitor.stage("inference"):`."""
        return self._stages.setdefault(name, StageTimer())

    def record(self, stage: str, seconds: float) -> None:
        """A duration of a stage that was measured elsewhere."""
        self.stage(stage).durations.append(seconds)

    def drop(self, cause: str, count: int = 1) -> int:
        """Count dropped measurements; returns how many this cause has cost so far."""
        self.drops[cause] += count
        return self.drops[cause]

    def event(self, sentence: str, level: Level = Level.WARN, subject: str = "") -> None:
        """A warning that belongs to the next report only; of several about one subject, the last."""
        self._events[subject or sentence] = level, sentence

    def report(self) -> Report:
        """The figures since the last report; begins a new period."""
        then, processed, dropped = self._reported
        now, total_dropped = self._clock(), self.drops.total()
        self._reported = (now, self.processed, total_dropped)
        rate = (self.processed - processed) / max(now - then, 1e-9)

        warnings = [(self.levels.get(subject, Level.WARN), text) for subject, text in self.warnings.items()]
        warnings += self._events.values()
        if total_dropped > dropped:
            warnings.append((Level.WARN, f"dropped {total_dropped - dropped} in the last {now - then:.0f} s"))
        self._events = {}

        values = {"rate_hz": f"{rate:.1f}", "processed": str(self.processed), **self.facts}
        values |= {f"drops.{cause}": str(count) for cause, count in sorted(self.drops.items())}
        for name, timer in self._stages.items():
            if timer.durations:
                values[f"latency.{name}.p50_ms"] = f"{timer.percentile(50) * 1e3:.2f}"
                values[f"latency.{name}.p99_ms"] = f"{timer.percentile(99) * 1e3:.2f}"
        level = max((level for level, _ in warnings), key=RISING.index, default=Level.OK)
        return Report(level, tuple(sentence for _, sentence in warnings), rate, values)
