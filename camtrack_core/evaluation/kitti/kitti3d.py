"""Scores of tracks in space on KITTI's tracking labels: sAMOTA, AMOTA, AMOTP and MOTA as AB3DMOT defines them.

Source: X. Weng, J. Wang, D. Held and K. Kitani, "3D Multi-Object Tracking: A Baseline and New Evaluation Metrics",
IROS 2020. Tracks and truth are matched by 3D IoU. A track's score is the mean over its boxes; thresholds on it are
chosen so that the recall climbs in 40 even steps, and CLEAR MOT at these steps is averaged. A step that the tracker's
recall does not reach counts as 0.

Neighbouring classes and hardly visible objects are neither hit nor miss; tracked boxes that match nothing do not
count where they are low in the image or lie on a DontCare region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from camtrack_core.datasets.kitti.rows import KittiObjects
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.geometry.boxes import Floats, Integers, coverage
from camtrack_core.geometry.overlap import iou_3d

STEPS = 40  # of recall
MIN_IOU = 0.25
MIN_HEIGHT = 25.0  # pixels; unmatched boxes up to this height do not count
MAX_OCCLUSION, MAX_TRUNCATION = 2, 0
IGNORE_COVERAGE = 0.5
NEIGHBOURS = {"Car": "Van", "Pedestrian": "Person", "Cyclist": ""}
IMPOSSIBLE = 1e9  # cost of a pair that must not be matched
NOBODY = -1
UNROUNDED = 1e-9  # slack that no rounding of a mean exceeds


@dataclass(frozen=True)
class Scores3D:
    """Scores over all sequences together; fractions, 1 is perfect.

    Attributes:
        samota, amota, amotp: means over the steps of recall.
        mota, motp: CLEAR MOT at the step where mota is best, as are the counts.
        threshold: on the mean score of a track, at that step.
        hits: includes those on objects that are neither hit nor miss.
    """

    samota: float
    amota: float
    amotp: float
    mota: float
    motp: float
    id_switches: int
    fragmentations: int
    false_positives: int
    misses: int
    hits: int
    threshold: float


def score_tracks_3d(
    truth: Mapping[str, KittiObjects],
    tracks: Mapping[str, KittiObjects],
    kind: str = "Car",
    min_iou: float = MIN_IOU,
    slack: float = 0.0,
) -> Scores3D:
    """Scores of one class over sequences.

    The authors' evaluation averages the scores of a track anew at every threshold, and a mean of means is sometimes
    smaller than itself by rounding, so that a track whose score is the threshold drops out. With slack 0 the scores
    are the authors' to the last digits; with slack UNROUNDED they are those of the definition.

    Args:
        truth: labels by sequence.
        tracks: results by sequence; every box has a score.
        kind: "Car", "Pedestrian" or "Cyclist".
        min_iou: least 3D IoU of a match.
        slack: how far below a threshold a track's mean score may lie.

    Raises:
        ConfigurationError: an unknown class.
        DataError: no sequence, a sequence without results, an id twice in a frame, or no object of the class.
    """
    check_kind(kind)
    if not truth or set(truth) != set(tracks):
        raise DataError(f"expected results for the sequences {sorted(truth)}, got {sorted(tracks)}")
    sequences = [_Sequence(name, truth[name], tracks[name], kind, min_iou) for name in sorted(truth)]

    def count(threshold: float) -> _Counts:
        return sum((sequence.count(threshold - slack) for sequence in sequences), start=_Counts())

    everything = count(-np.inf)
    if not everything.objects:
        raise DataError(f"expected labelled objects of class {kind}, found none")
    steps = _recall_steps(np.sort(everything.hit_scores)[::-1], everything.hits + everything.misses)
    counts = [count(threshold) for threshold, _ in steps]
    samota = sum(c.scaled_mota(recall) for c, (_, recall) in zip(counts, steps, strict=True)) / STEPS
    best = max(range(len(counts)), key=lambda i: counts[i].mota, default=None)
    chosen = everything if best is None else counts[best]
    return Scores3D(
        samota=samota,
        amota=sum(c.mota for c in counts) / STEPS,
        amotp=sum(c.motp for c in counts) / STEPS,
        mota=chosen.mota,
        motp=chosen.motp,
        id_switches=chosen.id_switches,
        fragmentations=chosen.fragmentations,
        false_positives=chosen.false_positives,
        misses=chosen.misses,
        hits=chosen.hits,
        threshold=-np.inf if best is None else steps[best][0],
    )


def check_kind(kind: str) -> None:
    """Raises ConfigurationError for a class that is not scored."""
    if kind not in NEIGHBOURS:
        raise ConfigurationError(f"expected one of the classes {', '.join(NEIGHBOURS)}, got {kind!r}")


@dataclass(frozen=True)
class _Counts:
    """CLEAR MOT at one threshold.

    `objects` that count are hit or missed; `hits`, their `hit_scores` and `overlap`, the sum of their IoUs, include
    those on objects that do not count.
    """

    objects: int = 0
    hits: int = 0
    misses: int = 0
    false_positives: int = 0
    id_switches: int = 0
    fragmentations: int = 0
    overlap: float = 0.0
    hit_scores: tuple[float, ...] = ()

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def errors(self) -> int:
        return self.misses + self.false_positives + self.id_switches

    @property
    def mota(self) -> float:
        return 1 - self.errors / self.objects

    @property
    def motp(self) -> float:
        return self.overlap / self.hits if self.hits else 0.0

    def scaled_mota(self, recall: float) -> float:
        """sMOTA: the misses that this recall implies are forgiven, and the rest is relative to it."""
        return min(1.0, max(0.0, 1 - (self.errors - (1 - recall) * self.objects) / (recall * self.objects)))


def _recall_steps(scores: Floats, count: int) -> list[tuple[float, float]]:
    """Threshold and recall of each step: the score of the hit at which the recall comes nearest to it.

    Args:
        scores: (H,) scores of the hits, falling.
        count: number of true objects that they are a share of.
    """
    steps: list[tuple[float, float]] = []
    last = len(scores) - 1
    for i, score in enumerate(scores):
        wanted = len(steps) / STEPS
        left, right = (i + 1) / count, (i + 2) / count
        if i < last and right - wanted < wanted - left:
            continue
        steps.append((float(score), wanted))
    return steps[1:]  # the first one is at recall 0


@dataclass(frozen=True)
class _Frame:
    """Truth of a frame and its overlap with the tracked boxes `rows` of the sequence."""

    truth: Integers
    scored: NDArray[np.bool_]
    rows: Integers
    overlap: Floats


class _Sequence:
    def __init__(self, name: str, truth: KittiObjects, tracks: KittiObjects, kind: str, min_iou: float) -> None:
        kinds = [kind, NEIGHBOURS[kind]]
        objects, dont_care = truth[np.isin(truth.kinds, kinds)], truth[truth.kinds == "DontCare"]
        found = tracks[np.isin(tracks.kinds, kinds)]
        found = found[np.argsort(found.frames, kind="stable")]
        if not np.isfinite(found.scores).all():
            raise DataError(f"expected tracks with finite scores in sequence {name}, got a box without")
        if len(set(zip(found.frames.tolist(), found.ids.tolist(), strict=True))) < len(found):
            raise DataError(f"expected every id once in a frame, got one twice in sequence {name}")
        self._min_iou = min_iou
        self._ids = found.ids
        self._scores = found.scores
        self._ever_matched = np.zeros(len(found), bool)
        self._ignorable = (np.abs(found.xyxy[:, 3] - found.xyxy[:, 1]) <= MIN_HEIGHT) | (found.kinds != kind)
        visible = (objects.occlusion <= MAX_OCCLUSION) & (objects.truncation <= MAX_TRUNCATION)
        scored = visible & (objects.kinds == kind)
        self._frames = []
        for number in np.union1d(objects.frames, found.frames):
            g, rows = objects.frames == number, np.flatnonzero(found.frames == number)
            regions = dont_care.xyxy[dont_care.frames == number]
            self._ignorable[rows] |= (coverage(found.xyxy[rows], regions) > IGNORE_COVERAGE).any(1)
            overlap = iou_3d(objects.boxes[g], found.boxes[rows])
            self._frames.append(_Frame(objects.ids[g], scored[g], rows, overlap))

    def count(self, threshold: float) -> _Counts:
        """CLEAR MOT over the tracks whose mean score is at least the threshold."""
        self._scores = _means(self._ids, self._scores)
        misses, false_positives, overlap = 0, 0, 0.0
        hit_scores: list[float] = []
        histories: dict[int, list[tuple[int, bool]]] = {}
        for frame in self._frames:
            kept = self._scores[frame.rows] >= threshold
            rows, shared = frame.rows[kept], frame.overlap[:, kept]
            g, t = self._matched(shared)
            partner = np.full(len(frame.truth), NOBODY)
            partner[g] = self._ids[rows[t]]
            self._ever_matched[rows[t]] = True
            # A box that matched at an earlier threshold is no longer taken out: so does the authors' evaluation.
            ignored = self._ignorable[rows] & ~self._ever_matched[rows]
            misses += int((frame.scored & (partner == NOBODY)).sum())
            false_positives += len(rows) - len(t) - int(ignored.sum())
            overlap += float(shared[g, t].sum())
            hit_scores += self._scores[rows[t]].tolist()
            for truth, track, scored in zip(frame.truth.tolist(), partner.tolist(), frame.scored.tolist(), strict=True):
                histories.setdefault(truth, []).append((track, scored))
        objects = sum(int(frame.scored.sum()) for frame in self._frames)
        changes = [_changes(history) for history in histories.values()]
        return _Counts(
            objects=objects,
            hits=len(hit_scores),
            misses=misses,
            false_positives=false_positives,
            id_switches=sum(switches for switches, _ in changes),
            fragmentations=sum(fragmentations for _, fragmentations in changes),
            overlap=overlap,
            hit_scores=tuple(hit_scores),
        )

    def _matched(self, overlap: Floats) -> tuple[Integers, Integers]:
        """As many pairs as possible, and of those the ones that overlap most."""
        possible = overlap >= self._min_iou
        if not overlap.size:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        rows, columns = linear_sum_assignment(np.where(possible, 1 - overlap, IMPOSSIBLE))
        chosen = possible[rows, columns]
        return rows[chosen], columns[chosen]


def _means(ids: Integers, scores: Floats) -> Floats:
    """(N,) for each box the mean score of its track."""
    _, track, count = np.unique(ids, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(track, scores, len(count)) / count)[track], np.float64)


def _changes(history: Sequence[tuple[int, bool]]) -> tuple[int, int]:
    """Switches of id and fragmentations of one true object.

    Args:
        history: for each of its frames the track that it was matched to, or NOBODY, and whether it counts there.
    """
    tracks = [track for track, _ in history]
    switches = fragmentations = 0
    last = tracks[0]
    for f in range(1, len(tracks)):
        now, before = tracks[f], tracks[f - 1]
        if not history[f][1]:
            last = NOBODY
            continue
        if now == NOBODY:
            continue
        switches += last not in (now, NOBODY) and before != NOBODY
        if f == len(tracks) - 1:  # the authors count a match that begins with the last frame, too
            fragmentations += before != now
        else:
            fragmentations += last != NOBODY and before != now and tracks[f + 1] != NOBODY
        last = now
    return switches, fragmentations
