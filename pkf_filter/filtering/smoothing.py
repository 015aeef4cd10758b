"""Rauch-Tung-Striebel smoothing: what later measurements tell about earlier states.

H. Rauch, F. Tung and C. Striebel, AIAA Journal 3(8), 1965. The filter's state at one time, and what it foretold of the
next one, give the gain by which the next one's correction reaches back. The gain rests on the covariance of the two
states alone, so that linearised models and mixtures of several are smoothed alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from itertools import islice
from typing import Generic, Protocol, TypeVar

import numpy as np
from pydantic import Field

from camtrack_core.config import Parameters
from camtrack_core.geometry.boxes import Floats, Integers
from pkf_filter.life.history import SECOND

NEVER = 2**62  # nanoseconds, a stamp


class SmoothingConfig(Parameters):
    """How tracks are smoothed that nobody waits for."""

    lag: float = Field(1.0, gt=0, description="by which tracks are late, and the longest gap that is closed, seconds")
    confirmation: float = Field(0.97, gt=0, lt=1, description="existence that a track in an image must reach by then")


class Frame(Protocol):
    """What a filter knew after all measurements of a time."""

    @property
    def time_ns(self) -> int: ...


F = TypeVar("F", bound=Frame)
T = TypeVar("T")


class FixedLag(ABC, Generic[F, T]):
    """Frames that are kept until they are `lag` seconds old, when what is known of the oldest is given out."""

    def __init__(self, config: SmoothingConfig | None = None) -> None:
        self.config = config or SmoothingConfig()
        self._frames: deque[F] = deque()

    def _keep(self, frame: F) -> list[T]:
        """The tracks of the frames that are old enough once this one is there, in their order."""
        self._frames.append(frame)
        found = []
        while frame.time_ns - self._frames[0].time_ns >= self.config.lag * SECOND:
            found.append(self._given_out())
        return found

    def flush(self) -> list[T]:
        """The tracks of the frames that are left, at the end."""
        return [self._given_out() for _ in range(len(self._frames))]

    def _given_out(self) -> T:
        tracks = self._oldest()
        self._frames.popleft()
        return tracks

    def _next_measured(self, ids: Integers) -> Integers:
        """(N,) stamps of the first measurements after the oldest frame; NEVER for tracks that have none."""
        stamps: dict[int, int] = {}
        for frame in islice(self._frames, 1, None):
            for track in self._measured(frame).tolist():
                stamps.setdefault(track, frame.time_ns)
        return np.array([stamps.get(track, NEVER) for track in ids.tolist()], np.int64)

    @abstractmethod
    def _oldest(self) -> T:
        """The tracks of the oldest frame, by all frames that are kept."""

    @abstractmethod
    def _measured(self, frame: F) -> Integers:
        """Ids of the tracks that were measured at the time of a frame."""


def smoothed_back(
    mean: Floats,
    covariance: Floats,
    cross: Floats,
    predicted_covariance: Floats,
    difference: Floats,
    later_covariance: Floats,
) -> tuple[Floats, Floats]:
    """Mean (..., n) and covariance (..., n, n) at one time by all that is known at the next one.

    Args:
        mean: (..., n), covariance: (..., n, n), filtered at the time itself.
        cross: (..., n, n) covariance of the state with the next one, P F' for a linearised motion F.
        predicted_covariance: (..., n, n) of the next state, before its measurements; may be singular.
        difference: (..., n) of the next state's smoothed mean from the predicted one.
        later_covariance: (..., n, n) smoothed, of the next state.
    """
    gain = cross @ np.linalg.pinv(predicted_covariance, hermitian=True)
    mean = mean + (gain @ difference[..., None])[..., 0]
    covariance = covariance + gain @ (later_covariance - predicted_covariance) @ gain.swapaxes(-1, -2)
    return mean, (covariance + covariance.swapaxes(-1, -2)) / 2
