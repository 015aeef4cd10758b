"""What tests of data sets share: small recordings of each kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from camtrack.recording.files import NamedTracks, Recording
from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.geometry.tracks import Tracks2D

WIDTH, HEIGHT = 96, 64

XML = """<?xml version="1.0" encoding="utf-8"?>
<sequence name="MVI_1">
  <sequence_attribute camera_state="stable" sence_weather="cloudy"/>
  <ignored_region><box left="1" top="2" width="10" height="20"/></ignored_region>
  <frame density="2" num="1"><target_list>
    <target id="4">
      <box left="10" top="20" width="20" height="10"/>
      <attribute orientation="1" speed="2" trajectory_length="3" truncation_ratio="0.5" vehicle_type="van"/>
      <occlusion>
        <region_overlap left="10" top="20" width="5" height="10" occlusion_id="7" occlusion_status="1"/>
        <region_overlap left="20" top="20" width="5" height="10" occlusion_id="8" occlusion_status="0"/>
      </occlusion>
    </target>
    <target id="7">
      <box left="80" top="50" width="40" height="30"/>
      <attribute orientation="1" speed="2" trajectory_length="3" truncation_ratio="0" vehicle_type="lorry"/>
    </target>
  </target_list></frame>
  <frame density="0" num="2"><target_list/></frame>
</sequence>
"""


def picture(index: int) -> np.ndarray:
    """A grey picture whose level tells its index."""
    return np.full((HEIGHT, WIDTH, 3), 8 * index, np.uint8)


def write_video(path: Path, count: int, code: str = "MJPG", rate: float = 20.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), rate, (WIDTH, HEIGHT))
    for index in range(count):
        writer.write(picture(index))
    writer.release()
    return path


def write_images(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / name), picture(index))
    return folder


@pytest.fixture
def detrac(tmp_path: Path) -> Path:
    write_images(tmp_path / "Insight-MVT_Annotation_Train/MVI_1", [f"img{i:05d}.jpg" for i in (1, 2, 3)])
    annotations = tmp_path / "DETRAC-Train-Annotations-XML"
    annotations.mkdir()
    (annotations / "MVI_1.xml").write_text(XML)
    return tmp_path


SECOND = 1_000_000_000

CAMERA = Camera.from_field_of_view(64, 48, 90)

BOTH = pytest.mark.parametrize("storage", ["mcap", "sqlite3"])


def about_z(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


class Trip:
    """A camera that looks to one side of a vehicle in a curve; the second frame has no labels."""

    name, class_names = "trip", ("car", "person")

    def __init__(self, side: float = 0.0, delay_ns: int = 0, count: int = 4, breaks_at: int | None = None) -> None:
        self.mounting = Pose(about_z(side) @ OPTICAL_IN_VEHICLE, np.array([1.5, side, 1.2]))
        self.delay_ns, self.count, self.breaks_at = delay_ns, count, breaks_at

    def __len__(self) -> int:
        return self.count

    def __iter__(self):  # type: ignore[no-untyped-def]
        for k in range(self.count):
            if k == self.breaks_at:
                raise DataError("image 3 is cut off")
            ego = Pose(about_z(0.1 * k), np.array([2.0 * k, 0.1 * k, 0]))
            image = np.random.default_rng(k).integers(0, 256, (48, 64, 3), np.uint8)
            flat = np.array([[1.0, 2, 30, 40], [5, 5, 9.5, 11]])
            labels = Labels(np.array([4, 9]), flat, np.array([1, 0]), np.array([1, 0.5]))
            centre, size = np.array([[9.0, 1, 0.5], [20, -3, 1]]), np.array([[4.0, 2, 1.5], [0.5, 0.6, 1.7]])
            boxes = Boxes3D(centre, size, np.array([0.3, -2]), np.full((2, 3), np.nan))
            known = {"labels": labels, "boxes3d": boxes} if k != 1 else {}
            time_ns = SECOND + k * SECOND // 10 + self.delay_ns
            yield Frame(time_ns, image, camera=CAMERA, camera_pose=ego @ self.mounting, ego_pose=ego, **known)


IMAGES = (10, 15, 20)  # the frames of sequence 0001 that are at hand


@pytest.fixture
def kitti_copy(data_root: Path, tmp_path: Path) -> Path:
    """The three real images of sequence 0001 with their real labels and poses as frames 0, 1 and 2."""
    source, root = data_root / "kitti_tracking", tmp_path / "kitti"
    for folder in ("image_02/0001", "label_02", "calib", "poses"):
        (root / folder).mkdir(parents=True)
    shutil.copyfile(source / "calib/0001.txt", root / "calib/0001.txt")
    poses = (source / "poses/0001.txt").read_text().splitlines()
    (root / "poses/0001.txt").write_text("\n".join(poses[k] for k in IMAGES))
    labels = []
    for line in (source / "label_02/0001.txt").read_text().splitlines():
        frame, rest = line.split(" ", 1)
        if int(frame) in IMAGES:
            labels.append(f"{IMAGES.index(int(frame))} {rest}")
    (root / "label_02/0001.txt").write_text("\n".join(labels) + "\n")
    for index, number in enumerate(IMAGES):
        shutil.copyfile(source / f"image_02/0001/{number:06d}.jpg", root / f"image_02/0001/{index:06d}.jpg")
    return root


def fill(folder: str) -> None:
    recording = Recording(Path(folder))
    recording._video = type("NoVideo", (), {"write": lambda *a: None})()  # type: ignore[assignment]
    tracks = Tracks2D(np.array([1]), np.array([[1.0, 2, 30, 40]]), np.ones(1), np.zeros(1, np.int64))
    try:
        for k in range(1, 1000):
            recording.write(k, np.zeros((64, 64, 3), np.uint8), NamedTracks(tracks, ("car",)))
    except DataError as error:
        print(error)
