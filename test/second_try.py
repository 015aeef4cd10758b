"""Runs the failed tests of the last run once more, one after another, where all of them are tests of whole processes.

Those share the machine's cores with the rest of the suite, and on a busy one a process may be late beyond any patience.
What fails alone too is a failure; what does not is named, so that its cause can be looked for. A failure in any other
room has nothing to do with the machine and is not tried again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOMS = ("test/e2e/", "test/launch/", "test/nodes/", "test/data/test_cluster.py")
LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")  # written by pytest


def worth_trying(failed: list[str]) -> bool:
    """Whether there are failed tests, given by their ids, and all of them start processes."""
    return bool(failed) and all(name.startswith(ROOMS) for name in failed)


def main() -> int:
    failed = sorted(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.exists() else []
    if not worth_trying(failed):
        return int(pytest.ExitCode.TESTS_FAILED)
    code = int(pytest.main([*failed]))
    if code == 0:
        print("failed beside other tests and passed alone:", *failed, sep="\n  ")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
