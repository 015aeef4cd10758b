"""Benchmarks are run by hand: here it is only seen that the code which they are made of is still there."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
# devkit_boxes.py runs in the nuScenes devkit's own environment.
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "devkit_boxes")


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_finds_what_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))  # some take parts from others
    assert callable(importlib.import_module(name).main)
