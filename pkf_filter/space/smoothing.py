"""Tracks in space as they are known some time later: never for use while a vehicle drives.

With the measurements of `lag` seconds more a track is shown from its first measurement on, through gaps that end
within them, and where RTS smoothing over the filter's own linearised motion says it was. Where a track has several
motions, the gain is that of their mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from camtrack_core.geometry.boxes import Floats, Integers
from camtrack_core.geometry.tracks import Tracks3D
from pkf_filter.filtering.smoothing import FixedLag, SmoothingConfig, smoothed_back
from pkf_filter.life.history import SECOND
from pkf_filter.space import imm as interacting
from pkf_filter.space import models as world
from pkf_filter.space.state import WorldState
from pkf_filter.space.tracker import WorldTracker


@dataclass(frozen=True)
class _Frame:
    time_ns: int
    state: WorldState  # after all measurements of this time


class Smoother(FixedLag[_Frame, Tracks3D]):
    """The tracks of a tracker, `lag` seconds late."""

    def __init__(self, tracker: WorldTracker, config: SmoothingConfig | None = None) -> None:
        super().__init__(config)
        self._tracker = tracker
        self._published: set[int] = set()

    def add(self, time_ns: int) -> list[Tracks3D]:
        """Take the tracker's state after all measurements of this time; times ascend.

        Returns the tracks of the frames that are `lag` seconds old by now, in their order.
        """
        state = self._tracker.state
        self._published |= set(state.ids[self._tracker.published(state)].tolist())
        return self._keep(_Frame(time_ns, state))

    def _oldest(self) -> Tracks3D:
        """Those measured then, or before and after."""
        time_ns, state = self._frames[0].time_ns, self._frames[0].state
        mean, covariance = self._smoothed()
        newest = {track: (frame.state, row) for frame in self._frames for row, track in enumerate(frame.state.ids)}
        last = [newest[track] for track in state.ids]
        identity = {
            name: np.array([getattr(known, name)[row] for known, row in last]).reshape(getattr(state, name).shape)
            for name in ("classes", "groups", "votes", "trust", "existence", "motions")
        }
        state = state._replace(mean=mean, covariance=covariance, **identity)
        closed = self._next_measured(state.ids) - state.placed_ns <= self.config.lag * SECOND
        shown = np.isin(state.ids, list(self._published)) & ((state.placed_ns == time_ns) | closed)
        return self._tracker.as_tracks(state.rows(shown.nonzero()[0]), time_ns)

    def _measured(self, frame: _Frame) -> Integers:
        return frame.state.ids[frame.state.placed_ns == frame.time_ns]

    def _smoothed(self) -> tuple[Floats, Floats]:
        """Mean (N, 10) and covariance (N, 10, 10) of the oldest frame's tracks, by all frames that are kept."""
        frames = list(self._frames)
        later = frames[-1]
        mean, covariance = later.state.mean, later.state.covariance
        for frame in frames[-2::-1]:
            own, own_covariance = frame.state.mean.copy(), frame.state.covariance.copy()
            _, here, there = np.intersect1d(frame.state.ids, later.state.ids, return_indices=True)
            if len(here):
                dt = (later.time_ns - frame.time_ns) / SECOND
                own[here], own_covariance[here] = self._back(frame.state.rows(here), mean[there], covariance[there], dt)
            later, mean, covariance = frame, own, own_covariance
        return mean, covariance

    def _back(self, state: WorldState, later: Floats, spread: Floats, dt: float) -> tuple[Floats, Floats]:
        """Smoothed mean (N, 10) and covariance (N, 10, 10) of tracks, by those (of the same shapes) dt seconds later.

        Which end is the front is told by the later ones.
        """
        predicted = self._tracker.moved(state, dt)
        difference = later - predicted.mean
        whole = _wrapped(difference[:, world.YAW])
        difference[:, world.YAW] = half = (whole + np.pi / 2) % np.pi - np.pi / 2
        cross = self._cross_covariance(state, predicted.mean, dt)
        mean, covariance = smoothed_back(state.mean, state.covariance, cross, predicted.covariance, difference, spread)
        mean[:, world.YAW] += np.where(np.abs(whole - half) > np.pi / 2, np.pi, 0.0)
        world.keep_plausible(mean)
        return mean, covariance

    def _cross_covariance(self, state: WorldState, later: Floats, dt: float) -> Floats:
        """(N, 10, 10) covariance of states with those dt seconds later, whose means (N, 10) are `later`."""
        modes = list(_modes(state))
        found = np.zeros_like(state.covariance)
        turning = self._tracker.turning(state)
        for mode, (probability, mean, covariance) in enumerate(modes):
            resting = mode == interacting.REST and len(modes) > 1
            for j in range(len(mean)):
                if resting:
                    after, F = _rest(mean[j])
                else:
                    after, F = world.transition(mean[j], dt, bool(turning[j]))
                before = mean[j] - state.mean[j]
                ahead = after - later[j]
                for step in (before, ahead):
                    step[world.YAW] = _wrapped(step[world.YAW])
                found[j] += probability[j] * (covariance[j] @ F.T + np.outer(before, ahead))
        return found


def _modes(state: WorldState) -> list[tuple[Floats, Floats, Floats]]:
    """Probability, mean and covariance of each motion of the tracks; of one alone where they have no modes."""
    if not state.mode_probability.shape[1]:
        return [(np.ones(len(state.ids)), state.mean, state.covariance)]
    return [
        (state.mode_probability[:, mode], state.mode_mean[:, mode], state.mode_covariance[:, mode])
        for mode in range(interacting.MODES)
    ]


def _rest(mean: Floats) -> tuple[Floats, Floats]:
    """A state (10,) that has come to rest, and the Jacobian (10, 10)."""
    after, F = mean.copy(), np.eye(world.STATE_SIZE)
    after[world.VX :] = 0.0
    F[world.VX :] = 0.0
    return after, F


def _wrapped(angle: Floats) -> Floats:
    """The same angles in [-pi, pi)."""
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)
