"""Names and paths that come out of data lead nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from camtrack.offline.methods import Run
from camtrack.offline.task import Task, track_one
from camtrack_core.datasets.motchallenge import MotChallengeSequence
from camtrack_core.errors import DataError
from camtrack_core.files import below, named

OUT = Path("/data/out")


@pytest.mark.parametrize("name", ["scene-0103", "a.b.txt", "[red] ü ?", "..a", "-rf", " "])
def test_names_stay_in_their_folder(name: str) -> None:
    assert named(OUT, name).parent == OUT and named(OUT, name).name == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", "/etc/passwd", "a\\b", "a\nb", "a\0", "x" * 300, "../../home/me/.bashrc"]
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="expected a name that a file in /data/out can have"):
        named(OUT, name)


@pytest.mark.parametrize("name", ["samples/CAM_FRONT/a.jpg", "a", "./a", "a/./b"])
def test_paths_below_a_root(name: str) -> None:
    assert OUT in below(OUT, name).resolve().parents


@pytest.mark.parametrize("name", ["", "..", "/etc/passwd", "a/../../b", "../b", "a/..", "a\0b"])
def test_paths_that_leave_the_root_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="expected the path of a file below /data/out"):
        below(OUT, name)


def test_a_folder_of_images_outside_of_the_sequence_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s/gt").mkdir(parents=True)
    (tmp_path / "s/gt/gt.txt").write_text("1,1,1,1,9,9,1,1,1\n")
    (tmp_path / "s/seqinfo.ini").write_text("[Sequence]\nimDir=../../private\n")
    with pytest.raises(DataError, match=r"below .*/s, got '../../private'"):
        MotChallengeSequence(tmp_path / "s")


class Sequence:
    name, class_names = "../../escaped", ()

    def __len__(self) -> int:
        return 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(())


def test_the_name_of_a_recording_does_not_choose_where_its_tracks_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camtrack.offline.task.open_source", lambda source: Sequence())
    (tmp_path / "a/out").mkdir(parents=True)
    task = Task("x", tmp_path / "a/out", Run("pkf", Path()), True)
    result = track_one(task, lambda: pytest.fail("not to be tracked"), lambda n: None, lambda n: None)
    assert "expected a name that a file in" in result.error and "escaped" in result.error
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "out"]
