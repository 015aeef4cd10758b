"""The locked requirements are those of setup.cfg, each pinned and with the hashes of its files."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements/runtime.txt").read_text()
ENTRIES = [entry for entry in re.split(r"\n(?=[a-z0-9])", LOCK) if not entry.startswith("#")]
PINS = {canonicalize_name(entry.partition("==")[0]): entry for entry in ENTRIES}


def extra(name: str) -> list[Requirement]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = (line.partition("#")[0].strip() for line in parser["options.extras_require"][name].splitlines())
    asked = [Requirement(line) for line in lines if line]
    own = [requirement for requirement in asked if requirement.name == "camtrack"]  # other extras of this package
    others = [one for requirement in own for name in requirement.extras for one in extra(name)]
    return [requirement for requirement in asked if requirement not in own] + others


@pytest.mark.parametrize("requirement", [*extra("demo"), *extra("ros")], ids=str)
def test_what_setup_cfg_asks_for_is_locked(requirement: Requirement) -> None:
    pin = PINS[canonicalize_name(requirement.name)]
    version = pin.partition("==")[2].split()[0]
    assert requirement.specifier.contains(version)


def test_every_file_has_its_hash() -> None:
    assert len(PINS) > 30
    for entry in ENTRIES:
        assert re.match(r"[a-z0-9._-]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
    assert "://" not in LOCK.replace("https://pip.pypa.io", "")  # no index and no file but those of the registry
