"""Numbers and texts of files: time and memory follow the rows, marks and forms are read or refused."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from camtrack.evaluation.run import Rules, evaluate_tracks
from camtrack_core.datasets.kitti.rows import read_objects
from camtrack_core.datasets.motchallenge import MotChallengeSequence, read_rows
from camtrack_core.errors import DataError
from camtrack_core.evaluation.mot_text import read_mot
from camtrack_core.numbers import MOST_FRAMES, finite_number, frame_number, rows_of

ABOVE = 2**53
BOX = "5,202,79,140,1"


def sequence(root: Path, rows: list[str], name: str = "gt") -> Path:
    (root / name).mkdir(parents=True)
    (root / name / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows))
    return root


def test_scores_do_not_depend_on_how_far_apart_frames_lie(tmp_path: Path) -> None:
    """Objects of frames 1 and 2, then again in the frame with the number of three million."""
    scores = []
    for name, last in (("near", 3), ("far", 3_000_000)):
        truth = sequence(tmp_path / name, [f"{k},{i},{40 * i},{BOX[2:]},1,1" for k in (1, 2, last) for i in (1, 2)])
        tracks = [f"{k},{i + (k == last)},{40 * i},{BOX[2:]}" for k in (1, 2, last) for i in (1, 2)]
        (tmp_path / f"{name}.txt").write_text("\n".join(tracks))
        scores.append(evaluate_tracks(tmp_path / f"{name}.txt", [str(truth)], Rules()).combined)
    assert scores[0] == scores[1]
    assert 0 < scores[0].ass_a < 1 == scores[0].det_a and scores[0].id_switches == 2


def test_memory_follows_the_rows(tmp_path: Path) -> None:
    truth = sequence(tmp_path / "far", [f"{k},1,{BOX},1,1" for k in (1, 2, 1_000_000)])
    tracemalloc.start()
    evaluate_tracks(truth / "gt/gt.txt", [str(truth)], Rules())
    assert tracemalloc.get_traced_memory()[1] < 40e6  # of which 8 are the places of a million frames
    tracemalloc.stop()


def test_detections_of_frames_far_apart(tmp_path: Path) -> None:
    found = MotChallengeSequence(sequence(tmp_path / "d", [f"1,-1,{BOX}", f"300000,-1,{BOX}"], "det")).detections()
    assert len(found) == 300_000 and sum(map(len, found)) == 2 and len(found[299_999]) == 1


@pytest.mark.parametrize("number", ["0", "-1", "1.5", str(MOST_FRAMES + 1), str(10**15), "1²", "nan", ""])
def test_what_is_no_frame_is_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        frame_number(number, first=1)
    (tmp_path / "a.txt").write_text(f"{number},1,{BOX}\n")
    for read in (read_mot, read_rows):
        with pytest.raises(DataError, match=r"a\.txt, line 1: expected"):
            read(tmp_path / "a.txt")


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "1_0", "٣", "1²", "", "0x10"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="expected a finite number"):
        finite_number(text)


def test_truth_ids_above_53_bits_stay_apart(tmp_path: Path) -> None:
    root = sequence(tmp_path / "s", [f"1,{ABOVE},{BOX},1,1", f"1,{ABOVE + 1},1{BOX},1,1"])
    assert read_rows(root / "gt/gt.txt").ids.tolist() == [ABOVE, ABOVE + 1]
    assert evaluate_tracks(root / "gt/gt.txt", [str(root)], Rules()).combined.hota == 1.0


def test_a_byte_order_mark_is_no_part_of_the_first_number(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text(f"1,4,{BOX}\n", encoding="utf-8-sig")
    assert read_mot(text)[0].ids.tolist() == read_rows(text).ids.tolist() == [4]
    text.write_text("0 4 Car 0 0 0 1 2 3 4 1.5 1.6 4 2 1.5 6 0\n", encoding="utf-8-sig")
    assert read_objects(text).ids.tolist() == [4]


def test_rows_by_frame_hold_each_row_once() -> None:
    found = {frame: places.tolist() for frame, places in rows_of(np.array([5, 2, 5])).items()}
    assert found == {2: [1], 5: [0, 2]}
    assert rows_of(np.zeros(0, np.int64)) == {}
