"""The start script: help, its sentences for machines that lack something, and that it installs only once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = """bash cat chmod cp cut dirname env find flock ln mkdir mktemp printf rm sed sha256sum sort tail tee uname
xargs""".split()
PYTHON = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"

# Stands for Python: makes an empty virtual environment and writes down what pip is asked for.
FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
  -c*version_info*) echo 3.12 ;;
  -c*numpy*) echo numpy==1.26.4 ;;
  -) echo "${MISSING_ROS_PACKAGES:-}" ;;
  "-m venv "*)
    venv="${*: -1}"
    mkdir -p "$venv/bin"
    cp "$0" "$venv/bin/python"
    printf '#!/usr/bin/env bash\\necho "camtrack $*"\\n' >"$venv/bin/camtrack"
    chmod +x "$venv/bin/camtrack"
    echo "$*" >>"$CALLS"
    ;;
  "-m camtrack.compile_kernels") echo "$PWD" >"$CALLS.compiled" ;;
  *"pip install"*)
    echo "$*" >>"$CALLS"
    if [ -n "${KILL_PIP:-}" ]; then kill -KILL 0; fi  # run, and all that it started
    exit "${PIP_STATUS:-0}"
    ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of what ``run`` reads."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("run", "setup.py", "setup.cfg", "package.xml"):
        shutil.copy2(ROOT / name, clone)
    for name in ("interfaces", "config", "resource"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    return clone


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a folder with the few programs that ``run`` uses: neither Python nor a compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, f"{tool} is not installed"
        (folder / tool).symlink_to(found)
    return folder


@pytest.fixture
def calls(path: Path, tmp_path: Path) -> Path:
    """Put the stand-in for Python on the path; return the file that lists what it was asked to do."""
    fake = path / "python3"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    return tmp_path / "calls"


def start(clone: Path, path: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Start ``run`` with nothing in its environment but ``path`` and ``extra``."""
    scratch = str(clone.parent)
    env = {
        "PATH": str(path),
        "HOME": scratch,
        "XDG_CACHE_HOME": f"{scratch}/cache",
        "CALLS": f"{scratch}/calls",
    }
    return subprocess.run(
        [clone / "run", *arguments],
        env=env | extra,
        capture_output=True,
        text=True,
        timeout=500,
        start_new_session=True,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_lists_the_commands_and_installs_nothing(clone: Path, path: Path, arguments: list[str]) -> None:
    done = start(clone, path, *arguments)
    assert done.returncode == 0
    assert "./run demo" in done.stdout and "./run test" in done.stdout
    assert not (clone / ".venv").exists()


def test_missing_python_is_told_in_a_sentence(clone: Path, path: Path) -> None:
    done = start(clone, path, "demo")
    assert done.returncode == 1
    assert "no Python 3.10 to 3.13 found" in done.stderr
    assert "CAMTRACK_PYTHON" in done.stderr


def make_it_a(path: Path, processor: str) -> None:
    """Let `uname -m` name another processor."""
    real = (path / "uname").resolve()
    (path / "uname").unlink()
    (path / "uname").write_text(f'#!/usr/bin/env bash\n[ "$*" = -m ] && echo {processor} || exec {real} "$@"\n')
    (path / "uname").chmod(0o755)


def test_a_processor_without_wheels_is_told_before_anything_is_made(clone: Path, path: Path, calls: Path) -> None:
    make_it_a(path, "aarch64")
    done = start(clone, path, "demo")
    assert done.returncode == 1
    assert "no wheels of the ROS 2 client library for aarch64" in done.stderr
    assert "source /opt/ros/jazzy/setup.bash" in done.stderr and "ros:jazzy" in done.stderr
    assert not calls.exists() and not (clone / ".venv").exists()


def test_too_old_python_is_told_in_a_sentence(clone: Path, path: Path) -> None:
    old = path / "python3"
    old.write_text("#!/usr/bin/env bash\necho 3.8\n")
    old.chmod(0o755)
    done = start(clone, path, "demo")
    assert done.returncode == 1
    assert "python3 is 3.8" in done.stderr


def test_missing_venv_module_is_told_in_a_sentence(clone: Path, path: Path) -> None:
    bare = path / "python3"
    bare.write_text('#!/usr/bin/env bash\ncase "$*" in *version_info*) echo 3.12 ;; *) exit 1 ;; esac\n')
    bare.chmod(0o755)
    done = start(clone, path, "demo")
    assert done.returncode == 1
    assert "apt install python3.12-venv" in done.stderr


@pytest.mark.skipif(not PYTHON.is_file(), reason=f"{PYTHON} is not installed")
@pytest.mark.skipif(not 10 <= sys.version_info.minor <= 13, reason="this Python is not one that run accepts")
def test_missing_compiler_is_told_in_a_sentence(clone: Path, path: Path) -> None:
    done = start(clone, path, "demo", CAMTRACK_PYTHON=str(PYTHON))
    assert done.returncode == 1
    assert "no C++ compiler found" in done.stderr
    assert "apt install g++" in done.stderr


def test_the_kernels_that_are_compiled_are_those_of_this_clone(clone: Path, path: Path, calls: Path) -> None:
    """From wherever it is called: Python's -m prefers what lies in the present folder."""
    assert start(clone, path, "demo").returncode == 0
    assert (clone.parent / "calls.compiled").read_text() == f"{clone}\n"


def test_second_start_installs_nothing(clone: Path, path: Path, calls: Path) -> None:
    first = start(clone, path, "demo", "--frames", "3")
    assert first.returncode == 0, first.stderr
    assert first.stdout == "camtrack demo --frames 3\n"
    installed = calls.read_text()
    assert installed.startswith("-m venv") and "[demo,ros]" in installed and "torch" not in installed

    second = start(clone, path, "camtrack", "--version")
    assert second.stdout == "camtrack --version\n"
    assert second.stderr == ""
    assert calls.read_text() == installed


@pytest.mark.parametrize("changed", ["setup.cfg", "interfaces/vision_msgs/msg/Point2D.msg"])
def test_changed_requirements_are_installed(clone: Path, path: Path, calls: Path, changed: str) -> None:
    start(clone, path, "demo")
    before = calls.read_text().splitlines()
    with (clone / changed).open("a") as file:
        file.write("# changed\n")
    start(clone, path, "demo")
    added = calls.read_text().splitlines()[len(before) :]
    assert added and all(call.startswith("-m pip install") for call in added)


def test_killed_installation_is_started_afresh(clone: Path, path: Path, calls: Path) -> None:
    start(clone, path, "demo", KILL_PIP="1")
    assert (clone / ".venv/.camtrack/installing").exists()
    done = start(clone, path, "demo")
    assert done.returncode == 0, done.stderr
    assert calls.read_text().count("-m venv") == 2


def test_failed_installation_is_reported_and_tried_again(clone: Path, path: Path, calls: Path) -> None:
    failed = start(clone, path, "demo", PIP_STATUS="1")
    assert failed.returncode == 1
    assert f"the full log is {clone}/.venv.log" in failed.stderr
    assert start(clone, path, "demo").returncode == 0


def test_unknown_command_is_told_in_a_sentence(clone: Path, path: Path, calls: Path) -> None:
    done = start(clone, path, "no_such_command")
    assert done.returncode == 1
    assert "no command named no_such_command" in done.stderr


def test_processes_get_the_environment_of_ros(clone: Path, path: Path, calls: Path) -> None:
    start(clone, path, "demo")
    done = start(clone, path, "env", _ROS_WHEELS_BOOTSTRAP_COMPLETE="1", LD_LIBRARY_PATH="/elsewhere")
    env = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert env["AMENT_PREFIX_PATH"] == env["VIRTUAL_ENV"] == str(clone / ".venv")
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        assert Path(env[name]).samefile(clone / "config/fastdds.xml")
    assert env["MALLOC_MMAP_THRESHOLD_"] == str(32 * 2**20)
    assert "LD_LIBRARY_PATH" not in env


def test_package_is_linked_where_ament_looks(clone: Path, path: Path, calls: Path) -> None:
    start(clone, path, "demo")
    venv = clone / ".venv"
    assert (venv / "share/camtrack/package.xml").samefile(clone / "package.xml")
    assert (venv / "share/camtrack/config").samefile(clone / "config")
    assert (venv / "share/ament_index/resource_index/packages/camtrack").exists()
    assert os.readlink(venv / "lib/camtrack/camtrack") == str(venv / "bin/camtrack")


def test_what_nothing_here_loads_is_removed_and_copies_become_links(clone: Path, path: Path, calls: Path) -> None:
    """The environment holds what its wheels bring; installing into it again leaves what the nodes need."""
    start(clone, path, "demo")
    site = clone / ".venv/lib/python3.12/site-packages"
    needed = ["openvino/libs/libopenvino_intel_cpu_plugin.so", "openvino/libs/libopenvino_onnx_frontend.so.2641",
              "numba/core/types.py", "numpy/_core/tests/_natype.py", "hypothesis/tests/kept.py",
              "scipy/optimize/__init__.py", "torch/include/torch.h"]  # fmt: skip
    removed = ["openvino/libs/libopenvino_intel_gpu_plugin.so", "openvino/libs/libopenvino_jax_frontend.so.2641",
               "numba/tests/test_dicts.py", "numpy/lib/tests/test_io.py", "numpy/lib/tests/data/py3.npy",
               "scipy/io/tests/test_arff.py", "sensor_msgs/msg/_image_s.c", "numba/_helperlib.h"]  # fmt: skip
    copies = [clone / f".venv/lib/libfastrtps.so{end}" for end in ("", ".2", ".2.14")]
    for file in [*(site / name for name in needed + removed), *copies, copies[0].with_name("libother.so")]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((b"library" if file in copies else bytes(file)) * 20_000)
    with (clone / "setup.cfg").open("a") as file:
        file.write("# changed\n")
    done = start(clone, path, "demo")
    assert done.returncode == 0, done.stderr
    assert [name for name in needed if not (site / name).is_file()] == []
    assert [name for name in removed if (site / name).exists()] == []
    assert len({file.stat().st_ino for file in copies}) == 1 and copies[2].read_bytes() == b"library" * 20_000
    assert copies[0].with_name("libother.so").stat().st_nlink == 1


@pytest.mark.parametrize(("failing", "said"), [("", ""), ("mypy", "failed: [linters]"), ("pytest", "failed: [tests]")])
def test_what_fails_of_tests_and_linters_is_named(
    clone: Path, path: Path, calls: Path, failing: str, said: str
) -> None:
    """The linters run beside the tests; all are heard of, whichever fails."""
    tools = ("ruff", "mypy", "lint-imports", "pytest")
    for name in tools:
        (path / name).write_text(f'#!/usr/bin/env bash\necho "{name} $*"\n[ {name} != "${{FAILING:-}}" ] || exit 2\n')
        (path / name).chmod(0o755)
    done = start(clone, path, "test", "--fast", FAILING=failing)
    assert done.returncode == bool(failing) and said in done.stderr
    heard = done.stdout.splitlines()
    assert {line.partition(" ")[0] for line in heard if not line.startswith("---")} == {*tools}
    assert any(line.startswith("pytest -n auto") and line.endswith("-m fast test/unit") for line in heard)


def test_every_installed_python_is_tried_in_a_clone(clone: Path, path: Path, calls: Path) -> None:
    (path / "git").write_text('#!/usr/bin/env bash\ncp -r "$3" "$4"\n')  # git clone --quiet FROM TO
    (path / "git").chmod(0o755)
    (path / "python3").rename(path / "python3.12")
    temporary = clone.parent / "temporary"
    temporary.mkdir()
    done = start(clone, path, "test", "--pythons", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert "Python 3.11: not installed, not tried" in done.stderr
    assert "Python 3.12: the demo and the fast tests pass" in done.stderr
    made, *_, last = calls.read_text().splitlines()
    assert made.startswith(f"-m venv {temporary}") and last.endswith("/camtrack[fast]")
    assert not (clone / ".venv").exists() and not [*temporary.iterdir()]

    failed = start(clone, path, "test", "--pythons", TMPDIR=str(temporary), PIP_STATUS="1")
    assert failed.returncode == 1 and "Python 3.12: failed" in failed.stderr


@pytest.fixture
def ros_host(path: Path, calls: Path) -> dict[str, str]:
    """Make the machine look as if ROS 2 were installed and sourced; return its variables."""
    (path / "ros2").symlink_to(path / "env")
    return {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": "/opt/ros/jazzy"}


def test_ros_host_keeps_its_own_packages(clone: Path, path: Path, calls: Path, ros_host: dict[str, str]) -> None:
    done = start(clone, path, "env", **ros_host)
    assert done.returncode == 0, done.stderr
    assert f"AMENT_PREFIX_PATH={clone}/.venv-jazzy:/opt/ros/jazzy\n" in done.stdout
    made, installed, *_ = calls.read_text().splitlines()
    assert made == f"-m venv --system-site-packages {clone}/.venv-jazzy"
    assert installed.endswith(f"--editable {clone}[demo]")
    assert (clone / ".venv-jazzy/.camtrack/constraints.txt").read_text() == "numpy==1.26.4\n"


def test_ros_host_needs_no_wheels(clone: Path, path: Path, calls: Path, ros_host: dict[str, str]) -> None:
    make_it_a(path, "aarch64")
    done = start(clone, path, "demo", **ros_host)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "camtrack demo\n"


def test_ros_host_without_a_message_package_is_told(clone: Path, path: Path, ros_host: dict[str, str]) -> None:
    done = start(clone, path, "demo", MISSING_ROS_PACKAGES="vision_msgs", **ros_host)
    assert done.returncode == 1
    assert "cannot import: vision_msgs" in done.stderr
    assert "rosdep install" in done.stderr
