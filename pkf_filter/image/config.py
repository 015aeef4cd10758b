"""Configuration of the image-plane filter. The only source of its defaults.

Times, rates and sizes relative to the box mean the same for any frame rate and any resolution. The defaults suit cars
from a moving vehicle at 10 Hz and pedestrians from a fixed camera at 25 Hz alike; benchmarks/pkf_tracking.py has the
scores.
"""

from __future__ import annotations

from pydantic import Field

from camtrack_core.config import Parameters
from pkf_filter.filtering.config import Correction
from pkf_filter.life import config as life


class ImagePlaneNoise(Parameters):
    """Standard deviations, relative to the box: its side is the square root of its area."""

    centre: float = Field(0.05, gt=0, description="measured centre, in sides")
    area: float = Field(0.15, gt=0, description="measured area, relative")
    aspect: float = Field(0.12, gt=0, description="measured width over height, relative")
    tails: float = Field(
        8.0, gt=0, description="degrees of freedom of the measurement's t distribution; many are a Gaussian"
    )
    acceleration: float = Field(1.0, ge=0, description="of the centre, white, in sides / s^1.5")
    area_acceleration: float = Field(0.8, ge=0, description="of the logarithm of the area, white, in 1 / s^1.5")
    aspect_drift: float = Field(0.15, ge=0, description="of width over height, relative, in 1 / s^0.5")
    speed: float = Field(1.4, gt=0, description="of the centre of a new track, in sides / s")
    area_rate: float = Field(1.0, gt=0, description="of the area of a new track, relative, in 1 / s")
    adaptation: float = Field(
        1.0, ge=0, description="share of a track's squared correction that adds to its covariance, as a manoeuvre"
    )


class Detector(Parameters):
    """What a detection and its score say."""

    detection_probability: life.DetectionProbability = 0.8729
    detection_slope: life.DetectionSlope = 0.5
    score_offset: life.ScoreOffset = 0.9627
    score_slope: life.ScoreSlope = 0.8
    clutter_density: float = Field(
        0.03, gt=0, description="of false detections of even score, per centre in sides^2 and log shape"
    )
    occlusion: life.Occlusion = 0.9


class Visibility(Parameters):
    """Objects become hidden, and visible again, for some time: misses come in runs."""

    visible_time: float = Field(3.0, gt=0, description="mean time for which a visible object stays so, seconds")
    hidden_time: float = Field(0.5, gt=0, description="mean time for which a hidden object stays so, seconds")


class FilterConfig(Correction):
    """What a Tracker can be told."""

    noise: ImagePlaneNoise = Field(ImagePlaneNoise(), description="of motion and measurement")
    detector: Detector = Field(Detector(), description="how detections come about")
    visibility: Visibility = Field(Visibility(), description="of objects that exist")

    gate_iou: float = Field(0.03, gt=0, lt=1, description="pairs below this IoU are impossible")
    gate_distance: life.GateDistance = 5.0
    class_mismatch: life.ClassMismatch = 0.2
    association_time: life.AssociationTime = 0.0

    birth_existence: life.BirthExistence = 0.25
    birth_iou: float = Field(0.5, gt=0, le=1, description="no birth from a measurement that overlaps a track more")
    min_birth: life.MinBirth = 0.05
    half_life: life.HalfLife = 5.0
    confirmation: life.Confirmation = 0.6
    deletion: life.Deletion = 0.02
    merge_iou: float = Field(
        0.7,
        gt=0,
        le=1,
        description="an unmeasured track that overlaps a longer one more ends; of new boxes that do one starts a track",
    )
    merge_hits: int = Field(10, ge=0, description="measurements after which a track is never a second one of an object")
    max_silence: life.MaxSilence = 2.0
    hold: float = Field(0.05, ge=0, description="seconds without measurement during which a track is still shown")

    score_memory: life.ScoreMemory = 0.7
    measured_share: float = Field(0.5, ge=0, le=1, description="of the measured box in the shown one")
    max_lag: life.MaxLag = 0.5
