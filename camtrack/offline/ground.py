"""The plainest tracker in space: GCNet's tracked boxes set on flat ground through the camera.

Its boxes have their class's mean size, look along the camera's view and state no motion. It is what Time3D has to
beat, and what is left where no weights for space fit.
"""

from __future__ import annotations

import numpy as np

from camtrack_core.datasets.frames import Frame
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes3D, Detections3D, Floats
from camtrack_core.geometry.ground import on_ground, place_deviation
from camtrack_core.geometry.tracks import Tracks3D
from gcnet_tracker.tracker import GCNetModel
from gcnet_tracker.tracker import Tracker as ImageTracker
from time3d_tracker import level
from time3d_tracker.config import CLASS_SIZES
from time3d_tracker.tracker import Result

SIZE = (4.5, 1.85, 1.6)  # metres, of classes that have none
PITCH_DEVIATION = np.radians(0.3)
ACROSS_SHARE = 0.01


class GroundTracker:
    """GCNet's tracks, placed.

    Raises DataError at a frame without camera, pose or height: the ground is not known.
    """

    def __init__(self, model: GCNetModel) -> None:
        self._names, self._tracker = np.array(model.class_names), ImageTracker(model)

    def step(self, frame: Frame) -> Result:
        """Tracks after the next frame, as Time3D gives them."""
        camera, height = frame.calibrated(), level.camera_height(frame)
        if frame.camera_pose is None or height <= 0:
            raise DataError("expected a camera with its pose and height over the ground, found none")
        found = self._tracker.step(frame.image)
        names = self._names[found.class_ids]
        place = on_ground(found.xyxy, names, camera.intrinsics, frame.camera_pose, height)
        known = np.isfinite(place).all(1)
        found, place, names = found[known], place[known], names[known]
        size = np.array([CLASS_SIZES.get(str(name), SIZE) for name in names]).reshape(-1, 3)
        centre = np.stack([place[:, 1], -place[:, 0], size[:, 2] / 2 - height], -1)
        boxes = Boxes3D(centre, size, np.zeros(len(size)), np.zeros((len(size), 3)))
        distance = np.linalg.norm(place, axis=1)
        deviation = place_deviation(distance, height, PITCH_DEVIATION)
        tracks = Tracks3D(found.ids, boxes, _covariance(place, deviation), found.scores, found.class_ids,
                          np.zeros(len(size)))  # fmt: skip
        upright = level.upright_pose(frame.camera_pose)
        detections = Detections3D(boxes, found.scores, found.class_ids)
        return Result(tracks, found.xyxy, upright, detections, found.xyxy, deviation, int((~known).sum()))


def _covariance(place: Floats, deviation: Floats) -> Floats:
    """(N, 4, 4) of centre and yaw, of places (N, 2) right and ahead with deviations (N,) along the line of sight."""
    distance = np.maximum(np.linalg.norm(place, axis=1), 1e-6)
    sight = np.stack([place[:, 1], -place[:, 0], np.zeros(len(place))], -1) / distance[:, None]
    along = sight[:, :, None] * sight[:, None]
    covariance = np.zeros((len(place), 4, 4))
    covariance[:, :3, :3] = deviation[:, None, None] ** 2 * along
    covariance[:, :3, :3] += ((ACROSS_SHARE * distance) ** 2)[:, None, None] * (np.eye(3) - along)
    covariance[:, 3, 3] = (np.pi / 2) ** 2  # of the heading it knows nothing
    return covariance
