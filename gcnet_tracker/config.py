"""Configuration of GCNet: the network, its training and the tracker. The only source of their defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from camtrack_core.config import Parameters
from camtrack_core.training.config import TrainingParameters

STRIDE = 8  # of the feature map F (paper Sec. 3.1)
SLOTS = 128  # stored tracks and candidates that one exported graph follows
PEAKS = 128  # detections that one exported graph returns
# Share of what a frame shows in what a track remembers after it; in the paper's listing all of it.
REFRESHED = 0.25
# Names in an exported graph.
INPUTS = ("image", "queries", "values")
OUTPUTS = (
    "boxes", "scores", "class_ids", "new_queries", "new_values",
    "track_boxes", "track_confidences", "track_queries", "track_values",
)  # fmt: skip
RESIDENT = ("new_queries", "new_values", "track_queries", "track_values")  # outputs that only later frames need


class NetworkConfig(Parameters):
    """What a checkpoint states about itself; W ties the parameters to the input size.

    The ablation of the paper's Table 1: `gate="none"`, `local="none"` (no V), `position="explicit"`.
    """

    backbone: Literal["resnet18", "resnet34", "resnet50", "efficientnet_lite0", "yolox_nano"] = "resnet50"
    class_names: tuple[str, ...] = ("car", "truck", "bus", "pedestrian", "cyclist")
    height: int = Field(512, gt=0, le=4096, description="input height, pixels")
    width: int = Field(896, gt=0, le=4096, description="input width, pixels")
    channels: int = Field(256, gt=0, multiple_of=4, description="c of F, Q, K and V")
    correlation_channels: int = Field(256, gt=2, description="c' of the correlation vectors; attention has none")
    correlation: Literal["attention", "places", "linear"] = Field(
        "attention", description="readout of the correlation: what tracks, W with rows of places, Eq. 2 as printed"
    )
    candidates: int = Field(576, gt=0, description="most confident cells that a query is compared with; linear: all")
    gate: Literal["confidence", "none"] = "confidence"
    local: Literal["value", "none"] = "value"
    position: Literal["circular", "explicit"] = "circular"

    @field_validator("height", "width")
    @classmethod
    def _fits_strides(cls, value: int) -> int:
        if value % 32:
            raise ValueError(f"expected a multiple of 32 pixels, got {value}")
        return value

    @model_validator(mode="after")
    def _has_a_size(self) -> NetworkConfig:
        if self.correlation == "attention" and self.local == "none":
            raise ValueError("expected correlation linear or places with local none: attention needs V for sizes")
        return self

    @property
    def map_size(self) -> tuple[int, int]:
        """h', w' of the feature map."""
        return self.height // STRIDE, self.width // STRIDE


class TrackerConfig(Parameters):
    """Hyperparameters of Algorithm 1."""

    track_threshold: float = Field(0.5, gt=0, le=1, description="p1: confidence that starts a track")
    keep_threshold: float = Field(0.4, gt=0, le=1, description="p2: confidence that keeps a track or candidate")
    overlap_threshold: float = Field(0.5, gt=0, le=1, description="p3: IoU above which a detection belongs to a track")
    merge_threshold: float = Field(0.6, gt=0, le=1, description="IoU above which the younger of two tracks ends")
    max_confidence: float = Field(1.5, gt=0, description="cap of a track's confidence (trust margin)")


class TrainingConfig(TrainingParameters):
    """Training of both stages (paper Sec. 3.2)."""

    batch_size: int = Field(8, ge=2, description="images a step and process; in stage 2 half as many pairs")
    detection_steps: int = Field(20000, ge=0, description="steps of stage 1, detection alone")
    tracking_steps: int = Field(20000, ge=0, description="steps of stage 2, detection and tracking")
    backbone_rate: float = Field(0.1, gt=0, le=1, description="share of the rate that a pretrained backbone gets")
    head_steps: int = Field(0, ge=0, description="steps of stage 3, all but the backbone, on its maps of fixed pairs")
    head_pairs: int = Field(500, ge=2, description="pairs whose maps stage 3 keeps in memory")
    max_gap: float = Field(1.0, gt=0, description="seconds between the two images of a pair, at most")
    box_weight: float = Field(1.0, gt=0, description="weight of the CIoU losses (Eq. 12: 0.1)")
    teacher_weight: float = Field(0.5, ge=0, description="weight of the distance from the labelling detectors' scores")
    matching_weight: float = Field(0.5, ge=0, description="weight of the cross entropy of the matching")
    hidden: float = Field(0.25, ge=0, lt=1, description="share of present objects whose place is masked out")
