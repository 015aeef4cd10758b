"""The tracker around PKF in the image plane: predict, weigh, update, existence, births and deaths (paper Sec. V).

Every track carries the probability that it is an object at all, and that the object is visible; both take part in the
association and follow from it (see `existence`). They decide on births, on what is shown and on deaths, where the
paper counts hits and ages.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import CamtrackError
from camtrack_core.geometry.boxes import Boxes2D, Floats, Integers
from camtrack_core.geometry.tracks import Tracks2D
from pkf_filter.association.weights import AssociationWeights, association_weights
from pkf_filter.filtering.estimators import with_resolved_identities
from pkf_filter.filtering.update import SPREADS
from pkf_filter.image import models
from pkf_filter.image.config import FilterConfig
from pkf_filter.image.models import overlap
from pkf_filter.life import existence as life
from pkf_filter.life import track_life

SECOND = 1_000_000_000  # nanoseconds
MAX_CLASSES = 64
MAX_STATES = 2.0**18  # of exact association: a component above some 10 ms is approximated
MAX_BOXES = 500  # of a frame; of more the best are taken
MAX_BUFFERED = 256  # frames that late ones can be sorted into
SURE = 1 - 1e-4  # existence at most: nobody is ever certain


class TimeError(CamtrackError):
    """A measurement older than the filter's state."""

    cause = "older than the state"


TRACK = np.dtype(
    [
        ("mean", np.float64, (models.COORDINATES, 2)),
        ("covariance", np.float64, (models.COORDINATES, 3)),
        ("measured", np.float64, models.COORDINATES),  # the last measurement
        ("existence", np.float64),
        ("visibility", np.float64),  # probability to be visible, of an object that exists
        ("score", np.float64),  # log odds, faded mean over the track's measurements
        ("id", np.int64),
        ("hits", np.int64),  # frames in which the track was measured
        ("seen_ns", np.int64),  # stamp of the last of them
        ("confirmed", np.bool_),
        ("votes", np.float64, MAX_CLASSES),  # fading sum of the scores of the measurements of each class
    ],
    align=True,
)
Tracks = NDArray[np.void]  # (N,) of TRACK


@dataclass
class _Frame:
    """One frame and the tracks just before it; `ids` are those of the tracks that its boxes have started."""

    time_ns: int
    boxes: Boxes2D
    before_ns: int | None
    before: Tracks
    ids: dict[int, int] = field(default_factory=dict)


class Tracker:
    """Boxes of one camera to tracks.

    Attributes:
        dropped: measurements so far that no track can be made of (not finite, without area, of a class id outside
            [0, MAX_CLASSES), or beyond the MAX_BOXES of the highest scores) and that were left out.
        approximated: steps so far whose association was too ambiguous for exact weights.
    """

    def __init__(self, config: FilterConfig | None = None) -> None:
        self.config = config or FilterConfig()
        self.dropped = 0
        self.approximated = 0
        noise = self.config.noise
        self._measured = models.measured_deviations(noise)
        self._motion = models.motion_deviations(noise)
        self._rates = models.initial_rate_deviations(noise)
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; their ids are not used again."""
        self._time_ns: int | None = None
        self._tracks: Tracks = np.zeros(0, TRACK)
        self._frames: deque[_Frame] = deque()

    def step(self, time_ns: int, measurements: Boxes2D) -> Tracks2D:
        """Tracks at the newest time, after the measurements of one frame; an empty frame is a frame too.

        Args:
            time_ns: stamp of the measurements, nanoseconds. One up to `max_lag` older than the newest is sorted in,
                as if it had come in time.
            measurements: M boxes; unusable ones are counted in `dropped`.

        Raises:
            TimeError: `time_ns` is older than that; `reset` first.
        """
        boxes = self._usable(measurements)
        later = self._later_than(time_ns)
        fresh = self._next_id
        for frame in [_Frame(time_ns, boxes, None, self._tracks), *later]:
            self._process(frame, fresh)
        self._forget()
        return self._shown()

    @property
    def tracks(self) -> Tracks:
        """All tracks after the newest frame, also those that are not shown; no step changes them."""
        return self._tracks

    def _usable(self, boxes: Boxes2D) -> Boxes2D:
        usable = track_life.usable(
            models.measurable(np.ascontiguousarray(boxes.xyxy, np.float64)),
            np.ascontiguousarray(boxes.scores, np.float64),
            np.ascontiguousarray(boxes.class_ids, np.int64),
            MAX_CLASSES,
        )
        usable = best(usable, boxes.scores)
        if len(usable) == len(boxes):
            return boxes
        self.dropped += len(boxes) - len(usable)
        return boxes[usable]

    # --- Late frames

    def _later_than(self, time_ns: int) -> list[_Frame]:
        """The frames newer than this stamp, after going back to the tracks before them."""
        if self._time_ns is None or time_ns >= self._time_ns:
            return []
        later = [frame for frame in self._frames if frame.time_ns > time_ns]
        oldest_ns = self._time_ns - round(self.config.max_lag * SECOND)
        before_ns = later[0].before_ns
        if time_ns < oldest_ns or (before_ns is not None and time_ns < before_ns):
            oldest_ns = max(oldest_ns, oldest_ns if before_ns is None else before_ns)
            raise TimeError(f"expected a stamp of at least {oldest_ns} ns, got {time_ns} ns; reset to start afresh")
        for _ in later:
            self._frames.pop()
        self._time_ns, self._tracks = before_ns, later[0].before
        return later

    def _forget(self) -> None:
        """Drop the frames that no late one can come before."""
        assert self._time_ns is not None
        oldest_ns = self._time_ns - round(self.config.max_lag * SECOND)
        while len(self._frames) > MAX_BUFFERED or (len(self._frames) > 1 and self._frames[1].time_ns < oldest_ns):
            self._frames.popleft()

    # --- One frame

    def _process(self, frame: _Frame, fresh: int) -> None:
        """`fresh` is the first id that nobody has seen before the frame which is being sorted in."""
        frame.before_ns, frame.before = self._time_ns, self._tracks
        self._frames.append(frame)
        boxes = np.ascontiguousarray(frame.boxes.xyxy, np.float64)
        z, odds = models.to_measurements(boxes), log_odds(frame.boxes.scores)

        covered = self._predict(frame.time_ns)
        overlaps = overlap(boxes, models.to_boxes(self._tracks["mean"][:, :, models.VALUE]))
        clutter_density, detection_probability = self._clutter_density(odds), self._detection_probability(covered)
        association = self._associate(frame.boxes, z, overlaps, clutter_density, detection_probability)
        self._update(frame, z, odds, association, detection_probability)
        self._rename(frame, association, fresh)
        self._end(association)
        self._start(frame, z, odds, association, overlaps, clutter_density)

    def _predict(self, time_ns: int) -> Floats:
        """Eq. 15 over the time since the last frame, for existence as well; the share of each track that is covered."""
        config, visibility = self.config, self.config.visibility
        dt = 0.0 if self._time_ns is None else (time_ns - self._time_ns) / SECOND
        self._time_ns = time_ns
        alive = time_ns - self._tracks["seen_ns"] <= config.max_silence * SECOND  # a gap in time ends tracks, too
        self._tracks = tracks = self._tracks.compress(alive)  # as [alive], but quicker
        models.predict(tracks["mean"], tracks["covariance"], dt, self._motion)
        tracks["existence"] = life.survive(tracks["existence"], config.half_life, dt)
        boxes = models.to_boxes(tracks["mean"][:, :, models.VALUE])
        # What was measured later is in front: while an object is hidden its estimate may drift anywhere.
        covered = models.covered(boxes, tracks["existence"], tracks["seen_ns"])
        tracks["visibility"] = life.stay_visible(
            tracks["visibility"], visibility.visible_time, visibility.hidden_time, covered, dt
        )
        return covered

    def _detection_probability(self, covered: Floats) -> Floats:
        """(N,) of visible objects."""
        detector = self.config.detector
        return track_life.detection_probabilities(
            self._tracks["score"],
            covered,
            detector.detection_offset,
            detector.detection_slope,
            detector.probability,
            self.config.visibility.occlusion,
        )

    def _clutter_density(self, odds: Floats) -> Floats:
        """(M,) of each box's score."""
        detector = self.config.detector
        return track_life.clutter_densities(odds, detector.clutter_density, detector.truth_offset, detector.truth_slope)

    def _associate(
        self, boxes: Boxes2D, z: Floats, overlaps: Floats, clutter_density: Floats, detection_probability: Floats
    ) -> AssociationWeights:
        """Weights over all joint events of M boxes and N tracks.

        A pair weighs r P_D p(z) IoU, a box of no track the densities of clutter and of new objects, a missed track
        1 - r P_D, where r P_D includes that the object is visible.
        """
        config, tracks = self.config, self._tracks
        log_likelihood = models.log_likelihood(
            z,
            tracks["mean"],
            tracks["covariance"],
            self._measured,
            config.noise.tails,
            overlaps,
            config.gate_iou,
            config.gate_distance,
        )
        detected = tracks["visibility"] * detection_probability
        log_likelihood += np.log(tracks["existence"] * detected)
        if boxes.class_ids.any() or tracks["votes"][:, 1:].any():
            log_likelihood[boxes.class_ids[:, None] != tracks["votes"].argmax(1)] += np.log(config.class_mismatch)
        log_alone = np.log(clutter_density + config.birth_density)
        association = association_weights(
            log_likelihood, log_alone, life.log_missed(tracks["existence"], detected), MAX_STATES
        )
        self.approximated += not association.exact
        return with_resolved_identities(association) if config.identities == "resolved" else association

    def _update(
        self, frame: _Frame, z: Floats, odds: Floats, association: AssociationWeights, detection_probability: Floats
    ) -> None:
        """Eq. 16-17; score and class follow the box that is likeliest to be the track's."""
        config, tracks, missed = self.config, self._tracks, association.missed
        models.correct(
            tracks["mean"],
            tracks["covariance"],
            z,
            association.weights,
            self._measured,
            config.noise.tails,
            SPREADS.index(config.spread),
            config.noise.adaptation,
        )
        existence, visibility = tracks["existence"], tracks["visibility"]
        after = life.posterior(existence, visibility * detection_probability, missed)
        tracks["visibility"] = life.visible(existence, visibility, detection_probability, missed)
        tracks["existence"] = np.minimum(after, SURE)
        tracks["confirmed"] |= after >= config.confirmation
        track_life.credit(
            association.weights,
            missed,
            z,
            odds,
            np.ascontiguousarray(frame.boxes.scores, np.float64),
            np.ascontiguousarray(frame.boxes.class_ids, np.int64),
            frame.time_ns,
            config.score_memory,
            tracks["score"],
            tracks["votes"],
            tracks["measured"],
            tracks["hits"],
            tracks["seen_ns"],
        )

    def _rename(self, frame: _Frame, association: AssociationWeights, fresh: int) -> None:
        """Where a late frame has just started the track that this one had started before, the old id stays."""
        ids = self._tracks["id"]
        for row, known in frame.ids.items():
            column = association.assignment[row]
            if column < 0 or known in ids or ids[column] < fresh:
                continue
            renamed, ids[column] = ids[column], known
            for other in self._frames:
                other.ids = {r: known if track == renamed else track for r, track in other.ids.items()}

    def _end(self, association: AssociationWeights) -> None:
        """Deaths: hardly likely to exist, or a second track of an object that has one already."""
        tracks, config = self._tracks, self.config
        over = track_life.ended(
            models.to_boxes(tracks["mean"][:, :, models.VALUE]),
            tracks["existence"],
            tracks["hits"],
            association.assignment,
            config.merge_iou,
            config.merge_hits,
            config.deletion,
        )
        if over.any():
            self._tracks = tracks[~over]

    def _start(
        self,
        frame: _Frame,
        z: Floats,
        odds: Floats,
        association: AssociationWeights,
        overlaps: Floats,
        clutter_density: Floats,
    ) -> None:
        """Births: boxes exist, as tracks, with the probability that they are of no track and no clutter."""
        config = self.config
        existence = track_life.births(
            association.clutter,
            clutter_density,
            overlaps,
            config.birth_density,
            config.min_birth,
            config.birth_iou,
        )
        existence = track_life.without_doubles(existence, models.to_boxes(z), config.merge_iou)
        rows = np.flatnonzero(existence)
        if not len(rows):
            return
        born = np.zeros(len(rows), TRACK)
        born["mean"], born["covariance"] = models.initial_state(z[rows], self._measured, self._rates)
        born["measured"], born["existence"], born["visibility"] = z[rows], existence[rows], 1.0
        born["score"], born["hits"], born["seen_ns"] = odds[rows], 1, frame.time_ns
        born["confirmed"] = existence[rows] >= config.confirmation
        born["votes"][np.arange(len(rows)), frame.boxes.class_ids[rows]] = frame.boxes.scores[rows]
        born["id"] = [self._id(frame, row) for row in rows.tolist()]
        self._tracks = np.concatenate([self._tracks, born])

    def _id(self, frame: _Frame, row: int) -> int:
        """The id of the track that a box starts: the same one when its frame is processed again."""
        if row not in frame.ids:
            frame.ids[row] = self._next_id
            self._next_id += 1
        return frame.ids[row]

    def _shown(self) -> Tracks2D:
        """Confirmed tracks: measured now, between their estimate and the measurement, or held."""
        assert self._time_ns is not None
        tracks, config = self._tracks, self.config
        return Tracks2D(
            *track_life.shown(
                tracks["confirmed"],
                tracks["seen_ns"],
                tracks["id"],
                tracks["mean"],
                tracks["measured"],
                tracks["score"],
                tracks["votes"],
                self._time_ns,
                config.hold * SECOND,
                config.measured_share,
            )
        )


def log_odds(scores: Floats) -> Floats:
    """(M,) as `track_life.log_odds`, of scores of any type."""
    return track_life.log_odds(np.ascontiguousarray(scores, np.float64))


def best(rows: Integers, scores: Floats) -> Integers:
    """The rows (K,), in order, or those MAX_BOXES of them whose scores (M,) are the highest."""
    if len(rows) <= MAX_BOXES:
        return rows
    return np.sort(rows[np.argsort(-scores[rows], kind="stable")[:MAX_BOXES]])
