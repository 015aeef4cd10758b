"""`camtrack pkf noise`: parameters of the filter from labelled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.special import expit

from camtrack_core.commands import conclude
from camtrack_core.config import Parameters, validated
from camtrack_core.datasets import frames
from camtrack_core.datasets.sources import open_labelled
from camtrack_core.errors import ConfigurationError, DataError
from camtrack_core.geometry.boxes import Floats
from camtrack_core.parameter_files import read_parameters
from pkf_filter.calibration import labelled
from pkf_filter.calibration.detector import ScoreModel, confusion, score_model
from pkf_filter.calibration.labelled import ComparedFrame
from pkf_filter.calibration.motion_noise import group_noise, measurement_noise
from pkf_filter.image.config import Detector, FilterConfig
from pkf_filter.image.models import measurable
from pkf_filter.space.config import SensorModel, WorldConfig

GROUPS = ("vehicle", "cycle", "pedestrian", "other")  # fields of WorldConfig, in the order of its groups
DIGITS = 3


def run_noise(
    sources: Sequence[str], detections: Path | None, sensor: str, config: Path | None, reach: float, as_json: bool
) -> None:
    """Prints the parameters of the filter that labelled recordings, and detections of them, tell."""
    world = read_world(config) if config is not None else WorldConfig()
    sequences = list(open_labelled(sources))
    motion = motion_parameters(sequences, world)
    if detections is None:
        conclude({"parameters": {"world": motion}, "remarks": []}, as_yaml({"world": motion}), as_json)
        return
    compared = [labelled.compared_frames(sequence, detections, world) for sequence in sequences]
    measured, seen, comments = sensor_parameters(compared, reach, world)
    merged = {name: {**motion.get(name, {}), **measured.get(name, {})} for name in GROUPS}
    parameters: dict[str, Any] = {sensor: seen, "world": {name: values for name, values in merged.items() if values}}
    in_image = [labelled.judged_in_image(one) for one in compared if any(len(frame.xyxy) for frame in one)]
    if in_image:
        model = score_model(in_image, lambda _: FilterConfig().score_memory, FilterConfig().max_silence)
        parameters["detector"] = image_parameters(model, compared)
        comments.append(summary("in the image", model))
    remarks = "".join(f"# {line}\n" for line in comments)
    conclude({"parameters": parameters, "remarks": comments}, remarks + as_yaml(parameters), as_json)


def read_world(path: Path) -> WorldConfig:
    """`world` of a file of node parameters; what it leaves out keeps its default. Raises ConfigurationError."""
    given = read_parameters(path).get("world", {})
    try:
        defaults = WorldConfig().model_dump()
        merged = {name: defaults[name] | value if name in GROUPS else value for name, value in given.items()}
    except (TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{path}: expected parameters as config/fusion.yaml has them, got {error!r}"
        ) from error
    try:
        return validated(WorldConfig, merged)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def motion_parameters(sequences: Sequence[frames.Sequence], config: WorldConfig) -> dict[str, dict[str, float]]:
    """Process noise by name of the group. Raises DataError where a sequence has no labels in space."""
    tracks = [track for sequence in sequences for track in labelled.labelled_tracks(sequence)]
    of = {track.name: config.group_of(track.name) for track in tracks}
    found = group_noise(tracks, config.groups(), of)
    return {name: values for name, values in zip(GROUPS, found, strict=True) if values}


def sensor_parameters(
    sequences: Sequence[list[ComparedFrame]], reach: float, config: WorldConfig
) -> tuple[dict[str, dict[str, float]], dict[str, Any], list[str]]:
    """Measurement noise by name of the group, parameters of the sensor, and what they are told from.

    Raises DataError where no detection lies near a label.
    """
    frames = [frame for sequence in sequences for frame in sequence]
    pairs = labelled.matched_boxes(frames, reach) if frames else None
    if pairs is None or not len(pairs):
        raise DataError(f"expected detections within {reach} m of labels, found none")
    by_group, depth = measurement_noise(pairs, len(GROUPS))
    view = labelled.labelled_view(frames)
    model = score_model(
        [labelled.judged_in_space(one, view, reach) for one in sequences],
        lambda dt: float(config.old_share(np.array(dt))),
        config.max_silence,
    )
    seen: dict[str, Any] = {
        "depth_noise": depth,
        "clutter_density": model.true_detections / view.area,
        **score_parameters(model),
    }
    off = (pairs.detected.velocity - pairs.labelled.velocity)[:, :2]
    known = off[np.isfinite(off).all(1)]
    if len(known):
        seen["velocity_noise"] = float(np.sqrt((known**2).mean()))
    classes = labelled.matched_classes(frames, reach, model.even_score)
    if len({detected.lower() for _, detected in classes}) > 1:
        names, matrix = confusion(classes)
        seen |= {"confusion_classes": names, "confusion": matrix.ravel().tolist()}
    comments = [
        f"{len(pairs)} detections within {reach} m of their labels; labels up to {view.range:.0f} m and "
        f"{np.degrees(view.bearing):.0f} degrees to either side",
        summary("in space", model),
    ]
    return {name: values for name, values in zip(GROUPS, by_group, strict=True) if values}, seen, comments


def score_parameters(model: ScoreModel) -> dict[str, float]:
    """What scores say, as both filters have it."""
    return {
        "detection_probability": model.even_detection,
        "detection_slope": model.detection_slope,
        "score_offset": model.even_score,
        "score_slope": model.truth_slope,
    }


def image_parameters(model: ScoreModel, sequences: Sequence[list[ComparedFrame]]) -> dict[str, float]:
    """`Detector` of the image-plane filter; false detections lie anywhere in the image, in any shape that occurs."""
    xyxy = np.concatenate([frame.xyxy for one in sequences for frame in one])
    xyxy = xyxy[measurable(np.ascontiguousarray(xyxy, np.float64))]
    width, height = (xyxy[:, 2:] - xyxy[:, :2]).T
    image = float(np.prod(xyxy[:, 2:].max(0)))
    shapes = _extent(np.log(width * height)) * _extent(np.log(width / height))
    found = score_parameters(model)
    if shapes > 0.0:
        found["clutter_density"] = model.true_detections * float((width * height).mean()) / image / shapes
    return found


def _extent(values: Floats) -> float:
    """Of a uniform distribution of their deviation."""
    return float(np.sqrt(12) * values.std())


def summary(where: str, model: ScoreModel) -> str:
    detections, objects = model.samples
    most = expit(model.detection_offset + model.detection_slope * 5.0)
    return (
        f"{where}: {detections} detections, true as often as false at score {model.even_score:.3f}; {objects} frames "
        f"of objects, detected with {model.even_detection:.3f} at that score, with {most:.3f} at score 0.993"
    )


def as_yaml(groups: dict[str, Any]) -> str:
    """A file of node parameters. Raises ConfigurationError for values that the filter would refuse."""
    rounded = _rounded(groups)
    models: dict[str, type[Parameters]] = {"world": WorldConfig, "detector": Detector}
    for name, values in rounded.items():
        validated(models.get(name, SensorModel), values)
    return yaml.safe_dump({"/**": {"ros__parameters": rounded}}, sort_keys=False)


def _rounded(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _rounded(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    if isinstance(values, str):
        return values
    return float(f"{values:.{DIGITS}g}") if 1e-3 <= abs(values) < 0.99 else float(f"{values:.{DIGITS + 2}g}")
