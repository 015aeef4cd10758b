"""Configuration of Time3D: the network, its training and the tracker. The only source of their defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from camtrack_core.config import Parameters
from camtrack_core.geometry.boxes import MOTIONS
from camtrack_core.training.augmentation import VIEW_SCALES
from camtrack_core.training.config import TrainingParameters

MEMORY = 5  # past frames that the temporal flow looks at (paper Sec. 4.2)
KEYPOINTS = 9  # eight corners and the centre
ATTRIBUTES = MOTIONS  # people and riders use the first two
Cue = Literal["class", "box2d", "box3d", "direct2d", "direct3d", "reid"]
# Names in an exported graph.
INPUTS = ("image", "projection", "height", "pitch_deviation", "past_features", "past_centres", "past_valid", "elapsed",
          "motion")  # fmt: skip
OUTPUTS = ("scores", "class_ids", "boxes2d", "centres", "sizes", "yaws", "usable", "deviations", "reid", "features",
           "association", "velocities", "attributes")  # fmt: skip
RESIDENT = ("reid", "features")  # outputs that the host has no use for

# Class means (length, width, height) in metres, from which dimensions are predicted as logarithmic residuals.
CLASS_SIZES = {
    "car": (4.5, 1.85, 1.6),
    "truck": (8.0, 2.5, 3.2),
    "bus": (11.5, 2.7, 3.3),
    "pedestrian": (0.65, 0.6, 1.7),
    "cyclist": (1.8, 0.65, 1.7),
}


class NetworkConfig(Parameters):
    """What a checkpoint states about itself.

    The defaults are the paper's sizes. Its Table 2 is `cues`, its Table 4 is `flow`: "none" replaces attention by
    MLPs of as many layers, "spatial" only that of the temporal flow.
    """

    backbone: Literal["dla34", "resnet18", "resnet34", "resnet50", "efficientnet_lite0", "yolox_nano"] = "dla34"
    stride: Literal[4, 8] = Field(4, description="of the feature map, pixels; DLA-34 has 4")
    upsampling: Literal["plain", "deformable"] = Field(
        "plain", description="convolutions of DLA-34's upsampling path; deformable ones are published, and slower"
    )
    class_names: tuple[str, ...] = ("car", "truck", "bus", "pedestrian", "cyclist")
    class_sizes: tuple[tuple[float, float, float], ...] = Field(
        tuple(CLASS_SIZES.values()), description="mean length, width, height of each class, metres"
    )
    height: int = Field(448, gt=0, le=4096, description="input height, pixels")
    width: int = Field(800, gt=0, le=4096, description="input width, pixels")
    channels: int = Field(64, gt=0, description="of the feature map")
    head_channels: int = Field(256, gt=0, description="hidden channels of each head")
    slots: int = Field(128, gt=0, description="K: objects kept of a frame")
    reid_channels: int = Field(256, gt=0, description="of the Re-ID embedding")
    embedding: int = Field(256, gt=0, description="d of F, the embedding of an object")
    attention_heads: int = Field(8, gt=0)
    spatial_layers: int = Field(3, gt=0)
    temporal_layers: int = Field(4, ge=2)
    cues: tuple[Cue, ...] = ("class", "box2d", "box3d", "reid")
    flow: Literal["spatial+temporal", "spatial", "none"] = "spatial+temporal"
    depth: Literal["keypoints", "keypoints+regressed", "keypoints+regressed+ground"] = Field(
        "keypoints+regressed+ground", description="what position is solved from; the paper has key points alone"
    )
    virtual_focal: float = Field(
        550.0,
        gt=0,
        description="focal length, pixels of the input, at which depths stay as the cues say: as in training",
    )
    focal_powers: tuple[float, float, float] = Field(
        (0.0, 0.0, 0.0),
        description="of focal length / virtual_focal, by which what key points, regression and ground say of depth is "
        "too large; `camtrack time3d calibrate` measures them",
    )
    deviation_scale: float = Field(
        1.0, gt=0, description="of the joined depth's deviation, measured by `calibrate` as well"
    )
    disagreement: float = Field(
        0.0, ge=0, description="by which the joined depth's variance grows where the cues disagree, likewise"
    )

    @field_validator("height", "width")
    @classmethod
    def _fits_strides(cls, value: int) -> int:
        if value % 32:
            raise ValueError(f"expected a multiple of 32 pixels, got {value}")
        return value

    @field_validator("cues")
    @classmethod
    def _some_cue(cls, value: tuple[Cue, ...]) -> tuple[Cue, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError(f"expected one or more different cues, got {value}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> NetworkConfig:
        if len(self.class_sizes) != len(self.class_names):
            expected, got = len(self.class_names), len(self.class_sizes)
            raise ValueError(f"expected a size for each of {expected} classes, got {got}")
        if min(x for size in self.class_sizes for x in size) <= 0:
            raise ValueError(f"expected positive sizes, got {self.class_sizes}")
        if self.embedding % self.attention_heads:
            raise ValueError(f"expected embedding divisible by {self.attention_heads} heads, got {self.embedding}")
        if self.backbone == "dla34" and self.stride != 4:
            raise ValueError(f"expected stride 4 with dla34, got {self.stride}")
        if self.backbone != "dla34" and self.upsampling != "plain":
            raise ValueError(f"expected plain upsampling with {self.backbone}, got {self.upsampling}")
        if self.slots > self.map_size[0] * self.map_size[1]:
            raise ValueError(f"expected at most {self.map_size[0] * self.map_size[1]} slots, got {self.slots}")
        return self

    @property
    def map_size(self) -> tuple[int, int]:
        """h', w' of the feature map."""
        return self.height // self.stride, self.width // self.stride


class TrackerConfig(Parameters):
    """Association over the exported graph (paper Sec. 3.5)."""

    detection_threshold: float = Field(0.15, gt=0, le=1, description="score of an object that is associated")
    birth_threshold: float = Field(0.3, gt=0, le=1, description="score of an object that may start a track")
    affinity_threshold: float = Field(0.2, gt=0, le=1, description="mean affinity that continues a track")
    pitch_deviation: float = Field(
        0.3, ge=0, description="degrees by which the camera's stated pitch over the road may be wrong (deviation)"
    )
    memory_spacing: float = Field(
        0.35, ge=0, description="seconds between remembered frames; the newest is always remembered"
    )
    memory_span: float = Field(3.0, gt=0, description="seconds after which a sighting is forgotten")


class TrainingConfig(TrainingParameters):
    """Training (paper Sec. 3.4 and 4.2)."""

    batch_size: int = Field(8, ge=1, description="clips a step and process")
    groundless: float = Field(0.15, ge=0, le=1, description="share of clips whose camera height is withheld")
    stated_pitch: float = Field(0.3, ge=0, description="degrees, deviation of the stated pitch from the true one")
    stated_height: float = Field(0.05, ge=0, description="metres, of the stated height over the ground, likewise")
    stated_focal: float = Field(0.01, ge=0, description="share, of the stated focal length, likewise")
    turned_pitch: float = Field(1.5, ge=0, description="degrees by which pictures are turned up or down (deviation)")
    turned_roll: float = Field(1.0, ge=0, description="degrees by which pictures are turned about the view, likewise")
    statistics: Literal["trained", "kept"] = Field(
        "trained",
        description="of batch normalisation; a short fine-tuning on mixed sources is better off with kept ones",
    )
    clip_frames: int = Field(2, ge=2, le=MEMORY + 1, description="frames of a clip; the paper trains pairs")
    view_scales: tuple[float, float] = Field(
        VIEW_SCALES, description="smallest and largest scale of a training view, in shares of the fitting one"
    )
    max_gap: int = Field(8, ge=1, description="frames of the recording between two frames of a clip, at most")
    steps: int = Field(40000, gt=0)
    learning_rate: float = Field(1.25e-4, gt=0, description="AdamW's peak rate; one warm-up, one cosine down to zero")
    coupling: Literal["end_to_end", "separate"] = Field(
        "end_to_end", description="separate: the flow's losses do not reach the detector (Table 1)"
    )
    tracking_weight: float = Field(1.0, ge=0, description="of Eq. 6 in Eq. 8")
    consistency_weight: float = Field(1.0, ge=0, description="of Eq. 7 in Eq. 8")
    reid_weight: float = Field(0.5, ge=0, description="of the identity loss")
    motion_weight: float = Field(1.0, ge=0, description="of velocity and attribute")

    @field_validator("view_scales")
    @classmethod
    def _ascending_scales(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError(f"expected two scales above 0, the smaller one first, got {value}")
        return value
