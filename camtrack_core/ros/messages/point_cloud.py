"""Numbers of objects as a PointCloud2: one point an object, one field a number, each field with its name."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Integers
from camtrack_core.geometry.tracks import Tracks3D

VARIANCES = (("x", "x"), ("x", "y"), ("y", "y"), ("yaw", "yaw"))
Columns = Mapping[str, NDArray[Any]]
PLACE = {"x": 0, "y": 1, "z": 2, "yaw": 3}


def to_point_cloud(header: Header, columns: Columns) -> PointCloud2:
    """Columns (N,) by name as fields of float64."""
    table = np.stack([np.asarray(column, "<f8") for column in columns.values()], 1)
    step = table.shape[1] * table.itemsize
    fields = [
        PointField(name=name, offset=row * table.itemsize, datatype=PointField.FLOAT64, count=1)
        for row, name in enumerate(columns)
    ]
    cloud = PointCloud2(header=header, height=1, width=len(table), fields=fields, is_bigendian=False, is_dense=True)
    cloud.point_step, cloud.row_step = step, step * len(table)
    cloud.data = array("B", table.tobytes())
    return cloud


def from_point_cloud(cloud: PointCloud2) -> dict[str, NDArray[np.float64]]:
    """Columns (N,) of a cloud by the names of its fields.

    Raises DataError where they are not of float64, or the data are not of the size that they tell.
    """
    count = cloud.height * cloud.width
    kinds = {field.datatype for field in cloud.fields}
    if cloud.is_bigendian or kinds - {PointField.FLOAT64} or cloud.point_step != 8 * len(cloud.fields):
        raise DataError(
            f"expected a point cloud of little-endian float64 alone, got fields of the types {sorted(kinds)}"
        )
    if len(cloud.data) != count * cloud.point_step:
        raise DataError(f"expected {count * cloud.point_step} bytes of {count} points, got {len(cloud.data)}")
    if any(field.offset % 8 or field.offset >= cloud.point_step for field in cloud.fields):
        raise DataError("expected fields that lie one after the other, got others")
    table = np.frombuffer(cloud.data, "<f8").reshape(count, len(cloud.fields))
    return {field.name: table[:, field.offset // 8] for field in cloud.fields}


def states(tracks: Tracks3D, names: list[str]) -> dict[str, NDArray[Any]]:
    """What a filter knows of tracks beside their boxes, as columns; `names` are the class names."""
    known, boxes = tracks.states, tracks.boxes
    return {
        "id": tracks.ids,
        **_placed(tracks),
        "vx": boxes.velocity[:, 0],
        "vy": boxes.velocity[:, 1],
        "turn_rate": tracks.turn_rates,
        "variance_vx_vx": known.velocity_covariance[:, 0, 0],
        "variance_vx_vy": known.velocity_covariance[:, 0, 1],
        "variance_vy_vy": known.velocity_covariance[:, 1, 1],
        "score": tracks.scores,
        "existence": known.existence,
        "resting": known.resting,
        "facing": known.facing,
        "coasting": known.coasting,
        "age": known.age,
        "silence": known.silence,
        **{f"class_{name}": known.class_probabilities[:, row] for row, name in enumerate(names)},
    }


def predictions(tracks: list[Tracks3D], offsets: Integers) -> dict[str, NDArray[Any]]:
    """Columns of one row a track and time: tracks as expected at offsets (T,), in nanoseconds from the stamp."""
    rows = [
        {"id": at.ids, "after": np.full(len(at), offset * 1e-9), **_placed(at), "existence": at.states.existence}
        for at, offset in zip(tracks, offsets.tolist(), strict=True)
    ]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _placed(tracks: Tracks3D) -> dict[str, NDArray[Any]]:
    """Places and yaws, and their variances."""
    boxes = tracks.boxes
    place = {"x": boxes.centre[:, 0], "y": boxes.centre[:, 1], "z": boxes.centre[:, 2], "yaw": boxes.yaw}
    variances = {f"variance_{a}_{b}": tracks.covariance[:, PLACE[a], PLACE[b]] for a, b in VARIANCES}
    return place | variances
