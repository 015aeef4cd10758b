"""Tracking without ROS processes: recordings in, texts out, many sequences at a time.

A sequence whose text is there already is not tracked again, so that a run that was stopped goes on; texts appear
under their name only when they are whole.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from camtrack.methods import Engine, Run, ids_of
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import CamtrackError, DataError

SETTINGS = "run.json"
TIMES = ".ms"
POLL = 0.2  # seconds between two looks at the workers

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Result:
    """What became of a sequence.

    Attributes:
        name: of the sequence; of the source where it could not be opened.
        frames, tracks: numbers; seconds: of tracking alone.
        error: why it failed; empty where it did not.
        kept: whether the text was there before.
    """

    name: str
    frames: int = 0
    tracks: int = 0
    seconds: float = 0.0
    error: str = ""
    kept: bool = False


# -------------------------------------------------------------------------------------------------- a run


def track_sources(
    sources: list[str], out: Path, run: Run, jobs: int, advance: Advance, cluster: str = ""
) -> list[Result]:
    """Tracks every source; returns what became of each, in their order.

    Args:
        sources: a text for open_source each.
        out: a .txt or .json file for a single source, else a folder for NAME.txt or NAME.json of each.
        run: how.
        jobs: number of processes; 0 for one a processor, of a cluster all it has.
        advance: called now and then with the number of frames done and of all frames.
        cluster: address of a Ray cluster that is to work; empty for this machine.

    Raises:
        DataError: `out` cannot be written, or holds results of another run, or the cluster does not answer.
        ModelError: the model cannot be used.
    """
    single = out.suffix in (".txt", ".json")
    if single and len(sources) > 1:
        raise DataError(f"{len(sources)} sequences need a folder for their tracks, got the file {out}")
    settings = run.settings()
    folder = out.parent if single else out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not single:
            _claim(folder, settings)
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}") from error
    processors = len(os.sched_getaffinity(0))
    workers = min(jobs or processors, len(sources))
    tasks = [Task(source, out if single else folder, run, not single) for source in sources]
    if cluster:
        from camtrack.cluster import track_in_cluster

        return track_in_cluster(tasks, run, cluster, jobs, advance)
    if workers == 1:
        engine = cache(lambda: Engine(run, jobs))
        counter = _Counter()
        return [track_one(task, engine, lambda n: counter.add(n, advance), counter.expect) for task in tasks]
    return _in_parallel(tasks, run, workers, max(processors // workers, 1), advance)


@dataclass(frozen=True)
class Task:
    """A source to be tracked to the file `out` or, if the run can be resumed, into the folder `out`."""

    source: str
    out: Path
    run: Run
    resume: bool


class _Counter:
    """Frames done and expected in this process."""

    def __init__(self) -> None:
        self.done = self.expected = 0

    def expect(self, count: int) -> None:
        self.expected += count

    def add(self, count: int, advance: Advance) -> None:
        self.done += count
        advance(self.done, self.expected)


def _claim(folder: Path, settings: dict[str, str]) -> None:
    """Results of one folder come from one model. Raises DataError, OSError."""
    path = folder / SETTINGS
    if path.is_file():
        try:
            before = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path} is broken: {error}") from error
        if before != settings:
            raise DataError(f"{folder} holds results of {before}, this run is {settings}; give another folder")
        return
    path.write_text(json.dumps(settings, indent=1) + "\n")


def write_times(path: Path, seconds: list[float]) -> None:
    """Beside the tracks: milliseconds that each frame took, a line each. Raises OSError."""
    path.with_suffix(TIMES).write_text("".join(f"{1000 * value:.3f}\n" for value in seconds))


def track_one(
    task: Task, engine: Callable[[], Engine], advance: Callable[[int], None], expect: Callable[[int], None]
) -> Result:
    """One sequence; what is wrong with it does not end the run, what is wrong with the engine does."""
    try:
        sequence = open_source(task.source)
    except CamtrackError as error:
        return Result(task.source, error=str(error))
    name, suffix = sequence.name, task.run.suffix(sequence)
    path = task.out / f"{name}{suffix}" if task.resume else task.out
    if task.resume and path.is_file():
        return Result(name, kept=True)
    if path.suffix != suffix:
        return Result(name, error=f"expected a file {path.stem}{suffix} for these tracks, got {path.name}")
    tracker = engine()
    expect(len(sequence))
    frames = []
    partial = path.with_name(f"{path.name}.partial")
    try:
        for tracks in tracker.tracks(sequence):
            frames.append(tracks)
            advance(1)
        tracker.write(partial, sequence, frames)
        partial.replace(path)
        if task.resume:
            write_times(path, tracker.seconds)
    except CamtrackError as error:
        return Result(name, error=str(error))
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        return Result(name, error=f"cannot write the tracks to {path}: {error.strerror}")
    ids = {identity for found in frames for identity in ids_of(found)}
    return Result(name, len(frames), len(ids), sum(tracker.seconds))


_engine: Callable[[], Engine]
_shared: Any  # frames done and expected, of all workers


def _start_worker(run: Run, threads: int, shared: Any) -> None:
    global _engine, _shared
    _engine, _shared = cache(lambda: Engine(run, threads)), shared


def _work(task: Task) -> Result:
    def add(place: int, count: int) -> None:
        with _shared.get_lock():
            _shared[place] += count

    return track_one(task, _engine, lambda n: add(0, n), lambda n: add(1, n))


def _in_parallel(tasks: list[Task], run: Run, workers: int, threads: int, advance: Advance) -> list[Result]:
    context = multiprocessing.get_context("spawn")  # runtimes do not survive a fork
    shared = context.Array("q", 2)
    with ProcessPoolExecutor(workers, context, _start_worker, (run, threads, shared)) as pool:
        futures: list[Future[Result]] = [pool.submit(_work, task) for task in tasks]
        try:
            pending = set(futures)
            while pending:
                _, pending = wait(pending, POLL, FIRST_COMPLETED)
                advance(*shared[:])
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise DataError("a process of the run was killed; run it again to go on where it ended") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
