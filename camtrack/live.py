"""The live table: the latest diagnostics of every node of a running system, a line a node or all that they say."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from camtrack_core.monitor import Level
from camtrack_core.stopping import unwinding_on_signals

STAGES = ("age", "convert", "resize", "inference", "inference and track", "track", "predict", "associate", "update",
          "publish", "write", "total", "end to end")  # fmt: skip
GRAPH = ("inference", "inference and track", "track")  # the first of these stages that a node has runs its network
STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.ERROR: "red", Level.STALE: "dim"}
SNAPSHOT = 3.0  # seconds in which every node reports at least twice
FOREVER = float("inf")


class DiagnosticsTable:
    """The latest diagnostics of each node, as tables. Whoever is on the ROS domain may say anything there.

    Attributes:
        latest: level, message and values of each node, by its full name.
    """

    def __init__(self) -> None:
        self.latest: dict[str, tuple[Level, str, dict[str, str]]] = {}

    def take(self, message: Any) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            level = Level(status.level[0]) if status.level[0] in set(Level) else Level.ERROR
            self.latest[status.name] = (level, status.message, values)

    def summary(self) -> Table:
        """A line a node, at most 60 columns wide."""
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("node", no_wrap=True, overflow="ellipsis", max_width=22)
        table.add_column("level", no_wrap=True)
        for name in ("rate Hz", "age ms", "graph ms", "drops"):
            table.add_column(name, justify="right", no_wrap=True)
        names = short_names(list(self.latest))
        for name, (level, _, values) in sorted(self.latest.items()):
            graph = next((stage for stage in GRAPH if f"latency.{stage}.p50_ms" in values), "")
            drops = [count for key, count in values.items() if key.startswith("drops.") and count.isdecimal()]
            table.add_row(
                Text(names[name]), Text(level.name, STYLES[level]), Text(values.get("rate_hz", "")),
                Text(_median(values, "age")), Text(_median(values, graph)), str(sum(map(int, drops))),
            )  # fmt: skip
        return table

    def details(self) -> Table:
        """All that the nodes say, for a wide window."""
        table = Table("node", "rate (Hz)", "frames", "tracks", "latency p50 / p99 (ms)", "remarks")
        names = short_names(list(self.latest))
        for name, (level, message, values) in sorted(self.latest.items()):
            latencies = [
                f"{stage} {values[f'latency.{stage}.p50_ms']}/{values.get(f'latency.{stage}.p99_ms', '')}"
                for stage in STAGES
                if f"latency.{stage}.p50_ms" in values
            ]
            drops = [f"{key.removeprefix('drops.')}: {n}" for key, n in values.items() if key.startswith("drops.")]
            remarks = ", ".join(drops) or ("" if message.startswith(values.get("state", "")) else message)
            said = (values.get("rate_hz", ""), values.get("processed", ""), values.get("tracks", ""))
            row = map(Text, (*said, "\n".join(latencies), remarks))
            table.add_row(Text(names[name], STYLES[level]), *row)
        return table


def _median(values: dict[str, str], stage: str) -> str:
    text = values.get(f"latency.{stage}.p50_ms", "")
    try:
        return f"{float(text):.0f}"
    except ValueError:  # none, or the words of a stranger
        return text


def short_names(names: list[str]) -> dict[str, str]:
    """Full names without the namespace that all of them share."""
    parts = [name.split("/")[:-1] for name in names]
    shared = 0
    while parts and all(len(p) > shared and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return {name: "/".join(name.split("/")[shared:]) for name in names}


class Listener(DiagnosticsTable):
    """Hears the diagnostics with a node that others may add subscriptions to."""

    def __init__(self, node: Any, executor: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        from camtrack_core.ros.lifecycle.qos import DIAGNOSTICS

        super().__init__()
        self.node, self._executor = node, executor
        node.create_subscription(DiagnosticArray, "/diagnostics", self.take, DIAGNOSTICS)

    def wait(self, seconds: float) -> None:
        """Serves callbacks for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)


@contextmanager
def listening(name: str) -> Iterator[Listener]:
    """A listener to the diagnostics, in a node of this name."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, executor = rclpy.create_node(name), SingleThreadedExecutor()
    executor.add_node(node)
    try:
        yield Listener(node, executor)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def show(console: Console, draw: Callable[[DiagnosticsTable], Table], seconds: float = FOREVER) -> None:
    """A table of all nodes on the console until Ctrl-C, or for so long."""
    end = time.monotonic() + seconds
    with (
        suppress(SystemExit),
        unwinding_on_signals(signal.SIGINT),
        listening("camtrack_top") as heard,
        Live(console=console, refresh_per_second=4) as live,
    ):
        while time.monotonic() < end:
            heard.wait(0.25)
            live.update(draw(heard) if heard.latest else Text("no diagnostics of any node so far"))


def snapshot() -> list[dict[str, Any]]:
    """What every node reports, as it stands after some seconds."""
    with unwinding_on_signals(signal.SIGINT), listening("camtrack_top") as heard:
        heard.wait(SNAPSHOT)
    return [
        {"node": name, "level": level.name, "message": message, "values": values}
        for name, (level, message, values) in sorted(heard.latest.items())
    ]
