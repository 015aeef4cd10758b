"""Six cameras end to end: a generated drive through the processes of cameras.launch.xml, tracked across a seam."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_helpers import camtrack_process

from camtrack.recording.files import Recorded, read_tracks
from camtrack.replay import rounds, together
from camtrack_core.datasets.frames import Sequence
from camtrack_core.datasets.sources import open_cameras

NEAR = 2.5  # metres between an object and its track
CLEAR = 0.6  # share of an object that a camera sees
FRAMES = 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_tracks_all_around_and_keeps_a_track_from_one_view_to_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--seconds", str(FRAMES / 10), "--precision", "f32", "--out", str(out), "--json"]
    done = camtrack_process("demo", "--cameras", "6", *options, timeout=1700)
    log = (out / "log.txt").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert "dropped (no transform" not in log  # a round that lacks a camera would be waited for in vain
    assert json.loads(done.stdout)["frames"] == FRAMES
    cameras, recorded = open_cameras(str(out / "drive")), read_tracks(out / "tracks3d.jsonl")
    assert list(cameras) == ["back", "back_left", "back_right", "front", "front_left", "front_right"]
    seen = tracks_by_camera(cameras, recorded)
    assert {camera for camera, _ in seen} >= {"front", "back", "front_left"}, "expected tracks in several views"
    kept = {
        truth
        for (camera, truth), ids in seen.items()
        if any(other != camera and same == truth and ids & those for (other, same), those in seen.items())
    }
    assert kept, "expected an object that has one track in two views"
    video = cv2.VideoCapture(str(out / "cameras.mp4"))
    assert (video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (1920, 720)
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES


def tracks_by_camera(cameras: dict[str, Sequence], recorded: Recorded) -> dict[tuple[str, int], set[int]]:
    """Ids of the tracks that lie on each object while a camera sees it clearly, and no other camera does."""
    found: dict[tuple[str, int], set[int]] = {}
    for group in rounds(together(cameras)):
        rows = recorded.get(group[-1].time_ns, [])
        places = np.array([row["centre"][:2] for row in rows], float).reshape(-1, 2)
        clear: dict[int, list[tuple[str, np.ndarray]]] = {}
        for taken in group:
            labels, boxes = taken.frame.labels, taken.frame.boxes3d
            assert labels is not None and boxes is not None
            for row in np.flatnonzero(labels.visible > CLEAR).tolist():
                clear.setdefault(int(labels.ids[row]), []).append((taken.camera, boxes.centre[row, :2]))
        for truth, seen in clear.items():
            distances = np.linalg.norm(places - seen[0][1], axis=1)
            if len(seen) == 1 and len(distances) and distances.min() < NEAR:
                found.setdefault((seen[0][0], truth), set()).add(rows[int(distances.argmin())]["id"])
    return found
