"""Entry points of the nodes: what goes wrong before they are up is a line, not a traceback."""

from __future__ import annotations

import signal
import sys
from importlib import import_module

from camtrack_core.stopping import CANNOT_START, unwinding_on_signals

INTERRUPTED = 130  # exit code: 128 + SIGINT


def start(module: str) -> int:
    """Imports a module and runs its main; returns the process's exit code."""
    try:
        try:
            with unwinding_on_signals(signal.SIGINT):
                main = import_module(module).main
        except ImportError as error:
            remedy = "./run installs what is missing; on a ROS host: rosdep install --from-paths . --ignore-src"
            print(f"{module}: cannot be imported: {error}; {remedy}", file=sys.stderr)
            return CANNOT_START
        except SystemExit:
            raise KeyboardInterrupt from None
        return int(main())
    except KeyboardInterrupt:  # a node that is up has its own way to end
        print(f"{module}: interrupted while it started", file=sys.stderr)
        return INTERRUPTED


def main_gcnet_tracker() -> int:
    return start("gcnet_tracker.node")


def main_time3d_tracker() -> int:
    return start("time3d_tracker.node")


def main_pkf_filter() -> int:
    return start("pkf_filter.ros.node")


def main_autoware() -> int:
    return start("pkf_filter.ros.autoware")


def main_replay() -> int:
    return start("camtrack.nodes.replay")


def main_recorder() -> int:
    return start("camtrack.nodes.recorder")


def main_space_recorder() -> int:
    return start("camtrack.nodes.space_recorder")
