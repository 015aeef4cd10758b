"""A score of nothing is no score, and nothing becomes another thing on the way to one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_helpers import camtrack

from camtrack.evaluation.run import Rules, evaluate_tracks
from camtrack_core.datasets.kitti.rows import read_objects
from camtrack_core.errors import DataError
from camtrack_core.evaluation.mot_text import read_mot


def a_truth(folder: Path, kind: int, identity: int = 1) -> Path:
    """Two frames of one object of a class of MOTChallenge."""
    (folder / "gt").mkdir(parents=True)
    rows = [f"{frame},{identity},{5 * frame},202,79,140,1,{kind},1\n" for frame in (1, 2)]
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
    with pytest.raises(DataError, match=r"expected pedestrians .*found none; the truth has class 3"):
        evaluate_tracks(results, [str(truth)], Rules())
    done = camtrack("evaluate", str(results), "--truth", str(truth))
    assert done.returncode != 0 and "class 3" in done.stderr and "HOTA" not in done.stdout
    people = a_truth(tmp_path / "people" / "cars", kind=1)
    assert evaluate_tracks(results, [str(people)], Rules()).combined.hota == 1


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
