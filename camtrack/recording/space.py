"""Writing down what was tracked in space: a video of the camera's view beside the map, and the tracks as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from camtrack.recording.append import AppendedFile
from camtrack.recording.video import VideoFile
from camtrack_core.drawing.space import BirdsEye, draw_tracks_3d
from camtrack_core.encoded import Image
from camtrack_core.files import new_folder
from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D

FILES = ("tracks.mp4", "tracks3d.jsonl")
LEAST_SCORE = 0.35  # of tracks that are drawn and that the demo's scores count: what is less sure is published, too
VIEW_HEIGHT = 480  # pixels of the video
REACH = 60.0  # metres of the map


@dataclass(frozen=True)
class SpaceTracks:
    """The tracks of one image in the fixed frame, the class names that they index, and the camera's place."""

    tracks: Tracks3D
    class_names: tuple[str, ...]
    camera: Camera
    camera_pose: Pose


class SpaceRecording:
    """An annotated video and the tracks beside it, in one folder, that of no other recording.

    tracks.mp4: the images with boxes, and beside them the map with boxes, trails and velocities, of tracks of
    `least_score` and more. tracks3d.jsonl: a line for every image that was tracked: its stamp in nanoseconds, the frame
    of the video (null where the recorder did not get the image), and all tracks with class names, in the fixed frame:
    centre, size (length, width, height) in metres, yaw in radians, velocity in metres per second.

    Attributes:
        folder: where the files are; not the one that was asked for where that holds another recording.
        frames: of the video.

    Raises DataError where the files cannot be written.
    """

    def __init__(self, folder: Path, least_score: float = LEAST_SCORE) -> None:
        self.folder = new_folder(folder, FILES)
        self._least_score = least_score
        self._lines = AppendedFile(self.folder / "tracks3d.jsonl")
        self._video = VideoFile(self.folder / "tracks.mp4")
        self._map = BirdsEye((VIEW_HEIGHT, VIEW_HEIGHT), REACH)
        self.frames = 0

    def write(self, time_ns: int, image: Image | None, found: SpaceTracks | None) -> Image | None:
        """Append an image, None where it was lost, and its tracks, None where it was not tracked.

        Returns the frame of the video, if there is one.
        """
        if image is None:
            if found is not None:
                self._write_text(time_ns, None, found)
            return None
        self.frames += 1
        width = round(image.shape[1] * VIEW_HEIGHT / image.shape[0])
        view: Image = np.asarray(cv2.resize(image, (width, VIEW_HEIGHT)), np.uint8)
        beside = np.zeros((VIEW_HEIGHT, VIEW_HEIGHT, 3), np.uint8)
        if found is not None:
            self._write_text(time_ns, self.frames, found)
            camera, scale, sure = found.camera, VIEW_HEIGHT / image.shape[0], self._sure(found.tracks)
            scaled = Camera(camera.intrinsics * [[scale], [scale], [1.0]], view.shape[1], view.shape[0])
            view = draw_tracks_3d(view, sure, found.class_names, scaled, found.camera_pose.inverse())
            beside = self._map.draw(time_ns, sure, found.class_names, found.camera_pose, None)
        picture = np.concatenate([view, beside], 1)
        self._video.write(time_ns, picture)
        return picture

    def reset(self) -> None:
        """Time went backwards."""
        self._map.reset()

    def close(self) -> None:
        try:
            self._video.close()
        finally:
            self._lines.close()

    def _sure(self, tracks: Tracks3D) -> Tracks3D:
        return tracks[tracks.scores >= self._least_score]

    def _write_text(self, time_ns: int, frame: int | None, found: SpaceTracks) -> None:
        tracks, boxes = found.tracks, found.tracks.boxes
        rows = [
            {
                "id": int(tracks.ids[row]),
                "class": found.class_names[tracks.class_ids[row]],
                "score": float(tracks.scores[row]),
                "centre": boxes.centre[row].tolist(),
                "size": boxes.size[row].tolist(),
                "yaw": float(boxes.yaw[row]),
                "velocity": [float(v) if np.isfinite(v) else None for v in boxes.velocity[row]],
            }
            for row in range(len(tracks))
        ]
        self._lines.append(json.dumps({"time_ns": time_ns, "frame": frame, "tracks": rows}).encode() + b"\n")


def velocities_now(message: Any) -> dict[str, Floats]:
    """Velocity (3,) of each track, metres per second, at the stamp of a MultiDOFJointTrajectory."""
    for point in message.points:
        if point.time_from_start.sec == 0 and point.time_from_start.nanosec == 0:
            linear = [twist.linear for twist in point.velocities]
            return {name: np.array([v.x, v.y, v.z]) for name, v in zip(message.joint_names, linear, strict=False)}
    return {}
