"""The node that tells Autoware what the filter knows: tracks, states and predictions in, Autoware's messages out."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

import numpy as np
from autoware_perception_msgs.msg import PredictedObjects, TrackedObjects
from pydantic import Field
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import Detection3DArray

from camtrack_core.config import NodeParameters
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import RESULTS
from camtrack_core.ros.lifecycle.run import run
from camtrack_core.ros.messages.image import measurement_time
from camtrack_core.ros.messages.point_cloud import from_point_cloud
from pkf_filter.ros.autoware_messages import Thresholds, predicted_object, tracked_object

PARTS = {"tracks": Detection3DArray, "states": PointCloud2, "predictions": PointCloud2}
MAX_WAITING = 32  # stamps of which not all parts have come


class AutowareParameters(NodeParameters):
    """What the node can be told: where numbers become flags."""

    stationary: float = Field(0.5, gt=0, lt=1, description="probability of rest from which an object is stationary")
    known_yaw: float = Field(0.5, gt=0, description="deviation up to which an orientation is known, rad")
    known_front: float = Field(
        2.0, ge=0, description="measurements for the front, less those against it, from which its sign is known"
    )
    known_speed: float = Field(1.0, ge=0, description="speed above which it is known by the motion, m/s")

    def thresholds(self) -> Thresholds:
        return Thresholds(self.stationary, self.known_yaw, self.known_front, self.known_speed)


class AutowareNode(CamtrackNode[AutowareParameters]):
    """Joins `tracks`, `states` and `predictions` by stamp; publishes `~/tracked_objects` and `~/predicted_objects`."""

    def __init__(self, **options: Any) -> None:
        super().__init__("autoware", AutowareParameters, **options)

    def configure(self, parameters: AutowareParameters) -> None:
        self._run = uuid.uuid4()
        self._thresholds = parameters.thresholds()
        self._waiting: dict[int, dict[str, Any]] = {}  # parts by stamp, in the order of arrival
        self._tracked = self.advertise(TrackedObjects, "~/tracked_objects", RESULTS)
        self._predicted = self.advertise(PredictedObjects, "~/predicted_objects", RESULTS)
        for name, kind in PARTS.items():
            self.subscribe(kind, name, partial(self._take, name), RESULTS)

    def _take(self, name: str, message: Any) -> None:
        time_ns = measurement_time(message)
        parts = self._waiting.setdefault(time_ns, {})
        parts[name] = message
        if len(parts) == len(PARTS):
            self._publish(parts)
            arrived = list(self._waiting)
            self._forget(arrived[: arrived.index(time_ns)])  # each topic keeps its order: the rest is lost
            del self._waiting[time_ns]
        self._forget(list(self._waiting)[:-MAX_WAITING])

    def _forget(self, stamps: list[int]) -> None:
        for stamp in stamps:
            del self._waiting[stamp]
        if stamps:
            self.drop("part lost", f"expected {', '.join(PARTS)} of every stamp, got some of them", len(stamps))

    def _publish(self, parts: dict[str, Any]) -> None:
        monitor = self.monitor
        with monitor.stage("convert"):
            states = _rows(from_point_cloud(parts["states"]))
            predictions = _rows(from_point_cloud(parts["predictions"]))
            known = [one for one in parts["tracks"].detections if one.id in states and one.id in predictions]
            first = {name: {column: values[0] for column, values in rows.items()} for name, rows in states.items()}
            objects = [tracked_object(one, first[one.id], self._run, self._thresholds) for one in known]
            ahead = [predicted_object(found, predictions[one.id]) for found, one in zip(objects, known, strict=True)]
        header = parts["tracks"].header
        with monitor.stage("publish"):
            self._tracked.publish(TrackedObjects(header=header, objects=objects))
            self._predicted.publish(PredictedObjects(header=header, objects=ahead))
        monitor.processed += 1
        monitor.facts["objects"] = str(len(objects))


def _rows(columns: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Columns of the rows of each id, in their order."""
    ids = columns["id"].astype(np.int64)
    return {
        str(track): {name: values[ids == track] for name, values in columns.items()}
        for track in np.unique(ids).tolist()
    }


def main() -> int:
    return run(AutowareNode)


if __name__ == "__main__":
    raise SystemExit(main())
