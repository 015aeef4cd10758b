"""Signals that ask a process to end."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def unwind_on_signals() -> None:
    """SIGTERM and SIGHUP leave through every `finally`, as SIGINT does, with the exit code that a shell gives them.

    What ignores SIGHUP, as nohup makes it, goes on ignoring it.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second one must not meet the clean-up
    raise SystemExit(128 + number)
