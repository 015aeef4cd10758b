"""The demo with six cameras: a generated drive that is seen all around, its scores, and a video of all views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from camtrack.bags.write import BagOptions, write_bag
from camtrack.demo.space import FRAME_RATE, QUALITY, must_be_found, score_frames, sure
from camtrack.recording.files import Recorded, VideoFile
from camtrack.replay import CameraFrame, rounds, together
from camtrack_core.datasets.frames import Sequence
from camtrack_core.datasets.sources import open_cameras
from camtrack_core.drawing.space import draw_tracks_3d
from camtrack_core.evaluation.space import SpaceFrame
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import Camera
from camtrack_core.geometry.tracks import Tracks3D

LAYOUT = (("front_left", "front", "front_right"), ("back_left", "back", "back_right"))  # of the video
VIEW = (640, 360)  # pixels of one camera in it
Image = NDArray[np.uint8]


def generate_rig(out: Path, seed: int, seconds: float, console: Console) -> Path:
    """Renders what six cameras of a drive see to a bag with the truth; returns its path."""
    size = "width=640&height=360"
    drive = f"drive:{seed}?cameras=6&frames={round(seconds * FRAME_RATE)}&frame_rate={FRAME_RATE}&{size}"
    cameras = open_cameras(drive)
    path = out / "drive"
    with Progress(console=console) as progress:
        task = progress.add_task("generating a drive with six cameras", total=sum(map(len, cameras.values())))
        write_bag(cameras, path, BagOptions(quality=QUALITY, truth=True), lambda: progress.advance(task))
    return path


def frames_to_score(cameras: Mapping[str, Sequence], recorded: Recorded) -> list[SpaceFrame]:
    """What is true and what was tracked in each round: an object counts where any camera sees it well enough."""
    frames = []
    for group in rounds(together(cameras)):
        centres: dict[int, np.ndarray] = {}
        judged: set[int] = set()
        for frame in (taken.frame for taken in group):
            if frame.labels is not None and frame.boxes3d is not None:
                centres |= dict(zip(frame.labels.ids.tolist(), frame.boxes3d.centre, strict=True))
                judged |= set(must_be_found(frame))
        ids = np.array(list(centres), np.int64)
        rows = sure(recorded.get(group[-1].time_ns, []))
        frames.append(
            SpaceFrame(
                ids,
                np.array(list(centres.values())).reshape(-1, 3),
                np.isin(ids, list(judged)),
                np.array([row["id"] for row in rows], np.int64),
                np.array([row["centre"] for row in rows], float).reshape(-1, 3),
            )
        )
    return frames


def scores(cameras: Mapping[str, Sequence], recorded: Recorded) -> dict[str, float]:
    return score_frames(frames_to_score(cameras, recorded))


def write_video(cameras: Mapping[str, Sequence], recorded: Recorded, path: Path) -> None:
    """All views with the tracks of their round that count. Raises DataError where it cannot be written."""
    video = VideoFile(path)
    try:
        for group in rounds(together(cameras)):
            rows = sure(recorded.get(group[-1].time_ns, []))
            video.write(group[-1].time_ns, mosaic(group, rows))
    finally:
        video.close()


def mosaic(group: Iterable[CameraFrame], rows: list[dict]) -> Image:
    views = {taken.camera: _view(taken, rows) for taken in group}
    nothing = np.zeros((VIEW[1], VIEW[0], 3), np.uint8)
    return np.concatenate([np.concatenate([views.get(name, nothing) for name in line], 1) for line in LAYOUT])


def _view(taken: CameraFrame, rows: list[dict]) -> Image:
    frame = taken.frame
    image: Image = np.asarray(cv2.resize(frame.image, VIEW), np.uint8)
    if frame.camera is not None and frame.camera_pose is not None:
        scale = VIEW[0] / frame.image.shape[1], VIEW[1] / frame.image.shape[0]
        camera = Camera(frame.camera.intrinsics * [[scale[0]], [scale[1]], [1.0]], *VIEW)
        tracks, names = as_tracks(rows)
        draw_tracks_3d(image, tracks, names, camera, frame.camera_pose.inverse())
    _draw_name(image, taken.camera)
    return image


def _draw_name(image: Image, name: str) -> None:
    """White on black in the upper left, legible before the sky and before the road.

    No outline: OpenCV's letters stand farther apart the thicker they are, so that two thicknesses cover each other.
    """
    (width, height), below = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)
    cv2.rectangle(image, (0, 0), (width + 11, height + below + 7), (0, 0, 0), cv2.FILLED)
    cv2.putText(image, name, (6, height + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1, cv2.LINE_AA)


def as_tracks(rows: list[dict]) -> tuple[Tracks3D, tuple[str, ...]]:
    """Recorded rows as tracks in the fixed frame, without covariances, and the class names that they index."""
    names = tuple(sorted({row["class"] for row in rows}))
    centre = np.array([row["centre"] for row in rows], float).reshape(-1, 3)
    size = np.array([row["size"] for row in rows], float).reshape(-1, 3)
    boxes = Boxes3D(centre, size, np.array([row["yaw"] for row in rows], float), np.full_like(centre, np.nan))
    tracks = Tracks3D(
        np.array([row["id"] for row in rows], np.int64), boxes, np.zeros((len(rows), 4, 4)),
        np.array([row["score"] for row in rows], float),
        np.array([names.index(row["class"]) for row in rows], np.int64), np.zeros(len(rows)),
    )  # fmt: skip
    return tracks, names
