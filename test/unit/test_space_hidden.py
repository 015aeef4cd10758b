"""Objects that are hidden, out of reach or gone: their tracks live by time and by what could have been seen."""

from __future__ import annotations

import numpy as np
import pytest
from space_scenes_helpers import HIGH, SECOND, WIDE, Box, facing, pictured, run, seen

from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from pkf_filter.space.config import SensorModel
from pkf_filter.space.tracker import WorldTracker

RATES = (10, 20, 30)
rates = pytest.mark.parametrize("rate", RATES)
AHEAD = {"front": facing(0)}
AROUND = {name: facing(60 * i) for i, name in enumerate(("front", "b", "c", "d", "e", "f"))}
rigs = pytest.mark.parametrize("poses", [AHEAD, AROUND], ids=["one sensor", "and five that see nothing"])
SENSOR = SensorModel(field_of_view=60.0)


@rigs
def test_a_track_is_born_and_ends_at_the_same_time_at_every_rate(poses: dict[str, Pose]) -> None:
    """A car that is seen for two seconds, and then seen to be gone."""
    lives = []
    for rate in RATES:
        tracker = WorldTracker(sensors=dict.fromkeys(poses, SENSOR))
        car: list[Box] = [("car", 20.0, 0.0, 0.0)]
        found = run(tracker, rate, 3.0, lambda name, t, car=car: car if name == "front" and t < 2.0 else [], poses)
        shown = [time for time, tracks in found if len(tracks)]
        lives.append((shown[0], shown[-1]))
    assert np.ptp(lives, axis=0).max() <= 0.1  # a period of the slowest


@rigs
def test_a_hidden_car_is_as_likely_to_exist_after_a_second_at_every_rate(poses: dict[str, Pose]) -> None:
    existence = []
    for rate in RATES:
        tracker = WorldTracker(sensors=dict.fromkeys(poses, SENSOR))

        def scene(name: str, time: float) -> list[Box]:
            boxes: list[Box] = [("truck", 15.0, 0.0, np.pi / 2), ("car", 30.0, 0.0, np.pi / 2)]
            before: list[Box] = [("truck", 15.0, 12.0, np.pi / 2), ("car", 30.0, 0.0, np.pi / 2)]
            return [] if name != "front" else before if time < 1.5 else boxes[:1]

        found = run(tracker, rate, 2.5, scene, poses)
        state = tracker.state
        car = np.abs(state.mean[:, 0] - 30.0).argmin()
        assert found[-1][1].ids.tolist()
        existence.append(state.existence[car])
    assert min(existence) > 0.5 and np.ptp(existence) <= 0.05


@rates
@pytest.mark.parametrize("covers", [True, False], ids=["behind the truck's image", "beside it"])
def test_an_image_that_shows_what_hides_a_car_is_no_evidence_against_it(rate: int, covers: bool) -> None:
    """A detector in space that looks every half a second, and one in the image that looks at every frame.

    The truck parks 20 m ahead; the car 40 m ahead is behind it, or to its side, and is found by neither for a second.
    """
    tracker = WorldTracker(sensors={"front": SensorModel(), "image": SensorModel()})
    rng, eye = np.random.default_rng(2), Pose(OPTICAL_IN_VEHICLE, np.array([0.0, 0.0, HIGH]))
    truck: Box = ("truck", 20.0, 0.0, np.pi / 2)
    for frame in range(round(3.0 * rate)):
        time = frame / rate
        car: Box = ("car", 40.0, 0.5 if covers else 14.0, np.pi / 2)
        boxes = [truck, car] if time < 2.0 else [truck]
        time_ns = round(time * SECOND)
        if frame % (rate // 2) == 0 and time < 2.0:
            tracker.step(time_ns, seen(tracker, boxes, rng), "front", facing(0))
        tracker.step_image(time_ns, pictured(tracker, boxes, eye, rng), WIDE, eye, "image")
    cars = np.abs(tracker.state.mean[:, 0] - 40.0) < 3.0
    likely = tracker.state.existence[cars].max(initial=0.0)
    assert likely > 0.5 if covers else likely < 0.1


@rates
def test_out_of_a_sensors_range_its_silence_says_nothing(rate: int) -> None:
    """The second sensor reaches to 10 m, the car is 20 m away."""
    near = SensorModel(range=10.0)
    tracker = WorldTracker(sensors={"a": SensorModel(), "b": near})
    poses = {"a": facing(0), "b": facing(0)}
    run(tracker, rate, 1.0, lambda name, _: [("car", 20.0, 0.0, 0.0)] if name == "a" else [], poses)
    existence, rng = tracker.state.existence[0], np.random.default_rng(0)
    for frame in range(rate * 3 // 2):
        tracker.step(round((1.0 + frame / rate) * SECOND), seen(tracker, [], rng), "b", poses["b"])
    assert tracker.state.existence[0] == pytest.approx(existence * 0.5 ** (1.5 / tracker.config.half_life), rel=0.02)


@rates
def test_a_hidden_car_is_published_as_coasting_all_the_while(rate: int) -> None:
    """1.0 s at constant velocity; neither before nor after it coasts."""
    tracker = WorldTracker(sensors=dict.fromkeys(AHEAD, SENSOR))

    def scene(_: str, time: float) -> list[Box]:
        y = -14.0 + 8.0 * time  # behind the truck from -4 to 4 m
        car: list[Box] = [] if abs(y) < 4.0 else [("car", 30.0, y, np.pi / 2)]
        return [*car, ("truck", 20.0, 0.0, np.pi / 2)]

    coasting: dict[float, bool] = {}
    for time, tracks in run(tracker, rate, 3.0, scene, AHEAD):
        car = tracks[np.abs(tracks.boxes.centre[:, 0] - 30.0) < 5.0]
        if time > 0.6:
            coasting[time] = bool(car.states.coasting[0])
    hidden = {time: abs(-14.0 + 8.0 * time) < 4.0 for time in coasting}
    assert coasting == hidden
    assert sum(hidden.values()) >= rate - 1  # for a second


@rates
def test_a_parked_car_is_the_same_after_a_truck_has_stood_before_it_for_three_and_a_half_seconds(rate: int) -> None:
    parked: Box = ("car", 30.0, 0.0, np.pi / 2)

    def scene(_: str, time: float) -> list[Box]:
        hidden = 1.5 < time < 5.0
        truck: Box = ("truck", 15.0, 0.0 if hidden else 12.0 if time < 3.0 else -12.0, np.pi / 2)
        return [truck] if hidden else [truck, parked]

    ids = []
    for time, tracks in run(WorldTracker(sensors={"front": SENSOR}), rate, 6.0, scene, AHEAD):
        if time < 1.5 or time > 5.5:
            ids += tracks.ids[np.abs(tracks.boxes.centre[:, 0] - 30.0) < 3.0].tolist()
    assert len(set(ids)) == 1 and len(ids) > rate


@rates
@pytest.mark.parametrize("distance", [20.0, 35.0, 50.0])
def test_walkers_side_by_side_keep_their_own_tracks(rate: int, distance: float) -> None:
    """A metre apart, 1.4 m/s across the view for 6 s, found by a camera: 3 % of the distance off along the sight."""
    camera = SensorModel(noise=2.0, depth_noise=0.03)
    tracker, rng = WorldTracker(sensors={"front": camera}), np.random.default_rng(11)
    ids: list[list[int]] = []
    for frame in range(6 * rate):
        time = frame / rate
        walkers: list[Box] = [("pedestrian", distance, -4.0 + 1.4 * time + side, np.pi / 2) for side in (0.0, 1.0)]
        boxes = seen(tracker, walkers, rng, 0.1)
        boxes.boxes.centre[:, :2] *= 1.0 + 0.03 * rng.normal(size=(2, 1))
        tracks = tracker.step(round(time * SECOND), boxes, "front", facing(0))
        if time > 1.0:
            ids.append(tracks.ids[np.argsort(tracks.boxes.centre[:, 1])].tolist())
    assert set(map(tuple, ids)) in ({(1, 2)}, {(2, 1)})
