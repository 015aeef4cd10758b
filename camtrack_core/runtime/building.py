"""Serving while an engine is built: another session computes until TensorRT's is ready, then that one goes on."""

from __future__ import annotations

import atexit
import logging
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import CamtrackError
from camtrack_core.runtime.base import Input, Session, Stored

log = logging.getLogger(__name__)


class BuildingSession:
    """A session that becomes another one between two frames.

    Args:
        serving: computes meanwhile.
        build: command that builds the engine, in a process of its own: it keeps a processor busy for minutes, and must
            not take the node with it where it crashes.
        opened: opens the session over the engine.
    """

    def __init__(self, serving: Session, build: list[str], opened: Callable[[], Session]) -> None:
        self._serving, self._build, self._opened = serving, build, opened
        self._stores: weakref.WeakSet[_Store] = weakref.WeakSet()
        self._ready: Session | None = None
        self._failure: str | None = None
        self._begin = time.monotonic()
        self._thread = threading.Thread(target=self._prepare, name="engine", daemon=True)
        self._thread.start()

    @property
    def engine(self) -> str:
        return self._serving.engine

    @property
    def notice(self) -> str | None:
        if self._failure is not None:
            return f"{self._failure}; {self.engine} runs the model"
        if self._thread.is_alive():
            since = time.monotonic() - self._begin
            return f"TensorRT has been building its engine for {since:.0f} s; {self.engine} runs the model meanwhile"
        return None

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._serving.metadata

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._serving.input_shapes

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._serving.output_names

    def store(self, shape: tuple[int, ...]) -> Stored:
        store = _Store(self._serving.store(shape))
        self._stores.add(store)
        return store

    def run(self, inputs: Mapping[str, Input]) -> dict[str, Any]:
        if self._ready is not None:
            self._change(self._ready)
        return self._serving.run({name: _plain(given) for name, given in inputs.items()})

    def wait(self) -> None:
        """Until the engine is ready, or could not be made."""
        self._thread.join()

    def _prepare(self) -> None:
        """Of the thread: nothing here keeps frames waiting."""
        try:
            process = subprocess.Popen(self._build, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            atexit.register(process.terminate)
            _, said = process.communicate()
            atexit.unregister(process.terminate)
            if process.returncode:
                last = (said.strip().splitlines() or ["nothing"])[-1]
                raise CamtrackError(f"TensorRT built no engine (exit code {process.returncode}): {last}")
            self._ready = self._opened()
        except Exception as error:  # a thread would only print it
            self._failure = str(error)
            log.error("%s", self._failure, exc_info=not isinstance(error, CamtrackError))

    def _change(self, ready: Session) -> None:
        """Goes on with the other session, with what has been stored."""
        for store in list(self._stores):
            moved = ready.store(store.shape)
            moved[:] = np.asarray(store.array)
            store.array = moved
        log.info("%s goes on where %s was", ready.engine, self._serving.engine)
        self._serving, self._ready = ready, None


class _Store:
    """An array of the session that serves: `Stored`."""

    def __init__(self, array: Stored) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __getitem__(self, index: Any, /) -> Any:
        return self.array[index]

    def __setitem__(self, index: Any, value: Any, /) -> None:
        self.array[index] = value.array if isinstance(value, _Store) else value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.array(self.array, dtype=dtype)

    def copy(self) -> Any:
        return self.array.copy()


def _plain(given: Input) -> Input:
    """An input without the stores of this file."""
    if isinstance(given, np.ndarray):
        return given
    return [part.array if isinstance(part, _Store) else part for part in given]


def build_command(*arguments: str) -> list[str]:
    """`camtrack engine build` as a process of its own."""
    return [sys.executable, "-m", "camtrack_core.runtime.commands", "build", *arguments]
