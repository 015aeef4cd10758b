"""Inference sessions: one small Protocol over ONNX Runtime and OpenVINO."""

from camtrack_core.runtime.session import Device, Precision, Session, expect_names, open_session

__all__ = ["Device", "Precision", "Session", "expect_names", "open_session"]
