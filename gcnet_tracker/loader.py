"""From clips to batches: which frames, augmentation, targets. Sample k is the same in every run with its seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from camtrack_core.datasets.frames import Labels
from camtrack_core.geometry.boxes import Boxes2D, Floats, area
from camtrack_core.geometry.boxes import clip as clip_boxes
from camtrack_core.training import augmentation, gaussians
from camtrack_core.training.gaussians import Heatmap
from gcnet_tracker import targets
from gcnet_tracker.clips import Clip
from gcnet_tracker.config import STRIDE, NetworkConfig
from gcnet_tracker.targets import UNKNOWN

MAX_OBJECTS = 128  # a frame; the rest is dropped from the loss

Sample = dict[str, NDArray]


class ClipSamples(Dataset):
    """Random samples of clips: one frame (stage 1) or a pair up to `max_gap` seconds apart (stage 2).

    Args:
        clips: drawn with probability proportional to `weights`.
        frames: 1 or 2.
    """

    def __init__(
        self, clips: list[Clip], weights: Floats, network: NetworkConfig, frames: int, max_gap: float, seed: int
    ) -> None:
        self.clips, self.network, self.frames, self.max_gap, self.seed = clips, network, frames, max_gap, seed
        self.weights = np.asarray(weights, float) / np.sum(weights)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.seed, self.frames, index))
        number = int(rng.choice(len(self.clips), p=self.weights))
        clip = self.clips[number]
        first, shown = look_at(rng, clip)
        chosen = [first] if self.frames == 1 else [first, self._partner(rng, clip, first)]
        pictures = [clip.image(i) for i in chosen]
        height, width = self.network.height, self.network.width
        source = pictures[0].shape[:2]
        view = augmentation.random_view(rng, source, width, height, shown=shown)
        together = rng.random() < 0.5  # one view for both frames; else each has its own, as where a camera turns
        look = augmentation.random_look(rng)
        samples: list[Sample] = []
        kept: list[Labels] = []
        for picture, i in zip(pictures, chosen, strict=True):
            labels, ignored = augmentation.see(view, clip.labels[i], clip.ignored[i])
            labels = labels[rng.permutation(len(labels))[:MAX_OBJECTS]]
            image = look.image(view.image(picture), rng)
            target = gaussians.build(
                labels.xyxy, labels.class_ids, ignored, len(self.network.class_names), STRIDE, self.network.map_size
            )
            packed = _pack(image, labels.xyxy, target, width, height)
            samples.append(packed | _taught(clip, i, view, self.network))
            kept.append(labels)
            last = view
            view = augmentation.shake(view, rng) if together else _another(view, rng)
        sample = {key: np.stack([s[key] for s in samples]) for key in samples[0]}
        sample["jitter"] = rng.uniform(-1, 1, (self.frames, MAX_OBJECTS, 2)).astype(np.float32)
        if self.frames == 2:
            everywhere = clip.labels[chosen[1]]
            moved = clip_boxes(last.boxes(everywhere.xyxy), width, height)
            seen = everywhere.ids[area(moved) > 0]
            relation = np.full(MAX_OBJECTS, UNKNOWN, np.int64)
            relation[: len(kept[0])] = targets.follow(kept[0].ids, kept[1].ids, seen)
            chance = rng.random(MAX_OBJECTS, np.float32)
            sample |= {"relation": relation, "clip": np.array(number), "chance": chance}
        return sample

    def _partner(self, rng: np.random.Generator, clip: Clip, first: int) -> int:
        """A frame up to `max_gap` before or after, for traffic may as well run backwards, that shows an object again.

        The farther of two drawn, for near ones show little that moves. Where there is none, as of a single picture, the
        frame itself.
        """
        near = np.flatnonzero(np.abs(clip.times - clip.times[first]) <= self.max_gap)
        again = [i for i in near if i != first and np.isin(clip.labels[i].ids, clip.labels[first].ids).any()]
        if not again:
            return first
        return max(rng.choice(again, 2).tolist(), key=lambda i: abs(clip.times[i] - clip.times[first]))


def look_at(rng: np.random.Generator, clip: Clip) -> tuple[int, Floats | None]:
    """A frame, and for half of the samples the centre of an object in it that the view has to hold.

    That object's class is drawn evenly of those in the clip, so that the rare ones are seen often.
    """
    classes = clip.classes
    if rng.random() < 0.5 or not classes:
        return int(rng.integers(len(clip))), None
    class_id = int(rng.choice(sorted(classes)))
    frame = int(rng.choice(classes[class_id]))
    labels = clip.labels[frame]
    return frame, augmentation.choose_shown(rng, labels[labels.class_ids == class_id])


def _another(view: augmentation.View, rng: np.random.Generator) -> augmentation.View:
    """A view of its own of the same scene, a fifth aside: up to 1.6 in scale or, half of them, up to 3.3.

    A car of the oncoming lane shrinks to a quarter within a second.
    """
    most = 0.5 if rng.random() < 0.5 else 1.2
    scale = float(np.exp(rng.uniform(-most, most)))
    centre = np.array([view.width, view.height]) / 2
    shift = (view.shift - centre) * scale + centre + rng.uniform(-0.4, 0.4, 2) * centre
    return augmentation.View(view.scale * scale, shift, view.flip, view.width, view.height)


def _taught(clip: Clip, index: int, view: augmentation.View, network: NetworkConfig) -> Sample:
    """What detectors saw of a frame in the view, cell by cell; `looked` is 0 where none did."""
    if clip.finds is None:
        scores = np.zeros((len(network.class_names), *network.map_size), np.float32)
        return {"taught": scores, "looked": np.array(0, np.float32)}
    finds = clip.finds[index]
    moved = clip_boxes(view.boxes(finds.xyxy), network.width, network.height)
    inside = area(moved) > 0
    seen = Boxes2D(moved[inside], finds.scores[inside], finds.class_ids[inside])
    scores = targets.soft(seen, len(network.class_names), network.map_size)
    return {"taught": scores, "looked": np.array(1, np.float32)}


def _pack(image: NDArray[np.uint8], xyxy: Floats, target: Heatmap, width: int, height: int) -> Sample:
    truth = np.zeros((MAX_OBJECTS, 4), np.float32)
    truth[: len(xyxy)] = xyxy / [width, height, width, height]
    return {
        "image": np.ascontiguousarray(image.transpose(2, 0, 1)),
        "truth": truth,
        "objects": np.array(len(xyxy), np.float32),
        "heatmap": target.heatmap,
        "counted": target.counted,
    }
