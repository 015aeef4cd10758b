"""Benchmarks are run by hand: here it is only seen that the code which they are made of is still there."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.boxes import Boxes3D
from camtrack_core.geometry.tracks import Tracks3D

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
# devkit_boxes.py runs in the nuScenes devkit's own environment, and head.py is what the others share.
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("devkit_boxes", "head"))


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_finds_what_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))  # some take parts from others
    assert callable(importlib.import_module(name).main)


def test_input_that_cannot_be_used_ends_a_benchmark_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    head = importlib.import_module("head")

    def fail() -> None:
        raise ConfigurationError("expected a camera, got none")

    assert (head.ran(fail), head.ran(lambda: None)) == (2, 0)
    assert capsys.readouterr() == ("", "expected a camera, got none\n")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("bench")


def test_a_bench_stands_beside_an_older_one_and_says_what_failed(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ConfigurationError("expected a camera, got none")

    sections = {"decode": lambda: {"jpeg_ms": 3.0, "10 objects": {"read_ms": 5.0}}, "transport": fail}
    monkeypatch.setattr(bench, "SECTIONS", sections)
    monkeypatch.setenv("COLUMNS", "150")
    older = tmp_path / "old.json"
    old = {"decode": {"jpeg_ms": 4.0, "10 objects": {"read_ms": 2.0, "gone_ms": 1.0}}, "transport": {"p50_ms": 1.0}}
    older.write_text(json.dumps({"machine": {"processor": "abacus", "load": 0.5}, "figures": old}))
    monkeypatch.setattr("sys.argv", ["bench.py", "--against", str(older)])
    assert bench.main() == 1  # a section failed
    said = [line.split() for line in capsys.readouterr().out.replace("│", " ").splitlines()]
    assert ["decode", "jpeg_ms", "3", "4", "0.75"] in said
    assert ["decode", "10", "objects", "read_ms", "5", "2", "2.50"] in said
    assert ["transport", "failed", "expected", "a", "camera,", "got", "none"] in said
    assert any("abacus," in line for line in said)


def test_a_bench_without_its_older_run_says_so(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.py", "--against", str(tmp_path / "none.json")])
    assert bench.main() == 2
    assert "none.json: expected the JSON of an older run" in capsys.readouterr().err


def test_the_bench_measures_in_this_process(bench: Any) -> None:
    """The sections that need no network and no process; each figure is a time."""
    figures = bench.measure({"messages": bench.two_ways, "decode": bench.decode})
    assert all(0 < value < 1e4 for value in bench.rows(figures).values())
    assert set(figures["messages"]) == {f"{count} objects" for count in bench.OBJECTS}


def test_headings_are_compared_where_a_track_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Object 1 drives at 5 m/s, 2 stands, 3 is seen too shortly to tell; the second's track heads the other way."""
    monkeypatch.syspath_prepend(str(FOLDER))
    headings = importlib.import_module("headings")

    def boxes(places: list[float], yaw: list[float]) -> Boxes3D:
        count = len(places)
        centre = np.array([[x, 0.0, 1.0] for x in places])
        return Boxes3D(centre, np.ones((count, 3)), np.array(yaw), np.zeros((count, 3)))

    def asked(k: int) -> Any:
        ids = [1, 2, 3] if k < 4 else [1, 2]
        places = [0.5 * k, 30.0, 60.0][: len(ids)]
        return headings.Asked(np.array(ids), boxes(places, [3.1] * len(ids)), 0.1 * k)

    frames = [asked(k) for k in range(11)]
    speeds = headings.true_speeds(frames)
    np.testing.assert_allclose(speeds[0], [5, 0, np.nan], atol=1e-6)
    np.testing.assert_allclose(speeds[10], [5, 0], atol=1e-6)
    found = boxes([0.3, 30.5, 64.0], [-3.1, 0.0, 0.0])
    tracks = Tracks3D(np.arange(3), found, np.zeros((3, 4, 4)), np.ones(3), np.zeros(3, int), np.zeros(3))
    errors = headings.heading_errors(frames[0].boxes, tracks)
    np.testing.assert_allclose(errors, [2 * np.pi - 6.2, 3.1, np.nan], atol=1e-6)
    assert headings.counted(errors) == {"vehicles": 3, "tracked": 2, "right": 0.5}


def test_the_own_vehicle_heads_where_it_drives(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands for a second, drives along y for one, and stands again; a jitter of centimetres is no motion."""
    monkeypatch.syspath_prepend(str(FOLDER))
    headings = importlib.import_module("headings")
    times = 0.1 * np.arange(41)
    jitter = np.random.default_rng(0).normal(0, 0.02, (41, 2))
    along = 5.0 * np.clip(times - 1, 0, 1)
    places = np.column_stack([jitter[:, 0], along + jitter[:, 1]])
    np.testing.assert_allclose(headings.own_headings(times, places), np.pi / 2, atol=0.1)
    np.testing.assert_array_equal(headings.own_headings(times, jitter), 0)
    np.testing.assert_allclose(headings.apart(np.array([3.1, 0.0]), -3.1), [2 * np.pi - 6.2, 3.1])


def test_six_cameras_are_counted_by_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Object 1 changes its track in the last round, object 2 has two in every round; track 9 stands at none."""
    monkeypatch.syspath_prepend(str(FOLDER))
    rig = importlib.import_module("pkf_rig")
    truth = {1: np.array([0.0, 0.0, 1.0]), 2: np.array([20.0, 0.0, 1.0])}
    places = {3: 0.5, 4: 20.2, 5: 21.0, 9: 50.0}
    count, rounds = rig.Count(), int(rig.SETTLED * rig.RATE) + 5
    for k in range(rounds):
        ids = np.array([7 if k == rounds - 1 else 3, 4, 5, 9])
        centre = np.array([[x, 0.0, 1.0] for x in places.values()])
        boxes = Boxes3D(centre, np.ones((4, 3)), np.zeros(4), np.zeros((4, 3)))
        count.add(truth, {1, 2}, Tracks3D(ids, boxes, np.zeros((4, 4, 4)), np.ones(4), np.zeros(4, int), np.zeros(4)))
    assert count.ids == {1: {3, 7}, 2: {4}}
    assert (count.duplicates, count.astray, count.rounds) == (rounds, rounds, rounds)
    assert count.found == {1: 6, 2: 6}
