"""Files and messages of random bytes: what is made of them is sound, or refused with a CamtrackError.

    python benchmarks/fuzz.py [TARGET ...] [--inputs 100000] [--seed 0] [--keep FOLDER]

Inputs are whole ones whose bytes, words and numbers are changed, cut out, repeated and exchanged; the seed repeats
them. An input takes at most 2 GB beyond what was there before and 20 s of the processor; one that does not behave is
kept as a file and ends its target's run. Exit code 1 where there was one.

A target writes one file of a small recording and reads that through to its end, or reads one message.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import random
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from camtrack.bags.write import BagOptions, Storage, write_bag
from camtrack.evaluation.run import Rules, evaluate_tracks
from camtrack.launch.file import read_launch_file
from camtrack_core import encoded
from camtrack_core.datasets import labelled, nuscenes
from camtrack_core.datasets.calibrated import CalibratedSequence, read_recording
from camtrack_core.datasets.frames import Frame, Labels, Sequence, truth_of
from camtrack_core.datasets.kitti.sequences import KittiSequence
from camtrack_core.datasets.motchallenge import MotChallengeSequence
from camtrack_core.datasets.rosbag.bag import BagSequence, image_topics
from camtrack_core.datasets.uadetrac import UaDetracSequence
from camtrack_core.datasets.yolo import YoloFolder
from camtrack_core.errors import CamtrackError
from camtrack_core.evaluation.mot_text import read_mot
from camtrack_core.evaluation.nuscenes.submission import read_submission
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import Camera, Pose
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.ros.messages import cdr, cdr3d
from camtrack_core.runtime.manifest import MANIFEST, check_model

MOST_MEMORY = 2_000_000_000  # bytes that an input may take
MOST_SECONDS = 20
FRAMES = 100  # of a recording that are looked at
EXTREMES = (b"\0" * 4, b"\xff" * 4, b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\0" * 8, b"\xff" * 8)
WORDS = (
    b"0", b"-1", b"1e400", b"nan", b"-inf", b"99999999999999999999", b"10000000", b"\xc2\xb2", b"\xef\xbb\xbf", b",",
    b"\n", b" ", b"null", b"[]", b"{}", b'"', b"<", b"/>", b"../", b"\0", b"[" * 2000, b"&x;", b"true",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        seed: a whole input.
        read: raises CamtrackError for what it refuses; AssertionError where what it makes of an input is not sound.
    """

    seed: bytes
    read: Callable[[bytes], None]


# --- What is sound


def check_sequence(sequence: Sequence) -> None:
    """Names, stamps and boxes of the truth, as far as a reader looks at them."""
    assert isinstance(sequence.name, str) and len(sequence) >= 0
    for _, truth in zip(range(FRAMES), truth_of(sequence), strict=False):
        assert isinstance(truth.time_ns, int)
        check_labels(truth.labels, truth.boxes3d)


def check_frames(sequence: Any) -> None:
    for _, frame in zip(range(FRAMES), sequence.attempts(), strict=False):
        if isinstance(frame, Frame):
            assert frame.image.ndim == 3 and isinstance(frame.time_ns, int)
            check_labels(frame.labels, frame.boxes3d)


def check_labels(labels: Labels | None, boxes: Boxes3D | None) -> None:
    if labels is not None:
        assert np.isfinite(labels.xyxy).all() and len(labels.ids) == len(labels.xyxy) == len(labels.class_ids)
    if boxes is not None:
        assert np.isfinite(boxes.centre).all() and np.isfinite(boxes.size).all() and np.isfinite(boxes.yaw).all()


def check_tracks(frames: list[Tracks2D]) -> None:
    assert all(np.isfinite(tracks.xyxy).all() and np.isfinite(tracks.scores).all() for tracks in frames[:FRAMES])


# --- Messages and images


def read_image(data: bytes) -> None:
    image = encoded.decode(data)
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


def read_upright(data: bytes) -> None:
    assert encoded.decode_upright(data, (24, 16)).shape == (16, 24, 3)


def read_detections(data: bytes) -> None:
    found = cdr.unpack(data)
    assert len(found.ids) == len(found.names) == len(found.scores) <= cdr.MOST_DETECTIONS


def read_detections_3d(data: bytes) -> None:
    found = cdr3d.unpack_detections(data)
    assert len(found.ids) == len(found.names) == len(found.scores) <= cdr.MOST_DETECTIONS


def read_velocities(data: bytes) -> None:
    assert all(len(velocity) == 3 for velocity in cdr3d.unpack_velocities(data)[1].values())


def picture(ending: str) -> bytes:
    return cv2.imencode(ending, np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8))[1].tobytes()


def messages(_: Path) -> dict[str, Target]:
    from builtin_interfaces.msg import Time
    from std_msgs.msg import Header

    from camtrack_core.geometry.tracks import Tracks3D
    from camtrack_core.ros.messages import detections3d

    header = Header(stamp=Time(sec=12, nanosec=34), frame_id="camera")
    flat = cdr.pack(header, ["1", "2"], ["car", "bus"], np.array([0.9, 0.8]), np.array([[1.0, 2, 30, 40]] * 2))
    boxes = Boxes3D(np.ones((2, 3)), np.full((2, 3), 2.0), np.zeros(2), np.zeros((2, 3)))
    tracks = Tracks3D(
        np.array([3, 4]), boxes, np.tile(np.eye(4), (2, 1, 1)), np.full(2, 0.9), np.zeros(2, np.int64), np.zeros(2),
        np.zeros((2, 3)),
    )  # fmt: skip
    return {
        "detections": Target(bytes(flat), read_detections),
        "detections 3d": Target(bytes(detections3d.pack_tracks(tracks, ("car",), header)), read_detections_3d),
        "velocities": Target(bytes(detections3d.pack_velocities(tracks, header, np.eye(3))), read_velocities),
        "jpeg": Target(picture(".jpg"), read_image),
        "png": Target(picture(".png"), read_image),
        "upright": Target(picture(".jpg"), read_upright),
    }


# --- Files


def of_file(folder: Path, name: str, content: bytes | str, read: Callable[[Path], None]) -> Target:
    """One file of a recording that lies in a folder; it is there from now on."""
    path, seed = folder / name, content.encode() if isinstance(content, str) else content

    def write_and_read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read(folder)
        finally:
            path.write_bytes(seed)

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(seed)
    return Target(seed, write_and_read)


XML = """<?xml version="1.0" encoding="utf-8"?>
<sequence name="MVI_1"><sequence_attribute camera_state="stable" sence_weather="cloudy"/>
<ignored_region><box left="1" top="2" width="10" height="20"/></ignored_region>
<frame density="2" num="1"><target_list><target id="4"><box left="10" top="20" width="20" height="10"/>
<attribute orientation="1" speed="2" trajectory_length="3" truncation_ratio="0.5" vehicle_type="van"/>
<occlusion><region_overlap left="1" top="2" width="5" height="9" occlusion_id="7" occlusion_status="1"/></occlusion>
</target></target_list></frame></sequence>
"""
KITTI = "0 1 Car 0 0 -1.5 10 20 50 60 1.5 1.8 4.5 1 2 15 0.1 0.9\n1 2 Van 1 2 -1.5 10 20 50 60 1.5 1.8 4.5 1 2 15 0.1\n"
CALIBRATION = "".join(f"P{k}: 700 0 600 0.1 0 700 180 0.2 0 0 1 0.003\n" for k in range(4)) + (
    "R_rect 1 0 0 0 1 0 0 0 1\nTr_velo_cam 0 -1 0 0 0 0 -1 0 1 0 0 0\nTr_imu_velo 1 0 0 0 0 1 0 0 0 0 1 0\n"
)
OXTS = "49.0 8.4 112.8 0.02 0.01 -1.2 " + "0.1 " * 19 + "4 10 4 4 0\n"
POSES = "1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 1\n"
LAUNCH = """<launch><arg name="a" default="1" description="a"/><let name="b" value="$(var a)0"/>
<group if="$(eval '$(var b) == 10')"><push_ros_namespace namespace="n"/><set_env name="X" value="$(env HOME /)"/>
<node pkg="camtrack" exec="pkf_filter" name="f" respawn="true" respawn_delay="0.2"><param name="p" value="0.5"/>
<remap from="x" to="y"/></node><executable cmd="true --x" name="e"/></group></launch>
"""
RECORDING = {
    "cameras": {"front": {"width": 24, "height": 16, "fx": 20, "fy": 20, "cx": 12, "cy": 8, "over_ground": 1.5}},
    "images": [
        {"camera": "front", "file": "images/a.png", "time_ns": 1,
         "pose": {"translation": [0, 0, 1.5], "rotation": [0.5, -0.5, 0.5, -0.5]},
         "objects": [{"id": 1, "class": "car", "box": [1, 2, 10, 12],
                      "space": {"centre": [10, 0, 1], "size": [4, 2, 1.5], "yaw": 0.1}}]}
    ],
}  # fmt: skip


def sequences(folder: Path) -> dict[str, Target]:
    detrac, kitti, mot, yolo, own = (folder / name for name in ("detrac", "kitti", "mot/MOT-01", "yolo", "own"))

    def read_detrac(root: Path) -> None:
        check_sequence(UaDetracSequence(root, "MVI_1"))

    def read_kitti(root: Path) -> None:
        check_sequence(KittiSequence(root, "0001"))

    def read_mot_sequence(root: Path) -> None:
        sequence = MotChallengeSequence(root)
        check_sequence(sequence)
        check_tracks(read_mot(root / "result.txt", len(sequence)))
        sequence.detections()

    def read_yolo(root: Path) -> None:
        check_sequence(YoloFolder(root))

    def read_own(root: Path) -> None:
        read_recording.cache_clear()
        sequence = CalibratedSequence(root, "front")
        check_sequence(sequence)
        check_frames(sequence)

    row = "1,1,10,20,30,40,1,1,0.5\n2,1,12,20,30,40,1,3,1\n"
    targets = {
        "uadetrac": of_file(detrac, "DETRAC-Train-Annotations-XML/MVI_1.xml", XML, read_detrac),
        "kitti labels": of_file(kitti, "label_02/0001.txt", KITTI, read_kitti),
        "kitti calibration": of_file(kitti, "calib/0001.txt", CALIBRATION, read_kitti),
        "kitti oxts": of_file(kitti, "oxts/0001.txt", OXTS * 2, read_kitti),
        "kitti results": of_file(folder, "0001.txt", KITTI, lambda root: _scores(root / "0001.txt", kitti)),
        "kitti poses": of_file(folder / "posed", "poses/0001.txt", POSES, read_kitti),
        "mot truth": of_file(mot, "gt/gt.txt", row, read_mot_sequence),
        "mot detections": of_file(mot, "det/det.txt", row, read_mot_sequence),
        "mot results": of_file(mot, "result.txt", "1,1,10,20,30,40,0.9,-1,-1,-1\n" * 2, read_mot_sequence),
        "mot seqinfo": of_file(
            mot, "seqinfo.ini", "[Sequence]\nname=a\nimDir=img1\nframeRate=30\nseqLength=3\nimWidth=64\nimHeight=48\n",
            read_mot_sequence,
        ),
        "launch file": of_file(folder, "a.launch.xml", LAUNCH, lambda root: _launch(root / "a.launch.xml")),
        "manifest": of_file(
            folder / "model", MANIFEST, f"{'0' * 64}  a.onnx\n", lambda root: check_model(root / "a.onnx")
        ),
        "yolo labels": of_file(yolo, "labels/a.txt", "0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.1 0.1\n", read_yolo),
        "yolo names": of_file(yolo, "data.yaml", "names: [car, big truck]\n", read_yolo),
        "own recording": of_file(own, "recording.json", json.dumps(RECORDING), read_own),
    }  # fmt: skip
    for name, text in (("label_02/0001.txt", KITTI), ("calib/0001.txt", CALIBRATION)):
        of_file(folder / "posed", name, text, read_kitti)
    for recording in (own, yolo):
        (recording / "images").mkdir()
        (recording / "images/a.png").write_bytes(picture(".png"))
    (folder / "model/a.onnx").write_bytes(b"graph")
    return targets


def _scores(results: Path, kitti: Path) -> None:
    found = evaluate_tracks(results, [f"{kitti}?sequence=0001"], Rules())
    assert 0 <= found.combined.hota <= 1 and (found.spatial is None or np.isfinite(found.spatial.samota))


def _launch(path: Path) -> None:
    for process in read_launch_file(path, {}):
        assert all(isinstance(word, str) for word in process.command)


def packed_labels(folder: Path) -> dict[str, Target]:
    """Compressed: the text is fuzzed, and what is not gzip is refused anyway."""
    lines = [labelled.TITLE, "# source: a.mp4", "# image size: 640 360", "# frames: 3", "# classes: car",
             "# ignored: 1,2,3,4", "1,1,1,2,30,40,car,0.9"]  # fmt: skip
    path = folder / "a.txt.gz"

    def read(data: bytes) -> None:
        path.write_bytes(gzip.compress(data, 1))
        check_tracks(labelled.read_labels(path).frames)

    return {"labels": Target("\n".join(lines).encode() + b"\n", read)}


# --- nuScenes


def tables() -> dict[str, list[dict[str, Any]]]:
    """Of one car that one camera sees twice."""
    samples = [
        {"token": f"s{k}", "timestamp": 10**15 + 500_000 * k, "scene_token": "scene",
         "prev": "", "next": "s1" if k == 0 else ""} for k in (0, 1)
    ]  # fmt: skip
    data = [
        {"token": f"d{k}", "sample_token": f"s{k}", "ego_pose_token": "ego", "calibrated_sensor_token": "calibrated",
         "timestamp": 10**15 + 500_000 * k, "is_key_frame": True, "height": 16, "width": 24, "filename": "a.png",
         "prev": "", "next": ""} for k in (0, 1)
    ]  # fmt: skip
    annotations = [
        {"token": f"a{k}", "sample_token": f"s{k}", "instance_token": "car", "visibility_token": "4",
         "attribute_tokens": ["parked"], "translation": [0.1, 0.2, 10.0 + k], "size": [2.0, 4.0, 1.5],
         "rotation": [1.0, 0.0, 0.0, 0.0], "prev": "a0" if k else "", "next": "" if k else "a1", "num_lidar_pts": 5,
         "num_radar_pts": 0} for k in (0, 1)
    ]  # fmt: skip
    place = {"translation": [0.0, 0.0, 0.0], "rotation": [1.0, 0.0, 0.0, 0.0]}
    return {
        "scene": [{"token": "scene", "name": "scene-1", "first_sample_token": "s0", "last_sample_token": "s1"}],
        "sample": samples,
        "sample_data": data,
        "ego_pose": [{"token": "ego", "timestamp": 10**15, **place}],
        "calibrated_sensor": [
            {"token": "calibrated", "sensor_token": "sensor", "camera_intrinsic": [[20, 0, 12], [0, 20, 8], [0, 0, 1]],
             **place}
        ],
        "sensor": [{"token": "sensor", "channel": "CAM_FRONT", "modality": "camera"}],
        "sample_annotation": annotations,
        "instance": [{"token": "car", "category_token": "category", "nbr_annotations": 2}],
        "category": [{"token": "category", "name": "vehicle.car"}],
        "visibility": [{"token": "4", "level": "v80-100"}],
        "attribute": [{"token": "parked", "name": "vehicle.parked"}],
    }  # fmt: skip


SUBMISSION = {
    "meta": {"use_camera": True},
    "results": {
        "s0": [
            {"sample_token": "s0", "translation": [1.0, 2, 3], "size": [2.0, 4, 1], "rotation": [1.0, 0, 0, 0],
             "velocity": [0.0, 1.0], "tracking_id": "7", "tracking_name": "car", "tracking_score": 0.5}
        ]
    },
}  # fmt: skip


def nuscenes_tables(folder: Path) -> dict[str, Target]:
    root = folder / "nuscenes"

    def read(_: Path) -> None:
        nuscenes.read_tables.cache_clear()
        sequence = nuscenes.NuScenesSequence(root)
        check_sequence(sequence)
        check_frames(sequence)
        list(sequence.keys())

    version = root / "v1.0-mini"
    targets = {
        f"nuscenes {name}": of_file(version, f"{name}.json", json.dumps(records), read)
        for name, records in tables().items()
    }
    (root / "a.png").write_bytes(picture(".png"))
    submission = of_file(
        folder, "submission.json", json.dumps(SUBMISSION), lambda _: _submission(folder / "submission.json")
    )
    return {**targets, "nuscenes submission": submission}


def _submission(path: Path) -> None:
    for boxes in read_submission(path).values():
        assert np.isfinite(boxes.boxes.centre).all() and np.isfinite(boxes.scores).all()


# --- Bags


class Drive:
    """Two frames with a camera, a place and labels."""

    name, class_names = "drive", ("car",)

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Frame]:
        camera, nowhere = Camera.from_field_of_view(24, 16, 90), Pose(np.eye(3), np.zeros(3))
        for k in (1, 2):
            labels = Labels(np.array([4]), np.array([[1.0, 2, 10, 12]]), np.array([0]), np.ones(1))
            image = np.full((16, 24, 3), 50 * k, np.uint8)
            yield Frame(10**9 * k, image, labels, camera=camera, camera_pose=nowhere, ego_pose=nowhere)


def bags(folder: Path) -> dict[str, Target]:
    targets = {}
    kinds: dict[Storage, str] = {"mcap": ".mcap", "sqlite3": ".db3"}
    for storage, ending in kinds.items():
        path = folder / f"bag_{storage}"
        write_bag({"front": Drive()}, path, BagOptions(storage, truth=True))
        file = next(path.glob(f"*{ending}"))
        for name, written in ((f"bag {storage}", file), (f"bag metadata {storage}", path / "metadata.yaml")):
            targets[name] = of_file(path, written.name, written.read_bytes(), read_bag)
    return targets


def read_bag(path: Path) -> None:
    for topic in image_topics(path):
        check_frames(BagSequence(path, topic))


# --- The run


# Each makes its targets, by name, with their files in a folder.
KINDS: dict[str, Callable[[Path], dict[str, Target]]] = {
    "messages": messages, "sequences": sequences, "labels": packed_labels, "nuscenes": nuscenes_tables, "bags": bags,
}  # fmt: skip


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """A few changes, each of a kind that readers are known to stumble over."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((0, 1, 1, 2, 4, 8, 40, 400)))
        kind = rng.randrange(7)
        if kind == 0:
            data[at:end] = bytes(rng.randrange(256) for _ in range(end - at))
        elif kind == 1:
            data[at:end] = b""
        elif kind == 2:
            data[at:end] = data[at:end] * rng.choice((2, 3, 50))
        elif kind == 3:
            data[at:end] = rng.choice(WORDS)
        elif kind == 4:
            data[at : at + 8] = rng.choice(EXTREMES)
        elif kind == 5:
            other = rng.randrange(len(data) + 1)
            data[at:end] = data[other : other + rng.choice((1, 4, 40))]
        else:
            del data[at:]
    return bytes(data)


@contextmanager
def bounded() -> Iterator[None]:
    """An input that takes too much memory is a MemoryError, one that takes too long of the processor a TimeoutError."""
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MOST_MEMORY, limit[1]))
    before = signal.signal(signal.SIGPROF, _too_long)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, limit)


def _too_long(number: int, frame: Any) -> None:
    raise TimeoutError(f"an input takes more than {MOST_SECONDS} s")


def read(target: Target, data: bytes) -> None:
    """Raises what no reader may raise; within `bounded`."""
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        target.read(data)
    except CamtrackError as error:
        assert str(error)


def fuzz(target: Target, inputs: int, seed: int) -> bytes | None:
    """Reads so many inputs; returns the first that does not behave, whose traceback is printed."""
    rng = random.Random(seed)
    with bounded():
        for _ in range(inputs):
            data = mutated(target.seed, rng)
            try:
                read(target, data)
            except Exception:
                traceback.print_exc()
                return data
    return None


def command_line(description: str | None) -> argparse.ArgumentParser:
    """What both fuzzers take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--inputs", type=int, default=100_000, help="of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(), help="folder for inputs that do not behave")
    return parser


@contextmanager
def chosen_targets(parser: argparse.ArgumentParser, names: list[str]) -> Iterator[dict[str, Target]]:
    """Of these names, or all, with their files in a folder."""
    logging.disable(logging.WARNING)  # of what is left out
    with tempfile.TemporaryDirectory(prefix="camtrack-fuzz-") as folder:
        known = {name: target for make in KINDS.values() for name, target in make(Path(folder)).items()}
        if unknown := set(names) - set(known):
            parser.error(f"expected targets of {', '.join(known)}, got {', '.join(sorted(unknown))}")
        yield {name: known[name] for name in names or known}


def main() -> int:
    parser = command_line(__doc__)
    given = parser.parse_args()
    with chosen_targets(parser, given.targets) as targets:
        return max([_run(name, target, given) for name, target in targets.items()])


def _run(name: str, target: Target, given: argparse.Namespace) -> int:
    """Of one target; 1 where an input does not behave, which is kept."""
    started = time.monotonic()
    bad = fuzz(target, given.inputs, given.seed)
    print(f"{name}: {given.inputs} inputs in {time.monotonic() - started:.0f} s", flush=True)
    if bad is None:
        return 0
    path = given.keep / f"{name.replace(' ', '_')}_{given.seed}.input"
    path.write_bytes(bad)
    print(f"{name}: BROKEN by {path}", flush=True)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
