"""A score of nothing is no score, and nothing becomes another thing on the way to one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_helpers import camtrack

from camtrack.evaluation.run import Rules, evaluate_tracks
from camtrack_core.datasets.kitti.rows import read_objects
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.evaluation.mot_text import read_mot


def a_truth(folder: Path, kind: int, identity: int = 1, mark: int = 1) -> Path:
    """Two frames of one object of a class of MOTChallenge."""
    (folder / "gt").mkdir(parents=True)
    rows = [f"{frame},{identity},{5 * frame},202,79,140,{mark},{kind},1\n" for frame in (1, 2)]
    (folder / "gt/gt.txt").write_text("".join(rows))
    (folder / "seqinfo.ini").write_text("[Sequence]\nname=cars\nseqLength=2\nframeRate=10\n")
    return folder


def some_results(path: Path, *ids: int) -> Path:
    rows = [
        f"{frame},{i},{5 * frame},{202 + 200 * k},79,140,1,-1,-1,-1\n" for frame in (1, 2) for k, i in enumerate(ids)
    ]
    path.write_text("".join(rows))
    return path


def test_a_truth_of_which_nothing_counts_is_no_score(tmp_path: Path) -> None:
    truth, results = a_truth(tmp_path / "cars", kind=3), some_results(tmp_path / "cars.txt", 1)
    words = r"expected objects of class 1 \(pedestrian\) .*found none; the truth has class 3 \(car\)$"
    with pytest.raises(DataError, match=words):
        evaluate_tracks(results, [str(truth)], Rules())
    done = camtrack("evaluate", str(results), "--truth", str(truth))
    assert done.returncode != 0 and "class 3" in done.stderr and "HOTA" not in done.stdout
    people = a_truth(tmp_path / "people" / "cars", kind=1)
    assert evaluate_tracks(results, [str(people)], Rules()).combined.hota == 1


@pytest.mark.parametrize("kind", ["car", "Car", "3"])
def test_another_class_of_motchallenge_by_name_or_number(tmp_path: Path, kind: str) -> None:
    """Its rows alone: what else the truth has is neither to be found nor does it absorb what was found on it."""
    truth, results = a_truth(tmp_path / "cars", kind=3), some_results(tmp_path / "cars.txt", 1)
    with open(truth / "gt/gt.txt", "a") as file:
        file.write("1,2,500,500,50,50,1,7,1\n2,2,500,500,50,50,1,1,1\n")
    assert evaluate_tracks(results, [str(truth)], Rules(kind)).combined.hota == 1
    with open(results, "a") as file:
        file.write("1,9,500,500,50,50,1,-1,-1,-1\n")
    scores = evaluate_tracks(results, [str(truth)], Rules(kind)).combined
    assert (scores.truth, scores.misses, scores.false_positives) == (2, 0, 1)


def test_a_class_that_the_truth_has_not(tmp_path: Path) -> None:
    results = some_results(tmp_path / "cars.txt", 1)
    unmarked = a_truth(tmp_path / "cars", kind=3, mark=0)
    with pytest.raises(DataError, match=r"class 3 \(car\) .*the truth has class 3 \(car\) without a mark"):
        evaluate_tracks(results, [str(unmarked)], Rules("car"))
    with pytest.raises(ConfigurationError, match=r"one of MOTChallenge's classes 1 \(pedestrian\), .*got 'lorry'"):
        evaluate_tracks(results, [str(unmarked)], Rules("lorry"))
    with pytest.raises(ConfigurationError, match="--kind applies to KITTI and MOTChallenge"):
        evaluate_tracks(results, ["drive:7?frames=2&width=96&height=64"], Rules("car"))


def test_ids_above_2_to_the_53_stay_apart(tmp_path: Path) -> None:
    large = 2**53
    frames = read_mot(some_results(tmp_path / "a.txt", large, large + 1))
    assert [f.ids.tolist() for f in frames] == [[large, large + 1]] * 2
    score = evaluate_tracks(
        some_results(tmp_path / "cars.txt", large + 1), [str(a_truth(tmp_path / "cars", 1))], Rules()
    ).combined
    assert score.hota == 1 and score.id_switches == 0
    exact = evaluate_tracks(tmp_path / "cars.txt", [str(a_truth(tmp_path / "large" / "cars", 1, large + 1))], Rules())
    assert exact.combined.hota == 1 and exact.combined.truth == score.truth
    (tmp_path / "b.txt").write_text("1,1.5,0,0,10,10,1,-1,-1,-1\n")
    with pytest.raises(DataError, match=r"line 1: expected an integer, got '1\.5'"):
        read_mot(tmp_path / "b.txt")


def test_kittis_classes_in_any_case_and_ids_of_any_size(tmp_path: Path) -> None:
    row = "0 {id} {kind} 0 0 -1.5 10 20 50 60 1.5 1.8 4.5 1 2 15 0.1 0.9\n"
    kinds = ("car", "CAR", "Car", "pedestrian", "dontcare", "Zeppelin")
    path = tmp_path / "0001.txt"
    path.write_text("".join(row.format(id=2**60 + k, kind=kind) for k, kind in enumerate(kinds)))
    objects = read_objects(path)
    assert objects.kinds.tolist() == ["Car", "Car", "Car", "Pedestrian", "DontCare", "Zeppelin"]
    assert objects.ids.tolist() == [2**60 + k for k in range(len(kinds))]
    np.testing.assert_array_equal(objects.xyxy[0], [10, 20, 50, 60])
    np.testing.assert_allclose(objects.boxes.size[0], [4.5, 1.8, 1.5])
    np.testing.assert_allclose(objects.boxes.centre[0], [15, -1, 1.5 / 2 - 2])
    assert objects.scores[0] == 0.9
