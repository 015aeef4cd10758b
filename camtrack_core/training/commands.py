"""What the commands of both networks do alike: clips prepared and chosen, and what is said at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

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


class Recording(Parameters):
    """A recording that `gather` prepares.

    Attributes:
        source: as `camtrack_core.datasets.sources` opens it, a path below the data folder.
        labels: `own`; `completed`: its own, and what only the teachers see is ignored; the teachers' `over_time`, of a
            recording in order; or `one_by_one`, of unrelated pictures.
        camera: whether it moves. That of one that stands `still` has a known pose: what moves in its image shows its
            heading.
    """

    source: str
    labels: Literal["own", "completed", "over_time", "one_by_one"]
    camera: Literal["moving", "still"] = "moving"


class Recipe(Parameters):
    """What a training configuration file says of its data.

    Attributes:
        teachers: YOLOX as ONNX and PicoDet as ncnn's .param, below the data folder.
        recordings: what is trained on.
        sources: their clips, and how often each is drawn.
    """

    teachers: tuple[str, str] = ("teacher/yolox_nano.onnx", "teacher/picodet-s-416.param")
    recordings: tuple[Recording, ...] = ()
    sources: tuple[Source, ...] = (Source(clips="*"),)


class Clips(Protocol):
    """A network's module `clips`: what it keeps of a recording of these classes, in one file."""

    def from_sequence(self, sequence: Sequence, class_names: tuple[str, ...]) -> Any: ...

    def save(self, clip: Any, path: Path) -> None: ...


def gather(recipe: Recipe, data: Path, out: Path, clips: Clips, class_names: tuple[str, ...], as_json: bool) -> None:
    """`prepare` of every recording that a configuration names, labelled by its two teachers.

    Raises DataError and ModelError, naming the file.
    """
    from camtrack_core.labelling.recordings import labelled

    prepare(labelled(recipe.recordings, data, recipe.teachers), out, clips, class_names, as_json)


def prepare(
    sequences: Iterable[Sequence], out: Path, clips: Clips, class_names: tuple[str, ...], as_json: bool
) -> None:
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
            clips.save(clips.from_sequence(sequence, class_names), path)
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
