"""Evaluation by protocol: published scores to the last digit, hand-made cases, and sentences for wrong predictions."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from camtrack.cli import app
from camtrack.evaluation.run import Rules, _load, evaluate_along, evaluate_detections, evaluate_tracks, read_splits
from camtrack_core.datasets.frames import Frame, Labels, Truth
from camtrack_core.datasets.motchallenge import DISTRACTOR, OTHER, TARGET
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.evaluation import motchallenge, uadetrac_pr
from camtrack_core.evaluation.kitti.kitti3d import score_tracks_3d
from camtrack_core.evaluation.mot_text import write_mot
from camtrack_core.evaluation.tracking import score_each
from camtrack_core.geometry.tracks import Tracks2D

# Scores of the benchmark's authors' detectors, in per cent, from the benchmark's paper.
PUBLISHED_AP = {"DPM": 25.70, "ACF": 46.35, "R-CNN": 48.95, "compACT": 53.23}
COLUMNS = {
    "hota": "HOTA___AUC", "det_a": "DetA___AUC", "ass_a": "AssA___AUC", "mota": "MOTA", "motp": "MOTP",
    "motal": "MOTAL", "recall": "CLR_Re", "precision": "CLR_Pr", "idf1": "IDF1", "id_precision": "IDP",
    "id_recall": "IDR", "id_switches": "IDSW", "fragmentations": "Frag", "misses": "CLR_FN",
    "false_positives": "CLR_FP", "mostly_tracked": "MT", "partly_tracked": "PT", "mostly_lost": "ML",
}  # fmt: skip


@pytest.mark.parametrize("tracker", ["CIWT", "YOLOX-OC-SORT"])
def test_published_scores_of_every_kitti_sequence(data_root: Path, tracker: str) -> None:
    reference = data_root / "trackeval_reference" / tracker
    with open(reference / "car_detailed.csv") as file:
        published = {row["seq"]: row for row in csv.DictReader(file)}
    evaluation = evaluate_tracks(reference / "data", [str(data_root / "kitti_tracking")], Rules())
    assert set(evaluation.sequences) == set(published) and len(published) == 10
    for name, scores in evaluation.sequences.items():
        for field, column in COLUMNS.items():
            expected = float(published[name][column])
            assert getattr(scores, field) == pytest.approx(expected, abs=1e-12), (name, column)


def test_scores_in_space_are_those_of_ab3dmot(data_root: Path) -> None:
    folder = data_root / "kitti_tracking"
    expected = json.loads((folder / "ab3dmot/scores.json").read_text())["car"]
    truth = [f"{folder}?sequence={p.stem}" for p in sorted((folder / "ab3dmot/tracks").glob("*.txt"))]
    spatial = evaluate_tracks(folder / "ab3dmot/tracks", truth, Rules()).spatial
    assert spatial is not None
    for name in ("sAMOTA", "AMOTA", "AMOTP", "MOTA", "MOTP"):
        assert getattr(spatial, name.lower()) == pytest.approx(expected[name], abs=1e-9)
    assert (spatial.id_switches, spatial.misses) == (expected["IDS"], expected["FN"])


def test_a_recording_that_holds_back_frames_cannot_be_scored(tmp_path: Path) -> None:
    """Like a bag whose stamps jump back: which prediction belongs to which frame is not known."""

    class Looped(list[Frame]):
        name, class_names = "looped", ("car",)

        def __len__(self) -> int:
            return 3

    image, labels = np.zeros((8, 8, 3), np.uint8), Labels.empty()
    (tmp_path / "looped.txt").write_text("1,1,1,1,4,4,1,-1,-1,-1\n")
    with pytest.raises(DataError, match="looped: expected the 3 frames that it announces, got 2"):
        _load(Looped([Frame(1, image, labels), Frame(2, image, labels)]), tmp_path / "looped.txt", Rules())


# --- MOTChallenge


def labels(*rows: tuple[int, float, int]) -> Labels:
    """Squares of 10 pixels by id, left edge and class."""
    left = np.array([x for _, x, _ in rows], float)
    xyxy = np.stack([left, 0 * left, left + 10, 0 * left + 10], 1)
    ids, classes = (np.array([row[k] for row in rows], np.int64) for k in (0, 2))
    return Labels(ids, xyxy, classes, np.ones(len(rows)))


def squares(*left: float) -> Tracks2D:
    found = labels(*((k + 1, x, 0) for k, x in enumerate(left)))
    return Tracks2D(found.ids, found.xyxy, np.ones(len(left)), found.class_ids)


def test_tracks_on_distractors_vanish_and_on_others_are_false() -> None:
    truth = Truth(1, 0, labels((1, 0, TARGET), (2, 100, DISTRACTOR), (3, 200, OTHER)))
    frame = motchallenge.evaluation_frame(truth, squares(0, 100, 200, 300))
    scores, _ = score_each({"a": [frame]})
    assert (scores.truth, scores.misses, scores.false_positives) == (1, 0, 2)
    with pytest.raises(DataError, match="labels of frame 7"):
        motchallenge.evaluation_frame(Truth(7, 0), squares())


def test_truth_of_mot15_scores_one_and_a_swap_costs(data_root: Path, tmp_path: Path) -> None:
    sequence = data_root / "mot15/TUD-Stadtmitte"
    perfect = evaluate_tracks(sequence / "gt/gt.txt", [str(sequence)], Rules()).combined
    assert (perfect.hota, perfect.mota, perfect.idf1, perfect.truth) == (1, 1, 1, 1156)
    rows = [line.split(",") for line in (sequence / "gt/gt.txt").read_text().splitlines()]
    both = sorted({r[1] for r in rows if int(r[0]) <= 90} & {r[1] for r in rows if int(r[0]) > 90})[:2]
    swap = dict(zip(both, both[::-1], strict=True))
    for row in rows:  # two people change names half way
        row[1] = swap.get(row[1], row[1]) if int(row[0]) > 90 else row[1]
    (tmp_path / "TUD-Stadtmitte.txt").write_text("\n".join(",".join(row) for row in rows))
    swapped = evaluate_tracks(tmp_path, [str(sequence)], Rules()).combined
    assert swapped.id_switches == 2 and swapped.mota == pytest.approx(1 - 2 / 1156) and swapped.idf1 < 1


# --- UA-DETRAC


def test_published_average_precision_of_uadetrac_detectors(data_root: Path) -> None:
    for name, expected in PUBLISHED_AP.items():
        curve = uadetrac_pr.read_curve(data_root / f"uadetrac/toolkit/curve_results/{name}_detection_PR.txt")
        assert 100 * uadetrac_pr.area(curve) == pytest.approx(expected, abs=0.011), name


def test_toolkit_example_of_pr_mota(data_root: Path) -> None:
    """The toolkit's integration is a closed binary that agrees with the paper's definition within 2 %."""
    folder = data_root / "uadetrac/toolkit/PR-Results"
    table = np.loadtxt(folder / "GOG_R-CNN_DETRAC-MOT_results.txt", delimiter=",")
    curve = uadetrac_pr.read_curve(folder / "R-CNN_detection_PR.txt")
    values = dict(zip(uadetrac_pr.COLUMNS, uadetrac_pr.integrate(curve, table[:-1, 1:]), strict=True))
    expected = dict(zip(uadetrac_pr.COLUMNS, table[-1, 1:], strict=True))
    for name in ("MOTA", "MOTAL", "Rcll", "MT"):
        assert values[name] == pytest.approx(expected[name], rel=0.02), name


def test_the_toolkits_own_integration_leaves_thresholds_out(data_root: Path) -> None:
    """Why other columns differ: its row is, to the printed digits, a sum over five of eleven thresholds alone.

    No trapezoids give its weights, on whatever curve through five points: each segment adds as much to the weight of
    one end as to that of the other, so that their alternating sum is zero. Together they are more than half the
    curve's length.
    """
    table = np.loadtxt(data_root / "uadetrac/toolkit/PR-Results/GOG_R-CNN_DETRAC-MOT_results.txt", delimiter=",")
    curve = uadetrac_pr.read_curve(data_root / "uadetrac/toolkit/PR-Results/R-CNN_detection_PR.txt")
    used = [3, 6, 7, 8, 9]
    weights, *_ = np.linalg.lstsq(table[used, 1:].T, table[-1, 1:], rcond=None)
    np.testing.assert_allclose(weights @ table[used, 1:], table[-1, 1:], atol=2e-4)
    assert abs(weights @ [1, -1, 1, -1, 1]) == pytest.approx(0.0187, abs=1e-3)
    length = np.hypot(np.diff(curve.recall), np.diff(curve.precision)).sum()
    assert weights.min() > 0 and weights.sum() == pytest.approx(0.6355, abs=1e-3) and weights.sum() > 1.05 * length / 2


def test_pr_scores_of_a_straight_curve() -> None:
    curve = uadetrac_pr.Curve(np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.5, 1.0]))
    assert uadetrac_pr.integrate(curve, np.full((3, 1), 10.0)) == pytest.approx(10 * np.sqrt(2) / 2)
    assert uadetrac_pr.integrate(curve, [[0.0], [4.0], [0.0]]) == pytest.approx(2 * np.sqrt(2) / 2)
    assert uadetrac_pr.area(curve) == pytest.approx(0.5)
    with pytest.raises(DataError, match="3 points of the curve, got 2"):
        uadetrac_pr.integrate(curve, np.zeros((2, 13)))


@pytest.mark.parametrize(
    "text", ["", "0.5 0.5\n", "0.5\n0.6\n0.7\n", "0.5 a\n0.4 0.2\n", "0.5 1.5\n0.1 0.1\n", "nan 0\n0 1\n"]
)
def test_broken_curves_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "curve.txt").write_text(text)
    with pytest.raises(DataError, match=r"curve\.txt"):
        uadetrac_pr.read_curve(tmp_path / "curve.txt")


XML = (
    '<sequence name="MVI_{n}"><sequence_attribute sence_weather="{weather}"/><ignored_region>'
    '<box left="500" top="0" width="100" height="100"/></ignored_region>{frames}</sequence>'
)
LABELLED_CAR = (
    '<target id="{i}"><box left="{x}" top="50" width="40" height="40"/>'
    '<attribute truncation_ratio="0" vehicle_type="car"/></target>'
)


@pytest.fixture
def detrac(tmp_path: Path) -> Path:
    """Two sequences of four frames with two cars; the third frame shows none."""
    root = tmp_path / "detrac"
    for n, weather in ((1, "sunny"), (2, "night")):
        images = root / f"Insight-MVT_Annotation_Train/MVI_{n}"
        images.mkdir(parents=True)
        annotations = root / "DETRAC-Train-Annotations-XML"
        annotations.mkdir(exist_ok=True)
        for k in range(1, 5):
            cv2.imwrite(str(images / f"img{k:05d}.jpg"), np.zeros((540, 960, 3), np.uint8))
        frames = "".join(
            f'<frame num="{k}"><target_list>{"".join(LABELLED_CAR.format(i=i, x=100 * i + 2 * k) for i in (1, 2))}'
            "</target_list></frame>"
            for k in (1, 2, 4)
        )
        (annotations / f"MVI_{n}.xml").write_text(XML.format(n=n, weather=weather, frames=frames))
    return root


def found(ids: list[int], k: int, score: float = 0.9, shift: float = 0.0) -> Tracks2D:
    left = np.array([100.0 * i + 2 * k + shift for i in ids])
    xyxy = np.stack([left, 0 * left + 50, left + 40, 0 * left + 90], 1).reshape(-1, 4)
    return Tracks2D(np.array(ids, np.int64), xyxy, np.full(len(ids), score), np.zeros(len(ids), np.int64))


def test_uadetrac_tracks_by_hand(detrac: Path, tmp_path: Path) -> None:
    """A car missed once, a box where there is none, one more in an ignored region."""
    folder = tmp_path / "tracks"
    folder.mkdir()
    write_mot(folder / "MVI_1.txt", [found([1, 2], 1), found([1], 2), found([1], 3), found([1, 2, 5], 4)])
    write_mot(folder / "MVI_2.txt", [found([1, 2], k) if k != 3 else found([], k) for k in range(1, 5)])
    evaluation = evaluate_tracks(folder, [str(detrac)], Rules())
    first = evaluation.sequences["MVI_1"]
    assert (first.truth, first.misses, first.false_positives, first.frames) == (6, 1, 1, 4)
    assert evaluation.sequences["MVI_2"].mota == 1 and evaluation.combined.mota == pytest.approx(1 - 2 / 12)


def test_uadetrac_detections_by_weather_and_split(detrac: Path, tmp_path: Path) -> None:
    folder = tmp_path / "detections"
    folder.mkdir()
    write_mot(folder / "MVI_1.txt", [found([1, 2], k) if k != 3 else found([], k) for k in range(1, 5)])
    write_mot(folder / "MVI_2.txt", [found([1], k, shift=2) for k in (1, 2)])
    (tmp_path / "hard.txt").write_text("MVI_2\n")
    results = evaluate_detections(folder, [str(detrac)], 0.7, read_splits([f"hard={tmp_path / 'hard.txt'}"]))
    assert set(results) == {"all", "sunny", "night", "hard"} and results["hard"] == results["night"]
    assert results["sunny"] == (pytest.approx(1), 6) and results["night"] == (pytest.approx(2 / 6, abs=1e-3), 6)
    assert results["all"] == (pytest.approx(8 / 12, abs=1e-3), 12)
    assert evaluate_detections(folder, [str(detrac)], 0.95, {})["night"][0] == 0


def test_scores_along_a_curve_are_the_integral_of_the_runs(detrac: Path, tmp_path: Path) -> None:
    curve = tmp_path / "curve.txt"
    curve.write_text("1.0 0.5\n0.5 1.0\n0.0 1.0\n")
    for threshold, ids in (("0.0", [1, 2]), ("0.5", [1]), ("1.0", [])):
        folder = tmp_path / "runs" / threshold
        folder.mkdir(parents=True)
        for n in (1, 2):
            write_mot(folder / f"MVI_{n}.txt", [found(ids, k) if k != 3 else found([], k) for k in range(1, 5)])
    scores = evaluate_along(tmp_path / "runs", [str(detrac)], curve, Rules())
    expected = ((100 + 50) / 2 * np.hypot(0.5, 0.5) + (50 + 0) / 2 * 0.5) / 2
    assert scores["PR-MOTA"] == pytest.approx(expected) and scores["PR-Rcll"] == pytest.approx(expected)
    assert scores["PR-FP"] == 0
    shutil.rmtree(tmp_path / "runs" / "0.5")
    with pytest.raises(DataError, match=r"3 folders named by thresholds, found 0\.0, 1\.0"):
        evaluate_along(tmp_path / "runs", [str(detrac)], curve, Rules())


def test_annotations_without_images_are_scored_alike(detrac: Path, tmp_path: Path) -> None:
    for n in (1, 2):
        write_mot(tmp_path / f"MVI_{n}.txt", [found([1], k) if k != 3 else found([], k) for k in range(1, 5)])
    with_images = evaluate_tracks(tmp_path, [str(detrac)], Rules())
    shutil.rmtree(detrac / "Insight-MVT_Annotation_Train")
    assert evaluate_tracks(tmp_path, [str(detrac)], Rules()) == with_images


@pytest.mark.parametrize(
    ("predictions", "options", "words"),
    [
        ("tracks", ["--detections", "--kind", "Car"], "--kind does not apply to --detections"),
        ("tracks", ["--detections", "--min-height", "9"], "--min-height does not apply to --detections"),
        ("tracks", ["--detections", "--pr-curve", "c.txt"], "--detections does not apply to tracks along --pr-curve"),
        ("tracks", ["--iou", "0.7"], "--iou does not apply to tracks"),
        ("tracks", ["--split", "a=b"], "--split does not apply to tracks"),
        ("tracks", ["--eval-set", "mini_val"], "--eval-set does not apply to tracks"),
        ("s.json", ["--min-visible", "0.5"], "--min-visible does not apply to submissions of nuScenes"),
    ],
)
def test_options_that_do_not_apply_are_refused(predictions: str, options: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", predictions, "--truth", "none", *options])
    assert isinstance(done.exception, ConfigurationError) and str(done.exception) == words


# --- wrong predictions


@pytest.mark.parametrize("kind", ["Van", "car", ""])
def test_a_class_that_is_not_scored_is_refused(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Car, Pedestrian, Cyclist, got '{kind}'"):
        score_tracks_3d({}, {}, kind)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "expected predictions for MVI_1 in .*MVI_1.txt, found none"),
        ("1,1,0,0,10,10,nan,-1,-1,-1\n", r"MVI_1\.txt, line 1.*finite"),
        ("1,1,0,0\n", r"MVI_1\.txt, line 1"),
        ("1,1,0,0,10,10,1\n1,2,0,0,-10,10,1\n", r"MVI_1\.txt, line 2: expected a width and a height from 0, got -10"),
        ("5,1,0,0,10,10,1,-1,-1,-1\n", "expected at most 4 frames, got frame 5"),
        ("1,1,0,0,10,10,1,-1,-1,-1\n1,1,9,9,10,10,1,-1,-1,-1\n", "sequence MVI_1, frame 1: an id occurs twice"),
    ],
)
def test_wrong_predictions_are_named(detrac: Path, tmp_path: Path, text: str | None, words: str) -> None:
    folder = tmp_path / "tracks"
    folder.mkdir()
    (folder / "MVI_2.txt").write_text("")
    if text is not None:
        (folder / "MVI_1.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        evaluate_tracks(folder, [str(detrac)], Rules())


def test_one_file_for_many_sequences_is_refused(detrac: Path, tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("")
    with pytest.raises(DataError, match="expected a folder with a text for each of the 2 sequences"):
        evaluate_tracks(tmp_path / "all.txt", [str(detrac)], Rules())


def test_empty_predictions_score_zero(detrac: Path, tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / f"MVI_{n}.txt").write_text("")
    scores = evaluate_tracks(tmp_path, [str(detrac)], Rules()).combined
    assert (scores.hota, scores.mota, scores.idf1, scores.misses) == (0, 0, 0, 12)


def test_two_truths_of_one_name_are_refused(detrac: Path, tmp_path: Path) -> None:
    other = shutil.copytree(detrac, tmp_path / "other")
    with pytest.raises(DataError, match=r"detrac.* and '.*other.*' are both called MVI_1"):
        evaluate_tracks(tmp_path, [f"{detrac}?sequence=MVI_1", f"{other}?sequence=MVI_1"], Rules())


def test_a_truth_without_labels_is_refused(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("")
    with pytest.raises(DataError, match="has no labels to score against"):
        evaluate_tracks(tmp_path / "p.txt", [str(data_root / "videos/highway_a.mp4")], Rules())
