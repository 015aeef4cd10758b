"""From clips to batches: which frames, augmentation, targets. Sample k is the same in every run with its seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from camtrack_core.datasets.frames import Labels
from camtrack_core.geometry.boxes import Floats, Integers
from camtrack_core.training import augmentation
from time3d_tracker import targets
from time3d_tracker.clips import Clip
from time3d_tracker.config import NetworkConfig, TrainingConfig

Sample = dict[str, NDArray]


class ClipSamples(Dataset):
    """Random short clips: `clip_frames` frames of one recording, 1 to `max_gap` apart, oldest first, in one view that
    holds an object of a class drawn among those of the newest frame.

    Args:
        clips: drawn with probability proportional to `weights`; those with rare classes are drawn more often.
    """

    def __init__(self, clips: list[Clip], weights: Floats, network: NetworkConfig, training: TrainingConfig) -> None:
        self.clips, self.network, self.seed = clips, network, training.seed
        self.view_scales = training.view_scales
        self.frames, self.max_gap, self.groundless = training.clip_frames, training.max_gap, training.groundless
        balanced = np.asarray(weights, float) * class_balance(clips, len(network.class_names))
        self.weights = balanced / balanced.sum()

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.seed, self.frames, index))
        clip = self.clips[rng.choice(len(self.clips), p=self.weights)]
        chosen = choose(rng, len(clip), self.frames, self.max_gap)
        pictures = [clip.image(i) for i in chosen]
        height, width = self.network.height, self.network.width
        shown = choose_shown(rng, clip.labels[chosen[-1]])
        view = augmentation.random_view(rng, pictures[0].shape[:2], width, height, self.view_scales, shown)
        look = augmentation.random_look(rng)
        grounded = rng.random() >= self.groundless
        built = []
        for picture, i in zip(pictures, chosen, strict=True):
            labels, ignored = augmentation.see(view, clip.labels[i], clip.ignored[i])
            rows = np.flatnonzero(np.isin(clip.labels[i].ids, labels.ids))
            target = targets.build(
                labels, clip.boxes[i][rows], clip.attributes[i][rows], ignored, view, clip.intrinsics[i],
                clip.poses[i], self.network,
            )  # fmt: skip
            image = look.image(view.image(picture), rng)
            target["camera_height"] = np.array(clip.heights[i] * grounded, np.float32)
            target["image"] = np.ascontiguousarray(image.transpose(2, 0, 1))
            target["time"] = np.array((clip.times[i] - clip.times[chosen[0]]) * 1e-9, np.float32)
            built.append(target)
        sample = {key: np.stack([t[key] for t in built]) for key in built[0]}
        sample["motion"] = motions(sample["pose_rotation"], sample["pose_translation"])
        # the fixed frame's origin moves to the clip: large coordinates would cost float32 its digits
        sample["pose_translation"] = (sample["pose_translation"] - sample["pose_translation"][0]).astype(np.float32)
        sample["pose_rotation"] = sample["pose_rotation"].astype(np.float32)
        return sample


def choose(rng: np.random.Generator, length: int, frames: int, max_gap: int) -> Integers:
    """Ascending indices of `frames` frames out of `length`, each 1 to `max_gap` after the one before it.

    A recording that is too short gives its frames more than once.
    """
    steps = rng.integers(1, max_gap + 1, frames - 1)
    while steps.sum() > length - 1 and steps.max(initial=0) > 0:
        steps[steps.argmax()] -= 1
    first = rng.integers(length - steps.sum())
    return first + np.concatenate([[0], np.cumsum(steps)])


def choose_shown(rng: np.random.Generator, labels: Labels) -> Floats | None:
    """Middle (2,) of a labelled object that is well seen, every class of the frame alike; None where there is none."""
    candidates = (labels.class_ids >= 0) & (labels.visible >= augmentation.MIN_VISIBLE)
    present = np.unique(labels.class_ids[candidates])
    if len(present) == 0:
        return None
    row = rng.choice(np.flatnonzero(candidates & (labels.class_ids == rng.choice(present))))
    return (labels.xyxy[row, :2] + labels.xyxy[row, 2:]) / 2


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
