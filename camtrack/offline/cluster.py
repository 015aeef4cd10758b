"""Tracking on a Ray cluster: one worker a process of it, each with its own model.

The machines share a file system, on which the recordings and the results lie, and have this project installed.
"""

from __future__ import annotations

import importlib
import logging
import socket
import time
from functools import cache
from pathlib import Path
from typing import Any

import camtrack
from camtrack.offline.methods import Engine, Run
from camtrack.offline.task import Advance, Result, Task, track_one
from camtrack_core.errors import CamtrackError, DataError

CONNECT_SECONDS = 5.0
START_SECONDS = 300.0  # for the first worker to answer: Ray puts off without a word what has no processor
POLL = 0.2  # seconds between two looks at the workers
PACKAGES = Path(camtrack.__file__).parents[1]


class _Counter:
    """Frames done and expected, of all workers."""

    def __init__(self) -> None:
        self._done = self._expected = 0

    def add(self, done: int, expected: int) -> None:
        self._done, self._expected = self._done + done, self._expected + expected

    def get(self) -> tuple[int, int]:
        return self._done, self._expected


class _Worker:
    def __init__(self, run: Run, counter: Any) -> None:
        self._engine = cache(lambda: Engine(run, 1))
        self._counter = counter

    def ready(self) -> None:
        """Answers when the worker runs."""

    def track(self, task: Task) -> Result:
        """Raises CamtrackError where the model cannot be used."""
        add = self._counter.add.remote
        result = track_one(task, self._engine, lambda n: add(n, 0), lambda n: add(0, n))
        importlib.import_module("ray").get(self._counter.get.remote())  # the counter has heard all by now
        return result


def track_in_cluster(tasks: list[Task], run: Run, address: str, jobs: int, advance: Advance) -> list[Result]:
    """Tracks on a cluster; arguments as track_sources has them.

    Args:
        address: HOST:PORT, ray://HOST:PORT or auto; as Ray takes them.
        jobs: number of workers at most; 0 for one a processor of the cluster, which are never more than those.

    Raises:
        DataError: Ray is not installed, the cluster does not answer, none of its processors is free within
            START_SECONDS, or one of its processes dies.
        ModelError: the model cannot be used.
    """
    _check_answers(address)
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise DataError("--ray: expected Ray to be installed; pip install 'camtrack[ray]'") from error
    try:
        # The workers find this project where it is here, which the machines share.
        environment = {"env_vars": {"PYTHONPATH": str(PACKAGES), "OMP_NUM_THREADS": "1"}}
        ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise DataError(f"--ray {address}: the cluster does not answer: {_first_line(error)}") from error
    try:
        processors = int(ray.cluster_resources().get("CPU", 1))
        count = min(jobs or processors, processors, len(tasks))
        counter = ray.remote(num_cpus=0)(_Counter).remote()
        workers = [ray.remote(num_cpus=1)(_Worker).remote(run, counter) for _ in range(max(count, 1))]
        results = _shared_out(ray, tasks, workers, counter, advance)
    except ray.exceptions.RayActorError as error:
        raise DataError(f"--ray {address}: a process of the cluster died; run it again to go on") from error
    finally:
        ray.shutdown()
    if results is None:
        raise DataError(f"--ray {address}: no worker started in {START_SECONDS:g} s; its processors seem to be taken")
    return results


def _check_answers(address: str) -> None:
    """Ray itself waits for minutes. Raises DataError where nobody listens at HOST:PORT."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return  # auto, or a name that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"--ray {address}: the cluster does not answer: {error}") from error


def _shared_out(ray: Any, tasks: list[Task], workers: list[Any], counter: Any, advance: Advance) -> list[Result] | None:
    """Each worker takes the next sequence when it has started or done one; None where none starts in time."""
    waiting = list(enumerate(tasks))[::-1]
    starting = {worker.ready.remote(): worker for worker in workers}
    running: dict[Any, tuple[int, Any]] = {}
    results: dict[int, Result] = {}
    deadline = time.monotonic() + START_SECONDS
    while waiting or running:
        done, _ = ray.wait([*starting, *running], timeout=POLL)
        for reference in done:
            if reference in starting:
                worker = starting.pop(reference)
                ray.get(reference)  # raises where the worker died
            else:
                index, worker = running.pop(reference)
                results[index] = _get(ray, reference)
            if waiting:
                following, task = waiting.pop()
                running[worker.track.remote(task)] = (following, worker)
        if not running and not results and time.monotonic() > deadline:
            return None
        if running:
            advance(*ray.get(counter.get.remote()))
    advance(*ray.get(counter.get.remote()))
    return [results[index] for index in range(len(tasks))]


def _get(ray: Any, reference: Any) -> Result:
    """Raises the worker's own error where it is one of this project's."""
    try:
        result: Result = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CamtrackError):
            raise error.cause from None
        raise
    return result


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
