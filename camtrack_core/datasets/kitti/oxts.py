"""Ego poses from KITTI's oxts: GPS and inertial measurements, a row of 30 numbers a frame.

Source: A. Geiger, P. Lenz, C. Stiller and R. Urtasun, "Vision meets Robotics: The KITTI Dataset", IJRR 2013: latitude
and longitude by a Mercator projection whose scale is that of the first latitude; roll, pitch and yaw in this order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from camtrack_core.datasets.kitti.rows import TO_VEHICLE
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Floats
from camtrack_core.geometry.camera import Pose

EARTH_RADIUS = 6378137.0  # metres
COLUMNS = 30


def read_oxts(path: Path, length: int, camera_in_imu: Pose) -> list[Pose]:
    """Poses of the vehicle frame, which lies in the reference camera, in a fixed frame with z up.

    The fixed frame has its origin and its x axis where the camera was and looked at the first frame.

    Args:
        path: the text.
        length: number of frames.
        camera_in_imu: pose of the reference camera in the inertial unit's frame (x ahead, y left, z up).

    Raises:
        DataError: a row is broken or there are fewer than `length`.
    """
    try:
        rows = np.array(
            [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()], float
        )
        rows = rows.reshape(-1, COLUMNS)[:length, :6]
    except (OSError, ValueError) as error:
        raise DataError(f"oxts {path}: expected {COLUMNS} numbers a row: {error}") from error
    if len(rows) < length or not np.isfinite(rows).all() or (np.abs(rows[:, 0]) >= 90).any():
        raise DataError(f"oxts {path}: expected {length} rows of finite numbers and latitudes, got {len(rows)}")
    scale = np.cos(np.radians(rows[:1, 0])).max(initial=0)
    vehicles = [imu_pose(row, scale) @ camera_in_imu @ TO_VEHICLE.inverse() for row in rows]
    if not vehicles:
        return []
    ahead = vehicles[0].rotation[:, 0]
    origin = Pose(_about_z(np.arctan2(ahead[1], ahead[0])), vehicles[0].translation)
    return [origin.inverse() @ vehicle for vehicle in vehicles]


def imu_pose(row: Floats, scale: float) -> Pose:
    """Pose of the inertial unit in east, north and up, of latitude, longitude (degrees), altitude, roll, pitch, yaw."""
    latitude, longitude, altitude, roll, pitch, yaw = row
    north = scale * EARTH_RADIUS * np.log(np.tan(np.pi / 4 + np.radians(latitude) / 2))
    rotation = _about_z(yaw) @ _about_y(pitch) @ _about_x(roll)
    return Pose(rotation, np.array([scale * EARTH_RADIUS * np.radians(longitude), north, altitude]))


def _about_x(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _about_y(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _about_z(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
