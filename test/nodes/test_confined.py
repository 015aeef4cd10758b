"""Files that parameters name once a node runs stay below the root that it was started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from data_helpers import write_images
from rclpy.parameter import Parameter
from ros_helpers import Graph, opened_graph

from camtrack.nodes.recorder import RecorderNode
from camtrack.nodes.replay import ReplayNode


def node(graph: Graph, kind: Any, **parameters: Any) -> Any:
    """Unconfigured, as a lifecycle manager has it."""
    return graph.add(kind(**graph.options({"autostart": False, **parameters})))


def change(node: Any, name: str, value: object) -> str:
    """Why a change was refused; empty where it was not."""
    (result,) = node.set_parameters([Parameter(name, value=str(value))])
    return "" if result.successful else result.reason


def test_a_recorder_writes_below_the_folder_that_it_was_started_with(tmp_path: Path) -> None:
    with opened_graph() as graph:
        recorder = node(graph, RecorderNode, folder=str(tmp_path / "runs"))
        assert not change(recorder, "folder", tmp_path / "runs/today")
        for other in (tmp_path, tmp_path / "runs/../secret", "/etc", tmp_path / "runs-2"):
            assert f"expected what lies below {tmp_path}/runs, got" in change(recorder, "folder", other)
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs/link").symlink_to("/etc")
        assert "expected what lies below" in change(recorder, "folder", tmp_path / "runs/link/x")
        assert "read at the start only" in change(recorder, "root", "/")
        assert recorder.get_parameter("folder").value == str(tmp_path / "runs/today")


def test_a_root_may_be_wider(tmp_path: Path) -> None:
    with opened_graph() as graph:
        recorder = node(graph, RecorderNode, folder=str(tmp_path / "runs"), root=str(tmp_path))
        assert not change(recorder, "folder", tmp_path / "elsewhere")
        assert "expected what lies below" in change(recorder, "folder", tmp_path.parent)


@pytest.mark.parametrize("labels", ["", ":labels.txt"])
def test_a_replay_reads_below_the_source_that_it_was_started_with(tmp_path: Path, labels: str) -> None:
    write_images(tmp_path / "data/a", ["1.png"])
    with opened_graph() as graph:
        replay = node(graph, ReplayNode, source=str(tmp_path / "data"))
        assert not change(replay, "source", f"{tmp_path}/data/a")
        assert not change(replay, "source", "drive:7?frames=3")
        for other in (f"/etc/passwd{labels}", f"{tmp_path}/data/../secret.mp4{labels}", f"/data/x?sequence=1{labels}"):
            assert "expected what lies below" in change(replay, "source", other)
        assert "expected what lies below" in change(replay, "source", f"{tmp_path}/data/a.mp4:/etc/shadow")
