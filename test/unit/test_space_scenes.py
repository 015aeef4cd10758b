"""Behaviour of tracks in space that planning relies on, written from the requirement, at three frame rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from space_scenes_helpers import HIGH, SECOND, WIDE, Box, cut_by_view, facing, pictured, run, seen

from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from pkf_filter.calibration.detector import confusion
from pkf_filter.space.config import SensorModel
from pkf_filter.space.tracker import WorldTracker

FRONT = {"front": facing(0)}
RING = {name: facing(60 * i) for i, name in enumerate(("front", "b", "c", "d", "e", "f"))}
CAMERA = SensorModel(field_of_view=60.0)

rates = pytest.mark.parametrize("rate", [10, 20, 30])
rigs = pytest.mark.parametrize("poses", [FRONT, RING], ids=["one sensor", "and five that see nothing"])


def made(poses: dict[str, Pose]) -> WorldTracker:
    return WorldTracker(sensors=dict.fromkeys(poses, CAMERA))


@rates
@rigs
def test_a_car_behind_a_parked_truck_for_a_second_is_the_same_car(rate: int, poses: dict[str, Pose]) -> None:
    """The truck, 8 m long at 20 m, hides 12 m of the car's way at 30 m; detections of the car are missing for 1 s."""
    tracker = made(poses)

    def scene(name: str, time: float) -> list[Box]:
        y = -14.0 + 8.0 * time  # hidden from -4 to 4 m: 1.0 s
        car = [] if abs(y) < 4.0 else [("car", 30.0, y, np.pi / 2)]
        return [*car, ("truck", 20.0, 0.0, np.pi / 2)] if name == "front" else []

    found = run(tracker, rate, 3.0, scene, poses)
    ids, spread, scores = [], [], {True: [], False: []}
    for time, tracks in found:
        cars = tracks[np.abs(tracks.boxes.centre[:, 0] - 30) < 5]
        if time > 0.6:
            assert len(cars) == 1, f"{time:.2f} s"
            assert cars.boxes.centre[0, 1] == pytest.approx(-14.0 + 8.0 * time, abs=1.0)
            ids.append(cars.ids[0])
            scores[bool(cars.states.coasting[0])].append(cars.scores[0])
        if 1.35 < time < 2.15:
            spread.append(cars.covariance[0, 1, 1])
    assert len(set(ids)) == 1
    assert max(scores[True]) < min(scores[False])
    assert (np.diff(spread) > 0).all() and spread[-1] > 3 * spread[0]


@rates
@rigs
def test_a_car_that_is_seen_to_be_gone_vanishes_within_half_a_second(rate: int, poses: dict[str, Pose]) -> None:
    tracker = made(poses)
    found = run(
        tracker,
        rate,
        3.0,
        lambda name, time: [("car", 20.0, 0.0, 0.0)] if name == "front" and time < 2.0 else [],
        poses,
    )
    shown = {round(time, 3): len(tracks) for time, tracks in found}
    assert all(count == 1 for time, count in shown.items() if 0.5 < time < 2.0)
    assert all(count == 0 for time, count in shown.items() if time > 2.5)


@rates
def test_a_short_gap_in_the_open_keeps_the_id(rate: int) -> None:
    found = run(
        made(FRONT),
        rate,
        3.0,
        lambda _, time: [] if 1.5 < time < 1.9 else [("car", 10.0 + 5.0 * time, 0.0, 0.0)],
        FRONT,
    )
    assert {track for _, tracks in found for track in tracks.ids.tolist()} == {1}


@rates
def test_the_silence_of_a_sensor_that_looks_elsewhere_says_nothing(rate: int) -> None:
    lone = WorldTracker(sensors={"a": CAMERA, "b": CAMERA})
    poses = {"a": facing(0), "b": facing(120)}
    run(lone, rate, 1.0, lambda name, _: [("car", 20.0, 0.0, 0.0)] if name == "a" else [], poses)
    existence = lone._state.existence[0]
    rng = np.random.default_rng(0)
    for frame in range(rate * 3 // 2):
        lone.step(round((1.0 + frame / rate) * SECOND), seen(lone, [], rng), "b", poses["b"])
    assert lone._state.existence[0] == pytest.approx(existence * 0.5 ** (1.5 / lone.config.half_life), rel=0.02)


PAIRS = {
    "two sensors of different class": (["pedestrian"], ["bicycle"]),
    "yaw 90 degrees apart": (["car"], ["car across"]),
    "double box": (["car", "truck"], ["car", "truck"]),
    "duplicate half a metre off": (["car", "car beside"], ["car", "car beside"]),
    "ten equal boxes": (["car"] * 10, ["car"] * 10),
}


@rates
@pytest.mark.parametrize("case", list(PAIRS))
def test_one_object_is_one_track(rate: int, case: str) -> None:
    poses = {"a": facing(0), "b": facing(10)}
    names = dict(zip(poses, PAIRS[case], strict=True))

    def scene(name: str, time: float) -> list[Box]:
        x = 15.0 + 2.0 * time
        of = {"car across": ("car", x, 0.0, np.pi / 2), "car beside": ("car", x + 0.5, 0.0, 0.0)}
        return [of.get(each, (each, x, 0.0, 0.0)) for each in names[name]]

    found = run(WorldTracker(sensors=dict.fromkeys(poses, SensorModel())), rate, 4.0, scene, poses)
    assert {track for _, tracks in found for track in tracks.ids.tolist()} == {1}
    assert all(len(tracks) == 1 for time, tracks in found if time > 1.0)


@rates
def test_a_person_who_seems_to_walk_into_a_bus_is_no_part_of_it(rate: int) -> None:
    """From beside it to half a metre inside its outline, as far as the sensor knows; seen there for two seconds."""

    def scene(_: str, time: float) -> list[Box]:
        return [("bus", 20.0, 0.0, np.pi / 2), ("pedestrian", 20.7 + max(1.4 - time, 0.0), 1.0, np.pi)]

    tracker = WorldTracker(sensors={"front": SensorModel()})
    for time, tracks in run(tracker, rate, 3.4, scene, FRONT):
        if time > 1.0:
            names = {tracker.class_names[k] for k in tracks.class_ids}
            assert (sorted(tracks.ids.tolist()), names) == ([1, 2], {"bus", "pedestrian"}), f"{time:.2f} s"


@rates
def test_a_track_may_be_of_both_classes_that_its_detector_says(rate: int) -> None:
    """A car of score .95 with a truck of .5 about it."""
    tracker, rng = WorldTracker(sensors={"front": SensorModel()}), np.random.default_rng(3)
    for frame in range(2 * rate):
        double = seen(tracker, [("car", 20.0, 0.0, 0.0), ("truck", 20.0, 0.0, 0.0)], rng)
        scored = replace(double, scores=np.array([0.95, 0.5]))
        tracks = tracker.step(round(frame / rate * SECOND), scored, "front", FRONT["front"])
    assert [tracker.class_names[k] for k in tracks.class_ids] == ["car"]
    np.testing.assert_allclose(tracks.states.class_probabilities[0], np.array([0.95, 0.5]) / 1.45, atol=0.05)


PAIR = {"a": facing(0), "b": facing(60)}  # whose views of 60 degrees meet at a bearing of 30
SEAM = np.array([np.cos(np.radians(30)), np.sin(np.radians(30))])
ALONG = np.radians(120.0)  # across the seam


def crossing(offset: float, distance: float = 15.0) -> tuple[float, float, float]:
    """Place and yaw of who has gone `offset` metres past the seam, at a distance."""
    x, y = distance * SEAM + offset * np.array([np.cos(ALONG), np.sin(ALONG)])
    return float(x), float(y), float(ALONG)


@rates
@pytest.mark.parametrize("offset", [-3.0, 0.0, 2.0])
def test_a_bus_that_the_seam_between_two_cameras_cuts_is_one_track(rate: int, offset: float) -> None:
    """12 m long, standing; each camera finds the part that it shows."""
    found = run(made(PAIR), rate, 4.0, lambda name, _: cut_by_view(("bus", *crossing(offset)), PAIR[name], 60.0), PAIR)
    assert {track for _, tracks in found for track in tracks.ids.tolist()} == {1}
    for time, tracks in found:
        if time > 1.0:
            assert len(tracks) == 1
            assert tracks.boxes.size[0, 0] == pytest.approx(12.0, abs=1.2)
            assert np.linalg.norm(tracks.boxes.centre[0, :2] - crossing(offset)[:2]) <= 0.6


@rates
@pytest.mark.parametrize("speed", [3.0, 8.0])
def test_a_bus_that_drives_over_the_seam_is_one_track(rate: int, speed: float) -> None:
    """From whole in one camera to whole in the other one."""

    def place(time: float) -> tuple[float, float, float]:
        return crossing(speed * time - 9.0)

    found = run(
        made(PAIR), rate, 18.0 / speed, lambda name, time: cut_by_view(("bus", *place(time)), PAIR[name], 60.0), PAIR
    )
    assert {track for _, tracks in found for track in tracks.ids.tolist()} == {1}
    for time, tracks in found:
        if time > 0.5:
            assert len(tracks) == 1
            assert tracks.boxes.size[0, 0] == pytest.approx(12.0, abs=1.2)
            assert np.linalg.norm(tracks.boxes.centre[0, :2] - place(time)[:2]) <= 0.8


@rates
def test_a_bus_that_drives_into_view_is_soon_as_long_as_it_is(rate: int) -> None:
    found = run(
        made({"b": PAIR["b"]}),
        rate,
        3.0,
        lambda _, time: cut_by_view(("bus", *crossing(8.0 * time - 6.0)), PAIR["b"], 60.0),
        {"b": PAIR["b"]},
    )
    assert {track for _, tracks in found for track in tracks.ids.tolist()} == {1}
    time, tracks = found[-1]
    assert len(tracks) == 1
    assert tracks.boxes.size[0, 0] == pytest.approx(12.0, abs=1.0)
    assert np.linalg.norm(tracks.boxes.centre[0, :2] - crossing(8.0 * time - 6.0)[:2]) <= 0.6


@rates
def test_two_cars_bumper_to_bumper_at_the_seam_stay_two(rate: int) -> None:
    """Half a metre apart, each whole in the view of its camera."""
    cars: dict[str, list[Box]] = {"a": [("car", *crossing(-2.5))], "b": [("car", *crossing(2.5))]}
    found = run(made(PAIR), rate, 4.0, lambda name, _: cars[name], PAIR)
    assert {track for _, tracks in found for track in tracks.ids.tolist()} == {1, 2}
    assert all(len(tracks) == 2 for time, tracks in found if time > 1.0)


@rates
@pytest.mark.parametrize("told", [False, True], ids=["by default", "with its confusion matrix"])
def test_a_sensor_that_takes_pedestrians_for_bicycles_now_and_then_keeps_one_id(rate: int, told: bool) -> None:
    flips = np.random.default_rng(5).random(8 * rate) < 0.1
    names, matrix = confusion([("pedestrian", "bicycle" if flip else "pedestrian") for flip in flips])
    told_of = {"confusion_classes": tuple(names), "confusion": tuple(matrix.ravel())} if told else {}
    found = run(
        WorldTracker(sensors={"front": CAMERA.model_copy(update=told_of)}),
        rate,
        8.0,
        lambda _, time: [("bicycle" if flips[round(time * rate)] else "pedestrian", 10.0 + time, 0.0, 0.0)],
        FRONT,
    )
    assert {track for _, tracks in found for track in tracks.ids.tolist()} == {1}


def test_a_confusion_matrix_decides_what_an_object_is() -> None:
    """Two detections in three say bicycle, of a sensor that takes pedestrians for bicycles as often as not."""
    told = SensorModel(confusion_classes=("bicycle", "pedestrian"), confusion=(0.95, 0.05, 0.5, 0.5))
    for sensor, name in ((SensorModel(), "bicycle"), (told, "pedestrian")):
        tracker = WorldTracker(sensors={"front": sensor})
        found = run(
            tracker,
            10,
            3.0,
            lambda _, time: [("pedestrian" if round(10 * time) % 3 == 0 else "bicycle", 10.0 + time, 0.0, 0.0)],
            FRONT,
        )
        assert tracker.class_names[found[-1][1].class_ids[0]] == name


@rates
def test_heading_does_not_oppose_motion_where_many_yaws_are_turned(rate: int) -> None:
    flips = np.random.default_rng(6).random(30 * rate) < 0.3
    found = run(
        made(FRONT),
        rate,
        30.0,
        lambda _, time: [("car", 5.0 + 8.0 * time, 0.0, np.pi * flips[round(time * rate)])],
        FRONT,
    )
    wrong = [np.cos(tracks.boxes.yaw[0]) < 0 for time, tracks in found if time > 1.0]
    assert np.mean(wrong) <= 0.001


@rates
def test_a_turning_car_is_foretold_for_three_seconds(rate: int) -> None:
    """8 m/s at 0.35 rad/s."""
    speed, turn = 8.0, 0.35

    def place(time: float) -> tuple[float, float]:
        return 30 + speed / turn * np.sin(turn * time), speed / turn * (1 - np.cos(turn * time)) - 20

    tracker = WorldTracker(sensors={"front": SensorModel()})
    run(tracker, rate, 4.0, lambda _, time: [("car", *place(time), turn * time)], FRONT)
    assert tracker.time_ns is not None
    ahead = tracker.predicted(tracker.time_ns + 3 * SECOND).boxes.centre[0, :2]
    assert np.linalg.norm(ahead - place(tracker.time_ns / SECOND + 3.0)) <= 4.0


@rates
def test_a_parked_car_stands_still(rate: int) -> None:
    """Deviation of the measured place: .12 m, as the filter holds."""
    tracker = WorldTracker(sensors={"front": SensorModel()})
    rng, car = np.random.default_rng(3), [("car", 20.0, 5.0, 0.7)]
    speeds, astray, resting = [], [], []
    for frame in range(20 * rate):
        time_ns = round(frame / rate * SECOND)
        tracks = tracker.step(time_ns, seen(tracker, car, rng, 0.12), "front", FRONT["front"])
        if frame >= 2 * rate:
            ahead = tracker.predicted(time_ns + 3 * SECOND).boxes.centre[0, :2]
            speeds.append(np.linalg.norm(tracks.boxes.velocity[0, :2]))
            astray.append(np.linalg.norm(ahead - (20.0, 5.0)))
            resting.append(tracks.states.resting[0] >= 0.5)
    assert np.sqrt(np.mean(np.square(speeds))) <= 0.15
    assert np.sqrt(np.mean(np.square(astray))) <= 0.4
    assert np.mean(resting) >= 0.99


@rates
def test_a_car_that_drives_off_is_soon_known_to_move(rate: int) -> None:
    """2 m/s^2 from 4 s on."""
    tracker = WorldTracker(sensors={"front": SensorModel()})
    found = run(tracker, rate, 7.0, lambda _, t: [("car", 10.0 + max(t - 4.0, 0.0) ** 2, 0.0, 0.0)], FRONT)
    resting = {round(time, 3): tracks.states.resting[0] >= 0.5 for time, tracks in found if time > 2.0}
    assert all(rests for time, rests in resting.items() if time <= 4.0)
    assert not any(rests for time, rests in resting.items() if time >= 5.0)
    time, tracks = found[-1]
    assert tracks.boxes.velocity[0, 0] == pytest.approx(2 * (time - 4.0), abs=0.5)


IMAGE = SensorModel(pitch_deviation=0.5)


def watched(tracker: WorldTracker, rate: int, seconds: float, names: tuple[str, ...], height: float = HIGH) -> list:
    """Time and tracks while a vehicle drives 5 m/s past a person at 24 m and a parked car at 30 m, behind one at 8 m/s.

    Two cameras, of which the second one stands 8 m aside, look ahead.
    """
    rng, found = np.random.default_rng(9), []
    for frame in range(round(seconds * rate)):
        time = frame / rate
        scene = [("pedestrian", 24.0, -4.0, 0.0), ("car", 30.0, 5.0, 0.0), ("car", 14.0 + 8.0 * time, 0.0, 0.0)]
        for name in names:
            eye = Pose(OPTICAL_IN_VEHICLE, np.array([5.0 * time, {"left": 0.0, "right": -8.0}[name], HIGH]))
            boxes = pictured(tracker, scene, eye, rng)
            tracks = tracker.step_image(round(time * SECOND), boxes, WIDE, eye, name, height)
        found.append((time, tracks))
    return found


@rates
def test_boxes_in_an_image_start_tracks_on_the_ground_and_say_how_little_they_know(rate: int) -> None:
    tracker = WorldTracker(sensors={"left": IMAGE})
    found = watched(tracker, rate, 2.5, ("left",))
    for time, tracks in found:
        if time <= 0.5:
            continue
        assert sorted(tracks.ids.tolist()) == [1, 2, 3], f"{time:.2f} s"
        for (x, y), name in (((24.0, -4.0), "pedestrian"), ((30.0, 5.0), "car"), ((14.0 + 8.0 * time, 0.0), "car")):
            off = np.linalg.norm(tracks.boxes.centre[:, :2] - (x, y), axis=1)
            nearest = off.argmin()
            assert tracker.class_names[tracks.class_ids[nearest]] == name
            deviation = np.sqrt(np.linalg.eigvalsh(tracks.covariance[nearest, :2, :2]).max())
            assert off[nearest] <= 3.0 * max(deviation, 0.5), f"{time:.2f} s"
            assert off[nearest] <= 0.15 * np.hypot(x - 5.0 * time, y) + 0.5, f"{time:.2f} s"
    first, last = (tracks.covariance[tracks.ids == 2, 0, 0] for _, tracks in (found[rate // 2 + 1], found[-1]))
    assert last < first


@rates
def test_a_second_camera_narrows_what_one_has_started(rate: int) -> None:
    spread = {}
    for names in (("left",), ("left", "right")):
        tracks = watched(WorldTracker(sensors=dict.fromkeys(names, IMAGE)), rate, 1.0, names)[-1][1]
        assert len(tracks) == 3
        person = np.linalg.norm(tracks.boxes.centre[:, :2] - (24.0, -4.0), axis=1).argmin()
        spread[names] = tracks.covariance[person, 0, 0]
    assert spread["left", "right"] < 0.6 * spread["left",]


def test_without_the_height_of_the_camera_boxes_start_none() -> None:
    assert all(not len(tracks) for _, tracks in watched(WorldTracker(sensors={"left": IMAGE}), 10, 1.0, ("left",), 0.0))
    blind = WorldTracker(sensors={"left": SensorModel()})
    assert all(not len(tracks) for _, tracks in watched(blind, 10, 1.0, ("left",)))
