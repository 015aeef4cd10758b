"""Inference sessions: one small Protocol over TensorRT, ONNX Runtime and OpenVINO."""

from camtrack_core.runtime.base import (
    MOST_FRAMES,
    Device,
    Input,
    Precision,
    Session,
    Stored,
    answering,
    expect_answer,
    expect_classes,
    expect_names,
    expect_sizes,
    stated_names,
)
from camtrack_core.runtime.session import open_serving_session, open_session

__all__ = [
    "MOST_FRAMES",
    "Device",
    "Input",
    "Precision",
    "Session",
    "Stored",
    "answering",
    "expect_answer",
    "expect_classes",
    "expect_names",
    "expect_sizes",
    "open_serving_session",
    "open_session",
    "stated_names",
]
