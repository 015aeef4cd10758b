"""Tracking without ROS processes: recordings in, texts out, many sequences at a time.

A sequence whose text is there already is not tracked again, so that a run that was stopped goes on; files appear
under their name only when they are whole. Beside each text lies the name of its source, so that two sequences of one
name do not pass for each other.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, MutableSequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path
from typing import Any

from camtrack.offline.cluster import track_in_cluster
from camtrack.offline.methods import Engine, Run
from camtrack.offline.task import Advance, Result, Task, track_one
from camtrack_core.errors import DataError
from camtrack_core.files import write_whole

SETTINGS = "run.json"
POLL = 0.2  # seconds between two looks at the workers

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
        advance: called now and then with the number of frames done and of all frames, as far as that is known.
        cluster: address of a Ray cluster that is to work; empty for this machine.

    Raises:
        DataError: `out` cannot be written, or holds results of another run, or the cluster does not answer.
        ModelError: the model cannot be used.
    """
    single = out.suffix in (".txt", ".json")
    if single and len(sources) > 1:
        raise DataError(f"{len(sources)} sequences need a folder for their tracks, got the file {out}")
    if single and out.exists():
        raise DataError(f"{out} is there already; expected the name of a file to be made")
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
        return track_in_cluster(tasks, run, cluster, jobs, advance)
    if workers == 1:
        return _one_by_one(tasks, run, jobs, advance)
    return _in_parallel(tasks, run, workers, max(processors // workers, 1), advance)


# Places of what is counted: frames done and expected, sequences opened, and those that have no frames to do.
DONE, EXPECTED, OPENED, LEFT_OUT = range(4)


def _expect(counts: MutableSequence[int], frames: int) -> None:
    """Counts a sequence of so many frames; 0 for one that is not tracked."""
    counts[EXPECTED] += frames
    counts[OPENED if frames else LEFT_OUT] += 1


def estimated(counts: MutableSequence[int], sequences: int) -> tuple[int, int]:
    """Frames done and of all sequences; those that wait are taken to be as long as the others are on average."""
    waiting = sequences - counts[OPENED] - counts[LEFT_OUT]
    return counts[DONE], counts[EXPECTED] + round(waiting * counts[EXPECTED] / max(counts[OPENED], 1))


def _one_by_one(tasks: list[Task], run: Run, threads: int, advance: Advance) -> list[Result]:
    engine, counts = cache(lambda: Engine(run, threads)), [0, 0, 0, 0]

    def add(frames: int) -> None:
        counts[DONE] += frames
        advance(*estimated(counts, len(tasks)))

    return [track_one(task, engine, add, lambda n: _expect(counts, n)) for task in tasks]


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
    write_whole(path, json.dumps(settings, indent=1) + "\n")


_engine: Callable[[], Engine]
_shared: Any  # counts of all workers


def _start_worker(run: Run, threads: int, shared: Any) -> None:
    global _engine, _shared
    _engine, _shared = cache(lambda: Engine(run, threads)), shared


def _work(task: Task) -> Result:
    def add(frames: int) -> None:
        with _shared.get_lock():
            _shared[DONE] += frames

    def expect(frames: int) -> None:
        with _shared.get_lock():
            _expect(_shared, frames)

    return track_one(task, _engine, add, expect)


def _in_parallel(tasks: list[Task], run: Run, workers: int, threads: int, advance: Advance) -> list[Result]:
    context = multiprocessing.get_context("spawn")  # runtimes do not survive a fork
    shared = context.Array("q", 4)
    with ProcessPoolExecutor(workers, context, _start_worker, (run, threads, shared)) as pool:
        futures: list[Future[Result]] = [pool.submit(_work, task) for task in tasks]
        try:
            pending = set(futures)
            while pending:
                _, pending = wait(pending, POLL, FIRST_COMPLETED)
                advance(*estimated(shared[:], len(tasks)))
            return [future.result() for future in futures]
        except BrokenProcessPool as error:
            raise DataError("a process of the run was killed; run it again to go on where it ended") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():  # else the end waits for the sequences that they are at
                worker.terminate()
            raise
