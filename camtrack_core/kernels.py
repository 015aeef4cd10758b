"""How numeric kernels are compiled by numba: once, cached on disk.

Numba looks for a change only in the file of the cached function, but the cached code contains the functions of other
files that it calls. So the cache lies in a folder named after the content of all files of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba

_config: Any = numba.config  # its attributes come from the environment, unknown to type checkers


def compiler(package: Path, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for the kernels of a package.

    Args:
        package: folder of the files with the kernels and all that they call. Where it cannot be written, numba falls
            back to the user's cache.
        options: of numba.njit.
    """
    content = sha256(b"".join(path.read_bytes() for path in sorted(package.glob("*.py")))).hexdigest()[:16]

    def compiled(function: Callable[..., Any]) -> Any:
        chosen = _config.CACHE_DIR
        _config.CACHE_DIR = str(Path(chosen or package / "__pycache__") / f"kernels-{content}")
        try:
            return numba.njit(cache=True, **options)(function)
        finally:
            _config.CACHE_DIR = chosen

    return compiled
