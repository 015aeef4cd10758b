"""The process of a node: signals, a failed start, an end of its own."""

from __future__ import annotations

import signal
import time

import pytest
from ros_helpers import PATIENCE, read_until, start_process

NODE = """
import sys, time
from camtrack_core.config import ImageNodeParameters
from camtrack_core.ros.lifecycle.image_input import ImageInput
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.run import run

class Parameters(ImageNodeParameters):
    threshold: float = 0.5
    finish: bool = False
    hangs: bool = False

class Plain(CamtrackNode):
    def __init__(self):
        super().__init__("plain", Parameters)
    def configure(self, parameters):
        ImageInput(self, "image", lambda *_: None, parameters)
        if parameters.hangs:
            print("it is being configured")
            time.sleep(60)
    def activate(self):
        self.get_logger().info("it is up")
        if self.parameters.finish:
            self.repeat(0.1, lambda: self.finish(5))
    def cleanup(self):
        self.get_logger().info("it is cleaned up")

sys.exit(run(Plain))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_cleanly(number):
    process = start_process(NODE)
    read_until(process, "it is up")
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "it is cleaned up" in output and "Traceback" not in output


def test_a_signal_ends_a_process_that_nothing_else_wakes_up():
    silent = "import camtrack_core.ros.lifecycle.node as base; base.DIAGNOSTIC_PERIOD = 3600.0\n"
    process = start_process(silent + NODE)
    read_until(process, "it is up")
    time.sleep(1.0)  # it waits for messages by then
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "it is cleaned up" in output


def test_a_second_signal_ends_a_process_that_is_being_configured():
    process = start_process(NODE, "-p", "hangs:=true")
    read_until(process, "it is being configured")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "Traceback" not in output


def test_a_failed_autostart_ends_the_process_with_a_sentence():
    process = start_process(NODE, "-p", "threshold:=high")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "Traceback" not in output
    assert "cannot configure: parameter 'threshold': expected a valid number" in output and "'high'" in output


@pytest.mark.parametrize(
    "arguments", [("--bogus",), ("-r", "foo"), ("-r", "__node:=a-b"), ("--params-file", "no.yaml"), ("-p", "x:=")]
)
def test_arguments_that_ros_does_not_take_end_the_process_with_a_sentence(arguments):
    process = start_process(NODE, *arguments)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "Traceback" not in output
    (said,) = [line for line in output.splitlines() if line.startswith("cannot start: expected arguments")]
    assert arguments[-1] in said and "/src/" not in said


def test_a_node_can_end_its_process():
    process = start_process(NODE, "-p", "finish:=true")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 5
