"""`camtrack evaluate --view`: the truth of each data set is found again; what is off is scored so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from command_helpers import camtrack

from camtrack.evaluation.run import Rules
from camtrack.evaluation.view import evaluate_view
from camtrack.offline.methods import moved
from camtrack.report.page import write_report
from camtrack_core.datasets.frames import Sequence, Truth, truth_of
from camtrack_core.datasets.kitti.rows import TO_VEHICLE
from camtrack_core.datasets.kitti.sequences import KittiSequence
from camtrack_core.datasets.nuscenes import NuScenesSequence
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.kitti.text import write_kitti
from camtrack_core.evaluation.nuscenes.submission import SubmittedBoxes, write_submission
from camtrack_core.evaluation.space import RECALLS, SpaceFrame, average_mota
from camtrack_core.evaluation.view import LIMITS
from camtrack_core.geometry.boxes import Boxes3D, Floats, Integers
from camtrack_core.geometry.camera import NEAR_PLANE
from camtrack_core.geometry.tracks import Tracks3D

DRIVE = "drive:9000?frames=6&frame_rate=5&camera=vehicle&density=3"
SETS = {
    "drive": DRIVE,
    "pandaset": "pandaset?camera=back_camera&frames=0-9",
    "kitti": "kitti_tracking?sequence=0003",
    "nuscenes": "nuscenes?scene=scene-0103&camera=CAM_FRONT",
}
TEXT = {"van": "car"}  # how a tracker calls them
VEHICLES, PASSING = ("car", "truck", "bus"), ("trailer", "construction_vehicle", "any")


class Said(NamedTuple):
    """What a tracker says of a frame: rows (M,) of the true objects, M boxes in the fixed frame and scores (M,)."""

    rows: Integers
    boxes: Boxes3D
    scores: Floats


Tell = Callable[[Truth], Said]


def exactly(ahead: float = 0.0) -> Tell:
    """A tracker that knows everything, only that every object is so many metres farther from its camera."""
    return lambda one: Said(np.arange(len(one.boxes3d)), farther(one, ahead), np.full(len(one.boxes3d), 0.9))


def written(sequence: Sequence, out: Path, tell: Tell) -> Path:
    """A tracker's results as files."""
    names = tuple(TEXT.get(name.lower(), name.lower()) for name in sequence.class_names)
    truth = list(truth_of(sequence))
    if isinstance(sequence, NuScenesSequence):
        path = out / f"{sequence.name}.json"
        keys = [(key, one) for key, one in zip(sequence.keys(), truth, strict=True) if key is not None]
        write_submission(path, {token: submitted(one, tell(one), sequence.class_names) for (token, _), one in keys})
        return path
    place = sequence.mounting() if isinstance(sequence, KittiSequence) else TO_VEHICLE
    assert place is not None
    rows = []
    for one in truth:
        assert one.camera_pose is not None and one.labels is not None
        said, labels = tell(one), one.labels[tell(one).rows]
        boxes, count = moved(said.boxes, place @ one.camera_pose.inverse()), len(labels)
        tracks = Tracks3D(labels.ids, boxes, np.zeros((count, 4, 4)), said.scores, labels.class_ids,
                          np.zeros(count), np.zeros((count, 3)))  # fmt: skip
        rows.append((tracks, boxes, labels.xyxy))
    path = out / f"{sequence.name}.txt"
    write_kitti(path, rows, names)
    return path


def submitted(one: Truth, said: Said, class_names: tuple[str, ...]) -> SubmittedBoxes:
    assert one.labels is not None
    labels = one.labels[said.rows]
    names, ids = np.array(class_names)[labels.class_ids], labels.ids.astype(np.str_)
    return SubmittedBoxes(said.boxes, said.scores, names, ids, np.full(len(labels), ""))


def farther(one: Truth, metres: float) -> Boxes3D:
    assert one.boxes3d is not None and one.camera_pose is not None
    away = one.boxes3d.centre - one.camera_pose.translation
    away[:, 2] = 0
    shift = metres * away / np.linalg.norm(away, axis=1, keepdims=True)
    return replace(one.boxes3d, centre=one.boxes3d.centre + shift)


def source_of(name: str, request: pytest.FixtureRequest) -> str:
    return SETS[name] if name == "drive" else str(request.getfixturevalue("data_root") / SETS[name])


@pytest.mark.parametrize("name", SETS)
def test_the_truth_itself_is_found_in_every_data_set(name: str, tmp_path: Path, request) -> None:  # type: ignore[no-untyped-def]
    source = source_of(name, request)
    path = written(open_source(source), tmp_path, exactly())
    found = evaluate_view(path, [source])["vehicle"]
    assert found.scores.asked.sum() > 10
    assert found.scores.ap == pytest.approx([1.0] * 4, abs=0.01) and found.scores.ap2d > 0.95
    assert found.hota == pytest.approx(1.0, abs=0.01) and found.amota == pytest.approx(1.0, abs=0.01)
    ratios = found.scores.depth_ratio
    assert np.isfinite(ratios).any() and ratios[np.isfinite(ratios)] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", ["pandaset", "nuscenes"])
def test_what_is_3_metres_off_is_right_within_4(name: str, tmp_path: Path, request) -> None:  # type: ignore[no-untyped-def]
    source = source_of(name, request)
    found = evaluate_view(written(open_source(source), tmp_path, exactly(3.0)), [source])["vehicle"]
    assert found.scores.ap[3] > 0.9 and found.scores.ap[:3].max() < 0.1
    errors = found.scores.error[np.isfinite(found.scores.error)]
    assert errors == pytest.approx([3.0] * len(errors), abs=0.2)
    assert found.hota < 0.3 and found.amota < 0.1


def unsteady(one: Truth) -> Said:
    """A tracker that misses every fourth object and is up to 5 m off; the same for the same frame."""
    assert one.boxes3d is not None
    rng = np.random.default_rng(one.number)
    rows = np.flatnonzero(rng.random(len(one.boxes3d)) < 0.75)
    boxes, away = one.boxes3d[rows], rng.uniform(0, 5, len(rows)) ** 2 / 5
    bearing = rng.uniform(0, 2 * np.pi, len(rows))
    shift = np.stack([away * np.cos(bearing), away * np.sin(bearing), 0 * away], 1)
    return Said(rows, replace(boxes, centre=boxes.centre + shift), rng.integers(1, 1000, len(rows)) / 1000)


def hull(centre: Floats, size: Floats, yaw: float, one: Truth) -> tuple[list[float], float] | None:
    """Box around the image of a box in space, in the picture, and its share of the whole; points along the edges."""
    assert one.camera is not None and one.camera_pose is not None
    along, across = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([-np.sin(yaw), np.cos(yaw), 0])
    t = np.linspace(-0.5, 0.5, 401)
    ends = (-0.5, 0.5)
    shares = [[(s, a, b), (a, s, b), (a, b, s)] for s in t for a in ends for b in ends]
    share = np.array(shares).reshape(-1, 3) * size
    points = centre + share[:, :1] * along + share[:, 1:2] * across + share[:, 2:] * [0, 0, 1]
    seen = (points - one.camera_pose.translation) @ one.camera_pose.rotation
    seen = seen[seen[:, 2] > NEAR_PLANE]
    if not len(seen):
        return None
    pixels = seen @ one.camera.intrinsics.T
    x, y = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
    whole = (x.max() - x.min()) * (y.max() - y.min())
    cut = [*(x.min().clip(0, one.camera.width), y.min().clip(0, one.camera.height)),
           *(x.max().clip(0, one.camera.width), y.max().clip(0, one.camera.height))]  # fmt: skip
    shown = (cut[2] - cut[0]) * (cut[3] - cut[1])
    return (cut, shown / whole) if shown > 0 else None


def common(a: list[float], b: list[float]) -> float:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def sides(a: list[float]) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


@dataclass(eq=False)
class Shown:
    """A labelled object that the camera shows."""

    name: str
    place: Floats
    distance: float
    depth: float
    box: list[float]
    share: float
    points: int


def shown_objects(one: Truth, names: list[str]) -> list[Shown]:
    assert one.boxes3d is not None and one.camera_pose is not None
    eye, ahead = one.camera_pose.translation[:2], one.camera_pose.rotation[:2, 2]
    found = []
    for row, name in enumerate(names):
        centre = one.boxes3d.centre[row]
        seen = hull(centre, one.boxes3d.size[row], one.boxes3d.yaw[row], one)
        if seen is not None:
            points = 99 if one.lidar_points is None else int(one.lidar_points[row])
            away = centre[:2] - eye
            depth = float(away @ ahead / np.linalg.norm(ahead))
            found.append(Shown(name, centre[:2], float(np.linalg.norm(away)), depth, *seen, points))
    return found


def is_asked(thing: Shown, others: list[Shown]) -> bool:
    """The rule at the head of `camtrack_core/evaluation/view.py`, object by object."""
    behind = any(x.depth < thing.depth and common(x.box, thing.box) > 0.8 * sides(thing.box) for x in others)
    large = thing.share >= 0.5 and thing.box[3] - thing.box[1] >= 14
    return thing.name in VEHICLES and large and thing.distance < 60 and thing.points >= 5 and not behind


@dataclass
class Looked:
    """A frame: what is asked for, what is let pass, and (place, box, score) of what a tracker says of vehicles."""

    asked: list[Shown]
    passing: list[Shown]
    said: list[tuple[Floats, list[float], float]]


def looked_at(sequence: Sequence, one: Truth, said: Said) -> Looked:
    assert one.labels is not None and one.camera_pose is not None
    kinds = [sequence.class_names[k].lower() for k in one.labels.class_ids]
    names = [{"van": "car", "tram": "any", "misc": "any"}.get(kind, kind) for kind in kinds]
    objects = shown_objects(one, names)
    asked = [thing for thing in objects if is_asked(thing, objects)]
    found = []
    for row, centre, size, yaw, score in zip(said.rows, said.boxes.centre, said.boxes.size, said.boxes.yaw, said.scores,
                                             strict=True):  # fmt: skip
        box: list[float] = one.labels.xyxy[row].tolist()
        if isinstance(sequence, NuScenesSequence):  # a submission has no boxes in the image
            seen = hull(centre, size, yaw, one)
            if seen is None:
                continue
            box = seen[0]
        if names[row] in VEHICLES and np.linalg.norm(centre[:2] - one.camera_pose.translation[:2]) <= 60:
            found.append((centre[:2], box, float(score)))
    passing = [x for x in objects if x.name in PASSING or (x.name in VEHICLES and x not in asked)]
    return Looked(asked, passing, found)


def brute_precision(frames: list[Looked], limit: float) -> float:
    """Average precision within a limit, metres, by loops."""
    ranks = []
    for frame in frames:
        free = list(frame.asked)
        for place, box, score in sorted(frame.said, key=lambda said: -said[2]):
            gaps = [float(np.linalg.norm(place - thing.place)) for thing in free]
            if min(gaps, default=np.inf) < limit:
                free.pop(int(np.argmin(gaps)))
                ranks.append((score, True))
            elif not any(
                np.linalg.norm(place - x.place) < max(limit, 2)
                or common(box, x.box) >= 0.5 * (sides(box) + sides(x.box) - common(box, x.box))
                for x in frame.passing
            ):
                ranks.append((score, False))
    hits, points, asked = 0, [], sum(len(frame.asked) for frame in frames)
    for number, (_, hit) in enumerate(sorted(ranks, key=lambda rank: -rank[0]), start=1):
        hits += hit
        points.append((hits / asked, hits / number))
    return float(np.mean([max((p for r, p in points if r >= x), default=0.0) for x in np.linspace(0, 1, 101)]))


@pytest.mark.parametrize("name", SETS)
def test_an_unsteady_tracker_is_scored_as_loops_score_it(name: str, tmp_path: Path, request) -> None:  # type: ignore[no-untyped-def]
    source = source_of(name, request)
    sequence = open_source(source)
    found = evaluate_view(written(sequence, tmp_path, unsteady), [source])["vehicle"].scores
    frames = [looked_at(sequence, one, unsteady(one)) for one in truth_of(sequence)]
    assert found.asked.sum() == sum(len(frame.asked) for frame in frames)
    for number, limit in enumerate(LIMITS):
        assert found.ap[number] == pytest.approx(brute_precision(frames, limit), abs=0.01)  # a text has centimetres
    assert 0.01 < found.ap[0] < found.ap[1] < found.ap[2] < found.ap[3] < 0.95


def test_the_command_prints_tables_and_json(tmp_path: Path) -> None:
    written(open_source(DRIVE), tmp_path, exactly())
    said = camtrack("evaluate", str(tmp_path), "--truth", DRIVE, "--view")
    assert said.returncode == 0 and "found / true depth" in said.stdout, said.stderr
    data = json.loads(camtrack("evaluate", str(tmp_path), "--truth", DRIVE, "--view", "--json").stdout)
    assert data["vehicle"]["scores"]["ap"] == [1.0] * 4 and data["vehicle"]["hota"] == pytest.approx(1.0, abs=0.01)
    refused = camtrack("evaluate", str(tmp_path), "--truth", DRIVE, "--view", "--min-height", "3")
    assert refused.returncode == 2 and "--min-height does not apply to --view" in refused.stderr


def test_the_report_draws_depth_error_and_recall_by_distance(data_root: Path, tmp_path: Path) -> None:
    source = str(data_root / SETS["nuscenes"])
    runs = []
    for name, ahead in (("right", 0.0), ("far", 3.0)):
        runs.append(tmp_path / name)
        runs[-1].mkdir()
        written(open_source(source), runs[-1], exactly(ahead))
    out = tmp_path / "report.html"
    write_report(runs, [source], out, Rules())
    text = out.read_text()
    assert "What the cameras can see" in text and "vehicle by distance" in text

    def chart(title: str) -> str:
        return text[text.index(title) :].partition("</svg>")[0]

    errors = chart("error of what is found, median, m")
    assert errors.count(">0.000<") >= 3 and len(re.findall(r">(2\.9|3\.0)\d\d?<", errors)) >= 3
    ratios = chart("found / true depth, median")  # 3 m are 4 to 49 % of the distance
    assert ratios.count(">1.000<") >= 3 and len(re.findall(r">1\.(0[4-9]|[1-4]\d)\d<", ratios)) >= 3
    recalls = chart("recall at 2 m")
    assert recalls.count(">1.000<") >= 3 and recalls.count(">0.000<") >= 3


def test_a_truth_without_boxes_in_space_is_refused(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "MVI_20011.txt").write_text("")
    with pytest.raises(DataError, match="expected a calibrated camera"):
        evaluate_view(tmp_path, [str(data_root / "uadetrac/Insight-MVT_Annotation_Train/MVI_20011")])


def frame(true: list[float], found: list[tuple[int, float]]) -> SpaceFrame:
    """Objects 0, 1, ... and tracks (id, place), along one line."""
    centres = np.array([(x, 0, 0) for x in true], float).reshape(-1, 3)
    places = np.array([(x, 0, 0) for _, x in found], float).reshape(-1, 3)
    ids = np.array([i for i, _ in found], np.int64)
    return SpaceFrame(np.arange(len(true)), centres, np.ones(len(true), bool), ids, places)


def scores_of(frames: list[SpaceFrame], by_id: dict[int, float]) -> list[Floats]:
    return [np.array([by_id[i] for i in one.ids.tolist()]) for one in frames]


def test_average_mota_by_hand() -> None:
    """Ten frames of two objects: one is found by a sure track, the other by an unsure one; a third track is false."""
    frames = [frame([0, 50], [(1, 0.5), (2, 50.5), (3, 100)]) for _ in range(10)]
    surest = average_mota(frames, scores_of(frames, {1: 0.9, 2: 0.5, 3: 0.1}))
    assert surest == pytest.approx(1.0)  # the false one is below every threshold that is needed
    # With the false one in between, ten false tracks count where more than half is asked for.
    between = average_mota(frames, scores_of(frames, {1: 0.9, 2: 0.1, 3: 0.5}))
    assert between == pytest.approx(np.mean([1.0 if recall <= 0.5 else 1 - 10 / 20 for recall in RECALLS]))
    assert average_mota(frames[:0], []) != average_mota(frames[:0], [])  # no object: no score
    assert average_mota([frame([0], [])], [np.zeros(0)]) == 0
