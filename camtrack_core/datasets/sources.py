"""Opening a recording by a short text, as commands and parameters give it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl

from camtrack_core.datasets.frames import Sequence
from camtrack_core.datasets.labelled import LabelledVideo
from camtrack_core.datasets.uadetrac import PARTS, UaDetracSequence
from camtrack_core.datasets.video import VIDEO_SUFFIXES, FrameFolder, Video
from camtrack_core.errors import ConfigurationError, DataError

DRIVE = "drive:"
EXPECTED = (
    "a video file, a folder of images, a UA-DETRAC sequence folder (MVI_*) or drive:SEED, "
    "with options like drive:7?frames=200&width=640&height=360&camera=roadside"
)


def open_source(spec: str) -> Sequence:
    """The recording that `spec` names.

    Args:
        spec: a video file, a folder of images, a UA-DETRAC sequence folder in its official layout, or
            drive:SEED[?option=value&...] for a generated drive, options as the fields of DriveConfig.

    Raises:
        DataError: nothing is there, or it is broken.
        ConfigurationError: a generated drive has a wrong seed or option.
    """
    if spec.startswith(DRIVE):
        seed, options = _split_drive(spec)
        return _open_drive(spec, seed, options)
    path = Path(spec).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if path.is_file():
        return Video(path)
    hint = "" if path.suffix.lower() in VIDEO_SUFFIXES else f"; expected {EXPECTED}"
    raise DataError(f"source {spec!r} does not exist{hint}")


def open_labelled(specs: Iterable[str]) -> Iterator[Sequence]:
    """Labelled recordings one after the other, each opened when its turn comes.

    Args:
        specs: VIDEO:LABELS, a UA-DETRAC sequence folder, drive:SEED or a range of them, drive:FIRST-LAST, both
            with options as in open_source.

    Raises:
        DataError, ConfigurationError: as open_source does, and for a recording that cannot have labels.
    """
    for spec in specs:
        if spec.startswith(DRIVE):
            seeds, options = _split_drive(spec)
            yield from (_open_drive(spec, seed, options) for seed in _seed_range(spec, seeds))
            continue
        if Path(spec).is_dir():
            sequence = open_source(spec)
        else:
            video, separator, labels = spec.rpartition(":")
            if not separator:
                raise DataError(f"source {spec!r}: expected VIDEO:LABELS, a UA-DETRAC folder or drive:SEED")
            sequence = LabelledVideo(video, labels)
        if not sequence.class_names:
            raise DataError(f"source {spec!r} has no labels")
        yield sequence


def _open_folder(path: Path) -> Sequence:
    folder = path.resolve()
    if folder.name.startswith("MVI_") and folder.parent.name in PARTS:
        return UaDetracSequence(folder.parent.parent, folder.name)
    return FrameFolder(folder)


def _split_drive(spec: str) -> tuple[str, dict[str, str]]:
    seed, _, query = spec.removeprefix(DRIVE).partition("?")
    try:
        return seed, dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as error:
        raise ConfigurationError(f"source {spec!r}: expected options as name=value&..., got {query!r}") from error


def _open_drive(spec: str, seed: str, options: dict[str, str]) -> Sequence:
    from pydantic import ValidationError

    from camtrack_core.datasets.drive import Drive, DriveConfig

    try:
        return Drive(DriveConfig.model_validate({"seed": seed, **options}))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"source {spec!r}: {name}: {first['msg']}, got {first['input']!r}") from error


def _seed_range(spec: str, seeds: str) -> list[str]:
    """The seeds of "7" or "7-12", the last included."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", seeds)
    if not match:
        raise ConfigurationError(f"source {spec!r}: expected a seed or a range FIRST-LAST, got {seeds!r}")
    first, last = int(match[1]), int(match[2] or match[1])
    return [str(seed) for seed in range(first, last + 1)]
