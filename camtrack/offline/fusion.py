"""The stack in space without ROS: GCNet and Time3D on the images of one camera, and PKF on what both find, as nodes do.

The parameters are those of pkf_filter_node: config/camera_fusion.yaml, or what the launch files' `filter` names. One
sensor of kind boxes_2d takes GCNet's tracks, one of boxes_3d Time3D's with their velocities, at every frame in the
order of `sensors`.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camtrack.launch.packages import LaunchError, find_share
from camtrack.offline.methods import moved
from camtrack_core.config import validated
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.projected import project_boxes
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.geometry.boxes import Boxes2D, Detections3D, Floats
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.tracks import Tracks2D, Tracks3D
from camtrack_core.parameter_files import read_parameters
from gcnet_tracker.tracker import GCNetModel
from gcnet_tracker.tracker import Tracker as ImageTracker
from pkf_filter.ros.fusion_config import FusionParameters, with_sensors
from pkf_filter.space.config import SensorModel
from pkf_filter.space.smoothing import Smoother
from pkf_filter.space.tracker import WorldTracker
from time3d_tracker import level
from time3d_tracker.model import Time3DModel
from time3d_tracker.tracker import Result
from time3d_tracker.tracker import Tracker as SpatialTracker


def shipped_parameters() -> Path:
    """config/camera_fusion.yaml, in the installed package's share folder or beside the code in a checkout."""
    folder = Path(__file__).resolve().parents[2]
    with suppress(LaunchError):
        if (find_share("camtrack") / "config").is_dir():
            folder = find_share("camtrack")
    return folder / "config" / "camera_fusion.yaml"


def fusion_parameters(path: Path) -> FusionParameters:
    """Parameters of the fusion of one camera's detectors. Raises ConfigurationError for what can be none."""
    values = read_parameters(path)
    names = values.get("sensors") or []
    try:
        parameters = validated(with_sensors(FusionParameters, names), values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    kinds = [getattr(parameters, name).kind for name in names]
    if not kinds or len(set(kinds)) < len(kinds):
        raise ConfigurationError(
            f"{path}: expected one sensor of kind boxes_3d (Time3D), of boxes_2d (GCNet), or one of each, got {kinds}"
        )
    return parameters


def takes_space(parameters: FusionParameters) -> bool:
    """Whether a sensor takes boxes in space."""
    return any(getattr(parameters, name).kind == "boxes_3d" for name in parameters.sensors)


def class_names(spatial: Time3DModel | None, image: GCNetModel) -> tuple[str, ...]:
    """What the class ids of the tracks mean: Time3D's classes, then those that GCNet has beside."""
    return tuple(dict.fromkeys([*(spatial.class_names if spatial else ()), *image.class_names]))


class NothingInSpace:
    """In the place of Time3D where no sensor takes its boxes."""

    def step(self, image: NDArray[np.uint8], time_ns: int, intrinsics: Floats, pose: Pose, height: float) -> Result:
        """As Time3D's tracker, whose detector sees nothing. Raises DataError for a camera that looks up or down."""
        return Result.empty(level.upright_pose(pose))


@dataclass(frozen=True)
class View:
    """What Time3D made of a frame, and the camera and its pose in the fixed frame, in which tracks are told."""

    found: Result
    camera: Camera
    pose: Pose

    def result(self, tracks: Tracks3D) -> Result:
        """Tracks in the fixed frame as Time3D tells its own."""
        xyxy, _, _ = project_boxes(tracks.boxes, self.camera, self.pose)
        upright = self.pose @ self.found.upright
        return replace(self.found, tracks=moved_tracks(tracks, upright.inverse()), xyxy=xyxy)


class FusionTracker:
    """Tracks of one camera's frames, from models that may be shared; without `spatial`, of boxes in the image alone."""

    def __init__(self, spatial: Time3DModel | None, image: GCNetModel, parameters: FusionParameters) -> None:
        self._spatial: SpatialTracker | NothingInSpace = SpatialTracker(spatial) if spatial else NothingInSpace()
        self._image = ImageTracker(image)
        self._kinds = {name: getattr(parameters, name).kind for name in parameters.sensors}
        self._stated = {name: getattr(parameters, name).covariance_factor for name in parameters.sensors}
        sensors = {
            name: SensorModel(**getattr(parameters, name).model_dump(include=set(SensorModel.model_fields)))
            for name in parameters.sensors
        }
        self.filter = WorldTracker(parameters.world, sensors)
        numbers = {name: self.filter.class_id(name) for name in class_names(spatial, image)}
        self._spatial_ids = np.array([numbers[name] for name in (spatial.class_names if spatial else ())], np.int64)
        self._image_ids = np.array([numbers[name] for name in image.class_names], np.int64)

    def step(self, frame: Frame) -> Result:
        """Tracks after the next frame, as Time3D gives them; those that coast may lie out of the image.

        Raises DataError at a frame without a camera or its pose.
        """
        view, tracks = self.filtered(frame)
        return view.result(tracks)

    def filtered(self, frame: Frame) -> tuple[View, Tracks3D]:
        """The next frame's view, and the tracks after it in the fixed frame. Raises as `step`."""
        camera, pose = frame.calibrated(), frame.camera_pose
        if pose is None:
            raise DataError("expected frames with the camera's pose, got one without")
        found = self._spatial.step(frame.image, frame.time_ns, camera.intrinsics, pose, level.camera_height(frame))
        seen = self._image.step(frame.image)
        upright = pose @ found.upright
        for name, kind in self._kinds.items():
            if kind == "boxes_2d":
                tracks = self.filter.step_image(
                    frame.time_ns, self._boxes(seen), camera, pose, name, level.camera_height(frame)
                )
            else:
                detections, stated = self._detections(found.tracks, upright), self._stated[name]
                covariance = stated * moved_tracks(found.tracks, upright).covariance if stated else None
                tracks = self.filter.step(frame.time_ns, detections, name, pose, covariance)
        return View(found, camera, pose), tracks

    def _boxes(self, seen: Tracks2D) -> Boxes2D:
        return Boxes2D(seen.xyxy, seen.scores, self._image_ids[seen.class_ids])

    def _detections(self, tracks: Tracks3D, upright: Pose) -> Detections3D:
        """Time3D's tracks in the fixed frame. A message names the likeliest motion alone, with its probability."""
        likeliest = np.eye(tracks.motions.shape[1], dtype=bool)[tracks.motions.argmax(1)]
        return Detections3D(
            moved(tracks.boxes, upright),
            tracks.scores,
            self._spatial_ids[tracks.class_ids],
            np.where(likeliest, tracks.motions, 0.0),
        )


class SmoothedFusion:
    """A FusionTracker whose tracks come some frames late."""

    def __init__(self, spatial: Time3DModel | None, image: GCNetModel, parameters: FusionParameters) -> None:
        self._tracker = FusionTracker(spatial, image, parameters)
        self._smoother = Smoother(self._tracker.filter)
        self._views: deque[View] = deque()

    def step(self, frame: Frame) -> list[Result]:
        """The tracks of the frames that are done with by now, in their order. Raises as FusionTracker.step."""
        view, _ = self._tracker.filtered(frame)
        self._views.append(view)
        return self._results(self._smoother.add(frame.time_ns))

    def flush(self) -> list[Result]:
        """The tracks of the frames that are left, at the end."""
        return self._results(self._smoother.flush())

    def _results(self, smoothed: list[Tracks3D]) -> list[Result]:
        return [self._views.popleft().result(tracks) for tracks in smoothed]


def moved_tracks(tracks: Tracks3D, pose: Pose) -> Tracks3D:
    """Tracks (up axis z) in the parent frame of a pose that keeps them upright."""
    turn = np.eye(4)
    turn[:3, :3] = pose.rotation
    ground, states = pose.rotation[:2, :2], tracks.states
    states = replace(states, velocity_covariance=ground @ states.velocity_covariance @ ground.T)
    return replace(tracks, boxes=moved(tracks.boxes, pose), covariance=turn @ tracks.covariance @ turn.T, states=states)
