"""The GCNet node with the demo weights: real messages in, tracks out, bad input counted and the node still up."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.serialization import serialize_message
from ros_helpers import Diagnostics, collect, has_done_with, image_message, opened_graph
from sensor_msgs.msg import Image
from tensorrt_helpers import install
from vision_msgs.msg import Detection2DArray

from camtrack_core.datasets.sources import open_source
from camtrack_core.numbers import IdNumbers
from camtrack_core.ros.lifecycle.qos import RESULTS, SENSOR_DATA
from camtrack_core.ros.messages import detections2d as messages
from camtrack_core.ros.messages.cdr import unpack
from camtrack_core.ros.messages.image import fill_image, to_bgr
from camtrack_core.ros.messages.stamps import fill_stamp
from camtrack_core.runtime import session as session_module
from gcnet_tracker.node import GCNetNode
from gcnet_tracker.tracker import DEMO_MODEL, GCNetModel, Tracker

SECOND = 1_000_000_000


def picture(time_ns: int, seed: int) -> Image:
    """A smooth random image: it decides nothing, but what is found in it must be found twice."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), np.uint8)
    import cv2

    message = fill_image(Image(), cv2.resize(small, (320, 180), interpolation=cv2.INTER_CUBIC))
    fill_stamp(message.header.stamp, time_ns)
    message.header.frame_id = "front"
    return message


def test_node_publishes_what_the_tracker_says_with_the_image_stamp() -> None:
    tracker = Tracker(GCNetModel(threads=1))
    with opened_graph() as graph:
        node = graph.start(GCNetNode, threads=1)
        peer = graph.peer()
        camera = peer.create_publisher(Image, "image", SENSOR_DATA)
        heard = collect(peer, Detection2DArray, "gcnet_tracker/tracks", RESULTS)
        graph.spin_until(lambda: camera.get_subscription_count())
        for index in range(3):
            message = picture(SECOND * (index + 1), seed=3)
            camera.publish(message)
            graph.spin_until(lambda n=index: len(heard) > n)
            expected = tracker.step(to_bgr(message))
            got = messages.to_tracks(unpack(serialize_message(heard[index])), node._names, IdNumbers())
            assert heard[index].header == message.header
            assert np.array_equal(got.ids, expected.ids)
            assert np.allclose(got.xyxy, expected.xyxy, atol=1e-3)


def test_bad_images_are_counted_and_the_node_stays_up() -> None:
    with opened_graph() as graph:
        node = graph.start(GCNetNode, threads=1)
        peer = graph.peer()
        diagnostics = Diagnostics(peer)
        camera = peer.create_publisher(Image, "image", SENSOR_DATA)
        heard = collect(peer, Detection2DArray, "gcnet_tracker/tracks", RESULTS)
        graph.spin_until(lambda: camera.get_subscription_count())
        truncated = picture(SECOND, 0)
        truncated.data = truncated.data[:100]
        unknown = picture(2 * SECOND, 0)
        unknown.encoding = "64FC7"
        for number, message in enumerate((truncated, unknown, image_message(0), picture(4 * SECOND, 0)), start=1):
            camera.publish(message)
            graph.spin_until(lambda n=number: has_done_with(node, n))
        graph.spin_until(lambda: heard)
        assert heard[0].header.stamp.sec == 4 and len(heard) == 1
        graph.spin_until(lambda: diagnostics.latest().count("drops.") == 3)


def test_time_going_backwards_starts_afresh() -> None:
    with opened_graph() as graph:
        node = graph.start(GCNetNode, threads=1)
        peer = graph.peer()
        diagnostics = Diagnostics(peer)
        camera = peer.create_publisher(Image, "image", SENSOR_DATA)
        graph.spin_until(lambda: camera.get_subscription_count())
        resets = []
        node._tracker.reset = lambda: resets.append(True)
        for number, seconds in enumerate((50, 51, 1, 2, 3), start=1):
            camera.publish(picture(seconds * SECOND, 0))
            graph.spin_until(lambda n=number: has_done_with(node, n))
        assert resets == [True]
        graph.spin_until(lambda: diagnostics.says("went backwards"))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"model": "/nowhere/model.onnx"}, "expected a model file, found none"),
        ({"device": "toaster"}, "device"),
        ({"track_threshold": 1.5}, "track_threshold"),
        ({"image_timeout": -1.0}, "image_timeout"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict, sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    with opened_graph() as graph:
        node = graph.add(GCNetNode(**graph.options(parameters)))
        assert not node.start()
    assert sentence in capfd.readouterr().err


@pytest.mark.parametrize("replace", ["rewritten", "renamed", "removed"])
def test_a_model_that_is_replaced_is_told_and_taken_when_the_node_is_configured_anew(
    tmp_path: Path, replace: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.onnx"
    shutil.copy(DEMO_MODEL, model)
    with opened_graph() as graph:
        node = graph.start(GCNetNode, threads=1, model=str(model))
        peer = graph.peer()
        diagnostics = Diagnostics(peer)
        camera = peer.create_publisher(Image, "image", SENSOR_DATA)
        heard = collect(peer, Detection2DArray, "gcnet_tracker/tracks", RESULTS)
        graph.spin_until(lambda: camera.get_subscription_count())
        graph.spin_until(lambda: diagnostics.says("model=model.onnx"))
        assert not diagnostics.says("not the model any more")
        if replace == "rewritten":  # in the middle of it, as a copy that is under way
            model.write_bytes(DEMO_MODEL.read_bytes()[:1000])
        elif replace == "renamed":
            (tmp_path / "other.onnx").write_bytes(b"none")
            (tmp_path / "other.onnx").rename(model)
        else:
            model.unlink()
        graph.spin_until(lambda: diagnostics.says(f"{model} is not the model any more that was loaded"))
        camera.publish(picture(SECOND, 0))
        graph.spin_until(lambda: heard)
        assert node.trigger_deactivate() == node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE  # what is there now is no model
        assert str(model) in capfd.readouterr().err
        shutil.copy(DEMO_MODEL, model)
        assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        graph.spin_until(lambda: "not the model any more" not in diagnostics.latest())


def test_another_device_serves_until_the_engine_is_built_and_then_tensorrt_goes_on_with_the_tracks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Over the stand-in of TensorRT; the process that builds takes until the third frame is tracked."""
    built = tmp_path / "built"
    build = f"import os, time\nwhile not os.path.exists({str(built)!r}): time.sleep(.02)"
    monkeypatch.setenv("CAMTRACK_ENGINES", str(tmp_path / "engines"))
    monkeypatch.setattr(session_module, "build_command", lambda *_: [sys.executable, "-c", build])
    library = install(monkeypatch)
    tracker, kept = Tracker(GCNetModel(device="onnxruntime")), 0
    with opened_graph() as graph:
        node = graph.start(GCNetNode, device="tensorrt", precision="f32", threads=1)
        peer = graph.peer()
        diagnostics = Diagnostics(peer)
        camera = peer.create_publisher(Image, "image", SENSOR_DATA)
        heard = collect(peer, Detection2DArray, "gcnet_tracker/tracks", RESULTS)
        graph.spin_until(lambda: camera.get_subscription_count())
        for number, frame in enumerate(open_source("drive:9001?frames=6&frame_rate=5")):
            if number == 3:
                graph.spin_until(lambda: "TensorRT has been building its engine for" in diagnostics.latest())
                assert "engine=OpenVINO" in diagnostics.latest()
                built.touch()
                node._tracker.model.session.wait()
            message = fill_image(Image(), frame.image)
            fill_stamp(message.header.stamp, frame.time_ns + SECOND)
            camera.publish(message)
            graph.spin_until(lambda n=number: len(heard) > n)
            expected = tracker.step(frame.image)
            got = messages.to_tracks(unpack(serialize_message(heard[number])), node._names, IdNumbers())
            assert np.array_equal(got.ids, expected.ids)
            assert np.allclose(got.xyxy, expected.xyxy, atol=0.05)
            kept += len(expected) if number > 3 else 0
        graph.spin_until(lambda: "engine=TensorRT" in diagnostics.latest())
        assert "building" not in diagnostics.latest()
    assert kept > 8 and library.builds == 1
