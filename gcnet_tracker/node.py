"""The ROS node of GCNet: images in, tracks out. Converts and calls, nothing else."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from camtrack_core.config import ImageNodeParameters, InferenceParameters
from camtrack_core.drawing.image import draw_tracks
from camtrack_core.files import FileVersion
from camtrack_core.ros.lifecycle.batch_member import BatchMember, shared_batch
from camtrack_core.ros.lifecycle.image_input import ImageInput
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA
from camtrack_core.ros.lifecycle.run import run_cameras
from camtrack_core.ros.messages import detections2d as messages
from camtrack_core.ros.messages import image as images
from gcnet_tracker.config import TrackerConfig
from gcnet_tracker.tracker import DEMO_MODEL, FrameOutput, GCNetModel, Tracker


class GCNetParameters(ImageNodeParameters, InferenceParameters, TrackerConfig):
    """Parameters of the node: the camera's, Algorithm 1's and the model's."""

    model: str = Field("", description="exported GCNet (.onnx); empty for the demo weights")


class GCNetNode(CamtrackNode[GCNetParameters]):
    """Subscribes `image`; publishes `~/tracks` and, while somebody listens, `~/image` with the tracks drawn."""

    def __init__(self, **options: object) -> None:
        super().__init__("gcnet_tracker", GCNetParameters, **options)

    def configure(self, parameters: GCNetParameters) -> None:
        file = FileVersion.of(Path(parameters.model) if parameters.model else DEMO_MODEL)
        batch = shared_batch(GCNetModel, file, parameters)
        model, self._member = batch.model, BatchMember(self, batch)
        values = {name: getattr(parameters, name) for name in TrackerConfig.model_fields}
        self._tracker = Tracker(model, TrackerConfig(**values))
        self._names = model.class_names
        self.show_model(file, model.session)
        self._tracks = self.advertise(Detection2DArray, "~/tracks", RESULTS)
        self._drawn = self.advertise(Image, "~/image", SENSOR_DATA)
        self._tracker.step(np.zeros((model.height, model.width, 3), np.uint8))  # the first run is slow: not on a frame
        self._tracker.reset()
        self._input = ImageInput(self, "image", self._on_image, parameters)

    def activate(self) -> None:
        self._member.join()

    def deactivate(self) -> None:
        self._member.leave()

    def cleanup(self) -> None:
        with suppress(AttributeError):  # a configuration that was refused has not made them
            del self._member, self._tracker

    def reset(self) -> None:
        self._member.forget()
        self._tracker.reset()

    def _on_image(self, image: NDArray[np.uint8], time_ns: int, header: Header) -> None:
        self._member.add(partial(self._tracker.query, image), partial(self._answered, image, time_ns, header))

    def _answered(self, image: NDArray[np.uint8], time_ns: int, header: Header, frame: FrameOutput) -> None:
        tracker, stage = self._tracker, self.monitor.stage
        for name, seconds in tracker.model.took.items():
            self.monitor.record(name, seconds)
        overflow = tracker.overflow
        with stage("track"):
            tracks = tracker.update(frame)
        with stage("publish"):
            self._tracks.publish(messages.pack_tracks(tracks, self._names, header))
        self._input.finished(time_ns)
        if tracker.overflow > overflow:
            self.drop("no free slot", "more objects than the model's slots", tracker.overflow - overflow)
        self.monitor.facts["tracks"] = str(len(tracks))
        if self._drawn.get_subscription_count():
            picture = draw_tracks(image.copy(), tracks, self._names)
            self._drawn.publish(images.fill_image(Image(header=header), picture))


def main() -> int:
    """A node for each camera that is named, all with one session; without names one node."""
    return run_cameras(GCNetNode)


if __name__ == "__main__":
    raise SystemExit(main())
