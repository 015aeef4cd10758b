"""SROS 2's policy is made of what the nodes do."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from data_helpers import write_images
from ros_helpers import opened_graph

from camtrack.nodes.policy import policy, rights_of, write_policy
from camtrack.nodes.recorder import RecorderNode
from camtrack.nodes.replay import ReplayNode
from camtrack_core.errors import DataError


def allowed(text: str, node: str, kind: str, act: str) -> set[str]:
    profiles = [p for p in ElementTree.fromstring(text).iter("profile") if p.get("node") == node]
    (profile,) = profiles
    return {name.text or "" for group in profile.findall(kind) if group.get(act) == "ALLOW" for name in group}


def test_each_node_may_do_what_it_does(tmp_path: Path) -> None:
    write_images(tmp_path / "f", ["1.png", "2.png"])
    with opened_graph() as graph:
        peer = graph.peer("observer")
        graph.start(ReplayNode, source=str(tmp_path / "f"), publish_clock=True)
        graph.start(RecorderNode, folder=str(tmp_path / "out"))
        graph.spin_until(lambda: {"replay", "recorder"} <= {node.name for node in rights_of(peer)})
        # Processes that were killed are known on this domain for a while.
        text = policy([node for node in rights_of(peer) if node.name in ("replay", "recorder")])
    paths = [enclave.get("path") for enclave in ElementTree.fromstring(text).iter("enclave")]
    assert paths == ["/recorder", "/replay"]
    sent = allowed(text, "replay", "topics", "publish")
    assert {"/image", "/camera_info", "/clock", "/replay/finished", "/diagnostics"} <= sent
    assert {"/image", "/tracks"} <= allowed(text, "recorder", "topics", "subscribe")
    assert "/image" not in allowed(text, "recorder", "topics", "publish")
    assert "/recorder/change_state" in allowed(text, "recorder", "services", "reply")


def test_without_nodes_there_is_no_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "101")  # no other test's
    with pytest.raises(DataError, match="expected running nodes on this ROS domain, found none within"):
        write_policy(tmp_path / "policy.xml", 0.2)
    assert not (tmp_path / "policy.xml").exists()
    (tmp_path / "policy.xml").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        write_policy(tmp_path / "policy.xml", 0.2)
