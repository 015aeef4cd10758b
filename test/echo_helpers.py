"""A node that says what it has seen, and a camera in front of it."""

from __future__ import annotations

from pydantic import Field
from ros_helpers import Diagnostics
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from camtrack_core.config import ImageNodeParameters
from camtrack_core.errors import ModelError
from camtrack_core.ros.lifecycle.image_input import ImageInput
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA

SECOND = 1_000_000_000
HOUR = 3600 * SECOND  # between images that wait in a queue: no node is so far behind, however busy the machine is


class EchoParameters(ImageNodeParameters):
    model: str = Field("good.onnx", description="a file")
    threshold: float = Field(0.5, ge=0, le=1, description="least score")


class EchoNode(CamtrackNode[EchoParameters]):
    """Remembers what it gets and echoes the stamps."""

    def __init__(self, **options):
        super().__init__("echo", EchoParameters, **options)
        self.images, self.history = [], []
        self.fails_on = self.gives_up_on = None

    def configure(self, parameters):
        if parameters.model == "missing.onnx":
            raise ModelError("expected a model, there is no missing.onnx")
        if parameters.model == "bug.onnx":
            raise KeyError("bug")
        self.images_in = ImageInput(self, "image", self.on_image, parameters)
        self.echo = self.advertise(Header, "~/echo", RESULTS)
        self.history.append("configure")

    def activate(self):
        self.history.append("activate")

    def deactivate(self):
        self.history.append("deactivate")

    def cleanup(self):
        self.history.append("cleanup")

    def reset(self):
        self.history.append("reset")

    def on_image(self, image, time_ns, header):
        if time_ns == self.fails_on:
            raise ZeroDivisionError("a bug")
        with self.monitor.stage("work"):
            self.images.append((time_ns, image.copy()))
        if time_ns == self.gives_up_on:
            return
        self.echo.publish(header)
        self.images_in.finished(time_ns)

    @property
    def stamps(self):
        return [time_ns for time_ns, _ in self.images]


class Camera:
    """A peer that publishes images to an echo node."""

    def __init__(self, graph, node, qos=SENSOR_DATA, kind=Image, topic="image"):
        self.graph, self.node = graph, node
        self.peer = graph.peer("camera")
        self.diagnostics = Diagnostics(self.peer)
        self.publisher = self.peer.create_publisher(kind, topic, qos)
        graph.spin_until(lambda: self.publisher.get_subscription_count() == 1)

    def send(self, *messages):
        """Publish one by one, each handled before the next."""
        for message in messages:
            handled = self.handled()
            self.publisher.publish(message)
            self.graph.spin_until(lambda before=handled: self.handled() > before)

    def handled(self):
        return len(self.node.images) + self.node.monitor.drops.total()

    def hears(self, text):
        self.graph.spin_until(lambda: self.diagnostics.says(text))

    def hears_level(self, level):
        self.graph.spin_until(lambda: self.diagnostics.level() == level)
