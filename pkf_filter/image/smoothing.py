"""Tracks in the image as they are known some time later: never for use while a vehicle drives.

With the frames of `lag` seconds more a track is shown from its first measurement on, through gaps that end within
them, and where RTS smoothing over the filter's own motion says it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from camtrack_core.geometry.boxes import Boxes2D, Floats, Integers
from camtrack_core.geometry.tracks import Tracks2D
from pkf_filter.filtering.smoothing import FixedLag, SmoothingConfig, smoothed_back
from pkf_filter.image import models
from pkf_filter.image.tracker import Tracker, Tracks
from pkf_filter.life.history import SECOND

BLOCK = np.array([[models.VARIANCE, models.CROSS], [models.CROSS, models.RATE_VARIANCE]])  # of a coordinate


@dataclass(frozen=True)
class _Frame:
    time_ns: int
    tracks: Tracks  # after its boxes


class Smoother(FixedLag[_Frame, Tracks2D]):
    """A tracker whose tracks come `lag` seconds late."""

    def __init__(self, tracker: Tracker, config: SmoothingConfig | None = None) -> None:
        super().__init__(config)
        self._tracker = tracker
        self._motion = models.motion_deviations(tracker.config.noise)
        self._confirmed: set[int] = set()

    def step(self, time_ns: int, boxes: Boxes2D) -> list[Tracks2D]:
        """The tracks of the frames that are `lag` seconds old by now, in their order; arguments as Tracker.step."""
        self._tracker.step(time_ns, boxes)
        tracks = self._tracker.tracks
        self._confirmed |= set(tracks["id"][tracks["existence"] >= self.config.confirmation].tolist())
        return self._keep(_Frame(time_ns, tracks))

    def followed(self) -> int:
        """Number of tracks in the frames that are kept; without any, a step without boxes changes nothing."""
        return sum(len(frame.tracks) for frame in self._frames)

    def _oldest(self) -> Tracks2D:
        mean, tracks = self._smoothed(), self._frames[0].tracks
        time_ns, config = self._frames[0].time_ns, self._tracker.config
        confirmed = np.isin(tracks["id"], list(self._confirmed))
        held = time_ns - tracks["seen_ns"] <= config.hold * SECOND
        closed = self._next_measured(tracks["id"]) - tracks["seen_ns"] <= self.config.lag * SECOND
        rows = np.flatnonzero(confirmed & (held | closed))
        values = mean[rows, :, models.VALUE]
        now = tracks["seen_ns"][rows] == time_ns
        values[now] += config.measured_share * (tracks["measured"][rows] - values)[now]
        newest = {row["id"]: row for frame in self._frames for row in frame.tracks}
        last = [newest[track] for track in tracks["id"][rows]]
        classes = np.array([row["votes"].argmax() for row in last], np.int64)
        scores = 1 / (1 + np.exp([-row["score"] for row in last]))
        return Tracks2D(tracks["id"][rows], models.to_boxes(values), scores.reshape(-1), classes)

    def _measured(self, frame: _Frame) -> Integers:
        return frame.tracks["id"][frame.tracks["seen_ns"] == frame.time_ns]

    def _smoothed(self) -> Floats:
        """(N, 4, 2) means of the oldest frame's tracks, by all frames that are kept."""
        frames = list(self._frames)
        later = frames[-1]
        mean, covariance = later.tracks["mean"], later.tracks["covariance"][..., BLOCK]
        for frame in frames[-2::-1]:
            own, own_covariance = frame.tracks["mean"].copy(), frame.tracks["covariance"][..., BLOCK]
            _, here, there = np.intersect1d(frame.tracks["id"], later.tracks["id"], return_indices=True)
            dt = (later.time_ns - frame.time_ns) / SECOND
            predicted, spread = own[here], frame.tracks["covariance"][here]
            models.predict(predicted, spread, dt, self._motion)
            cross = own_covariance[here] @ np.array([[1.0, 0.0], [dt, 1.0]])
            own[here], own_covariance[here] = smoothed_back(
                own[here], own_covariance[here], cross, spread[..., BLOCK], mean[there] - predicted, covariance[there]
            )
            later, mean, covariance = frame, own, own_covariance
        return mean
