"""Records what is tracked in space: an annotated video and the tracks as text."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from pydantic import Field
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection3DArray

from camtrack.nodes.confined import confine, folder_of
from camtrack.recording.files import NO_IMAGE, Joined, Joiner
from camtrack.recording.space import LEAST_SCORE, SpaceRecording, SpaceTracks, velocities_now
from camtrack_core.config import ImageNodeParameters
from camtrack_core.encoded import Image
from camtrack_core.errors import CamtrackError, ConfigurationError
from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D
from camtrack_core.numbers import IdNumbers
from camtrack_core.ros.lifecycle.image_input import ImageInput
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA
from camtrack_core.ros.lifecycle.run import run
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages.camera_info import is_rectified, read_camera
from camtrack_core.ros.messages.cdr3d import Detections3DMessage, unpack_detections
from camtrack_core.ros.messages.frames import frame_name
from camtrack_core.ros.messages.image import fill_image, measurement_time
from camtrack_core.ros.messages.stamps import fill_stamp
from camtrack_core.ros.tf.transform_listener import TransformListener
from camtrack_core.ros.tf.transforms import TooEarly, TransformError

HERE = Pose(np.eye(3), np.zeros(3))


class NoCamera(CamtrackError):
    """Tracks to draw into images whose camera is not known."""

    cause = "no camera_info"


class SpaceRecorderParameters(ImageNodeParameters):
    """What a recorder can be told."""

    folder: str = Field("recording", description="where tracks.mp4 and tracks3d.jsonl go")
    root: str = Field(
        "", description="once the node runs, only folders below it may be chosen; empty: those below the first one"
    )
    capacity: int = Field(32, ge=1, description="images that may wait for their tracks")
    least_score: float = Field(
        LEAST_SCORE, ge=0, le=1, description="of the tracks that are drawn; all of them are written as text"
    )
    rectified: bool = Field(
        False, description="images are rectified: take the intrinsics from P of camera_info and ignore D"
    )


class SpaceRecorderNode(CamtrackNode[SpaceRecorderParameters]):
    """Subscribes to `image`, `camera_info`, tf, `tracks` and `trajectories`, joins them by stamp and writes.

    Publishes the frames of the video on `~/image` while somebody listens, and the stamps of what it has written on
    `~/written`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("recorder", SpaceRecorderParameters, **options)
        confine(self, "folder", folder_of)
        self._recording: SpaceRecording | None = None

    def configure(self, parameters: SpaceRecorderParameters) -> None:
        self._joiner: Joiner[SpaceTracks] = Joiner(parameters.capacity)
        self._recording = SpaceRecording(Path(parameters.folder), parameters.least_score)
        self._numbers = IdNumbers()
        self._camera: Camera | None = None
        self._frame = ""
        self._tracks: dict[int, Detections3DMessage] = {}  # by stamp, without their trajectories so far
        self._motions: dict[int, dict[str, Floats]] = {}  # the other way round
        self._waiting: deque[tuple[Detections3DMessage, dict[str, Floats]]] = deque()
        self._transforms = TransformListener(self, self._join)
        self._drawn = self.advertise(ImageMessage, "~/image", SENSOR_DATA)
        self._written = self.advertise(Header, "~/written", RESULTS)
        self.subscribe(CameraInfo, "camera_info", self._on_camera, SENSOR_DATA)
        self.subscribe_serialised(Detection3DArray, "tracks", self._on_tracks, RESULTS)
        self.subscribe(MultiDOFJointTrajectory, "trajectories", self._on_trajectories, RESULTS)
        self._input = ImageInput(self, "image", self._on_image, parameters)

    def cleanup(self) -> None:
        if self._recording is None:
            return
        self._transforms.close()
        recording, self._recording = self._recording, None
        try:
            for time_ns, image, tracks in self._joiner.flush():
                recording.write(time_ns, image, tracks)  # nobody is shown them: the publishers are gone by now
        finally:  # whatever fails: without its end the video cannot be played
            recording.close()
        self.get_logger().info(f"recorded {recording.frames} images in {recording.folder}")

    def reset(self) -> None:
        assert self._recording is not None
        self._write(self._joiner.flush())
        for waiting in (self._waiting, self._tracks, self._motions):
            waiting.clear()
        self._recording.reset()

    def _on_camera(self, message: Any) -> None:
        rectified = self.parameters.rectified or is_rectified(self.resolve_topic_name("image"))
        try:
            self._camera, wrong = read_camera(message, rectified), None
        except ConfigurationError as error:
            self._camera, wrong = None, str(error)
        self.warn("camera_info", wrong)

    def _on_image(self, image: Image, time_ns: int, header: Header) -> None:
        self._frame = frame_name(header.frame_id)
        self._write(self._joiner.add_image(time_ns, image))
        self._input.finished(time_ns)

    def _on_tracks(self, data: bytes) -> None:
        message = unpack_detections(data)
        self._tracks[measurement_time(message)] = message
        self._pair(measurement_time(message))

    def _on_trajectories(self, message: Any) -> None:
        """Trajectories come with the tracks of the same stamp, and tell their velocities."""
        self._motions[measurement_time(message)] = velocities_now(message)
        self._pair(measurement_time(message))

    def _pair(self, time_ns: int) -> None:
        """Bring tracks and trajectories of one stamp together; each kind keeps its order, so that none is late."""
        paired = time_ns in self._tracks and time_ns in self._motions
        if paired:
            self._waiting.append((self._tracks.pop(time_ns), self._motions.pop(time_ns)))
        for halves in (self._tracks, self._motions):
            lost = [t for t in halves if t < time_ns] if paired else list(halves)[: -self.parameters.capacity]
            for t in lost:
                del halves[t]
            if lost:
                self.drop("half lost", "expected both tracks and trajectories of a stamp, got one of them", len(lost))
        self._join()

    def _join(self) -> None:
        """Give tracks to their images as soon as it is known where the camera was."""
        while self._waiting:
            message, velocities = self._waiting.popleft()
            time_ns = measurement_time(message)
            try:
                if self._camera is None:
                    raise NoCamera("expected a usable camera_info before the tracks, got none")
                pose = self._transforms.lookup(frame_name(message.header.frame_id), self._frame, time_ns)
            except (TooEarly, NoCamera) as error:
                if len(self._waiting) < self.parameters.capacity:
                    self._waiting.appendleft((message, velocities))
                    return
                self.drop(error.cause, str(error))
            except TransformError as error:
                self.drop(error.cause, str(error))
            else:
                names = tuple(sorted({name for name in message.names if name is not None}))
                tracks = with_velocities(message, names, velocities, self._numbers)
                self._write(self._joiner.add_tracks(time_ns, SpaceTracks(tracks, names, self._camera, pose)))

    def _write(self, complete: list[Joined[SpaceTracks]]) -> None:
        assert self._recording is not None
        for time_ns, image, found in complete:
            if image is None:
                self.drop(*NO_IMAGE)
            with self.monitor.stage("write"):
                picture = self._recording.write(time_ns, image, found)
            self._written.publish(Header(stamp=fill_stamp(Time(), time_ns)))
            if picture is not None and self._drawn.get_subscription_count():
                header = Header(frame_id=self._frame, stamp=fill_stamp(Time(), time_ns))
                self._drawn.publish(fill_image(ImageMessage(header=header), picture))


def with_velocities(
    message: Detections3DMessage, names: tuple[str, ...], velocities: dict[str, Floats], ids_to_numbers: IdNumbers
) -> Tracks3D:
    """Tracks of a message in a frame with z up. Rows that are not finite are left out; covariances are zero."""
    ids = dict(zip(map(tuple, message.poses[:, :3].tolist()), message.ids, strict=True))
    found = messages3d.to_detections(message, names.index, HERE)
    labels = [ids[tuple(centre)] for centre in found.boxes.centre.tolist()]
    unknown = np.full(3, np.nan)
    found.boxes.velocity[:] = np.reshape([velocities.get(label, unknown) for label in labels], (-1, 3))
    nothing = np.zeros((len(labels), 4, 4))
    numbers = np.array([ids_to_numbers[label] for label in labels], np.int64)
    return Tracks3D(numbers, found.boxes, nothing, found.scores, found.class_ids, np.zeros(len(labels)), found.motions)


def main() -> int:
    return run(SpaceRecorderNode)


if __name__ == "__main__":
    raise SystemExit(main())
