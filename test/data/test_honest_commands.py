"""Commands say what they did: scores of nothing, empty input, exit codes, texts of users."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest
from data_helpers import write_images
from typer.testing import CliRunner

from camtrack.bags.write import BagOptions, write_bag
from camtrack.cli import app
from camtrack_core.datasets.sources import list_sources, open_source
from camtrack_core.errors import ConfigurationError, DataError


def run(*arguments: object):  # type: ignore[no-untyped-def]
    """The command in this process; its mistakes are DataErrors, as `main` catches them."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_version_is_told() -> None:
    done = run("--version")
    assert done.exit_code == 0 and done.output.startswith("camtrack ") and done.output.count(".") >= 1


def test_scores_of_nothing_are_no_success(detrac: Path, tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / f"MVI_{n}.txt").write_text("")
    done = run("evaluate", tmp_path, "--truth", detrac)
    assert isinstance(done.exception, DataError) and "found none that count" in str(done.exception)
    xml = detrac / "DETRAC-Train-Annotations-XML/MVI_1.xml"
    head, rest = xml.read_text().split("<target id", 1)
    xml.write_text(head + rest[rest.index("</target_list>") :])
    (tmp_path / "MVI_1.txt").write_text("1,1,40,20,10,10,1,-1,-1,-1\n")
    for more in ((), ("--detections",)):
        done = run("evaluate", tmp_path, "--truth", f"{detrac}?sequence=MVI_1", *more)
        assert isinstance(done.exception, DataError) and "expected objects to score against" in str(done.exception)


KITTI = "{frame} 3 Car 0 0 -1.9 {box} 1.5 1.85 4.9 {x} 1.5 {z} -1.5 {score}\n"


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """KITTI's labels of one car in twelve frames."""
    (tmp_path / "street/label_02").mkdir(parents=True)
    rows = [KITTI.format(frame=k, box="300 150 400 220", x=2 + k, z=20, score="") for k in range(12)]
    (tmp_path / "street/label_02/0001.txt").write_text("".join(rows))
    return tmp_path / "street"


def test_tracks_without_boxes_in_the_image_are_not_scored_there(street: Path, tmp_path: Path) -> None:
    for box in ("-1 -1 -1 -1", "0 0 0 0"):
        rows = [KITTI.format(frame=k, box=box, x=2 + k, z=20, score="0.5") for k in range(12)]
        (tmp_path / "0001.txt").write_text("".join(rows))
        done = run("evaluate", tmp_path, "--truth", f"{street}?sequence=0001")
        assert done.exit_code == 0, done.output
        assert "not scored: no boxes" in done.output and "HOTA" not in done.output
        found = json.loads(run("evaluate", tmp_path, "--truth", f"{street}?sequence=0001", "--json").output)
        assert found["in_image"] is False
        assert (found["spatial"]["mota"], found["spatial"]["hits"], found["spatial"]["misses"]) == (1.0, 12, 0)


def test_true_boxes_that_ab3dmots_rounding_drops_score_1_beside_it(street: Path, tmp_path: Path) -> None:
    """The mean of twelve scores of 0.3 is a little less than 0.3, and the mean of such means less again."""
    for score, dropped in (("0.3", True), ("0.5", False)):
        rows = [KITTI.format(frame=k, box="300 150 400 220", x=2 + k, z=20, score=score) for k in range(12)]
        (tmp_path / "0001.txt").write_text("".join(rows))
        arguments = "evaluate", tmp_path, "--truth", f"{street}?sequence=0001"
        found, said = json.loads(run(*arguments, "--json").output), " ".join(run(*arguments).output.split())
        assert found["spatial"]["mota"] == (0.0 if dropped else 1.0)
        assert (found["unrounded"]["mota"], found["unrounded"]["misses"]) == (1.0, 0)
        assert ("without the rounding by which tracks drop out of AB3DMOT's evaluation" in said) == dropped
        assert "mota 1.0000, motp 1.0000" in said and "misses 0, hits 12" in said


@pytest.mark.parametrize("kind", ["car", "Car", ""])
def test_kittis_class_in_any_case(street: Path, tmp_path: Path, kind: str) -> None:
    labels = street / "label_02/0001.txt"
    (tmp_path / "0001.txt").write_text("".join(f"{row} 0.5\n" for row in labels.read_text().splitlines()))
    scored = run("evaluate", tmp_path, "--truth", f"{street}?sequence=0001", "--kind", kind, "--json")
    assert json.loads(scored.output)["combined"]["hota"] == 1.0
    refused = run("evaluate", tmp_path, "--truth", f"{street}?sequence=0001", "--kind", "van")
    assert isinstance(refused.exception, ConfigurationError) and "got 'Van'" in str(refused.exception)


class Nothing:
    name, class_names = "nothing", ()

    def __len__(self) -> int:
        return 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(())


def test_a_bag_of_nothing_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected at least one frame for the bag .*out, found none"):
        write_bag({"camera": Nothing()}, tmp_path / "out", BagOptions())


ODD = ("[red]", "[]", "what?", "a.b.c", "100 %", ":smile:", "ü [bold] #2")


@pytest.mark.parametrize("name", ODD)
def test_names_of_users_are_printed_as_they_are(name: str, tmp_path: Path) -> None:
    """In tables, sentences and errors; as file, folder and sequence."""
    folder = write_images(tmp_path / name, ["1.jpg", "2.jpg"])
    out = tmp_path / f"out {name}"
    done = run("track", folder, "--method", "gcnet", "--device", "onnxruntime", "--out", out)
    assert done.exit_code == 0, done.output
    assert f"│ {name} " in done.output and (out / f"{name}.txt").is_file()
    (tmp_path / "broken").mkdir()
    broken = shutil.copy(folder / "1.jpg", tmp_path / "broken" / f"{name}.jpg")
    Path(broken).write_bytes(b"no image")
    done = run("track", tmp_path / "broken", "--method", "gcnet", "--device", "onnxruntime", "--out", tmp_path / "o2")
    assert done.exit_code == 2 and f"{name}.jpg: expected a JPEG or PNG image" in done.output


@pytest.mark.parametrize("name", ODD)
def test_a_data_set_may_lie_below_any_name(name: str, tmp_path: Path) -> None:
    for sequence in (f"a {name}", "b"):
        folder = tmp_path / name / sequence
        (folder / "gt").mkdir(parents=True)
        (folder / "gt/gt.txt").write_text("1,1,10,10,20,30,1,1,1\n")
    sources = list_sources(str(tmp_path / name))
    assert [open_source(source).name for source in sources] == [f"a {name}", "b"]
    (tmp_path / "out").mkdir()
    for sequence in (f"a {name}", "b"):
        (tmp_path / "out" / f"{sequence}.txt").write_text("1,1,10,10,20,30,1,-1,-1,-1\n")
    done = run("evaluate", tmp_path / "out", "--truth", tmp_path / name)
    assert done.exit_code == 0 and f"a {name}" in done.output, done.output


def test_a_video_whose_name_holds_brackets_reads_the_same_from_a_bag(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "[/x] a?b", ["1.png", "2.png"])
    done = run("bag", folder, tmp_path / "out [/y]")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'out [/y]'}: 4 messages" in done.output
    assert cv2.imread(str(folder / "1.png")) is not None
