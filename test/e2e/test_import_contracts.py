"""The import contracts of pyproject.toml: kept by the code, broken by what they forbid, and without holes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from catkin_pkg.package import parse_package

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache")


@pytest.fixture(autouse=True)
def import_linter() -> None:
    pytest.importorskip("importlinter")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with the project's modules and its contracts."""
    for init in ROOT.glob("*/__init__.py"):
        folder = init.parent.name
        shutil.copytree(init.parent, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(folder: Path) -> set[str]:
    """Return the names of the contracts that import-linter finds broken in a folder."""
    done = subprocess.run(COMMAND, cwd=folder, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    broken = {line.partition(" BROKEN")[0] for line in lines if " BROKEN" in line}
    assert done.returncode == bool(broken), done.stdout + done.stderr
    assert any(" KEPT" in line for line in lines), done.stdout + done.stderr
    return broken


FLOORS = "camtrack stands on three methods that do not know each other, these on the ground floor"
FRAME = "No torch on the way of a frame"
ROS = "ROS and its messages only in nodes and in what they share"
NUMBA = "Kernels are compiled by one module, and one other knows numba's inside"


def test_the_contracts_are_kept(copy: Path) -> None:
    assert broken_contracts(copy) == set()


@pytest.mark.parametrize(
    ("module", "planted", "broken"),
    [
        ("camtrack_core/geometry/boxes.py", "from pkf_filter.life import existence", FLOORS),
        ("camtrack_core/errors.py", "def late():\n    import camtrack.replay", FLOORS),
        ("pkf_filter/space/models.py", "from gcnet_tracker.config import GcnetParameters", FLOORS),
        ("time3d_tracker/losses.py", "from pkf_filter import pkf_update", FLOORS),
        ("gcnet_tracker/tracker.py", "import torch", FRAME),
        ("time3d_tracker/model.py", "from camtrack_core.networks import heatmap", FRAME),  # which imports torch
        ("pkf_filter/space/tracker.py", "def late():\n    import rclpy", ROS),
        ("camtrack_core/datasets/frames.py", "from sensor_msgs.msg import Image", ROS),
        ("gcnet_tracker/tracker.py", "from vision_msgs.msg import Detection2DArray", ROS),
        ("pkf_filter/association/frontier.py", "from numba.extending import intrinsic", NUMBA),
    ],
)
def test_a_forbidden_import_is_found(copy: Path, module: str, planted: str, broken: str) -> None:
    with (copy / module).open("a") as file:
        file.write(f"\n{planted}\n")
    assert broken in broken_contracts(copy)


def test_every_ros_package_of_the_manifest_is_kept_out() -> None:
    from importlinter.api import read_configuration

    contracts = {
        contract["id"]: contract for contract in read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    }
    declared = {dependency.name.removesuffix("_py") for dependency in parse_package(ROOT).exec_depends}
    imported = {name for name in declared if not name.startswith("python3-")} - {"launch_ros", "launch_xml"}
    assert imported <= {*contracts["ros"]["forbidden_modules"]}
