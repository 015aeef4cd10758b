"""The virtual focal length: how what each cue says of depth goes with the lens.

Between two lenses a cue's depth of one object should not change. That it goes with a power of the focal length is
measured over all pairs, and `Detector.decode` takes it out (`NetworkConfig.focal_powers`). Geometry needs none of it:
it is what the network makes of large and small pictures of an object. No weight changes, so that no training is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch

from camtrack_core.config import validated
from camtrack_core.datasets.frames import Frame, Sequence
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Floats, iou
from time3d_tracker import level
from time3d_tracker.config import NetworkConfig
from time3d_tracker.detector import CUES, find_peaks
from time3d_tracker.model import fit_into
from time3d_tracker.network import Time3D

SURE, OVERLAP = 0.2, 0.5  # heatmap's confidence and IoU with the label of an object that is compared
APART = 1.05  # ratio of two focal lengths that say something
LEAST_PAIRS = 20
PITCH_DEVIATION = 0.005  # radians; without influence on what each cue says alone


class Sighting(NamedTuple):
    """One object in one picture.

    Attributes:
        whose: recording, stamp and id, the same through every lens.
        focal: length, pixels of the network's input.
        depths: (3,) metres, what each of CUES says; NaN where it says nothing.
    """

    whose: tuple[str, int, int]
    focal: float
    depths: Floats


def measured(network: Time3D, recordings: Iterable[Sequence]) -> tuple[float, ...]:
    """`focal_powers` of a network, whose own ones do not count.

    Args:
        recordings: labelled, of cameras with their poses; the same ones through several lenses have the same name.

    Raises:
        DataError: a recording lacks its camera, or too few objects are seen through two lenses.
    """
    plain = Time3D(validated(NetworkConfig, network.config.model_dump() | {"focal_powers": (0.0,) * len(CUES)}))
    plain.load_state_dict(network.state_dict())
    plain.eval()
    seen = [x for recording in recordings for frame in recording for x in sightings(plain, recording.name, frame)]
    return tuple(focal_powers(seen).tolist())


@torch.no_grad()
def sightings(network: Time3D, name: str, frame: Frame) -> list[Sighting]:
    """The labelled objects that the network finds in a frame of the recording `name`."""
    config, detector = network.config, network.detector
    if frame.labels is None or frame.camera_pose is None:
        raise DataError(f"{name}: expected labels and the camera's pose")
    image = np.zeros((config.height, config.width, 3), np.uint8)
    scale = fit_into(image, frame.image)
    projection = np.diag([scale, scale, 1.0]) @ level.projection(frame.calibrated().intrinsics, frame.camera_pose)
    features, heatmap = detector(torch.from_numpy(image)[None].permute(0, 3, 1, 2).float())
    cells, peaks = find_peaks(heatmap, config.slots)
    objects, _ = detector.objects(
        features, cells, peaks, torch.from_numpy(projection).float()[None],
        torch.tensor([level.camera_height(frame)]), torch.tensor([PITCH_DEVIATION]),
    )  # fmt: skip
    sure = (objects.usable & (objects.scores > SURE))[0].numpy()
    depths = np.where(objects.known[0].numpy(), objects.depths[0].double().numpy(), np.nan)[sure]
    height, width = frame.image.shape[:2]
    boxes = np.clip(objects.box2d[0].double().numpy()[sure] / scale, 0, [width, height, width, height])
    overlap = iou(frame.labels.xyxy, boxes)
    focal = float(abs(np.linalg.det(projection)) ** 0.5)
    return [
        Sighting((name, frame.time_ns, int(frame.labels.ids[row])), focal, depths[overlap[row].argmax()])
        for row in np.flatnonzero(overlap.max(1, initial=0) >= OVERLAP)
    ]


def focal_powers(seen: list[Sighting]) -> Floats:
    """(3,) power of the focal length with which each cue's depth of the same object goes.

    The weighted median of the slopes of all pairs (Theil-Sen), in logarithms. Raises DataError for fewer than
    LEAST_PAIRS pairs.
    """
    by_object: dict[tuple[str, int, int], list[Sighting]] = {}
    for one in seen:
        by_object.setdefault(one.whose, []).append(one)
    pairs = [
        (np.log(b.focal / a.focal), np.log(b.depths / a.depths))
        for same in by_object.values()
        for a, b in combinations(sorted(same, key=lambda x: x.focal), 2)
        if b.focal >= APART * a.focal
    ]
    if len(pairs) < LEAST_PAIRS:
        raise DataError(f"expected {LEAST_PAIRS} pairs of an object through two lenses, found {len(pairs)}")
    apart = np.array([one for one, _ in pairs])
    slopes = np.array([change for _, change in pairs]) / apart[:, None]
    return np.array([_weighted_median(slopes[:, cue], apart) for cue in range(len(CUES))])


def _weighted_median(values: Floats, weights: Floats) -> float:
    """The value with half of the weight below it; 0 where none is known."""
    known = np.isfinite(values)
    if not known.any():
        return 0.0
    order = np.argsort(values[known])
    below = np.cumsum(weights[known][order])
    return float(values[known][order][np.searchsorted(below, below[-1] / 2)])
