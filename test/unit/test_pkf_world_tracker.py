"""The tracker in space: ids, classes, flips, several sensors, late measurements, images, memory."""

from __future__ import annotations

import numpy as np
import pytest

from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D
from pkf_filter.life.history import MAX_BUFFERED, TimeError
from pkf_filter.space.config import SensorModel, WorldConfig
from pkf_filter.space.state import MAX_CLASSES
from pkf_filter.space.tracker import WorldTracker

SECOND = 1_000_000_000
FRAME = SECOND // 10
CAMERA = Camera.from_field_of_view(1280, 720, 70.0)
EYE = Pose(OPTICAL_IN_VEHICLE, np.array([0, 0, 1.5]))


def detections(*rows: tuple[float, float, float], score: float = 0.99, class_id: int = 0) -> Detections3D:
    """Cars at x, y with a yaw."""
    table = np.array(rows, np.float64).reshape(-1, 3)
    count = len(table)
    centre = np.concatenate([table[:, :2], np.full((count, 1), 0.75)], 1)
    boxes = Boxes3D(centre, np.tile([4.0, 1.8, 1.5], (count, 1)), table[:, 2], np.full((count, 3), np.nan))
    return Detections3D(boxes, np.full(count, score), np.full(count, class_id))


def tracker(config: WorldConfig | None = None, **sensors: SensorModel) -> WorldTracker:
    made = WorldTracker(config, sensors or None)
    for name in ("car", "truck", "pedestrian"):
        made.class_id(name)
    return made


def moving(i: int, speed: float = 10.0) -> tuple[float, float, float]:
    return 5 + speed * 0.1 * i, 2.0, 0.0


def test_moving_objects_keep_their_ids_and_their_speed_is_found() -> None:
    t = tracker()
    rng = np.random.default_rng(0)
    for i in range(30):
        x = 5 + 1.0 * i
        rows = np.array([(x, 2.0, 0.0), (60 - x, -2.0, np.pi)]) + rng.normal(scale=[0.1, 0.1, 0.05], size=(2, 3))
        tracks = t.step(i * FRAME, detections(*map(tuple, rows)))
    assert tracks.ids.tolist() == [1, 2]
    assert tracks.boxes.velocity[:, 0] == pytest.approx([10, -10], abs=1.0)
    assert tracks.boxes.centre[:, 0] == pytest.approx([34, 26], abs=0.3)
    assert np.abs(tracks.boxes.velocity[:, 1]).max() < 1.0
    assert t.budget.approximated == 0


@pytest.mark.parametrize("pose", [Pose(np.eye(3), np.zeros(3)), EYE], ids=["x forward", "optical frame"])
def test_only_what_the_sensor_should_see_ends_unseen(pose: Pose) -> None:
    t = tracker(WorldConfig(max_silence=60.0), camera=SensorModel(field_of_view=90.0, range=50.0))
    ahead, left, behind, far = (20.0, 3.0, 0.0), (3.0, 20.0, 0.0), (-20.0, 0.0, 0.0), (80.0, 3.0, 0.0)
    for i in range(8):
        # A wider sensor at the same place has found all of them before.
        tracks = t.step(i * FRAME, detections(ahead, left, behind, far), "camera", pose)
    assert len(tracks) == 4
    for i in range(8, 16):
        tracks = t.step(i * FRAME, detections(), "camera", pose)
    kept = sorted(map(tuple, tracks.boxes.centre[:, :2].round().tolist()))
    assert kept == [(-20, 0), (3, 20), (80, 3)]


def test_a_missed_object_coasts_and_keeps_its_id() -> None:
    t = tracker()
    for i in range(20):
        t.step(i * FRAME, detections(moving(i)))
    for i in range(20, 23):
        t.step(i * FRAME, detections())
    tracks = t.step(23 * FRAME, detections(moving(23)))
    assert tracks.ids.tolist() == [1]


def test_a_vanished_object_ends_and_its_id_is_not_used_again() -> None:
    t = tracker()
    for i in range(10):
        t.step(i * FRAME, detections((20, 0, 0)))
    for i in range(10, 40):
        tracks = t.step(i * FRAME, detections())
    assert len(tracks) == 0
    for i in range(40, 50):
        tracks = t.step(i * FRAME, detections((20, 0, 0)))
    assert len(tracks) == 1 and tracks.ids[0] > 1


def test_detections_turned_by_180_degrees_do_not_turn_the_track() -> None:
    t = tracker()
    rng = np.random.default_rng(3)
    for i in range(40):
        yaw = 0.5 + (np.pi if rng.random() < 0.3 else 0.0)
        tracks = t.step(i * FRAME, detections((20, 0, yaw)))
    assert tracks.ids.tolist() == [1]
    assert tracks.boxes.yaw[0] == pytest.approx(0.5, abs=0.05)


def test_a_track_born_from_a_turned_detection_turns_back() -> None:
    t = tracker()
    t.step(0, detections((20, 0, 0.5 - np.pi)))
    for i in range(1, 10):
        tracks = t.step(i * FRAME, detections((20, 0, 0.5)))
    assert tracks.boxes.yaw[0] == pytest.approx(0.5, abs=0.05)


def test_another_class_at_the_same_place_is_the_same_object() -> None:
    t = tracker()
    for i in range(10):
        t.step(i * FRAME, detections((20, 0, 0)))
    tracks = t.step(10 * FRAME, detections((20, 0, 0), class_id=1))
    assert tracks.ids.tolist() == [1] and tracks.class_ids.tolist() == [0]
    for i in range(11, 16):
        tracks = t.step(i * FRAME, detections((20, 0, 0), class_id=2))
    assert tracks.ids.tolist() == [1]


def test_weak_detections_make_no_shown_track() -> None:
    t = tracker()
    rng = np.random.default_rng(5)
    for i in range(50):
        found = detections(*map(tuple, rng.uniform(-50, 50, (5, 3))), score=0.3)
        found.boxes.size[:] = rng.uniform(1, 5, (5, 3))
        found.boxes.centre[:, 2] = rng.uniform(-1, 3, 5)
        assert len(t.step(i * FRAME, found)) == 0


def test_unusable_detections_are_dropped_and_counted() -> None:
    t = tracker()
    bad = detections((np.nan, 0, 0), (1, 2, np.inf), (5, 5, 0), (9, 9, 0))
    bad.boxes.size[2] = 0.0
    bad.class_ids[3] = 50
    for i in range(3):
        tracks = t.step(i * FRAME, bad)
    assert len(tracks) == 0 and t.dropped == 12


def test_a_fixed_frame_may_have_its_origin_far_away() -> None:
    """Coordinates of UTM: the same tracks as at the origin."""
    near, far = tracker(), tracker()
    for i in range(20):
        x, y, yaw = moving(i)
        here = near.step(i * FRAME, detections((x, y, yaw)))
        there = far.step(i * FRAME, detections((x + 5e5, y + 5.5e6, yaw)))
    assert there.boxes.centre == pytest.approx(here.boxes.centre + [5e5, 5.5e6, 0], abs=1e-3)
    assert there.boxes.velocity == pytest.approx(here.boxes.velocity, abs=1e-3)


def test_there_is_an_end_to_the_classes() -> None:
    t = tracker()
    ids = [t.class_id(f"class {i}") for i in range(MAX_CLASSES)]
    assert ids[-1] == -1 and max(ids) == MAX_CLASSES - 1
    assert t.class_id("truck") == 1


# --- Several sensors, late measurements


def test_a_better_sensor_counts_for_more() -> None:
    t = tracker(good=SensorModel(noise=0.5), bad=SensorModel(noise=5.0))
    for i in range(20):
        t.step(2 * i * FRAME, detections((20, 0, 0)), "good")
        tracks = t.step((2 * i + 1) * FRAME, detections((20.6, 0, 0)), "bad")
    assert tracks.ids.tolist() == [1]
    assert tracks.boxes.centre[0, 0] == pytest.approx(20.0, abs=0.1)
    with pytest.raises(ConfigurationError, match="expected one of the sensors"):
        t.step(10 * SECOND, detections(), "unknown")


def same(a: Tracks3D, b: Tracks3D) -> None:
    assert a.ids.tolist() == b.ids.tolist()
    assert a.boxes.centre == pytest.approx(b.boxes.centre, abs=1e-12)
    assert a.covariance == pytest.approx(b.covariance, abs=1e-12)


def test_late_measurements_count_as_if_in_time() -> None:
    """Two sensors whose messages arrive in another order than they were measured."""
    rng = np.random.default_rng(7)
    stamps = np.arange(40) * FRAME // 2
    messages = []
    for stamp in stamps:
        x = 5 + 10 * stamp / SECOND
        rows = np.array([(x, 2, 0), (60 - x, -2, np.pi)]) + rng.normal(scale=0.1, size=(2, 3))
        messages.append(detections(*map(tuple, rows)))
    names = ["a", "b"] * 20
    in_order, shuffled = (tracker(a=SensorModel(), b=SensorModel(noise=2.0)) for _ in range(2))
    for i in range(40):
        expected = in_order.step(int(stamps[i]), messages[i], names[i])
    order = np.argsort(np.arange(40) + rng.uniform(0, 4, 40))
    for i in order:
        found = shuffled.step(int(stamps[i]), messages[i], names[i])
    assert shuffled.time_ns == in_order.time_ns
    assert sorted(found.ids.tolist()) == sorted(expected.ids.tolist()) == [1, 2]
    by_place = np.argsort(found.boxes.centre[:, 0]), np.argsort(expected.boxes.centre[:, 0])
    assert found.boxes.centre[by_place[0]] == pytest.approx(expected.boxes.centre[by_place[1]], abs=1e-9)
    assert found.covariance[by_place[0]] == pytest.approx(expected.covariance[by_place[1]], abs=1e-9)


def test_a_late_measurement_that_starts_a_track_leaves_its_shown_id() -> None:
    """The fast sensor has started the track that the slow one had measured before."""
    t = tracker(fast=SensorModel(), slow=SensorModel())
    t.step(0, detections((60, 30, 0)), "fast")
    shown = set()
    for i in range(1, 10):
        tracks = t.step(i * FRAME, detections((60, 30, 0), (20, 0, 0)), "fast")
        shown |= set(tracks[tracks.boxes.centre[:, 0] < 40].ids.tolist())
        tracks = t.step(i * FRAME - FRAME // 2, detections((60, 30, 0), (20, 0, 0)), "slow")
        shown |= set(tracks[tracks.boxes.centre[:, 0] < 40].ids.tolist())
    assert len(shown) == 1


def test_measurements_that_are_too_late_are_refused_and_change_nothing() -> None:
    t, other = tracker(), tracker()
    for i in range(20):
        t.step(i * FRAME, detections(moving(i)))
        expected = other.step(i * FRAME, detections(moving(i)))
    for stamp in (0, 10 * FRAME):
        with pytest.raises(TimeError, match=f"at least {16 * FRAME} ns"):
            t.step(stamp, detections(moving(0)))
    same(t.predicted(19 * FRAME), expected)
    assert len(t._history.entries) <= 6


def test_memory_is_bounded() -> None:
    t = tracker(WorldConfig(max_lag=1e6))
    for i in range(MAX_BUFFERED + 50):
        t.step(i, detections())
    assert len(t._history.entries) == MAX_BUFFERED


def test_prediction_moves_tracks_and_changes_nothing() -> None:
    t = tracker()
    for i in range(20):
        now = t.step(i * FRAME, detections(moving(i)))
    later = t.predicted(20 * FRAME)
    assert later.boxes.centre[0, 0] - now.boxes.centre[0, 0] == pytest.approx(1.0, abs=0.05)
    assert (np.linalg.eigvalsh(later.covariance - now.covariance) > -1e-12).all()
    same(t.predicted(19 * FRAME), now)


def seen_by(yaw: float, rows: np.ndarray) -> Detections3D:
    """Cars as a sensor at the origin reports them whose mount is off by a yaw."""
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    return detections(*[(*place, 0.0) for place in (rows[:, :2] @ turn).tolist()])


@pytest.mark.parametrize(("wrong", "disagrees"), [(0.0, False), (np.radians(0.45), True)])
def test_a_sensor_that_is_slightly_turned_shows_in_its_innovations(wrong: float, disagrees: bool) -> None:
    """Two right sensors and one that is off by less than its gate, while the vehicle stands."""
    t = tracker(a=SensorModel(), b=SensorModel(), odd=SensorModel())
    rng = np.random.default_rng(4)
    truth = np.array([(40.0, 5.0), (35.0, -8.0), (50.0, 0.0)])
    for i in range(90):
        name, yaw = (("a", 0.0), ("b", 0.0), ("odd", wrong))[i % 3]
        t.step(i * FRAME // 3, seen_by(yaw, truth + rng.normal(scale=0.1, size=truth.shape)), name)
    largest = {name: np.abs(offset).max() for name, offset in t.offsets.items()}
    assert max(largest["a"], largest["b"]) < 1.0
    assert (largest["odd"] > 1.0) == disagrees
    assert min(t.agreement.values()) > 0.7


def test_a_sensor_that_looks_elsewhere_does_not_confirm_the_tracks() -> None:
    t = tracker(a=SensorModel(), odd=SensorModel())
    for i in range(120):
        yaw = 0.0 if i % 2 == 0 else np.radians(20)
        t.step(i * FRAME // 2, seen_by(yaw, np.array([(40.0, 5.0), (35.0, -8.0)])), ("a", "odd")[i % 2])
    assert max(t.agreement.values()) < 0.6


def test_a_camera_that_is_turned_shows_in_its_innovations() -> None:
    for pixels, disagrees in ((0.0, False), (20.0, True)):
        t = tracker(space=SensorModel(), camera=SensorModel())
        for i in range(60):
            t.step(2 * i * FRAME, detections((20, 0, 0), (25, 6, 0)), "space")
            xyxy = np.stack([image_of(20, 0, 0), image_of(25, 6, 0)]) + [pixels, 0, pixels, 0]
            seen = Boxes2D(xyxy, np.full(2, 0.9), np.zeros(2, np.int64))
            t.step_image((2 * i + 1) * FRAME, seen, CAMERA, EYE, "camera")
        assert (np.abs(t.offsets["camera"]).max() > 1.0) == disagrees


def test_a_measured_velocity_counts_from_the_first_detection() -> None:
    t = tracker(sensor=SensorModel(velocity_noise=0.3))
    first = detections((5, 0, 0), (5, 9, 0))
    first.boxes.velocity[0] = 10, -1, 0
    tracks = t.step(0, first, "sensor")
    assert tracks.boxes.velocity[:, :2] == pytest.approx(np.array([[10, -1], [0, 0]]), abs=0.02)
    second = detections((5.95, -0.1, 0), (5, 9, 0))
    second.boxes.velocity[1] = 0, 3, 0  # now the other one knows its velocity
    tracks = t.step(FRAME, second, "sensor")
    assert tracks.boxes.velocity[0, :2] == pytest.approx([10, -1], abs=0.5)
    assert tracks.boxes.velocity[1, :2] == pytest.approx([0, 3], abs=0.5)


def test_objects_of_low_score_are_expected_to_be_missed_more_often() -> None:
    """The same misses cost a track of high score more of its existence, if the sensor says so."""
    left = {}
    for slope in (0.0, 1.0):
        t = tracker(sensor=SensorModel(detection_slope=slope))
        strong, weak = detections((20, 0, 0), score=0.95), detections((40, 20, 0), score=0.6)
        both = Detections3D(
            Boxes3D(*[np.concatenate([getattr(x.boxes, f) for x in (strong, weak)]) for f in
                      ("centre", "size", "yaw", "velocity")]),
            np.array([0.95, 0.6]), np.zeros(2, np.int64),
        )  # fmt: skip
        for i in range(20):
            t.step(i * FRAME, both, "sensor")
        t.step(20 * FRAME, detections(), "sensor")
        left[slope] = t._state.existence
    assert left[0.0][0] == pytest.approx(left[0.0][1], abs=0.02)
    assert left[1.0][0] < left[1.0][1] - 0.1


# --- Images


def image_of(x: float, y: float, yaw: float) -> np.ndarray:
    corners = detections((x, y, yaw)).boxes.corners()
    pixels = CAMERA.project(EYE.inverse().apply(corners))[0]
    return np.concatenate([pixels.min(0), pixels.max(0)])


def test_boxes_in_the_image_correct_tracks_in_space() -> None:
    """The first sensor is 1 m off to the side; the camera sees where the object is."""
    t = tracker(rough=SensorModel(noise=5.0), camera=SensorModel(pixel_noise=0.02))
    for i in range(30):
        t.step(2 * i * FRAME, detections((20, 1.0, 0)), "rough")
        seen = Boxes2D(image_of(20, 0, 0)[None], np.array([0.9]), np.array([0]))
        tracks = t.step_image((2 * i + 1) * FRAME, seen, CAMERA, EYE, "camera")
    assert tracks.ids.tolist() == [1]
    assert tracks.boxes.centre[0, 1] == pytest.approx(0.0, abs=0.25)


def test_images_alone_start_no_track_and_let_unseen_ones_end() -> None:
    t = tracker()
    seen = Boxes2D(image_of(20, 0, 0)[None], np.array([0.9]), np.array([0]))
    for i in range(10):
        assert len(t.step_image(i * FRAME, seen, CAMERA, EYE)) == 0
    for i in range(10, 20):
        tracks = t.step(i * FRAME, detections((20, 0, 0), (20, 5, 0), (-20, 0, 0)))
    assert len(tracks) == 3
    for i in range(20, 26):
        tracks = t.step_image(i * FRAME, seen, CAMERA, EYE)
    # the one beside was in view and not seen; the one behind the camera could not be seen
    assert sorted(tracks.boxes.centre[:, 0].round().tolist()) == [-20, 20]
    assert np.isfinite(tracks.covariance).all()


def test_a_box_around_the_camera_is_no_measurement() -> None:
    t = tracker()
    for i in range(5):
        t.step(i * FRAME, detections((0, 0, 0)))
    tracks = t.step_image(5 * FRAME, Boxes2D(np.array([[0, 0, 1280, 720.0]]), np.ones(1), np.array([0])), CAMERA, EYE)
    assert np.isfinite(tracks.boxes.centre).all() and np.isfinite(tracks.covariance).all()


@pytest.mark.parametrize("rate", [10, 20, 30])
def test_a_score_follows_the_detections_in_the_same_time_at_every_rate(rate: int) -> None:
    """From .95 to .5 after a second: a tenth of a second later the same share of the old log odds is left."""
    made = tracker()
    for frame in range(rate + rate // 10):
        made.step(round(frame / rate * SECOND), detections((20.0, 0.0, 0.0), score=0.95 if frame < rate else 0.5))
    left = 0.5 ** (0.1 / made.config.score_half_life)
    assert made.state.scores[0] == pytest.approx(left * np.log(0.95 / 0.05), rel=1e-6)
