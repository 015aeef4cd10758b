"""Headings of what moves before a camera that stands still: how they are found, and what they teach."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from camtrack_core.datasets.drive import Drive, DriveConfig
from camtrack_core.datasets.frames import Frame, Labels
from camtrack_core.geometry.camera import OPTICAL_IN_VEHICLE, Pose
from camtrack_core.labelling.recordings import Still
from camtrack_core.training.augmentation import View
from time3d_tracker import clips, facing, level, losses, targets
from time3d_tracker.config import NetworkConfig

CONFIG = NetworkConfig(backbone="yolox_nano", stride=8, height=96, width=160, slots=16, embedding=16, attention_heads=2)


def roadside(seed: int) -> Drive:
    return Drive(DriveConfig(seed=seed, camera="roadside", frames=24, frame_rate=10, width=480, height=270))


def wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def test_the_way_of_a_box_in_the_image_tells_where_its_object_heads() -> None:
    """Against the true headings of generated roadsides: nobody is turned by 45 degrees, nobody who stands is told."""
    errors, speeds, moving = [], [], 0
    for seed in (9201, 9202):
        frames = list(roadside(seed))
        times = np.array([frame.time_ns for frame in frames])
        intrinsics = np.array([frame.calibrated().intrinsics for frame in frames])
        told = facing.headings(
            times, [frame.labels for frame in frames], intrinsics, np.full((len(frames), 2), (480, 270))
        )
        for frame, yaw in zip(frames, told, strict=True):
            _, true, velocity = level.to_level(frame.boxes3d, level.level_pose(frame.camera_pose))
            speed = np.linalg.norm(velocity, axis=1)
            known = np.isfinite(yaw)
            errors.append(np.abs(wrapped(yaw - true))[known])
            speeds.append(speed[known])
            moving += (speed > 1).sum()
    error = np.concatenate(errors)
    assert len(error) > 0.05 * moving
    assert error.max() < np.pi / 4
    assert np.concatenate(speeds).min() > 0.5


def test_who_is_who_is_told_by_the_id_alone() -> None:
    """Objects that come and go among others have the headings that each has by itself."""
    rng = np.random.default_rng(0)
    times = np.arange(40) * 100_000_000
    intrinsics, sizes = np.tile([[400.0, 0, 240], [0, 400, 135], [0, 0, 1]], (40, 1, 1)), np.full((40, 2), (480, 270))
    every = [Labels(*none()) for _ in times]
    alone: dict[int, list[np.ndarray]] = {}
    for identity in (3, 70, 5):
        own = [Labels(*none()) for _ in times]
        for frame in np.flatnonzero(rng.random(40) < 0.8):
            height = 20 + identity / 3 + frame * (1 - identity / 30)
            box = np.array([[200 + frame - height, 100, 200 + frame + height, 100 + height]])
            own[frame] = Labels(np.array([identity]), box, np.zeros(1, np.int64), np.ones(1))
            both = zip(fields(every[frame]), fields(own[frame]), strict=True)
            every[frame] = Labels(*(np.concatenate(pair) for pair in both))
        alone[identity] = facing.headings(times, own, intrinsics, sizes)
    told = facing.headings(times, every, intrinsics, sizes)
    assert np.isfinite(np.concatenate(told)).sum() > 40
    for identity, own_yaws in alone.items():
        among = [yaw[known.ids == identity] for yaw, known in zip(told, every, strict=True)]
        np.testing.assert_array_equal(np.concatenate(among), np.concatenate(own_yaws))


def none() -> tuple[np.ndarray, ...]:
    return np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0)


def fields(labels: Labels) -> tuple[np.ndarray, ...]:
    return labels.ids, labels.xyxy, labels.class_ids, labels.visible


class Watched:
    """A box that grows for two seconds: it comes nearer. `shift` moves the camera each frame."""

    name, class_names = "watched", ("car",)

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[Frame]:
        for number in range(len(self)):
            height = 20.0 + number
            known = Labels(np.ones(1, int), np.array([[60 - height, 40, 60 + height, 40 + height]]), np.zeros(1, int),
                           np.ones(1))  # fmt: skip
            pose = Pose(OPTICAL_IN_VEHICLE, np.array([self.shift * number, 0, 0]))
            yield Frame(number * 100_000_000, np.zeros((96, 160, 3), np.uint8), known, camera_pose=pose)


def test_only_a_camera_that_stands_still_tells_headings() -> None:
    nearer = clips.from_sequence(Watched(0.0), CONFIG.class_names)
    turn = Pose(OPTICAL_IN_VEHICLE, np.zeros(3)).rotation
    for boxes in nearer.boxes:
        (yaw,) = boxes.yaw
        heading = turn.T @ np.array([math.cos(yaw), math.sin(yaw), 0])
        assert heading[2] < -0.7  # to the camera
        assert np.isnan(boxes.centre).all() and np.isnan(boxes.velocity).all()
    moving = clips.from_sequence(Watched(0.1), CONFIG.class_names)
    assert all(np.isnan(boxes.yaw).all() for boxes in moving.boxes)


def test_a_still_camera_of_a_recipe_has_a_pose_that_never_changes() -> None:
    still = Still(Watched(0.3))
    assert (still.name, still.class_names, len(still)) == ("watched", ("car",), 20)
    assert {tuple(frame.camera_pose.translation) for frame in still} == {(0.0, 0.0, 0.0)}
    told = clips.from_sequence(still, CONFIG.class_names)
    assert all(np.isfinite(boxes.yaw).all() for boxes in told.boxes)


@pytest.mark.parametrize("flip", [False, True])
def test_a_heading_alone_stands_behind_its_box_and_is_mirrored_with_the_view(flip: bool) -> None:
    clip = clips.from_sequence(Watched(0.0), CONFIG.class_names)
    boxes = replace(clip.boxes[3], yaw=np.array([0.3]))  # nearly away from the camera, a little to the left
    view = View(0.8, np.array([9.0, 4.0]), flip, 160, 96)
    seen = Labels(clip.labels[3].ids, view.boxes(clip.labels[3].xyxy), np.zeros(1, int), np.ones(1))
    built = targets.build(
        seen, boxes, np.zeros(1, int), np.zeros((0, 4)), view, clip.intrinsics[3], clip.poses[3], CONFIG
    )
    assert built["heading_alone"].tolist() == [True] + [False] * 63 and not built["in_space"].any()
    pixel = built["projection"] @ built["translation"][0]
    np.testing.assert_allclose(pixel[:2] / pixel[2], (seen.xyxy[0, :2] + seen.xyxy[0, 2:]) / 2, rtol=1e-4)
    right, ahead = np.cos(built["yaw"][0]), -np.sin(built["yaw"][0])
    expected = (-np.sin(0.3), np.cos(0.3)) if not flip else (np.sin(0.3), np.cos(0.3))
    np.testing.assert_allclose((right, ahead), expected, atol=1e-5)


@pytest.mark.parametrize(("degrees", "row"), [(0, 0), (40, 0), (80, 1), (-100, 3), (170, 2)])
def test_which_end_is_the_front_is_asked_of_two_opposite_bins(degrees: float, row: int) -> None:
    logits = torch.tensor([0.3, -0.8, 1.1, 0.4])
    raw = {"orientation": torch.cat([logits[:, None], torch.zeros(4, 2)], 1).flatten()[None, None]}
    ray = torch.tensor([3.0, 0.0, 10.0])
    yaw = torch.tensor(math.radians(degrees) + math.atan2(3.0, 10.0))
    truth = {"yaw": yaw[None, None], "translation": ray[None, None]}
    own, other = math.exp(logits[row]), math.exp(logits[(row + 2) % 4])
    found = losses.facing_loss(raw, truth, torch.ones(1, 1, dtype=torch.bool))
    assert found.item() == pytest.approx(-math.log(own / (own + other)), rel=1e-5)
    assert losses.facing_loss(raw, truth, torch.zeros(1, 1, dtype=torch.bool)).item() == 0
