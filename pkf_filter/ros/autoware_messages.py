"""What the filter tells of its tracks as Autoware's TrackedObjects and PredictedObjects."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from autoware_perception_msgs.msg import (
    ObjectClassification,
    PredictedObject,
    PredictedPath,
    Shape,
    TrackedObject,
    TrackedObjectKinematics,
)
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import AccelWithCovariance, Point, Pose, PoseWithCovariance, Quaternion, TwistWithCovariance

from camtrack_core.geometry.boxes import Floats
from camtrack_core.ros.messages.detections3d import UNKNOWN
from camtrack_core.ros.messages.stamps import NANOSECONDS

LABELS = {
    ObjectClassification.CAR: ("car", "van", "vehicle"),
    ObjectClassification.TRUCK: ("truck", "construction_vehicle"),
    ObjectClassification.BUS: ("bus",),
    ObjectClassification.TRAILER: ("trailer",),
    ObjectClassification.MOTORCYCLE: ("motorcycle", "motorcyclist"),
    ObjectClassification.BICYCLE: ("bicycle", "cyclist", "rider"),
    ObjectClassification.PEDESTRIAN: ("pedestrian", "person", "person_sitting"),
}
LABEL_OF = {name: label for label, names in LABELS.items() for name in names}
CLASS = "class_"  # beginning of the columns with class probabilities
LINEAR = (0, 1)  # of the six of a twist: along the object and across
Columns = Mapping[str, Floats]


@dataclass(frozen=True)
class Thresholds:
    """Where numbers become flags.

    Attributes:
        stationary: probability of rest from which an object is stationary.
        yaw: deviation, rad, up to which an orientation is known.
        facing: measurements in favour of the front, less those against it, from which it is known which end it is;
            of who is faster than `speed`, m/s, it is known in any case.
    """

    stationary: float
    yaw: float
    facing: float
    speed: float


def object_id(run: uuid.UUID, track: str) -> Any:
    """The 16 bytes of an object's id: equal for one track of one run, different for all others."""
    return np.frombuffer(uuid.uuid5(run, track).bytes, np.uint8)


def tracked_object(detection: Any, state: Columns, run: uuid.UUID, thresholds: Thresholds) -> TrackedObject:
    """A track as Autoware has it.

    Args:
        detection: vision_msgs/Detection3D of the track.
        state: its row of `~/states`, numbers by column.
        run: what the ids are made from.
    """
    found = TrackedObject(existence_probability=float(state["existence"]), classification=classification(state))
    found.object_id.uuid = object_id(run, detection.id)
    found.shape = Shape(type=Shape.BOUNDING_BOX, dimensions=detection.bbox.size)
    kinematics = found.kinematics
    kinematics.pose_with_covariance = PoseWithCovariance(
        pose=detection.bbox.center, covariance=detection.results[0].pose.covariance
    )
    kinematics.twist_with_covariance = twist(state)
    kinematics.acceleration_with_covariance = AccelWithCovariance(covariance=_unknown().ravel())
    kinematics.orientation_availability = orientation_availability(state, thresholds)
    kinematics.is_stationary = bool(state["resting"] >= thresholds.stationary)
    return found


def predicted_object(tracked: TrackedObject, ahead: Columns) -> PredictedObject:
    """The same object with the way ahead of it.

    Args:
        ahead: its rows of `~/predictions`, (T,) numbers by column, in the order of time, the first at the stamp.
    """
    found = PredictedObject(
        object_id=tracked.object_id,
        existence_probability=tracked.existence_probability,
        classification=tracked.classification,
        shape=tracked.shape,
    )
    found.kinematics.initial_pose_with_covariance = tracked.kinematics.pose_with_covariance
    found.kinematics.initial_twist_with_covariance = tracked.kinematics.twist_with_covariance
    found.kinematics.initial_acceleration_with_covariance = tracked.kinematics.acceleration_with_covariance
    if len(ahead["after"]) > 1:
        found.kinematics.predicted_paths = [predicted_path(ahead)]
    return found


def predicted_path(ahead: Columns) -> PredictedPath:
    """The way ahead; its confidence is the probability that the object, if it exists now, still does at its end."""
    x, y, z, half = ahead["x"], ahead["y"], ahead["z"], ahead["yaw"] / 2
    sines, cosines = np.sin(half).tolist(), np.cos(half).tolist()
    path = [
        Pose(position=Point(x=place[0], y=place[1], z=place[2]), orientation=Quaternion(z=sine, w=cosine))
        for place, sine, cosine in zip(np.stack([x, y, z], 1).tolist(), sines, cosines, strict=True)
    ]
    seconds, nanoseconds = divmod(round((ahead["after"][1] - ahead["after"][0]) * NANOSECONDS), NANOSECONDS)
    existence = ahead["existence"]
    return PredictedPath(
        path=path,
        time_step=Duration(sec=seconds, nanosec=nanoseconds),
        confidence=float(min(existence[-1] / existence[0], 1.0)) if existence[0] > 0 else 0.0,
    )


def classification(state: Columns) -> list[ObjectClassification]:
    """Labels with their probabilities, the likeliest first; UNKNOWN where no class is known."""
    probabilities: dict[int, float] = {}
    for column, value in state.items():
        if column.startswith(CLASS) and value > 0:
            label = LABEL_OF.get(column.removeprefix(CLASS).lower(), ObjectClassification.UNKNOWN)
            probabilities[label] = probabilities.get(label, 0.0) + float(value)
    ordered = sorted(probabilities.items(), key=lambda one: -one[1]) or [(ObjectClassification.UNKNOWN, 1.0)]
    return [ObjectClassification(label=label, probability=min(value, 1.0)) for label, value in ordered]


def twist(state: Columns) -> TwistWithCovariance:
    """Velocity along the object's own axes, and about the upright one."""
    sine, cosine = np.sin(state["yaw"]), np.cos(state["yaw"])
    turn = np.array([[cosine, sine], [-sine, cosine]])
    along, across = turn @ [state["vx"], state["vy"]]
    measured = [
        [state["variance_vx_vx"], state["variance_vx_vy"]],
        [state["variance_vx_vy"], state["variance_vy_vy"]],
    ]
    covariance = _unknown()
    covariance[np.ix_(LINEAR, LINEAR)] = turn @ measured @ turn.T
    found = TwistWithCovariance(covariance=covariance.ravel())
    found.twist.linear.x, found.twist.linear.y = float(along), float(across)
    found.twist.angular.z = float(state["turn_rate"])
    return found


def orientation_availability(state: Columns, thresholds: Thresholds) -> int:
    if state["variance_yaw_yaw"] > thresholds.yaw**2:
        return int(TrackedObjectKinematics.UNAVAILABLE)
    fast = np.hypot(state["vx"], state["vy"]) > thresholds.speed
    if fast or state["facing"] >= thresholds.facing:
        return int(TrackedObjectKinematics.AVAILABLE)
    return int(TrackedObjectKinematics.SIGN_UNKNOWN)


def _unknown() -> Floats:
    """(6, 6) covariance of which nothing is known."""
    return UNKNOWN * np.eye(6)
