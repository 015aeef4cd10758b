"""What Time3D's node takes for a camera."""

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="needs the ROS client library")

from sensor_msgs.msg import CameraInfo

from camtrack_core.errors import ConfigurationError
from time3d_tracker.node import read_camera

K = [500.0, 0, 320, 0, 510, 180, 0, 0, 1]


def test_a_rectified_camera_is_read() -> None:
    camera = read_camera(CameraInfo(height=360, width=640, k=K, d=[0.0] * 5, distortion_model="plumb_bob"))
    np.testing.assert_array_equal(camera.intrinsics, np.array(K).reshape(3, 3))
    assert (camera.height, camera.width) == (360, 640)


@pytest.mark.parametrize(("k", "d", "sentence"), [
    ([0.0] * 9, [], "positive focal lengths"),
    ([float("nan"), *K[1:]], [], "positive focal lengths"),
    (K, [0.1, 0, 0, 0, 0], "rectified images"),
    (K, [float("nan")], "rectified images"),
])  # fmt: skip
def test_other_cameras_are_refused_with_a_sentence(k: list[float], d: list[float], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        read_camera(CameraInfo(height=360, width=640, k=k, d=d, distortion_model="plumb_bob"))
