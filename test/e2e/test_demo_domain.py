"""Two demos on one machine do not meet, and a terminal that is told the domain does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command_helpers import ROOT

from camtrack.demo.domain import DOMAIN, DOMAINS, REACH, _claim, _port, own_domain

# Joins a graph and says what it hears there, each voice once, until its input ends.
VOICE = """
import select, sys, rclpy
from camtrack.demo.domain import own_domain
from std_msgs.msg import String
with own_domain() as domain:
    print(domain, flush=True)
    rclpy.init()
    node, heard = rclpy.create_node("voice"), set()
    def hear(message):
        if message.data not in heard:
            heard.add(message.data)
            print(message.data, flush=True)
    said = node.create_publisher(String, "voices", 10)
    node.create_subscription(String, "voices", hear, 10)
    while not select.select([sys.stdin], [], [], 0)[0]:
        said.publish(String(data=sys.argv[1]))
        rclpy.spin_once(node, timeout_sec=0.1)
"""


@contextmanager
def voice(name: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    inherited = {key: value for key, value in os.environ.items() if key not in (DOMAIN, REACH)}
    process = subprocess.Popen(
        [sys.executable, "-c", VOICE, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**inherited, "PYTHONPATH": os.pathsep.join([str(ROOT), inherited.get("PYTHONPATH", "")]), **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def rest(process: subprocess.Popen[str]) -> set[str]:
    return set(process.communicate("\n")[0].split())


def test_two_graphs_do_not_meet_and_a_terminal_that_knows_the_domain_joins() -> None:
    with voice("first") as first, voice("second") as second:
        domain, other = line(first), line(second)
        assert domain != other
        with voice("guest", ROS_DOMAIN_ID=domain) as guest:
            assert line(guest) == domain
            assert {line(guest), line(guest)} == {"guest", "first"}
            assert {line(first), line(first)} == {"guest", "first"}
        # Meanwhile the guest and the first have found each other; the second has been there for as long.
        assert line(second) == "second"
        assert rest(second) == rest(first) == set()


def test_a_domain_is_claimed_once() -> None:
    """While the claim, or any participant's port, is kept; the kernel frees both with their processes."""
    last = DOMAINS[-1]  # the one that the fewest others ask for
    for participant in (0, 1, 17):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
            somebody.bind(("", _port(last, participant)))
            assert _claim(last) is None
    claim = _claim(last)
    assert claim is not None
    with claim:
        assert _claim(last) is None


def test_a_domain_that_is_given_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DOMAIN, "7")
    monkeypatch.delenv(REACH, raising=False)
    with own_domain() as domain:
        assert domain == "7" and REACH not in os.environ
    monkeypatch.delenv(DOMAIN)
    with own_domain() as domain:
        assert os.environ[DOMAIN] == domain != "7" and os.environ[REACH] == "LOCALHOST"
    assert DOMAIN not in os.environ and REACH not in os.environ
