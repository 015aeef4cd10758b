"""From clips to batches: which frames, augmentation, targets. Sample k is the same in every run with its seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from camtrack_core.datasets.frames import Labels
from camtrack_core.geometry.boxes import Boxes3D, Floats, Integers
from camtrack_core.geometry.camera import Pose
from camtrack_core.training import augmentation
from time3d_tracker import targets
from time3d_tracker.clips import Clip
from time3d_tracker.config import NetworkConfig, TrainingConfig
from time3d_tracker.turning import Turn, random_turn

Sample = dict[str, NDArray]


class ClipSamples(Dataset):
    """Random short clips: `clip_frames` frames of one recording, 1 to `max_gap` apart, oldest first, in one view that
    holds an object of a class drawn among those of the newest frame.

    Args:
        clips: drawn with probability proportional to `weights`; those with rare classes are drawn more often.
    """

    def __init__(self, clips: list[Clip], weights: Floats, network: NetworkConfig, training: TrainingConfig) -> None:
        self.clips, self.network, self.training, self.frames = clips, network, training, training.clip_frames
        balanced = np.asarray(weights, float) * class_balance(clips, len(network.class_names))
        self.weights = balanced / balanced.sum()

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.training.seed, self.frames, index))
        clip = self.clips[rng.choice(len(self.clips), p=self.weights)]
        chosen = choose(rng, len(clip), self.frames, self.training.max_gap)
        turn = random_turn(rng, self.training)
        pictures = [turn.image(clip.image(i), clip.intrinsics[i]) for i in chosen]
        turned = [_turned(turn, clip.labels[i], clip.intrinsics[i]) for i in chosen]
        height, width = self.network.height, self.network.width
        shown = augmentation.choose_shown(rng, turned[-1])
        view = augmentation.random_view(rng, pictures[0].shape[:2], width, height, self.training.view_scales, shown)
        look = augmentation.random_look(rng)
        stated = random_statement(rng, self.training)
        built = []
        for picture, known, i in zip(pictures, turned, chosen, strict=True):
            numbered = replace(known, ids=np.arange(len(known)))
            seen, ignored = augmentation.see(view, numbered, turn.regions(clip.ignored[i], clip.intrinsics[i]))
            rows = seen.ids
            labels = replace(seen, ids=known.ids[rows])
            boxes, intrinsics, pose = stated.apply(clip.boxes[i][rows], clip.intrinsics[i], turn.pose(clip.poses[i]))
            target = targets.build(
                labels, boxes, clip.attributes[i][rows], ignored, view, intrinsics, pose, self.network
            )
            image = look.image(view.image(picture), rng)
            target["camera_height"] = np.array(stated.height(clip.heights[i]), np.float32)
            target["pitch_deviation"] = np.array(np.radians(self.training.stated_pitch), np.float32)
            target["image"] = np.ascontiguousarray(image.transpose(2, 0, 1))
            target["time"] = np.array((clip.times[i] - clip.times[chosen[0]]) * 1e-9, np.float32)
            built.append(target)
        sample = {key: np.stack([t[key] for t in built]) for key in built[0]}
        sample["motion"] = motions(sample["pose_rotation"], sample["pose_translation"])
        # the fixed frame's origin moves to the clip: large coordinates would cost float32 its digits
        sample["pose_translation"] = (sample["pose_translation"] - sample["pose_translation"][0]).astype(np.float32)
        sample["pose_rotation"] = sample["pose_rotation"].astype(np.float32)
        return sample


def _turned(turn: Turn, labels: Labels, intrinsics: Floats) -> Labels:
    return replace(labels, xyxy=turn.objects(labels.xyxy, intrinsics))


@dataclass(frozen=True)
class Statement:
    """By how much what is said of a camera differs from the truth, constant over a clip.

    Attributes:
        pitch: radians, more is further up.
        focal: factor of the focal length.
        lift: metres more over the ground.
        grounded: False withholds the height.
    """

    pitch: float
    focal: float
    lift: float
    grounded: bool

    def apply(self, boxes: Boxes3D, intrinsics: Floats, pose: Pose) -> tuple[Boxes3D, Floats, Pose]:
        """Boxes in the fixed frame, intrinsics (3, 3) and pose as they are stated.

        The boxes' centres move along with the statement: they stay at their pixels and at their depth.
        """
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], float)
        told = Pose(pose.rotation @ turn, pose.translation)
        optical = pose.inverse().apply(boxes.centre) / np.array([self.focal, self.focal, 1.0])
        scaled = intrinsics * np.array([[self.focal, 1, 1], [1, self.focal, 1], [1, 1, 1.0]])
        return replace(boxes, centre=told.apply(optical)), scaled, told

    def height(self, true: float) -> float:
        """Stated height over the ground, metres; 0 where it is unknown or withheld."""
        return max(true + self.lift, 0.0) if true > 0 and self.grounded else 0.0


def random_statement(rng: np.random.Generator, training: TrainingConfig) -> Statement:
    """What an installation may say of its camera."""
    pitch = rng.normal(0, np.radians(training.stated_pitch))
    focal = float(np.exp(rng.normal(0, training.stated_focal)))
    lift = rng.normal(0, training.stated_height)
    return Statement(float(pitch), focal, float(lift), bool(rng.random() >= training.groundless))


def choose(rng: np.random.Generator, length: int, frames: int, max_gap: int) -> Integers:
    """Ascending indices of `frames` frames out of `length`, each 1 to `max_gap` after the one before it.

    Small gaps are drawn more often, each with a chance of 1 over it: a tracker meets them in every frame, large ones
    where an object was hidden. A recording that is too short gives its frames more than once.
    """
    gaps = np.arange(1, max_gap + 1)
    steps = rng.choice(gaps, frames - 1, p=1 / gaps / np.sum(1 / gaps))
    while steps.sum() > length - 1 and steps.max(initial=0) > 0:
        steps[steps.argmax()] -= 1
    first = rng.integers(length - steps.sum())
    return first + np.concatenate([[0], np.cumsum(steps)])


def motions(rotation: Floats, translation: Floats) -> Floats:
    """(T, T, 5) float32: [t, p] is the camera's motion from frame p to frame t (`level.motion`), mirrored worlds
    included, of level frames with rotations (T, 3, 3) and translations (T, 3) in the fixed frame."""
    into = rotation.transpose(0, 2, 1)
    turn = into[:, None] @ rotation[None]
    shift = np.einsum("tij,tpj->tpi", into, translation[:, None] - translation[None])
    return np.concatenate([shift, turn[..., 0, 2, None], turn[..., 0, 0, None]], -1).astype(np.float32)


def class_balance(clips: list[Clip], classes: int) -> Floats:
    """(N,) weight of each clip: the mean over its labels of 1 / sqrt(share of the label's class)."""
    counts = np.array([np.bincount(_classes(clip), minlength=classes) for clip in clips], float)
    share = np.maximum(counts.sum(0) / max(counts.sum(), 1), 1e-3)
    labels = counts.sum(1)
    return np.where(labels > 0, counts @ share**-0.5 / np.maximum(labels, 1), 1.0)


def _classes(clip: Clip) -> Integers:
    every = np.concatenate([x.class_ids for x in clip.labels])
    return every[every >= 0]
