"""Offline tracking: the trackers' own results, whole and resumable; what is wrong with one sequence stays with it."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from camtrack.offline.command import make_run, run_track
from camtrack.offline.methods import Engine, Run, _in_order
from camtrack.offline.run import estimated, track_sources
from camtrack_core.datasets.motchallenge import MotChallengeSequence
from camtrack_core.datasets.sources import canonical, open_source
from camtrack_core.datasets.video import stamp_ns
from camtrack_core.errors import ConfigurationError, DataError, ModelError
from camtrack_core.evaluation.mot_text import read_mot
from camtrack_core.geometry.boxes import Boxes2D
from camtrack_core.geometry.tracks import Tracks2D
from gcnet_tracker.tracker import DEMO_MODEL, GCNetModel, Tracker
from pkf_filter.image.smoothing import Smoother
from pkf_filter.image.tracker import Tracker as Filter

PKF = Run("pkf", DEMO_MODEL)


def silent(done: int, expected: int) -> None:
    assert done >= 0


def equal(a: list[Tracks2D], b: list[Tracks2D], digits: float) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.ids.tolist() == y.ids.tolist()
        np.testing.assert_allclose(x.xyxy, y.xyxy, atol=digits)
        np.testing.assert_allclose(x.scores, y.scores, atol=digits)


@pytest.mark.parametrize("method", ["gcnet", "stack"])
def test_the_trackers_fed_the_same_frames_agree(data_root: Path, tmp_path: Path, method: str) -> None:
    source = str(data_root / "uadetrac/Insight-MVT_Annotation_Train/MVI_20011")
    run = Run(method, DEMO_MODEL, "onnxruntime")  # type: ignore[arg-type]
    tracker, pkf = Tracker(GCNetModel(DEMO_MODEL, "onnxruntime", 1)), Filter()
    expected = []
    for frame in open_source(source):
        tracks = tracker.step(frame.image)
        if method == "stack":
            tracks = pkf.step(frame.time_ns, Boxes2D(tracks.xyxy, tracks.scores, tracks.class_ids))
        expected.append(tracks)
    equal(list(Engine(run, 1).tracks(open_source(source))), expected, 0)
    (result,) = track_sources([source], tmp_path / "tracks.txt", run, 1, silent)
    assert (result.name, result.frames, result.error) == ("MVI_20011", 9, "")
    assert sum(map(len, expected)) > 20
    equal(read_mot(tmp_path / "tracks.txt", 9), expected, 2e-3)  # the text's digits, width and height added
    with pytest.raises(DataError, match=r"tracks\.txt is there already"):
        track_sources([source], tmp_path / "tracks.txt", run, 1, silent)


def test_every_sequence_begins_anew(data_root: Path) -> None:
    """Ids and features of one sequence do not reach into the next."""
    source = str(data_root / "uadetrac/Insight-MVT_Annotation_Train/MVI_20011")
    engine = Engine(Run("gcnet", DEMO_MODEL, "onnxruntime"), 1)
    equal(list(engine.tracks(open_source(source))), list(engine.tracks(open_source(source))), 0)


def test_public_detections_through_pkf(data_root: Path, tmp_path: Path) -> None:
    sources = [str(data_root / "mot15" / name) for name in ("TUD-Campus", "TUD-Stadtmitte")]
    alone = track_sources(sources, tmp_path / "alone", PKF, 1, silent)
    together = track_sources(sources, tmp_path / "together", PKF, 2, silent)
    assert [r.frames for r in alone] == [71, 179]
    assert [(r.name, r.frames, r.tracks) for r in alone] == [(r.name, r.frames, r.tracks) for r in together]
    for name in ("TUD-Campus", "TUD-Stadtmitte"):
        text = (tmp_path / "alone" / f"{name}.txt").read_text()
        assert text == (tmp_path / "together" / f"{name}.txt").read_text() and len(text) > 1000
    sequence, pkf = MotChallengeSequence(sources[0]), Filter()
    expected = [
        pkf.step(stamp_ns(k, 25), Boxes2D(d.xyxy, d.scores.clip(0, 1), d.class_ids))
        for k, d in enumerate(sequence.detections())
    ]
    equal(read_mot(tmp_path / "alone/TUD-Campus.txt", 71), expected, 2e-3)


@pytest.mark.parametrize("smooth", [False, True])
def test_frames_without_detections_and_tracks_cost_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smooth: bool
) -> None:
    """One frame number of three million makes that many frames; what is found is what a step in each would find."""
    det = tmp_path / "MOT-01/det/det.txt"
    det.parent.mkdir(parents=True)
    det.write_text("".join(f"{k},-1,{100 + k % 7},200,80,140,1\n" for k in (1, 2, 3, 4, 2000, 2001, 2002, 2003)))
    steps, step = [], Filter.step

    def counted(pkf: Filter, time_ns: int, found: Boxes2D) -> Tracks2D:
        steps.append(time_ns)
        return step(pkf, time_ns, found)

    monkeypatch.setattr(Filter, "step", counted)
    run = replace(PKF, smooth=smooth)
    (result,) = track_sources([str(tmp_path / "MOT-01")], tmp_path / "out", run, 1, silent)
    monkeypatch.undo()
    assert result.frames == 2003 and result.tracks == 2 and 8 <= len(steps) < 300
    assert 8 <= len((tmp_path / "out/MOT-01.ms").read_text().split()) <= len(steps)  # who made the kernels warm, too
    sequence, pkf = MotChallengeSequence(tmp_path / "MOT-01"), Filter()
    frames = [(stamp_ns(k, sequence.frame_rate), d) for k, d in enumerate(sequence.detections())]
    if smooth:
        smoother = Smoother(pkf)
        expected = [tracks for frame in frames for tracks in smoother.step(*frame)] + smoother.flush()
    else:
        expected = [pkf.step(*frame) for frame in frames]
    equal(read_mot(tmp_path / "out/MOT-01.txt", 2003), expected, 2e-3)


def test_how_far_a_run_is_is_not_told_frame_by_frame(tmp_path: Path) -> None:
    """Of 200 000 frames, most of them without detections, all are told, in a few words."""
    det = tmp_path / "MOT-01/det/det.txt"
    det.parent.mkdir(parents=True)
    det.write_text("".join(f"{k},-1,100,200,80,140,1\n" for k in (1, 200_000)))
    told: list[int] = []
    track_sources([str(tmp_path / "MOT-01")], tmp_path / "out", PKF, 1, lambda done, _: told.append(done))
    assert told[-1] == 200_000 and len(told) < 2_000


def test_smoothed_tracks_of_public_detections(data_root: Path, tmp_path: Path) -> None:
    """Frame by frame those of a smoother that is fed the same detections; and another run than without smoothing."""
    source = str(data_root / "mot15/TUD-Campus")
    (result,) = track_sources([source], tmp_path / "out", replace(PKF, smooth=True), 1, silent)
    assert (result.frames, result.error) == (71, "")
    sequence, smoother = MotChallengeSequence(source), Smoother(Filter())
    expected: list[Tracks2D] = []
    for k, d in enumerate(sequence.detections()):
        expected += smoother.step(stamp_ns(k, 25), Boxes2D(d.xyxy, d.scores.clip(0, 1), d.class_ids))
    expected += smoother.flush()
    equal(read_mot(tmp_path / "out/TUD-Campus.txt", 71), expected, 2e-3)
    with pytest.raises(DataError, match="holds results of"):
        track_sources([source], tmp_path / "out", PKF, 1, silent)


def test_smoothed_tracks_of_a_recording_that_breaks_off_are_those_before(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MotChallengeSequence.detections

    def broken(self: MotChallengeSequence) -> Iterator[Any]:
        yield from islice(whole(self), 12)
        raise DataError("the rest is gone")

    monkeypatch.setattr(MotChallengeSequence, "detections", broken)
    (result,) = track_sources([str(two / "A")], tmp_path / "out", replace(PKF, smooth=True), 1, silent)
    assert result.frames == 12 and "the rest is gone" in result.error
    assert sum(map(len, read_mot(tmp_path / "out/A.incomplete.txt", 12)[-3:])) > 3


def test_results_come_in_the_order_of_their_frames_whichever_are_late() -> None:
    """None stands for a frame whose tracks come later; others are there at once."""
    waiting: deque[Any] = deque([None, "b", None, "d", None])
    assert list(_in_order(waiting, [])) == []
    assert list(_in_order(waiting, ["a"])) == ["a", "b"]
    assert list(_in_order(waiting, ["c", "e"])) == ["c", "d", "e"] and not waiting
    waiting = deque(["x"])
    assert list(_in_order(waiting, [])) == ["x"]


@pytest.mark.parametrize("method", ["gcnet", "time3d", "ground", "detections"])
def test_smoothing_is_refused_where_there_is_no_filter(method: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--smooth: expected --method stack, pkf, fusion, got {method}"):
        make_run(method, None, "auto", 0, "auto", skip_broken=False, smooth=True)  # type: ignore[arg-type]


def test_parameters_of_the_fusion_are_refused_for_other_methods(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--filter: expected --method fusion, got stack"):
        make_run("stack", None, "auto", 0, "auto", skip_broken=False, smooth=False, parameters=tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("sensors", "sentence"),
    [
        ("{sensors: [a, b], a: {kind: boxes_2d}, b: {kind: boxes_2d}}", "expected one sensor of kind boxes_3d"),
        ("{fixed_frame: map}", "expected one sensor of kind boxes_3d"),
        ("{sensors: [a], a: {noise: -1.0}}", "a.noise"),
        ("none", "expected parameters as config/fusion.yaml has them"),
    ],
)
def test_parameters_that_are_none_of_one_camera_are_refused(tmp_path: Path, sensors: str, sentence: str) -> None:
    file = tmp_path / "filter.yaml"
    file.write_text(f"/**: {{ros__parameters: {sensors}}}\n")
    with pytest.raises(ConfigurationError, match=f"{file}: .*{sentence}"):
        make_run("fusion", DEMO_MODEL, "auto", 0, "auto", skip_broken=False, smooth=False, parameters=file)


def test_results_of_other_parameters_are_another_run() -> None:
    folder = Path(__file__).resolve().parents[2] / "config"
    names = (None, folder / "camera_fusion.yaml", folder / "image_fusion.yaml")
    runs = [make_run("fusion", DEMO_MODEL, "auto", 0, "auto", False, False, name).settings() for name in names]
    assert runs[0] == runs[1] and runs[1]["filter_sha256"] != runs[2]["filter_sha256"]


@pytest.fixture
def two(data_root: Path, tmp_path: Path) -> Path:
    """The public detections of two short sequences."""
    root = tmp_path / "mot"
    for name in ("A", "B"):
        (root / name / "det").mkdir(parents=True)
        shutil.copyfile(data_root / "mot15/TUD-Campus/det/det.txt", root / name / "det/det.txt")
    return root


def test_a_run_goes_on_where_it_ended(two: Path, tmp_path: Path) -> None:
    sources, out = [str(two / "A"), str(two / "B")], tmp_path / "out"
    (two / "B/det/det.txt").write_text("1,-1,nonsense\n")
    first = track_sources(sources, out, PKF, 1, silent)
    assert first[0].frames == 71 and "det.txt, line 1" in first[1].error
    assert sorted(p.name for p in out.iterdir()) == ["A.ms", "A.source", "A.txt", "run.json"]
    assert len((out / "A.ms").read_text().split()) == 71
    (out / "A.txt").write_text("untouched")
    shutil.copyfile(two / "A/det/det.txt", two / "B/det/det.txt")
    second = track_sources(sources, out, PKF, 1, silent)
    assert second[0].kept and second[1].frames == 71 and (out / "A.txt").read_text() == "untouched"


def test_results_of_two_runs_are_not_mixed(two: Path, tmp_path: Path) -> None:
    track_sources([str(two / "A")], tmp_path / "out", PKF, 1, silent)
    (tmp_path / "model.onnx").write_bytes(b"another")
    with pytest.raises(DataError, match=r"holds results of .*pkf.*, this run is .*gcnet"):
        track_sources([str(two / "A")], tmp_path / "out", Run("gcnet", tmp_path / "model.onnx"), 1, silent)
    (tmp_path / "out/run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json is broken"):
        track_sources([str(two / "A")], tmp_path / "out", PKF, 1, silent)


@pytest.mark.parametrize("jobs", [1, 2])
def test_two_sequences_of_one_name_do_not_pass_for_each_other(two: Path, tmp_path: Path, jobs: int) -> None:
    shutil.move(two / "B", two / "other/A")
    sources, out = [str(two / "A"), str(two / "other/A")], tmp_path / "out"
    results = track_sources(sources, out, PKF, jobs, silent)
    assert sorted(r.frames for r in results) == [0, 71]
    (refused,) = [r for r in results if r.error]
    assert "A.source says that A.txt is of" in refused.error and "give another folder" in refused.error


def test_what_was_done_before_is_of_the_same_source(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = data_root / "mot15/TUD-Campus"
    first = track_sources([str(source)], tmp_path, PKF, 1, silent)
    monkeypatch.chdir(source.parent)
    again = track_sources(["TUD-Campus"], tmp_path, PKF, 1, silent)  # the same, from within its folder
    assert (first[0].frames, again[0].kept) == (71, True)
    (tmp_path / "TUD-Campus.source").write_text("/elsewhere/TUD-Campus\n")
    (other,) = track_sources([str(source)], tmp_path, PKF, 1, silent)
    assert "is of /elsewhere/TUD-Campus, this is" in other.error and not other.kept
    (tmp_path / "TUD-Campus.source").unlink()  # as in folders that know no sources
    assert track_sources([str(source)], tmp_path, PKF, 1, silent)[0].kept


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("drive:7?frames=3&camera=roadside", "drive:7?camera=roadside&frames=3"),
        ("{0}/A?sequence=x", "{0}/../{1}/A?sequence=x"),
        ("{0}/v.mp4:{0}/v.txt", "{0}/../{1}/v.mp4:{0}/v.txt"),
    ],
)
def test_spellings_of_one_source_are_one(tmp_path: Path, one: str, other: str) -> None:
    folder, name = str(tmp_path), tmp_path.name
    assert canonical(one.format(folder, name)) == canonical(other.format(folder, name))
    assert canonical("drive:7?frames=3") != canonical("drive:7?frames=5")


def test_tracks_before_a_recording_breaks_off_are_kept(tmp_path: Path) -> None:
    images = tmp_path / "clip"
    images.mkdir()
    for k in range(3):
        cv2.imwrite(str(images / f"{k}.png"), np.full((64, 96, 3), 40 * k, np.uint8))
    whole = (images / "2.png").read_bytes()
    (images / "2.png").write_bytes(whole[: len(whole) // 2])
    run, out = Run("gcnet", DEMO_MODEL, "onnxruntime"), tmp_path / "out"
    (broken,) = track_sources([str(images)], out, run, 1, silent)
    assert "2.png: expected a whole image" in broken.error and broken.frames == 2
    assert f"the tracks of the 2 frames before are in {out / 'clip.incomplete.txt'}" in broken.error
    assert sorted(p.name for p in out.iterdir()) == ["clip.incomplete.txt", "run.json"]
    read_mot(out / "clip.incomplete.txt", 2)
    (images / "2.png").write_bytes(whole)
    (mended,) = track_sources([str(images)], out, run, 1, silent)
    assert (mended.frames, mended.error) == (3, "") and not (out / "clip.incomplete.txt").exists()


def test_sequences_that_wait_are_as_long_as_the_mean() -> None:
    assert estimated([0, 0, 0, 0], 4) == (0, 0)
    assert estimated([5, 10, 1, 0], 4) == (5, 40)
    assert estimated([5, 40, 2, 1], 4) == (5, 60)  # one was done before
    assert estimated([40, 40, 2, 2], 4) == (40, 40)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_model_that_is_none_ends_the_run(two: Path, tmp_path: Path, jobs: int) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    run = Run("gcnet", tmp_path / "model.onnx", "onnxruntime")
    with pytest.raises(ModelError, match=r"model\.onnx: expected an ONNX graph"):
        track_sources([str(two / "A"), str(two / "B")], tmp_path / "out", run, jobs, silent)
    with pytest.raises(DataError, match=r"cannot read .*none\.onnx"):
        track_sources([str(two / "A")], tmp_path / "out", Run("gcnet", tmp_path / "none.onnx"), 1, silent)


def test_what_pkf_alone_and_a_file_cannot_do(two: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 8, 3), np.uint8))
    (result,) = track_sources([str(tmp_path)], tmp_path / "x.txt", PKF, 1, silent)
    assert "expected a recording with public detections" in result.error and not (tmp_path / "x.txt").exists()
    with pytest.raises(DataError, match="2 sequences need a folder"):
        track_sources([str(two / "A"), str(two / "B")], tmp_path / "x.txt", PKF, 1, silent)
    with pytest.raises(DataError, match="cannot write to"):
        track_sources([str(two / "A")], tmp_path / "1.png" / "out", PKF, 1, silent)


def test_where_nothing_was_tracked_only_the_error_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "Insight-MVT_Annotation_Train/MVI_20011")
    assert run_track([missing], tmp_path / "out", PKF, 1, "", as_json=False) == 2
    said = capsys.readouterr()
    assert said.out == "" and "expected UA-DETRAC images" in said.err
    assert run_track([missing], tmp_path / "out", PKF, 1, "", as_json=True) == 2
    (row,) = json.loads(capsys.readouterr().out)
    assert "expected UA-DETRAC images" in row["error"] and row["frames"] == 0


def test_settings_name_the_model_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"a")
    (tmp_path / "b.onnx").write_bytes(b"b")
    a, b = (Run("gcnet", tmp_path / f"{name}.onnx").settings() for name in "ab")
    assert a["model_sha256"] != b["model_sha256"] and json.dumps(a)
