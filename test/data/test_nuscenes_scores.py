"""nuScenes submissions: reading and writing, and scores that are those of the official devkit run by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_helpers import camtrack
from hypothesis import given
from hypothesis import strategies as st

from camtrack.evaluation.nuscenes import evaluate_submissions, submissions
from camtrack_core.datasets.nuscenes import CATEGORIES, read_tables
from camtrack_core.errors import DataError
from camtrack_core.evaluation.nuscenes import devkit as nuscenes_devkit
from camtrack_core.evaluation.nuscenes.submission import (
    MAX_BOXES,
    TRACKED,
    SubmittedBoxes,
    best,
    merge,
    read_submission,
    write_submission,
)
from camtrack_core.geometry.boxes import Boxes3D


@pytest.fixture(scope="session")
def devkit() -> Path:
    """The Python that has nuscenes-devkit."""
    named = os.environ.get(nuscenes_devkit.VARIABLE)
    python = Path(named) if named else nuscenes_devkit.environment_folder() / "bin" / "python"
    if not python.is_file():
        pytest.skip("no nuscenes-devkit here: the first `camtrack evaluate` of a submission installs it")
    return python


# --- the format

finite = st.floats(-1000, 1000)
row = st.tuples(finite, finite, finite, *[st.floats(0.1, 20)] * 3, st.floats(-3, 3), st.floats(0, 1))


def boxes_of(rows: list[tuple[float, ...]], ids: bool = True) -> SubmittedBoxes:
    table = np.array(rows).reshape(-1, 8)
    velocity = np.column_stack([table[:, :2] / 100, np.zeros(len(table))])
    return SubmittedBoxes(
        Boxes3D(table[:, :3], table[:, 3:6], table[:, 6], velocity),
        table[:, 7],
        np.array([TRACKED[k % 7] for k in range(len(table))], np.str_),
        np.array([str(k) if ids else "" for k in range(len(table))], np.str_),
        np.array(["vehicle.moving"] * len(table), np.str_),
    )


@given(st.lists(row, max_size=5), st.booleans())
def test_submissions_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, ...]], ids: bool
) -> None:
    path = tmp_path_factory.mktemp("s") / "s.json"
    boxes = boxes_of(rows, ids)
    write_submission(path, {"a": boxes, "b": boxes_of([])})
    found = read_submission(path)
    assert list(found) == ["a", "b"] and len(found["b"]) == 0
    order = np.argsort(-boxes.scores, kind="stable")
    for name in ("centre", "size", "yaw", "velocity"):
        np.testing.assert_allclose(getattr(found["a"].boxes, name), getattr(boxes.boxes, name)[order], atol=2e-5)
    assert (
        found["a"].names.tolist() == boxes.names[order].tolist()
        and found["a"].ids.tolist() == boxes.ids[order].tolist()
    )
    np.testing.assert_allclose(found["a"].scores, boxes.scores[order], atol=1e-5)


def test_only_the_best_boxes_of_a_key_frame_are_written_and_no_nan(tmp_path: Path) -> None:
    many = boxes_of([(0, 0, 0, 1, 1, 1, 0, k / 1000) for k in range(MAX_BOXES + 7)])
    many.boxes.velocity[:] = np.nan
    write_submission(tmp_path / "s.json", {"a": many})
    text = (tmp_path / "s.json").read_text()
    assert "NaN" not in text and len(json.loads(text)["results"]["a"]) == MAX_BOXES
    assert read_submission(tmp_path / "s.json")["a"].scores.min() == pytest.approx(0.007)


def test_cameras_are_joined_and_their_ids_kept_apart(tmp_path: Path) -> None:
    for name in ("front", "back"):
        write_submission(tmp_path / f"{name}.json", {"a": boxes_of([(0, 0, 0, 1, 1, 1, 0, 0.5)])})
    (tmp_path / "run.json").write_text("{}")
    files = submissions(tmp_path)
    assert [f.name for f in files] == ["back.json", "front.json"]
    records, meta = merge(files)
    assert [r["tracking_id"] for r in records["a"]] == ["back/0", "front/0"] and meta["use_camera"]


def test_real_detections_are_read(data_root: Path) -> None:
    found = read_submission(data_root / "nuscenes/detections/centerpoint.json")
    assert len(found) == 40 and sum(map(len, found.values())) > 1000
    assert set(found[next(iter(found))].ids.tolist()) == {""}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"meta": {}, "results": {"a": [', "cut off"),
        ("[]", "expected a nuScenes submission"),
        ('{"meta": null, "results": {}}', "an object meta, got null"),
        ('{"meta": [1], "results": {}}', "an object meta, got [1]"),
        ('{"results": {"a": [{"translation": [0, 0, 0]}]}}', "sample a is broken: KeyError 'rotation'"),
        ('{"results": {"a": 7}}', "sample a is broken"),
        ('{"results": {"a": [{"translation": [NaN, 0, 0], "size": [1, 1, 1], "rotation": [1, 0, 0, 0], '
         '"detection_name": "car", "detection_score": 1}]}}', "another translation"),
        ('{"results": {"a": [{"translation": [0, 0, 0], "size": [1, 0, 1], "rotation": [1, 0, 0, 0], '
         '"detection_name": "car", "detection_score": 1}]}}', "positive sizes, got another size"),
    ],
)  # fmt: skip
def test_broken_submissions_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(DataError, match=r"s\.json.*") as caught:
        read_submission(tmp_path / "s.json")
    assert words in str(caught.value)


def test_an_id_twice_in_a_key_frame_is_refused(tmp_path: Path) -> None:
    write_submission(tmp_path / "s.json", {"a": boxes_of([(0, 0, 0, 1, 1, 1, 0, 0.5)])})
    data = json.loads((tmp_path / "s.json").read_text())
    data["results"]["a"] *= 2
    (tmp_path / "s.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="every id once in the sample a"):
        read_submission(tmp_path / "s.json")


# --- the official scores


def true_tracks(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The annotations themselves as a submission."""
    tables = read_tables(root / "v1.0-mini")
    results: dict[str, list[dict[str, Any]]] = {sample["token"]: [] for sample in tables.records("sample")}
    for annotation in tables.records("sample_annotation"):
        instance = tables.follow("sample_annotation", annotation, "instance")
        name = CATEGORIES.get(tables.follow("instance", instance, "category")["name"], "")
        if name in TRACKED:
            row = {key: annotation[key] for key in ("sample_token", "translation", "size", "rotation")}
            row |= {"velocity": [0, 0], "tracking_id": instance["token"], "tracking_name": name, "tracking_score": 1.0}
            results[annotation["sample_token"]].append(row)
    return results


def test_the_annotations_that_count_score_one(devkit: Path, data_root: Path, tmp_path: Path) -> None:
    """The devkit counts the annotations with lidar or radar points."""
    folder = data_root / "nuscenes"
    annotations = read_tables(folder / "v1.0-mini").records("sample_annotation")
    hit = {(a["sample_token"], a["instance_token"]) for a in annotations if a["num_lidar_pts"] + a["num_radar_pts"] > 0}
    counted = {
        token: [row for row in rows if (token, row["tracking_id"]) in hit]
        for token, rows in true_tracks(folder).items()
    }
    (tmp_path / "s.json").write_text(json.dumps({"meta": {}, "results": counted}))
    found = evaluate_submissions([tmp_path / "s.json"], [str(folder)], "tracking", "mini_val", print)
    assert (found.scores["AMOTA"], found.scores["MOTA"]) == (pytest.approx(1), 1)
    assert (found.scores["AMOTP"], found.scores["FP"], found.scores["FN"]) == (pytest.approx(0, abs=1e-4), 0, 0)


def test_all_annotations_score_what_the_devkit_says(devkit: Path, data_root: Path, tmp_path: Path) -> None:
    """What lacks to one are the objects that no lidar or radar point hits: false alarms to the devkit."""
    folder = data_root / "nuscenes"
    (tmp_path / "s.json").write_text(json.dumps({"meta": {}, "results": true_tracks(folder)}))
    done = camtrack("evaluate", str(tmp_path / "s.json"), "--truth", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["samples"], found["missing"]) == (40, 0)
    assert found["scores"]["AMOTA"] == pytest.approx(0.98717, abs=1e-4)
    assert found["scores"]["AMOTP"] == pytest.approx(0.01292, abs=1e-4)
    assert found["scores"]["IDS"] == 0 and found["classes"]["truck"]["AMOTA"] == 1
    assert found["classes"]["bus"]["AMOTA"] is None  # none is there

    official = [
        str(devkit),
        "-m",
        "nuscenes.eval.tracking.evaluate",
        str(tmp_path / "s.json"),
        "--eval_set",
        "mini_val",
    ]
    official += ["--output_dir", str(tmp_path / "out"), "--dataroot", str(folder), "--version", "v1.0-mini"]
    subprocess.run([*official, "--render_curves", "0"], check=True, capture_output=True)
    summary = json.loads((tmp_path / "out/metrics_summary.json").read_text())
    for name in ("amota", "amotp", "mota", "recall", "ids", "frag", "tid"):
        assert found["scores"][name.upper()] == pytest.approx(summary[name], abs=1e-12)


def test_real_detections_score_what_the_devkit_says(devkit: Path, data_root: Path) -> None:
    folder = data_root / "nuscenes"
    path = folder / "detections/centerpoint.json"
    found = evaluate_submissions([path], [str(folder)], "detection", "mini_val", print)
    assert found.scores["NDS"] == pytest.approx(0.28110, abs=1e-4)
    assert found.scores["mAP"] == pytest.approx(0.31390, abs=1e-4)
    assert found.classes["car"]["AP"] == pytest.approx(0.83933, abs=1e-4)
    with pytest.raises(DataError, match="expected tracking records, got others; --detections"):
        evaluate_submissions([path], [str(folder)], "tracking", "", print)
    with pytest.raises(DataError, match="mini_val"):
        evaluate_submissions([path], [str(folder)], "detection", "no_set", print)


@pytest.fixture
def scene_0061(data_root: Path, tmp_path: Path) -> Path:
    """The data set with its scene under the name of one of mini_train."""
    root = tmp_path / "root"
    shutil.copytree(data_root / "nuscenes/v1.0-mini", root / "v1.0-mini", copy_function=shutil.copyfile)
    (root / "v1.0-mini").chmod(0o755)
    (root / "maps").symlink_to(data_root / "nuscenes/maps")
    path = root / "v1.0-mini/scene.json"
    path.write_text(path.read_text().replace("scene-0103", "scene-0061"))
    return root


def test_the_set_is_the_one_of_the_submission(devkit: Path, scene_0061: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"meta": {}, "results": true_tracks(scene_0061)}))
    found = evaluate_submissions([tmp_path / "s.json"], [str(scene_0061)], "tracking", "", print)
    assert (found.eval_set, found.samples, found.missing, found.left_out) == ("mini_train", 40, 0, 0)
    assert found.scores["AMOTA"] == pytest.approx(0.98717, abs=1e-4)


def test_a_set_without_the_submission_is_refused(devkit: Path, scene_0061: Path, tmp_path: Path) -> None:
    """One scene of the set is there, but the submission is of the other."""
    for name in ("scene", "sample"):
        path = scene_0061 / f"v1.0-mini/{name}.json"
        records = json.loads(path.read_text())
        last = {**records[-1], "token": f"another {name}"}
        last |= {"name": "scene-0103"} if name == "scene" else {"scene_token": "another scene", "prev": "", "next": ""}
        path.write_text(json.dumps([*records, last]))
    (tmp_path / "s.json").write_text(json.dumps({"meta": {}, "results": true_tracks(scene_0061)}))
    records = json.loads((tmp_path / "s.json").read_text())
    del records["results"]["another sample"]
    (tmp_path / "s.json").write_text(json.dumps(records))
    with pytest.raises(DataError, match=r"expected key frames of the set mini_val, got those of .*scene-0061"):
        evaluate_submissions([tmp_path / "s.json"], [str(scene_0061)], "tracking", "mini_val", print)


def test_joined_cameras_keep_the_best_boxes(tmp_path: Path) -> None:
    for name, score in (("front", 0.5), ("back", 0.7)):
        rows = [(0, 0, 0, 1, 1, 1, 0, score - k / 10000) for k in range(400)]
        write_submission(tmp_path / f"{name}.json", {"a": boxes_of(rows)})
    records, _ = merge(submissions(tmp_path))
    assert len(records["a"]) == 800
    kept = best(records, "tracking_score")["a"]
    assert [r["tracking_id"].split("/")[0] for r in kept] == ["back"] * 400 + ["front"] * (MAX_BOXES - 400)
    assert kept[-1]["tracking_score"] == pytest.approx(0.4901)


def test_a_submission_needs_the_truth_of_nuscenes(data_root: Path, tmp_path: Path) -> None:
    write_submission(tmp_path / "s.json", {"a": boxes_of([(0, 0, 0, 1, 1, 1, 0, 0.5)])})
    with pytest.raises(DataError, match="expected one source of nuScenes"):
        evaluate_submissions([tmp_path / "s.json"], [str(data_root / "mot15")], "tracking", "", print)


# --- its environment


def test_a_python_or_a_cache_that_is_none_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, submission = tmp_path / "text", {"meta": {}, "results": {}}
    file.write_text("no programme")
    monkeypatch.setenv(nuscenes_devkit.VARIABLE, str(file))
    with pytest.raises(DataError, match=r"cannot run .*text: Permission denied"):
        nuscenes_devkit.official_scores("tracking", submission, tmp_path, "v1.0-mini", "", print)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    with pytest.raises(DataError, match=r"expected scores from the Python .*text"):
        nuscenes_devkit.official_scores("tracking", submission, tmp_path, "v1.0-mini", "", print)
    monkeypatch.delenv(nuscenes_devkit.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    with pytest.raises(DataError, match=r"cannot install nuscenes-devkit into .*text"):
        nuscenes_devkit.devkit_python(print)


def test_an_environment_that_cannot_be_made_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(nuscenes_devkit.VARIABLE, str(tmp_path / "python"))
    with pytest.raises(DataError, match="is no file"):
        nuscenes_devkit.devkit_python(print)
    monkeypatch.delenv(nuscenes_devkit.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(nuscenes_devkit, "ALONE", ("nuscenes-devkit==1.2.0", str(tmp_path / "none.whl")))
    said: list[str] = []
    with pytest.raises(DataError, match=r"cannot install nuscenes-devkit: .*none\.whl"):
        nuscenes_devkit.devkit_python(said.append)
    assert "once" in said[0] and list((tmp_path / "camtrack").iterdir()) == []  # nothing half made stays
