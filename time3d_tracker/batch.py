"""Frames of several cameras that arrive together go through the graph together. No ROS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from time3d_tracker.model import Outputs, Query, Time3DModel
from time3d_tracker.tracker import Result, Tracker, View


@dataclass(frozen=True)
class _Job:
    tracker: Tracker
    view: View
    query: Query
    done: Callable[[Result], None]
    deadline: float  # monotonic seconds


class Batch:
    """Frames that wait for those of other cameras, at most as many as the graph takes.

    Args:
        model: of all trackers that add frames.
        patience: seconds that a frame waits for others.
    """

    def __init__(self, model: Time3DModel, patience: float) -> None:
        self.model, self.patience = model, patience
        self._members: list[Tracker] = []
        self._jobs: list[_Job] = []

    def join(self, tracker: Tracker) -> None:
        """Lets frames of others wait for this tracker's."""
        self._members.append(tracker)

    def leave(self, tracker: Tracker) -> None:
        self.forget(tracker)
        self._members = [member for member in self._members if member is not tracker]

    def add(self, tracker: Tracker, view: View, done: Callable[[Result], None]) -> None:
        """Has `done` called with the tracks after a frame: at once if nobody is left to wait for, else later.

        Raises what `Tracker.query` does, and what `run` does after the frame has been taken in.
        """
        try:
            if any(job.tracker is tracker for job in self._jobs):
                self.run()  # a camera's frames stay in order
        finally:  # a failure in there is of earlier frames
            query = tracker.query(view)
            self._jobs.append(_Job(tracker, view, query, done, time.monotonic() + self.patience))
            if len(self._jobs) >= min(self.model.cameras, len(self._members)):
                self.run()

    @property
    def waits(self) -> bool:
        """Whether frames wait."""
        return bool(self._jobs)

    def run_due(self) -> None:
        """Runs what has waited long enough. To be called every now and then."""
        if self._jobs and time.monotonic() >= self._jobs[0].deadline:
            self.run()

    def run(self) -> None:
        """Runs what waits. Raises the first failure of a frame, after all the others have been answered."""
        jobs, self._jobs = self._jobs, []
        if not jobs:
            return
        answers = self.model.infer([job.query for job in jobs])
        failures = [_answer(job, out) for job, out in zip(jobs, answers, strict=True)]
        for failure in failures:
            if failure is not None:
                raise failure

    def forget(self, tracker: Tracker) -> None:
        """Leaves out what a tracker still waits for."""
        self._jobs = [job for job in self._jobs if job.tracker is not tracker]


def _answer(job: _Job, out: Outputs) -> Exception | None:
    """Tracks a frame and tells of it; returns its failure, which must not take the other cameras' frames with it."""
    try:
        job.done(job.tracker.update(job.view, out))
    except Exception as failure:
        return failure
    return None
