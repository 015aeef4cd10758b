"""Bags: what is written is read back message by message, by this project and by rosbags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from data_helpers import BOTH, SECOND, Trip, about_z
from rosbags.rosbag2 import Reader, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from camtrack.bags.write import BagOptions, _Topics, bag_messages, camera_info, raw, write_bag
from camtrack_core.datasets.rosbag import types
from camtrack_core.datasets.rosbag.bag import BagSequence, list_topics
from camtrack_core.datasets.rosbag.tf import TransformTree
from camtrack_core.datasets.sources import open_cameras, open_source
from camtrack_core.errors import DataError
from camtrack_core.geometry.camera import Pose

INTERFACES = Path(__file__).parents[2] / "interfaces" / "vision_msgs" / "msg"


def official_store():  # type: ignore[no-untyped-def]
    """The types as the .msg files of the interfaces say, not as the writer believes."""
    store = get_typestore(Stores.ROS2_JAZZY)
    found = {}
    for path in INTERFACES.glob("*.msg"):
        found.update(get_types_from_msg(path.read_text(), f"vision_msgs/msg/{path.stem}"))
    store.register(found)
    return store


@BOTH
@pytest.mark.parametrize("quality", [0, 90])
def test_every_message_comes_back(tmp_path: Path, storage: str, quality: int) -> None:
    cameras = {"left": Trip(0.5), "right": Trip(-0.5, delay_ns=30_000_000)}
    options = BagOptions(storage, quality, truth=True)  # type: ignore[arg-type]
    count = write_bag(cameras, tmp_path / "trip", options)
    expected = [entry for step in bag_messages(cameras, options) for entry in step]
    store = official_store()
    with Reader(tmp_path / "trip") as reader:
        found = [(c.topic, t, data, c.msgtype, c.digest) for c, t, data in reader.messages()]
    assert len(found) == len(expected) == count
    key = lambda entry: (entry[1], entry[0])  # noqa: E731 - messages of one time lie in any order
    for (topic, time_ns, message), (there, then, data, kind, digest) in zip(
        sorted(expected, key=key), sorted(found, key=key), strict=True
    ):
        assert (topic, time_ns, message.__msgtype__) == (there, then, kind)
        assert digest in ("", store.hash_rihs01(kind))
        assert bytes(store.serialize_cdr(store.deserialize_cdr(data, kind), kind)) == bytes(types.serialise(message))


@BOTH
def test_a_bag_is_a_source_like_the_recording(tmp_path: Path, storage: str) -> None:
    write_bag({"left": Trip(0.5)}, tmp_path / "trip", BagOptions(storage, truth=True))  # type: ignore[arg-type]
    sequence = open_source(str(tmp_path / "trip"))
    assert (sequence.name, len(sequence), sequence.class_names) == ("trip-left", 4, ("car", "person"))
    for found, frame in zip(sequence, Trip(0.5), strict=True):
        assert found.time_ns == frame.time_ns and np.array_equal(found.image, frame.image)
        np.testing.assert_allclose(found.camera.intrinsics, frame.camera.intrinsics)
        for a, b in ((found.camera_pose, frame.camera_pose), (found.ego_pose, frame.ego_pose)):
            np.testing.assert_allclose(a.rotation, b.rotation, atol=1e-12)
            np.testing.assert_allclose(a.translation, b.translation, atol=1e-12)
        assert (found.labels is None) == (frame.labels is None)
        if frame.labels is not None:
            assert found.labels.ids.tolist() == [4, 9] and found.labels.class_ids.tolist() == [1, 0]
            np.testing.assert_allclose(found.labels.xyxy, frame.labels.xyxy)
            np.testing.assert_allclose(found.labels.visible, frame.labels.visible)
            np.testing.assert_allclose(found.boxes3d.centre, frame.boxes3d.centre)
            np.testing.assert_allclose(found.boxes3d.size, frame.boxes3d.size)
            np.testing.assert_allclose(found.boxes3d.yaw, frame.boxes3d.yaw)


def test_metadata_are_those_of_jazzy(tmp_path: Path) -> None:
    write_bag({"left": Trip()}, tmp_path / "trip", BagOptions())
    metadata = yaml.safe_load((tmp_path / "trip/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["version"] == 9 and metadata["storage_identifier"] == "mcap"
    assert metadata["message_count"] == 4 * 3 + 1 and metadata["duration"]["nanoseconds"] == 3 * SECOND // 10
    assert metadata["starting_time"]["nanoseconds_since_epoch"] == SECOND
    topics = {t["topic_metadata"]["name"]: t for t in metadata["topics_with_message_count"]}
    assert {name: t["message_count"] for name, t in topics.items()} == {
        "/tf_static": 1, "/tf": 4, "/left/camera_info": 4, "/left/image": 4,
    }  # fmt: skip
    (qos,) = topics["/tf_static"]["topic_metadata"]["offered_qos_profiles"]
    assert (qos["durability"], qos["reliability"], qos["history"]) == ("transient_local", "reliable", "keep_last")
    assert topics["/tf"]["topic_metadata"]["offered_qos_profiles"][0]["durability"] == "volatile"
    assert topics["/tf"]["topic_metadata"]["type_description_hash"].startswith("RIHS01_e369d0f0")


def test_cameras_of_one_vehicle_share_its_pose(tmp_path: Path) -> None:
    write_bag({"left": Trip(0.5), "right": Trip(-0.5)}, tmp_path / "trip", BagOptions())
    topics = list_topics(tmp_path / "trip")
    assert topics["/tf"][1] == 4 and topics["/tf_static"][1] == 2
    for name, side in (("left", 0.5), ("right", -0.5)):
        found = list(BagSequence(tmp_path / "trip", f"/{name}/image"))
        for a, b in zip(found, Trip(side), strict=True):
            np.testing.assert_allclose(a.camera_pose.translation, b.camera_pose.translation, atol=1e-12)
    with pytest.raises(DataError, match=r"one topic of images; add which.*/left/image, /right/image"):
        open_source(str(tmp_path / "trip"))
    assert open_source(str(tmp_path / "trip") + "?topic=/right/image").name == "trip-right"


def test_transforms_are_interpolated_and_end_with_the_recording() -> None:
    tree = TransformTree()
    tree.add_static("base", "camera", Pose(np.eye(3), np.array([1.0, 0, 0])))
    tree.add("map", "base", 2 * SECOND, Pose(about_z(0.4), np.array([4.0, 2, 0])))
    tree.add("map", "base", 0, Pose(np.eye(3), np.zeros(3)))
    pose = tree.lookup("map", "camera", SECOND)
    np.testing.assert_allclose(pose.rotation, about_z(0.2), atol=1e-12)
    np.testing.assert_allclose(pose.translation, [2 + np.cos(0.2), 1 + np.sin(0.2), 0])
    assert tree.lookup("map", "camera", -1) is None and tree.lookup("map", "camera", 3 * SECOND) is None
    assert tree.lookup("odom", "camera", SECOND) is None


def test_a_broken_recording_leaves_a_bag_of_what_came_before(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image 3 is cut off; .*trip ends before it, after 7 messages"):
        write_bag({"left": Trip(breaks_at=2)}, tmp_path / "trip", BagOptions())
    assert len(list(open_source(str(tmp_path / "trip")))) == 2


@BOTH
def test_a_full_disk_is_a_sentence(tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(Trip):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield from super().__iter__()
            raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"cannot write the bag .*trip: No space left on device"):
        write_bag({"left": Full()}, tmp_path / "trip", BagOptions(storage))  # type: ignore[arg-type]


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match="is there already"):
        write_bag({"left": Trip()}, tmp_path / "mine", BagOptions())
    with pytest.raises(DataError, match="cannot write the bag"):
        (tmp_path / "file").write_text("")
        write_bag({"left": Trip()}, tmp_path / "file" / "bag", BagOptions())


# --- stamps that are none


def images_with(folder: Path, stamps: list[int]) -> Path:
    """A bag of small images with these stamps, a tenth of a second apart by the time of recording."""
    frames = list(Trip(count=len(stamps)))
    with Writer(folder, version=9) as writer:
        image = writer.add_connection("/camera/image", types.IMAGE, typestore=types.typestore())
        info = writer.add_connection("/camera/camera_info", types.CAMERA_INFO, typestore=types.typestore())
        for frame, time_ns in zip(frames, stamps, strict=True):
            stamped = replace(frame, time_ns=time_ns)
            for connection, message in ((info, camera_info(stamped, "camera")), (image, raw(stamped, "camera"))):
                writer.write(connection, frame.time_ns, types.serialise(message))
    return folder


def test_images_without_stamps_take_the_time_of_recording(tmp_path: Path) -> None:
    frames = list(BagSequence(images_with(tmp_path / "trip", [0, 0, 0])))
    assert [frame.time_ns for frame in frames] == [SECOND + k * SECOND // 10 for k in range(3)]
    assert all(frame.camera is not None for frame in frames)


def test_images_whose_stamps_jump_back_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stamps = [k * SECOND for k in (1, 2, 3, 1, 2, 3)]
    frames = list(BagSequence(images_with(tmp_path / "loop", stamps)))
    assert [frame.time_ns for frame in frames] == stamps[:3]
    assert "loop: left out 3 of 6 images of /camera/image" in caplog.text
    caplog.clear()
    assert len(list(BagSequence(images_with(tmp_path / "started", [0, SECOND, 2 * SECOND])))) == 2
    assert "left out 1 of 3" in caplog.text


def test_a_bag_without_usable_images_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="before: none of the 2 images of /camera/image has a stamp after 0"):
        list(BagSequence(images_with(tmp_path / "before", [-SECOND, -2 * SECOND])))


# --- broken bags


def spoil_centre(step: list[Any]) -> str:
    message = next(m for topic, _, m in step if topic.endswith("ground_truth"))
    message.detections[1].bbox.center.position.x = float("nan")
    return "/left/ground_truth: expected finite boxes"


def spoil_size(step: list[Any]) -> str:
    message = next(m for topic, _, m in step if topic.endswith("ground_truth_3d"))
    message.detections[0].bbox.size.y = float("inf")
    return "/left/ground_truth_3d: expected finite boxes"


def spoil_translation(step: list[Any]) -> str:
    message = next(m for topic, _, m in step if topic == "/tf")
    message.transforms[0].transform.translation.z = float("nan")
    return "/tf: .*from base_link to map.* not finite"


def spoil_rotation(step: list[Any]) -> str:
    message = next(m for topic, _, m in step if topic == "/tf_static")
    message.transforms[0].transform.rotation.w = float("nan")
    return "/tf_static: .*from left to base_link.* not finite"


def spoil_intrinsics(step: list[Any]) -> str:
    message = next(m for topic, _, m in step if topic.endswith("camera_info"))
    message.k[0] = np.nan
    return "/left/camera_info: K of camera_info: expected finite 3x3 intrinsics"


@pytest.mark.parametrize("spoil", [spoil_centre, spoil_size, spoil_translation, spoil_rotation, spoil_intrinsics])
def test_numbers_that_are_none_are_named(tmp_path: Path, spoil: Callable[[list[Any]], str]) -> None:
    words = ""
    with Writer(tmp_path / "trip", version=9) as writer:
        topics = _Topics(writer)
        for number, step in enumerate(bag_messages({"left": Trip(count=2)}, BagOptions(truth=True))):
            words = spoil(step) if number == 0 else words
            for entry in step:
                topics.write(*entry)
    with pytest.raises(DataError, match=f"trip, {words}"):
        list(open_source(str(tmp_path / "trip")))


def test_real_nuscenes_survives_a_bag(data_root: Path, tmp_path: Path) -> None:
    cameras = open_cameras(str(data_root / "nuscenes"))
    assert write_bag(cameras, tmp_path / "scene", BagOptions(truth=True)) == 5 * 40 + 1
    (original,) = cameras.values()
    for found, frame in zip(open_source(str(tmp_path / "scene")), original, strict=True):
        assert np.array_equal(found.image, frame.image) and found.labels.ids.tolist() == frame.labels.ids.tolist()
        np.testing.assert_allclose(found.camera_pose.translation, frame.camera_pose.translation, atol=1e-9)
        np.testing.assert_allclose(found.boxes3d.yaw % (2 * np.pi), frame.boxes3d.yaw % (2 * np.pi), atol=1e-9)
