"""What all tests share: the environment of a camtrack process and the folder of the data sets."""

import os
import signal
import subprocess
import sys
import zlib
from itertools import groupby, zip_longest
from pathlib import Path

import hypothesis
import pytest
from skip_helpers import unexpected_skips

ROOT = Path(__file__).resolve().parents[1]
HIGHEST_DOMAIN = 100  # the largest id whose ports lie below the range that the kernel hands out


def own_domain() -> int:
    """Return a ROS domain for this process: equal for no two workers of a run, and seldom for two runs."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return 1 + (zlib.crc32(run.encode()) + worker) % HIGHEST_DOMAIN


def process_environment() -> dict[str, str]:
    """Return the environment that ``config/environment.sh`` makes of the present one."""
    command = ["bash", "-c", f". '{ROOT}/config/environment.sh' && env -0"]
    environment = dict(os.environ)
    if sys.prefix != sys.base_prefix:
        environment["VIRTUAL_ENV"] = sys.prefix
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return dict(entry.split("=", 1) for entry in output.split("\0") if entry)


# What starts the tests, as nohup or a shell in the background, may ignore signals that their processes are to heed.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# At import, before any test module can initialise rclpy.
os.environ.update(process_environment())
os.environ["ROS_DOMAIN_ID"] = str(own_domain())


# What says nothing of its own about a machine: quick, without data sets, network or other processes.
FAST = ("unit",)
# Whose tests start processes and wait for them.
WAITING = ("e2e", "launch", "nodes")


def room(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT / "test").parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if room(item) in FAST and "data_root" not in getattr(item, "fixturenames", ()):
            item.add_marker("fast")
    items[:] = mixed(items)


def mixed(items: list[pytest.Item]) -> list[pytest.Item]:
    """Files of tests that wait alternate with files of those that compute, so that nobody's core is idle.

    The files of the fast room are left for the end, where short ones keep all processes busy to the last.
    """
    files = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    waiting = [tests for tests in files if room(tests[0]) in WAITING]
    computing = sorted((tests for tests in files if tests not in waiting), key=lambda tests: room(tests[0]) in FAST)
    return [test for pair in zip_longest(waiting, computing, fillvalue=[]) for tests in pair for test in tests]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than processors: of the tests that run at a time some wait."""
    return len(os.sched_getaffinity(0)) + 1


# Where nobody looks at what was skipped, an unexpected skip is a failure, and not one that a second try could mend.
UNEXPECTED_SKIPS = 10  # exit code
_skipped: dict[str, str] = {}


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped[report.nodeid] = str(report.longrepr)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note_skip(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not os.environ.get("CAMTRACK_NO_OTHER_SKIPS") or hasattr(session.config, "workerinput"):
        return
    if unexpected := unexpected_skips(_skipped, (ROOT / "test" / "allowed_skips.txt").read_text()):
        print("\nskipped, though test/allowed_skips.txt does not say so:", *unexpected, sep="\n  ")
        session.exitstatus = UNEXPECTED_SKIPS


# No test asserts a time: a busy machine, or a first call that compiles, is not a failure.
hypothesis.settings.register_profile("camtrack", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("camtrack")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of the data sets, $CAMTRACK_DATA or shared/data beside the repository."""
    folder = Path(os.environ.get("CAMTRACK_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data sets: {folder} is no folder; set CAMTRACK_DATA")
    return folder
