"""The recordings that a training configuration names, one after the other, with labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from camtrack_core.datasets.frames import Sequence
from camtrack_core.datasets.sources import DRIVE, list_sources, open_source
from camtrack_core.labelling.agreement import Agreeing
from camtrack_core.labelling.picodet import PicoDet
from camtrack_core.labelling.recordings import Completed, Taught, one_by_one, over_time
from camtrack_core.labelling.teacher import Detector, Yolox


class Named(Protocol):
    """`cli.Recording`: a source and whose labels it gets."""

    @property
    def source(self) -> str: ...
    @property
    def labels(self) -> str: ...


LABELS: dict[str, Callable[[Sequence, Detector], Sequence]] = {
    "own": lambda sequence, _: sequence,
    "completed": Completed,
    "over_time": lambda sequence, detector: Taught(sequence, detector, over_time),
    "one_by_one": lambda sequence, detector: Taught(sequence, detector, one_by_one),
}


def labelled(recordings: tuple[Named, ...], data: Path, teachers: tuple[str, str]) -> Iterator[Sequence]:
    """Each recording in turn, labelled when its turn comes. Raises DataError and ModelError, naming the file."""
    detector = Agreeing(Yolox(data / teachers[0]), PicoDet(data / teachers[1]))
    for recording in recordings:
        spec = recording.source if recording.source.startswith(DRIVE) else str(data / recording.source)
        for source in list_sources(spec):
            yield LABELS[recording.labels](open_source(source), detector)
