"""Every launch file by launch_pytest, as packages on a ROS host test theirs; where it is missing these are skipped."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from launch_helpers import DRIVES, LAUNCH
from ros_helpers import opened_graph

if find_spec("launch_pytest") is None:

    @pytest.mark.skip(reason="needs launch_pytest, of a ROS installation")
    def test_launch_files() -> None:
        """There is nothing to run them with."""

else:
    import launch_pytest
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import AnyLaunchDescriptionSource
    from launch_pytest.actions import ReadyToTest

    from launch import LaunchDescription

    @launch_pytest.fixture(params=sorted(DRIVES))
    def description(request: Any) -> LaunchDescription:
        arguments = {"device": "onnxruntime", **DRIVES[request.param][0]}
        source = AnyLaunchDescriptionSource(str(LAUNCH / request.param))
        included = IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))
        return LaunchDescription([included, ReadyToTest()])

    @pytest.mark.launch(fixture=description)
    def test_launch_files(request: Any) -> None:
        _, drive = DRIVES[request.node.callspec.params["description"]]
        with opened_graph() as graph:
            drive(graph)
