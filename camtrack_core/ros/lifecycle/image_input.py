"""A camera topic as a node wants it: pixels and stamps, with every unusable message counted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from camtrack_core.config import ImageNodeParameters
from camtrack_core.monitor import Level
from camtrack_core.ros.lifecycle.node import ANSWERED, DIAGNOSTIC_PERIOD, LOST, TAKEN, CamtrackNode
from camtrack_core.ros.lifecycle.picture_watch import PictureWatch
from camtrack_core.ros.lifecycle.qos import SENSOR_DATA, node_name
from camtrack_core.ros.messages import image as images
from camtrack_core.ros.messages.stamps import NANOSECONDS, to_nanoseconds

HORIZON = 5.0  # seconds that the camera and the node are judged over
LEAST_IMAGES = 10  # in that time; fewer are not judged
LEAST_SHARE = 0.5  # of the images that must lead to results
REMEMBERED = 256  # images whose results are awaited
OVERWRITTEN = "overwritten unseen"  # the cause of drops
REMEDY = "is their publisher started with config/environment.sh, or the variables that it sets?"

OnImage = Callable[[images.Image, int, Header], None]


class ImageInput:
    """Subscribes a node to a camera and calls `on_image(image, time_ns, header)` for every usable image.

    The image is (H, W, 3) uint8 BGR and may be a view of the message: copy it before drawing on it. The node says when
    the result of an image is out with `finished`. Broken images and duplicates are drops of the node, and so are images
    that it had no time for: a node that is too slow for its camera takes the newest. A camera that is silent for
    `image_timeout` seconds and results that are few or old are standing warnings. Timed are the stages "age" (of the
    image when its callback begins), "convert", "total" (callback begins to ends) and "end to end" (age of the image
    when its result is out). Ages count from the stamp where stamps are of the node's clock, else from the image's
    sending. Create it in the node's configure.
    """

    def __init__(self, node: CamtrackNode[Any], topic: str, on_image: OnImage, parameters: ImageNodeParameters) -> None:
        self._node = node
        self._on_image = on_image
        self._timeout, self._age_limit = parameters.image_timeout, parameters.age_limit
        self._future_tolerance = parameters.future_tolerance
        kind, self._convert, suffix = _TRANSPORTS[parameters.image_transport]
        # The suffix comes after remapping, as image_transport has it: a remapped `image` takes it along.
        self._topic = node.resolve_topic_name(topic) + suffix
        self._topics = {name: node.resolve_topic_name(topic) + end for name, (_, _, end) in _TRANSPORTS.items()}
        self._handle = node.guarded(self._use)  # a failure of one image must not take the next one with it
        self._arrived = self._watched = 0.0
        self._pictures = PictureWatch()
        self._sent = _Sent()
        self._taken: dict[int, float] = {}  # by stamp: when the image was taken, monotonic seconds
        self._results = 0
        self._ages: deque[tuple[float, float]] = deque()  # of results: when they were out, how old the image was
        self._counts = deque([(time.monotonic(), 0, 0)])  # seconds, images sent and results until then
        self._images = node.subscribe_informed(kind, self._topic, self._receive, self._lose, SENSOR_DATA)
        node.watch(self._watch)

    def finished(self, time_ns: int) -> None:
        """The result of the image with this stamp is out."""
        self._node.monitor.processed += 1
        self._node.monitor.facts[ANSWERED + self._topic] = str(time_ns)
        self._results += 1
        taken, now = self._taken.pop(time_ns, None), time.monotonic()
        if taken is not None:
            self._node.monitor.record("end to end", now - taken)
            self._ages.append((now, now - taken))

    def _receive(self, message: Any, information: dict[str, Any]) -> None:
        """This image and those that wait behind it, but for the ones that a node too slow for them must leave out."""
        self._arrived = time.monotonic()
        newest: tuple[Any, dict[str, Any]] | None = (message, information)
        while newest is not None:
            message, information = newest
            self._sent.take(information.get("publication_sequence_number"), self._images.get_publisher_count())
            newest = self._node.take_next(self._images)
            if newest is None or not _is_overdue(message, *newest):
                self._sent.seen += 1
                self._handle(message, information)

    def _use(self, message: Any, information: dict[str, Any]) -> None:
        time_ns = images.measurement_time(message)
        if not self._node.accept(self._topic, time_ns, self._future_tolerance):
            return
        monitor = self._node.monitor
        monitor.facts[TAKEN + self._topic] = str(time_ns)
        self._note_age(time_ns, information)
        with monitor.stage("total"):
            with monitor.stage("convert"):
                image = self._convert(message)
            self._pictures.look(image, time_ns)
            self._on_image(image, time_ns, message.header)

    def _note_age(self, time_ns: int, information: dict[str, Any]) -> None:
        age = self._node.age(time_ns)
        self._node.monitor.facts["age_since"] = "sending" if age is None else "stamp"
        if age is None and information.get("source_timestamp"):
            age = max(0.0, (time.time_ns() - information["source_timestamp"]) / NANOSECONDS)
        if age is None:  # neither stamps of this clock, nor a transport that tells
            return
        self._node.monitor.record("age", age)
        self._taken[time_ns] = self._arrived - age
        if len(self._taken) > REMEMBERED:
            del self._taken[next(iter(self._taken))]

    def _lose(self, count: int) -> None:
        self._sent.lost += count
        self._node.drop(LOST, f"images on {self._topic} did not arrive: {REMEDY}", count)

    # --- Health

    def _watch(self) -> None:
        now = time.monotonic()
        # Not called for long, the node was inactive or busy: that silence is not the camera's.
        if now - self._watched > 2 * DIAGNOSTIC_PERIOD:
            self._arrived = now
        self._watched = now
        silence = now - self._arrived
        sentence = f"no image on {self._topic} for {silence:.0f} s ({self._publishers()})"
        self._node.warn("camera", sentence if silence >= self._timeout else None, Level.STALE)
        if overwritten := self._sent.newly_overwritten():
            self._node.drop(OVERWRITTEN, f"newer images on {self._topic} came before the node had time", overwritten)
        self._judge_share(now)
        self._judge_age(now)
        self._node.warn("pictures", self._pictures.complaint())
        self._node.warn("cameras", self._crowd(), Level.ERROR)

    def _judge_share(self, now: float) -> None:
        self._counts.append((now, self._sent.total, self._results))
        while now - self._counts[0][0] > HORIZON:
            self._counts.popleft()
        then, sent, results = self._counts[0]
        sent, results = self._sent.total - sent, self._results - results
        few = sent >= LEAST_IMAGES and results < LEAST_SHARE * sent
        sentence = f"results of only {results} of the {sent} images of the last {now - then:.0f} s"
        self._node.warn("share", sentence if few else None, Level.ERROR)

    def _judge_age(self, now: float) -> None:
        while self._ages and now - self._ages[0][0] > HORIZON:
            self._ages.popleft()
        age = float(np.median([age for _, age in self._ages])) if self._ages else 0.0
        sentence = f"results come {age:.2f} s after their images (half of the last {HORIZON:.0f} s)"
        self._node.warn("age", sentence if age > self._age_limit else None)

    def _crowd(self) -> str | None:
        """Whether several publish images: whose, in which order, would be left to chance."""
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        if len(publishers) < 2:
            return None
        names = ", ".join(sorted(node_name(each) for each in publishers))
        return f"expected one publisher on {self._topic}, found {len(publishers)}: {names}"

    def _publishers(self) -> str:
        """Who publishes images, for someone who wonders where they are."""
        count = self._node.count_publishers(self._topic)
        if count:
            return f"publishers: {count}; {REMEDY}"
        for transport, topic in self._topics.items():
            if self._node.count_publishers(topic):
                return f"nobody publishes there, but on {topic}: set image_transport to {transport}"
        return "nobody publishes there"


def _is_overdue(message: Any, newer: Any, information: dict[str, Any]) -> bool:
    """Whether the node lags behind by more than the camera's period: the newer image waits for as long already.

    Then the older one is left out, so that results are of what is there now. A burst of images is not that.
    """
    sent_ns: int = information.get("source_timestamp") or 0
    distance = to_nanoseconds(newer.header.stamp) - to_nanoseconds(message.header.stamp)
    return sent_ns > 0 and 0 < distance <= time.time_ns() - sent_ns


class _Sent:
    """How many images a camera has sent, and how many of them nobody has seen.

    Attributes:
        total: images since the first that was seen.
        seen: those of them that the node has looked at.
        lost: those of them that the transport has lost.
    """

    def __init__(self) -> None:
        self.total = self.seen = self.lost = 0
        self._overwritten = 0
        self._number: int | None = None

    def take(self, number: int | None, publishers: int) -> None:
        """An image comes with this number of its publisher; None where the transport has none.

        With several publishers on a topic it is not known whose number it is: then only what is seen counts.
        """
        self.total += 1
        last = self._number
        if number is not None and last is not None and publishers == 1:
            self.total += max(number - last - 1, 0)
        self._number = number if publishers == 1 else None

    def newly_overwritten(self) -> int:
        """How many were overwritten unseen since the last call: neither seen nor, as far as is known by now, lost."""
        overwritten = max(self.total - self.seen - self.lost, self._overwritten)
        new, self._overwritten = overwritten - self._overwritten, overwritten
        return new


_TRANSPORTS: dict[str, tuple[type, Callable[[Any], images.Image], str]] = {
    "raw": (Image, images.to_bgr, ""),
    "compressed": (CompressedImage, images.compressed_to_bgr, "/compressed"),
}
