"""The picture of all cameras: whose view is whose can be read before anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camtrack.demo.cameras import VIEW, mosaic, write_video
from camtrack.recording.space import LEAST_SCORE
from camtrack.replay import CameraFrame
from camtrack_core.datasets.frames import Frame
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose


def views_of(grey: int) -> NDArray[np.uint8]:
    image = np.full((VIEW[1], VIEW[0], 3), grey, np.uint8)
    names = ("front_left", "front", "front_right", "back_left", "back", "back_right")
    return mosaic([CameraFrame(name, Frame(1, image)) for name in names], [])


def test_names_of_views_are_the_same_before_sky_and_road() -> None:
    dark, light = views_of(60), views_of(200)
    written = (dark != 60) | (light != 200)
    np.testing.assert_array_equal(dark[written], light[written])
    for top in (0, VIEW[1]):
        for left in (0, VIEW[0], 2 * VIEW[0]):
            label = dark[top : top + 20, left : left + 40]
            assert label.min() == 0 and label.max() == 255


class Ahead:
    """Two grey frames of a camera that looks along x."""

    name, class_names = "ahead", ()

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Frame]:
        camera, pose = Camera.from_field_of_view(*VIEW, 70), Pose(OPTICAL_IN_VEHICLE, np.array([0.0, 0, 1.5]))
        for time_ns in (1, 100_000_001):
            yield Frame(time_ns, np.full((VIEW[1], VIEW[0], 3), 90, np.uint8), camera=camera, camera_pose=pose)


def test_the_video_shows_what_the_scores_count(tmp_path: Path) -> None:
    def row(identity: int, y: float, score: float) -> dict:
        return {
            "id": identity,
            "class": "car",
            "score": score,
            "centre": [12.0, y, 0.8],
            "size": [4.0, 2.0, 1.6],
            "yaw": 0.0,
        }

    sure, unsure = row(1, 2.0, LEAST_SCORE), row(2, -2.0, LEAST_SCORE - 0.01)
    videos = {}
    for name, rows in (("both", [sure, unsure]), ("sure", [sure]), ("none", [unsure])):
        path = tmp_path / f"{name}.mp4"
        write_video({"front": Ahead()}, {1: rows, 100_000_001: rows}, path)
        videos[name] = path.read_bytes()
    assert videos["both"] == videos["sure"] != videos["none"]
