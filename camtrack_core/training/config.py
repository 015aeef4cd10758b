"""What every training can be told. Each network's own configuration adds to it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from camtrack_core.config import Parameters


class TrainingParameters(Parameters):
    """The run loop's parameters."""

    seed: int = 0
    batch_size: int = Field(8, ge=1, description="samples a step and process")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW's peak rate; one warm-up, one cosine down to zero")
    warm_up: int = Field(100, ge=0, description="steps to the peak rate, at most a tenth of all")
    backbone_rate: float = Field(1.0, gt=0, le=1, description="share of the rate that a pretrained backbone gets")
    weight_decay: float = Field(0.01, ge=0, description="of weights; biases and normalisations have none")
    averaging: float = Field(0.999, ge=0, lt=1, description="decay a step of the weights' moving average, the result")
    frozen: Literal["none", "early", "all"] = Field(
        "none", description="stages of a backbone that stay as they are, statistics too; early ones cost most to train"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="of products and convolutions; auto takes bfloat16 where the processor has it"
    )
    workers: int = Field(1, ge=0, description="processes that load data")
    checkpoint_every: int = Field(200, gt=0, description="steps between checkpoints")
