"""Signals that ask a process to end: the shell's exit code and no traceback, wherever they meet it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = """
import os, signal, time
from camtrack_core.stopping import unwinding_on_signals
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background may ignore it
{before}
with unwinding_on_signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep({seconds})
    {handler}
print("went on")
"""
UNWINDS = "finally: print('cleaned up')"
# As libraries do that are being imported.
SWALLOWS = "except BaseException: print('swallowed')\n    while True: time.sleep(0.01)"
TRANSLATES = "except SystemExit as error: raise ImportError('initialization failed') from error"


def run(name: str, handler: str, before: str = "", seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """A process that gets a signal in a block."""
    code = BLOCK.format(name=name, handler=handler, before=before, seconds=seconds)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("handler", [UNWINDS, TRANSLATES])
def test_the_exit_code_is_that_of_the_signal(name: str, code: int, handler: str) -> None:
    ended = run(name, handler)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert ended.stdout == ("cleaned up\n" if handler is UNWINDS else "")


def test_a_signal_that_a_library_swallows_is_raised_again() -> None:
    ended = run("SIGINT", SWALLOWS)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "swallowed\n", "")


def test_a_clean_up_is_not_interrupted_however_long_it_takes() -> None:
    handler = "finally: time.sleep(1.6); os.kill(os.getpid(), signal.SIGTERM); print('cleaned up')"
    ended = run("SIGINT", handler)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "cleaned up\n", "")


def test_a_signal_that_meets_a_destructor_is_raised_again() -> None:
    """Whose exceptions Python prints and forgets."""
    fragile = "class Fragile:\n    def __del__(self): os.kill(os.getpid(), signal.SIGTERM); time.sleep(0)\n"
    ended = run("SIGCHLD", "finally: Fragile()\n    while True: time.sleep(0.01)", before=fragile, seconds=0.0)
    assert (ended.returncode, ended.stdout) == (143, "") and "Exception ignored" in ended.stderr


def test_an_error_without_a_signal_is_an_error() -> None:
    ended = run("SIGCHLD", "finally: raise ValueError('a bug')", seconds=0.0)  # which asks nobody to end
    assert ended.returncode == 1 and "ValueError: a bug" in ended.stderr


def test_what_ignores_hang_ups_goes_on_ignoring_them() -> None:
    ended = run("SIGHUP", "finally: pass", before="signal.signal(signal.SIGHUP, signal.SIG_IGN)", seconds=0.0)
    assert (ended.returncode, ended.stdout) == (0, "went on\n")
