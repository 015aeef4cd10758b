"""Configuration of the image-plane filter. The only source of its defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from camtrack_core.config import Parameters


class ImagePlaneNoise(Parameters):
    """Standard deviations, relative to the box: its side is the square root of its area.

    The defaults suit cars from a moving vehicle at 10 Hz and pedestrians from a fixed camera at 25 Hz alike; see
    benchmarks/pkf_tracking.py.
    """

    centre: float = Field(0.05, gt=0, description="measured centre, in sides")
    area: float = Field(0.12, gt=0, description="measured area, in areas")
    aspect: float = Field(0.1, gt=0, description="measured width over height, in its own value")
    acceleration: float = Field(1.0, ge=0, description="of the centre, white, in sides / s^1.5")
    area_acceleration: float = Field(1.6, ge=0, description="of the area, white, in areas / s^1.5")
    aspect_drift: float = Field(0.06, ge=0, description="of width over height, in its own value / s^0.5")
    speed: float = Field(1.7, gt=0, description="of the centre of a new track, in sides / s")
    area_rate: float = Field(1.7, gt=0, description="of the area of a new track, in areas / s")


class FilterConfig(Parameters):
    """What a Tracker can be told."""

    noise: ImagePlaneNoise = Field(ImagePlaneNoise(), description="of motion and measurement")
    detection_probability: float = Field(0.9, gt=0, lt=1, description="of an object that exists")
    clutter_density: float = Field(
        1e-2, gt=0, description="false detections per unit of (centre in sides)^2, log area and log aspect ratio"
    )
    gate_iou: float = Field(0.1, gt=0, lt=1, description="pairs below this IoU are impossible")
    gate_distance: float = Field(5.0, gt=0, description="pairs above this Mahalanobis distance are impossible")
    class_mismatch: float = Field(0.2, gt=0, le=1, description="factor on the likelihood of a pair of two classes")
    spread: Literal["none", "means"] = Field(
        "none", description="what is added to the covariance: nothing (the paper), or the spread of the measurements"
    )
    birth_probability: float = Field(
        0.5, gt=0, le=1, description="clutter probability from which a measurement starts a track"
    )
    birth_iou: float = Field(0.5, gt=0, le=1, description="no birth from a measurement that overlaps a track more")
    confirmation_hits: int = Field(2, ge=1, description="measured frames until a track is shown")
    tentative_silence: float = Field(
        0.05, ge=0, description="seconds without measurement after which an unconfirmed track ends"
    )
    max_silence: float = Field(1.0, gt=0, description="seconds without measurement after which a track ends")
    hold: float = Field(0.0, ge=0, description="seconds without measurement during which a track is still shown")
    score_memory: float = Field(0.5, ge=0, lt=1, description="share of the old score in the new one")
