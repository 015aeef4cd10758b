"""Signals that ask a process to end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def unwinding_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP leave the block through every `finally`, as SIGINT does, with the exit code that a shell gives
    them.

    What ignores SIGHUP, as nohup makes it, goes on ignoring it. A signal in the middle of an import is one, too, though
    libraries make another error of it there.
    """
    got: list[int] = []

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # a second one must not meet the clean-up
        got.append(number)
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)
    try:
        yield
    except BaseException:
        if got:
            raise SystemExit(128 + got[0]) from None
        raise
