"""Tracking without ROS processes: recordings in, MOTChallenge text out, many sequences at a time.

A sequence whose text is there already is not tracked again, so that a run that was stopped goes on; texts appear
under their name only when they are whole.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from camtrack_core.boxes import Boxes2D
from camtrack_core.datasets.frames import Sequence
from camtrack_core.datasets.motchallenge import MotChallengeSequence
from camtrack_core.datasets.sources import open_source
from camtrack_core.datasets.video import stamp_ns
from camtrack_core.errors import CamtrackError, DataError
from camtrack_core.evaluation.mot_text import write_mot
from camtrack_core.runtime import Device
from camtrack_core.tracks import Tracks2D

Method = Literal["gcnet", "pkf", "stack"]
SETTINGS = "run.json"
POLL = 0.2  # seconds between two looks at the workers


@dataclass(frozen=True)
class Run:
    """What a run is made of.

    Attributes:
        method: gcnet, GCNet's own tracks; stack, those through PKF, as the nodes do; pkf, PKF on the public
            detections that come with a recording.
        model: exported GCNet.
        device: what runs it.
    """

    method: Method
    model: Path
    device: Device = "auto"

    def settings(self) -> dict[str, str]:
        """What must be equal for two results to belong to one run."""
        if self.method == "pkf":
            return {"method": self.method}
        try:
            digest = hashlib.sha256(self.model.read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise DataError(f"cannot read the model {self.model}: {error.strerror}") from error
        return {"method": self.method, "model": self.model.name, "model_sha256": digest, "device": self.device}


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


# ------------------------------------------------------------------------------------------------- methods


class Engine:
    """Makes the tracks of one sequence after the other; the model is loaded once.

    Raises ModelError for a model that cannot be used.
    """

    def __init__(self, run: Run, threads: int = 0) -> None:
        self._run = run
        self._model: Any = None
        if run.method != "pkf":
            from gcnet_tracker.tracker import GCNetModel

            self._model = GCNetModel(run.model, run.device, threads)
        if run.method != "gcnet":
            from pkf_filter.tracker import Tracker as Filter

            Filter().step(0, Boxes2D.empty())  # the first step compiles for seconds, which are not tracking

    def tracks(self, sequence: Sequence) -> Iterator[Tracks2D]:
        """The tracks after every frame, from trackers that know nothing yet.

        Raises:
            DataError: a frame is broken, or for PKF alone, the recording has no public detections.
        """
        methods = {"gcnet": self._gcnet, "pkf": self._pkf, "stack": self._stack}
        return methods[self._run.method](sequence)

    def _gcnet(self, sequence: Sequence) -> Iterator[Tracks2D]:
        from gcnet_tracker.tracker import Tracker

        tracker = Tracker(self._model)
        for frame in sequence:
            yield tracker.step(frame.image)

    def _stack(self, sequence: Sequence) -> Iterator[Tracks2D]:
        from gcnet_tracker.tracker import Tracker
        from pkf_filter.tracker import Tracker as Filter

        tracker, pkf = Tracker(self._model), Filter()
        for frame in sequence:
            found = tracker.step(frame.image)
            yield pkf.step(frame.time_ns, Boxes2D(found.xyxy, found.scores, found.class_ids))

    def _pkf(self, sequence: Sequence) -> Iterator[Tracks2D]:
        from pkf_filter.tracker import Tracker as Filter

        if not isinstance(sequence, MotChallengeSequence):
            raise DataError(f"{sequence.name}: expected a recording with public detections (det/det.txt), found none")
        pkf = Filter()
        for index, found in enumerate(sequence.detections()):
            scores = np.clip(found.scores, 0, 1)  # some public detectors give margins
            yield pkf.step(stamp_ns(index, sequence.frame_rate), Boxes2D(found.xyxy, scores, found.class_ids))


# -------------------------------------------------------------------------------------------------- a run


def track_sources(
    sources: list[str], out: Path, run: Run, jobs: int, advance: Callable[[int, int], None]
) -> list[Result]:
    """Tracks every source; returns what became of each, in their order.

    Args:
        sources: a text for open_source each.
        out: a .txt file for a single source, else a folder for NAME.txt of each.
        run: how.
        jobs: number of processes; 0 for one a processor.
        advance: called now and then with the number of frames done and of all frames.

    Raises:
        DataError: `out` cannot be written, or holds results of another run.
        ModelError: the model cannot be used.
    """
    single = out.suffix == ".txt"
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
    tasks = [_Task(source, out if single else folder, not single) for source in sources]
    if workers == 1:
        engine = cache(lambda: Engine(run, jobs))
        counter = _Counter()
        return [_track(task, engine, lambda n: counter.add(n, advance), counter.expect) for task in tasks]
    return _in_parallel(tasks, run, workers, max(processors // workers, 1), advance)


@dataclass(frozen=True)
class _Task:
    source: str
    out: Path
    resume: bool


class _Counter:
    """Frames done and expected in this process."""

    def __init__(self) -> None:
        self.done = self.expected = 0

    def expect(self, count: int) -> None:
        self.expected += count

    def add(self, count: int, advance: Callable[[int, int], None]) -> None:
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


def _track(
    task: _Task, engine: Callable[[], Engine], advance: Callable[[int], None], expect: Callable[[int], None]
) -> Result:
    """One sequence; what is wrong with it does not end the run, what is wrong with the engine does."""
    try:
        sequence = open_source(task.source)
    except CamtrackError as error:
        return Result(task.source, error=str(error))
    name = sequence.name
    path = task.out / f"{name}.txt" if task.resume else task.out
    if task.resume and path.is_file():
        return Result(name, kept=True)
    tracker = engine()
    expect(len(sequence))
    frames, started = [], time.perf_counter()
    try:
        for tracks in tracker.tracks(sequence):
            frames.append(tracks)
            advance(1)
        seconds = time.perf_counter() - started
        partial = path.with_name(f"{path.name}.partial")
        write_mot(partial, frames)
        partial.replace(path)
    except CamtrackError as error:
        return Result(name, error=str(error))
    except OSError as error:
        return Result(name, error=f"cannot write the tracks: {error.strerror}")
    ids = {identity for found in frames for identity in found.ids.tolist()}
    return Result(name, len(frames), len(ids), seconds)


_engine: Callable[[], Engine]
_shared: Any  # frames done and expected, of all workers


def _start_worker(run: Run, threads: int, shared: Any) -> None:
    global _engine, _shared
    _engine, _shared = cache(lambda: Engine(run, threads)), shared


def _work(task: _Task) -> Result:
    def add(place: int, count: int) -> None:
        with _shared.get_lock():
            _shared[place] += count

    return _track(task, _engine, lambda n: add(0, n), lambda n: add(1, n))


def _in_parallel(
    tasks: list[_Task], run: Run, workers: int, threads: int, advance: Callable[[int, int], None]
) -> list[Result]:
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


def as_records(results: list[Result]) -> list[dict[str, Any]]:
    """Results for JSON."""
    return [asdict(result) for result in results]
