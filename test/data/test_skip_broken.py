"""Frames that cannot be read: they end a recording with their names, or are left out and counted on request."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data_helpers import SECOND, write_images
from rosbags.rosbag2 import Writer
from typer.testing import CliRunner

from camtrack.bags.write import _Topics, compressed
from camtrack.cli import app
from camtrack_core.datasets.frames import Frame, Skipping, attempts_of
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.mot_text import read_mot


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-60])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "f", [f"{k}.jpg" for k in range(4)])
    damage(tmp_path / "f/1.jpg")
    return tmp_path / "f"


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    with Writer(tmp_path / "bag", version=9) as writer:
        topics = _Topics(writer)
        for k in range(4):
            frame = Frame((k + 1) * SECOND, np.full((64, 96, 3), 30 * k, np.uint8))
            message = compressed(frame, "left", 90)
            message.data = message.data[:-60] if k == 1 else message.data
            topics.write("/left/image/compressed", frame.time_ns, message)
    return tmp_path / "bag"


@pytest.fixture
def mot(tmp_path: Path) -> Path:
    write_images(tmp_path / "m/img1", [f"{k:06d}.jpg" for k in range(1, 5)])
    damage(tmp_path / "m/img1/000002.jpg")
    (tmp_path / "m/seqinfo.ini").write_text("[Sequence]\nseqLength=4\n")
    return tmp_path / "m"


@pytest.fixture
def traffic(detrac: Path) -> Path:
    damage(detrac / "Insight-MVT_Annotation_Train/MVI_1/img00002.jpg")
    return detrac


@pytest.fixture
def street(kitti_copy: Path) -> Path:
    damage(kitti_copy / "image_02/0001/000001.jpg")
    return kitti_copy


@pytest.mark.parametrize("kind", ["folder", "bag", "mot", "traffic", "street"])
def test_a_broken_frame_does_not_keep_those_behind_it(kind: str, request: pytest.FixtureRequest) -> None:
    sequence = open_source(str(request.getfixturevalue(kind)))
    count = len(sequence)
    found = list(attempts_of(sequence))
    assert [isinstance(one, DataError) for one in found] == [k == 1 for k in range(count)]
    whole = Skipping(sequence)
    assert len(list(whole)) == count - 1 and len(whole.skipped) == 1
    assert len(list(whole)) == count - 1 and len(whole.skipped) == 1  # counted anew
    frames = []
    with pytest.raises(DataError, match="without its end"):
        frames.extend(sequence)
    assert len(frames) == 1


def test_tracking_counts_what_it_leaves_out(folder: Path, tmp_path: Path) -> None:
    command = ["track", str(folder), "--out", str(tmp_path / "out"), "--method", "gcnet", "--device", "onnxruntime"]
    stopped = CliRunner().invoke(app, command)
    assert stopped.exit_code == 2 and "1.jpg" in stopped.output
    assert not (tmp_path / "out/f.txt").exists()
    done = CliRunner().invoke(app, [*command, "--skip-broken"])
    assert done.exit_code == 0
    assert "f: 1 of 4 frames left out; the first: image" in done.output and "without its end" in done.output
    assert len(read_mot(tmp_path / "out/f.txt", 4)) == 4  # the frames behind it keep their numbers
    assert len((tmp_path / "out/f.ms").read_text().split()) == 4


def test_a_recording_of_broken_frames_alone_is_no_success(folder: Path, tmp_path: Path) -> None:
    for k in range(4):
        damage(folder / f"{k}.jpg")
    command = ["track", str(folder), "--out", str(tmp_path / "out"), "--method", "gcnet", "--device", "onnxruntime"]
    done = CliRunner().invoke(app, [*command, "--skip-broken"])
    assert done.exit_code == 2 and "none of the 4 frames can be read" in done.output


def test_a_bag_is_written_of_what_is_whole(bag: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bag", str(bag), str(tmp_path / "copy"), "--skip-broken", "--json"])
    assert done.exit_code == 0 and len(json.loads(done.stdout)["skipped"]) == 1
    assert [f.time_ns for f in open_source(str(tmp_path / "copy"))] == [SECOND, 3 * SECOND, 4 * SECOND]
