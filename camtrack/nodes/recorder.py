"""Records what is tracked: an annotated video and the tracks as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from pydantic import Field
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from camtrack.nodes.confined import confine, folder_of
from camtrack.recording.files import NO_IMAGE, Joined, Joiner, NamedTracks, Recording
from camtrack_core.config import ImageNodeParameters
from camtrack_core.encoded import Image
from camtrack_core.numbers import IdNumbers
from camtrack_core.ros.lifecycle import qos
from camtrack_core.ros.lifecycle.image_input import ImageInput
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.run import run
from camtrack_core.ros.messages.cdr import unpack
from camtrack_core.ros.messages.detections2d import class_names, to_tracks
from camtrack_core.ros.messages.image import measurement_time
from camtrack_core.ros.messages.stamps import fill_stamp


class RecorderParameters(ImageNodeParameters):
    """What a recorder can be told."""

    folder: str = Field("recording", description="where tracks.mp4, tracks.txt and tracks.jsonl go")
    root: str = Field(
        "", description="once the node runs, only folders below it may be chosen; empty: those below the first one"
    )
    capacity: int = Field(32, ge=1, description="images that may wait for their tracks")


class RecorderNode(CamtrackNode[RecorderParameters]):
    """Subscribes to `image` and `tracks`, joins them by stamp and writes a Recording.

    Publishes the stamps of what it has written on `~/written`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("recorder", RecorderParameters, **options)
        confine(self, "folder", folder_of)
        self._recording: Recording | None = None

    def configure(self, parameters: RecorderParameters) -> None:
        self._joiner: Joiner[NamedTracks] = Joiner(parameters.capacity)
        self._numbers = IdNumbers()
        self._recording = Recording(Path(parameters.folder))
        self._written = self.advertise(Header, "~/written", qos.RESULTS)
        self._input = ImageInput(self, "image", self._on_image, parameters)
        self.subscribe_serialised(Detection2DArray, "tracks", self._on_tracks, qos.RESULTS)

    def cleanup(self) -> None:
        if self._recording is None:
            return
        recording = self._recording
        try:
            for time_ns, image, tracks in self._joiner.flush():
                recording.write(time_ns, image, tracks)  # nobody is told of them: the publishers are gone by now
        finally:  # whatever fails: without its end the video cannot be played
            self._recording = None
            recording.close()
        self.get_logger().info(f"recorded {recording.frames} images in {recording.folder}")

    def reset(self) -> None:
        self._write(self._joiner.flush())

    def _on_image(self, image: Image, time_ns: int, header: Header) -> None:
        self._write(self._joiner.add_image(time_ns, image))
        self._input.finished(time_ns)

    def _on_tracks(self, data: bytes) -> None:
        detections = unpack(data)
        names = class_names(detections)
        tracks = NamedTracks(to_tracks(detections, names, self._numbers), names)
        self._write(self._joiner.add_tracks(measurement_time(detections), tracks))

    def _write(self, complete: list[Joined[NamedTracks]]) -> None:
        assert self._recording is not None
        for time_ns, image, tracks in complete:
            if image is None:
                self.drop(*NO_IMAGE)
            with self.monitor.stage("write"):
                self._recording.write(time_ns, image, tracks)
            self._written.publish(Header(stamp=fill_stamp(Time(), time_ns)))


def main() -> int:
    return run(RecorderNode)
