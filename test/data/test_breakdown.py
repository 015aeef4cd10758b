"""The breakdown counts what TrackEval counts, on published tracks and on any others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camtrack.evaluation.run import Rules, load_tracks, score_loaded
from camtrack_core.datasets.frames import Labels, Truth
from camtrack_core.evaluation.breakdown import NOBODY, by_distance, by_height, by_visibility, judge_sequence
from camtrack_core.evaluation.tracking import EvaluationFrame, TrackTruth, score_tracks
from camtrack_core.geometry.tracks import Tracks2D


def totals(judged) -> tuple[int, int, int, int]:  # type: ignore[no-untyped-def]
    """Objects, misses, false tracks, switches."""
    partners = np.concatenate([f.objects.partner for f in judged])
    switches = sum(int(f.objects.switched.sum()) for f in judged)
    return len(partners), int((partners == NOBODY).sum()), sum(len(f.false) for f in judged), switches


@pytest.mark.parametrize("tracker", ["CIWT", "YOLOX-OC-SORT"])
def test_counts_are_those_of_the_scores(data_root: Path, tracker: str) -> None:
    source = str(data_root / "kitti_tracking")
    loaded = load_tracks(data_root / "trackeval_reference" / tracker / "data", [source], Rules())
    scores = score_loaded(loaded, Rules()).sequences
    for one in loaded:
        judged = judge_sequence(one.frames, one.min_track_height)
        s = scores[one.sequence.name]
        assert totals(judged) == (s.truth, s.misses, s.false_positives, s.id_switches)
        assert sum(f.errors for f in judged) == s.misses + s.false_positives + s.id_switches
        for bins in (by_height(judged), by_distance(judged, one.truth), by_visibility(judged, one.truth)):
            sums = [sum(getattr(b, name) for b in bins) for name in ("objects", "misses", "switches")]
            assert sums == [s.truth, s.misses, s.id_switches]
        assert sum(b.false or 0 for b in by_height(judged)) == s.false_positives


places = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 12)), max_size=4, unique_by=lambda p: p[0])


@settings(max_examples=200)
@given(st.lists(st.tuples(places, places), min_size=1, max_size=8))
def test_any_sequence_is_counted_as_trackeval_does(frames) -> None:  # type: ignore[no-untyped-def]
    def boxes(rows):  # type: ignore[no-untyped-def]
        left = np.array([5.0 * x for _, x in rows])
        xyxy = np.stack([left, 0 * left, left + 20 + 0.1 * left, 0 * left + 30], 1).reshape(-1, 4)
        return np.array([i for i, _ in rows], np.int64), xyxy

    evaluated = []
    for truth, found in frames:
        (ids, xyxy), (track_ids, tracked) = boxes(truth), boxes(found)
        classes, n = np.zeros(len(ids), np.int64), len(track_ids)
        tracks = Tracks2D(track_ids, tracked + 2, np.ones(n), np.zeros(n, np.int64))
        evaluated.append(
            EvaluationFrame(TrackTruth(ids, xyxy, classes, np.ones(len(ids), bool)), tracks, np.zeros((0, 4)))
        )
    scores = score_tracks({"a": evaluated})
    judged = judge_sequence(evaluated)
    expected = (scores.truth, scores.misses, scores.false_positives, scores.id_switches)
    if scores.truth and scores.tracks:  # TrackEval leaves its counts at zero where either side is empty
        assert totals(judged) == expected
    else:
        assert totals(judged)[3] == 0


def test_bins_by_hand() -> None:
    """Two objects, near and seen, far and hidden; only the near one is found."""
    xyxy = np.array([[0.0, 0, 50, 120], [100, 0, 110, 20]])
    labels = Labels(np.array([1, 2]), xyxy, np.zeros(2, np.int64), np.array([1.0, 0.3]))
    truth = Truth(1, 0, labels, distances=np.array([8.0, 60]))
    found = Tracks2D(np.array([7, 8]), np.array([xyxy[0], [300, 0, 340, 60]]), np.ones(2), np.zeros(2, np.int64))
    frame = EvaluationFrame(TrackTruth(labels.ids, xyxy, labels.class_ids, np.ones(2, bool)), found, truth.ignored)
    judged = judge_sequence([frame])
    assert judged[0].objects.partner.tolist() == [7, NOBODY] and judged[0].false.ids.tolist() == [8]
    assert judged[0].errors == 2
    rows = {b.label: (b.objects, b.misses, b.false) for b in by_height(judged) if b.objects or b.false}
    assert rows == {"below 25 px": (1, 1, 0), "50 to 100 px": (0, 0, 1), "100 to 200 px": (1, 0, 0)}
    assert {b.label: b.miss_rate for b in by_distance(judged, [truth]) if b.objects} == {
        "below 10 m": 0,
        "50 to 80 m": 1,
    }
    assert {b.label: b.misses for b in by_visibility(judged, [truth]) if b.objects} == {
        "0.25 to 0.5 seen": 1,
        "wholly seen": 0,
    }
    assert by_distance(judged, [Truth(1, 0, labels)]) == []
