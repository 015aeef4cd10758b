"""nuScenes: one camera of one scene as a sequence, read straight from the official tables.

    v1.0-mini/*.json  samples/CAM_FRONT/*.jpg  sweeps/CAM_FRONT/*.jpg

The fixed frame is the map; key frames (2 Hz) are labelled, the sweeps between them are not. Boxes in the image are
projections of the boxes in space.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camtrack_core.datasets.frames import Attempted, Frame, Labels, Truth, attempt
from camtrack_core.datasets.projected import project_boxes
from camtrack_core.datasets.video import read_image
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.files import JSON_MEMORY, below, expect_memory, read_json
from camtrack_core.geometry.boxes import Boxes3D, Floats
from camtrack_core.geometry.camera import Camera, Pose

# The ten classes of the detection task, and what belongs to each; all else is not labelled.
CATEGORIES = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "vehicle.construction": "construction_vehicle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "movable_object.trafficcone": "traffic_cone",
    "movable_object.barrier": "barrier",
}
CLASS_NAMES = tuple(dict.fromkeys(CATEGORIES.values()))
VISIBILITY = {"v0-40": 0.2, "v40-60": 0.5, "v60-80": 0.7, "v80-100": 0.9}  # middle of each level
MINI = {"mini_train": (61, 553, 655, 757, 796, 1077, 1094, 1100), "mini_val": (103, 916)}  # scenes of the splits
MAX_VELOCITY_GAP = 1.5  # seconds between the two annotations that a velocity is made of
TABLES = (
    "scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "sample_annotation", "instance",
    "category", "visibility", "attribute",
)  # fmt: skip

Record = dict[str, Any]
# with their attributes, like vehicle.parked or empty, and numbers of lidar points
Objects = tuple[Labels, Boxes3D, NDArray[np.str_], NDArray[np.int64]]


class Tables:
    """The tables of one version.

    Attributes:
        folder: where they lie.
        samples: records of `sample` by token of their scene.
        data, annotations: records of `sample_data` and `sample_annotation` by token of their sample.

    Raises:
        DataError: a table is missing or broken; names the file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = {name: folder / f"{name}.json" for name in TABLES}
        sizes = (file.stat().st_size for file in files.values() if file.is_file())
        expect_memory(JSON_MEMORY * sum(sizes), f"nuScenes tables {folder}")
        self._tables = {name: _read_table(file) for name, file in files.items()}
        with _sound(f"{folder}: sample, sample_data or sample_annotation"):
            self.samples = self._grouped("sample", "scene_token")
            self.data = self._grouped("sample_data", "sample_token")
            self.annotations = self._grouped("sample_annotation", "sample_token")

    def _grouped(self, table: str, name: str) -> dict[str, list[Record]]:
        groups: dict[str, list[Record]] = {}
        for record in self._tables[table].values():
            groups.setdefault(self.field(table, record, name), []).append(record)
        return groups

    def records(self, table: str) -> list[Record]:
        return list(self._tables[table].values())

    def get(self, table: str, token: str) -> Record:
        """Raises DataError where the table has no such record."""
        try:
            return self._tables[table][token]
        except (KeyError, TypeError):
            raise DataError(f"{self.folder / table}.json: expected a record with the token {token!r}") from None

    def field(self, table: str, record: Record, name: str) -> Any:
        """Raises DataError where the record lacks the field."""
        try:
            return record[name]
        except KeyError:
            token = record.get("token")
            raise DataError(f"{self.folder / table}.json: the record {token!r} has no field {name!r}") from None

    def follow(self, table: str, record: Record, name: str) -> Record:
        """The record of the table `name` that `record` refers to."""
        return self.get(name, self.field(table, record, f"{name}_token"))


class NuScenesSequence(Attempted):
    """One camera of one scene, lazily.

    Attributes:
        name: scene and camera, like scene-0103-CAM_FRONT.
        class_names: CLASS_NAMES.
        camera_name: like CAM_FRONT.
        root, version: where the tables are, like v1.0-mini.

    Args:
        root: holds the folders of a version, samples and sweeps.
        scene: name of a scene; may be empty where there is only one.
        camera: name of a camera.
        sweeps: the images between key frames, too; those have no labels.
        version: folder of the tables; may be empty where there is only one.

    Raises:
        DataError: a table is missing or broken, or it has no such scene or camera.
    """

    class_names: tuple[str, ...] = CLASS_NAMES

    def __init__(
        self, root: str | Path, scene: str = "", camera: str = "CAM_FRONT", sweeps: bool = False, version: str = ""
    ) -> None:
        self.root = Path(root)
        self._tables = read_tables(find_version(self.root, version))
        self.version = self._tables.folder.name
        self._ids: dict[str, int] = {}  # by token of the instance, in order of appearance
        with _sound(f"{self._tables.folder}: scene, sample, sample_data or sensor"):
            self._find(scene, camera, sweeps)

    def _find(self, scene: str, camera: str, sweeps: bool) -> None:
        record = _find_scene(self._tables, scene)
        self.camera_name = camera
        self.name = f"{record['name']}-{camera}"
        self._images = _camera_images(self._tables, record["token"], camera, sweeps)
        if not self._images:
            known = ", ".join(list_cameras(self._tables, record["token"])) or "no camera at all"
            raise DataError(f"scene {record['name']} in {self.root}: expected images of {camera}, found {known}")
        for token in _scene_samples(self._tables, record["token"]):
            for annotation in self._tables.annotations.get(token, ()):
                instance = self._tables.field("sample_annotation", annotation, "instance_token")
                self._ids.setdefault(instance, len(self._ids) + 1)

    def __len__(self) -> int:
        return len(self._images)

    def attempts(self) -> Iterator[Frame | DataError]:
        return (attempt(self._frame, record) for record in self._images)

    def truth(self) -> Iterator[Truth]:
        for number, record in enumerate(self._images, start=1):
            with _sound(self._where(record)):
                ego, mounting, camera = self._geometry(record)
                pose = ego @ mounting
                labels, boxes, attributes, points = self._objects(record, camera, pose) or (None, None, None, None)
                distances = None if boxes is None else np.linalg.norm(boxes.centre - pose.translation, axis=1)
                truth = Truth(number, _time_ns(record), labels, boxes3d=boxes, distances=distances,
                              attributes=attributes, lidar_points=points, camera=camera, camera_pose=pose)  # fmt: skip
            yield truth

    def keys(self) -> Iterator[tuple[str, Pose] | None]:
        """Of every frame the token of its sample and the camera's pose in the map; None between key frames."""
        for record in self._images:
            with _sound(self._where(record)):
                ego, mounting, _ = self._geometry(record)
                key = (str(record["sample_token"]), ego @ mounting) if record["is_key_frame"] else None
            yield key

    def _where(self, record: Record) -> str:
        return f"{self._tables.folder}: the image {record.get('token')} of sample_data or what belongs to it"

    def _frame(self, record: Record) -> Frame:
        with _sound(self._where(record)):
            file = below(self.root, self._tables.field("sample_data", record, "filename"))
            ego, mounting, camera = self._geometry(record)
            image = read_image(file, (camera.width, camera.height))
            pose = ego @ mounting
            labels, boxes, attributes, points = self._objects(record, camera, pose) or (None, None, None, None)
            return Frame(_time_ns(record), image, labels, camera=camera, camera_pose=pose, ego_pose=ego, boxes3d=boxes,
                         attributes=attributes, lidar_points=points)  # fmt: skip

    def _geometry(self, record: Record) -> tuple[Pose, Pose, Camera]:
        """Vehicle in the map, camera in the vehicle, and intrinsics, at the time of the image."""
        tables = self._tables
        ego = _pose(tables, "ego_pose", tables.follow("sample_data", record, "ego_pose"))
        mounting = tables.follow("sample_data", record, "calibrated_sensor")
        k = np.array(tables.field("calibrated_sensor", mounting, "camera_intrinsic"), float)
        try:
            camera = Camera(k, int(record["width"]), int(record["height"]))
        except ConfigurationError as error:
            where = f"{tables.folder / 'calibrated_sensor'}.json: the record {mounting['token']!r}"
            raise DataError(f"{where}: {error}") from error
        return ego, _pose(tables, "calibrated_sensor", mounting), camera

    def _objects(self, record: Record, camera: Camera, pose: Pose) -> Objects | None:
        """The objects of a key frame that its image shows; None between key frames."""
        if not record["is_key_frame"]:
            return None
        with _sound(f"{self._tables.folder / 'sample_annotation.json'}, sample {record['sample_token']}"):
            return self._visible_objects(record, camera, pose)

    def _visible_objects(self, record: Record, camera: Camera, pose: Pose) -> Objects:
        rows = [a for a in self._tables.annotations.get(record["sample_token"], ()) if self._class_name(a)]
        boxes = Boxes3D(
            np.array([a["translation"] for a in rows], float).reshape(-1, 3),
            np.array([a["size"] for a in rows], float).reshape(-1, 3)[:, [1, 0, 2]],  # from width, length, height
            np.array([_yaw(a["rotation"]) for a in rows], float),
            np.array([self._velocity(a) for a in rows], float).reshape(-1, 3),
        )
        if not all(np.isfinite(values).all() for values in (boxes.centre, boxes.size, boxes.yaw)):
            raise ValueError("a box has a number that is not finite")
        if len({a["instance_token"] for a in rows}) < len(rows):
            raise ValueError("an instance occurs twice")
        xyxy, inside, seen = project_boxes(boxes, camera, pose)
        levels = [self._visibility(a) for a in rows]
        labels = Labels(
            np.array([self._ids[a["instance_token"]] for a in rows], np.int64),
            xyxy,
            np.array([CLASS_NAMES.index(self._class_name(a)) for a in rows], np.int64),
            np.array([VISIBILITY.get(level, 1.0) for level in levels], float) * inside,
        )
        attributes = np.array([self._attribute(a) for a in rows], np.str_)
        points = np.array([a["num_lidar_pts"] for a in rows], np.int64)
        return labels[seen], boxes[seen], attributes[seen], points[seen]

    def _visibility(self, annotation: Record) -> str:
        """The level of how much of an object is seen; empty where nobody said."""
        known = self._tables.field("sample_annotation", annotation, "visibility_token")
        return self._tables.follow("sample_annotation", annotation, "visibility")["level"] if known else ""

    def _attribute(self, annotation: Record) -> str:
        """The only one that an object may have; empty where it has none."""
        tokens = self._tables.field("sample_annotation", annotation, "attribute_tokens")
        names = [str(self._tables.get("attribute", token)["name"]) for token in tokens]
        if len(names) > 1:
            raise ValueError(f"an object has the attributes {', '.join(names)}, expected one")
        return names[0] if names else ""

    def _class_name(self, annotation: Record) -> str:
        """Class of the detection task; empty for what is not part of it."""
        instance = self._tables.follow("sample_annotation", annotation, "instance")
        return CATEGORIES.get(self._tables.follow("instance", instance, "category")["name"], "")

    def _velocity(self, annotation: Record) -> Floats:
        """(3,) metres per second from the annotations before and after; NaN where neither is near."""
        neighbours = [annotation[side] for side in ("prev", "next") if annotation.get(side)]
        ends = [self._tables.get("sample_annotation", token) for token in neighbours]
        first, last = [ends[0], ends[-1]] if len(ends) == 2 else [annotation, *ends] if ends else [annotation] * 2
        times = [self._tables.follow("sample_annotation", a, "sample")["timestamp"] / 1e6 for a in (first, last)]
        gap = times[1] - times[0]
        if gap == 0 or abs(gap) > MAX_VELOCITY_GAP * max(len(ends), 1):
            return np.full(3, np.nan)
        return (np.array(last["translation"], float) - np.array(first["translation"], float)) / gap


@contextmanager
def _sound(where: str) -> Iterator[None]:
    """What a record of the wrong form raises becomes a DataError."""
    try:
        yield
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"{where}: a record is broken: {type(error).__name__} {error}") from error


@lru_cache(maxsize=2)
def read_tables(folder: Path) -> Tables:
    """The tables in a folder; the full data set's take gigabytes, so that few are kept."""
    return Tables(folder)


def find_version(root: Path, version: str = "") -> Path:
    """The folder of the tables. Raises DataError where it is missing or not the only one."""
    folders = [root / version] if version else sorted(p for p in root.glob("v1.0-*") if p.is_dir())
    if len(folders) != 1 or not (folders[0] / "scene.json").is_file():
        found = ", ".join(p.name for p in root.glob("v1.0-*")) or "none"
        raise DataError(f"nuScenes folder {root}: expected tables in {version or 'one folder v1.0-*'}, found {found}")
    return folders[0]


def list_cameras(tables: Tables, scene_token: str) -> list[str]:
    """Names of the cameras that have images of a scene."""
    records = (r for token in _scene_samples(tables, scene_token) for r in tables.data.get(token, ()))
    sensors = (_sensor(tables, r) for r in records)
    return sorted({s["channel"] for s in sensors if s["modality"] == "camera"})


def list_sequences(root: str | Path, version: str = "") -> list[tuple[str, str]]:
    """Scene and camera of every sequence. Raises DataError as NuScenesSequence does."""
    tables = read_tables(find_version(Path(root), version))
    with _sound(f"{tables.folder}: scene, sample, sample_data or sensor"):
        return [(s["name"], camera) for s in tables.records("scene") for camera in list_cameras(tables, s["token"])]


def split_scenes(folder: Path, name: str) -> set[str]:
    """Names of the scenes of a split: of the mini version's official ones, or of the folder's own splits.json.

    The official train and val are listed in nuscenes-devkit alone; a splits.json may hold them.

    Raises DataError where it is not known, or splits.json is broken.
    """
    path = folder / "splits.json"
    known: dict[str, list[str]] = {split: [f"scene-{n:04d}" for n in scenes] for split, scenes in MINI.items()}
    if path.is_file():
        try:
            known |= {str(split): [str(scene) for scene in scenes] for split, scenes in read_json(path).items()}
        except (AttributeError, TypeError) as error:
            raise DataError(f"nuScenes splits {path} are broken: {error}") from error
    if name not in known:
        raise DataError(f"expected a split of {', '.join(known)}, or one in {path}, got {name!r}")
    return set(known[name])


def _find_scene(tables: Tables, name: str) -> Record:
    scenes = {record["name"]: record for record in tables.records("scene")}
    if not name and len(scenes) == 1:
        return next(iter(scenes.values()))
    if name not in scenes:
        some = ", ".join(sorted(scenes)[:10])
        raise DataError(f"{tables.folder / 'scene.json'}: expected the name of a scene ({some}, ...), got {name!r}")
    return scenes[name]


def _scene_samples(tables: Tables, scene_token: str) -> list[str]:
    return [r["token"] for r in sorted(tables.samples.get(scene_token, ()), key=lambda r: r["timestamp"])]


def _camera_images(tables: Tables, scene_token: str, camera: str, sweeps: bool) -> list[Record]:
    records = (r for token in _scene_samples(tables, scene_token) for r in tables.data.get(token, ()))
    images = [r for r in records if (sweeps or r["is_key_frame"]) and _sensor(tables, r)["channel"] == camera]
    return sorted(images, key=lambda r: r["timestamp"])


def _sensor(tables: Tables, record: Record) -> Record:
    mounting = tables.follow("sample_data", record, "calibrated_sensor")
    return tables.follow("calibrated_sensor", mounting, "sensor")


def _time_ns(record: Record) -> int:
    return int(record["timestamp"]) * 1000


def _pose(tables: Tables, table: str, record: Record) -> Pose:
    rotation, translation = (np.array(tables.field(table, record, name), float) for name in ("rotation", "translation"))
    if rotation.shape != (4,) or translation.shape != (3,) or not np.isfinite([*rotation, *translation]).all():
        token = record["token"]
        raise DataError(f"{tables.folder / table}.json: the record {token!r} needs four and three finite numbers")
    return Pose(rotation_matrix(rotation), translation)


def rotation_matrix(quaternion: Floats) -> Floats:
    """(3, 3) of a unit quaternion (4,) given as w, x, y, z."""
    w, vector = quaternion[0], quaternion[1:]
    cross = np.cross(np.eye(3), vector)  # cross @ p is vector x p
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def _yaw(quaternion: list[float]) -> float:
    forward = rotation_matrix(np.array(quaternion, float))[:, 0]
    return float(np.arctan2(forward[1], forward[0]))


def _read_table(path: Path) -> dict[str, Record]:
    try:
        return {record["token"]: record for record in read_json(path)}
    except (KeyError, TypeError) as error:
        raise DataError(f"nuScenes table {path} is broken: {error}") from error
