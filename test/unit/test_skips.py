"""A test that is skipped where nobody looks is a failure."""

from second_try import worth_trying
from skip_helpers import unexpected_skips

ALLOWED = """# why
test/e2e/test_launch_host.py    needs a host
"""


def test_only_what_the_list_names_may_be_skipped() -> None:
    skipped = {
        "test/e2e/test_launch_host.py": "no launch",
        "test/e2e/test_launch_host.py::test_a": "no launch",
        "test/data/test_report.py::test_the_page": "no Chromium",
    }
    assert unexpected_skips(skipped, ALLOWED) == ["test/data/test_report.py::test_the_page: no Chromium"]
    assert unexpected_skips({}, ALLOWED) == []
    assert len(unexpected_skips(skipped, "# nothing may\n")) == 3


def test_only_tests_of_processes_get_a_second_try() -> None:
    process, plain = "test/e2e/faults/test_camera_faults.py::test_a", "test/unit/test_update.py::test_b"
    assert worth_trying([process, "test/nodes/test_x.py::test_c"])
    assert not worth_trying([process, plain])
    assert not worth_trying([])
