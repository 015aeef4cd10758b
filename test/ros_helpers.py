"""What tests of nodes share: nodes in this process, spun until something is true, and nodes in processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from camtrack_core.monitor import Level
from camtrack_core.parameter_files import read_parameters
from camtrack_core.ros.lifecycle.qos import DIAGNOSTICS
from camtrack_core.ros.messages.image import fill_image
from camtrack_core.ros.messages.stamps import fill_stamp

PATIENCE = 120.0  # seconds after which something is taken to never happen


class Graph:
    """Nodes of one private context that are spun together."""

    def __init__(self) -> None:
        self.context = Context()
        self.context.init(args=[])  # the domain is the test process's own
        self._executor = SingleThreadedExecutor(context=self.context)
        self._nodes: list[Any] = []

    def add(self, node: Any) -> Any:
        self._nodes.append(node)
        self._executor.add_node(node)
        return node

    def peer(self, name: str = "peer") -> Node:
        """A plain node to talk to the one under test."""
        return self.add(Node(name, context=self.context))

    def options(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Options of a node in this graph with these parameters."""
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        return {"context": self.context, "parameter_overrides": overrides}

    def start(self, kind: Callable[..., Any], **parameters: Any) -> Any:
        """A running node of ours."""
        node = self.add(kind(**self.options(parameters)))
        assert node.start()
        return node

    def spin_until(self, condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """Spin until the condition holds and return its value; fail if it never does."""
        deadline = time.monotonic() + patience
        while not (value := condition()):
            assert time.monotonic() < deadline, "expected a condition to come true, it never did"
            self._executor.spin_once(timeout_sec=0.05)
        return value

    def spin_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def close(self) -> None:
        for node in self._nodes:
            self._executor.remove_node(node)
            node.close() if hasattr(node, "close") else node.destroy_node()
        self._executor.shutdown()
        self.context.try_shutdown()


@contextmanager
def opened_graph() -> Iterator[Graph]:
    graph = Graph()
    try:
        yield graph
    finally:
        graph.close()


class Diagnostics:
    """The diagnostics that a peer hears."""

    def __init__(self, peer: Node) -> None:
        self._messages = collect(peer, DiagnosticArray, "/diagnostics", DIAGNOSTICS)

    def says(self, text: str) -> bool:
        """Whether any report so far contains the text, in its message or as `key=value`."""
        return any(text in report for report in self.reports())

    def reports(self) -> list[str]:
        """All so far, as `latest`."""
        return [self._text(status) for message in self._messages for status in message.status]

    def latest(self) -> str:
        return self._text(self._messages[-1].status[0]) if self._messages else ""

    def level(self) -> Level | None:
        """Of the latest report."""
        return Level(self._messages[-1].status[0].level[0]) if self._messages else None

    @staticmethod
    def _text(status: Any) -> str:
        return " ".join([status.message, *(f"{pair.key}={pair.value}" for pair in status.values)])


def image_message(time_ns: int, value: int = 0, height: int = 4, width: int = 6) -> Image:
    """A bgr8 image of one grey value."""
    message = fill_image(Image(), np.full((height, width, 3), value, np.uint8))
    fill_stamp(message.header.stamp, time_ns)
    message.header.frame_id = "camera"
    return message


def collect(node: Node, kind: type, topic: str, qos: Any) -> list[Any]:
    """A list that grows with the messages on a topic."""
    messages: list[Any] = []
    node.create_subscription(kind, topic, messages.append, qos)
    return messages


def start_process(code: str, *ros_arguments: str) -> subprocess.Popen[str]:
    """Python code as a process, all its output in one pipe."""
    arguments = ["--ros-args", *ros_arguments] if ros_arguments else []
    root = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": root},
    )


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Output of a process up to the line that contains the text; fail if it ends without."""
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if text in line:
            return output
    raise AssertionError(f"the process ended without saying '{text}':\n{output}")


K = [500.0, 0, 320, 0, 510, 180, 0, 0, 1]

SECOND = 1_000_000_000


def has_done_with(node: Any, count: int) -> bool:
    """Whether a node of ours has answered or dropped so many images."""
    return node.monitor.processed + sum(node.monitor.drops.values()) == count


def parameters_of(file: Path) -> dict[str, Any]:
    """What a file of parameters has for all nodes, by dotted names."""
    return dict(_flattened(read_parameters(file)))


def _flattened(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
