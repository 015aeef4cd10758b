"""Two teachers that agree, what they make of recordings, and pictures with YOLO's labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.datasets.sources import open_source
from camtrack_core.datasets.video import read_image
from camtrack_core.errors import ConfigurationError, DataError, ModelError
from camtrack_core.geometry.boxes import Boxes2D, iou
from camtrack_core.labelling import picodet
from camtrack_core.labelling.agreement import agree
from camtrack_core.labelling.recordings import Completed, Taught, one_by_one, over_time
from camtrack_core.labelling.teacher import COCO_BUS, COCO_CAR, COCO_PERSON, COCO_TRUCK
from time3d_tracker import clips
from time3d_tracker.cli import app


def boxes(*rows: tuple[list[float], float, int]) -> Boxes2D:
    xyxy, scores, class_ids = zip(*rows, strict=True) if rows else ([], [], [])
    return Boxes2D(np.array(xyxy, float).reshape(-1, 4), np.array(scores, float), np.array(class_ids, np.int64))


def test_what_both_see_is_one_box_and_what_one_sees_counts_half() -> None:
    first = boxes(
        ([0, 0, 100, 50], 0.9, COCO_BUS), ([200, 0, 240, 50], 0.6, COCO_CAR), ([0, 0, 90, 50], 0.7, COCO_PERSON)
    )
    second = boxes(([0, 0, 110, 50], 0.3, COCO_TRUCK), ([300, 0, 340, 50], 0.8, COCO_CAR))
    found = agree(first, second)
    order = np.lexsort([found.xyxy[:, 0], -found.scores])
    np.testing.assert_allclose(found.scores[order], [0.6, 0.4, 0.35, 0.3])
    assert found.class_ids[order].tolist() == [COCO_BUS, COCO_CAR, COCO_PERSON, COCO_CAR]
    np.testing.assert_allclose(found.xyxy[order[0]], [0, 0, (0.9 * 100 + 0.3 * 110) / 1.2, 50])
    assert len(agree(boxes(), second)) == 2 and len(agree(boxes(), boxes())) == 0


class Recording:
    """Three pictures with a car that moves by 4 pixels, labelled or not."""

    name, class_names = "recording", ("car",)

    def __init__(self, labelled: bool) -> None:
        self.labelled = labelled

    def __len__(self) -> int:
        return 12

    def __iter__(self):  # type: ignore[no-untyped-def]
        for i in range(len(self)):
            own = Labels(np.array([7]), np.array([[4.0 * i, 0, 40 + 4 * i, 30]]), np.array([0]), np.ones(1))
            yield Frame(i, np.full((60, 200, 3), i, np.uint8), own if self.labelled else None)


def seen(image: np.ndarray) -> Boxes2D:
    """The car, and a van that is there in every picture but nobody labelled; a doubtful one beside."""
    shift = 4.0 * float(image[0, 0, 0])
    return boxes(
        ([shift, 0, 40 + shift, 30], 0.8, COCO_CAR),
        ([140, 30, 180, 60], 0.6, COCO_TRUCK),
        ([100, 40, 110, 50], 0.2, COCO_CAR),
    )


def test_a_recording_in_order_gets_tracks() -> None:
    frames = list(Taught(Recording(False), seen, over_time))
    ids = {tuple(frame.labels.ids.tolist()) for frame in frames if frame.labels is not None}
    assert len(ids) == 1 and len(next(iter(ids))) == 2
    assert all(frame.ignored.tolist() == [[100, 40, 110, 50]] for frame in frames)


@pytest.mark.parametrize("rule", [over_time, one_by_one])
def test_what_the_teachers_saw_stays_beside_the_labels(rule: Callable) -> None:
    """The doubtful find too, which is an ignored region to the labels."""
    for number, frame in enumerate(Taught(Recording(False), seen, rule)):
        assert frame.finds is not None and frame.finds.scores.tolist() == [0.8, 0.6, 0.2]
        assert frame.finds.xyxy[0].tolist() == [4 * number, 0, 40 + 4 * number, 30]
    for frame in Completed(Recording(True), seen):
        assert frame.finds is not None and frame.finds.scores.tolist() == [0.8, 0.6, 0.2]


def test_unrelated_pictures_share_no_object() -> None:
    frames = list(Taught(Recording(False), seen, one_by_one))
    every = np.concatenate([frame.labels.ids for frame in frames if frame.labels is not None])
    assert len(every) == 24 and len(set(every.tolist())) == 24
    assert all(frame.ignored.tolist() == [[100, 40, 110, 50]] for frame in frames)


def test_what_nobody_labelled_is_ignored() -> None:
    for frame in Completed(Recording(True), seen):
        assert frame.labels is not None and frame.labels.ids.tolist() == [7]
        assert sorted(frame.ignored.tolist()) == [[100, 40, 110, 50], [140, 30, 180, 60]]


class Hidden(Recording):
    """The same pictures; a second car is labelled beside the first, another behind it, both as hidden by its box."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        for frame in super().__iter__():
            (x1, _, x2, _) = frame.labels.xyxy[0]
            boxes = np.array([[x1, 0, x2, 30], [x1 - 4, 0, x2 - 4, 34], [138, 28, 184, 62]], float)
            yield replace(frame, labels=Labels(np.array([7, 8, 9]), boxes, np.zeros(3, int), np.array([0.9, 0, 0.1])))


def test_what_a_teacher_finds_is_not_hidden() -> None:
    """The car behind is not: the find over it is the first car's."""
    frame = next(iter(Completed(Hidden(True), seen)))
    assert frame.labels is not None and frame.labels.visible.tolist() == [1.0, 0.0, 1.0]
    assert frame.ignored.tolist() == [[100, 40, 110, 50]]


def test_distances_are_the_expectation_of_their_bins() -> None:
    scores = [np.zeros((math.ceil(picodet.SIDE / s) ** 2, 80), np.float32) for s in picodet.STRIDES]
    bins = [np.full((len(s), 32), -20.0, np.float32) for s in scores]
    cell = 3 * 26 + 5  # row 3, column 5 of stride 16
    scores[1][cell, COCO_BUS] = 0.75
    bins[1][cell, [2, 8 + 1, 16 + 3, 24 + 4, 24 + 5]] = 20  # left 2, up 1, right 3, down 4.5 strides
    found = picodet.decode(scores, bins)
    np.testing.assert_allclose(found.xyxy, [[88 - 32, 56 - 16, 88 + 48, 56 + 72]], atol=1e-3)
    assert found.scores.tolist() == [0.75] and found.class_ids.tolist() == [COCO_BUS]


def test_a_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.param"):
        picodet.PicoDet(tmp_path / "none.param")


def test_picodet_finds_the_cars_ahead(data_root: Path) -> None:
    capture = cv2.VideoCapture(str(data_root / "videos/highway_a.mp4"))
    found = picodet.PicoDet(data_root / "teacher/picodet-s-416.param")(capture.read()[1])
    cars = np.array([[811, 404, 943, 497], [1004, 404, 1200, 501]], float)
    overlap = iou(cars, found.xyxy)
    assert overlap.max(1).min() > 0.6
    assert found.scores[overlap.argmax(1)].min() > 0.4
    assert set(found.class_ids[overlap.argmax(1)].tolist()) == {COCO_CAR}


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "data.yaml").write_text("names: [small bus, tree, truck-l-]\nnc: 3\n")
    for name, rows in (("day_1", "0 .5 .5 .25 .5\n1 .1 .1 .1 .1\n2 .25 .75 .5 .5\n"), ("night_1", "")):
        cv2.imwrite(str(tmp_path / f"images/{name}.jpg"), np.zeros((40, 40, 3), np.uint8))
        (tmp_path / f"labels/{name}.txt").write_text(rows)
    return tmp_path


def test_yolo_labels_in_stretched_pictures(yolo: Path) -> None:
    first, second = open_source(f"{yolo}?aspect=2")
    assert first.image.shape == (40, 80, 3)
    assert first.labels is not None and second.labels is not None
    assert first.labels.xyxy.tolist() == [[30, 10, 50, 30], [0, 20, 40, 40]]
    assert first.labels.class_ids.tolist() == [2, 1] and len(second.labels) == 0
    assert len(open_source(f"{yolo}?name=night")) == 1
    (left,) = open_source(f"{yolo}?name=!night")
    assert left.labels is not None and len(left.labels) == 2


def test_wrong_yolo_folders_are_named(yolo: Path) -> None:
    with pytest.raises(ConfigurationError, match="aspect"):
        open_source(f"{yolo}?aspect=wide")
    with pytest.raises(DataError, match="expected pictures dawn"):
        open_source(f"{yolo}?name=dawn")
    (yolo / "labels/day_1.txt").write_text("0 .5 .5\n")
    with pytest.raises(DataError, match=r"day_1\.txt"):
        list(open_source(str(yolo)))
    (yolo / "data.yaml").write_text("nc: 3")
    with pytest.raises(DataError, match=r"data\.yaml"):
        open_source(str(yolo))


def test_toll_road_boxes_lie_on_vehicles(data_root: Path) -> None:
    """The labels fit the pictures also where they are unstretched: a teacher sees most of the labelled vehicles."""
    detector = picodet.PicoDet(data_root / "teacher/picodet-s-416.param")
    source = open_source(f"{data_root}/real2d/rf100_toll_cctv?aspect=1.778&name=siang")
    shares = []
    for frame, _ in zip(source, range(6), strict=False):
        assert frame.labels is not None and frame.image.shape[:2] == (640, 1138)
        large = frame.labels[frame.labels.xyxy[:, 3] - frame.labels.xyxy[:, 1] > 60]
        shares += (iou(large.xyxy, detector(frame.image).xyxy).max(1, initial=0) > 0.5).tolist()
    assert len(shares) > 10 and np.mean(shares) > 0.7
    assert read_image(data_root / "real2d/rf100_toll_cctv/images/adit_mp4_00002.jpg").shape == (640, 640, 3)


def test_one_command_gathers_what_has_places_and_what_has_none(data_root: Path, tmp_path: Path) -> None:
    """A drive with its own labels and pictures that the teachers label, as clips of Time3D."""
    (tmp_path / "street.yaml").write_text(
        "recordings:\n"
        "  - {source: 'drive:7?frames=2&width=320&height=192', labels: own}\n"
        "  - {source: real2d/udacity_carnd/vehicle_test_images, labels: one_by_one}\n"
    )
    options = ["--config", tmp_path / "street.yaml", "--data", data_root, "--out", tmp_path / "clips", "--json"]
    run = CliRunner().invoke(app, ["gather", *map(str, options)])
    assert run.exit_code == 0, run.output
    assert sorted(path.stem for path in (tmp_path / "clips").iterdir()) == ["drive-000007", "vehicle_test_images"]
    drive, pictures = map(clips.load, sorted((tmp_path / "clips").iterdir()))
    assert all(np.isfinite(boxes.centre).all() for boxes in drive.boxes) and drive.heights.min() > 1
    assert len(pictures) == 6 and sum(map(len, pictures.labels)) >= 6
    assert all(np.isnan(boxes.centre).all() for boxes in pictures.boxes) and pictures.heights.max() == 0
    ids = np.concatenate([labels.ids for labels in pictures.labels])
    assert len(set(ids.tolist())) == len(ids), "expected unrelated pictures to share no object"
