"""The command line as a person types it: a sentence for every mistake, and the demo from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_helpers import ROOT, a_video, camtrack, camtrack_process

from camtrack.recording.files import read_tracks
from gcnet_tracker.tracker import DEMO_MODEL
from time3d_tracker.model import DEMO_MODEL as TIME3D_MODEL


def test_help_and_mistakes_wait_for_no_compiler_and_no_network() -> None:
    """numba, SciPy, torch and the engines take a second or more each."""
    heavy = "numba scipy torch openvino onnxruntime rclpy trackeval".split()
    code = f"import sys, camtrack.cli; print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not done.stdout.split()


def broken_video(folder: Path) -> str:
    (folder / "broken.mp4").write_bytes(b"this is no video")
    return str(folder / "broken.mp4")


def empty_folder(folder: Path) -> str:
    (folder / "empty").mkdir()
    return str(folder / "empty")


def missing(folder: Path) -> str:
    return str(folder / "missing.mp4")


@pytest.mark.parametrize("make", [broken_video, empty_folder, missing])
def test_input_that_cannot_be_played_is_a_sentence(make, tmp_path: Path) -> None:
    source = make(tmp_path)
    done = camtrack_process("demo", "--input", source, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert Path(source).name in done.stderr and "error:" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_wrong_configuration_names_file_and_field(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("network: {height: 100}\n")
    done = camtrack("gcnet", "train", "--config", str(tmp_path / "bad.yaml"), "--clips", ".", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "bad.yaml" in done.stderr and "multiple of 32" in done.stderr and "Traceback" not in done.stderr


def test_training_without_clips_is_a_sentence(tmp_path: Path) -> None:
    config = str(ROOT / "config" / "gcnet_demo.yaml")
    done = camtrack("gcnet", "train", "--config", config, "--clips", str(tmp_path), "--out", str(tmp_path / "run"))
    assert done.returncode == 2 and "expected clips named" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not DEMO_MODEL.exists(), reason="the demo weights are not here")
def test_demo_runs_real_processes_and_writes_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame of a clip goes through replay, gcnet_tracker, pkf_filter and the recorder; the domain is told."""
    monkeypatch.delenv("ROS_DOMAIN_ID")
    source = a_video(tmp_path / "clip.mp4")
    done = camtrack_process("demo", "--input", source, "--out", str(tmp_path / "out"), "--rate", "0", timeout=450)
    log = (tmp_path / "out" / "log.txt").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert "annotated video" in done.stdout and "ROS_DOMAIN_ID=2" in done.stdout
    stamps = sorted(read_tracks(tmp_path / "out" / "tracks.jsonl"))
    assert len(stamps) == 12 and np.allclose(np.diff(stamps), 1e8, atol=1e3)
    video = cv2.VideoCapture(str(tmp_path / "out" / "tracks.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 12


@pytest.mark.slow
@pytest.mark.skipif(not TIME3D_MODEL.exists(), reason="the demo weights are not here")
def test_demo_tracks_a_generated_drive_in_space(tmp_path: Path) -> None:
    """Every frame goes through both trackers and the fusion; the scores are printed."""
    out = tmp_path / "out"
    done = camtrack_process(
        "demo", "--seconds", "1", "--seed", "3", "--out", str(out), "--rate", "0", "--json", timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr + (out / "log.txt").read_text()
    assert "in space" in done.stderr and "HOTA" in done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["exit_code"], outcome["frames"]) == (0, 10) and 0 <= outcome["scores"]["HOTA"] <= 1
    assert [Path(path).is_file() for path in outcome["files"]] == [True, True]
    stamps = sorted(read_tracks(out / "tracks3d.jsonl"))
    assert len(stamps) == 10 and np.allclose(np.diff(stamps), 1e8, atol=1e3)
    assert cv2.VideoCapture(str(out / "tracks.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 10


@pytest.mark.skipif(not DEMO_MODEL.exists(), reason="the demo weights are not here")
def test_demo_ends_with_the_nodes_exit_code_when_the_model_is_missing(tmp_path: Path) -> None:
    source = a_video(tmp_path / "clip.mp4")
    done = camtrack_process(
        "demo", "--input", source, "--out", str(tmp_path / "out"), "--model", "none.onnx", timeout=450
    )
    assert done.returncode == 2  # cannot start
    assert "none.onnx" in done.stdout and "Traceback" not in done.stdout + done.stderr
