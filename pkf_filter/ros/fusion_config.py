"""Parameters of the fusion of several sensors, and how those of each named sensor become a part of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, create_model

from camtrack_core.config import Names, P, Parameters, StampParameters
from camtrack_core.errors import ConfigurationError
from pkf_filter.space.config import SensorModel, WorldConfig


class SensorParameters(SensorModel):
    """One sensor: where its detections come from and how well it sees."""

    kind: Literal["boxes_3d", "boxes_2d"] = Field("boxes_3d", description="Detection3DArray or Detection2DArray")
    topic: str = Field("", description="of the detections; empty for NAME/tracks")
    velocities: str = Field(
        "", description="topic with the velocities of boxes_3d (MultiDOFJointTrajectory); empty: none come"
    )
    camera_info: str = Field("", description="topic of the calibration, for boxes_2d; empty for NAME/camera_info")
    covariance_factor: float = Field(
        1.0,
        ge=0,
        description="on the covariances that detections of boxes_3d state; 0: they do not count",
    )
    group: str = Field(
        "",
        description="sensors of one group share their stamps, like detectors of the same images: what they say of a "
        "stamp is taken together, in the order of `sensors`, once all of them have answered or are silent",
    )
    timeout: float = Field(
        2.0, gt=0, description="silent after so long without detections, seconds; a slower sensor has three periods"
    )


class SensorNames(Parameters):
    """What decides on the other parameters."""

    sensors: tuple[str, ...] = Field(
        (), description="names of the sensors to fuse; each has parameters NAME.kind, NAME.topic, ... of its own"
    )

    cameras: Names = Field(
        (), description="namespaces of cameras that have all `sensors` each; their topics are relative to it"
    )


class FusionParameters(SensorNames, StampParameters):
    """What the fusion node can be told besides its sensors; without sensors it tracks in the image plane."""

    fixed_frame: str = Field("map", description="frame of tracks in space; image tracks keep the camera's frame")
    ground_frame: str = Field(
        "base_link",
        description="frame whose origin lies on the ground, for boxes_2d with a pitch_deviation above 0",
    )
    world: WorldConfig = Field(WorldConfig(), description="of the filter in space")
    publish_rate: float = Field(0.0, ge=0, le=1000, description="Hz; 0: after measurements, see publish_after")
    publish_after: tuple[str, ...] = Field(
        (),
        description="publish when measurements of all these sensors, of all cameras, have come since the last time; "
        "silent ones are not waited for; empty: after every measurement",
    )
    compensate_latency: bool = Field(
        False,
        description="tracks that are published after measurements are predicted to that time, which is their stamp",
    )
    rectified: bool = Field(
        False, description="boxes_2d refer to rectified images: take the intrinsics from P of camera_info and ignore D"
    )
    transform_timeout: float = Field(0.2, ge=0, description="how long detections wait for their transform, seconds")
    history: float = Field(2.0, ge=0, description="of ~/trajectories before the stamp, seconds")
    horizon: float = Field(3.0, ge=0, description="of ~/trajectories after the stamp, seconds")
    trajectory_step: float = Field(0.5, ge=0.001, description="between two points of ~/trajectories, seconds")


def with_sensors(model: type[P], names: Sequence[str]) -> type[P]:
    """The parameter model with a group of parameters for each sensor.

    Raises:
        ConfigurationError: a name is no identifier, occurs twice or is a parameter already.
    """
    for name in names:
        if not name.isidentifier() or name.startswith("_") or name.startswith("model_"):
            raise ConfigurationError(f"parameter 'sensors': expected names of letters and digits, got '{name}'")
        if name in model.model_fields or names.count(name) > 1:
            raise ConfigurationError(f"parameter 'sensors': expected names that nothing else has, got '{name}'")
    fields: dict[str, Any] = {
        name: (SensorParameters, Field(SensorParameters(), description="a sensor")) for name in names
    }
    return create_model(model.__name__, __base__=model, **fields)
