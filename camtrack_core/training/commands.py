"""What the commands of both networks do alike: clips prepared and chosen, and what is said at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from camtrack_core.commands import conclude, progress
from camtrack_core.config import Parameters
from camtrack_core.datasets.frames import Sequence
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Floats


class Source(Parameters):
    """One source of training clips and how often it is drawn.

    Attributes:
        clips: names of clip files without ending; * stands for any text.
        weight: share of samples that these clips get together, relative to the other sources.
    """

    clips: str
    weight: float = 1.0


def prepare(sequences: Iterable[Sequence], out: Path, save: Callable[[Sequence, Path], None], as_json: bool) -> None:
    """Saves a clip of each sequence that has none yet. Raises DataError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror}") from error
    made: list[Path] = []
    kept: list[Path] = []
    for sequence in progress(sequences, "preparing"):
        path = out / f"{sequence.name}.npz"
        (kept if path.exists() else made).append(path)
        if not path.exists():
            save(sequence, path)
    conclude({"made": made, "kept": kept}, f"{out}: {len(made)} clips made, {len(kept)} were there", as_json)


def choose_clips(folder: Path, sources: tuple[Source, ...]) -> tuple[list[Path], Floats]:
    """Clip files of each source and their weights (N,), the source's weight shared among its clips.

    Raises DataError for a source without clips.
    """
    paths: list[Path] = []
    weights: list[float] = []
    for source in sources:
        found = sorted(folder.glob(f"{source.clips}.npz"))
        if not found:
            raise DataError(f"{folder}: expected clips named {source.clips}.npz, found none")
        paths += found
        weights += [source.weight / len(found)] * len(found)
    return paths, np.array(weights)


def trained(weights: Path, group: str, as_json: bool) -> None:
    """Says where the weights are; of several processes only the first speaks."""
    if os.environ.get("RANK", "0") == "0":
        conclude({"weights": weights}, f"{weights}; export it with `camtrack {group} export`", as_json)


def exported(model: Path, as_json: bool) -> None:
    """Says what an export has written."""
    size = model.stat().st_size
    conclude({"model": model, "bytes": size}, f"{model}: {size / 1e6:.1f} MB", as_json)
