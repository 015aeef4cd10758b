"""Labels stored beside a video, and the labelling of a video by a detector and by what agrees over time."""

from __future__ import annotations

import gzip
from pathlib import Path

import cv2
import numpy as np
import pytest

from camtrack_core.datasets.labelled import LabelledVideo, VideoLabels, read_labels, write_labels
from camtrack_core.errors import DataError, ModelError
from camtrack_core.geometry.boxes import Boxes2D, Floats, iou
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.labelling import teacher
from camtrack_core.labelling.consistency import Rules, consistent_tracks

NOTHING = np.zeros((0, 5))


def example_labels(width: int, height: int) -> VideoLabels:
    """Three frames: two objects and an ignored region, nothing, one object."""
    two = Tracks2D(
        np.array([3, 8]), np.array([[1, 2, 30.25, 40], [5, 6, 7, 8.5]]), np.array([0.5, 1]), np.array([1, 0])
    )
    return VideoLabels(
        "v.avi",
        (width, height),
        ("car", "bus"),
        [two, Tracks2D.empty(), two[:1]],
        [np.array([[0, 0, 9, 9, 0.25]]), NOTHING, NOTHING],
    )


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (96, 64))
    for _ in range(count):
        writer.write(np.zeros((64, 96, 3), np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("name", ["labels.txt", "labels.txt.gz"])
def test_labels_survive_storage(tmp_path: Path, name: str) -> None:
    labels = example_labels(96, 64)
    write_labels(tmp_path / name, labels)
    read = read_labels(tmp_path / name)
    assert (read.source, read.image_size, read.class_names) == ("v.avi", (96, 64), ("car", "bus"))
    for written, again in zip(labels.frames, read.frames, strict=True):
        for field in ("ids", "xyxy", "scores", "class_ids"):
            np.testing.assert_array_equal(getattr(written, field), getattr(again, field))
    for written, again in zip(labels.ignored, read.ignored, strict=True):
        np.testing.assert_array_equal(written, again)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# camtrack labels 1", "frame;id", "does not begin with"),
        ("# frames: 3", "# frames: many", "header"),
        ("# classes: car,bus\n", "", "header"),
        ("3,3,1.00", "4,3,1.00", "line 10: expected a frame from 1 to 3, got 4"),
        ("3,3,1.00", "3,x,1.00", "line 10: invalid literal"),
        ("7.00,8.50,car", "7.00,8.50,tram", "expected a class of car, bus or ignored, got tram"),
        ("7.00,8.50,car", "2.00,8.50,car", "expected a box with x1 < x2"),
        ("7.00,8.50,car", "nan,8.50,car", "expected a box with x1 < x2"),
        (",car,1.000", ",car", "line 8: expected 8 values, got 7"),
    ],
)
def test_broken_label_files_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "labels.txt"
    write_labels(path, example_labels(96, 64))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=rf"labels\.txt.*{message}"):
        read_labels(path)


def test_unreadable_label_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt"):
        read_labels(tmp_path / "none.txt")
    path = tmp_path / "labels.txt.gz"
    write_labels(path, example_labels(96, 64))
    data = path.read_bytes()
    for broken in (data[:30], data[:20] + b"\xff\xff\xff" + data[23:], gzip.compress(b"\xff\xfe\xfd")):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"labels\.txt\.gz"):
            read_labels(path)


def test_labelled_video(tmp_path: Path) -> None:
    write_labels(tmp_path / "v.txt", example_labels(96, 64))
    video = LabelledVideo(write_video(tmp_path / "v.avi", 4), tmp_path / "v.txt")
    first, second, third, fourth = video
    assert first.labels is not None and second.labels is not None and third.labels is not None
    assert first.labels.ids.tolist() == [3, 8] and third.labels.ids.tolist() == [3]
    assert first.ignored.tolist() == [[0, 0, 9, 9]] and len(second.labels) == 0
    assert fourth.labels is None  # beyond the labels


def test_labels_of_another_image_size_are_refused(tmp_path: Path) -> None:
    write_labels(tmp_path / "v.txt", example_labels(640, 352))
    with pytest.raises(DataError, match=r"\(640, 352\).*\(96, 64\)"):
        LabelledVideo(write_video(tmp_path / "v.avi", 2), tmp_path / "v.txt")


def one(x: float, score: float, class_id: int = 0) -> Boxes2D:
    return Boxes2D(np.array([[x, 50, x + 40, 80]]), np.array([score]), np.array([class_id]))


def run(detections: list[Boxes2D]) -> tuple[list[Tracks2D], list[Floats]]:
    return consistent_tracks(detections, [NOTHING] * len(detections), 2, Rules())


def test_moving_object_is_one_track_and_its_gap_is_filled() -> None:
    detections = [one(10 + 8 * i, 0.8) for i in range(20)]
    detections[7:10] = [Boxes2D.empty()] * 3
    labels, ignored = run(detections)
    assert all(len(t) == 1 for t in labels) and len({int(t.ids[0]) for t in labels}) == 1
    assert labels[8].xyxy[0].tolist() == [74, 50, 114, 80]
    assert not any(map(len, ignored))


def test_class_is_voted() -> None:
    labels, _ = run([one(10, 0.9 if i % 3 else 0.6, 0 if i % 3 else 1) for i in range(15)])
    assert {int(t.class_ids[0]) for t in labels} == {0}


def test_weak_detections_survive_inside_a_strong_track() -> None:
    scores = [0.8] * 8 + [0.2] * 2 + [0.8] * 8
    labels, _ = run([one(10 + i, s) for i, s in enumerate(scores)])
    assert all(len(t) == 1 for t in labels)


def test_lone_detections_become_ignored_or_nothing() -> None:
    empty = [Boxes2D.empty()] * 10
    labels, ignored = run([*empty, one(10, 0.9), *empty])
    assert not any(map(len, labels)) and len(ignored[10]) == 1
    _, ignored = run([*empty, one(10, 0.2), *empty])
    assert not any(map(len, ignored))


def test_lasting_but_unsure_object_is_ignored() -> None:
    labels, ignored = run([one(10, 0.2)] * 20)
    assert not any(map(len, labels)) and all(len(i) == 1 for i in ignored)


def test_long_gap_is_left_open() -> None:
    labels, _ = run([one(10, 0.8)] * 8 + [Boxes2D.empty()] * 12 + [one(10, 0.8)] * 8)
    assert [len(t) for t in labels] == [1] * 8 + [0] * 12 + [1] * 8


def test_backward_pass_joins_what_starts_too_fast_for_the_forward_pass() -> None:
    """A fast object has no velocity at its birth, but going backward its velocity is known there."""
    x = [0, 60, 100, 120, 130, 135, 138, 140, 141, 142, 142, 142]
    labels, _ = run([one(v, 0.8) for v in x])
    assert len({int(t.ids[0]) for t in labels[2:]}) == 1
    assert all(len(t) == 1 for t in labels[2:])


def test_teacher_decodes_cell_offsets_and_sizes() -> None:
    grid, stride = teacher.anchor_grid(416)
    output = np.zeros((3549, 85), np.float32)
    cell = 5 * 52 + 3  # row 5, column 3 of stride 8
    output[cell, :4] = 0.5, 0.25, np.log(4), np.log(2)
    output[cell, 4], output[cell, 5 + teacher.COCO_BUS] = 0.9, 0.8
    boxes = teacher.decode(output, grid, stride)
    np.testing.assert_allclose(boxes.xyxy, [[28 - 16, 42 - 8, 28 + 16, 42 + 8]], rtol=1e-6)
    np.testing.assert_allclose(boxes.scores, [0.72], rtol=1e-6)
    assert boxes.class_ids.tolist() == [teacher.COCO_BUS]


@pytest.mark.parametrize(("width", "height"), [(640, 352), (1280, 720), (720, 1280), (100, 100)])
def test_tiles_cover_the_image(width: int, height: int) -> None:
    covered = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in teacher.tiles(width, height):
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        covered[y1:y2, x1:x2] = True
    assert covered.all()


class TileBound:
    """Finds one box that fills whatever image it gets, surer in tiles than in the whole image."""

    def __call__(self, image: np.ndarray) -> Boxes2D:
        height, width = image.shape[:2]
        score = 0.6 if width == 400 else 0.9
        return Boxes2D(np.array([[0.0, 0, width, height]]), np.array([score]), np.array([teacher.COCO_CAR]))


def test_boxes_cut_by_a_tile_are_discarded() -> None:
    found = teacher.detect_with_tiles(TileBound(), np.zeros((200, 400, 3), np.uint8))  # type: ignore[arg-type]
    assert found.xyxy.tolist() == [[0, 0, 400, 200]]


def coco(*rows: tuple[list[float], float, int]) -> Boxes2D:
    xyxy, scores, class_ids = zip(*rows, strict=True)
    return Boxes2D(np.array(xyxy, float), np.array(scores), np.array(class_ids))


def test_rider_and_cycle_become_one_cyclist() -> None:
    objects, unclear = teacher.traffic_objects(
        coco(
            ([10, 10, 30, 60], 0.6, teacher.COCO_PERSON),
            ([5, 35, 40, 70], 0.8, teacher.COCO_BICYCLE),
            ([200, 35, 240, 70], 0.7, teacher.COCO_MOTORCYCLE),  # nobody on it
            ([300, 10, 320, 60], 0.5, teacher.COCO_PERSON),
        )
    )
    names = [teacher.CLASS_NAMES[i] for i in objects.class_ids]
    assert names == ["pedestrian", "cyclist"]
    assert objects.xyxy[1].tolist() == [5, 10, 40, 70] and objects.scores[1] == 0.8
    assert unclear.tolist() == [[200, 35, 240, 70, 0.7]]


def test_driver_is_no_pedestrian() -> None:
    objects, unclear = teacher.traffic_objects(
        coco(
            ([0, 0, 100, 100], 0.9, teacher.COCO_TRUCK),
            ([40, 20, 60, 50], 0.5, teacher.COCO_PERSON),  # behind the windscreen
            ([70, 40, 90, 99], 0.5, teacher.COCO_PERSON),  # walks before the truck
        )
    )
    assert [teacher.CLASS_NAMES[i] for i in objects.class_ids] == ["truck", "pedestrian"]
    assert unclear[:, :4].tolist() == [[40, 20, 60, 50]]


def test_a_weak_find_as_large_as_a_house_makes_no_drivers() -> None:
    objects, unclear = teacher.traffic_objects(
        coco(
            ([0, 0, 200, 200], 0.1, teacher.COCO_TRUCK),
            ([40, 20, 60, 80], 0.8, teacher.COCO_PERSON),
            ([140, 20, 160, 80], 0.15, teacher.COCO_PERSON),  # as doubtful as the truck
        )
    )
    assert [teacher.CLASS_NAMES[i] for i in objects.class_ids] == ["truck", "pedestrian"]
    assert objects.xyxy[1].tolist() == [40, 20, 60, 80]
    assert unclear[:, :4].tolist() == [[140, 20, 160, 80]]


def test_suppression_works_within_a_group() -> None:
    box = [0.0, 0, 50, 50]
    boxes = coco((box, 0.6, teacher.COCO_TRUCK), (box, 0.9, teacher.COCO_CAR), (box, 0.5, teacher.COCO_PERSON))
    assert sorted(teacher.suppress(boxes).class_ids) == [teacher.COCO_PERSON, teacher.COCO_CAR]


def test_wrong_teacher_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx"):
        teacher.Yolox(tmp_path / "none.onnx")


def test_labelling_a_real_video(data_root: Path, tmp_path: Path) -> None:
    """The two cars ahead on the motorway get one id each."""
    capture = cv2.VideoCapture(str(data_root / "videos/highway_a.mp4"))
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (1280, 720))
    for _ in range(5):
        writer.write(capture.read()[1])
    writer.release()
    labels = teacher.label_video(tmp_path / "v.avi", data_root / "teacher/yolox_nano.onnx", tmp_path / "v.txt.gz")
    assert read_labels(tmp_path / "v.txt.gz").image_size == (1280, 720)
    cars = np.array([[811, 404, 943, 497], [1004, 404, 1200, 501]], float)
    found = [tracks.ids[iou(cars, tracks.xyxy).argmax(1)].tolist() for tracks in labels.frames]
    assert all(iou(cars, t.xyxy).max(1).min() > 0.6 for t in labels.frames)
    assert len({tuple(ids) for ids in found}) == 1
