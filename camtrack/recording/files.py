"""Writing down what was tracked: images joined with their tracks, an annotated video, tracks as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from camtrack.recording.append import AppendedFile
from camtrack.recording.video import VideoFile
from camtrack_core.drawing.image import Trails, draw_tracks
from camtrack_core.encoded import Image
from camtrack_core.files import new_folder
from camtrack_core.geometry.tracks import Tracks2D

T = TypeVar("T")
Recorded = dict[int, list[dict]]  # tracks by stamp
FILES = ("tracks.mp4", "tracks.txt", "tracks.jsonl")
NO_IMAGE = ("no image", "tracks without an image of their stamp: recorded as text alone")  # cause and sentence
Joined = tuple[int, Image | None, T | None]  # a stamp, its image and its tracks, of which one may be missing


@dataclass(frozen=True)
class NamedTracks:
    """The tracks of one image and the class names that they index."""

    tracks: Tracks2D
    class_names: tuple[str, ...]


class Joiner(Generic[T]):
    """Joins images and tracks by their stamps.

    Both come out in order, together as soon as both are there, or one alone (None for the other) once a newer one
    of the missing kind, or too many that wait, show that it does not come. At most `capacity` of each are held. Of
    several tracks with one stamp, only those count that come before their image is out.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._images: dict[int, Image] = {}
        self._tracks: dict[int, T] = {}
        self._out = -1

    def add_image(self, time_ns: int, image: Image) -> list[Joined[T]]:
        """Take an image; returns what is complete now, oldest first."""
        self._images[time_ns] = image
        return self._complete(self._capacity)

    def add_tracks(self, time_ns: int, tracks: T) -> list[Joined[T]]:
        """Take the tracks of an image; returns what is complete now, oldest first."""
        if time_ns > self._out:
            self._tracks[time_ns] = tracks
        return self._complete(self._capacity)

    def flush(self) -> list[Joined[T]]:
        """All that is left, oldest first; stamps may start anew."""
        rest = self._complete(0)
        self._out = -1
        return rest

    def _complete(self, capacity: int) -> list[Joined[T]]:
        complete = []
        newest_image, newest_tracks = max(self._images, default=-1), max(self._tracks, default=-1)
        for time_ns in sorted(self._images.keys() | self._tracks.keys()):
            overtaken = min(newest_image, newest_tracks) >= time_ns  # by both, or one is its own and newest
            if not overtaken and max(len(self._images), len(self._tracks)) <= capacity:
                break
            complete.append((time_ns, self._images.pop(time_ns, None), self._tracks.pop(time_ns, None)))
            self._out = time_ns
        return complete


class Recording:
    """An annotated video and the tracks beside it, in one folder, that of no other recording.

    Whatever ends it, what was written until then can be read.

    tracks.mp4: the images with boxes, ids and trails. tracks.txt: MOTChallenge rows
    `frame,id,left,top,width,height,score,-1,-1,-1`, frames of the video from 1. tracks.jsonl: a line for every
    image that was tracked: its stamp in nanoseconds, the frame of the video (null where the recorder did not get the
    image; then tracks.txt has no rows of it), and the tracks with class names.

    Attributes:
        folder: where the files are; not the one that was asked for where that holds another recording.
        frames: of the video.

    Raises DataError where the files cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = new_folder(folder, FILES)
        self._mot, self._lines = AppendedFile(self.folder / "tracks.txt"), AppendedFile(self.folder / "tracks.jsonl")
        self._video = VideoFile(self.folder / "tracks.mp4")
        self._trails = Trails()
        self.frames = 0

    def write(self, time_ns: int, image: Image | None, named: NamedTracks | None) -> None:
        """Append an image, None where it was lost, and its tracks, None where it was not tracked."""
        if image is None:
            if named is not None:
                self._write_line(time_ns, None, named)
            return
        self.frames += 1
        if named is not None:
            self._write_line(time_ns, self.frames, named)
            self._write_mot(named.tracks)
            image = self._trails.draw(image.copy(), named.tracks)  # it may be a view of a message
            image = draw_tracks(image, named.tracks, named.class_names)
        self._video.write(time_ns, image)

    def close(self) -> None:
        try:
            self._video.close()
        finally:
            self._mot.close()
            self._lines.close()

    def _write_mot(self, tracks: Tracks2D) -> None:
        lines = []
        for track, (x1, y1, x2, y2), score in zip(tracks.ids, tracks.xyxy, tracks.scores, strict=True):
            box = f"{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f}"
            lines.append(f"{self.frames},{track},{box},{score:.4f},-1,-1,-1\n")
        self._mot.append("".join(lines).encode())

    def _write_line(self, time_ns: int, frame: int | None, named: NamedTracks) -> None:
        tracks = named.tracks
        rows = [
            {"id": track, "class": named.class_names[class_id], "score": score, "xyxy": xyxy}
            for track, xyxy, score, class_id in zip(
                tracks.ids.tolist(), tracks.xyxy.tolist(), tracks.scores.tolist(), tracks.class_ids, strict=True
            )
        ]
        self._lines.append(json.dumps({"time_ns": time_ns, "frame": frame, "tracks": rows}).encode() + b"\n")


def read_tracks(path: Path) -> Recorded:
    """Recorded tracks by stamp, of a tracks.jsonl or tracks3d.jsonl."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["time_ns"]: line["tracks"] for line in lines}
