"""The doctor: what is wrong with a system is found, what is right is not complained of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from ros_helpers import SECOND, K, read_until
from sensor_msgs.msg import CameraInfo

from camtrack.doctor import system
from camtrack.doctor.findings import Finding
from camtrack.doctor.installation import PROFILES, SEGMENT, engines, packages, shared_memory, transport
from camtrack.doctor.run import worst_exit_code
from camtrack.doctor.system import Camera, arrival, calibration, clocks, environment_of, stamps, transforms
from camtrack_core.geometry.camera import Pose
from camtrack_core.ros.messages.stamps import fill_stamp
from camtrack_core.ros.tf.transforms import TransformBuffer, to_transform

ROOT = Path(__file__).parents[2]
PUBLISHER = """
import sys, time, numpy as np, rclpy
from rclpy.qos import qos_profile_sensor_data as best_effort
from sensor_msgs.msg import Image
from camtrack_core.ros.messages.image import fill_image

rclpy.init()
node = rclpy.create_node("driver")
images = node.create_publisher(Image, "doctor/image", best_effort)
print("it is up", flush=True)
while True:
    message = fill_image(Image(), np.zeros((360, 640, 3), np.uint8))
    message.header.stamp = node.get_clock().now().to_msg()
    message.header.frame_id = "lens"
    images.publish(message)
    time.sleep(0.1)
"""


@contextmanager
def driver(**environment: str) -> Iterator[None]:
    """A camera's driver in a process with Fast DDS's profile only where it is given."""
    inherited = {name: value for name, value in os.environ.items() if name not in PROFILES}
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISHER],
        stdout=subprocess.PIPE,
        text=True,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
    )
    try:
        read_until(process, "it is up")
        yield
    finally:
        process.kill()
        process.communicate()


def examined(found: Callable[[list[Finding]], bool]) -> list[Finding]:
    """What the doctor finds once it finds this: a busy machine may take longer than one look to bring up a driver."""
    for _ in range(10):
        findings = list(system.examine_system(3.0))
        if found(findings):
            break
    print(findings)
    return findings


def sentences(findings: list[Finding], grade: str) -> str:
    return "\n".join(f"{finding.subject}: {finding.sentence}" for finding in findings if finding.grade == grade)


def test_a_driver_without_profile_and_calibration_is_found() -> None:
    with driver():
        findings = examined(lambda f: "without a Fast DDS profile" in sentences(f, "wrong"))
    faults = sentences(findings, "wrong")
    assert "transport: /doctor/image: /driver runs without a Fast DDS profile" in faults
    assert "camera_info: /doctor/image: nothing on /doctor/camera_info" in faults
    assert all(finding.remedy for finding in findings if finding.grade != "ok")
    assert "no node of camtrack is heard" in sentences(findings, "note")
    assert worst_exit_code(findings) == 1


def test_a_driver_with_the_profile_is_not_complained_of() -> None:
    with driver(**dict.fromkeys(PROFILES, str(ROOT / "config" / "fastdds.xml"))):
        findings = examined(lambda f: "ms old when they arrive" in sentences(f, "ok"))
    assert "profile" not in sentences(findings, "wrong")
    assert "ms old when they arrive" in sentences(findings, "ok")


def test_the_installation_of_these_tests_is_sound() -> None:
    assert not sentences([*packages(), *engines()], "wrong")


@pytest.mark.parametrize(
    ("environment", "grade", "words"),
    [
        ({}, "wrong", "Fast DDS has no profile here"),
        ({PROFILES[0]: "/nowhere.xml"}, "wrong", "there is no such file"),
        ({PROFILES[0]: str(ROOT / "config" / "fastdds.xml")}, "ok", "has the profile"),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, "note", "rmw_cyclonedds_cpp"),
    ],
)
def test_the_settings_of_the_transport(environment: dict[str, str], grade: str, words: str) -> None:
    (finding,) = transport(environment)
    assert finding.grade == grade and words in finding.sentence


def test_little_shared_memory() -> None:
    assert shared_memory(SEGMENT).grade == "wrong" and shared_memory(10 * SEGMENT).grade == "ok"


def test_a_process_is_known_by_half_of_its_number() -> None:
    gid = [1, 15, 7, 7, *(os.getpid() & 0xFFFF).to_bytes(2, "little"), 0, 0]
    assert system.process_number(gid) == os.getpid() & 0xFFFF
    found = environment_of(os.getpid() & 0xFFFF)
    assert found is None or found["PATH"]  # another process may have the same half


def seen(**fields: object) -> Camera:
    camera = Camera("/front/image", "sensor_msgs/msg/Image")
    for name, value in {"stamps": [SECOND, 2 * SECOND], "heard": [SECOND, 2 * SECOND], **fields}.items():
        setattr(camera, name, value)
    camera.frames.update(["lens", "lens"])
    return camera


def test_stamps_and_clocks() -> None:
    def grade(camera: Camera, clock: list[int]) -> list[str]:
        return [finding.grade for finding in stamps(camera, clock)]

    assert grade(seen(), []) == ["ok"]
    assert grade(seen(stamps=[0, 0]), []) == ["wrong"]
    assert grade(seen(stamps=[2 * SECOND, SECOND]), []) == ["wrong", "ok"]
    assert grade(seen(heard=[SECOND, SECOND]), []) == ["wrong"]  # ahead of the clock
    assert grade(seen(heard=[SECOND, 1000 * SECOND]), []) == ["note"]  # a recording without its clock
    assert grade(seen(heard=[SECOND, 1000 * SECOND]), [2 * SECOND]) == ["ok"]  # and with it
    follows, not_follows = {"/a": {"use_sim_time": True}}, {"/a": {"use_sim_time": False}}
    assert [f.grade for f in clocks([], follows)] == ["wrong"]
    assert [f.grade for f in clocks([SECOND], not_follows)] == ["note"]
    assert [f.grade for f in clocks([SECOND], follows)] == ["ok"]


def test_images_that_are_missing() -> None:
    camera = Camera("/front/image", "sensor_msgs/msg/Image")
    (nothing,) = arrival(camera)
    assert nothing.grade == "wrong" and "config/environment.sh" in nothing.remedy
    (missing,) = arrival(seen(missing=3))
    assert missing.grade == "wrong" and "3 did not arrive" in missing.sentence
    (whole,) = arrival(seen())
    assert whole.grade == "ok" and "2 images" in whole.sentence and "1.0 Hz" in whole.sentence


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (None, "nothing on /front/camera_info"),
        (CameraInfo(height=360, width=640), "K of camera_info"),
        (CameraInfo(height=720, width=1280, k=K), "states 1280x720, images have 640x360"),
        (CameraInfo(height=360, width=640, k=K, d=[0.1], distortion_model="plumb_bob"), "expected rectified images"),
    ],
)
def test_calibrations_that_cannot_be_used(info: CameraInfo | None, words: str) -> None:
    finding = calibration(seen(info=info, size=(640, 360)), rectified=False)
    assert finding.grade == "wrong" and words in finding.sentence


def test_a_sound_calibration() -> None:
    assert calibration(seen(info=CameraInfo(height=360, width=640, k=K), size=(640, 360)), False).grade == "ok"


def test_the_place_of_a_camera_in_the_frames_that_nodes_ask_for() -> None:
    from tf2_msgs.msg import TFMessage

    buffer = TransformBuffer()
    here = Pose(np.eye(3), np.zeros(3))
    for second in (1, 2):
        stamp = fill_stamp(CameraInfo().header.stamp, second * SECOND)
        buffer.add(TFMessage(transforms=[to_transform(here, "map", "lens", stamp)]))
    asked = {"/front/time3d_tracker": {"fixed_frame": "map", "ground_frame": "base_link"}}
    found = {finding.grade: finding.sentence for finding in transforms(seen(), buffer, asked)}
    assert "'lens' in 'map' is known for 2 of 2" in found["ok"]
    assert "'base_link' in 'map' is known for 0 of 2" in found["wrong"]
