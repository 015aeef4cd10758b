"""Signals that ask a process to end, and what its exit code may say."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

CANNOT_START = 2  # exit code: who started the process need not try again
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 0.5  # seconds between two looks whether a signal was heeded


@contextmanager
def unwinding_on_signals(*numbers: signal.Signals) -> Iterator[None]:
    """These signals leave the block through every `finally`, with the exit code that a shell gives them.

    What ignores one of them, as nohup makes it, goes on ignoring it. A signal in the middle of an import is one, too,
    though libraries make another error of it there. One that is lost, because it met a destructor or a library that
    takes every exception for its own, is raised again.
    """
    got: list[SystemExit] = []

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        for each in numbers:  # a second one must not meet the clean-up
            signal.signal(each, signal.SIG_IGN)
        got.append(SystemExit(128 + number))
        signal.signal(signal.SIGALRM, insist)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE, PATIENCE)
        raise got[0]

    def insist(number: int, frame: FrameType | None) -> None:
        if not _is_handled(got[0]):
            raise got[0]

    before = {number: signal.getsignal(number) for number in numbers}
    for number, act in before.items():
        if act is not signal.SIG_IGN:
            signal.signal(number, leave)
    try:
        yield
    except BaseException:
        if got:
            raise SystemExit(got[0].code) from None
        raise
    finally:
        if got:
            signal.setitimer(signal.ITIMER_REAL, 0)
        else:
            for number, act in before.items():
                signal.signal(number, act)


def _is_handled(awaited: BaseException) -> bool:
    """Whether an `except`, `finally` or `with` is at work because of this exception."""
    error = sys.exc_info()[1]
    while error is not None and error is not awaited:
        error = error.__context__
    return error is awaited
