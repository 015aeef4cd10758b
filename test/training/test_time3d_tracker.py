"""Time3D's exported graph against torch, and the tracker over graphs real and scripted."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_helpers import SMALL, network

from camtrack_core.errors import ConfigurationError, ModelError
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.runtime import Device
from camtrack_core.runtime.batch import Batch
from time3d_tracker import level
from time3d_tracker.config import INPUTS, MEMORY, OUTPUTS, RESIDENT, TrackerConfig
from time3d_tracker.export import FrameGraph, example_inputs, export, resized
from time3d_tracker.model import Outputs, Query, Time3DModel
from time3d_tracker.tracker import Result, Tracker, View

INTRINSICS = np.array([[120.0, 0, 80], [0, 120, 48], [0, 0, 1]])
SECOND = 1_000_000_000


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_graph_says_what_torch_says(graph: Path, engine: Device) -> None:
    model = Time3DModel(graph, engine, threads=1, precision="f32")
    inputs = eventful_inputs()
    with torch.no_grad():
        expected = FrameGraph(network())(*(torch.from_numpy(inputs[name]) for name in INPUTS))
    found = model.session.run(inputs)
    assert set(found) == set(OUTPUTS)
    for name, value in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(found[name], value.numpy(), rtol=2e-3, atol=2e-4, err_msg=name)
    # the network above has something to say, of objects and of their motion
    assert found["scores"].max() > 0.3
    assert np.linalg.norm(found["velocities"], axis=-1).max() > 1.0
    assert np.ptp(found["association"][0, :, :-1, :-1], axis=0).max() > 0.01  # each remembered frame says its own


def eventful_inputs() -> dict[str, np.ndarray]:
    """Inputs as a drive gives them: a tilted camera that moves and turns, and objects remembered from all around."""
    inputs = dict(zip(INPUTS, (x.numpy() for x in example_inputs(network())), strict=True))
    rng, slots = np.random.default_rng(1), SMALL.slots
    tilt = np.radians(6)
    pitched = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
    camera = Pose(pitched @ OPTICAL_IN_VEHICLE, np.array([0.0, 0.0, 1.5]))
    turn = rng.uniform(-0.3, 0.3, MEMORY)
    ways = rng.uniform([-2, -0.2, -15], [2, 0.2, 0], (MEMORY, 3))
    told = {
        "projection": level.projection(INTRINSICS, camera)[None],
        "height": [1.5],
        "past_features": rng.normal(0, 1, (1, MEMORY, slots, SMALL.embedding)),
        "past_centres": rng.uniform([-20, -1, 5], [20, 2, 60], (1, MEMORY, slots, 3)),
        "past_valid": rng.random((1, MEMORY, slots)) > 0.4,
        "elapsed": np.sort(rng.uniform(0.1, 2, (1, MEMORY)))[:, ::-1],
        "motion": np.concatenate([ways, np.sin(turn)[:, None], np.cos(turn)[:, None]], 1)[None],
    }
    return inputs | {name: np.ascontiguousarray(value, np.float32) for name, value in told.items()}


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_a_large_picture_is_made_smaller_without_skipping_pixels(graph: Path, factor: int) -> None:
    """Stripes of one pixel become means of whole blocks of pixels."""
    model = Time3DModel(graph, "onnxruntime", threads=1)
    image = np.zeros((96 * factor, 160 * factor, 3), np.uint8)
    image[:, ::2] = 200
    assert model.prepare(image, 0) == pytest.approx(1 / factor)
    means = image.reshape(96, factor, 160, factor, 3).mean((1, 3))
    assert abs(model._input[0] - means).max() <= 1


class Scripted:
    """Stands for a model: objects at given places on given frames, whose first feature is who they are."""

    def __init__(self, frames: list[list[tuple[int, float]]]) -> None:
        self.height, self.width, self.slots, self.channels, self.cameras = 96, 160, 4, 2, 1
        self.frames = frames
        self.seen: list[tuple[list[float], np.ndarray]] = []  # seconds since each remembered frame, projection

    def infer(self, queries: Sequence[Query]) -> list[Outputs]:
        return [self.answer(query) for query in queries]

    def answer(self, query: Query) -> Outputs:
        memory = query.memory
        self.seen.append(([(query.time_ns - m.time_ns) / SECOND for m in memory], query.projection))
        now = self.frames[len(self.seen) - 1]
        k = self.slots
        who = np.array([i for i, _ in now] + [0] * (k - len(now)))
        association = np.zeros((MEMORY, k + 1, k + 1), np.float32)
        association[:, :, -1] = 1
        for frame, past in enumerate(memory):
            same = (past.features[:, 0] == who[:, None]) & (who[:, None] > 0)
            association[frame, :k, :k] = same * 0.9
            association[frame, :k, -1] = 1 - 0.9 * same.any(1)
        features = np.zeros((k, 2), np.float32)
        features[:, 0] = who
        centres = np.zeros((k, 3), np.float32)
        centres[:, 0], centres[:, 2] = who, 20
        return {
            "scores": np.array([s for _, s in now] + [0.0] * (k - len(now))), "class_ids": np.zeros(k, np.int32),
            "boxes2d": np.tile([[10.0, 10, 30, 30]], (k, 1)), "centres": centres, "sizes": np.ones((k, 3)),
            "yaws": np.tile([[0.0, 1.0]], (k, 1)), "usable": np.ones(k), "deviations": np.full(k, 0.1),
            "features": features, "association": association, "velocities": np.zeros((k, 3)),
            "attributes": np.eye(3)[np.zeros(k, int)],
        }  # fmt: skip


def follow(frames: list[list[tuple[int, float]]], times: list[float], **options: float) -> list[dict[int, int]]:
    """For each frame, which track each object has."""
    tracker = Tracker(Scripted(frames), TrackerConfig(**options))  # type: ignore[arg-type]
    said = []
    for time in times:
        result = tracker.step(np.zeros((96, 160, 3), np.uint8), round(time * SECOND), INTRINSICS)
        # y of the upright frame points left: minus the level frame's x, which says who it is
        who = (-result.tracks.boxes.centre[:, 1]).round().astype(int).tolist()
        said.append(dict(zip(who, result.tracks.ids.tolist(), strict=True)))
    return said


def test_objects_keep_their_ids_in_any_order() -> None:
    said = follow([[(1, 0.9), (2, 0.8)], [(2, 0.9), (1, 0.8)], [(3, 0.9), (2, 0.9), (1, 0.5)]], [0, 0.5, 1.1])
    assert said == [{1: 1, 2: 2}, {2: 2, 1: 1}, {3: 3, 2: 2, 1: 1}]


def test_weak_objects_continue_tracks_but_start_none() -> None:
    said = follow([[(1, 0.9), (2, 0.2)], [(1, 0.2), (2, 0.1)]], [0, 0.5], detection_threshold=0.15)
    assert said == [{1: 1}, {1: 1}]


def test_an_object_hidden_for_a_while_comes_back_and_one_gone_long_is_new() -> None:
    frames = [[(1, 0.9)], [], [], [(1, 0.9)], [], [(1, 0.9)]]
    assert follow(frames, [0, 0.5, 1.0, 1.5, 3, 4.4], memory_span=2.5) == [{1: 1}, {}, {}, {1: 1}, {}, {1: 2}]


class Road:
    """Stands for a model: one object on a road in the fixed frame that the graph always takes for the one before."""

    def __init__(self, places: list[float], speed: float, camera: Pose, deviation: float = 0.01) -> None:
        self.height, self.width, self.slots, self.channels, self.cameras = 96, 160, 1, 2, 1
        self.places, self.speed, self.camera, self.deviation = iter(places), speed, camera, deviation

    def infer(self, queries: Sequence[Query]) -> list[Outputs]:
        x = next(self.places)
        association = np.zeros((MEMORY, 2, 2), np.float32)
        association[:, 0, 0] = 0.9
        pose = level.level_pose(self.camera)
        centre = (np.array([[x, 0.0, 0.8]]) - pose.translation) @ pose.rotation
        velocity = np.array([[self.speed, 0.0, 0.0]]) @ pose.rotation
        return [{
            "scores": np.array([0.9]), "class_ids": np.zeros(1, np.int32), "boxes2d": np.array([[10.0, 10, 30, 30]]),
            "centres": centre, "sizes": np.array([[4.0, 1.8, 1.6]]), "yaws": np.array([[0.0, 1.0]]),
            "usable": np.ones(1), "deviations": np.full(1, self.deviation), "features": np.zeros((1, 2), np.float32),
            "association": association, "velocities": velocity, "attributes": np.eye(3)[[0]],
        }]  # fmt: skip


@pytest.mark.parametrize(("places", "ids"), [
    ([20.0, 30.0, 40.0, 60.0], [1, 1, 1, 1]),  # 20 m/s, then unseen for a frame: where it leads
    ([20.0, 30.0, 60.0, 70.0], [1, 1, 2, 2]),  # 20 m beyond where it leads: another one
    ([20.0, 30.0, 30.0, 40.0], [1, 1, 2, 2]),  # 10 m short of it
    ([20.0, 28.0], [1, 1]),  # the velocity of what was seen once is a guess
])  # fmt: skip
@pytest.mark.parametrize("moving", [False, True])
def test_no_object_continues_a_track_that_cannot_have_come_so_far(
    places: list[float], ids: list[int], moving: bool
) -> None:
    """The camera looks along the road from an angle, and drives or stands."""
    turn = np.radians(20)
    heading = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    start = Pose(heading @ OPTICAL_IN_VEHICLE, np.array([0.0, -5.0, 1.5]))
    model = Road(places, 20.0, start)
    tracker = Tracker(model)  # type: ignore[arg-type]
    said, seconds = [], [0.0, 0.5, 1.0, 2.0 if places[-1] == 60.0 else 1.5]
    for second in seconds[: len(places)]:
        model.camera = Pose(start.rotation, start.translation + [15.0 * second * moving, 0, 0])
        image = np.zeros((96, 160, 3), np.uint8)
        said += tracker.step(image, round(second * SECOND), INTRINSICS, model.camera).tracks.ids.tolist()
    assert said == ids


@pytest.mark.parametrize(("deviation", "ids"), [(0.02, [1, 2]), (0.1, [1, 1])])
def test_a_depth_in_doubt_may_jump(deviation: float, ids: list[int]) -> None:
    """By 9 m within a tenth of a second, at a distance of 40 m."""
    model = Road([31.0, 40.0], 0.0, Pose(OPTICAL_IN_VEHICLE, np.zeros(3)), deviation)
    tracker = Tracker(model)  # type: ignore[arg-type]
    image = np.zeros((96, 160, 3), np.uint8)
    said = [tracker.step(image, t, INTRINSICS, model.camera).tracks.ids.tolist() for t in (0, SECOND // 10)]
    assert said == [[one] for one in ids]


def test_where_the_cameras_motion_is_unknown_the_association_is_trusted() -> None:
    model = Road([20.0, 60.0], 0.0, Pose(OPTICAL_IN_VEHICLE, np.zeros(3)))
    tracker = Tracker(model)  # type: ignore[arg-type]
    image = np.zeros((96, 160, 3), np.uint8)
    assert [tracker.step(image, t, INTRINSICS).tracks.ids.tolist() for t in (0, SECOND // 2)] == [[1], [1]]


def test_memory_is_bounded_and_spaced_at_irregular_rates() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.12, 200))
    model = Scripted([[(1, 0.9)]] * 200)
    tracker = Tracker(model, TrackerConfig(memory_spacing=0.35))  # type: ignore[arg-type]
    for time in times:
        tracker.step(np.zeros((96, 160, 3), np.uint8), round(time * SECOND), INTRINSICS)
    for elapsed, _ in model.seen[1:]:
        assert len(elapsed) <= MEMORY
        assert elapsed == sorted(elapsed, reverse=True)
        assert elapsed[-1] <= 0.12 + 1e-6  # the frame before is always there
        assert all(a - b >= 0.35 - 1e-6 for a, b in itertools.pairwise(elapsed[:-1]))
    assert all(1.0 < elapsed[0] < 2.6 for elapsed, _ in model.seen[60:])


def test_at_a_high_rate_a_track_missed_once_keeps_its_id_and_the_span_is_what_ends_it() -> None:
    """At 20 Hz the frames of a quarter of a second are too close to all be remembered: the last one is."""
    seen, missed = [(1, 0.9), (2, 0.9)], [(1, 0.9)]
    short = follow([seen] * 5 + [missed] + [seen], [0.05 * i for i in range(7)])
    assert short[-1] == {1: 1, 2: 2}

    def back_after(seconds: float) -> int:
        count = round(seconds / 0.05)
        times = [0.05 * i for i in range(5 + count)]
        return follow([seen] * 5 + [missed] * (count - 1) + [seen], times)[-1][2]

    assert back_after(2.8) == 2
    assert back_after(3.3) == 3


def test_the_score_of_a_place_in_doubt_is_the_share_of_its_errors_that_are_small() -> None:
    model = Scripted([[(1, 0.8)]])
    result = Tracker(model).step(np.zeros((96, 160, 3), np.uint8), 0, INTRINSICS)  # type: ignore[arg-type]
    deviation = 0.1 * np.hypot(1, 20)  # the scripted one, and the place
    errors = np.abs(np.random.default_rng(0).laplace(0, deviation / np.sqrt(2), 200_000))
    assert result.tracks.scores[0] == pytest.approx(0.8 * (errors < 2.0).mean(), abs=0.003)
    assert result.detections.scores[0] == result.tracks.scores[0]


def test_the_upright_frame_leads_to_the_optical_one() -> None:
    pitch = np.radians(10)
    turn = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
    camera = Pose(turn @ OPTICAL_IN_VEHICLE, np.array([3.0, 2.0, 1.5]))
    tracker = Tracker(Scripted([[(2, 0.9)]]))  # type: ignore[arg-type]
    result = tracker.step(np.zeros((96, 160, 3), np.uint8), 0, INTRINSICS, camera)
    found = camera.apply(result.upright.apply(result.tracks.boxes.centre))
    np.testing.assert_allclose(found, level.level_pose(camera).apply(np.array([[2.0, 0, 20]])), atol=1e-9)


@pytest.mark.parametrize("entry", [0.0, -5.0, np.nan, np.inf])
def test_intrinsics_that_are_none_are_refused(entry: float) -> None:
    wrong = INTRINSICS.copy()
    wrong[0, 0] = entry
    with pytest.raises(ConfigurationError, match="positive focal lengths"):
        Tracker(Scripted([[]])).step(np.zeros((96, 160, 3), np.uint8), 0, wrong)  # type: ignore[arg-type]


NUMBERS = tuple(name for name in OUTPUTS if name != "class_ids")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in (*RESIDENT, "association")])
def test_objects_that_are_not_finite_never_leave_and_are_not_remembered(name: str, value: float) -> None:
    model = Scripted([[(1, 0.9), (2, 0.9)]] * 2)
    answer = model.answer
    asked: list[Query] = []

    def broken(query: Query) -> Outputs:
        asked.append(query)
        out = answer(query)
        if len(asked) == 1:
            out[name] = out[name].astype(float)
            out[name][0] = value
        return out

    model.answer = broken  # type: ignore[method-assign]
    tracker = Tracker(model)  # type: ignore[arg-type]
    first, second = (
        tracker.step(np.zeros((96, 160, 3), np.uint8), second * SECOND // 2, INTRINSICS) for second in range(2)
    )
    assert (first.tracks.ids.tolist(), first.left_out, len(first.detections)) == ([1], 1, 3)
    for found in (first.tracks.boxes, first.detections.boxes):
        for values in (found.centre, found.size, found.yaw, found.velocity):
            assert np.isfinite(values).all()
    (past,) = asked[1].memory
    assert np.isfinite(past.features).all() and np.isfinite(past.centres).all()
    assert (past.ids.tolist(), past.valid.tolist()) == ([0, 1, 0, 0], [False, True, False, False])
    assert sorted(second.tracks.ids.tolist()) == [1, 2] and second.left_out == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_association_that_is_not_finite_is_none(value: float) -> None:
    model = Scripted([[(1, 0.9), (2, 0.9)]] * 2)
    answer = model.answer

    def broken(query: Query) -> Outputs:
        out = answer(query)
        out["association"][:, 0] = value
        return out

    model.answer = broken  # type: ignore[method-assign]
    tracker = Tracker(model)  # type: ignore[arg-type]
    ids = [
        tracker.step(np.zeros((96, 160, 3), np.uint8), second * SECOND // 2, INTRINSICS).tracks.ids.tolist()
        for second in range(2)
    ]
    assert ids == [[1, 2], [3, 2]]


def test_the_real_graph_runs_frame_after_frame(graph: Path) -> None:
    tracker = Tracker(Time3DModel(graph, "onnxruntime", threads=1), TrackerConfig(birth_threshold=0.15))
    rng = np.random.default_rng(0)
    for index in range(7):
        image = rng.integers(0, 256, (90, 160, 3), np.uint8)
        tracks = tracker.step(image, index * SECOND // 4, INTRINSICS).tracks
        assert len(set(tracks.ids.tolist())) == len(tracks)
        assert np.isfinite(tracks.boxes.centre).all()
        assert (np.linalg.eigvalsh(tracks.covariance) > 0).all()


def test_weights_serve_an_input_of_another_size(tmp_path: Path) -> None:
    """Away from its edges a larger input changes nothing: weights belong to no place in the image."""
    wide = resized(network(), 96, 320)
    assert (wide.config.height, wide.config.width) == (96, 320)
    image = torch.randint(0, 256, (1, 3, 96, 320), dtype=torch.uint8).float()
    with torch.no_grad():
        whole, left = wide.detector(image)[1], network().detector(image[..., :160])[1]
    near = (whole[..., :20] - left).abs().amax((0, 1, 2))
    assert near[:2].max() < 1e-4 * left.abs().max() < near[-1]
    export(wide, tmp_path / "wide.onnx")
    model = Time3DModel(tmp_path / "wide.onnx", "onnxruntime", threads=1)
    assert (model.height, model.width) == (96, 320)
    with pytest.raises(ConfigurationError, match="multiple of 32 pixels, got 100"):
        resized(network(), 100, 320)


def add(batch: Batch[Any], tracker: Tracker, view: View, done: Callable[[Result], None]) -> None:
    """As the node does."""
    batch.add(tracker, lambda: tracker.query(view), lambda out: done(tracker.update(view, out)))


def test_a_graph_for_two_cameras_says_of_each_what_that_for_one_says(graph: Path, tmp_path: Path) -> None:
    both = tmp_path / "two.onnx"
    export(network(), both, cameras=2)
    model, single = Time3DModel(both, "onnxruntime", threads=1), Time3DModel(graph, "onnxruntime", threads=1)
    config = TrackerConfig(birth_threshold=0.15)
    together, alone = (
        [Tracker(model, config), Tracker(model, config)],
        [Tracker(single, config), Tracker(single, config)],
    )
    batch, rng = Batch(model, patience=60), np.random.default_rng(0)
    for tracker in together:
        batch.join(tracker)
    for index in range(3):
        # of unlike sizes and heights; the second camera's third frame does not come
        views = [
            View(rng.integers(0, 256, (rows, 160, 3), np.uint8), index * SECOND // 4, INTRINSICS, None, height)
            for rows, height in ((90, 1.5), (80, 0.0))
        ][: 1 if index == 2 else 2]
        found: list[Result] = []
        for tracker, view in zip(together, views, strict=False):
            add(batch, tracker, view, found.append)
        batch.run()
        for tracker, view, result in zip(alone, views, found, strict=False):
            expected = tracker.step(view.image, view.time_ns, view.intrinsics, view.camera_pose, view.height)
            np.testing.assert_array_equal(result.tracks.ids, expected.tracks.ids)
            np.testing.assert_allclose(result.tracks.boxes.centre, expected.tracks.boxes.centre, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(result.xyxy, expected.xyxy, atol=1e-2)
        assert len(found) == len(views)


def test_a_batch_runs_when_it_is_full_when_a_camera_comes_again_and_when_it_has_waited_long_enough() -> None:
    model = Scripted([[(1, 0.9)]] * 9)
    model.cameras = 2
    left, right = Tracker(model), Tracker(model)  # type: ignore[arg-type]
    said: list[str] = []

    def show(batch: Batch[Any], tracker: Tracker, name: str, time: int) -> None:
        view = View(np.zeros((96, 160, 3), np.uint8), time * SECOND, INTRINSICS)
        add(batch, tracker, view, lambda result: said.append(f"{name}{time}: {len(result.tracks)}"))

    patient = Batch(model, patience=60)
    hasty = Batch(model, patience=0)
    for batch in (patient, hasty):
        batch.join(left)
        batch.join(right)
    show(patient, left, "left", 1)
    patient.run_due()
    assert said == []
    show(patient, right, "right", 1)
    assert said == ["left1: 1", "right1: 1"]
    show(patient, left, "left", 2)
    show(patient, left, "left", 3)
    assert said[2:] == ["left2: 1"]
    patient.forget(left)
    patient.run()
    assert said[3:] == []
    show(hasty, right, "right", 4)
    hasty.run_due()
    assert said[3:] == ["right4: 1"]
    patient.leave(left)  # then nobody is left to wait for
    show(patient, right, "right", 5)
    assert said[4:] == ["right5: 1"]


def test_a_failure_of_one_camera_leaves_the_frames_of_the_others() -> None:
    model = Scripted([[(1, 0.9)]] * 9)
    model.cameras = 3
    said: list[str] = []

    def view(time: int) -> View:
        return View(np.zeros((96, 160, 3), np.uint8), time * SECOND, INTRINSICS)

    def fail(result: Result) -> None:
        raise ModelError("of the first camera")

    batch = Batch(model, patience=60)
    trackers = [Tracker(model) for _ in range(3)]  # type: ignore[arg-type]
    for tracker in trackers:
        batch.join(tracker)
    add(batch, trackers[0], view(1), fail)
    add(batch, trackers[1], view(1), lambda _: said.append("second"))
    with pytest.raises(ModelError, match="of the first camera"):
        add(batch, trackers[2], view(1), lambda _: said.append("third"))
    assert said == ["second", "third"]

    add(batch, trackers[0], view(2), fail)
    with pytest.raises(ModelError, match="of the first camera"):  # of the frame before; the new one is taken in
        add(batch, trackers[0], view(3), lambda _: said.append("first"))
    batch.run()
    assert said[2:] == ["first"]


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a model file"):
        Time3DModel(tmp_path / "none.onnx")
