"""A test that is skipped where nobody looks is a failure."""

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
