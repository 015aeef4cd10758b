"""`camtrack evaluate --view`: the truth of each data set is found again; what is off is scored so."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

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
from camtrack_core.geometry.boxes import Boxes3D, Floats
from camtrack_core.geometry.tracks import Tracks3D

DRIVE = "drive:9000?frames=6&frame_rate=5&camera=vehicle&density=3"
SETS = {
    "drive": DRIVE,
    "pandaset": "pandaset?camera=back_camera&frames=0-9",
    "kitti": "kitti_tracking?sequence=0003",
    "nuscenes": "nuscenes?scene=scene-0103&camera=CAM_FRONT",
}
TEXT = {"van": "car"}  # how a tracker calls them


def written(sequence: Sequence, out: Path, ahead: float = 0.0) -> Path:
    """The truth as a tracker's results, every object so many metres farther from its camera."""
    names = tuple(TEXT.get(name.lower(), name.lower()) for name in sequence.class_names)
    truth = list(truth_of(sequence))
    if isinstance(sequence, NuScenesSequence):
        path = out / f"{sequence.name}.json"
        keys = [(key, one) for key, one in zip(sequence.keys(), truth, strict=True) if key is not None]
        write_submission(path, {token: submitted(one, ahead, sequence.class_names) for (token, _), one in keys})
        return path
    place = sequence.mounting() if isinstance(sequence, KittiSequence) else TO_VEHICLE
    assert place is not None
    rows = []
    for one in truth:
        assert one.camera_pose is not None and one.labels is not None
        boxes = moved(farther(one, ahead), place @ one.camera_pose.inverse())
        count = len(boxes)
        tracks = Tracks3D(one.labels.ids, boxes, np.zeros((count, 4, 4)), np.full(count, 0.9), one.labels.class_ids,
                          np.zeros(count), np.zeros((count, 3)))  # fmt: skip
        rows.append((tracks, boxes, one.labels.xyxy))
    path = out / f"{sequence.name}.txt"
    write_kitti(path, rows, names)
    return path


def submitted(one: Truth, ahead: float, class_names: tuple[str, ...]) -> SubmittedBoxes:
    assert one.labels is not None
    count, text = len(one.labels.ids), np.array([str(i) for i in one.labels.ids])
    names = np.array(class_names)[one.labels.class_ids]
    return SubmittedBoxes(farther(one, ahead), np.full(count, 0.9), names, text, np.full(count, ""))


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
    path = written(open_source(source), tmp_path)
    found = evaluate_view(path, [source])["vehicle"]
    assert found.scores.asked.sum() > 10
    assert found.scores.ap == pytest.approx([1.0] * 4, abs=0.01) and found.scores.ap2d > 0.95
    assert found.hota == pytest.approx(1.0, abs=0.01) and found.amota == pytest.approx(1.0, abs=0.01)
    ratios = found.scores.depth_ratio
    assert np.isfinite(ratios).any() and ratios[np.isfinite(ratios)] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", ["pandaset", "nuscenes"])
def test_what_is_3_metres_off_is_right_within_4(name: str, tmp_path: Path, request) -> None:  # type: ignore[no-untyped-def]
    source = source_of(name, request)
    found = evaluate_view(written(open_source(source), tmp_path, ahead=3.0), [source])["vehicle"]
    assert found.scores.ap[3] > 0.9 and found.scores.ap[:3].max() < 0.1
    errors = found.scores.error[np.isfinite(found.scores.error)]
    assert errors == pytest.approx([3.0] * len(errors), abs=0.2)
    assert found.hota < 0.3 and found.amota < 0.1


def test_the_command_prints_tables_and_json(tmp_path: Path) -> None:
    written(open_source(DRIVE), tmp_path)
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
        written(open_source(source), runs[-1], ahead)
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
