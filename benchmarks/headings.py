"""Which way tracked vehicles head, before and after PKF, on a real street: PandaSet's back_camera, 80 frames at 10 Hz.

    python benchmarks/headings.py [--model TIME3D.onnx] [--source FOLDER?camera=back_camera] [--precision f32] [--json]

Time3D's tracks, and those that the whole stack publishes of them and of GCNet's by the parameters of
config/camera_fusion.yaml. Asked for are vehicles that the camera shows (`camtrack_core/evaluation/view.py`); each is
matched with at most one track within 2 m, at the least sum of gaps. Right is a heading within 90 degrees of the truth.
Whether an object moves is told by its true places half a second apart, over ground: above 1 m/s it does. The
last rows are a fake, which every network has to beat: all that is asked for heads as the own vehicle does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import head
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from camtrack.evaluation.view import NAMES
from camtrack.offline.fusion import FusionTracker, class_names, fusion_parameters, moved_tracks, shipped_parameters
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.space import MATCH_DISTANCE
from camtrack_core.evaluation.view import GROUPS, asked_for
from camtrack_core.geometry.boxes import Boxes3D, Floats, Integers
from camtrack_core.geometry.tracks import Tracks3D
from gcnet_tracker.tracker import GCNetModel
from time3d_tracker.model import DEMO_MODEL, Time3DModel

DATA = Path(os.environ.get("CAMTRACK_DATA") or head.ROOT.parent / "shared" / "data")
VEHICLES, _ = GROUPS["vehicle"]
SPAN = 0.5  # seconds between the two places that tell a true speed, at least
MOVING = 1.0  # m/s
RIGHT = np.pi / 2


@dataclass(frozen=True)
class Asked:
    """The vehicles of a frame that are asked for: ids (N,), boxes, and the time in seconds."""

    ids: Integers
    boxes: Boxes3D
    time: float


def asked(frame: Frame, names: NDArray[np.str_]) -> Asked:
    """What must be found; `names` are of the recording's classes. Raises DataError without boxes in space."""
    labels, boxes, pose = frame.labels, frame.boxes3d, frame.camera_pose
    if labels is None or boxes is None or pose is None:
        raise DataError("expected a recording with boxes in space and the camera's pose, as PandaSet's")
    own = np.isin(names[labels.class_ids], VEHICLES)
    own &= asked_for(boxes, frame.lidar_points, frame.calibrated(), pose)
    return Asked(labels.ids[own], boxes[own], frame.time_ns * 1e-9)


def true_speeds(frames: Iterable[Asked]) -> list[Floats]:
    """(N,) m/s over ground of each frame's vehicles, by where they are at least SPAN apart; NaN where seen for less."""
    every = list(frames)
    paths: dict[int, list[tuple[float, Floats]]] = {}
    for one in every:
        for identity, centre in zip(one.ids.tolist(), one.boxes.centre, strict=True):
            paths.setdefault(identity, []).append((one.time, centre[:2]))
    return [np.array([_speed(paths[identity], one.time) for identity in one.ids.tolist()]) for one in every]


def _speed(path: list[tuple[float, Floats]], time: float) -> float:
    """Between the nearest places before and after that lie SPAN apart together."""
    pairs = ((b[0] - a[0], b, a) for a in path for b in path if a[0] <= time <= b[0] and b[0] - a[0] >= SPAN)
    shortest = min(pairs, key=lambda pair: pair[0], default=None)
    if shortest is None:
        return float("nan")
    span, (_, to), (_, start) = shortest
    return float(np.linalg.norm(to - start) / span)


def heading_errors(truth: Boxes3D, tracks: Tracks3D) -> Floats:
    """(N,) radians in [0, pi] between each true box and its track, NaN where it has none."""
    gaps = np.linalg.norm(truth.centre[:, None, :2] - tracks.boxes.centre[None, :, :2], axis=-1)
    errors = np.full(len(truth), np.nan)
    for row, column in zip(*linear_sum_assignment(np.minimum(gaps, MATCH_DISTANCE)), strict=True):
        if gaps[row, column] < MATCH_DISTANCE:
            errors[row] = apart(truth.yaw[row], tracks.boxes.yaw[column])
    return errors


def apart(yaws: Floats, yaw: float) -> Floats:
    """Radians in [0, pi] between yaws and another."""
    return np.abs((yaws - yaw + np.pi) % (2 * np.pi) - np.pi)


def own_headings(times: Floats, places: Floats) -> Floats:
    """(T,) yaws in which the camera at (T, 2 or 3) `places` drives over ground; while it stands, as when it last drove.

    Told by places SPAN apart or more, as far as the recording goes; before the first motion as at that, 0 without any.
    """
    yaws = np.full(len(times), np.nan)
    for k, time in enumerate(times):
        near = np.flatnonzero(np.abs(times - time) <= SPAN)
        span, (x, y) = times[near[-1]] - times[near[0]], (places[near[-1]] - places[near[0]])[:2]
        if np.hypot(x, y) > MOVING * span:
            yaws[k] = np.arctan2(y, x)
    driven = np.flatnonzero(np.isfinite(yaws))
    if not len(driven):
        return np.zeros(len(times))
    last = np.searchsorted(driven, np.arange(len(times)), side="right") - 1
    return yaws[driven[np.maximum(last, 0)]]


def run(spatial: Time3DModel, image: GCNetModel, source: str) -> dict[str, dict[str, float]]:
    """By whose tracks and whether the vehicles move: how many have a track, and the share of right headings."""
    sequence, tracker = open_source(source), FusionTracker(spatial, image, fusion_parameters(shipped_parameters()))
    names = np.array([NAMES.get(name.lower(), name.lower()) for name in sequence.class_names])
    known = np.array(class_names(spatial, image))
    every: list[Asked] = []
    places: list[Floats] = []
    errors: dict[str, list[Floats]] = {"Time3D": [], "Time3D + GCNet + PKF": []}
    for frame in sequence:
        truth = asked(frame, names)
        view, published = tracker.filtered(frame)
        own = moved_tracks(view.found.tracks, view.pose @ view.found.upright)
        every.append(truth)
        places.append(view.pose.translation)
        for name, tracks in zip(errors, (own, published), strict=True):
            errors[name].append(heading_errors(truth.boxes, tracks[np.isin(known[tracks.class_ids], VEHICLES)]))
    yaws = own_headings(np.array([truth.time for truth in every]), np.array(places))
    errors["all as the own vehicle"] = [apart(truth.boxes.yaw, yaw) for truth, yaw in zip(every, yaws, strict=True)]
    speeds = np.concatenate(true_speeds(every))
    kinds = {"moving": speeds > MOVING, "standing": speeds <= MOVING}
    return {
        f"{name}, {kind}": counted(np.concatenate(found)[chosen])
        for name, found in errors.items()
        for kind, chosen in kinds.items()
    }


def counted(errors: Floats) -> dict[str, float]:
    """Asked for, with a track, and of those the share whose heading is right; `errors` as `heading_errors`."""
    found = errors[np.isfinite(errors)]
    right = float((found < RIGHT).mean()) if len(found) else float("nan")
    return {"vehicles": len(errors), "tracked": len(found), "right": right}


def main() -> None:
    parser = head.parser(__doc__)
    head.add_engine(parser)
    parser.add_argument("--source", default=f"{DATA / 'pandaset'}?camera=back_camera", help="(default: %(default)s)")
    parser.add_argument("--model", type=Path, default=DEMO_MODEL)
    arguments = parser.parse_args()
    spatial = Time3DModel(arguments.model, arguments.device, precision=arguments.precision)
    image = GCNetModel(device=arguments.device, precision=arguments.precision)
    figures = run(spatial, image, arguments.source)
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    table = Table("tracks, vehicles", "asked for", "tracked", "headings within 90 degrees")
    for name, row in figures.items():
        table.add_row(name, f"{row['vehicles']:.0f}", f"{row['tracked']:.0f}", f"{row['right']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(head.ran(main))
