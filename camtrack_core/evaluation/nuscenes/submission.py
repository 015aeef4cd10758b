"""nuScenes' submission format: detections and tracks of key frames as JSON, boxes in the global frame.

A file that this project writes holds both forms, so that one and the same is scored as detections and as tracks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import DataError
from camtrack_core.files import read_json
from camtrack_core.geometry.boxes import ArraySet, Boxes3D, Floats

TRACKED = ("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck")  # classes of the tracking task
MAX_BOXES = 500  # in a key frame
DIGITS = 5
META = {"use_camera": True, "use_lidar": False, "use_radar": False, "use_map": False, "use_external": False}

Record = dict[str, Any]


@dataclass(frozen=True)
class SubmittedBoxes(ArraySet):
    """What was found in a key frame.

    Attributes:
        boxes: in the global frame; velocities may be NaN, which is written as 0.
        scores: (N,) float.
        names: (N,) str, of the classes.
        ids: (N,) str, of the tracks; empty for detections.
        attributes: (N,) str, like vehicle.moving; may be empty.
    """

    boxes: Boxes3D
    scores: Floats
    names: NDArray[np.str_]
    ids: NDArray[np.str_]
    attributes: NDArray[np.str_]


def write_submission(path: Path, results: Mapping[str, SubmittedBoxes], meta: Mapping[str, bool] | None = None) -> None:
    """Writes what was found, by token of the key frame; the best MAX_BOXES of each. Raises OSError."""
    rows = {token: _records(token, found) for token, found in results.items()}
    path.write_text(json.dumps({"meta": dict(META if meta is None else meta), "results": rows}) + "\n")


def read_submission(path: Path) -> dict[str, SubmittedBoxes]:
    """Detections, tracks or both.

    Raises:
        DataError: the file is missing, cut off, or a box is broken or bears the id of another in its key frame.
    """
    found = {}
    for token, records in _read(path)["results"].items():
        try:
            found[token] = _boxes(records)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: a box of the sample {token} is broken: {type(error).__name__} {error}") from None
        ids = [identity for identity in found[token].ids.tolist() if identity]
        if len(set(ids)) < len(ids):
            raise DataError(f"{path}: expected every id once in the sample {token}, got one twice")
    return found


def merge(files: list[Path]) -> tuple[dict[str, list[Record]], dict[str, bool]]:
    """Records and meta of submissions for different cameras or scenes, joined; ids are kept apart by the file's name.

    Raises DataError as read_submission does.
    """
    records: dict[str, list[Record]] = {}
    meta: dict[str, bool] = {}
    for path in files:
        read_submission(path)  # says what is wrong
        data = _read(path)
        meta |= data.get("meta", {})
        for token, rows in data["results"].items():
            if len(files) > 1:
                rows = [_renamed(row, path.stem) for row in rows]
            records.setdefault(token, []).extend(rows)
    return records, meta


def best(records: Mapping[str, list[Record]], score: str) -> dict[str, list[Record]]:
    """The MAX_BOXES records of each key frame that have most of `score`, an entry's name; those without come last."""
    return {
        token: sorted(rows, key=lambda row: row.get(score, -np.inf), reverse=True)[:MAX_BOXES]
        for token, rows in records.items()
    }


def has_tracks(records: Mapping[str, list[Record]]) -> bool:
    """Whether the boxes, of which there must be any, belong to tracks."""
    return any("tracking_id" in row for rows in records.values() for row in rows)


def has_detections(records: Mapping[str, list[Record]]) -> bool:
    return any("detection_name" in row for rows in records.values() for row in rows)


def _read(path: Path) -> Record:
    """A submission whose boxes nobody has looked at. Raises DataError."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("results"), dict):
        raise DataError(f"{path}: expected a nuScenes submission with an entry results, got another")
    if not isinstance(data.get("meta", {}), dict):
        raise DataError(f"{path}: expected a nuScenes submission with an object meta, got {json.dumps(data['meta'])}")
    return data


def _renamed(row: Record, prefix: str) -> Record:
    return row | {"tracking_id": f"{prefix}/{row['tracking_id']}"} if "tracking_id" in row else row


def _records(token: str, found: SubmittedBoxes) -> list[Record]:
    records = []
    for i in np.argsort(-found.scores, kind="stable")[:MAX_BOXES]:
        length, width, height = found.boxes.size[i].tolist()
        half = float(found.boxes.yaw[i]) / 2
        name, score = str(found.names[i]), round(float(found.scores[i]), DIGITS)
        record = {
            "sample_token": token,
            "translation": np.round(found.boxes.centre[i], DIGITS).tolist(),
            "size": [round(v, DIGITS) for v in (width, length, height)],
            "rotation": [round(float(v), DIGITS + 2) for v in (np.cos(half), 0, 0, np.sin(half))],
            "velocity": np.round(np.nan_to_num(found.boxes.velocity[i, :2]), DIGITS).tolist(),
            "detection_name": name,
            "detection_score": score,
            "attribute_name": str(found.attributes[i]),
        }
        if found.ids[i] and name in TRACKED:
            record |= {"tracking_id": str(found.ids[i]), "tracking_name": name, "tracking_score": score}
        records.append(record)
    return records


def _boxes(records: list[Record]) -> SubmittedBoxes:
    """Raises KeyError, TypeError, ValueError for records of another form."""
    quaternions = np.array([r["rotation"] for r in records], float).reshape(-1, 4)
    velocity = np.array([[*r.get("velocity", (np.nan, np.nan)), 0.0] for r in records], float).reshape(-1, 3)
    size = np.array([r["size"] for r in records], float).reshape(-1, 3)
    centre = np.array([r["translation"] for r in records], float).reshape(-1, 3)
    scores = np.array([r.get("tracking_score", r.get("detection_score")) for r in records], float)
    for name, values in (("translation", centre), ("size", size), ("rotation", quaternions), ("score", scores)):
        if not np.isfinite(values).all() or (name == "size" and (values <= 0).any()):
            raise ValueError(f"expected finite numbers and positive sizes, got another {name}")
    w, x, y, z = quaternions.T
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return SubmittedBoxes(
        Boxes3D(centre, size[:, [1, 0, 2]], yaw, velocity),
        scores,
        np.array([r["tracking_name"] if "tracking_name" in r else r["detection_name"] for r in records], np.str_),
        np.array([r.get("tracking_id", "") for r in records], np.str_),
        np.array([r.get("attribute_name", "") for r in records], np.str_),
    )
