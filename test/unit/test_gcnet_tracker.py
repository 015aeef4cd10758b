"""Algorithm 1 against a plain transcription of its loops, on scripted network outputs."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from camtrack_core.errors import ModelError
from camtrack_core.geometry.boxes import Boxes2D, iou
from gcnet_tracker.config import SLOTS, TrackerConfig
from gcnet_tracker.tracker import FrameOutput, GCNetModel, Tracker

CHANNELS = 4


class NoModel:
    """Stands for the graph where only Algorithm 1 is looked at."""

    def slots(self):
        return np.zeros((CHANNELS, SLOTS), np.float32), np.zeros((CHANNELS, SLOTS), np.float32)


@dataclass
class Entry:
    """One element of T or C in the listing."""

    identity: int
    confidence: float
    query: np.ndarray
    box: np.ndarray


@dataclass
class Listing:
    """Algorithm 1, loop by loop."""

    tracks: list[Entry] = field(default_factory=list)
    candidates: list[Entry] = field(default_factory=list)
    next_id: int = 1

    def step(self, answer, detections: Boxes2D, queries: np.ndarray) -> dict[int, np.ndarray]:
        """`answer(query) -> box, confidence, refreshed query` is the tracking module."""
        kept = []
        for group, bar in ((self.tracks, 0.3), (self.candidates, 0.5)):
            for entry in group:
                box, confidence, query = answer(entry.query)
                y = min(2 * entry.confidence * confidence, 1.5)
                if y >= bar:
                    kept.append(Entry(entry.identity, y, query, box))
        self.tracks, self.candidates = kept, []
        existing = [e.box for e in self.tracks]
        for row in range(len(detections)):
            box, score = detections.xyxy[row], detections.scores[row]
            if score < 0.3 or any(iou(box[None], other[None])[0, 0] > 0.5 for other in existing):
                continue
            entry = Entry(self.next_id, score, queries[:, row], box)
            self.next_id += 1
            (self.tracks if score >= 0.5 else self.candidates).append(entry)
            if score >= 0.5:
                existing.append(box)
        return {e.identity: e.box for e in self.tracks}


def answer(query: np.ndarray, time: int) -> tuple[np.ndarray, float, np.ndarray]:
    """A deterministic tracking module: the query holds an object's position, speed and health."""
    x, speed, health, seed = query
    confidence = float(np.clip(health + 0.3 * np.sin(time * 1.7 + seed), 0, 1))
    x = x + speed
    return np.array([x, 10, x + 20, 40]), confidence, np.array([x, speed, health, seed])


@pytest.mark.parametrize("seed", range(8))
def test_tracker_is_algorithm_1(seed: int) -> None:
    """As printed: there no track ends because another one is where it is (merge_threshold 1)."""
    rng = np.random.default_rng(seed)
    tracker, listing = Tracker(NoModel(), TrackerConfig(keep_threshold=0.3, merge_threshold=1.0)), Listing()
    for time in range(40):
        n = int(rng.integers(0, 6))
        x = rng.uniform(0, 300, n)
        detections = Boxes2D(
            np.stack([x, np.full(n, 10), x + 20, np.full(n, 40)], 1),
            np.sort(rng.uniform(0, 1, n))[::-1],
            np.zeros(n, int),
        )
        # float32 as the slots hold it, so that both sides compute from the same numbers
        queries = np.stack([x, rng.normal(0, 3, n), rng.uniform(0.2, 1, n), rng.uniform(0, 9, n)]).astype(np.float32)
        boxes, confidences, refreshed = np.zeros((SLOTS, 4)), np.zeros(SLOTS), np.zeros((CHANNELS, SLOTS), np.float32)
        for slot in range(SLOTS):
            boxes[slot], confidences[slot], refreshed[:, slot] = answer(tracker._queries[:, slot], time)
        padded = np.zeros((CHANNELS, SLOTS), np.float32)
        padded[:, :n] = queries
        result = tracker.update(FrameOutput(detections, padded, padded, boxes, confidences, refreshed, refreshed))
        expected = listing.step(
            lambda q, t=time: (*answer(q, t)[:2], answer(q, t)[2].astype(np.float32)), detections, queries
        )
        assert set(result.ids.tolist()) == set(expected)
        for identity, box in zip(result.ids.tolist(), result.xyxy, strict=True):
            assert box == pytest.approx(expected[identity], abs=1e-3)


def frame(boxes: list[list[float]], scores: list[float], confidence: float = 1.0) -> FrameOutput:
    zeros = np.zeros((CHANNELS, SLOTS), np.float32)
    n = len(scores)
    detections = Boxes2D(np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.zeros(n, int))
    tracks = np.tile([10.0, 10, 30, 40], (SLOTS, 1))
    return FrameOutput(detections, zeros, zeros, tracks, np.full(SLOTS, confidence), zeros, zeros)


def test_a_candidate_becomes_a_track_and_keeps_its_id() -> None:
    tracker = Tracker(NoModel())
    assert len(tracker.update(frame([[10, 10, 30, 40]], [0.4]))) == 0
    shown = tracker.update(frame([], []))
    assert shown.ids.tolist() == [1] and shown.scores[0] == pytest.approx(0.8)


def test_ids_are_never_used_again_not_even_after_a_reset() -> None:
    tracker = Tracker(NoModel())
    first = tracker.update(frame([[10, 10, 30, 40]], [0.9])).ids[0]
    tracker.update(frame([], [], confidence=0.0))
    second = tracker.update(frame([[10, 10, 30, 40]], [0.9])).ids[0]
    tracker.reset()
    third = tracker.update(frame([[10, 10, 30, 40]], [0.9])).ids[0]
    assert first < second < third


def test_two_detections_of_one_object_become_one_track() -> None:
    tracker = Tracker(NoModel())
    assert len(tracker.update(frame([[10, 10, 30, 40], [10, 10, 30, 41]], [0.9, 0.8]))) == 1


def test_of_two_tracks_that_find_one_object_the_older_remains() -> None:
    """Boxes that share less than half are two objects, nearly the same box is one."""
    tracker = Tracker(NoModel())
    first = tracker.update(frame([[10, 10, 30, 40], [60, 10, 80, 40]], [0.8, 0.9]))
    assert first.ids.tolist() == [1, 2]
    for shift, remaining in ((8.0, [1, 2]), (2.0, [1])):
        both = frame([], [])
        both.track_boxes[1] += [shift, 0, shift, 0]
        assert tracker.update(both).ids.tolist() == remaining


def test_a_track_outside_the_picture_is_not_published() -> None:
    tracker = Tracker(NoModel())
    tracker.update(frame([[10, 10, 30, 40]], [0.9]))
    gone = frame([], [])
    gone.track_boxes[:] = [0, 10, 0, 40]  # clipped to the picture's border
    assert len(tracker.update(gone)) == 0


def test_shrinking_a_picture_does_not_alias() -> None:
    """Stripes of one pixel are grey at a third of the size; bilinear sampling would keep or lose all of them."""
    model = GCNetModel(device="onnxruntime")
    stripes = np.zeros((model.height * 3, model.width * 3, 3), np.uint8)
    stripes[:, ::3] = 255
    model.prepare(stripes)
    assert np.abs(model._input[0].astype(int) - 85).max() <= 1


def test_detections_without_a_slot_are_counted() -> None:
    tracker = Tracker(NoModel())
    boxes = [[50.0 * i, 0, 50 * i + 40, 40] for i in range(SLOTS + 5)]
    shown = tracker.update(frame(boxes, [0.9] * len(boxes)))
    assert len(shown) == SLOTS and tracker.overflow == 5


def test_a_network_that_returns_nan_ends_its_tracks_instead_of_publishing_it() -> None:
    tracker = Tracker(NoModel())
    tracker.update(frame([[10, 10, 30, 40]], [0.9]))
    broken = frame([], [])
    broken.track_boxes[:] = np.nan
    assert len(tracker.update(broken)) == 0


def test_thresholds_are_parameters() -> None:
    tracker = Tracker(NoModel(), TrackerConfig(track_threshold=0.95))
    assert len(tracker.update(frame([[10, 10, 30, 40]], [0.9]))) == 0


@pytest.mark.parametrize("content", [None, b"not a graph"])
def test_a_missing_or_broken_model_is_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        GCNetModel(path, "onnxruntime")
