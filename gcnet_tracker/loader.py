"""From clips to batches: which frames, augmentation, targets. Sample k is the same in every run with its seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from camtrack_core.geometry.boxes import Floats, Integers
from camtrack_core.training import augmentation
from gcnet_tracker import targets
from gcnet_tracker.clips import Clip
from gcnet_tracker.config import NetworkConfig

MAX_OBJECTS = 128  # a frame; the rest is dropped from the loss

Sample = dict[str, NDArray]


class ClipSamples(Dataset):
    """Random samples of clips: one frame (stage 1) or a pair 1 to `max_gap` frames apart (stage 2).

    Args:
        clips: drawn with probability proportional to `weights`.
        frames: 1 or 2.
    """

    def __init__(
        self, clips: list[Clip], weights: Floats, network: NetworkConfig, frames: int, max_gap: int, seed: int
    ) -> None:
        self.clips, self.network, self.frames, self.max_gap, self.seed = clips, network, frames, max_gap, seed
        self.weights = np.asarray(weights, float) / np.sum(weights)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.seed, self.frames, index))
        clip = self.clips[rng.choice(len(self.clips), p=self.weights)]
        chosen = self._choose(rng, len(clip))
        pictures = [clip.image(i) for i in chosen]
        height, width = self.network.height, self.network.width
        view = augmentation.random_view(rng, pictures[0].shape[:2], width, height)
        look = augmentation.random_look(rng)
        samples: list[Sample] = []
        built: list[targets.Targets] = []
        for picture, i in zip(pictures, chosen, strict=True):
            labels, ignored = augmentation.see(view, clip.labels[i], clip.ignored[i])
            labels = labels[:MAX_OBJECTS]
            image = look.image(view.image(picture), rng)
            target = targets.build(
                labels.xyxy, labels.class_ids, ignored, len(self.network.class_names), self.network.map_size
            )
            samples.append(_pack(image, labels.xyxy, labels.ids, target, width, height))
            built.append(target)
            view = augmentation.shake(view, rng)
        sample = {key: np.stack([s[key] for s in samples]) for key in samples[0]}
        if self.frames == 2:
            past, now = built
            owner, confidence = targets.follow(past, samples[0]["row_ids"], samples[1]["row_ids"])
            # a cell inside an object but assigned to none (Eq. 11) is neither a hit nor a miss of tracking
            unclear = (past.peak > targets.ASSIGNED) & (past.owner < 0)
            sample |= {
                "track_owner": owner,
                "track_confidence": confidence,
                "track_counted": past.counted * now.counted * ~unclear,
            }
        sample.pop("row_ids")
        return sample

    def _choose(self, rng: np.random.Generator, length: int) -> list[int]:
        """Frames of one sample, in order of time, or reversed: traffic may as well run backwards."""
        if self.frames == 1:
            return [int(rng.integers(length))]
        gap = int(rng.integers(1, min(self.max_gap, max(length - 1, 1)) + 1)) if length > 1 else 0
        first = int(rng.integers(length - gap))
        pair = [first, first + gap]
        return pair if rng.random() < 0.8 else pair[::-1]


def _pack(
    image: NDArray[np.uint8], xyxy: Floats, ids: Integers, target: targets.Targets, width: int, height: int
) -> Sample:
    truth = np.zeros((MAX_OBJECTS, 4), np.float32)
    truth[: len(xyxy)] = xyxy / [width, height, width, height]
    row_ids = np.full(MAX_OBJECTS, -1, np.int64)
    row_ids[: len(ids)] = ids
    return {
        "image": np.ascontiguousarray(image.transpose(2, 0, 1)),
        "truth": truth,
        "objects": np.array(len(xyxy), np.float32),
        "heatmap": target.heatmap,
        "owner": target.owner,
        "weight": target.weight,
        "counted": target.counted,
        "row_ids": row_ids,
    }
