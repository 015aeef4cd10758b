"""The report: one page that any parser reads, with the scores of the evaluation and nothing from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import Browser

from camtrack.evaluation.run import Rules, evaluate_tracks
from camtrack.report.page import interval, paired_interval, summary, write_report
from camtrack_core.datasets.frames import Labels, Truth
from camtrack_core.datasets.nuscenes import NuScenesSequence
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.mot_text import write_mot
from camtrack_core.evaluation.nuscenes.submission import SubmittedBoxes, write_submission
from camtrack_core.geometry.tracks import Tracks2D


@pytest.fixture
def runs(data_root: Path, tmp_path: Path) -> list[Path]:
    """The truth itself, and the truth without every fourth frame, under a name that HTML must not take literally."""
    folders = [tmp_path / "perfect", tmp_path / "a<b>&c"]
    for folder in folders:
        folder.mkdir()
    for name in ("TUD-Campus", "TUD-Stadtmitte"):
        text = (data_root / f"mot15/{name}/gt/gt.txt").read_text()
        (folders[0] / f"{name}.txt").write_text(text)
        kept = [line for line in text.splitlines() if int(line.split(",")[0]) % 4]
        (folders[1] / f"{name}.txt").write_text("\n".join(kept))
    return folders


def test_the_page_holds_the_scores(data_root: Path, tmp_path: Path, runs: list[Path]) -> None:
    out, truth = tmp_path / "report.html", [str(data_root / "mot15")]
    write_report(runs, truth, out, Rules())
    text = out.read_text()
    tree = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n").replace('<meta charset="utf-8">', ""))
    words = " ".join(tree.itertext())
    thinned = evaluate_tracks(runs[1], truth, Rules()).combined
    for value in (thinned.hota, thinned.mota, thinned.idf1, 1.0):
        assert f"{value:.4f}" in words
    assert "a<b>&c" in words and "TUD-Stadtmitte" in words and str(thinned.misses) in words
    assert "worse" in words and thinned.false_positives == 0
    assert len(list(tree.iter("polyline"))) == 2 and len(list(tree.iter("rect"))) > 10
    assert "the recording has no images here" in words and "missed" in words
    each = np.array([s.hota for s in evaluate_tracks(runs[1], truth, Rules()).sequences.values()])
    low, high = interval(each)
    assert low < each.mean() < high  # unlike the combined score, which need not lie within it
    assert f"{thinned.hota:.4f}; mean {each.mean():.4f} [{low:.3f}, {high:.3f}]" in words
    assert not needs_others(text)


def test_what_reads_the_same_is_neither_best_nor_uncertain(data_root: Path, tmp_path: Path, runs: list[Path]) -> None:
    again = shutil.copytree(runs[1], tmp_path / "again")
    write_report([runs[1], again], [str(data_root / "mot15")], tmp_path / "report.html", Rules())
    text = (tmp_path / "report.html").read_text()
    assert 'class="best"' not in text and text.count("equal") == 3 and "not certain" not in text
    write_report(runs, [str(data_root / "mot15")], tmp_path / "report.html", Rules())
    assert 'class="best"' in (tmp_path / "report.html").read_text()


def needs_others(text: str) -> bool:
    """Whether a page loads anything."""
    return bool(re.search(r"(src|href)=\"(?!data:)|https?://|@import|url\(|<script", text))


def test_curves_end_at_the_recall(data_root: Path, tmp_path: Path, runs: list[Path]) -> None:
    write_report(runs[1:], [str(data_root / "mot15")], tmp_path / "r.html", Rules())
    line = re.search(r'<polyline points="([^"]*)"', (tmp_path / "r.html").read_text())
    assert line is not None
    x, y = map(float, line[1].split()[-1].split(","))
    recall = evaluate_tracks(runs[1], [str(data_root / "mot15")], Rules()).combined.recall
    assert x == pytest.approx(60 + 360 * recall, abs=0.1) and y == 20  # precision 1


def test_intervals_cover_the_mean_and_shrink_with_agreement() -> None:
    rng = np.random.default_rng(1)
    a = rng.uniform(0, 1, 30)
    mean, low, high = paired_interval(a, a + 0.1)
    assert (mean, low, high) == pytest.approx((0.1, 0.1, 0.1))
    mean, low, high = paired_interval(a, a + rng.normal(0, 0.1, 30))
    assert low < mean < high and 0.04 < high - low < 0.12  # 4 standard errors of 0.1 / sqrt(30)


@pytest.fixture
def pictures(data_root: Path, tmp_path: Path) -> tuple[list[Path], str]:
    """Tracks of real images with times, and their truth: all right but an object that is missed in frame 2."""
    root = data_root / "uadetrac"
    source = f"{root}?sequence=MVI_20011"
    frames = [labels_as_tracks(t) for t in open_source(source).truth()]  # type: ignore[attr-defined]
    runs = [tmp_path / "right", tmp_path / "wrong"]
    for run in runs:
        run.mkdir()
    write_mot(runs[0] / "MVI_20011.txt", frames)
    moved = replace(
        frames[1], xyxy=frames[1].xyxy + np.array([[200.0, 90, 200, 90]] + [[0.0] * 4] * (len(frames[1]) - 1))
    )
    write_mot(runs[1] / "MVI_20011.txt", [frames[0], moved, *frames[2:]])
    (runs[1] / "MVI_20011.ms").write_text("\n".join(str(10 + k) for k in range(9)))
    return runs, source


def labels_as_tracks(truth: Truth) -> Tracks2D:
    labels = truth.labels if truth.labels is not None else Labels.empty()
    return Tracks2D(labels.ids, labels.xyxy, np.ones(len(labels)), labels.class_ids)


def test_moments_times_and_lives(pictures: tuple[list[Path], str], tmp_path: Path) -> None:
    runs, source = pictures
    right, wrong = write_report(runs, [source], tmp_path / "r.html", Rules(), tmp_path / "images")
    text = (tmp_path / "r.html").read_text()
    assert not needs_others(text)
    assert right.moments == [] and "no errors" in text
    (moment,) = wrong.moments
    assert (moment.sequence, moment.number, moment.missed, moment.false) == ("MVI_20011", 2, 1, 1)
    original = next(f.image for k, f in enumerate(open_source(source)) if k == 1)
    changed = np.abs(moment.image.astype(int) - original).sum(2) > 60
    objects = wrong.judged[0][1].objects
    x1, y1, x2, y2 = objects.xyxy[objects.partner == -1][0].round().astype(int)
    assert changed[y1, x1:x2].mean() > 0.7 and changed[y1:y2, x1].mean() > 0.7  # the border of what was missed
    saved = cv2.imread(str(tmp_path / "images/wrong-MVI_20011-000002.png"))
    np.testing.assert_array_equal(saved, moment.image)
    assert "median 14.0 ms" in text and "times were not written down" in text
    assert "missed</title>" in text and "By height in the image" in text and "wholly seen" in text
    changes = summary([right, wrong])[1]["changes"]
    assert changes["mota"][0] == pytest.approx(wrong.evaluation.combined.mota - 1)


def test_kittis_scores_in_space_stand_in_the_table(tmp_path: Path) -> None:
    """Two objects; the second run loses one of them in every frame."""
    (tmp_path / "kitti/label_02").mkdir(parents=True)
    rows = [
        f"{frame} {track} Car 0 0 0 {x} 100 {x + 80} 160 1.5 1.6 4 {x / 50 - 6} 1.6 {20 + frame} 0"
        for frame in range(8)
        for track, x in ((1, 200), (2, 400))
    ]
    (tmp_path / "kitti/label_02/0001.txt").write_text("\n".join(rows) + "\n")
    for name, kept in (("both", rows), ("one", rows[::2])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0001.txt").write_text("".join(f"{row} 0.9\n" for row in kept))
    runs = [tmp_path / "both", tmp_path / "one"]
    reported = write_report(runs, [str(tmp_path / "kitti")], tmp_path / "r.html", Rules())
    text = (tmp_path / "r.html").read_text()
    for run in reported:
        assert run.evaluation.spatial is not None
        assert f"{run.evaluation.spatial.samota:.4f}" in text
    assert "sAMOTA" in text and "AMOTP" in text


@pytest.fixture
def submissions(data_root: Path, tmp_path: Path) -> tuple[list[Path], str]:
    """Of a real scene the truth itself, and with an object 3 m off in some frames and ids that change midway."""
    source = f"{data_root / 'nuscenes'}?scene=scene-0103&camera=CAM_FRONT"
    sequence = open_source(source)
    assert isinstance(sequence, NuScenesSequence)
    runs = [tmp_path / "right", tmp_path / "wrong"]
    for run in runs:
        found = {}
        for k, (truth, key) in enumerate(zip(sequence.truth(), sequence.keys(), strict=True)):
            assert truth.labels is not None and truth.boxes3d is not None and key is not None
            centre, ids = truth.boxes3d.centre.copy(), truth.labels.ids.astype(np.str_)
            if run.name == "wrong" and len(centre):
                centre[0, 0] += 3.0 if k % 3 == 0 else 0.5
                ids = np.array([f"{identity}{'b' if k >= 20 else ''}" for identity in ids.tolist()], np.str_)
            found[key[0]] = SubmittedBoxes(
                replace(truth.boxes3d, centre=centre),
                np.ones(len(ids)), np.full(len(ids), "car"), ids, np.full(len(ids), ""),
            )  # fmt: skip
        run.mkdir()
        write_submission(run / "scene-0103-CAM_FRONT.json", found)
    return runs, source


def test_submissions_are_matched_in_space(submissions: tuple[list[Path], str], tmp_path: Path) -> None:
    runs, source = submissions
    right, wrong = write_report(runs, [source], tmp_path / "r.html", Rules())
    text = (tmp_path / "r.html").read_text()
    assert not needs_others(text) and "By distance" in text and "By height" not in text and "In space" in text
    assert right.evaluation.combined.hota == pytest.approx(1) and right.moments == []
    scores = wrong.evaluation.combined
    assert 0 < scores.hota < 1 and scores.false_positives >= 10 and scores.id_switches > 5
    assert f"{scores.hota:.4f}" in text and f"{scores.mota:.4f}" in text
    frames = [frame for judged in wrong.judged for frame in judged]
    assert sum(int((f.objects.partner == -1).sum()) for f in frames) == scores.misses
    assert sum(int(f.objects.switched.sum()) for f in frames) == scores.id_switches
    assert sum(len(f.false) for f in frames) == scores.false_positives
    (strict,) = write_report(runs[:1], [source], tmp_path / "r.html", Rules(min_height=60))
    counted = strict.evaluation.combined
    assert counted.hota == pytest.approx(1) and 0 < counted.truth < right.evaluation.combined.truth


def test_submissions_that_cannot_be_reported_are_sentences(
    submissions: tuple[list[Path], str], data_root: Path, runs: list[Path], tmp_path: Path
) -> None:
    (right, _), source = submissions
    out = tmp_path / "r.html"
    with pytest.raises(DataError, match="expected runs of texts or runs of submissions, got both"):
        write_report([right, runs[0]], [source], out, Rules())
    with pytest.raises(DataError, match=r"expected nuScenes as the truth of a submission, got .*TUD-Campus"):
        write_report([right], [str(data_root / "mot15/TUD-Campus")], out, Rules())
    file = right / "scene-0103-CAM_FRONT.json"
    data = json.loads(file.read_text())
    for rows in data["results"].values():
        for row in rows:
            row.pop("tracking_id", None)
    file.write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"expected tracks in key frames of scene-0103-CAM_FRONT, found none"):
        write_report([right], [source], out, Rules())
    file.rename(right / "other.json")
    (right / "another.json").write_text("{}")
    with pytest.raises(DataError, match=r"expected predictions for scene-0103-CAM_FRONT in .*right"):
        write_report([right], [source], out, Rules())


def test_a_click_enlarges_a_moment_in_a_real_browser(pictures: tuple[list[Path], str], tmp_path: Path) -> None:
    program = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    runs, source = pictures
    write_report(runs, [source], tmp_path / "r.html", Rules())
    with Browser(program, tmp_path) as browser:
        browser.open((tmp_path / "r.html").as_uri())
        assert browser.evaluate("document.querySelectorAll('svg').length") >= 6
        assert browser.evaluate("document.querySelector('.moments img').naturalWidth") == 960
        overflow = "[...document.querySelectorAll('svg')].some(s => s.getBBox().width > s.viewBox.baseVal.width)"
        assert browser.evaluate(overflow) is False
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth") is True
        before = browser.evaluate("document.querySelector('.moments img').width")
        browser.click(".moments img")
        assert browser.evaluate("document.querySelector('.moments img').width") > 2 * before
        browser.click(".moments img")
        assert browser.evaluate("document.querySelector('.moments img').width") == before


def test_wrong_reports_are_sentences(data_root: Path, tmp_path: Path, runs: list[Path]) -> None:
    truth = [str(data_root / "mot15")]
    with pytest.raises(DataError, match="different names"):
        write_report([runs[0], runs[0]], truth, tmp_path / "r.html", Rules())
    with pytest.raises(DataError, match="cannot write the report"):
        write_report(runs, truth, tmp_path / "none" / "r.html", Rules())
    shutil.rmtree(runs[1])
    with pytest.raises(DataError, match="expected predictions for TUD-Campus"):
        write_report(runs, truth, tmp_path / "r.html", Rules())
