"""How the numeric kernels are compiled: once, cached on disk, with IEEE division instead of Python's exceptions.

Numba looks for a change only in the file of the cached function, but the cached code contains the functions of other
files that it calls. So the cache lies in a folder named after the content of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba.extending import intrinsic

_PACKAGE = Path(__file__).parent
_SOURCES = [path.read_bytes() for path in sorted(_PACKAGE.glob("*.py"))]
_CONTENT = sha256(b"".join(source for source in _SOURCES if b"pkf_filter.compiled" in source)).hexdigest()[:16]
_config: Any = numba.config  # its attributes come from the environment, unknown to type checkers


def compiled(function: Callable[..., Any]) -> Any:
    """The function as a kernel; where the folder cannot be written, numba falls back to the user's cache."""
    chosen = _config.CACHE_DIR
    _config.CACHE_DIR = str(Path(chosen or _PACKAGE / "__pycache__") / f"kernels-{_CONTENT}")
    try:
        return numba.njit(cache=True, error_model="numpy")(function)
    finally:
        _config.CACHE_DIR = chosen


@intrinsic
def count_ones(_: Any, subset: Any) -> Any:
    """Number of elements of a subset (int64): one instruction, which numba has no name for."""
    return subset(subset), lambda _, builder, __, values: builder.ctpop(values[0])


@intrinsic
def lowest_element(_: Any, subset: Any) -> Any:
    """Position of the lowest bit of a non-empty subset (int64)."""
    return subset(subset), lambda context, builder, __, values: builder.cttz(
        values[0], context.get_constant(numba.types.boolean, True)
    )
