"""The ROS node of PKF: detections in, tracks out. Converts and calls, nothing else."""

from __future__ import annotations

from pydantic import Field
from vision_msgs.msg import Detection2DArray

from camtrack_core.boxes import Boxes2D
from camtrack_core.config import NodeParameters
from camtrack_core.ros import messages
from camtrack_core.ros.cdr import Detections, unpack
from camtrack_core.ros.image import measurement_time
from camtrack_core.ros.node import CamtrackNode, run
from camtrack_core.ros.qos import RESULTS
from camtrack_core.tracks import Tracks2D
from pkf_filter.config import FilterConfig
from pkf_filter.tracker import MAX_CLASSES, Tracker


class PkfParameters(NodeParameters, FilterConfig):
    """Parameters of the node: the filter's, and the frame for tracks in space."""

    fixed_frame: str = Field("map", description="frame of tracks in space; image tracks keep the camera's frame")


class PkfNode(CamtrackNode[PkfParameters]):
    """Subscribes `detections`; publishes `~/tracks` with the same stamp and frame."""

    def __init__(self, **options: object) -> None:
        super().__init__("pkf_filter", PkfParameters, **options)

    def configure(self, parameters: PkfParameters) -> None:
        config = FilterConfig(**{name: getattr(parameters, name) for name in FilterConfig.model_fields})
        Tracker(config).step(0, Boxes2D.empty())  # the first step compiles for seconds: not on a frame
        self._filter = Tracker(config)
        self._names: tuple[str, ...] = ()
        self._tracks = self.advertise(Detection2DArray, "~/tracks", RESULTS)
        self.subscribe_serialised(Detection2DArray, "detections", self._on_detections, RESULTS)

    def reset(self) -> None:
        self._filter.reset()

    def _on_detections(self, data: bytes) -> None:
        with self.monitor.stage("total"):
            with self.monitor.stage("convert"):
                detections = unpack(data)
            time_ns = measurement_time(detections)
            if not self.accept("detections", time_ns):
                return
            tracks = self._track(detections, time_ns)
        self.monitor.processed += 1
        self.monitor.facts["tracks"] = str(len(tracks))

    def _track(self, detections: Detections, time_ns: int) -> Tracks2D:
        stage, dropped = self.monitor.stage, self._filter.dropped
        self._learn_names(detections)
        boxes = messages.to_boxes(detections, self._names)
        with stage("track"):
            tracks = self._filter.step(time_ns, boxes)
        with stage("publish"):
            self._tracks.publish(messages.pack_tracks(tracks, self._names, detections.header))
        unusable = len(detections.ids) - len(boxes) + self._filter.dropped - dropped
        if unusable:
            self.drop("unusable detection", "expected finite boxes with a class and x2 > x1, y2 > y1", unusable)
        return tracks

    def _learn_names(self, detections: Detections) -> None:
        """Class names are numbered in the order in which they appear."""
        new = [name for name in messages.class_names(detections) if name not in self._names]
        self._names = (*self._names, *new)[:MAX_CLASSES]


def main() -> int:
    return run(PkfNode)


if __name__ == "__main__":
    raise SystemExit(main())
