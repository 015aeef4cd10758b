"""Inference sessions: one small Protocol over ONNX Runtime and OpenVINO."""

from camtrack_core.runtime.session import Device, Session, expect_names, open_session

__all__ = ["Device", "Session", "expect_names", "open_session"]
