"""Files that are whole or absent, and folders that nothing is lost in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from camtrack_core.errors import DataError
from camtrack_core.files import new_folder, whole, write_whole


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), whole(path) as partial:
        partial.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that survives a power cut: content, name, folder."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(number: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{number}") else "content")
        fsync(number)

    def renamed(self: Path, target: Path) -> Path:
        done.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_whole(tmp_path / "a", b"x")
    assert done == ["content", "name", "folder"]


def test_a_new_run_gets_a_new_folder(tmp_path: Path) -> None:
    made = []
    for _ in range(3):
        made.append(new_folder(tmp_path / "run"))
        (made[-1] / "file").touch()
    assert made == [tmp_path / "run", tmp_path / "run-2", tmp_path / "run-3"]


def test_only_what_would_be_written_takes_a_folder(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    assert new_folder(tmp_path, ("a", "b")) == tmp_path
    (tmp_path / "b").symlink_to("nowhere")
    assert new_folder(tmp_path, ("a", "b")) == tmp_path.with_name(f"{tmp_path.name}-2")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write to .*file"):
        new_folder(tmp_path / "file")
