"""Messages with bytes changed, cut out and repeated at random: read, or refused with a sentence of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from std_msgs.msg import Header

from camtrack_core.errors import CamtrackError, DataError
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.tracks import Tracks3D
from camtrack_core.ros.messages import cdr, cdr3d
from camtrack_core.ros.messages import detections3d as messages3d

HEADER = Header(stamp=Time(sec=12, nanosec=34), frame_id="camera")
XYXY = np.array([[1.0, 2, 30, 40], [5, 6, 7, 8]])


def tracks_3d() -> bytes:
    boxes = Boxes3D(np.ones((2, 3)), np.full((2, 3), 2.0), np.zeros(2), np.zeros((2, 3)))
    ids, zeros = np.array([3, 4]), np.zeros(2, np.int64)
    tracks = Tracks3D(ids, boxes, np.tile(np.eye(4), (2, 1, 1)), np.full(2, 0.9), zeros, np.zeros(2), np.zeros((2, 3)))
    return bytes(messages3d.pack_tracks(tracks, ("car",), HEADER))


READ: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "Detection2DArray": (cdr.unpack, cdr.pack(HEADER, ["1", "2"], ["car", "bus"], np.array([0.9, 0.8]), XYXY)),
    "Detection3DArray": (cdr3d.unpack_detections, tracks_3d()),
    "MultiDOFJointTrajectory": (cdr3d.unpack_velocities, tracks_3d()),
}


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\1\0", b"\0\0\0\0", b"\0\0\0\0\xff\xff"])
@pytest.mark.parametrize("name", READ)
def test_bytes_that_the_middleware_cannot_read_either_are_refused(name: str, data: bytes) -> None:
    """Among them big-endian ones and what is shorter than the four bytes that tell."""
    with pytest.raises(DataError, match=f"expected a serialised {name}, got {len(data)} bytes"):
        READ[name][0](data)


@pytest.mark.parametrize("name", READ)
@given(data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_read_of_mutated_bytes_is_sound_or_refused(name: str, data: st.DataObject) -> None:
    read, whole = READ[name]
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at, end = sorted(data.draw(st.tuples(*[st.integers(4, len(content))] * 2)))
        content[at:end] = data.draw(st.sampled_from([b"", bytes(content[at:end]) * 2, b"\xff" * 4, b"\0\0\0\x80"]))
        if len(content) < 5:
            break
    try:
        found = read(bytes(content))
    except CamtrackError as error:
        assert str(error)
        return
    if isinstance(found, tuple):
        assert all(len(velocity) == 3 for velocity in found[1].values())
    else:
        assert len(found.ids) == len(found.names) == len(found.scores) <= cdr.MOST_DETECTIONS
