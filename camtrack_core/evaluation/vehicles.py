"""Vehicles in the front camera of nuScenes as truth for 2D detectors.

The boxes of a key frame's vehicles (all but two-wheelers) are projected at the image's own ego pose and clipped.
Vehicles that are too small, too far or hardly hit by the lidar are ignored regions, as are none that begin behind
the camera.

Many vehicles in the pictures have no annotation, so there are two truths: ANNOTATED counts a find of such a vehicle as
false; LENIENT makes ignored regions of the vehicles that lidar detectors see and nobody annotated, by the rule of
`camtrack_core.evaluation.nuscenes.unannotated`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.nuscenes import rotation_matrix
from camtrack_core.datasets.video import read_image
from camtrack_core.errors import DataError
from camtrack_core.evaluation.detection import DetectionScores, ImageTruth, average_precision
from camtrack_core.evaluation.nuscenes.submission import SubmittedBoxes
from camtrack_core.evaluation.nuscenes.unannotated import read_lidar_boxes, unannotated
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Floats, clip
from camtrack_core.geometry.camera import Camera, Pose

MIN_DEPTH = 0.3  # metres; boxes that reach closer have no sound image
MIN_SIDE = 2.0  # pixels; less is not even ignored
MIN_HEIGHT = 20.0  # pixels
MIN_LIDAR_POINTS = 5
MAX_DEPTH = 60.0  # metres
MIN_DETECTION_HEIGHT = 18.0  # pixels; lower detections are dropped unseen
ANNOTATED, LENIENT = "annotated", "unannotated vehicles ignored"  # the two truths
VEHICLES = ("car", "truck", "bus", "trailer", "construction_vehicle")  # names in submissions
TWO_WHEELERS = ("vehicle.bicycle", "vehicle.motorcycle")
TABLES = (
    "sample",
    "sample_data",
    "ego_pose",
    "calibrated_sensor",
    "sample_annotation",
    "instance",
    "category",
)

Record = dict[str, Any]
Tables = dict[str, dict[str, Record]]  # records by token, by table


def score_vehicles(root: str | Path, detector: Callable[[NDArray[np.uint8]], Boxes2D]) -> dict[str, DetectionScores]:
    """Scores at IoU 0.5, by truth, of a detector of vehicles that maps a BGR image to boxes, on vehicle_frames."""
    truths: dict[str, list[ImageTruth]] = {ANNOTATED: [], LENIENT: []}
    detections = []
    for image, expected in vehicle_frames(root):
        boxes = detector(image)
        heights = boxes.xyxy[:, 3] - boxes.xyxy[:, 1]
        detections.append(boxes[heights >= MIN_DETECTION_HEIGHT])
        for name, truth in expected.items():
            truths[name].append(truth)
    return {name: average_precision(truth, detections) for name, truth in truths.items()}


def vehicle_frames(
    root: str | Path, version: str = "v1.0-mini"
) -> Iterator[tuple[NDArray[np.uint8], dict[str, ImageTruth]]]:
    """Key frames of the front camera: (H, W, 3) BGR image and its vehicles by both truths, all of class 0.

    Without lidar detections, `root`/detections/*.json, both truths are the same.

    Raises:
        DataError: a table, an image or a file of detections is missing or broken; names the file.
    """
    root = Path(root)
    tables = {name: _read_table(root / version / f"{name}.json") for name in TABLES}
    lidar = read_lidar_boxes(root)
    images = {
        record["sample_token"]: record
        for record in tables["sample_data"].values()
        if record["is_key_frame"] and record["filename"].startswith("samples/CAM_FRONT/")
    }
    annotations: dict[str, list[Record]] = {}
    for record in tables["sample_annotation"].values():
        annotations.setdefault(record["sample_token"], []).append(record)
    for token in tables["sample"]:
        own, view = annotations.get(token, []), _view(images[token], tables)
        truth = _truth([a for a in own if _is_vehicle(a, tables)], *view)
        centres = np.array([a["translation"] for a in own], float).reshape(-1, 3)
        more = [unannotated(found[token], centres) for found in lidar if token in found]
        ignored = np.concatenate([truth.ignored, *(_images_of(boxes, *view) for boxes in more)])
        lenient = ImageTruth(truth.xyxy, truth.class_ids, ignored)
        yield read_image(root / images[token]["filename"]), {ANNOTATED: truth, LENIENT: lenient}


def _read_table(path: Path) -> dict[str, Record]:
    try:
        return {record["token"]: record for record in json.loads(path.read_text())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read nuScenes table {path}: {error}") from error


def _is_vehicle(annotation: Record, tables: Tables) -> bool:
    instance = tables["instance"][annotation["instance_token"]]
    name = tables["category"][instance["category_token"]]["name"]
    return name.startswith("vehicle.") and name not in TWO_WHEELERS


def _view(image: Record, tables: Tables) -> tuple[Camera, Pose]:
    """The camera of an image and its pose in the map."""
    mounting = tables["calibrated_sensor"][image["calibrated_sensor_token"]]
    camera = Camera(np.array(mounting["camera_intrinsic"]), image["width"], image["height"])
    return camera, _pose(tables["ego_pose"][image["ego_pose_token"]]) @ _pose(mounting)


def _truth(vehicles: list[Record], camera: Camera, pose: Pose) -> ImageTruth:
    scored: list[Floats] = []
    ignored: list[Floats] = []
    for vehicle in vehicles:
        corners = pose.inverse().apply(_corners(vehicle))
        box = _bounds(camera, corners)
        if box is None:
            continue
        near = corners[:, 2].mean() <= MAX_DEPTH and vehicle["num_lidar_pts"] >= MIN_LIDAR_POINTS
        (scored if near and box[3] - box[1] >= MIN_HEIGHT else ignored).append(box)
    xyxy = np.array(scored).reshape(-1, 4)
    return ImageTruth(xyxy, np.zeros(len(xyxy), np.int64), np.array(ignored).reshape(-1, 4))


def _images_of(found: SubmittedBoxes, camera: Camera, pose: Pose) -> Floats:
    """(M, 4) the boxes around the images of the vehicles among the boxes found."""
    corners = pose.inverse().apply(found.boxes[np.isin(found.names, VEHICLES)].corners())
    boxes = [box for one in corners if (box := _bounds(camera, one)) is not None]
    return np.array(boxes).reshape(-1, 4)


def _bounds(camera: Camera, corners: Floats) -> Floats | None:
    """(4,) the box around the image of corners (8, 3) in the optical frame, cut to the image; None if unsound."""
    if corners[:, 2].min() < MIN_DEPTH:
        return None
    pixels = camera.project(corners)
    box = clip(np.concatenate([pixels.min(0), pixels.max(0)])[None], camera.width, camera.height)[0]
    return box if (box[2:] - box[:2] >= MIN_SIDE).all() else None


def _corners(vehicle: Record) -> Floats:
    """(8, 3) corners in the global frame; nuScenes gives sizes as width, length, height."""
    width, length, height = vehicle["size"]
    origin = np.zeros((1, 3))
    box = Boxes3D(origin, np.array([[length, width, height]]), np.zeros(1), origin)
    return _pose(vehicle).apply(box.corners()[0])


def _pose(record: Record) -> Pose:
    return Pose(rotation_matrix(np.array(record["rotation"])), np.array(record["translation"]))
