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
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from camtrack.methods import Engine, Run, ids_of
from camtrack_core.datasets.frames import Sequence
from camtrack_core.datasets.sources import canonical, open_source
from camtrack_core.errors import CamtrackError, DataError

SETTINGS = "run.json"
TIMES = ".ms"
SOURCE = ".source"
POLL = 0.2  # seconds between two looks at the workers

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Result:
    """What became of a sequence.

    Attributes:
        name: of the sequence; of the source where it could not be opened.
        frames, tracks: numbers, of a sequence that breaks off those before; seconds: of tracking alone.
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
        advance: called now and then with the number of frames done and of all frames, as far as that is known.
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
        return _one_by_one(tasks, run, jobs, advance)
    return _in_parallel(tasks, run, workers, max(processors // workers, 1), advance)


@dataclass(frozen=True)
class Task:
    """A source to be tracked to the file `out` or, if the run can be resumed, into the folder `out`."""

    source: str
    out: Path
    run: Run
    resume: bool


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


def write_times(path: Path, seconds: list[float]) -> None:
    """Beside the tracks: milliseconds that each frame took, a line each. Raises OSError."""
    write_whole(path.with_suffix(TIMES), "".join(f"{1000 * value:.3f}\n" for value in seconds))


def write_whole(path: Path, text: str) -> None:
    """The file appears, or changes, only when the text is on the disk. Raises OSError."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _claim_name(path: Path, source: str) -> str:
    """The source whose tracks `path` is for: this one unless another came before. Raises OSError."""
    marker = path.with_suffix(SOURCE)
    try:
        with open(marker, "x", errors="surrogateescape") as file:  # of two processes, one makes it
            file.write(f"{source}\n")
    except FileExistsError:
        return marker.read_text(errors="surrogateescape").removesuffix("\n")
    except OSError:
        marker.unlink(missing_ok=True)
        raise
    return source


def track_one(
    task: Task, engine: Callable[[], Engine], advance: Callable[[int], None], expect: Callable[[int], None]
) -> Result:
    """One sequence; what is wrong with it does not end the run, what is wrong with the engine does.

    Args:
        task: the sequence.
        engine: makes the tracks.
        advance: called with a number of frames when they are done.
        expect: called once with the number of frames that there are to do.
    """
    try:
        sequence = open_source(task.source)
    except CamtrackError as error:
        expect(0)
        return Result(task.source, error=str(error))
    suffix = task.run.suffix(sequence)
    path = task.out / f"{sequence.name}{suffix}" if task.resume else task.out
    found = _result_before(task, sequence.name, path)
    if found is None and path.suffix != suffix:
        found = Result(sequence.name, error=f"expected a file {path.stem}{suffix} for these tracks, got {path.name}")
    if found is not None:
        expect(0)
        return found
    try:
        tracker = engine()
        expect(len(sequence))
        return _tracked(sequence, path, tracker, advance, task.resume)
    finally:
        if task.resume and not path.is_file():
            with suppress(OSError):
                path.with_suffix(SOURCE).unlink(missing_ok=True)


def _result_before(task: Task, name: str, path: Path) -> Result | None:
    """Of a sequence that was tracked before, or whose name is taken; None for one that is to be tracked."""
    if not task.resume:
        return None
    source = canonical(task.source)
    try:
        owner = _claim_name(path, source)
    except OSError as error:
        return Result(name, error=f"cannot write to {path.parent}: {error.strerror}")
    if owner != source:
        said = f"{path.with_suffix(SOURCE)} says that {path.name} is of {owner}, this is {source}"
        return Result(name, error=f"{said}; give another folder")
    return Result(name, kept=True) if path.is_file() else None


def _tracked(sequence: Sequence, path: Path, tracker: Engine, advance: Callable[[int], None], times: bool) -> Result:
    """Tracks a sequence and writes the tracks; of one that breaks off, those before to NAME.incomplete.txt."""
    frames: list[Any] = []
    broken = ""
    try:
        for tracks in tracker.tracks(sequence):
            frames.append(tracks)
            advance(1)
    except CamtrackError as error:
        broken = str(error)
    # The submission of a part of a scene would pass for one whose other key frames are empty.
    if broken and (not frames or path.suffix != ".txt"):
        return Result(sequence.name, error=broken)
    incomplete = path.with_name(f"{path.stem}.incomplete{path.suffix}")
    target = incomplete if broken else path
    partial = target.with_name(f"{target.name}.partial")
    try:
        tracker.write(partial, sequence, frames)
        if times and not broken:
            write_times(path, tracker.seconds)
        partial.replace(target)
        if not broken:
            incomplete.unlink(missing_ok=True)
    except CamtrackError as error:
        return Result(sequence.name, error=str(error))
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        before = f"{broken}; " if broken else ""
        return Result(sequence.name, error=f"{before}cannot write the tracks to {target}: {error.strerror}")
    if broken:
        broken = f"{broken}; the tracks of the {len(frames)} frames before are in {incomplete}"
    ids = {identity for found in frames for identity in ids_of(found)}
    return Result(sequence.name, len(frames), len(ids), sum(tracker.seconds), broken)


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
            raise
