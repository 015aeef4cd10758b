"""What a bag says of its camera: regions, binning, rectified images, names of frames, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import CAMERA, Trip
from rosbags.rosbag2 import Writer

from camtrack.bags.write import BagOptions, _Topics, bag_messages, write_bag
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.rosbag.bag import BagSequence
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.geometry.camera import Camera

K = CAMERA.intrinsics  # of images of 64 x 48


def bag_with(folder: Path, change: Callable[[str, Any], None], image_topic: str = "/left/image") -> Path:
    """A bag of a trip whose messages were changed."""
    with Writer(folder, version=9) as writer:
        topics = _Topics(writer)
        for step in bag_messages({"left": Trip(count=2)}, BagOptions()):
            for topic, time_ns, message in step:
                change(topic, message)
                topics.write(image_topic if topic == "/left/image" else topic, time_ns, message)
    return folder


def with_info(**fields: Any) -> Callable[[str, Any], None]:
    def change(topic: str, message: Any) -> None:
        if topic.endswith("camera_info"):
            for name, value in fields.items():
                owner = message.roi if name.startswith("roi_") else message
                setattr(owner, name.removeprefix("roi_"), value)

    return change


def first(source: Path | str) -> Frame:
    return next(iter(open_source(str(source))))


def camera_of(source: Path | str) -> Camera:
    camera = first(source).camera
    assert camera is not None
    return camera


REGION = {"height": 96, "width": 128, "roi_x_offset": 10, "roi_y_offset": 20, "roi_width": 64, "roi_height": 48}


def test_a_region_of_interest_moves_the_principal_point(tmp_path: Path) -> None:
    camera = camera_of(bag_with(tmp_path / "roi", with_info(**REGION)))
    assert (camera.width, camera.height) == (64, 48)
    np.testing.assert_allclose(camera.intrinsics, K - [[0, 0, 10], [0, 0, 20], [0, 0, 0]])


def test_binning_divides_the_intrinsics(tmp_path: Path) -> None:
    fields = {"height": 96, "width": 192, "binning_x": 3, "binning_y": 2}
    camera = camera_of(bag_with(tmp_path / "bins", with_info(**fields)))
    assert (camera.width, camera.height) == (64, 48)
    np.testing.assert_allclose(camera.intrinsics, np.diag([1 / 3, 1 / 2, 1]) @ K)


def test_a_region_is_cut_before_it_is_binned(tmp_path: Path) -> None:
    """A point of the scene lies in the small image where the cut and binned large one has it."""
    fields = {**REGION, "height": 200, "width": 300, "roi_width": 128, "roi_height": 96, "binning_x": 2, "binning_y": 2}
    camera = camera_of(bag_with(tmp_path / "both", with_info(**fields)))
    point = np.array([[0.3, -0.2, 4.0]])
    np.testing.assert_allclose(camera.project(point), (CAMERA.project(point) - [10, 20]) / 2)


def test_an_image_of_another_size_than_its_camera_is_refused(tmp_path: Path) -> None:
    bag = bag_with(tmp_path / "small", with_info(height=96, width=128))
    words = "image 1 of /left/image: expected an image of 128x96 by its camera_info, got 64x48"
    with pytest.raises(DataError, match=words):
        first(bag)
    with pytest.raises(DataError, match=words):
        write_bag({"camera": BagSequence(bag)}, tmp_path / "copy", BagOptions())


RECTIFIED = {"p": np.array([40.0, 0, 31, 0, 0, 41, 23, 0, 0, 0, 1, 0]), "d": np.array([-0.3, 0.1, 0, 0, 0])}


def test_rectified_images_have_the_intrinsics_in_p(tmp_path: Path) -> None:
    named = bag_with(tmp_path / "named", with_info(**RECTIFIED), "/left/image_rect_color")
    said = bag_with(tmp_path / "said", with_info(**RECTIFIED))
    for source in (str(named), f"{said}?rectified=true"):
        np.testing.assert_allclose(camera_of(source).intrinsics, [[40, 0, 31], [0, 41, 23], [0, 0, 1]])
    with pytest.raises(ConfigurationError, match="expected rectified=true or rectified=false, got rectified=maybe"):
        open_source(f"{said}?rectified=maybe")


def test_distorted_images_have_no_pinhole_camera(tmp_path: Path) -> None:
    """They are tracked in the image; what needs the camera refuses them."""
    bag = bag_with(tmp_path / "raw", with_info(**RECTIFIED))
    frame = first(bag)
    assert frame.camera is None
    words = r"expected rectified images, got a camera_info with plumb_bob \[-0.3, .*\?rectified=true"
    with pytest.raises(DataError, match=words):
        frame.calibrated()
    with pytest.raises(DataError, match=words):
        write_bag({"camera": BagSequence(bag)}, tmp_path / "copy", BagOptions())


def test_frames_may_begin_with_a_slash(tmp_path: Path) -> None:
    def slash(topic: str, message: Any) -> None:
        stamped = message.transforms if topic.startswith("/tf") else [message]
        for one in stamped:
            one.header.frame_id = f"/{one.header.frame_id}"
            if topic.startswith("/tf"):
                one.child_frame_id = f"/{one.child_frame_id}"

    found, plain = first(bag_with(tmp_path / "slash", slash)), next(iter(Trip()))
    assert found.camera_pose is not None and found.ego_pose is not None and plain.camera_pose is not None
    np.testing.assert_allclose(found.camera_pose.translation, plain.camera_pose.translation, atol=1e-9)
    np.testing.assert_allclose(found.camera_pose.rotation, plain.camera_pose.rotation, atol=1e-9)
