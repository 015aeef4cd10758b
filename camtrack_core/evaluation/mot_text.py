"""MOTChallenge result text: frame, id, x, y, width, height, score, -1, -1, -1; frames count from 1."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from camtrack_core.errors import DataError
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.numbers import finite_number, frame_number, integer, read_text


def write_mot(path: str | Path, frames: Sequence[Tracks2D]) -> None:
    """Write tracks frame by frame; the format holds no classes."""
    lines = []
    for number, tracks in ((k, found) for k, found in enumerate(frames, start=1) if len(found)):
        for id_, (x1, y1, x2, y2), score in zip(tracks.ids, tracks.xyxy, tracks.scores, strict=True):
            lines.append(f"{number},{id_},{x1:.3f},{y1:.3f},{x2 - x1:.3f},{y2 - y1:.3f},{score:.4f},-1,-1,-1\n")
    Path(path).write_text("".join(lines))


def read_mot(path: str | Path, frame_count: int | None = None) -> list[Tracks2D]:
    """Tracks frame by frame, all of class 0; detections without tracks have the id -1.

    Args:
        path: the text file.
        frame_count: number of frames; the last one mentioned by default.

    Raises:
        DataError: the file is missing or a line is not in the format; names the line.
    """
    rows: dict[int, list[tuple[int, list[float]]]] = defaultdict(list)
    for number, line in enumerate(read_text(Path(path)).splitlines(), start=1):
        if line.strip():
            frame, identity, values = _parse(line, f"{path}, line {number}")
            rows[frame].append((identity, values))
    last = max(rows, default=0)
    count = last if frame_count is None else frame_count
    if last > count:
        raise DataError(f"{path}: expected at most {count} frames, got frame {last}")
    frames = [Tracks2D.empty()] * count  # one object for all frames without tracks
    for frame, found in rows.items():
        frames[frame - 1] = _tracks(found)
    return frames


def _parse(line: str, where: str) -> tuple[int, int, list[float]]:
    """Frame, id and (x, y, width, height, score)."""
    fields = line.split(",")[:7]
    try:
        values = [finite_number(field) for field in fields]
        if len(values) < 7:
            raise ValueError(f"expected at least 7 finite numbers, got {line!r}")
        frame, identity = frame_number(fields[0], first=1), integer(fields[1])
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if min(values[4:6]) < 0:
        raise DataError(f"{where}: expected a width and a height from 0, got {values[4]:g} and {values[5]:g}")
    return frame, identity, values[2:]


def _tracks(rows: list[tuple[int, list[float]]]) -> Tracks2D:
    ids = np.array([identity for identity, _ in rows], np.int64)
    table = np.array([values for _, values in rows], float).reshape(-1, 5)
    xyxy = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], 1)
    return Tracks2D(ids, xyxy, table[:, 4], np.zeros(len(table), np.int64))
