"""The live table of a running system: what the latest diagnostics say."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from rich.console import Console

from camtrack import live
from camtrack.live import DiagnosticsTable, short_names
from camtrack_core.monitor import Level


def status(name: str, level: Level, message: str, **values: str) -> SimpleNamespace:
    pairs = [SimpleNamespace(key=key.replace("__", "."), value=value) for key, value in values.items()]
    return SimpleNamespace(status=[SimpleNamespace(name=name, level=bytes([level]), message=message, values=pairs)])


def test_the_table_shows_the_latest_of_each_node() -> None:
    table = DiagnosticsTable()
    table.take(status("/front/gcnet_tracker", Level.OK, "active, 1.0 Hz", state="active", processed="1"))
    table.take(status("/front/gcnet_tracker", Level.WARN, "dropped 2", state="active", processed="24", drops__late="2"))
    table.take(status("/rear/gcnet_tracker", Level.STALE, "no image on /rear/image for 3 s [x/]", state="active"))
    console = Console(width=160, record=True)
    console.print(table.details())
    text = console.export_text()
    assert "front/gcnet_tracker" in text and "24" in text and "late: 2" in text
    assert "no image on /rear/image for 3 s [x/]" in text  # a node's words are no markup
    assert table.latest["/rear/gcnet_tracker"][0] is Level.STALE


def test_the_summary_is_a_line_a_node_in_sixty_columns() -> None:
    table = DiagnosticsTable()
    stages = {"latency__age__p50_ms": "12.34", "latency__inference__p50_ms": "31.60", "latency__resize__p50_ms": "0.9"}
    drops = {"drops__late stamp": "2", "drops__overwritten unseen": "1200"}
    table.take(status("/front/gcnet_tracker", Level.WARN, "dropped 2 " * 9, rate_hz="19.9", **stages, **drops))
    table.take(status("/a_long_namespace/of_a_camera/time3d_tracker", Level.STALE, "", latency__track__p50_ms="1560.2"))
    table.take(status("/pkf_filter", Level.ERROR, "", rate_hz="10.0"))
    console = Console(width=60, record=True, no_color=True)
    console.print(table.summary())
    header, *lines = console.export_text().splitlines()
    assert header.split() == ["node", "level", "rate", "Hz", "age", "ms", "graph", "ms", "drops"]
    assert [line.split() for line in lines] == [
        ["a_long_namespace/of_a…", "STALE", "1560", "0"],
        ["front/gcnet_tracker", "WARN", "19.9", "12", "32", "1202"],
        ["pkf_filter", "ERROR", "10.0", "0"],
    ]
    wide = Console(width=200, record=True)
    wide.print(table.summary())
    assert max(len(line.rstrip()) for line in wide.export_text().splitlines()) <= 60


def test_what_strangers_say_on_the_same_topic_is_shown_as_it_is() -> None:
    table = DiagnosticsTable()
    words = {"drops__rx": "many", "drops__tx": "7", "latency__age__p50_ms": "soon", "rate_hz": "[/]", "tracks": "[x/]"}
    table.take(status("/driver[b]", 9, "[/red]", **words))  # type: ignore[arg-type]
    for draw in (table.summary, table.details):
        console = Console(width=160, record=True)
        console.print(draw())
        text = console.export_text()
        assert "[/]" in text and "driver[b]" in text and "soon" in text and "7" in text
    assert table.latest["/driver[b]"][0] is Level.ERROR


def test_names_lose_the_namespace_that_all_share() -> None:
    assert short_names(["/camera/a", "/camera/b"]) == {"/camera/a": "a", "/camera/b": "b"}
    assert short_names(["/front/a", "/rear/a", "/b"]) == {"/front/a": "front/a", "/rear/a": "rear/a", "/b": "b"}
    assert short_names([]) == {}


@contextmanager
def interrupted(name: str) -> Iterator[None]:
    """As compiled modules do that Ctrl-C meets while they are imported."""
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException as interrupt:
        raise ImportError("initialization failed") from interrupt
    yield


def test_ctrl_c_ends_the_table_in_the_middle_of_an_import_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as a shell sets it
    monkeypatch.setattr(live, "listening", interrupted)
    try:
        live.show(Console(), DiagnosticsTable.summary)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(SystemExit, match="130"):
            live.snapshot()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_import_that_fails_by_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def missing(name: str) -> Iterator[None]:
        raise ImportError("No module named 'rclpy'")
        yield

    monkeypatch.setattr(live, "listening", missing)
    with pytest.raises(ImportError, match="rclpy"):
        live.show(Console(), DiagnosticsTable.summary)
