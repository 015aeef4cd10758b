"""The report: one page that any parser reads, with the scores of the evaluation and nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from camtrack.evaluate import Rules, evaluate_tracks
from camtrack.report import paired_interval, write_report
from camtrack_core.errors import DataError


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
    assert not re.search(r"(src|href)=|https?://|@import|url\(", text)


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


def test_wrong_reports_are_sentences(data_root: Path, tmp_path: Path, runs: list[Path]) -> None:
    truth = [str(data_root / "mot15")]
    with pytest.raises(DataError, match="different names"):
        write_report([runs[0], runs[0]], truth, tmp_path / "r.html", Rules())
    with pytest.raises(DataError, match="cannot write the report"):
        write_report(runs, truth, tmp_path / "none" / "r.html", Rules())
    shutil.rmtree(runs[1])
    with pytest.raises(DataError, match="expected predictions for TUD-Campus"):
        write_report(runs, truth, tmp_path / "r.html", Rules())
