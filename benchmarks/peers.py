"""Milliseconds of processor time a frame of other trackers on given boxes, as JSON; for an environment of its own.

    python -m venv ENV && ENV/bin/pip install norfair && ENV/bin/pip install -U trackers stonesoup pyehm  # in order
    ENV/bin/python benchmarks/peers.py BOXES.npz

BOXES.npz: an array (N, 4) of each frame, x1, y1, x2, y2. `bench.py --peers ENV/bin/python` calls this.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any

import numpy as np

SCORE = 0.99  # of every box
PATIENCE = 100  # objects, up to which Stone Soup is asked: it makes an object of every pair of box and track


def main() -> int:
    boxes = [frame for _, frame in sorted(np.load(sys.argv[1]).items(), key=lambda item: int(item[0].split("_")[1]))]
    made: dict[str, Callable[[], Callable[[Any], object]]] = {}
    if find_spec("trackers"):
        made |= {"SORT_ms": sort, "ByteTrack_ms": byte_track, "OC-SORT_ms": oc_sort}  # from version 2.2 on
    if find_spec("norfair"):
        made["Norfair_ms"] = norfair
    if find_spec("stonesoup") and find_spec("pyehm") and max(map(len, boxes)) <= PATIENCE:
        made["Stone Soup_ms"] = stone_soup
    if not made:
        print(f"{sys.executable}: expected trackers, norfair or stonesoup with pyehm, found none", file=sys.stderr)
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


def stone_soup() -> Callable[[Any], object]:
    """JPDA by efficient hypothesis management; a state is the centre with its velocity and the size."""
    from stonesoup.dataassociator.probability import JPDAwithEHM2
    from stonesoup.deleter.error import CovarianceBasedDeleter
    from stonesoup.functions import gm_reduce_single
    from stonesoup.hypothesiser.probability import PDAHypothesiser
    from stonesoup.models.measurement.linear import LinearGaussian
    from stonesoup.models.transition.linear import CombinedLinearGaussianTransitionModel, ConstantVelocity, RandomWalk
    from stonesoup.predictor.kalman import KalmanPredictor
    from stonesoup.types.array import StateVectors
    from stonesoup.types.detection import Detection
    from stonesoup.types.state import GaussianState
    from stonesoup.types.track import Track
    from stonesoup.types.update import GaussianStateUpdate
    from stonesoup.updater.kalman import KalmanUpdater

    motion = CombinedLinearGaussianTransitionModel(
        [ConstantVelocity(50.0), ConstantVelocity(50.0), RandomWalk(10.0), RandomWalk(10.0)]
    )
    measured = LinearGaussian(6, (0, 2, 4, 5), np.diag([4.0, 4.0, 9.0, 9.0]))
    updater = KalmanUpdater(measured)
    hypothesiser = PDAHypothesiser(KalmanPredictor(motion), updater, clutter_spatial_density=1e-9, prob_detect=0.95)
    associator, deleter = JPDAwithEHM2(hypothesiser), CovarianceBasedDeleter(1e4)
    tracks: set[Any] = set()
    time_of_frame = datetime(2020, 1, 1)

    def step(frame: Any) -> object:
        nonlocal time_of_frame
        time_of_frame += timedelta(seconds=0.1)
        rows = np.column_stack([(frame[:, :2] + frame[:, 2:]) / 2, frame[:, 2:] - frame[:, :2]])
        seen = {Detection(row[:, None], timestamp=time_of_frame, measurement_model=measured) for row in rows}
        unused = set(seen)
        for track, hypotheses in associator.associate(tracks, seen, time_of_frame).items():
            states = [updater.update(h) if h else h.prediction for h in hypotheses]
            chances = np.array([float(h.probability) for h in hypotheses])
            unused -= {h.measurement for h in hypotheses if h and h.probability > 0.5}
            mean, covariance = gm_reduce_single(
                StateVectors([s.state_vector for s in states]), np.stack([s.covar for s in states], axis=2), chances
            )
            track.append(GaussianStateUpdate(mean, covariance, hypotheses, time_of_frame))
        for detection in unused:
            x, y, width, height = detection.state_vector.ravel()
            spread = np.diag([4.0, 400.0, 4.0, 400.0, 9.0, 9.0])
            start = GaussianState([[x], [0.0], [y], [0.0], [width], [height]], spread, timestamp=time_of_frame)
            tracks.add(Track([start]))
        tracks.difference_update(deleter.delete_tracks(tracks))
        return tracks

    return step


if __name__ == "__main__":
    sys.exit(main())
