"""Configuration of the filter in space. The only source of its defaults."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from camtrack_core.config import Parameters
from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.boxes import Floats
from pkf_filter.filtering.config import Correction
from pkf_filter.life import config as life
from pkf_filter.life.classes import confusion_matrix

EVERYWHERE = 1e6  # metres, the range of a sensor that sees everything


class ClassGroup(Parameters):
    """Classes that move alike and that a detector may take for one another. Deviations are of one axis.

    `measured` ones hold for a detector of noise 1; a sensor multiplies them by its own.
    """

    names: tuple[str, ...] = Field((), description="class names, in lower case")
    motion: Literal["constant velocity", "coordinated turn", "interacting"] = Field(
        "constant velocity",
        description="whether the velocity keeps its direction, turns at an estimated rate, or does so and rests",
    )
    dwell: float = Field(20.0, gt=0, description="mean time until a rest begins or ends, of interacting motions, s")
    measured_position: float = Field(0.12, gt=0, description="measured centre on the ground, m")
    measured_height: float = Field(0.1, gt=0, description="measured height of the centre, m")
    measured_yaw: float = Field(0.1, gt=0, description="measured yaw, rad")
    measured_size: float = Field(0.08, gt=0, description="measured length, width and height, in their own values")
    acceleration: float = Field(2.0, ge=0, description="on the ground, white, m / s^1.5")
    climb: float = Field(0.3, ge=0, description="drift of the height, m / s^0.5")
    yaw_drift: float = Field(0.3, ge=0, description="drift of the yaw beyond the turn, rad / s^0.5")
    turn_acceleration: float = Field(0.5, ge=0, description="of the yaw, white, rad / s^1.5")
    size_drift: float = Field(0.02, ge=0, description="drift of the size, in its own value / s^0.5")
    speed: float = Field(10.0, gt=0, description="of a new track, along each axis, m / s")
    turn_rate: float = Field(0.3, gt=0, description="of a new track, rad / s")


VEHICLE = ClassGroup(
    names=("car", "van", "truck", "bus", "trailer", "vehicle", "others", "construction_vehicle"),
    motion="interacting",
)
CYCLE = ClassGroup(
    names=("bicycle", "motorcycle", "cyclist", "motorcyclist", "rider"),
    motion="coordinated turn",
    measured_yaw=0.15,
    acceleration=1.5,
    speed=5.0,
)
PEDESTRIAN = ClassGroup(
    names=("pedestrian", "person", "person_sitting"),
    measured_position=0.1,
    measured_yaw=0.4,
    measured_size=0.1,
    acceleration=0.8,
    yaw_drift=1.0,
    speed=2.0,
)


class SensorModel(Parameters):
    """How well a sensor sees."""

    noise: float = Field(1.0, gt=0, description="factor on the measured deviations of every class")
    depth_noise: float = Field(0.0, ge=0, description="further deviation along the line of sight, in the distance")
    velocity_noise: float = Field(2.0, gt=0, description="measured velocity, along each axis, m / s")
    pixel_noise: float = Field(0.05, gt=0, description="measured sides of a box in an image, in its width and height")
    pitch_deviation: float = Field(
        0.0,
        ge=0,
        lt=10,
        description="of a camera's pitch over flat ground, degrees, with which its boxes start tracks where they stand "
        "on the ground; 0: they start none",
    )
    occlusion: life.Occlusion = 0.95
    miss_time: float = Field(
        0.2,
        gt=0,
        description="mean time for which an object that is missed goes on being missed, s: misses come in runs",
    )
    range: float = Field(EVERYWHERE, gt=0, description="distance up to which it sees, m")
    field_of_view: float = Field(
        360.0, gt=0, le=360, description="angle that it sees about its x axis, or an optical frame's z axis, degrees"
    )
    detection_probability: life.DetectionProbability = 0.9
    detection_slope: life.DetectionSlope = 0.0
    clutter_density: float = Field(1e-3, gt=0, description="false detections of even score per m^2 of ground")
    clutter_boxes: float = Field(1.0, gt=0, description="false detections of even score in an image")
    score_offset: life.ScoreOffset = 0.5
    score_slope: life.ScoreSlope = 1.0
    confusion_classes: tuple[str, ...] = Field((), description="class names of `confusion`, in its order")
    confusion: tuple[float, ...] = Field(
        (),
        description="probability of each detected class (columns) given the true one (rows), row by row; empty: "
        "world.class_mismatch and world.group_mismatch hold",
    )

    @model_validator(mode="after")
    def _is_matrix(self) -> SensorModel:
        try:
            confusion_matrix(self.confusion_classes, self.confusion)
        except ConfigurationError as error:
            raise ValueError(f"confusion: {error}") from None
        return self


class WorldConfig(Correction):
    """What a WorldTracker can be told, besides its sensors."""

    vehicle: ClassGroup = Field(VEHICLE, description="vehicles on four wheels and more")
    cycle: ClassGroup = Field(CYCLE, description="vehicles on two wheels")
    pedestrian: ClassGroup = Field(PEDESTRIAN, description="persons")
    other: ClassGroup = Field(ClassGroup(), description="every class that no other group names")

    gate_distance: life.GateDistance = 5.0
    class_mismatch: life.ClassMismatch = 0.2
    association_time: life.AssociationTime = 0.0
    group_mismatch: float = Field(0.02, gt=0, le=1, description="factor on the likelihood of classes of two groups")
    shape_mismatch: float = Field(
        0.02, gt=0, lt=1, description="share of detections whose yaw and size say nothing about their object"
    )
    same_object: float = Field(
        0.5, gt=0, le=1, description="share of the smaller outline, from above, that two boxes of one object share"
    )
    merge_time: float = Field(0.5, gt=0, description="seconds of such overlap after which two tracks become one")
    birth_existence: life.BirthExistence = 0.3
    min_birth: life.MinBirth = 0.03
    half_life: life.HalfLife = 5.0
    confirmation: life.Confirmation = 0.7
    coasting_score: float = Field(
        0.6, ge=0, le=1, description="score from which a confirmed track is published while it is not measured"
    )
    deletion: life.Deletion = 0.03
    max_silence: life.MaxSilence = 4.0
    score_half_life: float = Field(0.058, gt=0, description="seconds after which half of a track's old score is left")
    max_lag: life.MaxLag = 0.3

    def old_share(self, dt: Floats) -> Floats:
        """Share at most of the old scores in the new ones dt seconds later, of any shape."""
        return np.asarray(2.0 ** (-dt / self.score_half_life))

    def groups(self) -> tuple[ClassGroup, ...]:
        """All groups; the last one takes every class that the others do not name."""
        return self.vehicle, self.cycle, self.pedestrian, self.other

    def group_of(self, name: str) -> int:
        """Index into `groups` of a class name."""
        groups = self.groups()
        return next((i for i, group in enumerate(groups) if name.lower() in group.names), len(groups) - 1)
