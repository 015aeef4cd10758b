"""Several cameras of GCNet in one process: one session, which takes what has come together, and for each its tracks."""

from __future__ import annotations

from pathlib import Path

import pytest
from ros_helpers import SECOND, collect, image_message, opened_graph
from scripted_helpers import OneBox
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA
from camtrack_core.ros.messages.stamps import to_nanoseconds
from gcnet_tracker import node as node_module


def test_images_go_through_the_network_together_and_none_waits_for_a_camera_that_is_silent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[OneBox] = []
    monkeypatch.setattr(node_module, "GCNetModel", lambda *_: made.append(OneBox()) or made[-1])
    model, apart = tmp_path / "two.onnx", SECOND // 200  # the rear camera is not triggered with the front one
    model.touch()
    with opened_graph() as graph:
        peer = graph.peer()
        images = {name: peer.create_publisher(Image, f"{name}/image", SENSOR_DATA) for name in ("front", "rear")}
        heard = {name: collect(peer, Detection2DArray, f"{name}/gcnet_tracker/tracks", RESULTS) for name in images}
        for name in images:
            options = graph.options({"model": str(model), "batch_timeout": 0.5})
            assert graph.add(node_module.GCNetNode(namespace=name, **options)).start()
        graph.spin_until(lambda: all(camera.get_subscription_count() for camera in images.values()))
        graph.spin_until(lambda: all(peer.count_publishers(f"{name}/gcnet_tracker/tracks") for name in images))
        made[0].batches.clear()  # of the warm-up
        for second in (1, 2, 3, 4):
            images["front"].publish(image_message(second * SECOND, height=96, width=160))
            if second < 3:  # then it stops, and the front camera's images wait for it in vain
                images["rear"].publish(image_message(second * SECOND + apart, height=96, width=160))
            graph.spin_until(lambda n=second: len(heard["front"]) == n and len(heard["rear"]) == min(n, 2))
        times = {name: [to_nanoseconds(m.header.stamp) for m in messages] for name, messages in heard.items()}
        assert times["front"] == [second * SECOND for second in (1, 2, 3, 4)]
        assert times["rear"] == [second * SECOND + apart for second in (1, 2)]
        for messages in heard.values():
            assert [len(m.detections) for m in messages] == [1] * len(messages)
            assert len({m.detections[0].id for m in messages}) == 1
    assert len(made) == 1 and made[0].batches == [2, 2, 1, 1]


def test_a_fast_camera_leaves_a_slow_one_its_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the fast one's images those that were not seen are its own drops."""
    monkeypatch.setattr(node_module, "GCNetModel", lambda *_: OneBox())
    model = tmp_path / "share.onnx"
    model.touch()
    with opened_graph() as graph:
        peer = graph.peer()
        images = {name: peer.create_publisher(Image, f"{name}/image", SENSOR_DATA) for name in ("fast", "slow")}
        nodes = {}
        for name in images:
            options = graph.options({"model": str(model), "batch_timeout": 0.0})
            nodes[name] = graph.add(node_module.GCNetNode(namespace=name, **options))
            assert nodes[name].start()
        graph.spin_until(lambda: all(camera.get_subscription_count() for camera in images.values()))
        monitors = {name: node.monitor for name, node in nodes.items()}
        images["fast"].publish(image_message(SECOND, height=96, width=160))
        graph.spin_until(lambda: monitors["fast"].processed == 1)
        for second in range(2, 12):  # all are there before the process looks at any; the queue holds the newest three
            images["fast"].publish(image_message(second * SECOND, height=96, width=160))
        images["slow"].publish(image_message(11 * SECOND, height=96, width=160))
        graph.spin_until(lambda: monitors["fast"].processed == 4 and monitors["slow"].processed == 1)
        graph.spin_until(lambda: monitors["fast"].drops.get("overwritten unseen") == 7)
        assert not monitors["slow"].drops
