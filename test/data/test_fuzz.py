"""Random bytes in messages and files are read soundly or refused with a sentence: some of `benchmarks/fuzz.py`."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import fuzz
import fuzz_guided

from camtrack.evaluation.run import Rules, evaluate_tracks
from camtrack.launch.file import read_launch_file
from camtrack.launch.packages import LaunchError
from camtrack_core.datasets.motchallenge import MotChallengeSequence
from camtrack_core.datasets.uadetrac import UaDetracSequence
from camtrack_core.datasets.yolo import YoloFolder
from camtrack_core.errors import DataError
from camtrack_core.files import below

INPUTS = {"messages": 200, "sequences": 60, "labels": 60, "nuscenes": 60, "bags": 5}  # of each target, always the same


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_random_bytes_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    for name, target in fuzz.KINDS[kind](tmp_path).items():
        assert fuzz.fuzz(target, INPUTS[kind], seed=1) is None, name


def test_what_takes_too_much_memory_or_raises_what_it_should_not_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """The harness itself: over readers of which one takes memory and one stumbles."""
    hungry = fuzz.Target(b"abc", lambda data: bytearray(4 * fuzz.MOST_MEMORY) and None)
    assert fuzz.fuzz(hungry, 1, seed=0) is not None and "MemoryError" in capsys.readouterr().err

    def stumble(data: bytes) -> None:
        if b"\xff" in data:
            raise ValueError("stumbled")

    found = fuzz.fuzz(fuzz.Target(b"abc", stumble), 1000, seed=0)
    assert found is not None and b"\xff" in found


# --- Steered by what the code does


def test_guided_inputs_are_read_or_refused(tmp_path: Path) -> None:
    """All targets but bags, for a bounded time."""
    pytest.importorskip("atheris")
    kinds = [fuzz.KINDS[name](tmp_path / name) for name in ("messages", "sequences", "labels", "nuscenes")]
    targets = [name for kind in kinds for name in kind]
    command = [sys.executable, fuzz_guided.__file__, *targets, "--inputs", "100", "--seconds", "5"]
    done = subprocess.run([*command, "--keep", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == targets
    assert "ended early" not in done.stdout and " 0 inputs" not in done.stdout


def test_guided_inputs_find_what_lies_behind_four_branches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By chance one in four thousand million inputs would; and what was found is kept."""
    atheris = pytest.importorskip("atheris")

    @atheris.instrument_func
    def stumble(data: bytes) -> None:
        if data[:1] == b"C" and data[1:2] == b"A" and data[2:3] == b"R" and data[3:4] == b"!":
            raise ValueError("stumbled")

    given = Namespace(inputs=1_000_000, seconds=0, seed=0, keep=tmp_path)
    assert fuzz_guided.run("deep", fuzz.Target(b"0000", stumble), given) == 1
    assert (tmp_path / "deep_guided_0.input").read_bytes()[:4] == b"CAR!"
    assert "stumbled" in capsys.readouterr().out


# --- What was found


@pytest.mark.parametrize("encoding", ["ef-8", "utf-7", "idna"])
def test_xml_of_strange_encodings_is_refused(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "DETRAC-Train-Annotations-XML"
    folder.mkdir()
    (folder / "MVI_1.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?><sequence/>')
    with pytest.raises(DataError, match=r"MVI_1\.xml"):
        UaDetracSequence(tmp_path, "MVI_1")
    (tmp_path / "a.launch.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?><launch><x/></launch>')
    with pytest.raises(LaunchError):
        read_launch_file(tmp_path / "a.launch.xml", {})


def test_names_of_folders_that_none_can_have_are_refused(tmp_path: Path) -> None:
    assert below(tmp_path, "a" * 255) == tmp_path / ("a" * 255)
    (tmp_path / "seqinfo.ini").write_text(f"[Sequence]\nimDir={'[' * 256}\n")
    with pytest.raises(DataError, match="expected the path of a file below"):
        MotChallengeSequence(tmp_path)


@pytest.mark.parametrize("place", [3, 4, 10, 13, 16])
def test_kitti_results_that_are_not_finite_are_refused(tmp_path: Path, place: int) -> None:
    (tmp_path / "label_02").mkdir()
    (tmp_path / "label_02/0001.txt").write_text(fuzz.KITTI)
    rows = [row.split() for row in fuzz.KITTI.splitlines()]
    rows[0][place] = "nan"
    (tmp_path / "0001.txt").write_text("\n".join(map(" ".join, rows)))
    with pytest.raises(DataError, match=r"finite|no number"):
        evaluate_tracks(tmp_path / "0001.txt", [f"{tmp_path}?sequence=0001"], Rules())


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    for name, content in (
        ("data.yaml", b"names: [person, car]\n"),
        ("labels/a.txt", b"1 0.5 0.5 0.5 0.5\n"),
        ("images/a.png", fuzz.picture(".png")),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("row", ["1 nan 0.5 0.5 0.5", "1 0.5 0.5 inf 0.5", "nan 0.5 0.5 0.5 0.5"])
def test_yolo_labels_that_are_not_finite_are_refused(yolo: Path, row: str) -> None:
    (yolo / "labels/a.txt").write_text(row)
    with pytest.raises(DataError, match=r"a\.txt: expected finite numbers"):
        list(YoloFolder(yolo).truth())


def test_yolo_classes_that_are_numbered_are_read_and_no_text_is_refused(yolo: Path) -> None:
    (yolo / "data.yaml").write_text("names:\n  0: person\n  1: car\n")
    assert [t.labels.class_ids.tolist() for t in YoloFolder(yolo).truth()] == [[0]]  # type: ignore[union-attr]
    for content, words in ((b"names: \xff", "expected a text in UTF-8"), (b"names: 3", "expected names of classes")):
        (yolo / "data.yaml").write_bytes(content)
        with pytest.raises(DataError, match=words):
            YoloFolder(yolo)
