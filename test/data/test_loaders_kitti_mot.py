"""KITTI tracking and MOTChallenge: the real files, and copies of them with something broken."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from camtrack_core.datasets.frames import truth_of
from camtrack_core.datasets.kitti import sequences as kitti
from camtrack_core.datasets.kitti.sequences import KittiSequence
from camtrack_core.datasets.motchallenge import DISTRACTOR, OTHER, TARGET, MotChallengeSequence
from camtrack_core.datasets.projected import project_boxes
from camtrack_core.datasets.sources import list_sources, open_cameras, open_source
from camtrack_core.errors import CamtrackError, ConfigurationError, DataError
from camtrack_core.geometry.boxes import iou


def test_kitti_labels_in_space_and_in_the_image_agree(kitti_copy: Path) -> None:
    """Visible cars projected from the fixed frame cover the boxes that people drew."""
    overlaps = []
    for frame in open_source(f"{kitti_copy}?sequence=0001"):
        assert frame.image.shape == (375, 1242, 3) and len(frame.boxes3d) == len(frame.labels) > 3
        xyxy, _, seen = project_boxes(frame.boxes3d, frame.camera, frame.camera_pose)
        clear = seen & (frame.labels.visible == 1)
        overlaps += np.diag(iou(xyxy[clear], frame.labels.xyxy[clear])).tolist()
    assert len(overlaps) >= 3 and min(overlaps) > 0.95


def test_kitti_truth_needs_no_images(data_root: Path) -> None:
    sequence = open_source(str(data_root / "kitti_tracking") + "?sequence=0000")
    truth = list(truth_of(sequence))
    assert len(sequence) == len(truth) == 154 and [t.number for t in truth] == list(range(1, 155))
    rows = (data_root / "kitti_tracking/label_02/0000.txt").read_text().splitlines()
    kinds = Counter(row.split()[2] for row in rows)
    found = Counter(kitti.CLASS_NAMES[i] for t in truth for i in t.labels.class_ids)
    assert sum(len(t.ignored) for t in truth) == kinds.pop("DontCare") and found == kinds
    with pytest.raises(DataError, match=r"lacks the image .*0000.*000000\.png"):
        next(iter(sequence))


def test_every_real_kitti_sequence_is_read(data_root: Path) -> None:
    names = kitti.list_sequences(data_root / "kitti_tracking")
    assert len(names) == 10
    for name in names:
        truth = list(KittiSequence(data_root / "kitti_tracking", name).truth())
        parked = {i for t in truth for i in t.labels.ids.tolist()}
        assert truth and parked and all(np.isfinite(t.boxes3d.centre).all() for t in truth)


def test_kitti_without_poses_has_no_place(kitti_copy: Path) -> None:
    shutil.rmtree(kitti_copy / "poses")
    frame = next(iter(KittiSequence(kitti_copy, "0001")))
    assert frame.camera is not None and frame.labels is not None
    assert frame.camera_pose is None and frame.ego_pose is None and frame.boxes3d is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def break_label(root: Path) -> None:
    with open(root / "label_02/0001.txt", "a") as file:
        file.write("2 7 Car 0 0\n")


def repeat_label(root: Path) -> None:
    lines = (root / "label_02/0001.txt").read_text().splitlines()
    real = next(line for line in lines if " DontCare " not in line)
    (root / "label_02/0001.txt").write_text("\n".join([*lines, real]))


def strange_class(root: Path) -> None:
    path = root / "label_02/0001.txt"
    path.write_text(path.read_text().replace(" Car ", " Zeppelin ", 1))


def no_camera(root: Path) -> None:
    path = root / "calib/0001.txt"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("P2")]
    path.write_text("\n".join([*lines, "P2:" + " 0" * 12]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "image_02/0001/000001.jpg").unlink(), r"lacks the image .*000001"),
        (lambda root: cut(root / "image_02/0001/000001.jpg"), r"000001\.jpg: expected a whole image"),
        (break_label, r"label_02/0001\.txt"),
        (repeat_label, "occurs twice in frame 0"),
        (strange_class, "got 'Zeppelin'"),
        (lambda root: cut(root / "calib/0001.txt"), r"calib/0001\.txt"),
        (no_camera, r"calib/0001\.txt: expected intrinsics with positive focal lengths in P2"),
        (lambda root: cut(root / "poses/0001.txt"), r"poses/0001\.txt"),
        (lambda root: (root / "poses/0001.txt").write_text("1 0 0 nan " * 3), "expected 3 rows of finite numbers"),
        (lambda root: (root / "label_02/0001.txt").write_bytes(b"\xff\xfe\x00"), r"label_02/0001\.txt"),
    ],
)
def test_broken_kitti_files_are_named(kitti_copy: Path, damage, words: str) -> None:  # type: ignore[no-untyped-def]
    damage(kitti_copy)
    with pytest.raises(DataError, match=words):
        list(KittiSequence(kitti_copy, "0001"))


def test_data_sets_list_their_sequences(data_root: Path) -> None:
    assert len(list_sources(str(data_root / "kitti_tracking"))) == 10
    (only,) = list_sources(str(data_root / "kitti_tracking?sequence=0005"))
    assert open_source(only).name == "0005"
    assert list_sources("drive:3-5?frames=7") == ["drive:3?frames=7", "drive:4?frames=7", "drive:5?frames=7"]
    assert list_sources(str(data_root / "videos/highway_a.mp4")) == [str(data_root / "videos/highway_a.mp4")]
    with pytest.raises(DataError, match=r"holds 10 sequences; add which, like \?sequence=0000"):
        open_source(str(data_root / "kitti_tracking"))
    with pytest.raises(DataError, match="no such sequence"):
        list_sources(str(data_root / "kitti_tracking?sequence=99"))
    with pytest.raises(ConfigurationError, match="expected the options sequence, got scene=1"):
        open_source(str(data_root / "kitti_tracking?scene=1"))


# --- MOTChallenge


def test_real_mot15(data_root: Path) -> None:
    sequence = open_source(str(data_root / "mot15/TUD-Campus"))
    truth = list(truth_of(sequence))
    assert len(sequence) == 71 and sum(len(t.labels) for t in truth) == 359
    assert {i for t in truth for i in t.labels.class_ids.tolist()} == {TARGET}
    np.testing.assert_allclose(truth[0].labels.xyxy[0], [399, 182, 520, 411])
    detections = sequence.detections()
    assert len(detections) == 71 and detections[0].scores[0] == pytest.approx(0.997784)
    overlap = iou(truth[0].labels.xyxy, detections[0].xyxy).max(0)
    assert (overlap > 0.6).sum() >= 3
    with pytest.raises(DataError, match=r"lacks the image .*000001\.jpg"):
        next(iter(sequence))


SEQINFO = "[Sequence]\nname=MOT17-02\nimDir=img1\nframeRate=30\nseqLength=3\nimWidth=64\nimHeight=48\nimExt=.jpg\n"
TRUTH = (
    "1,1,10,10,20,20,1,1,0.5\n1,2,40,30,40,30,1,1,1\n2,1,11,10,20,20,0,1,0.4\n2,7,5,5,9,9,1,8,1\n3,9,5,5,9,9,1,3,1\n"
)


@pytest.fixture
def mot17(tmp_path: Path) -> Path:
    folder = tmp_path / "MOT17-02"
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    (folder / "seqinfo.ini").write_text(SEQINFO)
    (folder / "gt/gt.txt").write_text(TRUTH)
    for number in (1, 2, 3):
        cv2.imwrite(str(folder / f"img1/{number:06d}.jpg"), np.full((48, 64, 3), 50 * number, np.uint8))
    return folder


def test_mot17_classes_visibility_and_rate(mot17: Path) -> None:
    frames = list(open_source(str(mot17)))
    assert [round((f.time_ns - frames[0].time_ns) / 1e9, 6) for f in frames] == [0, 0.033333, 0.066667]
    assert [f.labels.class_ids.tolist() for f in frames] == [[TARGET] * 2, [OTHER, DISTRACTOR], [OTHER]]
    assert frames[0].labels.visible.tolist() == [0.5, 1]
    np.testing.assert_allclose(frames[0].labels.xyxy[1], [40, 30, 64, 48])  # cut to the image
    assert abs(float(frames[1].image.mean()) - 100) < 2


def test_a_folder_of_mot_sequences_is_a_data_set(mot17: Path) -> None:
    shutil.copytree(mot17, mot17.parent / "MOT17-04")
    assert [open_source(s).name for s in list_sources(str(mot17.parent))] == ["MOT17-02", "MOT17-04"]
    assert len(open_cameras(f"{mot17.parent}?sequence=MOT17-04")["camera"]) == 3


def test_a_folder_of_parts_names_them(mot17: Path, kitti_copy: Path, tmp_path: Path) -> None:
    """As MOT17 lies with train and test, KITTI with training and testing."""
    for name, part in (("train", mot17.parent), ("training", kitti_copy)):
        root = tmp_path / f"root of {name}"
        root.mkdir()
        (root / name).symlink_to(part)
        with pytest.raises(DataError, match=f"holds several data sets or parts of one; give one of .*/{name}"):
            open_source(str(root))
        assert len(list_sources(str(root / name))) > 0
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.jpg"):
        open_source(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("gt/gt.txt", TRUTH + "4,1,1,1,5,5,1,1,1\n", "expected at most 3 frames, got frame 4"),
        ("gt/gt.txt", TRUTH + "3,9,1,1,5,5,1,1,1\n", "id 9 occurs twice in frame 3"),
        ("gt/gt.txt", TRUTH + "3,8,1,1\n", "line 6"),
        ("gt/gt.txt", TRUTH + "3,8,1,nan,5,5,1,1,1\n", "line 6.*finite"),
        ("gt/gt.txt", TRUTH + "3,8,a,1,5,5,1,1,1\n", "line 6"),
        ("gt/gt.txt", TRUTH + "0,8,1,1,5,5,1,1,1\n", "line 6.*frame number from 1"),
        ("seqinfo.ini", "seqLength=3\n", "seqinfo.ini"),
        ("seqinfo.ini", SEQINFO.replace("frameRate=30", "frameRate=none"), "seqinfo.ini"),
        ("seqinfo.ini", SEQINFO.replace("frameRate=30", "frameRate=0"), "positive framerate"),
        ("seqinfo.ini", SEQINFO.replace("frameRate=30", "frameRate=inf"), "positive framerate, got inf"),
        ("seqinfo.ini", SEQINFO.replace("seqLength=3", "seqLength=3.0"), r"seqinfo\.ini: .*whole seqlength, got 3\.0"),
        ("seqinfo.ini", SEQINFO.replace("seqLength=3", "seqLength=5"), r"lacks the image .*000004\.jpg"),
    ],
)
def test_broken_mot_files_are_named(mot17: Path, file: str, text: str, words: str) -> None:
    (mot17 / file).write_text(text)
    with pytest.raises(DataError, match=words):
        list(MotChallengeSequence(mot17))


def test_any_cut_of_the_truth_gives_labels_or_a_sentence(mot17: Path) -> None:
    for length in range(len(TRUTH)):
        (mot17 / "gt/gt.txt").write_text(TRUTH[:length])
        try:
            truth = list(MotChallengeSequence(mot17).truth())
        except CamtrackError as error:
            assert "gt.txt" in str(error)
        else:
            assert len(truth) == 3 and all(np.isfinite(t.labels.xyxy).all() for t in truth)
