"""Algorithm 1 of the paper over the exported graph: joint detection and tracking, frame by frame. No torch, no ROS."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import ModelError
from camtrack_core.geometry.boxes import Boxes2D, Floats, Integers, area, clip, iou
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.networks.letterbox import PADDING, fit_into
from camtrack_core.runtime import (
    MOST_FRAMES,
    Device,
    Precision,
    Session,
    Stored,
    answering,
    expect_answer,
    expect_classes,
    expect_names,
    expect_sizes,
    open_session,
    stated_names,
)
from gcnet_tracker.config import INPUTS, OUTPUTS, RESIDENT, SLOTS, TrackerConfig

SIZES: dict[str, tuple[str | int, ...]] = {
    "image": ("frames", "height", "width", 3), "queries": ("frames", "c", SLOTS), "values": ("frames", "v", SLOTS),
}  # fmt: skip
DEMO_MODEL = Path(__file__).parent / "weights" / "gcnet_demo.onnx"


@dataclass(frozen=True)
class FrameOutput:
    """What the graph says about one frame; boxes in pixels of the original image.

    Attributes:
        detections: best first.
        queries, values: (c, 128) features to store with each detection.
        track_boxes: (128, 4) of the stored slots.
        track_confidences: (128,) of the stored slots.
        track_queries, track_values: (c, 128) refreshed features of the stored slots.
    """

    detections: Boxes2D
    queries: Stored
    values: Stored
    track_boxes: Floats
    track_confidences: Floats
    track_queries: Stored
    track_values: Stored


@dataclass(frozen=True)
class Query:
    """What the graph is asked about a frame.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        queries, values: (c, 128) features of the stored slots.
    """

    image: NDArray[np.uint8]
    queries: Stored
    values: Stored


class GCNetModel:
    """An exported graph with its resize: what turns images of one or several cameras into a FrameOutput each.

    Attributes:
        cameras: frames that it takes at a time, at most.
        took: seconds that the stages of the last run took, of all its frames together.

    Raises ModelError for a file that is missing or no exported GCNet.
    """

    def __init__(
        self, path: Path = DEMO_MODEL, device: Device = "auto", threads: int = 0, precision: Precision = "auto",
        device_id: int = 0, opened: Callable[..., Session] = open_session,
    ) -> None:  # fmt: skip
        self.session: Session = opened(path, device, threads, precision, device_id, RESIDENT)
        self._path = path
        metadata = self.session.metadata
        if metadata.get("camtrack_model") != "gcnet":
            raise ModelError(f"{path}: expected a graph exported by gcnet_tracker, got {dict(metadata) or 'another'}")
        expect_names(path, self.session, INPUTS, OUTPUTS)
        self.class_names = stated_names(path, self.session, "class_names")
        expect_sizes(path, self.session, {"image": SIZES["image"]})
        frames, self.height, self.width, _ = self.session.input_shapes["image"]
        stated, taken = f"{metadata.get('height')}x{metadata.get('width')}", f"{self.height}x{self.width}"
        if stated != taken:
            raise ModelError(f"{path}: states an input of {stated}, its graph takes {taken}")
        expect_sizes(path, self.session, SIZES)
        self.cameras = MOST_FRAMES if frames < 0 else frames
        self.took: dict[str, float] = {}
        self._input = np.full((self.cameras, self.height, self.width, 3), PADDING, np.uint8)

    def slots(self) -> tuple[Stored, Stored]:
        """Empty stored features: queries and values, (c, 128) float32 each."""
        shapes = self.session.input_shapes
        return self.session.store(shapes["queries"][1:]), self.session.store(shapes["values"][1:])

    def prepare(self, image: NDArray[np.uint8], camera: int = 0) -> float:
        """Puts an image (H, W, 3) BGR into a camera's input, as `fit_into` does; returns its scale."""
        return fit_into(self._input[camera], image)

    def infer(self, queries: Sequence[Query]) -> list[FrameOutput]:
        """Runs the graph once on the frames of at most `cameras` cameras."""
        begin = time.perf_counter()
        scales = [self.prepare(query.image, camera) for camera, query in enumerate(queries)]
        prepared = time.perf_counter()
        with answering(self._path):
            out = self.session.run({
                "image": self._input[: len(queries)],
                "queries": [query.queries for query in queries],
                "values": [query.values for query in queries],
            })  # fmt: skip
            self.took = {"resize": prepared - begin, "inference": time.perf_counter() - prepared}
            return self._answers(out, queries, scales)

    def _answers(self, out: Mapping[str, Any], queries: Sequence[Query], scales: Sequence[float]) -> list[FrameOutput]:
        """One for each query. Raises ValueError where the outputs do not fit together."""
        # a graph for one camera has no axis of cameras here
        boxes, track_boxes = (out[name].reshape(len(queries), -1, 4) for name in ("boxes", "track_boxes"))
        scores, class_ids = (out[name].reshape(len(queries), -1) for name in ("scores", "class_ids"))
        confidences = out["track_confidences"].reshape(len(queries), -1)
        peaks, channels = boxes.shape[1], [self.session.input_shapes[name][1] for name in ("queries", "values")]
        answers = []
        for row, (query, scale) in enumerate(zip(queries, scales, strict=True)):
            resident = {name: out[name][row] for name in RESIDENT}
            expect_answer({
                "scores": scores[row], "class_ids": class_ids[row], "track_boxes": track_boxes[row],
                "track_confidences": confidences[row], **resident,
            }, {
                "scores": (peaks,), "class_ids": (peaks,), "track_boxes": (SLOTS, 4), "track_confidences": (SLOTS,),
                "new_queries": (channels[0], peaks), "new_values": (channels[1], peaks),
                "track_queries": (channels[0], SLOTS), "track_values": (channels[1], SLOTS),
            })  # fmt: skip
            expect_classes(class_ids[row], self.class_names)
            height, width = query.image.shape[:2]
            found = clip(boxes[row] / scale, width, height), scores[row].astype(float), class_ids[row].astype(np.int64)
            answers.append(FrameOutput(
                Boxes2D(*found), resident["new_queries"], resident["new_values"],
                clip(track_boxes[row] / scale, width, height), confidences[row],
                resident["track_queries"], resident["track_values"],
            ))  # fmt: skip
        return answers


class Detector:
    """Detection alone: the peaks of single images, for scoring."""

    def __init__(self, model: GCNetModel, threshold: float = 0.05) -> None:
        self.model, self.threshold = model, threshold

    def __call__(self, image: NDArray[np.uint8]) -> Boxes2D:
        (frame,) = self.model.infer([Query(image, *self.model.slots())])
        return frame.detections[frame.detections.scores >= self.threshold]


class Tracker:
    """State of Algorithm 1: T, C, Y and O, one slot for each track or candidate."""

    def __init__(self, model: GCNetModel, config: TrackerConfig | None = None) -> None:
        self.model, self.config = model, config or TrackerConfig()
        self._next_id = 1
        self.overflow = 0  # detections that found no free slot
        self.reset()

    def reset(self) -> None:
        """Forgets all tracks; their ids are not used again."""
        self._queries, self._values = self.model.slots()
        self._ids = np.zeros(SLOTS, np.int64)  # 0: free
        self._is_track = np.zeros(SLOTS, bool)  # else a candidate
        self._confidences = np.zeros(SLOTS)
        self._boxes = np.zeros((SLOTS, 4))
        self._class_ids = np.zeros(SLOTS, np.int64)

    def step(self, image: NDArray[np.uint8]) -> Tracks2D:
        """Tracks after the next image (H, W, 3) uint8 BGR."""
        (frame,) = self.model.infer([self.query(image)])
        return self.update(frame)

    def query(self, image: NDArray[np.uint8]) -> Query:
        """What to ask the graph about the next image."""
        return Query(image, self._queries, self._values)

    def update(self, frame: FrameOutput) -> Tracks2D:
        """Tracks after the frame that the graph has answered: the loops of Algorithm 1 over T, C and the detections."""
        self._follow(frame)
        self._start(frame)
        shown = self._is_track & (area(self._boxes) > 0)  # others are outside the picture
        return Tracks2D(
            self._ids[shown],
            self._boxes[shown],
            np.minimum(self._confidences[shown], 1.0),
            self._class_ids[shown],
        )

    def _follow(self, frame: FrameOutput) -> None:
        """Tracks and candidates into the current frame; the weak ones end."""
        config = self.config
        used = self._ids > 0
        confidence = np.minimum(2 * self._confidences * frame.track_confidences, config.max_confidence)
        finite = np.isfinite(frame.track_boxes).all(1) & np.isfinite(confidence)
        bar = np.where(self._is_track, config.keep_threshold, config.track_threshold)
        alive = used & finite & (confidence >= bar)
        alive &= ~self._repeated(frame.track_boxes, alive)
        self._confidences = np.where(alive, confidence, 0.0)
        self._ids[~alive] = 0
        self._is_track = alive
        self._boxes[alive] = frame.track_boxes[alive]
        self._queries[:] = frame.track_queries  # those of free slots are read by nobody
        self._values[:] = frame.track_values

    def _repeated(self, boxes: Floats, alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(128,) slots that found an object which an older one has found as well: it remains one track."""
        rows = np.flatnonzero(alive)
        same = iou(boxes[rows], boxes[rows]) > self.config.merge_threshold
        older = self._ids[rows][None] < self._ids[rows][:, None]
        repeated = np.zeros(SLOTS, bool)
        repeated[rows] = (same & older).any(1)
        return repeated

    def _start(self, frame: FrameOutput) -> None:
        """Detections that no track explains become tracks or candidates."""
        config = self.config
        detections = frame.detections
        new = self._unexplained(detections)
        free = np.flatnonzero(self._ids == 0)
        self.overflow += max(len(new) - len(free), 0)
        new, slots = new[: len(free)], free[: len(new)]
        self._ids[slots] = np.arange(self._next_id, self._next_id + len(new))
        self._next_id += len(new)
        self._is_track[slots] = detections.scores[new] >= config.track_threshold
        self._confidences[slots] = detections.scores[new]
        self._boxes[slots] = detections.xyxy[new]
        self._class_ids[slots] = detections.class_ids[new]
        for slot, row in zip(slots.tolist(), new.tolist(), strict=True):
            self._queries[:, slot] = frame.queries[:, row]
            self._values[:, slot] = frame.values[:, row]

    def _unexplained(self, detections: Boxes2D) -> Integers:
        """Rows of the detections that start something, best first: what starts a track takes part in T at once."""
        config = self.config
        rows = np.flatnonzero(detections.scores >= config.keep_threshold)
        boxes, tracks = detections.xyxy[rows], detections.scores[rows] >= config.track_threshold
        explained = iou(boxes, self._boxes[self._ids > 0]).max(1, initial=0.0) > config.overlap_threshold
        alike = iou(boxes, boxes) > config.overlap_threshold
        new: list[int] = []
        for place in range(len(rows)):
            if not explained[place]:
                new.append(place)
                if tracks[place]:
                    explained |= alike[place]
        return rows[new]
