"""Overlap of boxes in space against polygon clipping, and AB3DMOT's scores on its own tracks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camtrack_core.datasets.kitti.rows import KittiObjects, from_camera, read_objects
from camtrack_core.errors import DataError
from camtrack_core.evaluation.kitti.kitti3d import UNROUNDED, Scores3D, score_tracks_3d
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.overlap import ground_intersection, iou_3d

SEQUENCES = ("0001", "0006", "0010", "0012", "0013", "0015")
Point = tuple[float, float]


def box(x: float, y: float, yaw: float, length: float = 4.0, width: float = 2.0, z: float = 0.0) -> Boxes3D:
    size = np.array([[length, width, 1.5]])
    return Boxes3D(np.array([[x, y, z]]), size, np.array([yaw]), np.full((1, 3), np.nan))


def clipped_area(subject: list[Point], window: list[Point]) -> float:
    """Area of a counter-clockwise polygon inside a convex counter-clockwise window (Sutherland and Hodgman)."""
    for (ax, ay), (bx, by) in zip(window, window[1:] + window[:1], strict=True):

        def side(p: Point, ax: float = ax, ay: float = ay, bx: float = bx, by: float = by) -> float:
            return (bx - ax) * (p[1] - ay) - (by - ay) * (p[0] - ax)

        kept: list[Point] = []
        for p, q in zip(subject, subject[1:] + subject[:1], strict=True):
            if side(p) >= 0:
                kept.append(p)
            if (side(p) >= 0) != (side(q) >= 0):
                share = side(p) / (side(p) - side(q))
                kept.append((p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])))
        subject = kept
        if not subject:
            return 0.0
    return sum(p[0] * q[1] - p[1] * q[0] for p, q in zip(subject, subject[1:] + subject[:1], strict=True)) / 2


def outline(boxes: Boxes3D) -> list[Point]:
    x, y = boxes.centre[0, :2]
    forward = np.array([np.cos(boxes.yaw[0]), np.sin(boxes.yaw[0])]) * boxes.size[0, 0] / 2
    left = np.array([-np.sin(boxes.yaw[0]), np.cos(boxes.yaw[0])]) * boxes.size[0, 1] / 2
    corners = [forward - left, forward + left, -forward + left, -forward - left]
    return [(x + float(c[0]), y + float(c[1])) for c in corners]


reals = st.floats(-3, 3)
sides = st.floats(0.3, 6)


@settings(max_examples=300)
@given(reals, reals, st.floats(-7, 7), sides, sides, sides, sides, st.floats(-7, 7))
def test_shared_ground_equals_polygon_clipping(
    x: float, y: float, yaw: float, l1: float, w1: float, l2: float, w2: float, other: float
) -> None:
    a, b = box(1.0, -2.0, other, l1, w1), box(1.0 + x, -2.0 + y, yaw, l2, w2)
    assert ground_intersection(a, b)[0] == pytest.approx(clipped_area(outline(a), outline(b)), abs=1e-6)


@given(st.floats(-7, 7), sides, sides, st.floats(0.1, 1), st.floats(-1, 1))
def test_shared_ground_of_boxes_with_sides_on_one_line(
    yaw: float, length: float, width: float, share: float, shift: float
) -> None:
    """A box within another of the same width, along which it is shifted: its own area, or what is left of it."""
    a = box(1.0, -2.0, yaw, length, width)
    moved = shift * length
    b = box(1.0 + moved * np.cos(yaw), -2.0 + moved * np.sin(yaw), yaw, share * length, width)
    low, high = max(-length / 2, moved - share * length / 2), min(length / 2, moved + share * length / 2)
    assert ground_intersection(a, b)[0] == pytest.approx(max(high - low, 0) * width, abs=1e-6)
    assert ground_intersection(b, a)[0] == pytest.approx(max(high - low, 0) * width, abs=1e-6)


@pytest.mark.parametrize("yaw", [0.0, 0.3, np.pi / 2, 2.0, -np.pi])
def test_equal_touching_and_separate_boxes(yaw: float) -> None:
    a = box(5.0, 1.0, yaw)
    assert iou_3d(a, a)[0, 0] == pytest.approx(1.0, abs=1e-9)
    assert iou_3d(a, box(5.0, 1.0, yaw + np.pi))[0, 0] == pytest.approx(1.0, abs=1e-9)
    ahead = box(5.0 + 4 * np.cos(yaw), 1.0 + 4 * np.sin(yaw), yaw)
    assert iou_3d(a, ahead)[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert iou_3d(a, box(30.0, 1.0, yaw))[0, 0] == 0
    half = box(5.0 + 2 * np.cos(yaw), 1.0 + 2 * np.sin(yaw), yaw)
    assert iou_3d(a, half)[0, 0] == pytest.approx(1 / 3)
    assert iou_3d(a, box(5.0, 1.0, yaw, z=0.75))[0, 0] == pytest.approx(1 / 3)


def test_camera_boxes_become_boxes_with_z_up() -> None:
    """A car 10 m ahead and 2 m to the right that drives away: rotation_y is -pi / 2."""
    boxes = from_camera(np.array([[2.0, 1.7, 10.0]]), np.array([[1.5, 1.6, 4.0]]), np.array([-np.pi / 2]))
    assert boxes.centre[0] == pytest.approx([10.0, -2.0, -0.95])
    assert boxes.size[0].tolist() == [4.0, 1.6, 1.5]
    assert boxes.yaw[0] == pytest.approx(0.0)


# --- Scores


def objects(*rows: tuple[int, int, str, float, float]) -> KittiObjects:
    """Rows of frame, id, kind, place along the road and score; boxes are 60 pixels high."""
    count = len(rows)
    frames, ids, kinds, x, scores = (np.array([row[i] for row in rows]) for i in range(5))
    low = np.stack([100 + 100 * x, np.full(count, 100), 160 + 100 * x, np.full(count, 160)], 1)
    size = np.tile([4.0, 2.0, 1.5], (count, 1))
    boxes = Boxes3D(np.stack([x, 0 * x, 0 * x], 1), size, np.zeros(count), np.full((count, 3), np.nan))
    visible = np.zeros(count, np.int64)
    return KittiObjects(frames, ids, kinds.astype(np.str_), visible, visible, low, boxes, scores)


def row(frames: range, track: int, x: float, score: float = 1.0, kind: str = "Car") -> list:
    return [(f, track, kind, x, score) for f in frames]


def scores(truth: list, tracks: list) -> Scores3D:
    return score_tracks_3d({"a": objects(*truth)}, {"a": objects(*tracks)}, slack=UNROUNDED)


def test_true_boxes_as_tracks_score_1() -> None:
    found = scores(row(range(40), 1, 0.0) + row(range(40), 2, 10.0), row(range(40), 7, 0.0) + row(range(40), 8, 10.0))
    assert (found.samota, found.mota, found.motp, found.amotp) == pytest.approx((1, 1, 1, 1))
    assert found.amota == pytest.approx(1.0)  # with one score for all tracks every step has full recall
    assert (found.hits, found.misses, found.false_positives, found.id_switches) == (80, 0, 0, 0)


def test_errors_are_counted() -> None:
    truth = row(range(40), 1, 0.0)
    tracks = row(range(20), 1, 0.0) + row(range(20, 36), 2, 0.0) + row(range(10), 3, 50.0)
    found = scores(truth, tracks)
    assert (found.hits, found.misses, found.false_positives) == (36, 4, 10)
    assert (found.id_switches, found.fragmentations) == (1, 1)
    assert found.mota == pytest.approx(1 - 15 / 40)


def test_weak_false_tracks_cost_only_the_steps_that_need_them() -> None:
    truth = row(range(40), 1, 0.0) + row(range(40), 2, 10.0)
    tracks = row(range(40), 1, 0.0, 0.9) + row(range(40), 2, 10.0, 0.3) + row(range(40), 3, 50.0, 0.5)
    found = scores(truth, tracks)
    # 20 steps at recall 1/2 without false positives, 20 at recall 1 with 40 of them
    assert found.amota == pytest.approx((0.5 + 0.5) / 2)
    assert found.threshold == pytest.approx(0.9)
    strong = scores(truth, [(f, i, k, x, 0.2 if i == 3 else s) for f, i, k, x, s in tracks])
    assert strong.amota == pytest.approx((0.5 + 1.0) / 2)
    assert strong.mota == 1.0


def test_vans_and_dont_care_regions_are_neither_hit_nor_miss() -> None:
    truth = row(range(10), 1, 0.0) + row(range(10), 2, 20.0, kind="Van") + row(range(10), -1, 50.0, kind="DontCare")
    tracks = row(range(10), 1, 0.0) + row(range(10), 2, 20.0) + row(range(10), 3, 50.0) + row(range(10), 4, 80.0)
    found = scores(truth, tracks)
    assert (found.hits, found.misses, found.false_positives) == (20, 0, 10)
    assert found.mota == pytest.approx(0.0)


def test_wrong_input_is_refused() -> None:
    truth = objects(*row(range(3), 1, 0.0))
    with pytest.raises(DataError, match="expected results for the sequences"):
        score_tracks_3d({"a": truth}, {"b": truth})
    with pytest.raises(DataError, match="got one twice"):
        score_tracks_3d({"a": truth}, {"a": objects(*row(range(3), 1, 0.0), *row(range(3), 1, 9.0))})
    with pytest.raises(DataError, match="finite scores"):
        score_tracks_3d({"a": truth}, {"a": objects(*row(range(3), 1, 0.0, np.nan))})
    with pytest.raises(DataError, match="Cyclist"):
        score_tracks_3d({"a": truth}, {"a": truth}, kind="Cyclist")


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0000.txt").write_text("0 1 Car 0 0 what\n")
    with pytest.raises(DataError, match="17 or 18 fields"):
        read_objects(tmp_path / "0000.txt")


def test_scores_of_ab3dmots_tracks_are_its_own(data_root: Path) -> None:
    folder = data_root / "kitti_tracking"
    if not (folder / "ab3dmot").is_dir():
        pytest.skip(f"no recording: {folder / 'ab3dmot'} is no folder")
    golden = json.loads((folder / "ab3dmot" / "scores.json").read_text())["car"]
    truth = {name: read_objects(folder / "label_02" / f"{name}.txt") for name in SEQUENCES}
    tracks = {name: read_objects(folder / "ab3dmot" / "tracks" / f"{name}.txt") for name in SEQUENCES}
    found = score_tracks_3d(truth, tracks)
    ratios = (found.samota, found.amota, found.amotp, found.mota, found.motp, found.threshold)
    expected = [golden[name] for name in ("sAMOTA", "AMOTA", "AMOTP", "MOTA", "MOTP", "threshold")]
    assert ratios == pytest.approx(expected, abs=1e-12)
    counts = (found.id_switches, found.fragmentations, found.false_positives, found.misses, found.hits)
    assert counts == tuple(golden[name] for name in ("IDS", "FRAG", "FP", "FN", "TP"))
