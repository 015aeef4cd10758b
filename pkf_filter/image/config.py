"""Configuration of the image-plane filter. The only source of its defaults.

Times, rates and sizes relative to the box mean the same for any frame rate and any resolution. The defaults suit cars
from a moving vehicle at 10 Hz and pedestrians from a fixed camera at 25 Hz alike; benchmarks/pkf_tracking.py has the
scores.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from camtrack_core.config import Parameters
from pkf_filter.filtering.update import Spread


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
    """What a detection and its score say; in logarithms of odds, log(p / (1 - p))."""

    probability: float = Field(0.98, gt=0, lt=1, description="of detection at most, of a visible object")
    detection_slope: float = Field(0.5, ge=0, description="of the detection's log odds over the track's score")
    detection_offset: float = Field(0.3, description="of the detection's log odds at score 0.5")
    truth_slope: float = Field(0.8, ge=0, description="of the log odds that a detection is true, over its score")
    truth_offset: float = Field(-2.6, description="of the log odds that a detection of score 0.5 is true")
    clutter_density: float = Field(
        0.03, gt=0, description="of false detections as likely false as true, per centre in sides^2 and log shape"
    )


class Visibility(Parameters):
    """Objects become hidden, and visible again, for some time: misses come in runs."""

    visible_time: float = Field(3.0, gt=0, description="mean time for which a visible object stays so, seconds")
    hidden_time: float = Field(0.5, gt=0, description="mean time for which a hidden object stays so, seconds")
    occlusion: float = Field(0.9, ge=0, lt=1, description="share of detections lost behind a box that covers all")


class Correction(Parameters):
    """How measurements of uncertain origin correct tracks, in the image as in space."""

    identities: Literal["averaged", "resolved"] = Field(
        "averaged", description="whose a measurement is: averaged over all events (the paper), or that of the likeliest"
    )
    spread: Spread = Field(
        "means",
        description="what is added to the covariance: nothing (the paper), the spread of the measurements, or that of "
        "a mixture of corrected and predicted states",
    )


class FilterConfig(Correction):
    """What a Tracker can be told."""

    noise: ImagePlaneNoise = Field(ImagePlaneNoise(), description="of motion and measurement")
    detector: Detector = Field(Detector(), description="how detections come about")
    visibility: Visibility = Field(Visibility(), description="of objects that exist")

    gate_iou: float = Field(0.03, gt=0, lt=1, description="pairs below this IoU are impossible")
    gate_distance: float = Field(5.0, gt=0, description="pairs above this Mahalanobis distance are impossible")
    class_mismatch: float = Field(0.2, gt=0, le=1, description="factor on the likelihood of a pair of two classes")

    birth_density: float = Field(0.01, gt=0, description="of new objects a frame, in units of the clutter density")
    birth_iou: float = Field(0.5, gt=0, le=1, description="no birth from a measurement that overlaps a track more")
    min_birth: float = Field(0.05, gt=0, lt=1, description="existence from which a measurement starts a track")
    half_life: float = Field(5.0, gt=0, description="time in which half of the objects leave, seconds")
    confirmation: float = Field(0.6, gt=0, lt=1, description="existence from which a track is shown")
    deletion: float = Field(0.02, gt=0, lt=1, description="existence below which a track ends")
    merge_iou: float = Field(
        0.7,
        gt=0,
        le=1,
        description="an unmeasured track that overlaps a longer one more ends; of new boxes that do one starts a track",
    )
    merge_hits: int = Field(10, ge=0, description="measurements after which a track is never a second one of an object")
    max_silence: float = Field(2.0, gt=0, description="seconds without measurement after which a track ends")
    hold: float = Field(0.05, ge=0, description="seconds without measurement during which a track is still shown")

    score_memory: float = Field(0.7, ge=0, lt=1, description="share of the old score in the new one")
    measured_share: float = Field(0.5, ge=0, le=1, description="of the measured box in the shown one")
    max_lag: float = Field(0.5, ge=0, description="how late measurements may come, seconds")
