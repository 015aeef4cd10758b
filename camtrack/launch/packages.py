"""Where packages lie, with and without a ROS installation."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

from camtrack_core.errors import ConfigurationError


class LaunchError(ConfigurationError):
    """A launch file that cannot be carried out as it stands."""


def prefixes() -> list[Path]:
    """Where packages may be installed: the ament prefixes, then this Python's own."""
    return [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if p] + [Path(sys.prefix)]


def find_prefix(package: str) -> Path:
    """The prefix that a package is installed under. Raises LaunchError."""
    for prefix in prefixes():
        if (prefix / "share" / package).is_dir():
            return prefix
    raise LaunchError(f"package '{package}' has no share folder in {', '.join(map(str, prefixes()))}")


def find_share(package: str) -> Path:
    """The share folder of a package. Raises LaunchError."""
    return find_prefix(package) / "share" / package


def find_executable(package: str, name: str) -> tuple[str, ...]:
    """The command for an executable: lib/<package>/<name>, else the console script. Raises LaunchError."""
    for prefix in prefixes():
        if (prefix / "lib" / package / name).is_file():
            return (str(prefix / "lib" / package / name),)
    for script in entry_points(group="console_scripts", name=name):
        if script.dist is not None and script.dist.name.replace("-", "_") == package:
            start = f"import sys; sys.argv[0] = {name!r}; from {script.module} import {script.attr} as main"
            return sys.executable, "-c", f"{start}; sys.exit(main())"
    raise LaunchError(f"package '{package}' has no executable '{name}' in lib/ or as console script")
