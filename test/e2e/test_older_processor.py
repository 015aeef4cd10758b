"""`./run test --older-processor`: no test begins where a library does not do as it is told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from command_helpers import ROOT


def test_a_library_that_chose_before_it_was_told_ends_the_run() -> None:
    """numba is imported before the variables are set, and has asked the processor; torch and OpenVINO do as told."""
    code = "import sys, numba, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "-p", "older_processor", "--collect-only", "test/unit/test_numbers.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "test"), str(ROOT)])}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    said = ended.stdout + ended.stderr
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR, said
    libraries = said.partition("not so: ")[2].splitlines()[0].split(", ")
    assert "numba" in libraries
    assert not {"torch", "oneDNN in torch", "sessions of OpenVINO", "training"} & {*libraries}
