"""Runs inside nuscenes-devkit's environment: official scores of boxes that belong to no nuScenes scene.

    python devkit_boxes.py BOXES.json SCORES.json

BOXES.json holds `truth` and `methods` {name: boxes}, each {sequence: {frame in microseconds: [box]}} with boxes as
dictionaries: id, name, score, translation, size (width, length, height), rotation, velocity, ego (translation). Boxes
beyond the official range of their class are left out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes.eval.common.config import config_factory  # type: ignore[import-not-found]
from nuscenes.eval.common.data_classes import EvalBoxes  # type: ignore[import-not-found]
from nuscenes.eval.detection.algo import accumulate, calc_ap, calc_tp  # type: ignore[import-not-found]
from nuscenes.eval.detection.data_classes import DetectionBox  # type: ignore[import-not-found]
from nuscenes.eval.tracking.algo import TrackingEvaluation  # type: ignore[import-not-found]
from nuscenes.eval.tracking.data_classes import TrackingBox, TrackingMetricData  # type: ignore[import-not-found]
from nuscenes.eval.tracking.loaders import interpolate_tracks  # type: ignore[import-not-found]

DETECTION, TRACKING = config_factory("detection_cvpr_2019"), config_factory("tracking_nips_2019")
ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err")
Boxes = dict[str, dict[str, list[dict[str, Any]]]]


def common(box: dict[str, Any], token: str) -> dict[str, Any]:
    away = (np.array(box["translation"]) - box["ego"]).tolist()
    names = ("translation", "size", "rotation", "velocity")
    return {"sample_token": token, "ego_translation": away} | {name: tuple(box[name]) for name in names}


def near(box: dict[str, Any], ranges: dict[str, float]) -> bool:
    away = np.array(box["translation"][:2]) - box["ego"][:2]
    return bool(np.hypot(*away) <= ranges[box["name"]])


def detection_boxes(boxes: Boxes) -> EvalBoxes:
    made = EvalBoxes()
    for sequence, frames in boxes.items():
        for time, rows in frames.items():
            token = f"{sequence}/{time}"
            kept = [row for row in rows if near(row, DETECTION.class_range)]
            made.add_boxes(token, [
                DetectionBox(**common(r, token), detection_name=r["name"], detection_score=r["score"]) for r in kept
            ])  # fmt: skip
    return made


def tracking_boxes(boxes: Boxes) -> dict[str, dict[int, list[Any]]]:
    """By sequence and time; the score of a track is the mean of its boxes', and holes are filled, as officially."""
    made = {}
    for sequence, frames in boxes.items():
        found = {
            int(time): [row for row in rows if near(row, TRACKING.class_range)] for time, rows in sorted(frames.items())
        }
        scores: dict[str, list[float]] = {}
        for row in (row for rows in found.values() for row in rows):
            scores.setdefault(row["id"], []).append(row["score"])
        tracks = {
            time: [
                TrackingBox(**common(r, f"{sequence}/{time}"), tracking_id=r["id"], tracking_name=r["name"],
                            tracking_score=float(np.mean(scores[r["id"]])))
                for r in rows
            ]
            for time, rows in sorted(found.items())
        }  # fmt: skip
        made[sequence] = interpolate_tracks(tracks)
    return made


def score_detections(truth: Boxes, found: Boxes, classes: list[str]) -> dict[str, Any]:
    gt, predictions = detection_boxes(truth), detection_boxes(found)
    precision: dict[str, float] = {}
    errors: dict[str, dict[str, float]] = {}
    for name in classes:
        data = {d: accumulate(gt, predictions, name, DETECTION.dist_fcn_callable, d) for d in DETECTION.dist_ths}
        aps = [calc_ap(x, DETECTION.min_recall, DETECTION.min_precision) for x in data.values()]
        precision[name] = float(np.mean(aps))
        at = data[DETECTION.dist_th_tp]
        errors[name] = {
            key: float(calc_tp(at, DETECTION.min_recall, key))
            for key in ("trans_err", "scale_err", "orient_err", "vel_err")
        }
    means = {
        key: float(np.mean([e[key] for e in errors.values()]))
        for key in ("trans_err", "scale_err", "orient_err", "vel_err")
    }
    return {"mAP": float(np.mean(list(precision.values()))), "AP": precision, "errors": errors, **means}


def score_tracks(truth: Boxes, found: Boxes, classes: list[str]) -> dict[str, Any]:
    gt, predictions = tracking_boxes(truth), tracking_boxes(found)
    amota: dict[str, float] = {}
    amotp: dict[str, float] = {}
    switches = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name in classes:
            evaluation = TrackingEvaluation(
                gt, predictions, name, TRACKING.dist_fcn_callable, TRACKING.dist_th_tp, TRACKING.min_recall,
                num_thresholds=TrackingMetricData.nelem, metric_worst=TRACKING.metric_worst, verbose=False,
                output_dir=folder, render_classes=[],
            )  # fmt: skip
            data = evaluation.accumulate()
            for target, key, metric in ((amota, "amota", "motar"), (amotp, "amotp", "motp")):
                values = np.array(data.get_metric(metric))
                values[np.isnan(values)] = TRACKING.metric_worst[key]
                target[name] = float(values.mean())
            if not np.isnan(data.mota).all():
                switches += float(data.get_metric("ids")[np.nanargmax(data.mota)])
    return {
        "AMOTA": float(np.mean(list(amota.values()))), "AMOTP": float(np.mean(list(amotp.values()))),
        "IDS": switches, "AMOTA by class": amota,
    }  # fmt: skip


def main(source: str, out: str) -> None:
    data = json.loads(Path(source).read_text())
    truth = data["truth"]
    present = {row["name"] for frames in truth.values() for rows in frames.values() for row in rows}
    classes = [name for name in TRACKING.class_names if name in present]
    scores = {}
    for name, boxes in data["methods"].items():
        kind = score_detections if name.startswith("detections") else score_tracks
        scores[name] = kind(truth, boxes, classes)
    Path(out).write_text(json.dumps(scores))


if __name__ == "__main__":
    main(*sys.argv[1:])
