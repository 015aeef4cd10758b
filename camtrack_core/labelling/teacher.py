"""Labelling a video with a COCO detector (YOLOX): whole frames and tiles, then what agrees over time.

The detector's small input hides small vehicles, so overlapping tiles of the frame are looked at too. A tile cuts
large objects in pieces: its boxes that touch an inner border are discarded, the whole frame shows those objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack_core.commands import progress
from camtrack_core.datasets.labelled import VideoLabels, write_labels
from camtrack_core.datasets.video import Video
from camtrack_core.errors import ModelError
from camtrack_core.geometry.boxes import Boxes2D, Floats, Integers, area, coverage, intersection, iou
from camtrack_core.labelling.consistency import Rules, consistent_tracks
from camtrack_core.runtime.session import open_session

CLASS_NAMES = ("car", "truck", "bus", "pedestrian", "cyclist")
CAR, TRUCK, BUS, PEDESTRIAN, CYCLIST = range(5)
COCO_PERSON, COCO_BICYCLE, COCO_CAR, COCO_MOTORCYCLE, COCO_BUS, COCO_TRUCK = 0, 1, 2, 3, 5, 7
COCO_VEHICLES = (COCO_CAR, COCO_BUS, COCO_TRUCK)
COCO_CYCLES = (COCO_BICYCLE, COCO_MOTORCYCLE)
COCO_GROUPS = (COCO_VEHICLES, (COCO_PERSON,), COCO_CYCLES)  # within a group one object gets one box

Detector = Callable[[NDArray[np.uint8]], Boxes2D]  # of a BGR image; class_ids are COCO's

STRIDES = (8, 16, 32)
PAD_VALUE = 114
SCORE_FLOOR = 0.05  # below is noise
NMS_IOU = 0.5
TILE_SHARE = 0.5  # side of a tile as a share of the image's longer side
TILE_OVERLAP = 0.3  # least overlap of neighbours as a share of a tile's side
BORDER = 4.0  # pixels; a box this near to a tile's inner border is taken as cut off


class Yolox:
    """A YOLOX detector with COCO classes as an undecoded ONNX graph, run on one thread.

    Raises:
        ModelError: the file is missing or no such graph.
    """

    def __init__(self, path: str | Path) -> None:
        self._session = open_session(Path(path), "onnxruntime", threads=1)
        (self._input, shape), *others = self._session.input_shapes.items()
        if others or len(shape) != 4 or shape[2] != shape[3] or not isinstance(shape[2], int):
            raise ModelError(f"{path}: expected one square image as input, got {self._session.input_shapes}")
        self._side = shape[2]
        self._grid, self._stride = anchor_grid(self._side)

    def __call__(self, image: NDArray[np.uint8]) -> Boxes2D:
        """Vehicles, persons and cycles in a BGR image; class_ids are COCO's."""
        tensor, scale = letterbox(image, self._side)
        (output,) = self._session.run({self._input: tensor}).values()
        boxes = decode(output[0], self._grid, self._stride)
        xyxy = np.clip(boxes.xyxy / scale, 0, [image.shape[1], image.shape[0]] * 2)
        return suppress(Boxes2D(xyxy, boxes.scores, boxes.class_ids))


def anchor_grid(side: int) -> tuple[Floats, Floats]:
    """Cell positions (A, 2) in cells and strides (A, 1) in pixels of all YOLOX outputs, row by row."""
    cells, strides = [], []
    for stride in STRIDES:
        n = side // stride
        y, x = np.mgrid[:n, :n]
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        strides.append(np.full((n * n, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def letterbox(image: NDArray[np.uint8], side: int) -> tuple[NDArray[np.float32], float]:
    """The image scaled into the upper left corner of a (1, 3, side, side) float32 tensor, and the scale."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (min(round(width * scale), side), min(round(height * scale), side))
    canvas = np.full((side, side, 3), PAD_VALUE, np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(image, size)
    return canvas.transpose(2, 0, 1)[None].astype(np.float32), scale


def decode(output: Floats, grid: Floats, stride: Floats) -> Boxes2D:
    """Boxes in input pixels from raw outputs (A, 5 + classes), of the classes in COCO_GROUPS above the floor."""
    scores = output[:, 4:5] * output[:, 5:]
    class_ids, best = scores.argmax(1), scores.max(1)
    wanted = np.concatenate([np.array(group) for group in COCO_GROUPS])
    keep = (best > SCORE_FLOOR) & np.isin(class_ids, wanted)
    centre = (output[keep, :2] + grid[keep]) * stride[keep]
    half = np.exp(output[keep, 2:4]) * stride[keep] / 2
    return Boxes2D(np.concatenate([centre - half, centre + half], 1), best[keep], class_ids[keep])


def non_maximum(xyxy: Floats, scores: Floats, threshold: float) -> Integers:
    """Indices, best first, of the boxes that overlap no better one by more than `threshold` IoU."""
    order = np.argsort(-scores, kind="stable")
    overlaps = iou(xyxy, xyxy) > threshold
    kept: list[int] = []
    suppressed = np.zeros(len(scores), bool)
    for i in order:
        if not suppressed[i]:
            kept.append(i)
            suppressed |= overlaps[i]
    return np.array(kept, np.int64)


def suppress(boxes: Boxes2D) -> Boxes2D:
    """Non-maximum suppression within each group of COCO classes."""
    kept = []
    for group in COCO_GROUPS:
        members = np.flatnonzero(np.isin(boxes.class_ids, group))
        kept.append(members[non_maximum(boxes.xyxy[members], boxes.scores[members], NMS_IOU)])
    return boxes[np.concatenate(kept)]


def tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Overlapping square tiles (x1, y1, x2, y2) that cover an image, in pixels."""
    side = min(round(TILE_SHARE * max(width, height)), width, height)
    return [(x, y, x + side, y + side) for y in _offsets(height, side) for x in _offsets(width, side)]


def _offsets(length: int, side: int) -> list[int]:
    """Evenly spaced begins of the fewest tiles that cover a length and overlap by TILE_OVERLAP at least."""
    steps = math.ceil((length - side) / (side * (1 - TILE_OVERLAP)))
    return np.linspace(0, length - side, steps + 1).astype(int).tolist()


def detect_with_tiles(detector: Detector, image: NDArray[np.uint8]) -> Boxes2D:
    """Detections of the whole frame and of its tiles, class_ids are COCO's."""
    height, width = image.shape[:2]
    found = [detector(image)]
    for x1, y1, x2, y2 in tiles(width, height):
        boxes = detector(np.ascontiguousarray(image[y1:y2, x1:x2]))
        boxes = Boxes2D(boxes.xyxy + np.array([x1, y1, x1, y1]), boxes.scores, boxes.class_ids)
        boxes = boxes[~_cut_off(boxes.xyxy, (x1, y1, x2, y2), width, height)]
        found.append(boxes[~_part_of_larger(boxes, found[0])])
    return suppress(_concatenate(found))


def _cut_off(xyxy: Floats, tile: tuple[int, int, int, int], width: int, height: int) -> NDArray[np.bool_]:
    """(N,) whether a box touches a border of its tile that is not the image's own."""
    inner = np.array([tile[0] > 0, tile[1] > 0, tile[2] < width, tile[3] < height])
    return ((np.abs(xyxy - np.array(tile)) <= BORDER) & inner).any(1)


def _part_of_larger(boxes: Boxes2D, whole: Boxes2D) -> NDArray[np.bool_]:
    """(N,) whether a tile's box is a fragment of a sure and larger box of the whole frame of its group."""
    sure = whole[whole.scores > 0.5]
    inside = coverage(boxes.xyxy, sure.xyxy) > 0.8
    larger = area(boxes.xyxy)[:, None] < 0.6 * area(sure.xyxy)[None]
    return (inside & larger & (_group(boxes.class_ids)[:, None] == _group(sure.class_ids)[None])).any(1)


def _group(class_ids: Integers) -> Integers:
    """(N,) index into COCO_GROUPS."""
    return np.argmax([np.isin(class_ids, group) for group in COCO_GROUPS], axis=0)


def traffic_objects(boxes: Boxes2D) -> tuple[Boxes2D, Floats]:
    """COCO detections as objects with CLASS_NAMES, and regions (M, 5) with scores that nobody can judge.

    A cycle and the person on it become one cyclist; cycles without a rider and persons inside the upper part of a
    vehicle (its driver) become regions.
    """
    vehicles = boxes[np.isin(boxes.class_ids, COCO_VEHICLES)]
    persons = boxes[boxes.class_ids == COCO_PERSON]
    cycles = boxes[np.isin(boxes.class_ids, COCO_CYCLES)]
    cyclists, riders, ridden = _merge_riders(persons, cycles)
    inside = _drivers(persons, vehicles)

    walking = persons[~riders & ~inside]
    vehicle_ids = np.select([vehicles.class_ids == COCO_BUS, vehicles.class_ids == COCO_TRUCK], [BUS, TRUCK], CAR)
    objects = [
        Boxes2D(vehicles.xyxy, vehicles.scores, vehicle_ids),
        Boxes2D(walking.xyxy, walking.scores, np.full(len(walking), PEDESTRIAN)),
        cyclists,
    ]
    unclear = _concatenate([cycles[~ridden], persons[inside]])
    return _concatenate(objects), np.column_stack([unclear.xyxy, unclear.scores])


def _merge_riders(persons: Boxes2D, cycles: Boxes2D) -> tuple[Boxes2D, NDArray[np.bool_], NDArray[np.bool_]]:
    """Cyclists, and which persons (N,) and cycles (M,) they are made of."""
    riders, ridden = np.zeros(len(persons), bool), np.zeros(len(cycles), bool)
    boxes, scores = [], []
    overlap = intersection(cycles.xyxy, persons.xyxy) / np.maximum(area(cycles.xyxy), 1e-9)[:, None]
    for i in np.argsort(-cycles.scores):
        free = np.where(riders, 0, overlap[i])
        if not len(free) or free.max() < 0.25:
            continue
        j = int(free.argmax())
        cycle, person = cycles.xyxy[i], persons.xyxy[j]
        # A pedestrian beside or behind a parked cycle is much taller than the cycle or stands deeper than it.
        if person[3] > cycle[3] + 0.1 * (cycle[3] - cycle[1]):
            continue
        riders[j] = ridden[i] = True
        boxes.append(np.concatenate([np.minimum(cycle[:2], person[:2]), np.maximum(cycle[2:], person[2:])]))
        scores.append(max(cycles.scores[i], persons.scores[j]))
    xyxy = np.array(boxes).reshape(-1, 4)
    return Boxes2D(xyxy, np.array(scores, float), np.full(len(xyxy), CYCLIST)), riders, ridden


def _drivers(persons: Boxes2D, vehicles: Boxes2D) -> NDArray[np.bool_]:
    """(N,) whether a person is seen through a vehicle's window: inside it, its feet well above the ground.

    A vehicle less than half as sure as the person is none: weak finds as large as a house would take in all who walk.
    """
    low, high = vehicles.xyxy[:, 1], vehicles.xyxy[:, 3]
    above = persons.xyxy[:, None, 3] < high - 0.2 * (high - low)
    sure = vehicles.scores >= persons.scores[:, None] / 2
    return np.any((coverage(persons.xyxy, vehicles.xyxy) > 0.9) & above & sure, axis=1)


def _concatenate(sets: list[Boxes2D]) -> Boxes2D:
    return Boxes2D(
        np.concatenate([s.xyxy for s in sets]),
        np.concatenate([s.scores for s in sets]),
        np.concatenate([s.class_ids for s in sets]),
    )


def detect_video(video: Video, detector: Yolox) -> Iterator[tuple[Boxes2D, Floats]]:
    """Objects and unclear regions of each frame of a video."""
    for frame in video:
        yield traffic_objects(detect_with_tiles(detector, frame.image))


def label_video(video: str | Path, teacher_onnx: str | Path, out: str | Path) -> VideoLabels:
    """Label a video with a detector, write the labels to `out` and return them; shows its progress.

    Args:
        video: a video file.
        teacher_onnx: a YOLOX graph with COCO classes.
        out: the label file to write, gzipped if its name ends in .gz.

    Raises:
        DataError: the video cannot be read.
        ModelError: the graph cannot be read.
    """
    source = Video(video)
    steps = detect_video(source, Yolox(teacher_onnx))
    found = list(progress(steps, f"labelling {source.path.name}", len(source)))
    objects, unclear = [boxes for boxes, _ in found], [regions for _, regions in found]
    frames, ignored = consistent_tracks(objects, unclear, len(CLASS_NAMES), Rules())
    labels = VideoLabels(source.path.name, (source.width, source.height), CLASS_NAMES, frames, ignored)
    write_labels(out, labels)
    return labels
