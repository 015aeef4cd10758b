"""The live table of a running system: what the latest diagnostics say."""

from __future__ import annotations

from types import SimpleNamespace

from rich.console import Console

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
    console.print(table.table())
    text = console.export_text()
    assert "front/gcnet_tracker" in text and "24" in text and "late: 2" in text
    assert "no image on /rear/image for 3 s [x/]" in text  # a node's words are no markup
    assert table.latest["/rear/gcnet_tracker"][0] is Level.STALE


def test_names_lose_the_namespace_that_all_share() -> None:
    assert short_names(["/camera/a", "/camera/b"]) == {"/camera/a": "a", "/camera/b": "b"}
    assert short_names(["/front/a", "/rear/a", "/b"]) == {"/front/a": "front/a", "/rear/a": "rear/a", "/b": "b"}
    assert short_names([]) == {}
