"""The report's view of nuScenes submissions: tracks in space beside the objects that one camera shows.

Matching is that of CLEAR MOT in TrackEval with the similarity of `camtrack_core.evaluation.space`, the distance of
centres on the ground, so that the errors are those of the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from camtrack.evaluation.nuscenes import submissions
from camtrack.evaluation.run import Evaluation, LoadedTracks, Rules
from camtrack_core.datasets.frames import Truth
from camtrack_core.datasets.nuscenes import NuScenesSequence
from camtrack_core.datasets.sources import list_sources, open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.breakdown import KEPT, NOBODY, Judged, JudgedFrame
from camtrack_core.evaluation.nuscenes.submission import SubmittedBoxes, read_submission
from camtrack_core.evaluation.space import MATCH_DISTANCE, SpaceFrame, counted, ground_distances, score_in_space
from camtrack_core.evaluation.tracking import EPSILON, MATCH_IOU
from camtrack_core.geometry.tracks import Tracks2D

APART = 1_000_000  # between the ids of two sequences


def read_submissions(
    path: Path, truth: list[str], rules: Rules
) -> tuple[list[LoadedTracks], list[list[JudgedFrame]], Evaluation]:
    """The sequences, what became of every object in them, and the scores, all classes alike.

    Args:
        path: a submission, or a folder of NAME.json for each sequence, which holds tracks that its camera saw.
        truth: sources of nuScenes; key frames that a submission lacks are empty in it.
        rules: what counts.

    Raises:
        DataError: the truth is another data set, or a submission is missing, broken or without tracks.
    """
    loaded, judged, spaces = [], [], {}
    sequences = _sequences(path, truth)
    for name, sequence in sequences.items():
        file = _find(path, name, len(sequences))
        found = read_submission(file)
        keys = [(t, key[0]) for t, key in zip(sequence.truth(), sequence.keys(), strict=True) if key is not None]
        shown = [found[token] for _, token in keys if token in found]
        numbers = {i: k for k, i in enumerate(sorted({i for boxes in shown for i in boxes.ids.tolist() if i}))}
        if not shown or (not numbers and any(map(len, shown))):
            raise DataError(f"{file}: expected tracks in key frames of {name}, found none")
        frames = [counted(_frame(t, found.get(token), numbers, rules))[0] for t, token in keys]
        spaces[name] = frames
        loaded.append(LoadedTracks(sequence, file, [t for t, _ in keys], [], 0.0))
        judged.append(judge_in_space(frames, [t for t, _ in keys]))
    together = [_apart(frame, k * APART) for k, frames in enumerate(spaces.values()) for frame in frames]
    each = {name: score_in_space(frames)[0] for name, frames in spaces.items()}
    return loaded, judged, Evaluation(score_in_space(together)[0], each)


def judge_in_space(frames: Sequence[SpaceFrame], truth: Sequence[Truth]) -> list[JudgedFrame]:
    """What became of every object and track of a sequence; false tracks have no box in the image, but NaN."""
    last: dict[int, int] = {}  # the track that found each object most lately,
    before: dict[int, int] = {}  # and in the frame before
    judged = []
    for frame, one in zip(frames, truth, strict=True):
        similarity = 1 - ground_distances(frame) / (2 * MATCH_DISTANCE)
        kept = np.array([before.get(i, NOBODY) for i in frame.true_ids.tolist()], np.int64)[:, None] == frame.ids
        worth = np.where(similarity < MATCH_IOU - EPSILON, 0, similarity + KEPT * kept)
        rows, columns = linear_sum_assignment(-worth)
        hit = worth[rows, columns] > EPSILON
        partner = np.full(len(frame.true_ids), NOBODY)
        partner[rows[hit]] = frame.ids[columns[hit]]
        pairs = dict(zip(frame.true_ids[rows[hit]].tolist(), partner[rows[hit]].tolist(), strict=True))
        switched = np.array([i in pairs and last.get(i, pairs[i]) != pairs[i] for i in frame.true_ids.tolist()], bool)
        if len(frame.true_ids) and len(frame.ids):  # TrackEval leaves pairs standing over frames empty on one side
            before = pairs
        last |= pairs
        assert one.labels is not None
        flat = one.labels.xyxy[np.isin(one.labels.ids, frame.true_ids)]
        false = frame.ids[np.isin(frame.ids, partner, invert=True)]
        unseen = Tracks2D(false, np.full((len(false), 4), np.nan), np.ones(len(false)), np.zeros(len(false), np.int64))
        judged.append(JudgedFrame(Judged(frame.true_ids, flat, partner, switched), unseen))
    return judged


def _sequences(path: Path, truth: list[str]) -> dict[str, NuScenesSequence]:
    found = {}
    for source in (source for spec in truth for source in list_sources(spec)):
        sequence = open_source(source)
        if not isinstance(sequence, NuScenesSequence):
            raise DataError(f"{path}: expected nuScenes as the truth of a submission, got {source}")
        found[sequence.name] = sequence
    return found


def _find(path: Path, name: str, count: int) -> Path:
    """The submission for a sequence. Raises DataError where there is none."""
    files = submissions(path)
    wanted = [file for file in files if file.stem == name] or (files if len(files) == count == 1 else [])
    if not wanted:
        raise DataError(f"expected predictions for {name} in {path / name}.json, found none")
    return wanted[0]


def _frame(truth: Truth, found: SubmittedBoxes | None, numbers: dict[str, int], rules: Rules) -> SpaceFrame:
    labels, boxes = truth.labels, truth.boxes3d
    assert labels is not None and boxes is not None  # which every key frame has
    scored = (labels.xyxy[:, 3] - labels.xyxy[:, 1] >= rules.min_height) & (labels.visible >= rules.min_visible)
    if found is None:
        return SpaceFrame(labels.ids, boxes.centre, scored, np.zeros(0, np.int64), np.zeros((0, 3)))
    tracks = found[found.ids.astype(bool)]
    ids = np.array([numbers[identity] for identity in tracks.ids.tolist()], np.int64)
    return SpaceFrame(labels.ids, boxes.centre, scored, ids, tracks.boxes.centre)


def _apart(frame: SpaceFrame, offset: int) -> SpaceFrame:
    return SpaceFrame(frame.true_ids + offset, frame.true_centres, frame.scored, frame.ids + offset, frame.centres)
