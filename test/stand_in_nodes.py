"""Nodes for tests whose networks are scripted, to be run as processes: python stand_in_nodes.py NAME --ros-args ...

What surrounds the network, from the camera's topic to the published boxes, is the project's own.
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
from scripted_helpers import OneCar
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

import time3d_tracker.node
from camtrack_core.config import ImageNodeParameters, InferenceParameters
from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.ros.lifecycle.image_input import ImageInput
from camtrack_core.ros.lifecycle.node import CamtrackNode
from camtrack_core.ros.lifecycle.qos import RESULTS
from camtrack_core.ros.lifecycle.run import run
from camtrack_core.ros.messages import detections2d as messages
from camtrack_core.runtime.batch import Batch

GREY = 128  # what is brighter is an object


class Detector(CamtrackNode[ImageNodeParameters]):
    """Finds what is bright: subscribes `image`, publishes `~/tracks`, a box around each bright spot."""

    def __init__(self, **options: Any) -> None:
        super().__init__("detector", ImageNodeParameters, **options)

    def configure(self, parameters: ImageNodeParameters) -> None:
        self._found = self.advertise(Detection2DArray, "~/tracks", RESULTS)
        ImageInput(self, "image", self._on_image, parameters)

    def _on_image(self, image: np.ndarray, time_ns: int, header: Header) -> None:
        boxes = bright_spots(image)
        found = Boxes2D(boxes, np.full(len(boxes), 0.9), np.zeros(len(boxes), np.int64))
        self._found.publish(messages.from_boxes(found, ("car",), header))


def bright_spots(image: np.ndarray) -> np.ndarray:
    """(N, 4) boxes around the connected bright parts of an image that do not fill it."""
    bright = (image.min(2) > GREY).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(bright)
    left, top, width, height, area = stats[1:].T
    boxes = np.stack([left, top, left + width, top + height], 1).astype(float)
    return boxes[area < 0.5 * bright.size]


def one_batch(kind: object, file: object, parameters: InferenceParameters) -> Batch[Any]:
    return Batch(OneCar(), parameters.batch_timeout)


def space() -> int:
    """Time3D's node whose network sees one car."""
    time3d_tracker.node.shared_batch = one_batch  # type: ignore[assignment]
    return run(time3d_tracker.node.Time3DNode)


if __name__ == "__main__":
    raise SystemExit({"detector": lambda: run(Detector), "time3d": space}[sys.argv[1]]())
