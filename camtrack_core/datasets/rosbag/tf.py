"""The transforms of a bag, looked up at the stamps of its images."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from camtrack_core.geometry.camera import Pose

IDENTITY = Pose(np.eye(3), np.zeros(3))
MAX_DEPTH = 32  # of the tree of frames; a longer way is a loop


class TransformTree:
    """Poses of frames in their parents over time; between two stamps they are interpolated, beyond them unknown."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._static: dict[str, Pose] = {}
        self._moving: dict[str, tuple[list[int], list[Pose]]] = {}

    def add(self, parent: str, child: str, time_ns: int, pose: Pose) -> None:
        """A pose of `child` at a time; times of one child may come in any order."""
        self._parents[child] = parent
        times, poses = self._moving.setdefault(child, ([], []))
        place = bisect_left(times, time_ns)
        if place == len(times) or times[place] != time_ns:
            times.insert(place, time_ns)
            poses.insert(place, pose)

    def add_static(self, parent: str, child: str, pose: Pose) -> None:
        """A pose of `child` at all times."""
        self._parents[child] = parent
        self._static[child] = pose

    def chain(self, frame: str) -> list[str]:
        """The frames from `frame` up to the root of its tree."""
        frames = [frame]
        while frames[-1] in self._parents and len(frames) < MAX_DEPTH:
            frames.append(self._parents[frames[-1]])
        return frames

    def lookup(self, target: str, frame: str, time_ns: int) -> Pose | None:
        """Pose of `frame` in `target`, one of its ancestors, at a time; None where unknown."""
        chain = self.chain(frame)
        if target not in chain:
            return None
        pose = IDENTITY
        for child in chain[: chain.index(target)]:
            step = self._static.get(child) or self._at(child, time_ns)
            if step is None:
                return None
            pose = step @ pose
        return pose

    def _at(self, child: str, time_ns: int) -> Pose | None:
        times, poses = self._moving.get(child, ([], []))
        place = bisect_left(times, time_ns)
        if place < len(times) and times[place] == time_ns:
            return poses[place]
        if place in (0, len(times)):
            return None
        from scipy.spatial.transform import Rotation, Slerp

        share = (time_ns - times[place - 1]) / (times[place] - times[place - 1])
        before, after = poses[place - 1], poses[place]
        turn = Slerp([0, 1], Rotation.from_matrix([before.rotation, after.rotation]))
        shift = (1 - share) * before.translation + share * after.translation
        return Pose(turn(share).as_matrix(), shift)
