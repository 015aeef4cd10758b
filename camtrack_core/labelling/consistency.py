"""What detections agree on over time: the second pass that turns a detector's output into labels.

Detections are linked from frame to frame, once forward and once backward in time, so that an object that is
hard to find at its birth gains from what is known of it later. Stretches of such a chain that are long, gapless
and confident enough are labels, gaps included; what is left over but not negligible is an ignored region.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.optimize import linear_sum_assignment

from camtrack_core.geometry.boxes import Boxes2D, Floats, coverage, iou
from camtrack_core.geometry.tracks import Tracks2D

Detection = tuple[int, int]  # frame, row in the frame's Boxes2D
Link = tuple[Detection, Detection]  # the earlier, the later


@dataclass(frozen=True)
class Rules:
    """When detections belong together and when a chain of them is a label.

    Attributes:
        link_iou: least IoU of a prediction and a detection, both grown by `margin`.
        margin: share of its size that a box grows on each side for the linking; small boxes jump when the
            camera shakes.
        sure_score: detections from here on are linked first.
        max_gap: most frames that a chain may miss in a row.
        window: number of frames of the moving mean of a chain's score.
        min_local_score: a stretch lasts while the moving mean stays above.
        min_frames: least number of detections in a stretch.
        min_share: least share of its frames in which a stretch is detected.
        min_mean_score, min_best_score: least mean and best score of a stretch.
        ignore_score, ignore_frames: least score and number of detections of what becomes ignored regions.
        ignore_lone_score: least score of a shorter left-over to become an ignored region.
    """

    link_iou: float = 0.35
    margin: float = 0.2
    sure_score: float = 0.3
    max_gap: int = 5
    window: int = 7
    min_local_score: float = 0.25
    min_frames: int = 5
    min_share: float = 0.6
    min_mean_score: float = 0.35
    min_best_score: float = 0.5
    ignore_score: float = 0.15
    ignore_frames: int = 3
    ignore_lone_score: float = 0.3


@dataclass
class _Open:
    """A chain that the linking may still extend."""

    last: Detection
    box: Floats  # (4,) at the last detection
    score: float  # moving mean
    velocity: Floats = field(default_factory=lambda: np.zeros(4))  # (4,) pixels per frame

    def predict(self, frame: int) -> Floats:
        return self.box + self.velocity * (frame - self.last[0])

    def extend(self, detection: Detection, box: Floats, score: float) -> None:
        change = (box - self.box) / (detection[0] - self.last[0])
        shift = np.tile((change[:2] + change[2:]) / 2, 2)  # of the centre; sizes are too noisy to extrapolate
        first = not self.velocity.any()
        self.velocity = shift if first else 0.6 * self.velocity + 0.4 * shift
        self.last, self.box, self.score = detection, box, 0.7 * self.score + 0.3 * score


@dataclass(frozen=True)
class _Stretch:
    """A part of a chain with its gaps filled.

    Attributes:
        track_id: the same for all stretches of one chain.
        start: first frame.
        xyxy: (L, 4) float, pixels, one row a frame.
        scores: (L,) float, interpolated in gaps.
        detected: (L,) bool, False in gaps.
        class_id: by vote over the chain.
    """

    track_id: int
    start: int
    xyxy: Floats
    scores: Floats
    detected: np.ndarray
    class_id: int

    def part(self, begin: int, end: int) -> _Stretch:
        rows = slice(begin, end)
        start = self.start + begin
        return _Stretch(self.track_id, start, self.xyxy[rows], self.scores[rows], self.detected[rows], self.class_id)


def consistent_tracks(
    detections: list[Boxes2D], unclear: list[Floats], class_count: int, rules: Rules
) -> tuple[list[Tracks2D], list[Floats]]:
    """Labels and ignored regions of a recording.

    Args:
        detections: per frame, of low scores too.
        unclear: per frame (M, 5) regions with scores that are to be ignored anyway.
        class_count: number of classes that class_ids index.
        rules: thresholds.

    Returns:
        Per frame the labels, and per frame the ignored regions (M, 5): x1, y1, x2, y2, score.
    """
    chains = [_fill(i, c, detections, class_count) for i, c in enumerate(link(detections, rules), start=1)]
    stretches = [stretch for chain in chains for stretch in _stretches(chain, rules)]
    strong = [s for s in stretches if _is_label(s, rules)]
    weak = [s for s in stretches if not _is_label(s, rules) and _is_ignored(s, rules)]
    labels = [_rows_at(strong, frame) for frame in range(len(detections))]
    ignored = []
    for frame, label in enumerate(labels):
        left = _rows_at(weak, frame)
        regions = np.concatenate([np.column_stack([left.xyxy, left.scores]), unclear[frame].reshape(-1, 5)])
        regions = regions[regions[:, 4] >= rules.ignore_score / 2]
        ignored.append(regions[~_covered(regions[:, :4], label.xyxy)])
    return labels, ignored


def link(detections: list[Boxes2D], rules: Rules) -> list[list[Detection]]:
    """Chains of detections of one object each, in the order of their first frame.

    Links of the forward pass hold; those of the backward pass join what the forward pass left apart.
    """
    following: dict[Detection, Detection] = {}
    preceding: dict[Detection, Detection] = {}
    forward = _links(detections, range(len(detections)), rules)
    backward = [(b, a) for a, b in _links(detections, range(len(detections) - 1, -1, -1), rules)]
    for earlier, later in forward + backward:
        if earlier not in following and later not in preceding:
            following[earlier], preceding[later] = later, earlier
    heads = [(f, row) for f, boxes in enumerate(detections) for row in range(len(boxes))]
    chains = [[head] for head in heads if head not in preceding]
    for chain in chains:
        while chain[-1] in following:
            chain.append(following[chain[-1]])
    return chains


def _links(detections: list[Boxes2D], order: range, rules: Rules) -> list[Link]:
    """Links made while going through the frames in `order`, each from the frame seen first.

    Sure detections choose their chain first, the others extend what is left.
    """
    links: list[Link] = []
    chains: list[_Open] = []
    for frame in order:
        boxes = detections[frame]
        chains = [c for c in chains if abs(frame - c.last[0]) <= rules.max_gap + 1]
        free, taken = chains, set()
        for rows in _split(boxes.scores >= rules.sure_score):
            for chain, row in _match(free, boxes.xyxy, rows, frame, rules):
                links.append((chain.last, (frame, row)))
                chain.extend((frame, row), boxes.xyxy[row], boxes.scores[row])
                taken.add(row)
            free = [c for c in free if c.last[0] != frame]
        born = set(range(len(boxes))) - taken
        chains += [_Open((frame, row), boxes.xyxy[row], boxes.scores[row]) for row in sorted(born)]
    return links


def _split(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def _match(chains: list[_Open], xyxy: Floats, rows: np.ndarray, frame: int, rules: Rules) -> list[tuple[_Open, int]]:
    """Pairs of chain and row with the greatest sum of IoU; ties go to the chains of better score."""
    if not chains or not len(rows):
        return []
    predictions = _grow(np.array([c.predict(frame) for c in chains]), rules.margin)
    overlap = iou(predictions, _grow(xyxy[rows], rules.margin))
    scores = np.array([c.score for c in chains])
    gain = np.where(overlap >= rules.link_iou, overlap + 0.3 * scores[:, None], 0)
    pairs = zip(*linear_sum_assignment(-gain), strict=True)
    return [(chains[i], int(rows[j])) for i, j in pairs if gain[i, j] > 0]


def _grow(xyxy: Floats, share: float) -> Floats:
    size = np.tile(xyxy[:, 2:] - xyxy[:, :2], 2)
    return xyxy + share * size * np.array([-1, -1, 1, 1])


def _fill(track_id: int, chain: list[Detection], detections: list[Boxes2D], class_count: int) -> _Stretch:
    """A chain's boxes at every frame of its span, linearly interpolated, and its class by vote of scores."""
    frames = np.array([frame for frame, _ in chain])
    xyxy = np.array([detections[frame].xyxy[row] for frame, row in chain])
    scores = np.array([detections[frame].scores[row] for frame, row in chain])
    class_ids = np.array([detections[frame].class_ids[row] for frame, row in chain])
    span = np.arange(frames[0], frames[-1] + 1)
    return _Stretch(
        track_id,
        start=int(frames[0]),
        xyxy=np.stack([np.interp(span, frames, side) for side in xyxy.T], 1),
        scores=np.interp(span, frames, scores),
        detected=np.isin(span, frames),
        class_id=int(np.bincount(class_ids, scores, class_count).argmax()),
    )


def _stretches(chain: _Stretch, rules: Rules) -> list[_Stretch]:
    """A chain cut where its moving mean score crosses `min_local_score`."""
    local = uniform_filter1d(chain.scores, rules.window, mode="nearest") >= rules.min_local_score
    # The moving mean reaches beyond the last good detection; a stretch ends with it.
    local &= chain.scores >= rules.min_local_score / 2
    cuts = [0, *(np.flatnonzero(np.diff(local)) + 1).tolist(), len(local)]
    return [chain.part(begin, end) for begin, end in pairwise(cuts)]


def _is_label(stretch: _Stretch, rules: Rules) -> bool:
    hits = stretch.detected.sum()
    return bool(
        hits >= rules.min_frames
        and hits >= rules.min_share * len(stretch.detected)
        and stretch.scores.mean() >= rules.min_mean_score
        and stretch.scores.max() >= rules.min_best_score
    )


def _is_ignored(stretch: _Stretch, rules: Rules) -> bool:
    lasting = stretch.detected.sum() >= rules.ignore_frames
    return bool(stretch.scores.max() >= (rules.ignore_score if lasting else rules.ignore_lone_score))


def _rows_at(stretches: list[_Stretch], frame: int) -> Tracks2D:
    """The boxes of all stretches that include a frame."""
    alive = [(s, frame - s.start) for s in stretches if 0 <= frame - s.start < len(s.xyxy)]
    return Tracks2D(
        np.array([s.track_id for s, _ in alive], np.int64),
        np.array([s.xyxy[k] for s, k in alive]).reshape(-1, 4),
        np.array([s.scores[k] for s, k in alive], float),
        np.array([s.class_id for s, _ in alive], np.int64),
    )


def _covered(regions: Floats, labels: Floats) -> np.ndarray:
    """(N,) whether a region only repeats a label: a second box of it or a part of it."""
    repeats = (iou(regions, labels) > 0.5) | (coverage(regions, labels) > 0.8)
    return np.any(repeats, axis=1)
