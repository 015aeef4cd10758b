"""A process of nodes: runs them until a signal or one of them ends it, and says by its exit code how that went."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as rcl
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from camtrack_core import runtime
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.stopping import CANNOT_START, STOP_SIGNALS


def run(*make_nodes: Callable[[], CamtrackNode[Any]]) -> int:
    """Run nodes in one process until a signal or finish() of one ends them; returns the process's exit code.

    0 after SIGINT, SIGTERM, SIGHUP or finish(); CANNOT_START if a node could not start by itself, or ROS does not take
    the arguments or the environment of the process, which is told on standard error.
    """
    try:
        # rclpy's own handlers shut the context down under a running callback, which sometimes raises or hangs.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        executor = SingleThreadedExecutor()
        stop = _StopSignals(executor)
        nodes = [make_node() for make_node in make_nodes]
    except (rcl.RCLError, rcl.UnknownROSArgsError) as error:
        print(f"cannot start: {_refusal(error)}", file=sys.stderr)
        rclpy.try_shutdown()
        return CANNOT_START
    _hand_on(logging.getLogger(runtime.__name__), nodes[0].get_logger())
    for node in nodes:
        executor.add_node(node)
    try:
        if not all([node.start() for node in nodes]):
            return CANNOT_START
        for node in nodes:
            node.in_step()
        while not stop.received and all(node.exit_code is None for node in nodes):
            executor.spin_once()
        return max(node.exit_code or 0 for node in nodes)
    except KeyboardInterrupt:  # the second signal
        return 0
    finally:
        for node in nodes:
            executor.remove_node(node)
            node.close()
        stop.close()
        executor.shutdown()
        rclpy.try_shutdown()


def run_cameras(kind: Callable[..., CamtrackNode[Any]]) -> int:
    """Run a node for each camera that the arguments name in one process, in the namespace of its name; or one node.

    Returns the process's exit code: as `run`, and CANNOT_START for names that are not different.
    """
    # ROS's launch passes several names from one argument on as one
    cameras = [name for argument in remove_ros_args(sys.argv)[1:] for name in argument.split()]
    if not cameras:
        return run(kind)
    if len(set(cameras)) < len(cameras):
        got = " ".join(cameras)
        print(f"expected the names of different cameras, like front left right, got {got}", file=sys.stderr)
        return CANNOT_START
    return run(*(partial(kind, namespace=camera) for camera in cameras))


def _refusal(error: Exception) -> str:
    """What ROS does not take, in a sentence."""
    said = re.sub(r",? at /[^\s,]+", "", str(error))  # places in its own source
    if "security libraries" in said:
        return (
            "ROS_SECURITY_ENABLE asks for SROS 2, which takes a Fast DDS with security plugins; this one was built "
            "without, and the node does not run unprotected"
        )
    return f"expected arguments and an environment that ROS takes, got: {said}"


def _hand_on(source: logging.Logger, target: Any) -> None:
    """Lets what a part without ROS logs go the way of a node's own words."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = {logging.INFO: target.info, logging.WARNING: target.warning, logging.ERROR: target.error}
            said.get(record.levelno, target.debug)(record.getMessage())

    source.setLevel(logging.INFO)
    source.propagate = False
    source.addHandler(Handler())


class _StopSignals:
    """Remembers SIGINT, SIGTERM and SIGHUP; a second one interrupts whatever is running.

    A signal does not end the wait for messages, and until that is over Python calls no handler. But it writes the
    signal's number to a pipe at once: a thread that reads it gives the executor something to do.
    """

    def __init__(self, executor: Executor) -> None:
        self.received = False
        self._executor = executor
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write)
        self._waker = Thread(target=self._wake, daemon=True)
        self._waker.start()
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)

    def close(self) -> None:
        """From now on the handlers alone; call it before the executor is shut down."""
        signal.set_wakeup_fd(-1)
        os.close(self._write)
        self._waker.join()
        os.close(self._read)

    def _wake(self) -> None:
        while os.read(self._read, 1):
            self._executor.create_task(lambda: None)

    def _handle(self, number: int, frame: object) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
