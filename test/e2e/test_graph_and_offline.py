"""The ROS graph and the offline run are one method: the same frames give the same tracks."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command_helpers import camtrack_process
from ros_helpers import collect, opened_graph, parameters_of
from trajectory_msgs.msg import MultiDOFJointTrajectory
from vision_msgs.msg import Detection2DArray, Detection3DArray

from camtrack.nodes.replay import ReplayNode
from camtrack.offline.methods import Engine, Run, moved
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.ros.lifecycle.qos import RESULTS
from camtrack_core.ros.messages.stamps import to_nanoseconds
from gcnet_tracker.node import GCNetNode
from gcnet_tracker.tracker import DEMO_MODEL
from pkf_filter.ros.node import PkfNode
from time3d_tracker.model import DEMO_MODEL as TIME3D_MODEL
from time3d_tracker.node import Time3DNode
from time3d_tracker.tracker import Result


@pytest.mark.slow
@pytest.mark.skipif(not DEMO_MODEL.exists(), reason="the demo weights are not here")
def test_the_nodes_and_the_offline_run_give_the_same_tracks(data_root: Path, tmp_path: Path) -> None:
    """Nine real images through replay, gcnet_tracker, pkf_filter and recorder, and through `track --method stack`."""
    source = tmp_path / "images"
    source.mkdir()
    for frame in open_source(str(data_root / "uadetrac/Insight-MVT_Annotation_Train/MVI_20011")):
        cv2.imwrite(str(source / f"{frame.time_ns:019d}.png"), cv2.resize(frame.image, (480, 270)))
    arguments = ["--input", str(source), "--out", str(tmp_path / "out"), "--rate", "0", "--device", "onnxruntime"]
    done = camtrack_process("demo", *arguments, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/tracks.jsonl").read_text().splitlines()]
    recorded = {line["time_ns"]: line["tracks"] for line in lines}

    # Images travel as a camera's do, best effort: on a busy machine one may get lost, and no node has seen it.
    frames = [frame for frame in open_source(str(source)) if frame.time_ns in recorded]
    assert len(frames) == len(recorded) >= 4, (tmp_path / "out/log.txt").read_text()
    count = 0
    tracked = Engine(Run("stack", DEMO_MODEL, "onnxruntime")).tracks(Seen(frames))
    for frame, tracks in zip(frames, tracked, strict=True):
        found = recorded[frame.time_ns]
        assert isinstance(tracks, Tracks2D) and [t["id"] for t in found] == tracks.ids.tolist()
        xyxy = np.array([t["xyxy"] for t in found], float).reshape(-1, 4)
        np.testing.assert_allclose(xyxy, tracks.xyxy, atol=1e-3)  # centre and size on the way
        np.testing.assert_allclose([t["score"] for t in found], tracks.scores, atol=1e-6)
        count += len(found)
    assert count > 10


ENGINE = {"device": "onnxruntime", "threads": 1}
PATIENT = {"transform_timeout": 15.0}
CONFIG = Path(__file__).resolve().parents[2] / "config"
FUSION = Run("fusion", TIME3D_MODEL, "onnxruntime", image_model=DEMO_MODEL)


class Seen(list[Frame]):
    """Frames as a recording."""

    name = "seen"
    class_names: tuple[str, ...] = ()


def by_stamp(messages: list[Any]) -> dict[int, Any]:
    return {to_nanoseconds(message.header.stamp): message for message in messages}


def play(
    source: str, seconds: float, nodes: dict[type[Any], dict[str, Any]], kind: type[Any]
) -> tuple[dict[int, Any], dict[int, Any]]:
    """What the last of some nodes says of a recording that the replay node plays to them: results and velocities by
    stamp."""
    with opened_graph() as graph:
        for node, parameters in nodes.items():
            tracker = graph.start(node, **parameters)
        results = tracker.resolve_topic_name("~/tracks")
        peer = graph.peer()
        heard = collect(peer, kind, results, RESULTS)
        velocities = collect(peer, MultiDOFJointTrajectory, tracker.resolve_topic_name("~/velocities"), RESULTS)
        graph.spin_until(lambda: peer.count_publishers(results))
        played = {"rate": 0.0, "publish_tf": True, "result_type": kind.__name__, "result_timeout": 15.0}
        options = graph.options({"source": source, "duration": seconds, **played})
        replay = graph.add(ReplayNode(cli_args=["--ros-args", "-r", f"results:={results}"], **options))
        assert replay.start()
        while replay.exit_code is None:
            done = replay.monitor.processed
            graph.spin_until(lambda n=done: replay.monitor.processed > n or replay.exit_code is not None)
        assert replay.exit_code == 0
        return by_stamp(heard), by_stamp(velocities)


@pytest.mark.skipif(not DEMO_MODEL.exists(), reason="the demo weights are not here")
def test_gcnet_alone(data_root: Path) -> None:
    """Nine real images through replay and gcnet_tracker, and through `track --method gcnet`."""
    source = str(data_root / "uadetrac/Insight-MVT_Annotation_Train/MVI_20011")
    heard, _ = play(source, 9.0, {GCNetNode: ENGINE}, Detection2DArray)
    frames = [frame for frame in open_source(source) if frame.time_ns in heard]
    assert len(frames) == len(heard) >= 6
    engine, count = Engine(Run("gcnet", DEMO_MODEL, "onnxruntime"), 1), 0
    names = engine.class_names
    for frame, tracks in zip(frames, engine.tracks(Seen(frames)), strict=True):
        assert isinstance(tracks, Tracks2D)
        found = heard[frame.time_ns].detections
        assert [int(d.id) for d in found] == tracks.ids.tolist()
        assert [d.results[0].hypothesis.class_id for d in found] == [names[i] for i in tracks.class_ids]
        x, y = ([getattr(d.bbox.center.position, axis) for d in found] for axis in "xy")
        middle = np.column_stack([x, y])
        half = np.array([[d.bbox.size_x, d.bbox.size_y] for d in found]).reshape(-1, 2) / 2
        np.testing.assert_allclose(np.hstack([middle - half, middle + half]), tracks.xyxy, atol=1e-3)
        np.testing.assert_allclose([d.results[0].hypothesis.score for d in found], tracks.scores, atol=1e-6)
        count += len(found)
    assert count > 20


@pytest.mark.skipif(not TIME3D_MODEL.exists(), reason="the demo weights are not here")
def test_time3d_alone(data_root: Path) -> None:
    """Real images of a moving camera, its calibration and tf, to time3d_tracker, and `track --method time3d`."""
    source = str(data_root / "nuscenes")
    heard, velocities = play(source, 4.0, {Time3DNode: ENGINE | PATIENT}, Detection3DArray)
    frames = [frame for frame in islice(open_source(source), 10) if frame.time_ns in heard]
    assert len(frames) == len(heard) >= 6 and heard.keys() == velocities.keys()
    engine, count = Engine(Run("time3d", TIME3D_MODEL, "onnxruntime"), 1), 0
    names = engine.class_names
    for frame, result in zip(frames, engine.tracks(Seen(frames)), strict=True):
        assert isinstance(result, Result)
        found, tracks = heard[frame.time_ns].detections, result.tracks
        assert [int(d.id) for d in found] == tracks.ids.tolist()
        assert [d.results[0].hypothesis.class_id for d in found] == [names[i] for i in tracks.class_ids]
        np.testing.assert_allclose([d.results[0].hypothesis.score for d in found], tracks.scores, atol=1e-5)
        points = [d.bbox.center.position for d in found]
        places = np.array([[p.x, p.y, p.z] for p in points]).reshape(-1, 3)
        boxes = moved(tracks.boxes, result.upright)
        np.testing.assert_allclose(places, boxes.centre, atol=1e-3)
        sizes = np.array([[d.bbox.size.x, d.bbox.size.y, d.bbox.size.z] for d in found]).reshape(-1, 3)
        np.testing.assert_allclose(sizes, boxes.size, atol=1e-4)
        speeds = [t.linear for t in velocities[frame.time_ns].points[0].velocities]
        np.testing.assert_allclose(
            np.array([[v.x, v.y, v.z] for v in speeds]).reshape(-1, 3), boxes.velocity, atol=1e-3
        )
        count += len(found)
    assert count > 20


@pytest.mark.skipif(not (DEMO_MODEL.exists() and TIME3D_MODEL.exists()), reason="the demo weights are not here")
@pytest.mark.parametrize("name", ["camera_fusion.yaml", "image_fusion.yaml"])
def test_the_stack_in_space(data_root: Path, name: str) -> None:
    """The same real images through the trackers and pkf_filter, and through `track --method fusion --filter FILE`."""
    file = CONFIG / name
    parameters = parameters_of(file)
    source = str(data_root / "nuscenes")
    spatial = {Time3DNode: ENGINE | PATIENT} if "objects" in parameters["sensors"] else {}
    nodes = {GCNetNode: ENGINE, **spatial, PkfNode: parameters | PATIENT}
    heard, _ = play(source, 4.0, nodes, Detection3DArray)
    frames = [frame for frame in islice(open_source(source), 10) if frame.time_ns in heard]
    assert len(frames) == len(heard) >= 6
    engine, count = Engine(replace(FUSION, filter=file), 1), 0
    names = engine.class_names
    for frame, result in zip(frames, engine.tracks(Seen(frames)), strict=True):
        assert isinstance(result, Result) and frame.camera_pose is not None
        found, tracks = heard[frame.time_ns].detections, result.tracks
        assert [int(d.id) for d in found] == tracks.ids.tolist()
        assert [d.results[0].hypothesis.class_id for d in found] == [names[i] for i in tracks.class_ids]
        np.testing.assert_allclose([d.results[0].hypothesis.score for d in found], tracks.scores, atol=1e-4)
        points = [d.bbox.center.position for d in found]
        boxes = moved(tracks.boxes, frame.camera_pose @ result.upright)
        places = np.array([[p.x, p.y, p.z] for p in points]).reshape(-1, 3)
        np.testing.assert_allclose(places, boxes.centre, atol=5e-3)
        sizes = np.array([[d.bbox.size.x, d.bbox.size.y, d.bbox.size.z] for d in found]).reshape(-1, 3)
        np.testing.assert_allclose(sizes, boxes.size, atol=1e-3)
        count += len(found)
    assert count > 20


@pytest.mark.skipif(not (DEMO_MODEL.exists() and TIME3D_MODEL.exists()), reason="the demo weights are not here")
def test_smoothed_tracks_in_space_of_real_images(data_root: Path) -> None:
    """As those of the filter alone, but from their first measurement on."""
    frames = list(islice(open_source(str(data_root / "nuscenes")), 6))
    run = replace(FUSION, filter=CONFIG / "camera_fusion.yaml")
    before = list(Engine(run, 1).tracks(Seen(frames)))
    after = list(Engine(replace(run, smooth=True), 1).tracks(Seen(frames)))
    assert len(after) == len(frames) and sum(len(one.tracks) for one in before) > 10  # type: ignore[union-attr]
    for frame, online, smoothed in zip(frames, before, after, strict=True):
        assert isinstance(online, Result) and isinstance(smoothed, Result) and frame.camera_pose is not None
        measured = online.tracks.ids[~online.tracks.states.coasting]  # or out of the detectors' view
        assert np.isin(measured, smoothed.tracks.ids).mean() > 0.7
        _, here, there = np.intersect1d(online.tracks.ids, smoothed.tracks.ids, return_indices=True)
        shift = online.tracks.boxes.centre[here] - smoothed.tracks.boxes.centre[there]
        assert np.median(np.linalg.norm(shift, axis=1)) < 2.0
        assert np.isfinite(smoothed.xyxy).all() and len(smoothed.xyxy) == len(smoothed.tracks)
    ever = {track for one in before for track in one.tracks.ids.tolist()}  # type: ignore[union-attr]
    assert set(smoothed.tracks.ids.tolist()) <= ever and len(here) > 0.7 * len(smoothed.tracks)
    np.testing.assert_allclose(shift, 0.0, atol=1e-9)
