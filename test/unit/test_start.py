"""Entry points of nodes: what goes wrong before they are up is a line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from camtrack.start import INTERRUPTED, main_autoware, start
from camtrack_core.stopping import CANNOT_START

# As compiled modules do that a signal meets while they are imported.
INTERRUPTED_IMPORT = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
except BaseException as interrupt:
    raise ImportError("initialization failed") from interrupt
"""


@pytest.fixture(autouse=True)
def usual_interrupt() -> Iterator[None]:
    """Ctrl-C as a shell sets it: who runs the tests in the background may ignore it, as does a start that it ended."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("code", "exit_code", "words"),
    [
        ("def main():\n    return 5", 5, ""),
        ("raise KeyboardInterrupt", INTERRUPTED, "node_of_test: interrupted while it started"),
        ("def main():\n    raise KeyboardInterrupt", INTERRUPTED, "node_of_test: interrupted while it started"),
        (INTERRUPTED_IMPORT, INTERRUPTED, "node_of_test: interrupted while it started"),
        ("import no_such_package", CANNOT_START, "node_of_test: cannot be imported: No module named 'no_such_package'"),
    ],
)
def test_importing_a_node(
    code: str, exit_code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "node_of_test.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "node_of_test", raising=False)
    assert start("node_of_test") == exit_code
    said = capsys.readouterr().err
    assert said.startswith(words) and said.count("\n") == bool(words)


def test_autowares_node_says_in_a_sentence_that_its_messages_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("autoware_perception_msgs", "autoware_perception_msgs.msg"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("pkf_filter.ros.autoware", "pkf_filter.ros.autoware_messages"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert main_autoware() == CANNOT_START
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "autoware_perception_msgs" in said and "rosdep install" in said
