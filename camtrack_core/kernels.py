"""How numeric kernels are compiled by numba: once, cached on disk.

Numba looks for a change only in the file of the cached function, but the cached code contains the functions and
constants of other files that it uses. So what a file compiles lies in a folder of its own, named after the content of
the file and of all that it imports.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba

_config: Any = numba.config  # its attributes come from the environment, unknown to type checkers
_GROUND = __name__.partition(".")[0]
_KERNELS: list[Any] = []  # all that were declared in this process


def compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for kernels, with the options of numba.njit.

    Compiled code is kept beside the source, or under NUMBA_CACHE_DIR where that is set; what an older version of the
    file left beside the source is removed. Where the folder cannot be written, numba falls back to the user's cache.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        chosen = _config.CACHE_DIR
        _config.CACHE_DIR = _cache_folder(function.__code__.co_filename, function.__module__, chosen)
        try:
            _KERNELS.append(numba.njit(cache=True, **options)(function))
            return _KERNELS[-1]
        finally:
            _config.CACHE_DIR = chosen

    return compiled


def uncompiled() -> list[str]:
    """Modules of which kernels were declared in this process and none lies compiled on disk."""
    compiled = {k.py_func.__module__: False for k in _KERNELS}
    for kernel in _KERNELS:
        folder = Path(kernel.stats.cache_path)
        compiled[kernel.py_func.__module__] |= folder.is_dir() and any(folder.glob("*.nbc"))
    return [module for module, any_compiled in compiled.items() if not any_compiled]


@cache
def _cache_folder(file: str, module: str, chosen: str) -> str:
    path = Path(file)
    name = f"kernels-{path.stem}-{_content(path, module)}"
    if chosen:
        return str(Path(chosen) / name)
    beside = path.parent / "__pycache__"
    for old in beside.glob(f"kernels-{path.stem}-*"):
        if len(old.name) == len(name) and old.name != name:  # not those of a file whose name goes on after the dash
            shutil.rmtree(old, ignore_errors=True)
    return str(beside / name)


def _content(path: Path, module: str) -> str:
    """A hash of a file and of all that it imports from its own package and the ground floor, directly or not."""
    root, packages = path.parents[module.count(".")], (module.partition(".")[0], _GROUND)
    found, left = {path}, [path]
    while left:
        for imported in _imported(left.pop()):
            if imported.partition(".")[0] in packages:
                place = root.joinpath(*imported.split("."))
                for file in {place.with_suffix(".py"), place / "__init__.py"} - found:
                    if file.is_file():
                        found.add(file)
                        left.append(file)
    digest = sha256()
    for file in sorted(found):
        digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _imported(path: Path) -> tuple[str, ...]:
    """Names of what a file imports, of which some are modules and others what modules hold."""

    def names() -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{name.name}" for name in node.names)

    return tuple(names())
