"""What the documentation says of the repository is there, and the picture of the house leaves no room out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
TREE = TEXT.split("```")[1].strip().splitlines()
FILES = [
    str(file.relative_to(ROOT))
    for pattern in ("*.md", "*/**/*.*")
    for file in ROOT.glob(pattern)
    if not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
]
FOLDERS = {part for file in FILES for part in Path(file).parts[:-1]}
PACKAGES = sorted(path.parent for path in ROOT.glob("*/__init__.py"))


def drawn() -> dict[str, set[str]]:
    """Names in the left column of the picture by the folder that they stand in."""
    found: dict[str, set[str]] = {}
    folder = ""
    for line in TREE:
        indent = len(line) - len(line.lstrip())
        names = re.split(r" {3,}", line.strip())[0].split()
        if indent == 0:
            found.setdefault("", set()).update(names)
            folder = names[0].rstrip("/")
        elif indent == 2:
            found.setdefault(folder, set()).update(names)
    return found


def stands(folder: Path, name: str) -> bool:
    return (
        (folder / name).is_dir()
        if name.endswith("/")
        else (folder / name).is_file() or (folder / f"{name}.py").is_file()
    )


def test_everything_in_the_picture_is_there() -> None:
    missing = [
        f"{folder}/{name}" for folder, names in drawn().items() for name in names if not stands(ROOT / folder, name)
    ]
    assert len(drawn()) > 5 and not missing


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_room_is_in_the_picture(package: Path) -> None:
    rooms = {f"{init.parent.name}/" for init in package.glob("*/__init__.py")}
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    in_picture = drawn()[package.name]
    assert rooms <= in_picture
    if package.name.endswith("_tracker"):  # the way through a method is drawn file by file
        assert modules - {"cli"} <= in_picture


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")) + sorted(ROOT.glob("*.md")), ids=lambda p: p.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    """Those of the repository: a name may leave out the folders before it."""
    named = set(re.findall(r"`([\w.-]+/[\w./-]*\w\.(?:py|yaml|xml|md|txt))`", page.read_text()))
    named = {name for name in named if name.partition("/")[0] in FOLDERS}
    missing = [name for name in sorted(named) if not any(file == name or file.endswith(f"/{name}") for file in FILES)]
    assert not missing


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")) + sorted(ROOT.glob("*.md")), ids=lambda p: p.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s#]+)", page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]
