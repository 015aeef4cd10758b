"""The package as ROS and pip see it: manifest, metadata, installed files."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import pytest
from catkin_pkg import package as catkin_pkg

ROOT = Path(__file__).resolve().parents[2]
MARKER = "share/ament_index/resource_index/packages/camtrack"
SHARED_FOLDERS = ("launch", "config", "rviz")


def read_setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


SETUP = read_setup_cfg()
CONSOLE_SCRIPTS = {
    script: (module, function)
    for script, module, function in re.findall(
        r"^(\w+) = ([\w.]+):(\w+)$", SETUP["options.entry_points"]["console_scripts"], re.MULTILINE
    )
}
# What users' own files and commands name; it stays, wherever the code goes.
PUBLIC_SCRIPTS = {
    *("camtrack", "replay_node", "recorder_node", "space_recorder_node", "gcnet_tracker_node", "time3d_tracker_node"),
    *("time3d_cameras_node", "pkf_filter_node"),
}


def shared_files() -> list[str]:
    """Return the files that an installation keeps under share/camtrack, relative to the repository."""
    files = [path for folder in SHARED_FOLDERS for path in (ROOT / folder).glob("*") if path.is_file()]
    return ["package.xml", *(str(path.relative_to(ROOT)) for path in files)]


# --- package.xml. Its schema is in no package, so catkin_pkg, which colcon and rosdep use, is the judge.


@pytest.mark.parametrize("folder", ["", "interfaces/vision_msgs", "interfaces/tf2_msgs"])
def test_manifest_is_valid(folder: str) -> None:
    warnings: list[str] = []
    package = catkin_pkg.parse_package(ROOT / folder, warnings=warnings)
    package.validate(warnings=warnings)
    assert not warnings
    assert package.package_format == 3
    assert package.licenses == ["Apache-2.0"]


def test_manifest_builds_with_ament_python() -> None:
    package = catkin_pkg.parse_package(ROOT)
    assert [(export.tagname, export.content) for export in package.exports] == [("build_type", "ament_python")]
    assert [Path(license.file).name for license in package.licenses] == ["LICENSE"]


def test_manifest_and_setup_agree() -> None:
    package = catkin_pkg.parse_package(ROOT)
    assert (package.name, package.version) == (SETUP["metadata"]["name"], SETUP["metadata"]["version"])


def test_manifest_names_every_ros_package_that_is_imported() -> None:
    package = catkin_pkg.parse_package(ROOT)
    declared = {dependency.name.removesuffix("_py") for dependency in package.exec_depends}  # tf2_ros_py has tf2_ros
    provided_by_rclpy = {"builtin_interfaces", "rcl_interfaces", "ament_index_python", "rpyutils"}
    missing = {name for name in imported_modules() if is_ros_name(name)} - declared - provided_by_rclpy
    assert not missing


def test_system_dependencies_are_rosdep_keys_by_their_form() -> None:
    """Rosdep's database is not at hand: its Python keys are python3-NAME, ROS packages have underscores."""
    package = catkin_pkg.parse_package(ROOT)
    for dependency in [*package.exec_depends, *package.test_depends]:
        assert re.fullmatch(r"python3-[a-z0-9-]+|[a-z][a-z0-9_]*", dependency.name), dependency.name


def imported_modules() -> set[str]:
    """Return the top-level names that the project's modules import."""
    names: set[str] = set()
    for init in ROOT.glob("*/__init__.py"):
        for module in init.parent.rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.split(".")[0])
    return names


def is_ros_name(module: str) -> bool:
    return module.endswith(("_msgs", "_interfaces")) or module in {
        "rclpy",
        "tf2_ros",
        "cv_bridge",
        "message_filters",
    }


# --- setup.cfg and setup.py


@pytest.mark.parametrize("script", CONSOLE_SCRIPTS)
def test_console_script_has_a_main(script: str) -> None:
    module, main = CONSOLE_SCRIPTS[script]
    path = ROOT / (module.replace(".", "/") + ".py")
    assert path.is_file(), f"{script} starts {path}, which does not exist"
    tree = ast.parse(path.read_text())
    assert main in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_public_scripts_stay() -> None:
    lines = SETUP["options.entry_points"]["console_scripts"].strip().splitlines()
    assert len(lines) == len(CONSOLE_SCRIPTS)
    assert CONSOLE_SCRIPTS.keys() >= PUBLIC_SCRIPTS


def test_every_python_package_is_installed() -> None:
    included = SETUP["options.packages.find"]["include"].split()
    assert {init.parent.name for init in ROOT.glob("*/__init__.py")} <= set(included)


def test_no_requirement_names_a_download_address() -> None:
    text = "\n".join(SETUP["options.extras_require"].values())
    assert not [word for word in text.split() if urlparse(word).netloc]


def test_the_readme_tells_a_host_the_versions_that_setup_cfg_asks_for() -> None:
    """Of what a ROS distribution lacks or has too old: Ubuntu noble's typer ends the command line at its start."""
    told = re.findall(r"""["']([a-z]+[<>=~][^"']+)["']""", (ROOT / "README.md").read_text())
    asked = "\n".join(SETUP["options.extras_require"].values()).splitlines()
    assert [re.split("[<>=~]", one)[0] for one in told] == [
        *("numba", "onnxruntime", "openvino", "pydantic", "typer", "rosbags"),
    ]
    assert not {*told} - {*asked}


def test_pinned_versions_agree() -> None:
    """The interface wheels must be compiled against the versions that they will run with."""
    runtime = dict(re.findall(r"^(ros-[\w-]+)==(.+)$", SETUP["options.extras_require"]["ros"], re.MULTILINE))
    build = (ROOT / "interfaces" / "build-requirements.txt").read_text()
    pinned = dict(re.findall(r"^(ros-[\w-]+)==(.+)$", build, re.MULTILINE))
    shared = runtime.keys() & pinned.keys()
    assert shared
    assert {name: runtime[name] for name in shared} == {name: pinned[name] for name in shared}


# --- an installation


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the repository, because setuptools writes into the tree that it builds."""
    copy = tmp_path_factory.mktemp("source") / "camtrack"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "shared")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


def build(source: Path, *command: str) -> None:
    """Run a Python command in ``source`` and show its output if it fails."""
    done = subprocess.run([sys.executable, *command], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pip_installs_to_a_prefix(source: Path, tmp_path: Path) -> None:
    build(
        source,
        *("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed"),
        *("--prefix", str(tmp_path), "."),
    )
    assert (tmp_path / MARKER).is_file()
    for file in shared_files():
        assert (tmp_path / "share/camtrack" / file).read_bytes() == (ROOT / file).read_bytes()
    for script in CONSOLE_SCRIPTS:
        assert os.access(tmp_path / "bin" / script, os.X_OK)


@pytest.fixture(scope="module")
def workspace(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the real colcon, with the setuptools of Ubuntu noble, has built the package."""
    folder = tmp_path_factory.mktemp("workspace")
    colcon(folder, "build", "--paths", str(source))
    return folder


def colcon(workspace: Path, *arguments: str) -> str:
    """Run colcon in a workspace and return what it says."""
    program = Path(os.environ.get("CAMTRACK_COLCON") or ROOT / ".venv-colcon" / "bin" / "colcon")
    if not program.is_file():
        pytest.skip(f"no colcon: {program} is missing; ./run test installs it, CAMTRACK_COLCON names another")
    other = ("PYTHONPATH", "VIRTUAL_ENV", "AMENT_PREFIX_PATH", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")
    environment = {name: value for name, value in os.environ.items() if name not in other}
    environment["PATH"] = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([program, *arguments], cwd=workspace, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_colcon_builds_it(workspace: Path) -> None:
    """What ROS looks for lies under install/."""
    prefix = workspace / "install/camtrack"
    assert (prefix / MARKER).is_file()
    assert (workspace / "install/setup.bash").is_file()
    for file in shared_files():
        assert (prefix / "share/camtrack" / file).read_bytes() == (ROOT / file).read_bytes()
    for script in CONSOLE_SCRIPTS:
        assert os.access(prefix / "lib/camtrack" / script, os.X_OK)
    (packages,) = prefix.glob("lib/python3.*/site-packages")
    modules = {path.relative_to(ROOT) for init in ROOT.glob("*/__init__.py") for path in init.parent.rglob("*.py")}
    weights = {path.relative_to(ROOT) for path in ROOT.glob("*/weights/*") if path.is_file()}
    typed = {path.relative_to(ROOT) for path in ROOT.glob("*/py.typed")}
    assert typed and not [path for path in modules | weights | typed if not (packages / path).is_file()]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # to import all test modules takes a busy machine minutes
def test_colcon_tests_it(workspace: Path, source: Path) -> None:
    """Every test is collected, and a file of them is run, by `colcon test` and its own Python."""
    tests = {f"test/{path.relative_to(ROOT / 'test')}" for path in (ROOT / "test").rglob("test_*.py")}
    options = ("test", "--paths", str(source), "--event-handlers", "console_direct+", "--pytest-args")
    collected = colcon(workspace, *options, "--collect-only", "-q")
    assert {line.split("::")[0] for line in collected.splitlines() if "::" in line} == tests
    few = "test/unit/test_numbers.py"
    count = collected.count(f"{few}::")
    assert f"{count} passed" in colcon(workspace, *options, few)
    assert f": {count} tests, 0 errors, 0 failures, 0 skipped" in colcon(workspace, "test-result", "--all")


def test_no_test_module_skips_itself_while_it_is_imported() -> None:
    """launch_testing's plugin imports modules while it collects: one that skips takes its whole folder with it."""
    at_import = [
        (path.name, node.lineno)
        for path in (ROOT / "test").rglob("*.py")
        for statement in ast.parse(path.read_text()).body
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pytest.importorskip", "pytest.skip")
    ]
    assert not at_import


def test_no_test_module_imports_another() -> None:
    """What tests share lies in helpers: a module that is imported as well is collected twice over."""
    modules = {path.stem: path for path in (ROOT / "test").rglob("test_*.py")}
    assert len(modules) > 100
    imported = [
        (name, module)
        for name, path in modules.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in [*(alias.name for alias in node.names), getattr(node, "module", None) or ""]
        if module.rpartition(".")[2] in modules
    ]
    assert not imported


def test_weights_are_installed(source: Path, tmp_path: Path) -> None:
    weights = [path.relative_to(ROOT) for path in ROOT.glob("*/weights/*") if path.is_file()]
    if not weights:
        pytest.skip("the repository holds no weights")
    build(source, "setup.py", "--quiet", "build", "--build-base", str(tmp_path))
    assert all((tmp_path / "lib" / path).is_file() for path in weights)
