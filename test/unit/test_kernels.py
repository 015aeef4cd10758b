"""Compiled kernels are those of the source as it is, and what has not changed is not compiled again."""

import os
import subprocess
import sys
from pathlib import Path

TOP = """
from camtrack_core.kernels import compiler
from made.low.base import FACTOR, doubled

@compiler()
def answer(x):
    return FACTOR * doubled(x)
"""
BASE = """
from camtrack_core.kernels import compiler
from made.low.deeper import TERM

FACTOR = {factor}

@compiler()
def doubled(x):
    return 2 * x + TERM
"""
OTHER = """
from camtrack_core.kernels import compiler

@compiler()
def other(x):
    return x
"""
ASK = "from made.top import answer; from made.other import other; other(1); print(answer(1))"


def answer(root: Path) -> int:
    env = {**os.environ, "NUMBA_CACHE_DIR": ""}  # beside the sources, whatever the caller has chosen
    done = subprocess.run([sys.executable, "-c", ASK], cwd=root, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def caches(root: Path, stem: str) -> set[Path]:
    return set(root.rglob(f"__pycache__/kernels-{stem}-*"))


def test_a_changed_file_is_compiled_again_and_so_is_what_depends_on_it_and_nothing_else(tmp_path: Path) -> None:
    package = tmp_path / "made"
    (package / "low").mkdir(parents=True)
    for folder in (package, package / "low"):
        (folder / "__init__.py").touch()
    (package / "top.py").write_text(TOP)
    (package / "other.py").write_text(OTHER)
    (package / "low" / "base.py").write_text(BASE.format(factor=10))
    (package / "low" / "deeper.py").write_text("TERM = 1\n")
    assert answer(tmp_path) == 30
    first = {stem: caches(tmp_path, stem) for stem in ("top", "base", "other")}
    assert all(len(found) == 1 for found in first.values())
    written = {file: file.stat().st_mtime_ns for file in next(iter(first["other"])).rglob("*") if file.is_file()}
    assert written

    (package / "low" / "base.py").write_text(BASE.format(factor=100))
    assert answer(tmp_path) == 300
    (package / "low" / "deeper.py").write_text("TERM = 2\n")
    assert answer(tmp_path) == 400
    last = {stem: caches(tmp_path, stem) for stem in first}
    assert all(len(found) == 1 for found in last.values()), "what an older version left is removed"
    assert last["other"] == first["other"]
    assert {file: file.stat().st_mtime_ns for file in written} == written
    assert not last["top"] & first["top"]
    assert not last["base"] & first["base"]
