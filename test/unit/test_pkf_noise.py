"""Noise and score models from labelled sequences: simulated ones, whose truth is known, and KITTI's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.special import expit, logit
from typer.testing import CliRunner

from camtrack.cli import app
from camtrack_core.config import validated
from camtrack_core.datasets.kitti.rows import to_camera
from camtrack_core.datasets.kitti.sequences import KittiSequence
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.geometry.boxes import Boxes3D
from pkf_filter import SensorModel, WorldConfig
from pkf_filter.calibration.command import as_yaml, read_world
from pkf_filter.calibration.detector import JudgedFrame, confusion, logistic, matched, score_model
from pkf_filter.calibration.labelled import compared_frames, labelled_tracks
from pkf_filter.calibration.motion_noise import (
    LabelledTrack,
    MatchedBoxes,
    group_noise,
    measurement_noise,
    process_noise,
    variance_components,
)
from pkf_filter.image.config import Detector
from pkf_filter.space.config import VEHICLE, ClassGroup

DT = 0.1
INTEGRATED = np.linalg.cholesky(np.array([[DT**3 / 3, DT**2 / 2], [DT**2 / 2, DT]]))


def accelerated(rng: np.random.Generator, frames: int, power: float) -> np.ndarray:
    """A value that white acceleration drives, exactly integrated."""
    state, values = np.array([0.0, rng.normal(0, 5)]), []
    for _ in range(frames):
        values.append(state[0])
        state = np.array([state[0] + DT * state[1], state[1]]) + power * INTEGRATED @ rng.normal(size=2)
    return np.array(values)


def drifting(rng: np.random.Generator, frames: int, power: float) -> np.ndarray:
    return np.cumsum(power * np.sqrt(DT) * rng.normal(size=frames))


def simulated(seed: int, turning: bool, count: int = 60, frames: int = 60) -> list[LabelledTrack]:
    rng, tracks = np.random.default_rng(seed), []
    for _ in range(count):
        values = np.zeros((frames, 7))
        values[:, 0], values[:, 1] = accelerated(rng, frames, 1.5), accelerated(rng, frames, 1.5)
        values[:, 2] = drifting(rng, frames, 0.2)
        values[:, 3] = drifting(rng, frames, 0.3) + (accelerated(rng, frames, 0.4) if turning else 0.0)
        values[:, 4:] = [4.0, 2.0, 1.5] * np.exp(np.stack([drifting(rng, frames, 0.05) for _ in range(3)], 1))
        values += rng.normal(size=values.shape) * [0.05, 0.05, 0.02, 0.01, 0, 0, 0]  # the labels' own error
        values[:, 3] += np.pi * (rng.random(frames) < 0.05)  # some face backwards
        tracks.append(LabelledTrack("car", np.arange(frames) * DT, values))
    return tracks


def test_powers_are_told_from_values_of_mixed_variance() -> None:
    rng = np.random.default_rng(0)
    design = np.stack([rng.uniform(0, 2, 20000), np.ones(20000)], 1)
    values = rng.normal(size=20000) * np.sqrt(design @ [3.0, 0.5])
    np.testing.assert_allclose(variance_components(values, design), [3.0, 0.5], rtol=0.06)


@pytest.mark.parametrize("turning", [False, True])
def test_motion_of_simulated_objects_is_recovered(turning: bool) -> None:
    found = process_noise(simulated(1, turning), turning)
    expected = {"acceleration": 1.5, "climb": 0.2, "yaw_drift": 0.3, "size_drift": 0.05}
    if turning:
        expected["turn_acceleration"] = 0.4
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=0.12), name
    assert found["speed"] == pytest.approx(5.0, rel=0.25)
    assert ("turn_rate" in found) == turning


def test_labels_that_do_not_change_tell_nothing() -> None:
    still = [LabelledTrack("car", np.arange(50) * DT, np.tile([1.0, 2, 3, 0.5, 4, 2, 1.5], (50, 1))) for _ in range(20)]
    assert process_noise(still, False) == {}
    assert process_noise([], False) == {}


def test_noise_along_the_line_of_sight_is_told_from_noise_about_the_place() -> None:
    rng, count = np.random.default_rng(2), 6000
    bearing, distance = rng.uniform(-0.7, 0.7, count), rng.uniform(5, 60, count)
    sight = np.stack([np.cos(bearing), np.sin(bearing), np.zeros(count)], 1)
    origin = np.tile([7.0, -3.0, 1.0], (count, 1))
    groups = rng.integers(0, 2, count)
    size, unknown = np.tile([4.0, 2.0, 1.5], (count, 1)), np.full((count, 3), np.nan)
    labelled = Boxes3D(origin + distance[:, None] * sight, size, bearing, unknown)
    off = rng.normal(size=(count, 3)) * np.where(groups[:, None] == 0, [0.3, 0.3, 0.1], [0.6, 0.6, 0.2])
    off += (0.04 * distance * rng.normal(size=count))[:, None] * sight
    yaw = bearing + 0.1 * rng.normal(size=count) + np.pi * (rng.random(count) < 0.2)  # turned by 180 degrees
    detected = Boxes3D(labelled.centre + off, size * np.exp(0.07 * rng.normal(size=size.shape)), yaw, unknown)
    found, depth = measurement_noise(MatchedBoxes(detected, labelled, origin, groups), 3)
    assert depth == pytest.approx(0.04, rel=0.05)
    for group, place, height in ((0, 0.3, 0.1), (1, 0.6, 0.2)):
        expected = {
            "measured_position": place,
            "measured_height": height,
            "measured_yaw": 0.1,
            "measured_size": 0.07,
        }
        assert found[group] == pytest.approx(expected, rel=0.08)
    assert found[2] == {}


def test_logistic_is_recovered_and_stays_finite() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(1, 2, 8000)
    slope, offset = logistic(x, rng.random(8000) < expit(0.7 * x - 1.2))
    assert (slope, offset) == pytest.approx((0.7, -1.2), abs=0.08)
    assert np.isfinite(logistic(x, np.ones(8000, np.bool_))).all()
    assert logistic(x, x < 0)[0] == 0.0  # a score that says the opposite of what it should says nothing


def test_what_scores_say_is_recovered() -> None:
    """Objects of constant scores; scores of true and false detections are Gaussian in log odds, equally wide."""
    rng, sequences = np.random.default_rng(4), []
    for _ in range(40):
        odds = rng.normal(2.0, 1.0, 12)  # of the objects; their detections show them exactly
        frames = []
        for i in range(40):
            seen = rng.random(12) < expit(0.6 + 0.5 * odds)
            false = rng.normal(0.0, 1.0, rng.poisson(6))
            scores = expit(np.concatenate([odds[seen], false]))
            taken = np.where(seen, np.cumsum(seen) - 1, -1)
            frames.append(JudgedFrame(i * DT, np.arange(12), taken, scores, np.ones(len(scores), np.bool_)))
        sequences.append(frames)
    model = score_model(sequences, lambda _: 0.8, 100.0)
    assert (model.detection_slope, model.detection_offset) == pytest.approx((0.5, 0.6), abs=0.08)
    # true scores are N(2, 1) tilted by being seen, false ones N(0, 1): close to slope 2
    assert model.truth_slope == pytest.approx(2.0, abs=0.25)
    even = logit(model.even_score)
    share = model.true_detections / (model.true_detections + 6)
    assert model.truth_slope * even + model.truth_offset == pytest.approx(0.0, abs=1e-6)
    assert even == pytest.approx(1.0 - logit(share) / 2, abs=0.2)
    assert model.even_detection == pytest.approx(expit(0.6 + 0.5 * even), abs=0.03)


def test_matches_are_one_to_one_and_near() -> None:
    cost = np.array([[0.1, 0.2, 9.0], [0.15, 5.0, 9.0], [np.inf, 7.0, 8.0]])
    assert matched(cost, 2.0).tolist() == [1, 0, -1]
    assert matched(np.zeros((0, 3)), 1.0).shape == (0,)
    assert matched(np.zeros((2, 0)), 1.0).tolist() == [-1, -1]


def test_confusion_is_counted_by_laplaces_rule() -> None:
    pairs = [("Pedestrian", "Pedestrian")] * 7 + [("Pedestrian", "Bicycle")] * 2 + [("bicycle", "bicycle")] * 3
    pairs += [("bicycle", "car")]
    names, matrix = confusion(pairs)
    assert names == ["bicycle", "car", "pedestrian"]
    np.testing.assert_allclose(matrix, [[4 / 7, 2 / 7, 1 / 7], [1 / 3, 1 / 3, 1 / 3], [3 / 12, 1 / 12, 8 / 12]])


# --- The command


def write_kitti(root: Path, seed: int) -> None:
    """A sequence of 20 cars that stand and drive before a camera at rest, and detections 0.25 m off."""
    rng, rows, found = np.random.default_rng(seed), [], []
    speed, start = rng.uniform(-3, 3, (20, 2)), np.stack([rng.uniform(15, 50, 20), np.linspace(-30, 30, 20)], 1)
    size, none = np.tile([4.0, 1.8, 1.5], (20, 1)), np.full((20, 3), np.nan)
    for frame in range(50):
        centre = np.concatenate([start + speed * frame * DT, np.zeros((20, 1))], 1)
        labelled = Boxes3D(centre, size, np.zeros(20), none)
        off = rng.normal(size=(20, 3)) * [0.25, 0.25, 0.05]
        detected = Boxes3D(centre + off, size * np.exp(0.1 * rng.normal(size=(20, 3))), 0.2 * rng.normal(size=20), none)
        logits = rng.normal(2, 1, 20)
        for i, (place, (h, w, long), turn) in enumerate(zip(*to_camera(labelled), strict=True)):
            x, y, z = place
            xyxy = f"{100 + 40 * i} 100 {130 + 40 * i} 130"
            rows.append(f"{frame} {i} Car 0 0 0 {xyxy} {h:.4f} {w:.4f} {long:.4f} {x:.4f} {y:.4f} {z:.4f} {turn:.4f}")
        for i, (place, (h, w, long), turn) in enumerate(zip(*to_camera(detected), strict=True)):
            x, y, z = place
            box = f"{100 + 40 * i},100,{130 + 40 * i},130,{logits[i]:.4f}"
            found.append(f"{frame},2,{box},{h:.4f},{w:.4f},{long:.4f},{x:.4f},{y:.4f},{z:.4f},{turn:.4f},0")
        false = rng.uniform(5, 40), rng.uniform(-5, 5)
        found.append(f"{frame},2,10,10,20,20,-1,1.5,1.8,4,{false[1]:.4f},5.5,{false[0]:.4f},0,0")
    for folder in ("label_02", "poses", "found"):
        (root / folder).mkdir(parents=True)
    (root / "label_02" / "0000.txt").write_text("\n".join(rows) + "\n")
    (root / "found" / "0000.txt").write_text("\n".join(found) + "\n")
    (root / "poses" / "0000.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 50)


def test_the_command_prints_what_a_detector_takes_classes_for(tmp_path: Path) -> None:
    """One detection in ten, whichever car it is of, says it is a cyclist."""
    write_kitti(tmp_path, 5)
    path = tmp_path / "found" / "0000.txt"
    lines = path.read_text().splitlines()
    taken = [line.replace(",2,", ",3,", 1) if k % 10 == 0 else line for k, line in enumerate(lines)]
    path.write_text("\n".join(taken) + "\n")
    result = CliRunner().invoke(app, ["pkf", "noise", str(tmp_path), "--detections", str(tmp_path / "found")])
    assert result.exit_code == 0, result.output
    sensor = validated(SensorModel, parameters(result.output)["front"])
    assert sensor.confusion_classes == ("car", "cyclist")
    assert sensor.confusion[:2] == pytest.approx((0.9, 0.1), abs=0.02)  # no cyclist is labelled: only Laplace's pairs
    assert sensor.confusion[2:] == (0.5, 0.5)


def parameters(output: str) -> dict:
    return yaml.safe_load(output)["/**"]["ros__parameters"]


def test_the_command_prints_what_the_filter_accepts(tmp_path: Path) -> None:
    write_kitti(tmp_path, 5)
    result = CliRunner().invoke(app, ["pkf", "noise", str(tmp_path), "--detections", str(tmp_path / "found")])
    assert result.exit_code == 0, result.output
    found = parameters(result.output)
    vehicle = validated(WorldConfig, found["world"]).vehicle
    assert vehicle.measured_position == pytest.approx(0.25, rel=0.1)
    assert vehicle.measured_height == pytest.approx(0.05, rel=0.1)
    assert vehicle.measured_yaw == pytest.approx(0.2, rel=0.1)
    assert vehicle.measured_size == pytest.approx(0.1, rel=0.1)
    assert "acceleration" not in found["world"]["vehicle"] or vehicle.acceleration < 0.05
    sensor = validated(SensorModel, found["front"])
    assert expit(-1) < sensor.score_offset < 0.5
    assert validated(Detector, found["detector"]).score_slope > 1
    assert not sensor.confusion  # of one class there is none


def test_motion_alone_needs_no_detections(tmp_path: Path) -> None:
    write_kitti(tmp_path, 6)
    result = CliRunner().invoke(app, ["pkf", "noise", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert list(parameters(result.output)) == ["world"]


def test_turning_is_estimated_of_the_groups_that_may_turn(tmp_path: Path) -> None:
    tracks = simulated(1, True)
    for motion in ("coordinated turn", "interacting"):
        (found,) = group_noise(tracks, [ClassGroup(motion=motion)], {"car": 0})
        assert found == process_noise(tracks, True)
    (found,) = group_noise(tracks, [ClassGroup()], {"car": 0})
    assert "turn_rate" not in found
    path = tmp_path / "filter.yaml"
    path.write_text("/**: {ros__parameters: {world: {gate_distance: 4.0, vehicle: {motion: interacting}}}}")
    world = read_world(path)
    assert world.gate_distance == 4.0 and world.vehicle == VEHICLE.model_copy(update={"motion": "interacting"})
    write_kitti(tmp_path / "data", 6)
    result = CliRunner().invoke(app, ["pkf", "noise", str(tmp_path / "data"), "--config", str(path)])
    assert result.exit_code == 0, result.output
    path.write_text("world: {}")
    with pytest.raises(ConfigurationError, match=r"filter\.yaml: expected parameters as config/fusion\.yaml"):
        read_world(path)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    write_kitti(tmp_path, 7)
    sequence = KittiSequence(tmp_path, "0000")
    with pytest.raises(DataError, match="expected detections in KITTI's form"):
        compared_frames(sequence, tmp_path / "nowhere.txt", WorldConfig())
    with pytest.raises(DataError, match="with scores, got none"):
        compared_frames(sequence, tmp_path / "label_02", WorldConfig())
    (tmp_path / "short.txt").write_text("0,2,1\n")
    with pytest.raises(DataError, match="3 fields instead of 15"):
        compared_frames(sequence, tmp_path / "short.txt", WorldConfig())
    (tmp_path / "poses" / "0000.txt").unlink()
    with pytest.raises(DataError, match="known ego motion"):
        labelled_tracks(KittiSequence(tmp_path, "0000"))
    with pytest.raises(ConfigurationError, match="score_offset"):
        as_yaml({"front": {"score_offset": 1.5}})


def test_kitti_labels_move_as_cars_and_persons_do(data_root: Path) -> None:
    folder = data_root / "kitti_tracking"
    if not (folder / "poses").is_dir():
        pytest.skip(f"no {folder / 'poses'}")
    source = f"{folder}?sequence=0013"
    result = CliRunner().invoke(
        app, ["pkf", "noise", source, "--detections", str(folder / "pointrcnn_car"), "--sensor", "lidar"]
    )
    assert result.exit_code == 0, result.output
    found = parameters(result.output)
    world = validated(WorldConfig, found["world"])
    assert 0.05 < world.pedestrian.acceleration < 1.0
    assert 0.3 < world.pedestrian.speed < 2.0
    assert 0.05 < world.vehicle.measured_position < 0.5  # of a lidar
    assert 0.5 < validated(SensorModel, found["lidar"]).score_offset < 0.999
