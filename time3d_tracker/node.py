"""The ROS node of Time3D: images, their camera and its place in, tracks in space out. Converts and calls."""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection3DArray

from camtrack_core.config import ImageNodeParameters, InferenceParameters
from camtrack_core.drawing.space import draw_tracks_3d
from camtrack_core.errors import ConfigurationError
from camtrack_core.files import FileVersion
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.ground import height_over_ground
from camtrack_core.ros.lifecycle.batch_member import BatchMember, shared_batch
from camtrack_core.ros.lifecycle.image_input import ImageInput
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA
from camtrack_core.ros.lifecycle.run import run_cameras
from camtrack_core.ros.messages import detections3d as messages3d
from camtrack_core.ros.messages import image as images
from camtrack_core.ros.messages.camera_info import distortion, is_rectified, other_size, read_camera
from camtrack_core.ros.messages.frames import frame_name
from camtrack_core.ros.tf.transform_listener import TransformListener
from camtrack_core.ros.tf.transforms import TooEarly, TransformError
from time3d_tracker.config import TrackerConfig
from time3d_tracker.model import DEMO_MODEL, Outputs, Time3DModel
from time3d_tracker.tracker import Result, Tracker, View

FASTEST = 60.0  # Hz, images of a camera: how many may wait for their transform at the same time
MOST_OVERDUE = 3  # images that waited in vain for the network, besides
RETRY = 0.02  # seconds between two looks for a transform that an image waits for


class Time3DParameters(ImageNodeParameters, InferenceParameters, TrackerConfig):
    """Parameters of the node: the camera's, the tracker's and the model's."""

    model: str = Field("", description="exported Time3D (.onnx); empty for the demo weights")
    fixed_frame: str = Field(
        "map", description="frame with z up that tells the camera's tilt and motion; empty: a level camera, still"
    )
    ground_frame: str = Field(
        "base_link", description="frame whose origin lies on the ground below the vehicle; empty: height unknown"
    )
    rectified: bool = Field(
        False, description="images are rectified: take the intrinsics from P of camera_info and ignore D"
    )
    transform_timeout: float = Field(0.2, ge=0, description="how long an image waits for its transform, seconds")


@dataclass(frozen=True)
class _Waiting:
    """An image with its camera, whose transform may still arrive, until a deadline (monotonic seconds)."""

    image: NDArray[np.uint8]
    camera: Camera
    time_ns: int
    header: Header
    deadline: float


class Time3DNode(CamtrackNode[Time3DParameters]):
    """Subscribes `image`, `camera_info` and tf; publishes in the camera's optical frame.

    `~/tracks`: boxes with ids and classes. `~/velocities`: of the same ids, over ground; NaN without a
    fixed frame. `~/image`: the boxes drawn, while somebody listens.
    """

    def __init__(self, **options: object) -> None:
        super().__init__("time3d_tracker", Time3DParameters, **options)
        self._transforms: TransformListener | None = None

    def configure(self, parameters: Time3DParameters) -> None:
        file = FileVersion.of(Path(parameters.model) if parameters.model else DEMO_MODEL)
        batch = shared_batch(Time3DModel, file, parameters)
        model, self._member = batch.model, BatchMember(self, batch)
        values = {name: getattr(parameters, name) for name in TrackerConfig.model_fields}
        self._tracker = Tracker(model, TrackerConfig(**values))
        self._names = model.class_names
        self._camera: Camera | None = None
        self._waiting: deque[_Waiting] = deque()
        self._most_waiting = MOST_OVERDUE + math.ceil(parameters.transform_timeout * FASTEST)
        self.show_model(file, model.session)
        self._tracks = self.advertise(Detection3DArray, "~/tracks", RESULTS)
        self._velocities = self.advertise(MultiDOFJointTrajectory, "~/velocities", RESULTS)
        self._drawn = self.advertise(Image, "~/image", SENSOR_DATA)
        warm_up = np.array([[model.width, 0, model.width / 2], [0, model.width, model.height / 2], [0, 0, 1.0]])
        Tracker(model).step(np.zeros((model.height, model.width, 3), np.uint8), 0, warm_up)  # the first run is slow
        self.subscribe(CameraInfo, "camera_info", self._on_camera, SENSOR_DATA)
        self._look_again = self.alarm(self._retry)
        if parameters.fixed_frame:
            self._transforms = TransformListener(self, self._retry)
        self._input = ImageInput(self, "image", self._on_image, parameters)

    def activate(self) -> None:
        self._member.join()

    def deactivate(self) -> None:
        self._forget()
        self._member.leave()

    def cleanup(self) -> None:
        if self._transforms is not None:
            self._transforms.close()
            self._transforms = None
        with suppress(AttributeError):  # a configuration that was refused has not made them
            del self._member, self._tracker

    def reset(self) -> None:
        self._forget()
        self._tracker.reset()

    def _forget(self) -> None:
        """Gives up the images that wait."""
        self._member.forget()
        self._waiting.clear()

    # --- In

    def _on_camera(self, message: Any) -> None:
        rectified = self.parameters.rectified or is_rectified(self.resolve_topic_name("image"))
        try:
            self._camera, wrong = read_camera(message, rectified), distortion(message, rectified)
        except ConfigurationError as error:
            wrong = str(error)
        if wrong is not None:
            self._camera = None
        self.warn("camera_info", wrong)

    def _on_image(self, image: NDArray[np.uint8], time_ns: int, header: Header) -> None:
        if self._camera is None:
            self.drop("no camera_info", "expected a usable camera_info before the first image")
            return
        wrong = other_size(self._camera, image)
        if wrong is not None:
            self.drop("camera_info of another size", wrong)
            return
        deadline = time.monotonic() + self.parameters.transform_timeout
        self._waiting.append(_Waiting(image, self._camera, time_ns, header, deadline))
        if len(self._waiting) > self._most_waiting:
            self.drop(TransformError.cause, f"{self._most_waiting} newer images came before the transform of this one")
            self._waiting.popleft()
        self._retry()

    def _retry(self) -> None:
        """Track the images whose transform has come, in order; the oldest go where the network cannot keep up."""
        while self._waiting:
            waiting = self._waiting[0]
            if len(self._waiting) > MOST_OVERDUE and time.monotonic() > waiting.deadline:
                self.drop(TransformError.cause, f"{len(self._waiting) - 1} newer images came before this one's turn")
                self._waiting.popleft()
                continue
            try:
                place = self._place(frame_name(waiting.header.frame_id), waiting.time_ns)
            except TooEarly as error:
                if time.monotonic() < waiting.deadline:
                    self._look_again.set(RETRY)
                    return
                self.drop(error.cause, str(error))
                place = None
            except TransformError as error:
                self.drop(error.cause, str(error))
                place = None
            self._waiting.popleft()
            if place is not None:
                self._track(waiting, *place)

    def _place(self, frame: str, time_ns: int) -> tuple[Pose | None, float]:
        """Pose of a camera in the fixed frame, and its height over the ground; None and 0 where nobody is asked.

        Raises TransformError where the pose is not known.
        """
        if self._transforms is None:
            return None, 0.0
        fixed, ground = self.parameters.fixed_frame, self.parameters.ground_frame
        pose = self._transforms.lookup(fixed, frame, time_ns)
        if not ground:
            return pose, 0.0
        try:
            height = height_over_ground(pose, self._transforms.lookup(fixed, ground, time_ns))
        except TransformError as error:
            self.warn("ground", f"distances are less exact without the camera's height: {error}")
            return pose, 0.0
        self.warn("ground", None if height > 0 else f"expected the camera above '{ground}', which is taken as ground")
        return pose, height

    # --- Out

    def _track(self, waiting: _Waiting, pose: Pose | None, height: float) -> None:
        view = View(waiting.image, waiting.time_ns, waiting.camera.intrinsics, pose, height)
        self._member.add(partial(self._tracker.query, view), partial(self._answered, waiting, view))

    def _answered(self, waiting: _Waiting, view: View, out: Outputs) -> None:
        for stage, seconds in self._tracker.model.took.items():
            self.monitor.record(stage, seconds)
        with self.monitor.stage("track"):
            result = self._tracker.update(view, out)
        with self.monitor.stage("publish"):
            self._publish(result, waiting.header)
        self._input.finished(waiting.time_ns)
        if result.left_out:
            self.drop("no position", "key points that fix no position, or no finite values", result.left_out)
        self.monitor.facts["tracks"] = str(len(result.tracks))
        if self._drawn.get_subscription_count():
            picture = draw_tracks_3d(waiting.image.copy(), result.tracks, self._names, waiting.camera, result.upright)
            self._drawn.publish(images.fill_image(Image(header=waiting.header), picture))

    def _publish(self, result: Result, header: Header) -> None:
        """Velocities first: who takes both need not wait for them."""
        tracks, upright = result.tracks, result.upright.rotation
        moving = tracks
        if self._transforms is None:  # relative to a camera that may itself move: nobody can use them
            moving = replace(tracks, boxes=replace(tracks.boxes, velocity=np.full_like(tracks.boxes.velocity, np.nan)))
        self._velocities.publish(messages3d.pack_velocities(moving, header, upright))
        self._tracks.publish(messages3d.pack_tracks(tracks, self._names, header, upright))


def main() -> int:
    """A node for each camera that is named, all with one session; without names one node."""
    return run_cameras(Time3DNode)


if __name__ == "__main__":
    raise SystemExit(main())
