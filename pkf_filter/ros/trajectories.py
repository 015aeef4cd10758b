"""Where tracks were and where they are going, on one grid of times."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from camtrack_core.geometry.boxes import Floats, Integers
from camtrack_core.geometry.tracks import Tracks3D

SECOND = 1_000_000_000
MAX_REMEMBERED = 1000  # sets of tracks


class Trajectories:
    """Remembers the tracks of the last `history` seconds and lays them on a grid.

    Args:
        history, horizon: seconds before and after the present.
        step: seconds between two points.
    """

    def __init__(self, history: float, horizon: float, step: float) -> None:
        # In whole nanoseconds: 0.6 / 0.2 is less than 3.
        self._history, ahead, between = (round(seconds * SECOND) for seconds in (history, horizon, step))
        self.offsets = np.arange(-(self._history // between), ahead // between + 1) * between
        self._past: deque[tuple[int, Integers, Floats]] = deque(maxlen=MAX_REMEMBERED)

    def reset(self) -> None:
        self._past.clear()

    def add(self, time_ns: int, tracks: Tracks3D) -> None:
        """Remember tracks; those after a time that is not newer are taken back."""
        while self._past and self._past[-1][0] >= time_ns:
            self._past.pop()
        self._past.append((time_ns, tracks.ids, _motion(tracks)))
        while len(self._past) > 1 and self._past[1][0] <= time_ns - self._history:
            self._past.popleft()

    def sample(self, time_ns: int, ids: Integers, predicted: Callable[[int], Tracks3D]) -> tuple[Floats, Floats]:
        """Places (T, N, 4) x, y, z, yaw and velocities (T, N, 4) of tracks around a time; NaN where they do not exist.

        Args:
            time_ns: the present, not before the newest tracks that were added.
            ids: (N,) of the tracks.
            predicted: gives the tracks at a later time.
        """
        found = np.full((len(self.offsets), len(ids), 8), np.nan)
        for row, offset in enumerate(self.offsets.tolist()):
            if offset >= 0:
                later = predicted(time_ns + offset)
                found[row] = _rows(ids, later.ids, _motion(later))
            else:
                found[row] = self._at(time_ns + offset, ids)
        return found[..., :4], found[..., 4:]

    def _at(self, time_ns: int, ids: Integers) -> Floats:
        """(N, 8) between the tracks remembered before and after a time."""
        before = next((past for past in reversed(self._past) if past[0] <= time_ns), None)
        after = next((past for past in self._past if past[0] >= time_ns), None)
        if before is None or after is None:
            return np.full((len(ids), 8), np.nan)
        start, end = _rows(ids, *before[1:]), _rows(ids, *after[1:])
        share = (time_ns - before[0]) / max(after[0] - before[0], 1)
        end[:, 3] = start[:, 3] + (end[:, 3] - start[:, 3] + np.pi) % (2 * np.pi) - np.pi
        return (1 - share) * start + share * end


def _motion(tracks: Tracks3D) -> Floats:
    """(N, 8) x, y, z, yaw and their rates."""
    boxes = tracks.boxes
    return np.concatenate([boxes.centre, boxes.yaw[:, None], boxes.velocity, tracks.turn_rates[:, None]], 1)


def _rows(wanted: Integers, ids: Integers, values: Floats) -> Floats:
    """Rows of values (M, 8) of the wanted ids (N,); NaN for ids that are not there."""
    place = {track: row for row, track in enumerate(ids.tolist())}
    rows = np.array([place.get(track, -1) for track in wanted.tolist()], np.int64)
    padded = np.concatenate([values, np.full((1, 8), np.nan)])  # -1 is this last row
    return np.asarray(padded[rows])
