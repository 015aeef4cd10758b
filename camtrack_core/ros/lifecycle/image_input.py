"""A camera topic as a node wants it: pixels and stamps, with every unusable message counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from camtrack_core.config import ImageNodeParameters
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import SENSOR_DATA
from camtrack_core.ros.messages import image as images

WATCH_PERIOD = 0.5  # seconds

OnImage = Callable[[images.Image, int, Header], None]


class ImageInput:
    """Subscribes a node to a camera and calls `on_image(image, time_ns, header)` for every usable image.

    The image is (H, W, 3) uint8 BGR and may be a view of the message: copy it before drawing on it. Broken
    images and duplicates are drops of the node; a camera that is silent for `image_timeout` seconds is a
    standing warning. The stages "convert" and "total" (message in to callback done) are timed. Create it in
    the node's configure.
    """

    def __init__(self, node: CamtrackNode[Any], topic: str, on_image: OnImage, parameters: ImageNodeParameters) -> None:
        self._node = node
        self._on_image = on_image
        self._timeout = parameters.image_timeout
        kind, self._convert, suffix = _TRANSPORTS[parameters.image_transport]
        # The suffix comes after remapping, as image_transport has it: a remapped `image` takes it along.
        self._topic = node.resolve_topic_name(topic) + suffix
        self._topics = {name: node.resolve_topic_name(topic) + end for name, (_, _, end) in _TRANSPORTS.items()}
        self._arrived = self._watched = 0.0
        node.subscribe(kind, self._topic, self._receive, SENSOR_DATA)
        node.repeat(WATCH_PERIOD, self._watch)

    def _receive(self, message: Any) -> None:
        self._arrived = time.monotonic()
        time_ns = images.measurement_time(message)
        if not self._node.accept(self._topic, time_ns):
            return
        monitor = self._node.monitor
        with monitor.stage("total"):
            with monitor.stage("convert"):
                image = self._convert(message)
            self._on_image(image, time_ns, message.header)
        monitor.processed += 1

    def _watch(self) -> None:
        now = time.monotonic()
        # Not called for long, the node was inactive or busy: that silence is not the camera's.
        if now - self._watched > 2 * WATCH_PERIOD:
            self._arrived = now
        self._watched = now
        silence = now - self._arrived
        sentence = f"no image on {self._topic} for {silence:.0f} s ({self._publishers()})"
        self._node.warn("camera", sentence if silence >= self._timeout else None)

    def _publishers(self) -> str:
        """Who publishes images, for someone who wonders where they are."""
        count = self._node.count_publishers(self._topic)
        if count:
            return f"publishers: {count}"
        for transport, topic in self._topics.items():
            if self._node.count_publishers(topic):
                return f"nobody publishes there, but on {topic}: set image_transport to {transport}"
        return "nobody publishes there"


_TRANSPORTS: dict[str, tuple[type, Callable[[Any], images.Image], str]] = {
    "raw": (Image, images.to_bgr, ""),
    "compressed": (CompressedImage, images.compressed_to_bgr, "/compressed"),
}
