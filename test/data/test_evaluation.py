"""Scores against hand-made cases, a brute-force average precision and published results."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.errors import DataError
from camtrack_core.evaluation.detection import ImageTruth, average_precision, average_precision_by_class
from camtrack_core.evaluation.mot_text import read_mot, write_mot
from camtrack_core.evaluation.nuscenes.submission import SubmittedBoxes
from camtrack_core.evaluation.nuscenes.unannotated import unannotated
from camtrack_core.evaluation.tracking import (
    EvaluationFrame,
    TrackTruth,
    evaluation_frame,
    score_tracks,
    score_tracks_by_class,
)
from camtrack_core.evaluation.vehicles import ANNOTATED, LENIENT, score_vehicles, vehicle_frames
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, iou
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.labelling.teacher import COCO_VEHICLES, Yolox

NO_REGION = np.zeros((0, 4))


def boxes(*rows: tuple[float, float, float, float], scores: list[float] | None = None) -> Boxes2D:
    xyxy = np.array(rows, float).reshape(-1, 4)
    return Boxes2D(xyxy, np.array(scores or [0.9] * len(xyxy), float), np.zeros(len(xyxy), np.int64))


def truth(*rows: tuple[float, float, float, float], ignored: np.ndarray = NO_REGION) -> ImageTruth:
    found = boxes(*rows)
    return ImageTruth(found.xyxy, found.class_ids, ignored)


A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)


def test_perfect_detections() -> None:
    scores = average_precision([truth(A, B), truth(C)], [boxes(A, B), boxes(C)])
    assert (scores.truth, scores.ap, scores.precision, scores.recall) == (3, 1, 1, 1)


def test_average_precision_by_hand() -> None:
    """Hit, false, hit over three objects: precision 1 up to recall 1/3, then 2/3 up to 2/3, then 0."""
    scores = average_precision([truth(A, B, C)], [boxes(A, (60, 0, 70, 10), B, scores=[0.9, 0.8, 0.7])])
    assert scores.ap == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert (scores.best_f1, scores.threshold) == (pytest.approx(2 / 3), 0.7)


def test_second_box_of_an_object_is_false() -> None:
    scores = average_precision([truth(A)], [boxes(A, A, scores=[0.9, 0.8])])
    assert scores.ap == 1 and scores.precision == 1  # at the best threshold, 0.9
    assert average_precision([truth(A)], [boxes((0, 0, 10, 9), A, scores=[0.9, 0.8])]).threshold == 0.9


def test_ignored_regions_hide_false_detections_but_not_hits() -> None:
    region = np.array([[0.0, 0, 35, 12]])
    scores = average_precision([truth(A, ignored=region)], [boxes(B, A, scores=[0.9, 0.8])])
    assert scores.ap == 1
    assert average_precision([truth(A)], [boxes(B, A, scores=[0.9, 0.8])]).ap == pytest.approx(0.5)


def test_nothing_to_find_and_nothing_found() -> None:
    assert math.isnan(average_precision([truth()], [boxes(A)]).ap)
    assert average_precision([truth(A)], [Boxes2D.empty()]).ap == 0
    with pytest.raises(DataError, match="2 images, got 1"):
        average_precision([truth(), truth()], [boxes()])


def test_classes_are_scored_apart() -> None:
    expected = replace(truth(A, B), class_ids=np.array([0, 1]))
    found = replace(boxes(A, B), class_ids=np.array([0, 0]))
    scores = average_precision_by_class([expected], [found], ("car", "bus"))
    assert scores["bus"].ap == 0 and scores["car"].ap == 1
    assert average_precision([expected], [found]).ap == 1


def brute_force_ap(truths: list[ImageTruth], found: list[Boxes2D]) -> float:
    """The protocol, literally: claim, leave out, sort, and look up 101 recalls."""
    record = []
    for expected, detections in zip(truths, found, strict=True):
        free = list(range(len(expected.xyxy)))
        for row in sorted(range(len(detections)), key=lambda r: -detections.scores[r]):
            box = detections.xyxy[row : row + 1]
            overlaps = [float(iou(box, expected.xyxy[k : k + 1])[0, 0]) for k in free]
            if overlaps and max(overlaps) >= 0.5:
                free.pop(overlaps.index(max(overlaps)))
                record.append((detections.scores[row], 1))
                continue
            x1, y1, x2, y2 = box[0]
            left_out = False
            for u1, v1, u2, v2 in expected.ignored:
                common = max(0, min(x2, u2) - max(x1, u1)) * max(0, min(y2, v2) - max(y1, v1))
                own, other = (x2 - x1) * (y2 - y1), (u2 - u1) * (v2 - v1)
                left_out |= common / (own + other - common) >= 0.3 or common / own >= 0.7
            if not left_out:
                record.append((detections.scores[row], 0))
    record.sort(reverse=True)
    count = sum(len(t.xyxy) for t in truths)
    points = []
    for length in range(1, len(record) + 1):
        hits = sum(hit for _, hit in record[:length])
        points.append((hits / count, hits / length))
    best = [max((p for r, p in points if r >= level), default=0) for level in np.linspace(0, 1, 101)]
    return float(np.mean(best))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[ImageTruth], list[Boxes2D]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truths, found = [], []
    for _ in range(draw(st.integers(1, 3))):
        counts = [draw(st.integers(low, 5)) for low in (1, 0, 0)]
        corner = [rng.integers(0, 12, (n, 2)) for n in counts]
        xyxy = [np.concatenate([c, c + rng.integers(2, 12, c.shape)], 1).astype(float) for c in corner]
        scores = rng.permutation(100)[: counts[1]] / 100  # distinct: the order of ties is not part of the protocol
        truths.append(ImageTruth(xyxy[0], np.zeros(counts[0], np.int64), xyxy[2]))
        found.append(Boxes2D(xyxy[1], scores, np.zeros(counts[1], np.int64)))
    return truths, found


@settings(max_examples=150)
@given(scenes())
def test_average_precision_against_brute_force(scene: tuple[list[ImageTruth], list[Boxes2D]]) -> None:
    assert average_precision(*scene).ap == pytest.approx(brute_force_ap(*scene))


def test_teacher_on_real_vehicles(data_root: Path) -> None:
    """The figure that the protocol's first implementation gives for this network."""
    yolox = Yolox(data_root / "teacher/yolox_nano.onnx")

    def detector(image: np.ndarray) -> Boxes2D:
        found = yolox(image)
        return found[np.isin(found.class_ids, COCO_VEHICLES)]

    scores = score_vehicles(data_root / "nuscenes", detector)
    assert scores[ANNOTATED].truth == scores[LENIENT].truth == 189
    assert scores[ANNOTATED].ap == pytest.approx(0.681, abs=0.002)
    assert scores[ANNOTATED].best_f1 == pytest.approx(0.699, abs=0.002)
    assert scores[LENIENT].ap == pytest.approx(0.700, abs=0.002)


def test_what_lidar_sees_and_nobody_annotated_is_ignored() -> None:
    """Close to an annotation, or unsure, it is none of these."""
    centre = np.array([[1.9, 0, 0], [2.1, 0, 9], [50, 0, 0], [80, 0, 0]], float)
    boxes = Boxes3D(centre, np.ones((4, 3)), np.zeros(4), np.zeros((4, 3)))
    names = np.array(["car", "car", "bus", "car"])
    found = SubmittedBoxes(boxes, np.array([0.9, 0.9, 0.29, 0.3]), names, names, names)
    assert unannotated(found, np.zeros((1, 3))).boxes.centre[:, 0].tolist() == [2.1, 80]
    assert len(unannotated(found, np.zeros((0, 3)))) == 3


def test_missing_nuscenes_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sample\.json"):
        next(vehicle_frames(tmp_path))


def sequence(count: int, ids: list[list[int]]) -> list[EvaluationFrame]:
    """Two objects that move side by side for `count` frames, tracked with `ids` frame by frame; 0: not tracked."""
    frames = []
    for i in range(count):
        xyxy = np.array([[3 * i, 0, 3 * i + 20, 20], [3 * i, 50, 3 * i + 20, 70]], float)
        objects = TrackTruth(np.array([1, 2]), xyxy, np.array([0, 1]), np.ones(2, bool))
        tracked = np.array(ids[i]) > 0
        tracks = Tracks2D(np.array(ids[i]), xyxy, np.ones(2), np.array([0, 1]))[tracked]
        frames.append(EvaluationFrame(objects, tracks, NO_REGION))
    return frames


def test_perfect_tracks(capsys: pytest.CaptureFixture[str]) -> None:
    scores = score_tracks({"a": sequence(10, [[7, 9]] * 10)})
    assert (scores.hota, scores.det_a, scores.ass_a, scores.mota, scores.idf1) == (1, 1, 1, 1, 1)
    assert (scores.id_switches, scores.misses, scores.false_positives, scores.truth) == (0, 0, 0, 20)
    assert capsys.readouterr().out == ""


def test_one_id_switch() -> None:
    scores = score_tracks({"a": sequence(10, [[7, 9]] * 5 + [[8, 9]] * 5)})
    assert scores.id_switches == 1 and scores.det_a == 1
    assert scores.mota == pytest.approx(1 - 1 / 20)
    assert scores.idf1 == pytest.approx(15 / 20)
    assert scores.ass_a == pytest.approx((10 * 1 + 10 * 0.5) / 20)


def test_misses() -> None:
    scores = score_tracks({"a": sequence(10, [[7, 9]] * 5 + [[7, 0]] * 5)})
    assert (scores.misses, scores.id_switches, scores.tracks) == (5, 0, 15)
    assert scores.det_a == pytest.approx(15 / 20) and scores.mota == pytest.approx(15 / 20)


def test_sequences_are_scored_together() -> None:
    good, poor = sequence(10, [[7, 9]] * 10), sequence(10, [[7, 0]] * 10)
    assert score_tracks({"a": good, "b": poor}).mota == pytest.approx(30 / 40)


def test_tracking_classes_are_scored_apart() -> None:
    scores = score_tracks_by_class({"a": sequence(10, [[7, 0]] * 10)}, ("car", "bus"))
    assert (scores["car"].hota, scores["bus"].hota) == (1, 0)


def test_empty_sequences_give_numbers() -> None:
    empty = EvaluationFrame(sequence(1, [[1, 2]])[0].truth[:0], Tracks2D.empty(), NO_REGION)
    scores = score_tracks({"a": [empty] * 3})
    assert (scores.truth, scores.tracks, scores.hota) == (0, 0, 0)
    with pytest.raises(DataError, match="at least one sequence"):
        score_tracks({})


def test_unscored_objects_are_neither_hits_nor_misses() -> None:
    frames = sequence(10, [[7, 9]] * 5 + [[7, 0]] * 5)
    hidden = [replace(f, truth=replace(f.truth, scored=np.array([True, False]))) for f in frames]
    scores = score_tracks({"a": hidden})
    assert (scores.hota, scores.truth, scores.tracks) == (1, 10, 10)


def test_tracks_on_ignored_regions_and_low_ones_do_not_count() -> None:
    frames = sequence(10, [[7, 9]] * 10)
    known = [replace(f, truth=f.truth[:1]) for f in frames]
    assert score_tracks({"a": known}).false_positives == 10
    region = np.array([[0.0, 40, 100, 100]])
    assert score_tracks({"a": [replace(f, ignored=region) for f in known]}).false_positives == 0
    assert score_tracks({"a": known}, min_track_height=20).false_positives == 0


def test_labels_become_truth() -> None:
    labels = Labels(np.arange(3), np.array([A, (0, 0, 10, 5), B], float), np.zeros(3, np.int64), np.array([1, 1, 0.1]))
    frame = Frame(5, np.zeros((9, 9, 3), np.uint8), labels)
    made = evaluation_frame(frame, Tracks2D.empty(), min_height=8, min_visible=0.3)
    assert made.truth.scored.tolist() == [True, False, False]
    with pytest.raises(DataError, match="5 ns"):
        evaluation_frame(replace(frame, labels=None), Tracks2D.empty())


def test_repeated_id_is_refused() -> None:
    with pytest.raises(DataError, match="sequence a, frame 1: an id occurs twice in the tracks"):
        score_tracks({"a": sequence(1, [[7, 7]])})


def kitti_rows(path: Path) -> dict[int, list[list[str]]]:
    rows = defaultdict(list)
    for line in path.read_text().splitlines():
        values = line.split()
        rows[int(values[0])].append(values)
    return rows


def corners(rows: list[list[str]]) -> np.ndarray:
    return np.array([[float(v) for v in row[6:10]] for row in rows]).reshape(-1, 4)


def identities(rows: list[list[str]]) -> np.ndarray:
    return np.array([int(row[1]) for row in rows], np.int64)


@pytest.mark.parametrize("tracker", ["CIWT", "YOLOX-OC-SORT"])
@pytest.mark.parametrize("name", ["0003", "0012"])
def test_published_kitti_scores(data_root: Path, tracker: str, name: str) -> None:
    reference = data_root / "trackeval_reference" / tracker
    with open(reference / "car_detailed.csv") as file:
        published = next(row for row in csv.DictReader(file) if row["seq"] == name)
    labels = kitti_rows(data_root / f"kitti_tracking/label_02/{name}.txt")
    results = kitti_rows(reference / f"data/{name}.txt")
    frames = []
    for number in range(int(float(published["CLR_Frames"]))):
        objects = [r for r in labels[number] if r[2] in ("Car", "Van")]
        scored = np.array([r[2] == "Car" and int(r[4]) <= 2 and int(r[3]) <= 0 for r in objects], bool)
        tracked = [r for r in results[number] if r[2] == "Car"]
        cars = np.zeros(len(objects), np.int64)
        frames.append(
            EvaluationFrame(
                TrackTruth(identities(objects), corners(objects), cars, scored),
                Tracks2D(
                    identities(tracked),
                    corners(tracked),
                    np.ones(len(tracked)),
                    np.zeros(len(tracked), np.int64),
                ),
                corners([r for r in labels[number] if r[2] == "DontCare"]),
            )
        )
    scores = score_tracks({name: frames}, min_track_height=25)
    fields = {
        "hota": "HOTA___AUC",
        "det_a": "DetA___AUC",
        "ass_a": "AssA___AUC",
        "mota": "MOTA",
        "idf1": "IDF1",
    }
    for field, column in fields.items():
        assert getattr(scores, field) == pytest.approx(float(published[column]), abs=1e-12), column
    assert scores.id_switches == float(published["IDSW"])
    assert scores.fragmentations == float(published["Frag"])


def test_mot_text_survives_storage(tmp_path: Path) -> None:
    frames = [f.tracks for f in sequence(3, [[7, 9], [0, 0], [7, 0]])]
    write_mot(tmp_path / "a.txt", [*frames, Tracks2D.empty()])
    assert (tmp_path / "a.txt").read_text().startswith("1,7,0.000,0.000,20.000,20.000,1.0000,-1,-1,-1\n")
    read = read_mot(tmp_path / "a.txt", frame_count=4)
    assert [t.ids.tolist() for t in read] == [[7, 9], [], [7], []]
    np.testing.assert_allclose(read[2].xyxy, frames[2].xyxy)
    assert len(read_mot(tmp_path / "a.txt")) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3", "line 1: expected at least 7"),
        ("1,a,3,4,5,6,7", "line 1: expected a finite number, got 'a'"),
        ("0,1,3,4,5,6,7", "frame number from 1"),
        ("1,1,3,4,5,nan,7", "finite"),
        ("9,1,3,4,5,6,7", "at most 4 frames, got frame 9"),
    ],
)
def test_broken_mot_text_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "broken.txt"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=rf"broken\.txt.*{message}"):
        read_mot(path, frame_count=4)


def test_real_mot_text(data_root: Path) -> None:
    tracks = read_mot(data_root / "mot15/TUD-Campus/gt/gt.txt")
    assert len(tracks) == 71 and tracks[0].xyxy[0].tolist() == [399, 182, 520, 411]
