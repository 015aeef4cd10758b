"""Frames of several cameras that arrive together go through a graph together. No ROS."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar


class Model(Protocol):
    """A graph that takes frames of several cameras at a time.

    Attributes:
        cameras: how many, at most.
    """

    cameras: int

    def infer(self, queries: Sequence[Any]) -> Sequence[Any]:
        """An answer to each of at most `cameras` questions, in their order."""


M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class _Job:
    member: object
    query: Any
    done: Callable[[Any], None]
    deadline: float  # monotonic seconds


class Batch(Generic[M]):
    """Frames that wait for those of other cameras, at most as many as the graph takes.

    Args:
        model: of all members.
        patience: seconds that a frame waits for others.
    """

    def __init__(self, model: M, patience: float) -> None:
        self.model, self.patience = model, patience
        self._members: list[object] = []
        self._jobs: list[_Job] = []

    def join(self, member: object) -> None:
        """Lets frames of others wait for this member's."""
        self._members.append(member)

    def leave(self, member: object) -> None:
        self.forget(member)
        self._members = [other for other in self._members if other is not member]

    def add(self, member: object, ask: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Has `done` called with the answer about a member's frame: at once if nobody is left to wait for, else later.

        `ask` makes the question, once the answer about the member's frame before is known. Raises what `ask` does, and
        what `run` does after the frame has been taken in.
        """
        try:
            if any(job.member is member for job in self._jobs):
                self.run()  # a camera's frames stay in order
        finally:  # a failure in there is of earlier frames
            self._jobs.append(_Job(member, ask(), done, time.monotonic() + self.patience))
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

    def forget(self, member: object) -> None:
        """Leaves out what a member still waits for."""
        self._jobs = [job for job in self._jobs if job.member is not member]


def _answer(job: _Job, out: Any) -> Exception | None:
    """Hands an answer over; returns the failure of it, which must not take the other cameras' frames with it."""
    try:
        job.done(out)
    except Exception as failure:
        return failure
    return None
