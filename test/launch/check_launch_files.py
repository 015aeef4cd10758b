"""Every launch file by launch_testing, on a ROS host: launch_test test/launch/check_launch_files.py"""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

import launch_testing.actions
import launch_testing.asserts
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

from launch import LaunchDescription

sys.path.append(str(Path(__file__).parents[1]))
from launch_helpers import DRIVES, LAUNCH
from ros_helpers import opened_graph


@launch_testing.parametrize("file", sorted(DRIVES))
def generate_test_description(file: str) -> LaunchDescription:
    arguments = {"device": "onnxruntime", **DRIVES[file][0]}
    source = AnyLaunchDescriptionSource(str(LAUNCH / file))
    included = IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))
    return LaunchDescription([included, launch_testing.actions.ReadyToTest()])


class ImagesBecomeTracks(unittest.TestCase):
    def test_drive(self, file: str) -> None:
        with opened_graph() as graph:
            DRIVES[file][1](graph)


@launch_testing.post_shutdown_test()
class NodesEndCleanly(unittest.TestCase):
    def test_exit_codes(self, proc_info: object) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
