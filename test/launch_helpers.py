"""What tests of launch files share: a vehicle with cameras that hears tracks, and what is to be heard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from ros_helpers import Graph, collect
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray

from camtrack.nodes.replay import _camera_info
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from camtrack_core.geometry.boxes import Boxes3D, Floats, iou
from camtrack_core.ros.lifecycle.node import SUBSCRIBERS, found_subscribers
from camtrack_core.ros.lifecycle.qos import DIAGNOSTICS, RESULTS, SENSOR_DATA, TRANSFORMS
from camtrack_core.ros.messages.image import fill_image
from camtrack_core.ros.messages.stamps import fill_stamp, to_nanoseconds
from camtrack_core.ros.tf.transforms import to_transform

LAUNCH = Path(__file__).parents[1] / "launch"
FILES = sorted(path.name for path in LAUNCH.glob("*.launch.xml"))
DRIVE = "drive:7?frames=10&frame_rate=10&width=640&height=360&camera=vehicle&field_of_view=70"
ALIKE = 0.5  # overlap of a track with an object
NEAR = 3.0  # metres between a track and an object
CLEAR = 0.7  # share of an object that is seen
CLOSE = 30.0  # metres
FOUND_SHARE, RIGHT_SHARE = 0.6, 0.5  # of the near objects that have a track, of the tracks that lie at an object
PROCESSES = 240.0  # seconds that processes may take where others use the machine, too


class Vehicle:
    """A peer that plays a vehicle with cameras, and hears tracks and diagnostics."""

    def __init__(self, graph: Graph, cameras: dict[str, str], kind: type, tracks: str, nodes: list[str]) -> None:
        """`cameras`: sources by the namespace of the camera; `nodes`: who makes `tracks` of them."""
        self.graph, self.peer = graph, graph.peer("vehicle")
        self.rounds = list(zip(*(open_source(source) for source in cameras.values()), strict=True))
        self.names = list(cameras)
        self.heard = collect(self.peer, kind, tracks, RESULTS)
        self.reports = collect(self.peer, DiagnosticArray, "/diagnostics", DIAGNOSTICS)
        self._images = {n: self.peer.create_publisher(Image, f"/{n}/image", SENSOR_DATA) for n in cameras}
        self._infos = {n: self.peer.create_publisher(CameraInfo, f"/{n}/camera_info", SENSOR_DATA) for n in cameras}
        self._tf = self.peer.create_publisher(TFMessage, "/tf", TRANSFORMS)
        graph.spin_until(lambda: self._have_met(nodes), PROCESSES)

    def _have_met(self, nodes: list[str]) -> bool:
        """Whether all are up, and they and we have found every subscriber: what is said before is lost for good.

        A node that has had an image takes it for a duplicate when it is shown again to the others.
        """
        reports = [self._newest(node) for node in nodes]
        if not all(report.get("state") == "active" for report in reports):
            return False
        ours = found_subscribers([*self._images.values(), *self._infos.values(), self._tf])
        counts = {k: int(n) for report in [ours, *reports] for k, n in report.items() if k.startswith(SUBSCRIBERS)}
        heard = [f"{SUBSCRIBERS}/{name}/image" for name in self.names] + [k for k in counts if k.endswith("/tracks")]
        return all(counts[key] for key in heard) and all(
            count >= self.peer.count_subscribers(key.removeprefix(SUBSCRIBERS)) for key, count in counts.items()
        )

    def _newest(self, node: str) -> dict[str, str]:
        """What a node's newest diagnostics say."""
        statuses = [s for m in self.reports for s in m.status if s.name == node]
        return {v.key: v.value for v in statuses[-1].values} if statuses else {}

    def drive(self) -> list[tuple[tuple[Frame, ...], Any]]:
        """Shows every round until its tracks have come; images travel best effort."""
        return [(frames, self._answer_to(frames)) for frames in self.rounds]

    def _answer_to(self, frames: tuple[Frame, ...]) -> Any:
        return self.graph.spin_until(lambda: self._answer(frames), PROCESSES)

    def _answer(self, frames: tuple[Frame, ...]) -> Any:
        time_ns = frames[0].time_ns
        for _ in range(40):
            found = [m for m in self.heard if to_nanoseconds(m.header.stamp) == time_ns]
            if found:
                return found[0]
            self.graph.spin_for(0.1)
        for name, frame in zip(self.names, frames, strict=True):
            self._show(name, frame)
        return None

    def _show(self, name: str, frame: Frame) -> None:
        header = Header(frame_id=f"{name}_lens")
        fill_stamp(header.stamp, frame.time_ns)
        assert frame.ego_pose is not None and frame.camera_pose is not None
        mount = frame.ego_pose.inverse() @ frame.camera_pose
        vehicle = to_transform(frame.ego_pose, "map", "base_link", header.stamp)
        self._tf.publish(
            TFMessage(transforms=[vehicle, to_transform(mount, "base_link", f"{name}_lens", header.stamp)])
        )
        self._infos[name].publish(_camera_info(frame, header))
        self._images[name].publish(fill_image(Image(header=header), frame.image))

    def fastest(self, node: str) -> float:
        """The highest rate that a node has reported, results a second."""
        reports = ({v.key: v.value for v in s.values} for m in self.reports for s in m.status if s.name == node)
        return max(float(values["rate_hz"]) for values in reports)

    def figures(self, node: str) -> dict[str, str]:
        """The newest values of a node's diagnostics, once it has reported most of what was shown: images may get lost,
        and a round whose tracks have come of other nodes is not shown again."""

        def newest() -> dict[str, str] | None:
            values = self._newest(node)
            return values if int(values.get("processed", 0)) >= len(self.rounds) // 2 else None

        return self.graph.spin_until(newest, PROCESSES)  # type: ignore[no-any-return]


def check_figures(vehicle: Vehicle, node: str) -> None:
    values = vehicle.figures(node)
    assert values["state"] == "active" and 0 < vehicle.fastest(node) <= len(vehicle.rounds)
    for stage in ("age", "total", "end to end"):
        median, worst = (float(values[f"latency.{stage}.p{p}_ms"]) for p in (50, 99))
        assert 0 < median <= worst


def told_places(message: Detection3DArray) -> Floats:
    """(N, 3) of the tracks, in the message's frame."""
    positions = [d.bbox.center.position for d in message.detections]
    return np.array([[p.x, p.y, p.z] for p in positions]).reshape(-1, 3)


def check_places(answers: list[tuple[tuple[Frame, ...], Floats]]) -> None:
    """Of the near objects in plain sight a share has a track, of the tracks a share lies at an object.

    Args:
        answers: to each round of frames the places (N, 3) of its tracks in the fixed frame.
    """
    found, right = [], []
    for frames, told in answers:
        places = told[:, :2]
        centres = np.concatenate([_boxes(frame).centre[:, :2] for frame in frames])
        right += (_distances(places, centres).min(1, initial=np.inf) < NEAR).tolist()
        asked: dict[int, bool] = {}
        for frame in frames:
            assert frame.labels is not None and frame.camera_pose is not None
            away = np.linalg.norm(_boxes(frame).centre - frame.camera_pose.translation, axis=1)
            rows = np.flatnonzero((frame.labels.visible > CLEAR) & (away < CLOSE))
            nearest = _distances(_boxes(frame).centre[rows, :2], places).min(1, initial=np.inf)
            asked |= dict(zip(frame.labels.ids[rows].tolist(), (nearest < NEAR).tolist(), strict=True))
        found += list(asked.values())
    assert np.mean(found) >= FOUND_SHARE, np.mean(found)
    assert np.mean(right) >= RIGHT_SHARE, np.mean(right)


def _boxes(frame: Frame) -> Boxes3D:
    assert frame.boxes3d is not None
    return frame.boxes3d


def _distances(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """(N, M) metres between places (N, 2) and (M, 2)."""
    return np.linalg.norm(these[:, None] - those[None], axis=2)


def drive_in_the_image(graph: Graph) -> None:
    """What tracking.launch.xml promises of a camera in the namespace `front`."""
    nodes = ["/front/gcnet_tracker", "/front/pkf_filter"]
    vehicle = Vehicle(graph, {"front": DRIVE}, Detection2DArray, "/front/pkf_filter/tracks", nodes)
    answers = vehicle.drive()
    (frame,), message = answers[-1]
    assert message.header.frame_id == "front_lens"
    assert frame.labels is not None
    clear = frame.labels.xyxy[frame.labels.visible > CLEAR]
    boxes = np.array(
        [
            [b.center.position.x - b.size_x / 2, b.center.position.y - b.size_y / 2,
             b.center.position.x + b.size_x / 2, b.center.position.y + b.size_y / 2]
            for b in (d.bbox for d in message.detections)
        ]
    ).reshape(-1, 4)  # fmt: skip
    assert len(boxes) and (iou(boxes, clear).max(1, initial=0) > ALIKE).mean() >= 0.4
    assert all(d.id and d.results[0].hypothesis.class_id for d in message.detections)
    check_figures(vehicle, "/front/gcnet_tracker")


def drive_in_space(graph: Graph) -> None:
    """What fusion.launch.xml promises of a camera in the namespace `front`."""
    nodes = ["/front/gcnet_tracker", "/front/time3d_tracker", "/front/pkf_filter"]
    vehicle = Vehicle(graph, {"front": DRIVE}, Detection3DArray, "/front/pkf_filter/tracks", nodes)
    answers = vehicle.drive()
    assert answers[-1][1].header.frame_id == "map"
    check_places([(frames, told_places(message)) for frames, message in answers[3:]])
    check_figures(vehicle, "/front/time3d_tracker")
    check_figures(vehicle, "/front/gcnet_tracker")


def drive_with_two_cameras(graph: Graph) -> None:
    """What cameras.launch.xml promises of the cameras `front` and `left`."""
    cameras = {"front": DRIVE, "left": f"{DRIVE}&view=60"}
    nodes = ["/pkf_filter", *(f"/{name}/{kind}_tracker" for name in cameras for kind in ("gcnet", "time3d"))]
    vehicle = Vehicle(graph, cameras, Detection3DArray, "/pkf_filter/tracks", nodes)
    answers = vehicle.drive()
    assert answers[-1][1].header.frame_id == "map"
    check_places([(frames, told_places(message)) for frames, message in answers[3:]])
    for name in cameras:
        check_figures(vehicle, f"/{name}/time3d_tracker")
        check_figures(vehicle, f"/{name}/gcnet_tracker")


def drive_each_camera_in_space(graph: Graph) -> None:
    """What time3d_cameras.launch.xml promises of the cameras `front` and `left`: tracks in each one's own frame."""
    cameras = {"front": DRIVE, "left": f"{DRIVE}&view=60"}
    nodes = [f"/{name}/time3d_tracker" for name in cameras]
    left = collect(graph.peer("listener"), Detection3DArray, "/left/time3d_tracker/tracks", RESULTS)
    vehicle = Vehicle(graph, cameras, Detection3DArray, "/front/time3d_tracker/tracks", nodes)
    answers = vehicle.drive()
    assert answers[-1][1].header.frame_id == "front_lens"
    placed = []
    for (front, _), message in answers[3:]:
        assert front.camera_pose is not None
        placed.append(((front,), front.camera_pose.apply(told_places(message))))
    check_places(placed)
    assert {message.header.frame_id for message in left} == {"left_lens"}
    for node in nodes:
        check_figures(vehicle, node)


DRIVES = {  # by launch file: its arguments, and what is driven and expected
    "cameras.launch.xml": ({"cameras": "front left"}, drive_with_two_cameras),
    "time3d_cameras.launch.xml": ({"cameras": "front left"}, drive_each_camera_in_space),
    "fusion.launch.xml": ({"namespace": "front"}, drive_in_space),
    "tracking.launch.xml": ({"namespace": "front"}, drive_in_the_image),
}
