"""One sequence of an offline run: what it is, what becomes of it, and tracking it to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camtrack.offline.methods import Engine, Run, ids_of
from camtrack_core.datasets.frames import Sequence
from camtrack_core.datasets.sources import canonical, open_source
from camtrack_core.errors import CamtrackError, DataError
from camtrack_core.files import named, whole, write_whole

TIMES = ".ms"
SOURCE = ".source"
TELLING = 0.1  # seconds between two words on how far a run is

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Task:
    """A source to be tracked to the file `out` or, if the run can be resumed, into the folder `out`."""

    source: str
    out: Path
    run: Run
    resume: bool


@dataclass(frozen=True)
class Result:
    """What became of a sequence.

    Attributes:
        name: of the sequence; of the source where it could not be opened.
        frames, tracks: numbers, of a sequence that breaks off those before; seconds: of tracking alone.
        error: why it failed; empty where it did not.
        kept: whether the text was there before.
        skipped: what was wrong with each frame that was left out.
    """

    name: str
    frames: int = 0
    tracks: int = 0
    seconds: float = 0.0
    error: str = ""
    kept: bool = False
    skipped: tuple[str, ...] = ()


def track_one(
    task: Task, engine: Callable[[], Engine], advance: Callable[[int], None], expect: Callable[[int], None]
) -> Result:
    """One sequence; what is wrong with it does not end the run, what is wrong with the engine does.

    Args:
        task: the sequence.
        engine: makes the tracks.
        advance: called now and then with the number of frames done since.
        expect: called once with the number of frames that there are to do.
    """
    try:
        sequence = open_source(task.source)
    except CamtrackError as error:
        expect(0)
        return Result(task.source, error=str(error))
    suffix = task.run.suffix(sequence)
    try:
        path = named(task.out, f"{sequence.name}{suffix}") if task.resume else task.out
    except DataError as error:
        expect(0)
        return Result(sequence.name, error=str(error))
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
        frames.extend(_told(tracker.tracks(sequence), advance))  # up to where it breaks off
    except CamtrackError as error:
        broken = str(error)
    if not broken and not frames:
        return Result(sequence.name, error="expected at least one frame, found none")
    if not broken and len(tracker.skipped) == len(frames):
        broken = f"none of the {len(frames)} frames can be read; the first: {tracker.skipped[0]}"
        return Result(sequence.name, error=broken, skipped=tuple(tracker.skipped))
    # The submission of a part of a scene would pass for one whose other key frames are empty.
    if broken and (not frames or path.suffix != ".txt"):
        return Result(sequence.name, error=broken)
    incomplete = path.with_name(f"{path.stem}.incomplete{path.suffix}")
    target = incomplete if broken else path
    try:
        with whole(target) as partial:
            tracker.write(partial, sequence, frames)
            if times and not broken:
                write_times(path, tracker.seconds)
        if not broken:
            incomplete.unlink(missing_ok=True)
    except CamtrackError as error:
        return Result(sequence.name, error=str(error))
    except OSError as error:
        before = f"{broken}; " if broken else ""
        return Result(sequence.name, error=f"{before}cannot write the tracks to {target}: {error.strerror}")
    if broken:
        broken = f"{broken}; the tracks of the {len(frames)} frames before are in {incomplete}"
    ids = {identity for found in frames for identity in ids_of(found)}
    seconds = sum(tracker.seconds)
    return Result(sequence.name, len(frames), len(ids), seconds, broken, skipped=tuple(tracker.skipped))


def _told(frames: Iterable[Any], advance: Callable[[int], None]) -> Iterator[Any]:
    """The same frames, whose number is told ten times a second: there may be a million in one."""
    waiting, told = 0, time.monotonic()
    try:
        for frame in frames:
            yield frame
            waiting += 1
            if time.monotonic() > told + TELLING:
                advance(waiting)
                waiting, told = 0, time.monotonic()
    finally:
        advance(waiting)


def _claim_name(path: Path, source: str) -> str:
    """The source whose tracks `path` is for: this one unless another came before. Raises OSError."""
    marker = path.with_suffix(SOURCE)
    try:
        with open(marker, "x", errors="surrogateescape") as file:  # of two processes, one makes it
            file.write(f"{source}\n")
    except FileExistsError:
        owner = marker.read_text(errors="surrogateescape")
        if owner.endswith("\n"):
            return owner.removesuffix("\n")
        write_whole(marker, f"{source}\n")  # one who was killed before it was written: nobody's
    except OSError:
        marker.unlink(missing_ok=True)
        raise
    return source


def write_times(path: Path, seconds: list[float]) -> None:
    """Beside the tracks: milliseconds that each frame took, a line each. Raises OSError."""
    write_whole(path.with_suffix(TIMES), "".join(f"{1000 * value:.3f}\n" for value in seconds))
