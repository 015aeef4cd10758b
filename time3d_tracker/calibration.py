"""What is measured of a network after its training, on recordings with boxes in space, without changing a weight.

The virtual focal length: how what each cue says of depth goes with the lens. Between two lenses a cue's depth of one
object should not change. That it goes with a power of the focal length is measured over all pairs, and
`Detector.decode` takes it out (`NetworkConfig.focal_powers`). Geometry needs none of it: it is what the network makes
of large and small pictures of an object.

The deviations: a published deviation is one when 68 of 100 true depths lie within it and 95 within two. Cues that
disagree have gone wrong more often than their own deviations say, so that the joined variance grows with their
disagreement (`NetworkConfig.disagreement`), and a common factor (`deviation_scale`) makes the shares right. Both are
measured with the camera's pitch stated as wrongly as the tracker expects it to be.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm

from camtrack_core.datasets.frames import Frame, Sequence
from camtrack_core.errors import DataError
from camtrack_core.geometry.boxes import Floats, Integers, iou
from camtrack_core.geometry.camera import Pose
from camtrack_core.networks.letterbox import fit_into
from time3d_tracker import level
from time3d_tracker.config import TrackerConfig
from time3d_tracker.detector import CUES, Detector, Objects, Peaks, Raw, find_peaks
from time3d_tracker.geometric_reasoning import NEAREST, fuse
from time3d_tracker.network import Time3D, reconfigured

SURE, OVERLAP = 0.2, 0.5  # heatmap's confidence and IoU with the label of an object that is compared
APART = 1.05  # ratio of two focal lengths that say something
LEAST_PAIRS, LEAST_ERRORS = 20, 20
PITCH_DEVIATION = TrackerConfig().pitch_deviation  # degrees
STATED = PITCH_DEVIATION * norm.ppf((np.arange(5) + 0.5) / 5)  # degrees by which the pitch is stated wrongly
WITHIN = norm.cdf([1, 2]) - norm.cdf([-1, -2])  # share within one and two deviations
DISAGREEMENTS = np.linspace(0, 4, 81)  # that are tried


class Calibration(NamedTuple):
    """Fields of NetworkConfig of the same names."""

    focal_powers: tuple[float, ...]
    deviation_scale: float
    disagreement: float


class Look(NamedTuple):
    """A labelled picture and what the network's heads say of it.

    Attributes:
        recording: its name.
        time_ns: its stamp.
        ids, xyxy: (N,), (N, 4) of the labels, pixels of the network's input.
        depth: (N,) true depths of the labels, metres.
        size: width and height of the picture in the network's input, pixels.
        intrinsics: (3, 3) pixels of the network's input.
        pose: of the camera.
        height: of the camera over the ground, metres; 0 where unknown.
        cells, peaks, raw: of K objects.
    """

    recording: str
    time_ns: int
    ids: Integers
    xyxy: Floats
    depth: Floats
    size: Floats
    intrinsics: Floats
    pose: Pose
    height: float
    cells: torch.Tensor
    peaks: Peaks
    raw: Raw


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


class Errors(NamedTuple):
    """Errors of joined depths.

    Attributes:
        size: (N,) of the logarithm of found over true depth, without sign.
        deviation: (N,) that was expected of it.
        apart: (N,) how far the cues disagree (`geometric_reasoning.fuse`).
    """

    size: Floats
    deviation: Floats
    apart: Floats


def measured(network: Time3D, recordings: Iterable[Sequence]) -> Calibration:
    """The calibration of a network, whose own one does not count.

    Args:
        recordings: labelled, of cameras with their poses; the same ones through several lenses have the same name.

    Raises:
        DataError: a recording lacks its camera, or too few objects are seen or seen through two lenses.
    """
    plain = reconfigured(network, focal_powers=(0.0,) * len(CUES), deviation_scale=1.0, disagreement=0.0)
    looks = [look(plain, recording.name, frame) for recording in recordings for frame in recording]
    powers = tuple(focal_powers([seen for one in looks for seen in sightings(plain.detector, one)]).tolist())
    virtual = reconfigured(plain, focal_powers=powers)
    wrong = [errors(virtual.detector, one, pitch) for one in looks for pitch in STATED]
    scale, disagreement = reliability(Errors(*(np.concatenate(parts) for parts in zip(*wrong, strict=True))))
    return Calibration(powers, scale, disagreement)


@torch.no_grad()
def look(network: Time3D, name: str, frame: Frame) -> Look:
    """What the network says of a frame of the recording `name`. Raises DataError for one that is not labelled."""
    if frame.labels is None or frame.boxes3d is None or frame.camera_pose is None:
        raise DataError(f"{name}: expected labels, boxes in space and the camera's pose")
    config, detector = network.config, network.detector
    image = np.zeros((config.height, config.width, 3), np.uint8)
    scale = fit_into(image, frame.image)
    features, heatmap = detector(torch.from_numpy(image)[None].permute(0, 3, 1, 2).float())
    cells, peaks = find_peaks(heatmap, config.slots)
    raw = {key: value.float() for key, value in detector.heads(features, cells).items()}
    centre, _, _ = level.to_level(frame.boxes3d, level.level_pose(frame.camera_pose))
    size = scale * np.array(frame.image.shape[1::-1])
    intrinsics = np.diag([scale, scale, 1.0]) @ frame.calibrated().intrinsics
    return Look(
        name, frame.time_ns, frame.labels.ids, frame.labels.xyxy * scale, centre[:, 2], size, intrinsics,
        frame.camera_pose, level.camera_height(frame), cells, peaks, raw,
    )  # fmt: skip


@torch.no_grad()
def decoded(detector: Detector, seen: Look, pitch: float = 0.0) -> tuple[Objects, list[tuple[int, int]]]:
    """The objects of a picture whose pitch is stated too high by so many degrees, and which label has which of them:
    pairs of rows, each the other's best."""
    cos, sin = np.cos(np.radians(pitch)), np.sin(np.radians(pitch))
    stated = Pose(seen.pose.rotation @ [[1, 0, 0], [0, cos, -sin], [0, sin, cos]], seen.pose.translation)
    projection = torch.from_numpy(level.projection(seen.intrinsics, stated)).float()[None]
    deviation = torch.tensor([np.radians(PITCH_DEVIATION)]).float()
    height = torch.tensor([seen.height]).float()
    objects = detector.decode(seen.raw, seen.cells, seen.peaks, projection, height, deviation)
    sure = (objects.usable & (objects.scores > SURE))[0].numpy()
    boxes = np.clip(objects.box2d[0].double().numpy(), 0, np.tile(seen.size, 2))
    overlap = iou(seen.xyxy, boxes) * sure
    pairs = [
        (int(row), int(slot))
        for row, slot in zip(*np.nonzero(overlap >= OVERLAP), strict=True)
        if overlap[row, slot] == max(overlap[row].max(), overlap[:, slot].max()) and seen.depth[row] > NEAREST
    ]
    return objects, pairs


def sightings(detector: Detector, seen: Look) -> list[Sighting]:
    """The labelled objects that are found in a picture."""
    objects, pairs = decoded(detector, seen)
    depths = np.where(objects.known[0].numpy(), objects.depths[0].double().numpy(), np.nan)
    focal = float(np.sqrt(seen.intrinsics[0, 0] * seen.intrinsics[1, 1]))
    return [Sighting((seen.recording, seen.time_ns, int(seen.ids[row])), focal, depths[slot]) for row, slot in pairs]


def errors(detector: Detector, seen: Look, pitch: float) -> Errors:
    """Errors of the depths of the labelled objects that are found in a picture whose pitch is stated wrongly."""
    objects, pairs = decoded(detector, seen, pitch)
    rows, slots = np.array(pairs, np.int64).reshape(-1, 2).T
    joined, deviation, apart = fuse(objects.depths, objects.deviations, objects.known)
    found, said, wide = (values[0].double().numpy()[slots] for values in (joined, deviation, apart))
    return Errors(np.abs(np.log(found / seen.depth[rows])), said, wide)


def reliability(wrong: Errors) -> tuple[float, float]:
    """`deviation_scale` and `disagreement` that errors ask for.

    The disagreement is the likeliest where errors are Laplacian, as training has them (`losses.deviation_loss`); the
    scale then brings the shares within one and two deviations as near as possible to a normal distribution's. Raises
    DataError for fewer than LEAST_ERRORS.
    """
    if len(wrong.size) < LEAST_ERRORS:
        raise DataError(f"expected {LEAST_ERRORS} labelled objects that are found, got {len(wrong.size)}")

    def widened(disagreement: float) -> Floats:
        return wrong.deviation * np.sqrt(1 + disagreement * wrong.apart)

    def unlikely(disagreement: float) -> float:
        deviation = widened(disagreement)
        return float(np.log(deviation).mean() + np.log((wrong.size / deviation).mean()))

    disagreement = float(min(DISAGREEMENTS, key=unlikely))
    one, two = np.quantile(wrong.size / widened(disagreement), WITHIN)
    return float(np.sqrt(one * two / 2)), disagreement


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
