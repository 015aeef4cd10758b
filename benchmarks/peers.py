"""Milliseconds of processor time a frame of other trackers on given boxes, as JSON; for an environment of its own.

    python -m venv ENV && ENV/bin/pip install norfair && ENV/bin/pip install -U trackers  # in this order
    ENV/bin/python benchmarks/peers.py BOXES.npz

BOXES.npz: an array (N, 4) of each frame, x1, y1, x2, y2. `bench.py --peers ENV/bin/python` calls this.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

SCORE = 0.99  # of every box


def main() -> int:
    boxes = [frame for _, frame in sorted(np.load(sys.argv[1]).items(), key=lambda item: int(item[0].split("_")[1]))]
    made: dict[str, Callable[[], Callable[[Any], object]]] = {}
    if find_spec("trackers"):
        made |= {"SORT_ms": sort, "ByteTrack_ms": byte_track, "OC-SORT_ms": oc_sort}  # from version 2.2 on
    if find_spec("norfair"):
        made["Norfair_ms"] = norfair
    if not made:
        print(f"{sys.executable}: expected trackers or norfair, found neither", file=sys.stderr)
        return 2
    print(json.dumps({name: median(step(), boxes) for name, step in made.items()}))
    return 0


def median(step: Callable[[Any], object], boxes: list[Any]) -> float:
    taken = []
    for frame in boxes:
        begin = time.process_time()
        step(frame)
        taken.append(1e3 * (time.process_time() - begin))
    return float(np.median(taken[1:]))


def sort() -> Callable[[Any], object]:
    from trackers import SORTTracker

    return supervised(SORTTracker())


def byte_track() -> Callable[[Any], object]:
    from trackers import ByteTrackTracker

    return supervised(ByteTrackTracker())


def oc_sort() -> Callable[[Any], object]:
    from trackers import OCSORTTracker

    return supervised(OCSORTTracker())


def supervised(tracker: Any) -> Callable[[Any], object]:
    from supervision import Detections

    def step(frame: Any) -> object:
        count = len(frame)
        return tracker.update(Detections(frame, confidence=np.full(count, SCORE), class_id=np.zeros(count, int)))

    return step


def norfair() -> Callable[[Any], object]:
    from norfair import Detection, Tracker

    tracker = Tracker(distance_function="iou", distance_threshold=0.7)
    return lambda frame: tracker.update([Detection(box.reshape(2, 2)) for box in frame])


if __name__ == "__main__":
    sys.exit(main())
