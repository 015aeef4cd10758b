"""The ROS node of PKF: detections in, tracks out. Converts and calls, nothing else."""

from __future__ import annotations

from typing import Any

from rclpy.lifecycle import TransitionCallbackReturn
from vision_msgs.msg import Detection2DArray

from camtrack_core.config import NodeParameters, validated
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.parameters import declare
from camtrack_core.ros.lifecycle.qos import RESULTS
from camtrack_core.ros.lifecycle.run import run
from camtrack_core.ros.messages import detections2d as messages
from camtrack_core.ros.messages.cdr import Detections, unpack
from camtrack_core.ros.messages.image import measurement_time
from pkf_filter.image.config import FilterConfig
from pkf_filter.image.tracker import Tracker
from pkf_filter.life.scores import MAX_CLASSES
from pkf_filter.ros.fusion import Fusion
from pkf_filter.ros.fusion_config import FusionParameters, SensorNames, with_sensors
from pkf_filter.ros.precompile import warm_up_in_image


class PkfParameters(NodeParameters, FilterConfig, FusionParameters):
    """Parameters of the node: the image-plane filter's and the fusion's. Each of `sensors` adds a group of its own."""


class PkfNode(CamtrackNode[PkfParameters]):
    """Without `sensors`: tracks in the image plane of what comes on `detections`. With them: tracks in space."""

    _mode: ImagePlane | Fusion | None = None

    def __init__(self, **options: object) -> None:
        super().__init__("pkf_filter", PkfParameters, **options)

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        if not self._attempt("configure", self._declare_sensors):
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def _declare_sensors(self) -> None:
        names = self.get_parameter("sensors").value
        self._model = with_sensors(PkfParameters, validated(SensorNames, {"sensors": names}).sensors)
        declare(self, self._model)

    def configure(self, parameters: PkfParameters) -> None:
        self._mode = Fusion(self, parameters) if parameters.sensors else ImagePlane(self, parameters)

    def cleanup(self) -> None:
        if self._mode is not None:
            self._mode.close()
            self._mode = None

    def reset(self) -> None:
        if self._mode is not None:
            self._mode.reset()


class ImagePlane:
    """Subscribes `detections`; publishes `~/tracks` with the same stamp and frame. Create it in configure.

    Detections that newer ones have overtaken, by at most `max_lag`, count for the tracks to come: theirs are out.
    """

    def __init__(self, node: CamtrackNode[Any], parameters: PkfParameters) -> None:
        config = FilterConfig(**{name: getattr(parameters, name) for name in FilterConfig.model_fields})
        warm_up_in_image(config)
        self._node = node
        self._filter = Tracker(config)
        self._max_lag = config.max_lag
        self._future_tolerance = parameters.future_tolerance
        self._published_ns = 0
        self._names: tuple[str, ...] = ()
        self._tracks = node.advertise(Detection2DArray, "~/tracks", RESULTS)
        node.subscribe_serialised(Detection2DArray, "detections", self._on_detections, RESULTS)

    def reset(self) -> None:
        """Time went backwards."""
        self._filter.reset()
        self._published_ns = 0

    def close(self) -> None:
        """Nothing to release besides what the node does."""

    def _on_detections(self, data: bytes) -> None:
        monitor = self._node.monitor
        with monitor.stage("total"):
            with monitor.stage("convert"):
                detections = unpack(data)
            time_ns = measurement_time(detections)
            if not self._node.accept("detections", time_ns, self._future_tolerance, self._max_lag):
                return
            tracks = self._track(detections, time_ns)
        monitor.facts["tracks"] = str(len(tracks))
        monitor.facts["association"] = str(self._filter.budget)

    def _track(self, detections: Detections, time_ns: int) -> Tracks2D:
        stage, dropped = self._node.monitor.stage, self._filter.dropped
        self._learn_names(detections)
        boxes = messages.to_boxes(detections, self._names)
        with stage("track"):
            tracks = self._filter.step(time_ns, boxes)
        if time_ns > self._published_ns:
            self._published_ns = time_ns
            with stage("publish"):
                self._tracks.publish(messages.pack_tracks(tracks, self._names, detections.header))
            self._node.monitor.processed += 1
        unusable = len(detections.ids) - len(boxes) + self._filter.dropped - dropped
        if unusable:
            sentence = "expected finite boxes with a class and x2 > x1, y2 > y1"
            self._node.drop("unusable detection", sentence, unusable)
        return tracks

    def _learn_names(self, detections: Detections) -> None:
        """Class names are numbered in the order in which they appear."""
        new = [name for name in messages.class_names(detections) if name not in self._names]
        self._names = (*self._names, *new)[:MAX_CLASSES]


def main() -> int:
    return run(PkfNode)


if __name__ == "__main__":
    raise SystemExit(main())
