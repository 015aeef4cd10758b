"""Ids over crossings: two objects whose pictures cover each other and part again, and whether each kept its id.

A crossing of two objects lasts from the first to the last frame in which the one covers more than COVERED of the other.
Asked for is each of the two that was found on both sides of it while they hardly covered each other (less than APART):
its id just before and the one just after are compared. So one crossing is up to two objects that may lose their ids.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import numpy as np

from camtrack_core.geometry.boxes import Floats, Integers, coverage, iou

COVERED, APART = 0.3, 0.15  # shares of the smaller box that lie in the other
FOUND = 0.5  # IoU of a found box with its object
LOWEST = 18.0  # pixels, of the objects that are looked at


class Crossings:
    """What crosses in a recording, from frame to frame, and the ids under which it was found."""

    def __init__(self) -> None:
        self._frame = 0
        self._found: dict[int, dict[int, int]] = defaultdict(dict)  # id of the track, by object and frame
        self._covered: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)  # by pair of objects and frame

    def add(self, ids: Integers, xyxy: Floats, found_ids: Integers, found_xyxy: Floats) -> None:
        """The next frame.

        Args:
            ids: (N,) of the true objects, xyxy: (N, 4) pixels.
            found_ids: (M,) of the tracks, found_xyxy: (M, 4) pixels.
        """
        high = xyxy[:, 3] - xyxy[:, 1] > LOWEST
        ids, xyxy = ids[high], xyxy[high]
        overlap = iou(xyxy, found_xyxy)
        for row in np.flatnonzero(overlap.max(1, initial=0) >= FOUND):
            self._found[int(ids[row])][self._frame] = int(found_ids[overlap[row].argmax()])
        covered = coverage(xyxy, xyxy)
        for a, b in combinations(range(len(ids)), 2):
            self._covered[int(ids[a]), int(ids[b])][self._frame] = float(max(covered[a, b], covered[b, a]))
        self._frame += 1

    def kept(self) -> list[bool]:
        """Of each object that was found before and after a crossing, whether its id is the same."""
        same = []
        for pair, covered in self._covered.items():
            crossing = [frame for frame, share in covered.items() if share > COVERED]
            for one in pair if crossing else ():
                apart = [frame for frame, share in covered.items() if share < APART and frame in self._found[one]]
                before = [self._found[one][frame] for frame in apart if frame < crossing[0]]
                after = [self._found[one][frame] for frame in apart if frame > crossing[-1]]
                if before and after:
                    same.append(before[-1] == after[0])
        return same
