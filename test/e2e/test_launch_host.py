"""The launch file under the real launch system; only on hosts that have it."""

from __future__ import annotations

from pathlib import Path

import pytest

LAUNCH_FILE = Path(__file__).parents[2] / "launch/tracking.launch.xml"


@pytest.fixture(autouse=True)
def ros_host() -> None:
    for package in ("launch_testing", "launch_ros", "launch_xml"):
        pytest.importorskip(package)


def run(**arguments: str) -> int:
    """Exit code of the launch file with these arguments."""
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import AnyLaunchDescriptionSource

    import launch

    service = launch.LaunchService()
    source = AnyLaunchDescriptionSource(str(LAUNCH_FILE))
    service.include_launch_description(
        launch.LaunchDescription([IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))])
    )
    return service.run()


def test_the_launch_file_can_be_read():
    from launch.frontend import Parser

    root, parser = Parser.load(str(LAUNCH_FILE))
    description = parser.parse_description(root)
    names = {argument.name for argument in description.get_launch_arguments()}
    assert {"image", "namespace", "model", "device", "source", "record"} <= names


def test_a_recording_is_tracked_and_recorded(tmp_path):
    import cv2
    import numpy as np

    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(20):
        cv2.imwrite(str(frames / f"{index}.png"), np.full((180, 320, 3), 8 * index, np.uint8))
    assert run(source=str(frames), record=str(tmp_path / "out")) == 0
    assert (tmp_path / "out/tracks.mp4").stat().st_size > 0
