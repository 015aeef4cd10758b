"""Files that tools of a ROS host read: analyzers of diagnostics, the layout of RViz. No ROS is needed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import yaml

from camtrack_core.datasets.drive import RIG

ROOT = Path(__file__).parents[2]


def test_every_node_that_a_launch_file_starts_has_one_analyzer() -> None:
    started = {
        node.attrib["name"] for file in (ROOT / "launch").glob("*.launch.xml") for node in ET.parse(file).iter("node")
    }
    told = yaml.safe_load((ROOT / "config" / "diagnostics.yaml").read_text())["analyzers"]["ros__parameters"]
    analyzers = [value for value in told.values() if isinstance(value, dict)]
    assert len(started) >= 6
    for name in started:
        assert sum(any(word in f"/front/{name}" for word in each["contains"]) for each in analyzers) == 1, name


def test_rviz_shows_every_camera_of_the_drive_and_what_is_fused() -> None:
    """As the nodes publish them: a reliable subscriber would never hear a best-effort image."""
    layout = yaml.safe_load((ROOT / "rviz" / "cameras.rviz").read_text())
    topics = [d["Topic"] for d in layout["Visualization Manager"]["Displays"] if "Topic" in d]
    offered = {topic["Value"]: topic["Reliability Policy"] for topic in topics}
    images = {f"/{camera}/time3d_tracker/image": "Best Effort" for camera in RIG}
    assert offered == {**images, "/pkf_filter/markers": "Reliable"}
