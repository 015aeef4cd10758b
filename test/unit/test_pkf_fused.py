"""Boxes in images beside boxes in space: what each of them may say about a track."""

from __future__ import annotations

import numpy as np
import pytest

from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Camera, Pose
from camtrack_core.geometry.tracks import Tracks3D
from pkf_filter.life.scores import CHANCE
from pkf_filter.space.config import SensorModel, WorldConfig
from pkf_filter.space.kernels import detectable
from pkf_filter.space.sensors import ImageView
from pkf_filter.space.tracker import WorldTracker

SECOND = 1_000_000_000
FRAME = SECOND // 10
CAMERA = Camera.from_field_of_view(1280, 720, 70.0)
EYE = Pose(OPTICAL_IN_VEHICLE, np.array([0, 0, 1.5]))
SHOW_MEASURED = WorldConfig(coasting_score=1.0, confirmation=0.3)
CAR, TRUCK = 0, 1


def space(*places: tuple[float, float], score: float = 0.6, velocity: float = np.nan) -> Detections3D:
    """Cars at x, y."""
    count = len(places)
    centre = np.array([(x, y, 0.75) for x, y in places]).reshape(-1, 3)
    boxes = Boxes3D(centre, np.tile([4.0, 1.8, 1.5], (count, 1)), np.zeros(count), np.full((count, 3), velocity))
    return Detections3D(boxes, np.full(count, score), np.full(count, CAR))


def image(*places: tuple[float, float], score: float = 0.99, class_id: int = CAR) -> Boxes2D:
    """Images of cars at x, y."""
    rows = []
    for x, y in places:
        pixels = CAMERA.project(EYE.inverse().apply(space((x, y)).boxes.corners()))[0]
        rows.append(np.concatenate([pixels.min(0), pixels.max(0)]))
    return Boxes2D(np.array(rows).reshape(-1, 4), np.full(len(rows), score), np.full(len(rows), class_id))


def tracker(config: WorldConfig = SHOW_MEASURED) -> WorldTracker:
    made = WorldTracker(config, {"objects": SensorModel(noise=2.0), "image": SensorModel(pixel_noise=0.1)})
    assert [made.class_id(name) for name in ("car", "truck")] == [CAR, TRUCK]
    return made


def seen_by_both(t: WorldTracker, frames: int, class_id: int = CAR) -> Tracks3D:
    for i in range(frames):
        t.step(i * FRAME, space((20, 0)), "objects")
        tracks = t.step_image(i * FRAME, image((20, 0), class_id=class_id), CAMERA, EYE, "image")
    return tracks


def test_an_image_leaves_the_score_to_the_detector_in_space() -> None:
    """How sure an image's detector is does not say how well a box in space fits."""
    assert seen_by_both(tracker(), 20).scores == pytest.approx([0.6], abs=0.01)


def test_an_image_leaves_the_class_to_the_detector_in_space() -> None:
    tracks = seen_by_both(tracker(), 20, class_id=TRUCK)
    assert tracks.class_ids.tolist() == [CAR]


def test_what_is_measured_in_space_is_shown_whether_or_not_the_image_shows_it() -> None:
    t = tracker()
    seen_by_both(t, 20)
    t.step(20 * FRAME, space((20, 0)), "objects")
    assert len(t.step_image(20 * FRAME, image(), CAMERA, EYE, "image")) == 1


@pytest.mark.parametrize("image_first", [False, True])
def test_the_image_alone_does_not_show_a_track(image_first: bool) -> None:
    t = tracker()
    seen_by_both(t, 20)
    time_ns = 20 * FRAME
    if image_first:
        t.step_image(time_ns, image((20, 0)), CAMERA, EYE, "image")
    tracks = t.step(time_ns, space(), "objects")
    if not image_first:
        tracks = t.step_image(time_ns, image((20, 0)), CAMERA, EYE, "image")
    assert len(tracks) == 0


def test_the_image_brings_a_likely_track_back() -> None:
    t = tracker(WorldConfig(coasting_score=0.5))
    seen_by_both(t, 20)
    for i in range(20, 23):
        missed = t.step(i * FRAME, space(), "objects")
    seen = t.step_image(22 * FRAME, image((20, 0)), CAMERA, EYE, "image")
    assert (len(missed), seen.ids.tolist()) == (0, [1])


def test_an_image_without_it_makes_a_track_less_likely_and_ends_it() -> None:
    t = tracker()
    seen_by_both(t, 20)
    before = t._state.existence[0]
    t.step_image(21 * FRAME, image(), CAMERA, EYE, "image")
    assert t._state.existence[0] < before
    for i in range(22, 28):
        tracks = t.step_image(i * FRAME, image(), CAMERA, EYE, "image")
    assert len(tracks) == 0


def test_two_sensors_in_space_of_one_stamp_do_not_hide_each_others_tracks() -> None:
    left, right = Pose(np.eye(3), np.zeros(3)), Pose(np.diag([-1.0, -1.0, 1.0]), np.zeros(3))
    narrow = SensorModel(field_of_view=90.0)
    t = WorldTracker(SHOW_MEASURED, {"front": narrow, "rear": narrow})
    t.class_id("car")
    for i in range(10):
        t.step(i * FRAME, space((20, 0)), "front", left)
        tracks = t.step(i * FRAME, space((-20, 0)), "rear", right)
    assert sorted(tracks.boxes.centre[:, 0].round().tolist()) == [-20, 20]


@pytest.mark.parametrize(("velocity_noise", "error"), [(2.0, 1.0), (50.0, 0.5)])
def test_wrong_velocities_do_no_harm_where_the_sensor_says_so(velocity_noise: float, error: float) -> None:
    """A detector that takes all for parked: an object of 10 m/s lags behind, but for a sensor of large noise."""
    t = WorldTracker(sensors={"": SensorModel(velocity_noise=velocity_noise)})
    t.class_id("car")
    for i in range(15):
        tracks = t.step(i * FRAME, space((10 + i, 0), velocity=0.0))
    lag = abs(tracks.boxes.velocity[0, 0] - 10)
    assert (lag > error) if velocity_noise == 2.0 else (lag < error)


# --- Tracks that hide each other from the camera


@pytest.mark.parametrize(("place", "hidden"), [((30.0, 0.0), True), ((30.0, 8.0), False)])
def test_a_track_behind_another_one_outlives_images_that_do_not_show_it(
    place: tuple[float, float], hidden: bool
) -> None:
    t, near = tracker(), (15.0, 0.0)
    for i in range(20):
        t.step(i * FRAME, space(near, place), "objects")
    before = t._state.existence[1]
    for i in range(20, 30):
        t.step_image(i * FRAME, image(near), CAMERA, EYE, "image")
    assert len(t._state.ids) == 2 if hidden else 1
    if hidden:
        survived = before * 0.5 ** (1.0 / t.config.half_life)
        assert t._state.existence[1] > 0.9 * survived
        assert t.agreement["image"] > 0.9  # what cannot be seen does not speak against the camera's pose


def test_a_track_hides_by_its_existence() -> None:
    """An unlikely track before a likely one: the images miss both."""
    t = tracker()
    for i in range(20):
        t.step(i * FRAME, space((30, 0)), "objects")
    both = Detections3D(space((15, 0), (30, 0)).boxes, np.array([0.2, 0.6]), np.full(2, CAR))
    t.step(20 * FRAME, both, "objects")
    far, near = t._state.existence * 0.5 ** (0.1 / t.config.half_life)
    assert near < 0.1
    unhidden = np.array([1 - t.sensors["image"].occlusion * near])
    before = np.array([t.sensors["image"].detection_probability])
    elapsed = np.array([(21 * FRAME - t._state.looked_ns[0, 1]) / SECOND])
    t.step_image(21 * FRAME, image(), CAMERA, EYE, "image")
    model = t.sensors["image"]
    detected = CHANCE * detectable(before, before, unhidden, model.miss_time, elapsed)[0]
    expected = far * (1 - detected) / (1 - far * detected)
    assert t._state.existence == pytest.approx([expected], abs=1e-6)  # the near one has ended


def test_where_nobody_is_covered_occlusion_changes_nothing() -> None:
    states = []
    for occlusion in (0.0, 0.9):
        t = WorldTracker(SHOW_MEASURED, {"objects": SensorModel(), "image": SensorModel(occlusion=occlusion)})
        t.class_id("car")
        places = [(12.0, 0.0), (20.0, 6.0), (30.0, -10.0), (-15.0, 0.0)]  # apart in the image, the last one behind
        for i in range(10):
            t.step(i * FRAME, space(*places), "objects")
            t.step_image(i * FRAME, image(*places[:2]), CAMERA, EYE, "image")
        states.append(t._state)
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_covered_share_is_that_of_the_pixels_behind_nearer_boxes() -> None:
    """Against a picture painted pixel by pixel; what flies before the camera hides what ends lower in the image."""
    detections = space((40.0, 1.0), (15.0, 0.0), (25.0, 2.0), (12.0, -0.5), (9.0, 4.0))
    detections.boxes.centre[3, 2] = 2.2
    existence = np.array([1.0, 0.5, 0.9, 0.8, 1.0])
    states = np.zeros((5, 10))
    states[:, :3], states[:, 4:7] = detections.boxes.centre, detections.boxes.size
    view = ImageView(image(), SensorModel(occlusion=0.5), CAMERA, EYE)
    seen = view.linearised(states, np.tile(np.eye(10), (5, 1, 1)), existence, np.ones((5, 12)), 5.0)
    painted, found = np.ones((CAMERA.height * 4, CAMERA.width * 4)), np.zeros(5)  # share of each pixel that is free
    for j in np.argsort(states[:, 0]):  # the camera looks along x
        pixels = 4 * CAMERA.project(EYE.inverse().apply(detections.boxes.corners()[j : j + 1]))[0]
        (left, top), (right, bottom) = pixels.min(0).round().astype(int), pixels.max(0).round().astype(int)
        here = painted[max(top, 0) : bottom, max(left, 0) : right]
        found[j] = 1 - here.mean()
        here *= 1 - existence[j]
    assert (found[:3] > 0.02).all()
    np.testing.assert_allclose((1 - seen.unhidden) / 0.5, found, atol=0.02)
