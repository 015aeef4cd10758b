"""Inference sessions: one small Protocol over ONNX Runtime and OpenVINO."""

from camtrack_core.runtime.session import Device, Session, open_session

__all__ = ["Device", "Session", "open_session"]
