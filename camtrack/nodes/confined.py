"""Parameters that name files: any node of the domain may set them, so that they are kept below a root."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter

ROOT = "root"


def confine(node: Any, name: str, files_of: Callable[[str], Iterable[Path]]) -> None:
    """Lets a parameter be changed only to what names files below the root.

    The root is what the parameter `root` said when the node was started or, where it says nothing, what the parameter
    itself named then.

    Args:
        node: that has both parameters.
        name: of the parameter.
        files_of: the files and folders, resolved, that a value names.
    """
    said, first = node.get_parameter(ROOT).value, node.get_parameter(name).value
    roots = [Path(said).resolve()] if said else list(files_of(first)) if first else []

    def judge(changes: list[Parameter]) -> SetParametersResult:
        for change in changes:
            if change.name == ROOT:
                return SetParametersResult(successful=False, reason=f"{ROOT}: read at the start only")
            if change.name == name and not all(_is_below(path, roots) for path in files_of(str(change.value))):
                below = " or ".join(map(str, roots)) or f"the parameter {ROOT}, which is not set"
                reason = f"{name}: expected what lies below {below}, got {change.value!r}"
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(judge)


def _is_below(path: Path, roots: list[Path]) -> bool:
    return any(path == root or root in path.parents for root in roots)


def folder_of(value: str) -> list[Path]:
    """The folder that a value names."""
    return [Path(value).resolve()]
