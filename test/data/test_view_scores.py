"""Scores of what a camera can see, against brute force and cases whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from camtrack_core.evaluation.view import LIMITS, Seen, level_places, score_view, standard_errors, true_objects
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose

CAMERA = Camera.from_field_of_view(1280, 720, 70)
POSE = Pose(OPTICAL_IN_VEHICLE, np.array([3.0, -2.0, 1.6]))


def cars(*places: tuple[float, float]) -> Boxes3D:
    """Cars on the ground at places (ahead, left) of the camera."""
    centre = np.array([[x + 3.0, y - 2.0, 0.8] for x, y in places]).reshape(-1, 3)
    count = len(places)
    return Boxes3D(centre, np.tile([4.4, 1.8, 1.6], (count, 1)), np.zeros(count), np.zeros((count, 3)))


def show(boxes: Boxes3D, points: list[int] | None = None) -> Seen:
    names = np.full(len(boxes), "car")
    return true_objects(boxes, names, None if points is None else np.array(points), CAMERA, POSE)


def test_what_is_asked_for() -> None:
    seen = show(cars((20, 0), (70, 0), (30, 0.2), (15, 6), (-10, 0), (18, -6)), [9, 9, 9, 9, 9, 3])
    # the one at 70 m is too far, that at 30 m behind the first, that at -10 m not in the picture, the last hardly hit
    assert len(seen) == 5
    np.testing.assert_allclose(seen.place[:, 1], [20, 70, 30, 15, 18])
    assert seen.score.tolist() == [1, 0, 0, 1, 0]
    assert show(cars((18, -6))).score.tolist() == [1]


def test_places_are_along_the_ground_whatever_the_tilt() -> None:
    pitch, roll, yaw = np.radians([7, 3, 40])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    heading = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    pose = Pose(heading @ OPTICAL_IN_VEHICLE @ about_x @ about_z, np.array([1.0, 2, 3]))
    ahead, right = heading @ [10, 0, 0], heading @ [0, -4, 0]
    place = level_places((pose.translation + ahead + right)[None], pose)
    np.testing.assert_allclose(place, [[4, 10]], atol=1e-9)


def shifted(seen: Seen, metres: float, scores: list[float]) -> Seen:
    moved = seen.place + [0, metres]
    return Seen(moved, moved[:, 1], seen.xyxy, seen.class_names, np.array(scores))


def test_perfect_shifted_and_missing_objects() -> None:
    truth = show(cars((12, 0), (22, 3), (30, -6), (14, -4), (35, 9), (18, 7)))
    assert truth.score.all()
    count = len(truth)
    perfect = score_view([truth], [shifted(truth, 0, [0.9] * count)], "vehicle")
    assert perfect.ap.tolist() == [1] * len(LIMITS) and perfect.ap2d == 1
    off = score_view([truth], [shifted(truth, 1.5, [0.9] * count)], "vehicle")
    assert off.ap.tolist() == [0, 0, 1, 1] and off.ap2d == 1
    half = score_view([truth], [shifted(truth, 0, [0.9] * count)[: count // 2]], "vehicle")
    assert half.ap == pytest.approx([51 / 101] * len(LIMITS)) and half.ap2d == pytest.approx(51 / 101)
    nothing = score_view([truth], [shifted(truth, 0, [0.9] * count)[:0]], "vehicle")
    assert nothing.ap.tolist() == [0] * len(LIMITS) and nothing.ap2d == 0


@pytest.mark.parametrize(("share", "expected"), [(0.3, 1.0), (0.36, 0.0)])
def test_boxes_in_the_image_count_from_an_overlap_of_a_half_on(share: float, expected: float) -> None:
    """Moved aside by a share s of their width they overlap by (1 - s) / (1 + s), a half where s is a third."""
    truth = show(cars((12, 0), (22, 3), (30, -6)))
    found = shifted(truth, 0, [0.9] * len(truth))
    aside = share * (found.xyxy[:, 2] - found.xyxy[:, 0])
    moved = dataclasses.replace(found, xyxy=found.xyxy + np.stack([aside, 0 * aside, aside, 0 * aside], 1))
    scores = score_view([truth], [moved], "vehicle")
    assert scores.ap2d == expected and scores.ap.tolist() == [1] * len(LIMITS)


def test_a_group_asks_for_its_classes_lets_others_pass_and_counts_the_rest_as_mistakes() -> None:
    boxes = cars((12, 0), (22, 6), (30, -8))
    truth = true_objects(boxes, np.array(["pedestrian", "cyclist", "car"]), None, CAMERA, POSE)
    found = shifted(truth, 0, [0.7, 0.8, 0.9])
    people = dataclasses.replace(found, class_names=np.full(3, "pedestrian"))
    scores = score_view([truth], [people], "pedestrian")
    # the cyclist is let pass, the car is taken for a person before the one person there is
    assert scores.asked.sum() == 1 and scores.ap2d == scores.ap[2] == pytest.approx(0.5)
    assert score_view([truth], [found], "pedestrian").ap.tolist() == [1] * len(LIMITS)
    assert score_view([truth], [found[:2]], "vehicle").ap.tolist() == [0] * len(LIMITS)


def test_what_nobody_labelled_is_let_pass_where_it_is_given() -> None:
    known, unknown = cars((12, 0)), cars((22, 6))
    alone = show(known)
    told = true_objects(known, np.array(["car"]), None, CAMERA, POSE, neutral=unknown)
    both = show(cars((12, 0), (22, 6)))
    found = shifted(both, 0, [0.5, 0.9])
    assert score_view([alone], [found], "vehicle").ap[2] == pytest.approx(0.5)
    assert score_view([told], [found], "vehicle").ap.tolist() == [1] * len(LIMITS)


def test_detections_of_what_is_let_pass_are_no_mistakes_and_others_are() -> None:
    truth = show(cars((20, 0), (15, 6), (70, 20)), [9, 2, 9])
    found = shifted(truth, 0, [0.8, 0.9, 0.95])
    assert score_view([truth], [found], "vehicle").ap.tolist() == [1] * len(LIMITS)
    stray = dataclasses.replace(found, place=found.place + [[0, 0], [12, 5], [0, 0]], xyxy=found.xyxy * [[1], [0], [1]])
    assert score_view([truth], [stray], "vehicle").ap[2] == pytest.approx(0.5)


def brute_ap(truth: list[Seen], found: list[Seen], limit: float) -> float:
    """The definition itself: thresholds one by one, each frame claimed anew."""
    asked = sum(int(t.score.sum()) for t in truth)
    points = []
    for threshold in sorted({float(s) for f in found for s in f.score}):
        hits = false = 0
        for t, f in zip(truth, found, strict=True):
            free = [i for i in range(len(t)) if t.score[i] > 0]
            for row in sorted((i for i in range(len(f)) if f.score[i] >= threshold), key=lambda i: -f.score[i]):
                gaps = {i: float(np.hypot(*(f.place[row] - t.place[i]))) for i in free}
                best = min(gaps, key=gaps.get, default=None)  # type: ignore[arg-type]
                if best is not None and gaps[best] < limit:
                    free.remove(best)
                    hits += 1
                elif not any(
                    np.hypot(*(f.place[row] - t.place[i])) < max(limit, 2.0) for i in range(len(t)) if t.score[i] == 0
                ):
                    false += 1
        if hits + false:
            points.append((hits / asked, hits / (hits + false)))
    return float(np.mean([max([p for r, p in points if r >= x], default=0.0) for x in np.linspace(0, 1, 101)]))


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_against_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def frame(count: int, kinds: list[float]) -> Seen:
        place = rng.uniform([-8, 8], [8, 50], (count, 2))
        score = rng.choice(kinds, count) if kinds else rng.permutation(1000)[:count] / 1000
        box = np.zeros((count, 4))  # no overlap in the image
        return Seen(place, place[:, 1], box, np.full(count, "car"), np.asarray(score, float))

    truth = [frame(6, [0.0, 1.0, 1.0]) for _ in range(6)]
    found = []
    for t in truth:
        near = t.place[rng.random(len(t)) < 0.8]
        place = np.concatenate([near + rng.normal(0, 1.2, near.shape), rng.uniform([-8, 8], [8, 50], (3, 2))])
        score = rng.permutation(10_000)[: len(place)] / 10_000
        found.append(Seen(place, place[:, 1], np.zeros((len(place), 4)), np.full(len(place), "car"), score))
    scores = score_view(truth, found, "vehicle")
    for number, limit in enumerate(LIMITS):
        assert scores.ap[number] == pytest.approx(brute_ap(truth, found, limit), abs=1e-9)


def test_depth_ratio_and_standard_error_of_a_known_bias() -> None:
    truth = [show(cars((12, 0), (20, 4), (30, -8), (13, -5))) for _ in range(16)]
    found = []
    for number, t in enumerate(truth):
        f = shifted(t, 0, [0.9] * len(t))
        found.append(dataclasses.replace(f, depth=f.depth * 1.1, score=f.score - 0.01 * number))
    scores = score_view(truth, found, "vehicle")
    near, middle, far, beyond = scores.depth_ratio
    assert (near, middle, far) == pytest.approx((1.1, 1.1, 1.1))
    assert np.isnan(beyond)
    assert standard_errors(truth, found, "vehicle").ap == pytest.approx([0] * len(LIMITS))
    half = [f if number < 8 else f[:0] for number, f in enumerate(found)]
    spread = standard_errors(truth, half, "vehicle")
    # the jackknife of a mean of eight blocks of which four are 1 and four are 0: sqrt(1/4 / 7)
    assert spread.recall[2, 0] == pytest.approx(np.sqrt(0.25 / 7), rel=1e-6)
