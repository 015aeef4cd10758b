"""Compiled engines on disk: made once on the machine that runs them, found again by all that they depend on.

A file is a line of JSON, which states what the engine is for and the hash of its bytes, and those bytes. Any other is
not an engine of ours and is never handed to the library, which would run what is in it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from camtrack_core.errors import ConfigurationError

SUFFIX = ".engine"


@dataclass(frozen=True)
class EngineKey:
    """What an engine is good for.

    Attributes:
        model: name of the ONNX file, for readers.
        graph: SHA-256 of the ONNX file.
        library: name and version of what compiled it.
        gpu, driver: of the machine.
        precision: that was asked for.
        shapes: of the inputs, where frames are free with the most at a time.
    """

    model: str
    graph: str
    library: str
    gpu: str
    driver: str
    precision: str
    shapes: str

    @property
    def file(self) -> str:
        digest = sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.model}-{digest[:16]}{SUFFIX}"


@dataclass(frozen=True)
class EngineFile:
    """An engine's file; `key` is None where it is broken."""

    path: Path
    key: EngineKey | None
    size: int


def folder() -> Path:
    """Of the engines: CAMTRACK_ENGINES, or camtrack/engines in the user's cache."""
    chosen, cache = os.environ.get("CAMTRACK_ENGINES"), os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen)
    return (Path(cache) if cache else Path.home() / ".cache") / "camtrack" / "engines"


def load(key: EngineKey) -> bytes | None:
    """The engine of this key; None where there is none, or its file is broken or of another."""
    found = _read(folder() / key.file)
    return found[1] if found is not None and found[0] == key else None


def load_or_build(key: EngineKey, build: Callable[[], bytes]) -> bytes:
    """The engine of this key, built by one process while others that want it wait.

    Raises what `build` raises, and ConfigurationError where the folder cannot be written.
    """
    engine = load(key)
    if engine is not None:
        return engine
    with _locked():
        engine = load(key)  # by now another process may have made it
        if engine is None:
            engine = build()
            save(key, engine)
    return engine


def save(key: EngineKey, engine: bytes) -> None:
    """Writes an engine; its file appears only when all of it is on the disk. Raises ConfigurationError."""
    path = folder() / key.file
    header = json.dumps({**asdict(key), "sha256": sha256(engine).hexdigest()}).encode()
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(header + b"\n" + engine)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ConfigurationError(f"{path}: expected a place for an engine (CAMTRACK_ENGINES), got: {error}") from None


def forget(key: EngineKey) -> None:
    """Removes the engine of this key, if there is one."""
    (folder() / key.file).unlink(missing_ok=True)


def stored() -> list[EngineFile]:
    """All engines in the folder, by name."""
    found = []
    for path in sorted(folder().glob(f"*{SUFFIX}")):
        read = _read(path)
        found.append(EngineFile(path, read[0] if read is not None else None, path.stat().st_size))
    return found


def clean(keep: Callable[[EngineKey], bool]) -> list[Path]:
    """Removes broken engines, those that are not to be kept, and what an interrupted build left. Returns the files."""
    engines = [each.path for each in stored() if each.key is None or not keep(each.key)]
    gone = [*engines, *sorted(folder().glob("*.partial"))]
    for path in gone:
        path.unlink(missing_ok=True)
    return gone


def _read(path: Path) -> tuple[EngineKey, bytes] | None:
    """Key and engine of a file; None where it is missing or broken."""
    try:
        header, _, engine = path.read_bytes().partition(b"\n")
        stated = json.loads(header)
        expected = stated.pop("sha256")
        return (EngineKey(**stated), engine) if sha256(engine).hexdigest() == expected else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


@contextmanager
def _locked() -> Iterator[None]:
    """Held by one process at a time, and let go when it ends, however it ends. One engine is built after the other:
    two at once would disturb each other's measurements of what is fast."""
    path = folder() / "lock"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path}: expected a place for engines (CAMTRACK_ENGINES), got: {error}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
