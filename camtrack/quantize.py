"""`camtrack engine quantize`: an int8 graph, calibrated on what a tracker asks the network about real frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.frames import Sequence as Recording
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError, ModelError
from camtrack_core.networks.int8 import write_int8
from camtrack_core.runtime import Session, open_session
from camtrack_core.runtime.base import Input, joined
from camtrack_core.runtime.graphs import cast_first, read_graph
from gcnet_tracker.tracker import GCNetModel
from gcnet_tracker.tracker import Tracker as ImageTracker
from time3d_tracker.level import camera_height
from time3d_tracker.model import Time3DModel
from time3d_tracker.tracker import Tracker as SpaceTracker

STEP = 4  # frames of a recording from one that is looked at to the next


class Asked:
    """A session that keeps what it is asked."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.inputs: list[dict[str, NDArray]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, inputs: Mapping[str, Input]) -> dict[str, Any]:
        whole = joined(inputs, self._session.input_shapes)
        self.inputs.append({name: np.array(value) for name, value in whole.items()})
        return self._session.run(inputs)


def quantize(model: Path, out: Path, sources: Sequence[str], frames: int) -> int:
    """Writes a float32 graph in int8; returns how many frames it was calibrated on.

    Raises:
        ModelError: the graph is none of this project's, or not in float32.
        DataError: a source without frames, or for Time3D without a camera.
    """
    graph = read_graph(model)
    kind, precision = graph.metadata.get("camtrack_model"), graph.metadata.get("precision", "float32")
    if precision != "float32" or kind not in ("gcnet", "time3d"):
        raise ModelError(f"{model}: expected an exported GCNet or Time3D in float32, got {kind} in {precision}")
    track = _track_in_image if kind == "gcnet" else _track_in_space
    inputs = [asked for source in sources for asked in track(model, open_source(source), frames)]
    write_int8(cast_first(graph.model), out, inputs)
    return len(inputs)


def _track_in_image(path: Path, recording: Recording, frames: int) -> list[dict[str, NDArray]]:
    model = GCNetModel(path, "onnxruntime", opened=_asked)
    tracker = ImageTracker(model)
    for frame in islice(recording, 0, STEP * frames, STEP):
        tracker.step(frame.image)
    return _inputs(model.session, recording)


def _track_in_space(path: Path, recording: Recording, frames: int) -> list[dict[str, NDArray]]:
    model = Time3DModel(path, "onnxruntime", opened=_asked)
    tracker = SpaceTracker(model)
    for frame in islice(recording, 0, STEP * frames, STEP):
        if frame.camera is None:
            raise DataError(f"{recording.name}: expected a recording with a camera's calibration, got none")
        camera, height = frame.camera.intrinsics, camera_height(frame)
        tracker.step(frame.image, frame.time_ns, camera, frame.camera_pose, height)
    return _inputs(model.session, recording)


def _asked(*arguments: Any) -> Any:
    return Asked(open_session(*arguments))


def _inputs(session: Any, recording: Recording) -> list[dict[str, NDArray]]:
    inputs: list[dict[str, NDArray]] = session.inputs
    if not inputs:
        raise DataError(f"{recording.name}: expected at least one frame, found none")
    return inputs
