"""Configuration of the image-plane filter. The only source of its defaults."""

from __future__ import annotations

from pydantic import Field

from camtrack_core.config import Parameters


class FilterConfig(Parameters):
    """What a Tracker can be told. Noises are variances; a reference frame lasts 1 / reference_rate seconds."""

    reference_rate: float = Field(25.0, gt=0, description="frames a second that the noises are given for")
    alpha: float = Field(2.0, gt=0, description="likelihood of a pair: exp(-alpha / IoU)")
    gate_iou: float = Field(0.1, gt=0, lt=1, description="pairs below this IoU are impossible")
    break_even_iou: float = Field(
        0.25, gt=0, lt=1, description="IoU at which a pair is as likely as a clutter and a missed detection"
    )
    detection_probability: float = Field(0.9, gt=0, lt=1, description="of an object that exists")
    class_mismatch: float = Field(0.2, gt=0, le=1, description="factor on the likelihood of a pair of two classes")
    birth_weight: float = Field(
        0.5, gt=0, le=1, description="clutter probability of a measurement from which it starts a track"
    )
    birth_iou: float = Field(0.3, gt=0, le=1, description="no birth from a measurement that overlaps a track more")
    confirmation_hits: int = Field(2, ge=1, description="measured frames until a track is shown")
    max_silence: float = Field(1.0, gt=0, description="seconds without measurement after which a track ends")
    hold: float = Field(0.1, ge=0, description="seconds without measurement during which a track is still shown")
    score_memory: float = Field(0.5, ge=0, lt=1, description="share of the old score in the new one")
    spread: float = Field(0.0, ge=0, le=1, description="share of the spread of means in the update's covariance")
    measurement_noise: tuple[float, float, float, float] = (1.0, 1.0, 10.0, 10.0)
    process_noise: tuple[float, float, float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 0.01, 0.01, 1e-4)
    initial_noise: tuple[float, float, float, float, float, float, float] = (10.0, 10.0, 10.0, 10.0, 1e4, 1e4, 1e4)
