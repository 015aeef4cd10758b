"""The tracker around PKF in the image: predict, gate, associate, update, exist, end, start, output (paper Sec. V).

Every track carries the probability that it is an object at all, and that the object is visible; both take part in the
association and follow from it (see `existence`). They decide on births, on what is shown and on deaths, where the
paper counts hits and ages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camtrack_core.geometry.boxes import Boxes2D, Floats
from camtrack_core.geometry.tracks import Tracks2D
from pkf_filter.association.budget import Budget
from pkf_filter.association.weights import AssociationWeights
from pkf_filter.filtering.estimators import with_resolved_identities
from pkf_filter.filtering.update import SPREADS
from pkf_filter.image import kernels, models
from pkf_filter.image.config import FilterConfig
from pkf_filter.image.models import overlap
from pkf_filter.life import classes, existence, scores
from pkf_filter.life.history import SECOND, Entry, History
from pkf_filter.life.scores import MAX_CLASSES

SURE = 1 - 1e-4  # existence at most: nobody is ever certain
ONE_GROUP = np.zeros(MAX_CLASSES, np.int64)  # any class may be taken for any other
OWN_CLASS = np.eye(MAX_CLASSES)  # which alone a box votes for

TRACK = np.dtype(
    [
        ("mean", np.float64, (models.COORDINATES, 2)),
        ("covariance", np.float64, (models.COORDINATES, 3)),
        ("measured", np.float64, models.COORDINATES),  # the last measurement
        ("existence", np.float64),
        ("visibility", np.float64),  # probability to be visible, of an object that exists
        ("covered", np.float64),  # expected share that lies behind others
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
class _Frame(Entry[Tracks]):
    """One frame, and what its scores say for each box, (M,)."""

    boxes: Boxes2D = field(kw_only=True)
    evidence: Floats = field(kw_only=True)


class _Gated(NamedTuple):
    """Which of M boxes may be which of N tracks.

    Attributes:
        z: (M, 4) measurements, overlaps: (M, N) IoU.
        log_density: (M, N) of the boxes given tracks, -inf beyond the gates.
        log_clutter: (M,) log density of false boxes of each box's score.
        detection_probability: (N,) of visible objects.
    """

    z: Floats
    overlaps: Floats
    log_density: Floats
    log_clutter: Floats
    detection_probability: Floats


class Tracker:
    """Boxes of one camera to tracks.

    Attributes:
        dropped: measurements so far that no track can be made of (not finite, without area, of a class id outside
            [0, MAX_CLASSES), or beyond the MAX_BOXES of the highest scores) and that were left out.
        budget: of the time that association takes; it counts the frames by how their weights were made.
    """

    def __init__(self, config: FilterConfig | None = None) -> None:
        self.config = config or FilterConfig()
        self.dropped = 0
        self.budget = Budget(self.config.association_time)
        noise = self.config.noise
        self._class_factors = classes.mismatches(ONE_GROUP, self.config.class_mismatch, self.config.class_mismatch)
        self._measured = models.measured_deviations(noise)
        self._motion = models.motion_deviations(noise)
        self._rates = models.initial_rate_deviations(noise)
        self._history: History[_Frame] = History()
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; their ids are not used again."""
        self._time_ns: int | None = None
        self._tracks: Tracks = np.zeros(0, TRACK)
        self._history.clear()

    def step(self, time_ns: int, measurements: Boxes2D) -> Tracks2D:
        """Tracks at the newest time, after the measurements of one frame; an empty frame is a frame too.

        Args:
            time_ns: stamp of the measurements, nanoseconds. One up to `max_lag` older than the newest is sorted in,
                as if it had come in time.
            measurements: M boxes; unusable ones are counted in `dropped`.

        Raises:
            TimeError: `time_ns` is older than that; `reset` first.
        """
        boxes, detector = self._usable(measurements), self.config.detector
        later = self._history.back_to(time_ns, self._time_ns, self.config.max_lag)
        if later:
            self._time_ns, self._tracks = later[0].before_ns, later[0].before
        evidence = scores.evidence(_floats(boxes.scores), detector.score_offset, detector.score_slope)
        frame = _Frame(time_ns, self._time_ns, self._tracks, boxes=boxes, evidence=evidence)
        for each in [frame, *later]:
            self._process(each)
        assert self._time_ns is not None
        self._history.forget(self._time_ns, self.config.max_lag)
        return self._output()

    @property
    def tracks(self) -> Tracks:
        """All tracks after the newest frame, also those that are not shown; no step changes them."""
        return self._tracks

    def _usable(self, boxes: Boxes2D) -> Boxes2D:
        usable = scores.usable(
            models.measurable(_floats(boxes.xyxy)),
            _floats(boxes.scores),
            np.ascontiguousarray(boxes.class_ids, np.int64),
            MAX_CLASSES,
        )
        usable = scores.best(usable, boxes.scores)
        if len(usable) == len(boxes):
            return boxes
        self.dropped += len(boxes) - len(usable)
        return boxes[usable]

    # --- One frame, in the steps of `space.tracker`

    def _process(self, frame: _Frame) -> None:
        frame.before_ns, frame.before = self._time_ns, self._tracks
        self._history.entries.append(frame)
        self._predict(frame.time_ns)
        gated = self._gate(frame)
        association = self._associate(frame, gated)
        self._update(gated, association)
        self._exist(frame, gated, association)
        self._end(association)
        self._start(frame, gated, association)

    def _predict(self, time_ns: int) -> None:
        """Eq. 15 over the time since the last frame, for existence and visibility as well."""
        config, visibility = self.config, self.config.visibility
        dt = 0.0 if self._time_ns is None else (time_ns - self._time_ns) / SECOND
        self._time_ns = time_ns
        alive = time_ns - self._tracks["seen_ns"] <= config.max_silence * SECOND  # a gap in time ends tracks, too
        self._tracks = tracks = self._tracks.compress(alive)  # as [alive], but quicker
        models.predict(tracks["mean"], tracks["covariance"], dt, self._motion)
        tracks["existence"] = existence.survive(tracks["existence"], config.half_life, dt)
        boxes = models.to_boxes(tracks["mean"][:, :, models.VALUE])
        # What was measured later is in front: while an object is hidden its estimate may drift anywhere.
        tracks["covered"] = models.covered(boxes, tracks["existence"], tracks["seen_ns"])
        tracks["visibility"] = existence.stay_visible(
            tracks["visibility"], visibility.visible_time, visibility.hidden_time, tracks["covered"], dt
        )

    def _gate(self, frame: _Frame) -> _Gated:
        config, detector, tracks = self.config, self.config.detector, self._tracks
        boxes = _floats(frame.boxes.xyxy)
        z, overlaps = models.to_measurements(boxes), overlap(boxes, models.to_boxes(tracks["mean"][:, :, models.VALUE]))
        log_density = models.log_likelihood(
            z,
            tracks["mean"],
            tracks["covariance"],
            self._measured,
            config.noise.tails,
            overlaps,
            config.gate_iou,
            config.gate_distance,
        )
        shares = scores.detected_shares(
            tracks["score"], detector.detection_probability, detector.score_offset, detector.detection_slope
        )
        detection_probability = np.minimum(shares, scores.CHANCE) * (1.0 - detector.occlusion * tracks["covered"])
        log_clutter = np.log(detector.clutter_density) - frame.evidence
        return _Gated(z, overlaps, log_density, log_clutter, detection_probability)

    def _associate(self, frame: _Frame, gated: _Gated) -> AssociationWeights:
        """Weights over all joint events of M boxes and N tracks.

        A pair weighs r P_D p(z) IoU, a box of no track the densities of clutter and of new objects, a missed track
        1 - r P_D, where r P_D includes that the object is visible.
        """
        config, tracks = self.config, self._tracks
        detected = tracks["visibility"] * gated.detection_probability
        pairs = existence.pair_weights(
            gated.log_density,
            tracks["existence"],
            detected,
            np.ascontiguousarray(frame.boxes.class_ids, np.int64),
            tracks["votes"].argmax(1),
            self._class_factors,
        )
        even = config.birth_existence
        log_new = np.log(config.detector.clutter_density * even / (1 - even))
        log_alone = np.logaddexp(gated.log_clutter, log_new)
        association = self.budget.associate(pairs, log_alone, existence.log_missed(tracks["existence"], detected))
        tracks["id"] = self._history.keep_ids(frame, association.assignment, tracks["id"])
        return with_resolved_identities(association) if config.identities == "resolved" else association

    def _update(self, gated: _Gated, association: AssociationWeights) -> None:
        """Eq. 16-17."""
        config, tracks = self.config, self._tracks
        models.correct(
            tracks["mean"],
            tracks["covariance"],
            gated.z,
            association.weights,
            self._measured,
            config.noise.tails,
            SPREADS.index(config.spread),
            config.noise.adaptation,
        )

    def _exist(self, frame: _Frame, gated: _Gated, association: AssociationWeights) -> None:
        """Existence and visibility by the association; score and class follow the box that is likeliest the track's."""
        config, tracks, missed = self.config, self._tracks, association.missed
        before, visibility, chance = tracks["existence"], tracks["visibility"], gated.detection_probability
        after = existence.posterior(before, visibility * chance, missed)
        tracks["visibility"] = existence.visible(before, visibility, chance, missed)
        tracks["existence"] = np.minimum(after, SURE)
        tracks["confirmed"] |= after >= config.confirmation
        own = scores.credit(
            association.weights,
            missed,
            _floats(frame.boxes.scores),
            np.ascontiguousarray(frame.boxes.class_ids, np.int64),
            OWN_CLASS,
            np.full(len(tracks), config.score_memory),
            tracks["score"],
            tracks["votes"],
        )
        measured = own >= 0
        tracks["measured"][measured] = gated.z[own[measured]]
        tracks["hits"] += measured
        tracks["seen_ns"][measured] = frame.time_ns

    def _end(self, association: AssociationWeights) -> None:
        """Deaths: hardly likely to exist, or a second track of an object that has one already."""
        tracks, config = self._tracks, self.config
        over = kernels.ended(
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

    def _start(self, frame: _Frame, gated: _Gated, association: AssociationWeights) -> None:
        """Births: boxes exist, as tracks, with the probability that they are of no track and no clutter."""
        config, z = self.config, gated.z
        newborn = existence.newborn(association.clutter, frame.evidence, config.birth_existence)
        newborn = kernels.births(newborn, gated.overlaps, config.min_birth, config.birth_iou)
        newborn = kernels.without_doubles(newborn, models.to_boxes(z), config.merge_iou)
        rows = np.flatnonzero(newborn)
        if not len(rows):
            return
        born = np.zeros(len(rows), TRACK)
        born["mean"], born["covariance"] = models.initial_state(z[rows], self._measured, self._rates)
        born["measured"], born["existence"], born["visibility"] = z[rows], newborn[rows], 1.0
        born["score"], born["hits"] = scores.evidence(_floats(frame.boxes.scores[rows]), 0.5, 1.0), 1
        born["seen_ns"] = frame.time_ns
        born["confirmed"] = newborn[rows] >= config.confirmation
        born["votes"][np.arange(len(rows)), frame.boxes.class_ids[rows]] = frame.boxes.scores[rows]
        born["id"] = [self._history.id_of(frame, row) for row in rows.tolist()]
        self._tracks = np.concatenate([self._tracks, born])

    def _output(self) -> Tracks2D:
        """Confirmed tracks: measured now, between their estimate and the measurement, or held."""
        assert self._time_ns is not None
        tracks, config = self._tracks, self.config
        return Tracks2D(
            *kernels.shown(
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


def _floats(values: NDArray[np.floating]) -> Floats:
    return np.ascontiguousarray(values, np.float64)
