"""Data that is cut off, doubled, out of the image or not a number, and disks that fill up: a sentence, and what was
finished stays valid."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_helpers import ROOT, a_video
from data_helpers import XML

from camtrack.evaluation.run import Rules, evaluate_tracks
from camtrack.recording.files import read_tracks
from camtrack_core.datasets.frames import Frame, truth_of
from camtrack_core.datasets.nuscenes import read_tables
from camtrack_core.datasets.sources import open_source
from camtrack_core.datasets.uadetrac import UaDetracSequence
from camtrack_core.errors import DataError
from camtrack_core.evaluation.mot_text import read_mot

FILE = "DETRAC-Train-Annotations-XML/MVI_1.xml"

# --- annotations


def test_a_cut_anywhere_in_the_xml_is_a_sentence(detrac: Path) -> None:
    for end in range(0, len(XML.rstrip()), 7):
        (detrac / FILE).write_text(XML[:end])
        with pytest.raises(DataError, match=r"MVI_1\.xml"):
            UaDetracSequence(detrac, "MVI_1")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('left="10" top="20" width="20"', 'left="nan" top="20" width="20"', "needs a number left"),
        ('left="10" top="20" width="20"', 'left="inf" top="20" width="20"', "needs a number left"),
        ('left="10" top="20" width="20"', 'left="10" top="20" width="-20"', "widths and heights from 0, got -20"),
        ('<target id="7">', '<target id="4">', "an id occurs twice in frame 1"),
    ],
)
def test_what_makes_no_sense_in_the_xml_is_named(detrac: Path, old: str, new: str, words: str) -> None:
    (detrac / FILE).write_text(XML.replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        list(UaDetracSequence(detrac, "MVI_1"))


def test_boxes_outside_the_image_end_at_its_border(detrac: Path) -> None:
    (detrac / FILE).write_text(XML.replace('left="80" top="50" width="40"', 'left="-300" top="50" width="4000"'))
    frame = next(iter(UaDetracSequence(detrac, "MVI_1")))
    assert frame.labels is not None
    height, width = frame.image.shape[:2]
    assert frame.labels.xyxy[1].tolist() == [0, 50, width, height]
    (detrac / FILE).write_text(XML.replace('left="80" top="50" width="40"', 'left="9000" top="50" width="40"'))
    frame = next(iter(UaDetracSequence(detrac, "MVI_1")))
    assert frame.labels is not None and np.isfinite(frame.labels.xyxy).all()
    assert (frame.labels.xyxy[:, 2] <= width).all() and (frame.labels.visible >= 0).all()


def test_sequences_without_objects_have_frames_and_scores(detrac: Path, tmp_path: Path) -> None:
    head, rest = XML.split("<target id", 1)
    (detrac / FILE).write_text(head + rest[rest.index("</target_list>") :])
    assert [len(t.labels) for t in truth_of(UaDetracSequence(detrac, "MVI_1")) if t.labels is not None] == [0, 0]
    (tmp_path / "p.txt").write_text("1,1,40,20,10,10,1,-1,-1,-1\n")
    scores = evaluate_tracks(tmp_path / "p.txt", [f"{detrac}?sequence=MVI_1"], Rules()).combined
    assert scores.truth == 0 and scores.false_positives == 1 and np.isfinite(scores.mota)


@pytest.fixture
def scene(data_root: Path, tmp_path: Path) -> Path:
    """The tables of the scene without its images."""
    shutil.copytree(data_root / "nuscenes/v1.0-mini", tmp_path / "v1.0-mini")
    read_tables.cache_clear()
    return tmp_path


def edit(scene: Path, change) -> None:  # type: ignore[no-untyped-def]
    path = scene / "v1.0-mini/sample_annotation.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def test_visibility_is_optional(scene: Path) -> None:
    def seen(source: str) -> list[list[float]]:
        read_tables.cache_clear()
        return [t.labels.visible.tolist() for t in truth_of(open_source(source)) if t.labels is not None]

    before = seen(str(scene))
    edit(scene, lambda records: [record.update(visibility_token="") for record in records])
    after = seen(str(scene))
    assert [len(frame) for frame in after] == [len(frame) for frame in before]
    inside = [value for frame in after for value in frame]
    assert max(inside) == 1.0  # of what is wholly in the image: nobody said that it is hidden
    assert all(a >= b for x, y in zip(after, before, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r[0].update(translation=[float("nan"), 0, 0]), "not finite"),
        (lambda r: r[0].update(size=[1, float("inf"), 1]), "not finite"),
        (lambda r: r.append({**r[0], "token": "another"}), "an instance occurs twice"),
    ],
)
def test_annotations_that_make_no_sense_are_named(scene: Path, change, words: str) -> None:  # type: ignore[no-untyped-def]
    edit(scene, change)
    with pytest.raises(DataError, match=f"sample_annotation.*{words}"):
        list(truth_of(open_source(str(scene))))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.999])
def test_truncated_tables_are_named(scene: Path, share: float) -> None:
    for name in ("scene", "sample", "sample_data", "sample_annotation", "ego_pose"):
        path = scene / f"v1.0-mini/{name}.json"
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole.rstrip()))])
        read_tables.cache_clear()
        with pytest.raises(DataError, match=rf"{name}\.json"):
            open_source(f"{scene}?scene=scene-0103&camera=CAM_FRONT")
        path.write_bytes(whole)
    read_tables.cache_clear()


# --- full disks


def small_disk(limit: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that may not write files above `limit` bytes: a disk that is full then."""
    return subprocess.run(
        [sys.executable, "-m", "camtrack.cli", *arguments],
        capture_output=True, text=True, timeout=150,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_on_a_full_disk_is_a_sentence(tmp_path: Path, storage: str) -> None:
    video = a_video(tmp_path / "clip.mp4")
    done = small_disk(2_000_000, "bag", video, str(tmp_path / "bag"), "--storage", storage)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cannot write the bag" in done.stderr and "Traceback" not in done.stderr
    if storage == "mcap":  # of which a chunk of six images fits; sqlite3 has one transaction, which does not
        frames: list[Frame] = []
        with pytest.raises(DataError, match="breaks off"):
            frames.extend(open_source(str(tmp_path / "bag")))
        for frame, original in zip(frames, open_source(video), strict=False):
            np.testing.assert_array_equal(frame.image, original.image)
        assert len(frames) >= 1


def test_tracks_on_a_full_disk_are_whole_or_not_there(data_root: Path, tmp_path: Path) -> None:
    """The short sequence fits, the long one does not."""
    done = small_disk(
        30_000, "track", str(data_root / "mot15"), "--method", "pkf", "--out", str(tmp_path), "--jobs", "1"
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "TUD-Stadtmitte: cannot write the tracks" in done.stderr and "Traceback" not in done.stderr
    assert not [p for p in tmp_path.iterdir() if "Stadtmitte" in p.name]
    assert len(read_mot(tmp_path / "TUD-Campus.txt", 71)) == 71


def test_a_run_that_the_full_disk_stopped_can_be_repeated(data_root: Path, tmp_path: Path) -> None:
    """Not even the settings of the run fit: nothing half written blocks the next run."""
    sequence = str(data_root / "mot15/TUD-Campus")
    arguments = ("track", sequence, "--method", "pkf", "--out", str(tmp_path), "--jobs", "1")
    done = small_disk(5, *arguments)
    assert done.returncode == 2 and "cannot write to" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
    done = small_disk(30_000_000, *arguments)
    assert done.returncode == 0, done.stderr
    assert len(read_mot(tmp_path / "TUD-Campus.txt", 71)) == 71


def test_a_report_on_a_full_disk_leaves_the_old_one(data_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copyfile(data_root / "mot15/TUD-Campus/gt/gt.txt", run / "TUD-Campus.txt")
    old = "<title>camtrack report</title> of yesterday"
    (tmp_path / "report.html").write_text(old)
    truth = str(data_root / "mot15/TUD-Campus")
    done = small_disk(2000, "report", str(run), "--truth", truth, "--out", str(tmp_path / "report.html"))
    assert done.returncode == 2 and "cannot write the report" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "report.html").read_text() == old and not list(tmp_path.glob("*.partial"))


def test_a_recording_on_a_full_disk_keeps_whole_lines(tmp_path: Path) -> None:
    """In a process of its own, where the disk is full after 3000 bytes."""
    code = f"""
import resource
from data_helpers import fill
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
fill({str(tmp_path)!r})
"""
    path = os.pathsep.join([str(ROOT), str(ROOT / "test")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.stdout.strip().endswith("tracks.jsonl: File too large"), done.stdout + done.stderr
    lines = read_tracks(tmp_path / "tracks.jsonl")
    assert len(lines) > 10 and list(lines) == list(range(1, len(lines) + 1))
    frames = read_mot(tmp_path / "tracks.txt")
    assert len(frames) in (len(lines), len(lines) + 1) and all(len(f) == 1 for f in frames)


def test_an_image_that_is_a_folder_or_empty_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2\.png: expected a JPEG or PNG image, got 0 bytes"):
        list(open_source(str(tmp_path)))
    (tmp_path / "2.png").unlink()
    (tmp_path / "2.png").mkdir()
    with pytest.raises(DataError, match=r"cannot read image .*2\.png"):
        list(open_source(str(tmp_path)))
