"""The tracker on small scenes whose truth is known: who is who, births, deaths, and bad or missing input."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.geometry.tracks import Tracks2D
from pkf_filter import FilterConfig, TimeError, Tracker
from pkf_filter.life.history import MAX_BUFFERED, SECOND
from pkf_filter.life.scores import MAX_BOXES, MAX_CLASSES

FRAME = SECOND // 10
CONFIG = FilterConfig()


def boxes(*centres: tuple[float, float], size: float = 60.0, class_id: int = 0, score: float = 0.9) -> Boxes2D:
    """Square boxes around these centres."""
    xy = np.array(centres, np.float64).reshape(-1, 2)
    count = len(xy)
    return Boxes2D(
        np.concatenate([xy - size / 2, xy + size / 2], 1), np.full(count, score), np.full(count, class_id, np.int64)
    )


def play(tracker: Tracker, frames: Iterable[Boxes2D], start: int = SECOND, period: int = FRAME) -> list[Tracks2D]:
    return [tracker.step(start + i * period, frame) for i, frame in enumerate(frames)]


def still(count: int) -> list[Boxes2D]:
    return [boxes((100, 100))] * count


def test_a_track_appears_once_it_probably_exists_and_keeps_its_id() -> None:
    frames = play(Tracker(), still(6))
    assert [len(tracks) for tracks in frames] == [0, 1, 1, 1, 1, 1]
    assert {int(tracks.ids[0]) for tracks in frames if len(tracks)} == {1}
    np.testing.assert_allclose(frames[-1].xyxy, boxes((100, 100)).xyxy, atol=0.1)
    assert frames[-1].scores[0] == pytest.approx(0.9)


def test_a_moving_box_is_followed_without_lag() -> None:
    frames = play(Tracker(), [boxes((100 + 12 * i, 100)) for i in range(30)])
    centre = frames[-1].xyxy[0, ::2].mean()
    assert abs(centre - (100 + 12 * 29)) < 1.0
    assert {int(i) for tracks in frames for i in tracks.ids} == {1}


@pytest.mark.parametrize("offset", [45.0, 25.0], ids=["passing", "overlapping"])
def test_crossing_objects_keep_their_ids(offset: float) -> None:
    left = [(100.0 + 15 * i, 100.0) for i in range(40)]
    right = [(700.0 - 15 * i, 100.0 + offset) for i in range(40)]
    rng = np.random.default_rng(0)
    scene = [boxes(*(rng.permutation([a, b]) + rng.normal(size=(2, 2)))) for a, b in zip(left, right, strict=True)]
    frames = play(Tracker(), scene)
    first, last = frames[5], frames[-1]
    assert len(first) == len(last) == 2
    by_x_first, by_x_last = (tracks.ids[np.argsort(tracks.xyxy[:, 0])] for tracks in (first, last))
    assert by_x_first.tolist() == by_x_last.tolist()[::-1]


def test_missed_frames_do_not_change_the_id() -> None:
    scene = [boxes((100 + 12 * i, 100)) if not 10 <= i < 14 else Boxes2D.empty() for i in range(25)]
    frames = play(Tracker(), scene)
    assert {int(i) for tracks in frames for i in tracks.ids} == {1}
    assert [len(tracks) for tracks in frames[11:14]] == [0, 0, 0]
    assert len(frames[14]) == 1


def test_irregular_times_are_no_trouble() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.integers(20, 180, 40)) * (SECOND // 1000)
    tracker, speed = Tracker(), 150.0
    shown = [tracker.step(int(t), boxes((100 + speed * t / SECOND, 100))) for t in times]
    assert {int(i) for tracks in shown for i in tracks.ids} == {1}
    assert abs(shown[-1].xyxy[0, ::2].mean() - (100 + speed * times[-1] / SECOND)) < 2.0


def test_the_same_stamp_twice_is_allowed() -> None:
    tracker = Tracker()
    tracker.step(SECOND, boxes((100, 100)))
    tracker.step(SECOND, boxes((100, 100)))


def test_ids_are_not_used_again_after_death_or_reset() -> None:
    tracker = Tracker()
    first = play(tracker, still(5))[-1].ids[0]
    silence = round(CONFIG.max_silence * SECOND / FRAME) + 2
    assert not any(map(len, play(tracker, [Boxes2D.empty()] * silence, start=2 * SECOND)))
    second = play(tracker, still(5), start=10 * SECOND)[-1].ids[0]
    tracker.reset()
    third = play(tracker, still(5), start=0)[-1].ids[0]
    assert first < second < third


def test_a_box_seen_once_is_never_shown() -> None:
    frames = play(Tracker(), [boxes((100, 100)), *[Boxes2D.empty()] * 15, boxes((100, 100)), Boxes2D.empty()])
    assert not any(map(len, frames))


def test_clutter_leaves_no_tracks_behind() -> None:
    """Bounded memory: 2000 frames of boxes that are never seen again."""
    rng = np.random.default_rng(2)
    tracker = Tracker()
    shown = 0
    for frame in play_random(rng, 300):
        shown += len(tracker.step(*frame))
    assert len(tracker._tracks) < 40
    assert shown < 30
    assert len(tracker._history.entries) < 10


def play_random(rng: np.random.Generator, count: int) -> Iterable[tuple[int, Boxes2D]]:
    for i in range(count):
        yield i * FRAME, boxes(*rng.uniform(0, 4000, (10, 2)), size=30)


def test_time_going_backwards_is_refused_until_reset() -> None:
    tracker = Tracker()
    play(tracker, still(3))
    with pytest.raises(TimeError, match="reset"):
        tracker.step(0, boxes((100, 100)))
    assert len(tracker.step(SECOND + 3 * FRAME, boxes((100, 100)))) == 1
    tracker.reset()
    tracker.step(0, boxes((100, 100)))


def test_unusable_boxes_are_dropped_and_counted() -> None:
    good = boxes((100, 100), (400, 100), (700, 100), (900, 100), (1200, 100))
    xyxy, scores, classes = good.xyxy.copy(), good.scores.copy(), good.class_ids.copy()
    xyxy[1, 0], xyxy[2, 2], scores[3], classes[4] = np.nan, 0.0, np.inf, MAX_CLASSES
    tracker = Tracker()
    frames = play(tracker, [Boxes2D(xyxy, scores, classes)] * 4)
    assert tracker.dropped == 16
    assert len(frames[-1]) == 1
    assert np.isfinite(frames[-1].xyxy).all()


def test_the_class_is_what_most_measurements_say() -> None:
    scene = [boxes((100, 100), class_id=2 if i == 6 else 1) for i in range(8)]
    frames = play(Tracker(), scene)
    assert {int(i) for tracks in frames for i in tracks.ids} == {1}
    assert all(tracks.class_ids[0] == 1 for tracks in frames if len(tracks))


def test_the_same_class_is_preferred() -> None:
    tracker = Tracker()
    pair = Boxes2D(boxes((100, 100), (120, 100)).xyxy, np.full(2, 0.9), np.array([0, 1]))
    before = play(tracker, [pair] * 5)[-1]
    swapped = Boxes2D(boxes((110, 100), (111, 100)).xyxy, np.full(2, 0.9), np.array([1, 0]))
    tracker.step(SECOND + 5 * FRAME, swapped)
    after = tracker._tracks
    assert after["id"].tolist() == before.ids.tolist()
    assert after["votes"][:2].argmax(1).tolist() == before.class_ids.tolist()


def test_a_sure_detection_is_shown_at_once_and_a_doubtful_one_never() -> None:
    sure, doubtful = (play(Tracker(), [boxes((100, 100), score=score)] * 5) for score in (0.9999, 0.55))
    assert len(sure[0]) == 1
    assert not any(map(len, doubtful[:2]))


def test_a_hidden_track_is_kept_longer() -> None:
    """A box that disappears behind a lower one, against one that disappears in the open."""

    def existence(*visible: tuple[float, float]) -> float:
        tracker = Tracker()
        play(tracker, [boxes((100, 100), *visible)] * 10)
        for i in range(10, 14):
            tracker.step(SECOND + i * FRAME, boxes(*visible))
        tracks = tracker._tracks
        return float(tracks["existence"][np.abs(tracks["mean"][:, 0, 0] - 100) < 1][0])

    assert existence((100, 115)) > existence((400, 115)) + 0.1


def test_a_second_track_of_one_object_ends() -> None:
    tracker = Tracker(FilterConfig(birth_iou=1.0))
    play(tracker, [boxes((100, 100))] * 5)
    tracker.step(SECOND + 5 * FRAME, boxes((100, 100), (106, 100)))
    assert len(tracker._tracks) == 2
    tracker.step(SECOND + 6 * FRAME, boxes((100, 100)))
    assert tracker._tracks["id"].tolist() == [1]


def test_of_two_old_tracks_at_one_place_neither_ends() -> None:
    """One walks before the other and stops there for a moment: only one box is left."""
    tracker = Tracker()
    play(tracker, [boxes((100 + 3 * i, 104), (160, 100)) for i in range(20)])
    for i in range(20, 26):
        tracker.step(SECOND + i * FRAME, boxes((160, 104)))
    assert tracker._tracks["id"].tolist() == [1, 2]
    after = [tracker.step(SECOND + i * FRAME, boxes((160 + 3 * (i - 25), 104), (160, 100))) for i in range(26, 46)]
    assert sorted(after[-1].ids.tolist()) == [1, 2]


def test_a_held_track_is_shown_where_it_is_expected() -> None:
    tracker = Tracker(FilterConfig(hold=0.3))
    play(tracker, [boxes((100 + 12 * i, 100), score=0.999) for i in range(20)])
    shown = [tracker.step(SECOND + i * FRAME, Boxes2D.empty()) for i in range(20, 25)]
    assert [len(tracks) for tracks in shown] == [1, 1, 1, 0, 0]
    assert abs(shown[1].xyxy[0, ::2].mean() - (100 + 12 * 21)) < 4.0


@pytest.mark.parametrize("late", [[5], [8, 7], [0]])
def test_late_frames_count_as_if_they_had_come_in_time(late: list[int]) -> None:
    rng = np.random.default_rng(4)
    scene = [boxes(*((100 + 12 * i, 100), (700 - 12 * i, 130)) + rng.normal(size=(2, 2))) for i in range(10)]
    config = FilterConfig(max_lag=2.0)
    in_time, delayed = Tracker(config), Tracker(config)
    expected = play(in_time, scene)[-1]
    for i in [i for i in range(10) if i not in late] + late:
        tracks = delayed.step(SECOND + i * FRAME, scene[i])
    np.testing.assert_allclose(tracks.xyxy, expected.xyxy)
    np.testing.assert_allclose(tracks.scores, expected.scores)
    assert sorted(tracks.ids) == sorted(expected.ids)


def test_a_late_frame_changes_no_id_that_was_shown() -> None:
    """The late frame starts the track earlier than it was started before."""
    tracker = Tracker(FilterConfig(max_lag=2.0))
    tracker.step(SECOND, Boxes2D.empty())
    shown = play(tracker, still(4), start=2 * SECOND)
    after = tracker.step(2 * SECOND - FRAME, boxes((100, 100), (500, 500)))
    assert shown[-1].ids.tolist() == after.ids.tolist() == [1]
    assert tracker.step(3 * SECOND, boxes((100, 100), (900, 900), score=0.9999)).ids.tolist() == [1, 4]


def test_a_stamp_too_old_is_told_the_oldest_that_is_still_taken() -> None:
    tracker = Tracker(FilterConfig(max_lag=1e6))
    play(tracker, still(300))
    oldest = SECOND + (300 - MAX_BUFFERED - 1) * FRAME  # what comes before the frames that are kept
    with pytest.raises(TimeError, match=f"at least {oldest} ns"):
        tracker.step(oldest - 1, Boxes2D.empty())
    tracker.step(oldest, Boxes2D.empty())


def test_of_too_many_boxes_the_best_are_taken_and_the_rest_are_counted() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 5000, (MAX_BOXES + 30, 2))
    scores = rng.permutation(np.linspace(0.5, 0.9, len(corner)))
    tracker = Tracker(FilterConfig(confirmation=0.01))
    tracker.step(SECOND, Boxes2D(np.hstack([corner, corner + 20]), scores, np.zeros(len(corner), np.int64)))
    assert tracker.dropped == 30
    taken = tracker._tracks["measured"][:, :2] - 10
    best = corner[np.argsort(-scores)[:MAX_BOXES]]
    assert len(taken) > 100
    assert all((abs(best - place).max(1) < 1e-6).any() for place in taken)


def test_late_frames_need_bounded_memory() -> None:
    tracker = Tracker(FilterConfig(max_lag=0.5))
    play(tracker, still(50))
    assert len(tracker._history.entries) <= 7
    with pytest.raises(TimeError, match="at least"):
        tracker.step(SECOND + 40 * FRAME, boxes((100, 100)))
    tracker.step(SECOND + 46 * FRAME + 1, boxes((100, 100)))


def test_long_silence_and_extreme_boxes_give_no_nan() -> None:
    rng = np.random.default_rng(3)
    tracker = Tracker(FilterConfig(max_silence=1e4, hold=1e4))
    time_ns = 0
    for i in range(200):
        time_ns += int(rng.choice([1, FRAME, 50 * SECOND]))
        corner = rng.uniform(-100, 2000, (12, 2))
        size = rng.choice([1.5, 30.0, 3000.0, 9e5, 1e80], (12, 2))
        frame = Boxes2D(np.concatenate([corner, corner + size], 1), rng.random(12), rng.integers(0, 3, 12))
        tracks = tracker.step(time_ns, frame if i % 3 else Boxes2D.empty())
        assert np.isfinite(tracks.xyxy).all() and np.isfinite(tracks.scores).all()
        assert (tracks.xyxy[:, 2:] > tracks.xyxy[:, :2]).all()
        assert len(np.unique(tracks.ids)) == len(tracks)
        assert ((tracks.scores >= 0) & (tracks.scores <= 1)).all()


def test_wrong_values_are_refused() -> None:
    from camtrack_core.config import validated

    with pytest.raises(ConfigurationError, match="gate_iou"):
        validated(FilterConfig, {"gate_iou": 2.0})
    with pytest.raises(ConfigurationError, match=r"noise\.centre"):
        validated(FilterConfig, {"noise": {"centre": -1.0}})


@pytest.mark.parametrize("rate", [10, 20, 30])
@pytest.mark.parametrize(("apart", "objects"), [(0.0, 1), (45.0, 10)], ids=["at one place", "side by side"])
def test_ten_equal_boxes_are_as_many_tracks_as_they_have_places(rate: int, apart: float, objects: int) -> None:
    """30 pixels a second to the right, 40 pixels wide and high."""
    tracker, ids = Tracker(), set()
    for i in range(3 * rate):
        corner = np.stack([100.0 + 30 * i / rate + apart * np.arange(10), np.full(10, 100.0)], 1)
        xyxy = np.concatenate([corner, corner + 40], 1)
        tracks = tracker.step(round(i / rate * 1e9), Boxes2D(xyxy, np.full(10, 0.9), np.zeros(10, np.int64)))
        assert len(tracks) == objects * (i > 0)
        ids |= set(tracks.ids.tolist())
    assert ids == set(range(1, objects + 1))
