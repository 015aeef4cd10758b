"""The message packages built from interfaces/ must be those that every other ROS 2 machine speaks."""

import importlib
import json
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_share_path
from rclpy.serialization import deserialize_message, serialize_message

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("interfaces/*/msg/*.msg"))

# Type hashes of the released packages: publisher and subscription must agree on them to be matched.
RELEASED = {
    "autoware_perception_msgs/ObjectClassification": "38131fef2df46486c20c12c238faf778328309f4c3e9daa6ffd621732e48dd19",
    "autoware_perception_msgs/PredictedObject": "07a517a2ed3cfcc961768dbbe769091566e8415177c3e3526a83fb392bcd3717",
    "autoware_perception_msgs/PredictedObjectKinematics": (
        "a7c128b84bbb8de1f927c8475930a99681b67832fe947aa5cb1ac6c5b3e6a80b"
    ),
    "autoware_perception_msgs/PredictedObjects": "b63151309c3323bb6e3f09c54b3358aa53a8e66937a1cde15c5d5ede1ef80a08",
    "autoware_perception_msgs/PredictedPath": "d7e3250f12551fcc92777897e1ae11d71f355f770b993189eb2053f10531ccd2",
    "autoware_perception_msgs/Shape": "1a32ac3073c17e4822d39b7f4c263eb1c4a2bacbf707d6db96e77e867063562b",
    "autoware_perception_msgs/TrackedObject": "3feae2f15953814466d9c0b88485f423d18d94c351877d8fd1645270222c3526",
    "autoware_perception_msgs/TrackedObjectKinematics": (
        "9bcc5af91f7802926c091b89fea44d29f8ce04cb34bd62b98844afab21e49ec7"
    ),
    "autoware_perception_msgs/TrackedObjects": "3559bd4e62ce8a4d96e32720c02bbe656cc090bb2b3f3f91f52a7c3ab095417a",
    "tf2_msgs/TFMessage": "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
    "vision_msgs/BoundingBox2D": "008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    "vision_msgs/BoundingBox3D": "bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698",
    "vision_msgs/Detection2D": "0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "vision_msgs/Detection2DArray": "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "vision_msgs/Detection3D": "ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b",
    "vision_msgs/Detection3DArray": "793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "vision_msgs/ObjectHypothesis": "51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    "vision_msgs/ObjectHypothesisWithPose": "41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
    "vision_msgs/VisionInfo": "95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
}


def installed(package: str, file: str) -> Path:
    return get_package_share_path(package) / "msg" / file


@pytest.mark.parametrize("name", RELEASED)
def test_type_hash_is_the_released_one(name: str) -> None:
    package, message = name.split("/")
    description = json.loads(installed(package, f"{message}.json").read_text())
    hashes = {entry["type_name"]: entry["hash_string"] for entry in description["type_hashes"]}
    assert hashes[f"{package}/msg/{message}"] == f"RIHS01_{RELEASED[name]}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_installed_message_is_the_one_in_the_repository(source: Path) -> None:
    package = source.parts[-3]
    manifest = (get_package_share_path(package) / "package.xml").read_text()
    if "camtrack" not in manifest:
        pytest.skip(f"{package} is the ROS distribution's own")
    assert installed(package, source.name).read_text() == source.read_text()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_message_survives_serialisation(source: Path) -> None:
    message_type = getattr(importlib.import_module(f"{source.parts[-3]}.msg"), source.stem)
    message = message_type()
    assert deserialize_message(serialize_message(message), message_type) == message


def test_detections_arrive_as_they_were_sent() -> None:
    from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "car", 0.5
    hypothesis.pose.covariance[0] = 4.0
    detection = Detection3D(id="7", results=[hypothesis])
    detection.bbox.center.position.x = 12.5
    sent = Detection3DArray(detections=[detection] * 3)
    sent.header.frame_id = "map"

    assert deserialize_message(serialize_message(sent), Detection3DArray) == sent
