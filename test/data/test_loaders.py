"""nuScenes, KITTI tracking and MOTChallenge: the real files, and copies of them with something broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from camtrack_core.datasets import nuscenes
from camtrack_core.datasets.frames import Truth, truth_of
from camtrack_core.datasets.nuscenes import NuScenesSequence, rotation_matrix
from camtrack_core.datasets.projected import project_boxes
from camtrack_core.datasets.sources import list_sources, open_cameras, open_source
from camtrack_core.errors import CamtrackError, ConfigurationError, DataError
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose

# --- boxes in space as boxes in the image


CAMERA = Camera(np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]), 100, 80)
AHEAD = Pose(OPTICAL_IN_VEHICLE, np.zeros(3))  # looks along x


def boxes_at(*centres: tuple[float, float, float], size: tuple[float, float, float] = (2, 2, 2)) -> Boxes3D:
    count = len(centres)
    return Boxes3D(
        np.array(centres, float).reshape(-1, 3), np.tile(size, (count, 1)), np.zeros(count), np.zeros((count, 3))
    )


def test_a_box_ahead_projects_to_its_front() -> None:
    xyxy, inside, seen = project_boxes(boxes_at((11, 0, 0)), CAMERA, AHEAD)
    assert seen.all() and inside == pytest.approx(1)
    np.testing.assert_allclose(xyxy, [[40, 30, 60, 50]])  # 1 m at 10 m with a focal length of 100 pixels


def test_boxes_behind_or_beside_the_image_are_not_seen() -> None:
    _, inside, seen = project_boxes(boxes_at((-5, 0, 0), (5, 40, 0), (5, 0, 0)), CAMERA, AHEAD)
    assert seen.tolist() == [False, False, True]
    assert inside[:2].tolist() == [0, 0]


def test_a_box_that_begins_behind_the_camera_reaches_the_border() -> None:
    """Its near end, left of the camera, is cut at the near plane and fills the image up to its left border."""
    xyxy, inside, seen = project_boxes(boxes_at((2, 1.5, 0), size=(10, 1, 1)), CAMERA, AHEAD)
    assert seen.all() and 0 < inside[0] < 1
    right = 50 - 100 * 1 / 7  # the far end, 7 m ahead and 1 m to the left
    np.testing.assert_allclose(xyxy, [[0, 0, right, 80]])


# --- nuScenes


@pytest.fixture
def nuscenes_copy(data_root: Path, tmp_path: Path) -> Path:
    """The real tables, to be broken, beside the real images."""
    root = tmp_path / "nuscenes"
    shutil.copytree(data_root / "nuscenes" / "v1.0-mini", root / "v1.0-mini", copy_function=shutil.copyfile)
    (root / "v1.0-mini").chmod(0o755)
    (root / "samples").symlink_to(data_root / "nuscenes" / "samples")
    return root


def change(root: Path, table: str, edit) -> None:  # type: ignore[no-untyped-def]
    path = root / "v1.0-mini" / f"{table}.json"
    records = json.loads(path.read_text())
    path.write_text(json.dumps(edit(records) or records))


def test_nuscenes_frames_carry_camera_poses_and_objects(data_root: Path) -> None:
    sequence = open_source(str(data_root / "nuscenes"))
    assert (sequence.name, len(sequence)) == ("scene-0103-CAM_FRONT", 40)
    frames = list(sequence)
    gaps = np.diff([f.time_ns for f in frames]) / 1e9
    assert np.all((gaps > 0.39) & (gaps < 0.61))
    for frame in frames[::10]:
        assert frame.labels is not None and frame.boxes3d is not None and frame.camera is not None
        assert frame.image.shape == (450, 800, 3) and len(frame.boxes3d) == len(frame.labels) > 5
        in_camera = frame.camera_pose.inverse().apply(frame.boxes3d.centre)
        centre = frame.camera.project(in_camera[in_camera[:, 2] > 5])
        low, high = np.split(frame.labels.xyxy[in_camera[:, 2] > 5], 2, axis=1)
        middle = (centre > 0) & (centre < [800, 450])
        assert np.all((centre >= low - 1)[middle] & (centre <= high + 1)[middle])
        mounting = frame.ego_pose.inverse() @ frame.camera_pose
        np.testing.assert_allclose(mounting.translation, [1.722, 0.0048, 1.4949], atol=1e-3)
        assert np.all((frame.labels.visible > 0) & (frame.labels.visible <= 0.9))


def test_nuscenes_truth_is_that_of_the_frames(data_root: Path) -> None:
    sequence = NuScenesSequence(data_root / "nuscenes")
    for frame, truth in zip(sequence, truth_of(sequence), strict=True):
        assert isinstance(truth, Truth) and truth.time_ns == frame.time_ns
        assert truth.labels.ids.tolist() == frame.labels.ids.tolist()


def test_nuscenes_attributes_are_those_of_the_objects(nuscenes_copy: Path) -> None:
    """The real annotations have none here; every other instance gets one."""
    unlabelled = list(NuScenesSequence(nuscenes_copy).truth())
    assert all(set(t.attributes.tolist()) == {""} for t in unlabelled if len(t.labels))
    attributes = json.loads((nuscenes_copy / "v1.0-mini/attribute.json").read_text())
    parked = next(r["token"] for r in attributes if r["name"] == "vehicle.parked")
    records = json.loads((nuscenes_copy / "v1.0-mini/sample_annotation.json").read_text())
    chosen = sorted({r["instance_token"] for r in records})[::2]

    def park(records):  # type: ignore[no-untyped-def]
        for record in records:
            record["attribute_tokens"] = [parked] if record["instance_token"] in chosen else []

    change(nuscenes_copy, "sample_annotation", park)
    nuscenes.read_tables.cache_clear()
    sequence = NuScenesSequence(nuscenes_copy)
    known = {sequence._ids[token] for token in chosen if token in sequence._ids}
    said = [list(zip(t.labels.ids.tolist(), t.attributes.tolist(), strict=True)) for t in sequence.truth()]
    assert all(name == ("vehicle.parked" if i in known else "") for frame in said for i, name in frame)
    assert {name for frame in said for _, name in frame} == {"vehicle.parked", ""}
    first = next(iter(sequence))
    assert first.attributes.tolist() == [name for _, name in said[0]]


def test_nuscenes_velocity_is_the_slope_of_the_track(data_root: Path) -> None:
    truth = list(NuScenesSequence(data_root / "nuscenes").truth())
    checked = 0
    for before, now, after in zip(truth, truth[1:], truth[2:], strict=False):
        for row, identity in enumerate(now.labels.ids):
            ends = [t.boxes3d.centre[t.labels.ids == identity] for t in (before, after)]
            if len(ends[0]) and len(ends[1]):
                slope = (ends[1][0] - ends[0][0]) / ((after.time_ns - before.time_ns) / 1e9)
                np.testing.assert_allclose(now.boxes3d.velocity[row], slope, atol=0.3)  # stamps of image and sample
                checked += 1
    assert checked > 100


def test_quaternions_agree_with_scipy() -> None:
    for quaternion in np.random.default_rng(0).normal(size=(20, 4)):
        q = quaternion / np.linalg.norm(quaternion)
        np.testing.assert_allclose(rotation_matrix(q), Rotation.from_quat(q[[1, 2, 3, 0]]).as_matrix(), atol=1e-12)


def test_nuscenes_sweeps_have_no_labels(nuscenes_copy: Path) -> None:
    def add_sweep(records):  # type: ignore[no-untyped-def]
        sweep = {**records[0], "token": "sweep", "is_key_frame": False, "timestamp": records[0]["timestamp"] + 83_000}
        return [*records, sweep]

    change(nuscenes_copy, "sample_data", add_sweep)
    spec = f"{nuscenes_copy}?scene=scene-0103&camera=CAM_FRONT&sweeps=true"
    frames = list(open_source(spec))
    assert len(frames) == 41 and [f.labels is None for f in frames[:3]] == [False, True, False]
    assert len(open_source(spec.replace("true", "false"))) == 40
    with pytest.raises(ConfigurationError, match="sweeps=maybe"):
        open_source(spec.replace("true", "maybe"))


@pytest.mark.parametrize("table", nuscenes.TABLES)
def test_missing_and_truncated_nuscenes_tables_are_named(nuscenes_copy: Path, table: str) -> None:
    path = nuscenes_copy / "v1.0-mini" / f"{table}.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match=rf"{table}\.json is broken"):
        open_source(str(nuscenes_copy))
    path.unlink()
    with pytest.raises(DataError, match=rf"{table}\.json|expected tables"):
        NuScenesSequence(nuscenes_copy)


def drop_first(records):  # type: ignore[no-untyped-def]
    return records[1:]


def lose_translation(records):  # type: ignore[no-untyped-def]
    for record in records:
        record.pop("translation", None)


def lose_focal_length(records):  # type: ignore[no-untyped-def]
    for record in records:
        record["camera_intrinsic"] = [[0.0] * 3] * 3


def strange_attribute(records):  # type: ignore[no-untyped-def]
    for record in records:
        record["attribute_tokens"] = ["none"]


def two_attributes(records):  # type: ignore[no-untyped-def]
    for record in records:
        record["attribute_tokens"] = ["152d6d2e603dab39a7c7924b426cd505", "d38842a1e78c074e6e7c496c468a077d"]


def rename_image(records):  # type: ignore[no-untyped-def]
    records[0]["filename"] = "samples/CAM_FRONT/none.jpg"


def escape_with_image(records):  # type: ignore[no-untyped-def]
    for record in records:
        record["filename"] = "../../private.jpg"


def halve_size(records):  # type: ignore[no-untyped-def]
    for record in records:
        record["width"], record["height"] = record["width"] // 2, record["height"] // 2


@pytest.mark.parametrize(
    ("table", "edit", "words"),
    [
        ("ego_pose", drop_first, "ego_pose.json: expected a record with the token"),
        ("instance", drop_first, "instance.json: expected a record"),
        ("sample_annotation", lose_translation, "sample_annotation.json, sample"),
        ("calibrated_sensor", lose_translation, "has no field 'translation'"),
        ("calibrated_sensor", lose_focal_length, r"calibrated_sensor\.json: the record '.*positive focal lengths"),
        ("sample_annotation", strange_attribute, "attribute.json: expected a record with the token 'none'"),
        ("sample_annotation", two_attributes, "has the attributes vehicle.moving, vehicle.stopped, expected one"),
        ("sample_data", rename_image, "none.jpg"),
        ("sample_data", escape_with_image, "expected the path of a file below .*, got '../../private.jpg'"),
        ("sample_data", halve_size, "expected an image of [0-9]+x[0-9]+ pixels, got"),
    ],
)
def test_broken_nuscenes_records_are_named(nuscenes_copy: Path, table: str, edit, words: str) -> None:  # type: ignore[no-untyped-def]
    change(nuscenes_copy, table, edit)
    with pytest.raises(DataError, match=words):
        list(NuScenesSequence(nuscenes_copy))


@pytest.mark.parametrize("seed", range(20))
def test_records_of_any_wrong_form_are_frames_or_a_sentence(nuscenes_copy: Path, seed: int) -> None:
    """A field of the wrong kind, or none, in every record of some table."""
    rng = np.random.default_rng(seed)
    table = str(rng.choice(nuscenes.TABLES))

    def spoil(records):  # type: ignore[no-untyped-def]
        name = rng.choice(sorted(records[0]))
        wrong = [None, "word", [], {}, -1][rng.integers(5)]
        for record in records:
            record[name] = wrong

    change(nuscenes_copy, table, spoil)
    try:
        frames = list(open_source(str(nuscenes_copy)))[:3]
    except CamtrackError as error:
        assert str(error)
    else:
        assert all(f.image.size and f.camera is not None for f in frames)


def test_unknown_scenes_and_cameras_are_refused(data_root: Path) -> None:
    with pytest.raises(DataError, match=r"scene-0103.*got 'scene-1'"):
        NuScenesSequence(data_root / "nuscenes", "scene-1")
    with pytest.raises(DataError, match="expected images of CAM_BACK, found CAM_FRONT"):
        NuScenesSequence(data_root / "nuscenes", "scene-0103", "CAM_BACK")
    assert list(open_cameras(str(data_root / "nuscenes"))) == ["cam_front"]


def test_nuscenes_splits_select_scenes(nuscenes_copy: Path) -> None:
    assert [s.partition("scene-")[2][:4] for s in list_sources(f"{nuscenes_copy}?split=mini_val")] == ["0103"]
    with pytest.raises(DataError, match=r"holds no such sequence; it holds \?scene=scene-0103&camera=CAM_FRONT"):
        list_sources(f"{nuscenes_copy}?split=mini_train")
    with pytest.raises(DataError, match=r"expected a split of mini_train, mini_val, .*splits\.json, got 'val'"):
        list_sources(f"{nuscenes_copy}?split=val")
    splits = nuscenes_copy / "v1.0-mini/splits.json"
    splits.write_text('{"val": ["scene-0103"]}')
    assert len(list_sources(f"{nuscenes_copy}?split=val&camera=CAM_FRONT")) == 1
    with pytest.raises(ConfigurationError, match="may hold many scenes"):
        open_source(f"{nuscenes_copy}?split=val")
    splits.write_text("[")
    with pytest.raises(DataError, match=r"splits\.json is broken"):
        list_sources(f"{nuscenes_copy}?split=val")
