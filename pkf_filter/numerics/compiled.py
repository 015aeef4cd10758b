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
import numpy as np
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

_PACKAGE = Path(__file__).parents[1]
_SOURCES = [path.read_bytes() for path in sorted(_PACKAGE.rglob("*.py"))]
_CONTENT = sha256(b"".join(source for source in _SOURCES if b"pkf_filter.numerics.compiled" in source)).hexdigest()[:16]
_config: Any = numba.config  # its attributes come from the environment, unknown to type checkers


def compiled(function: Callable[..., Any]) -> Any:
    """The function as a kernel; where the folder cannot be written, numba falls back to the user's cache."""
    chosen = _config.CACHE_DIR
    _config.CACHE_DIR = str(Path(chosen or _PACKAGE / "__pycache__") / f"kernels-{_CONTENT}")
    try:
        return numba.njit(cache=True, error_model="numpy")(function)
    finally:
        _config.CACHE_DIR = chosen


@compiled
def integers(memory, count):  # type: ignore[no-untyped-def]
    """The first `count` numbers of float64 memory as int64."""
    return memory[:count].view(np.int64)


@intrinsic
def matrix(_: Any, memory: Any, rows: Any, columns: Any) -> Any:
    """The first rows * columns numbers of flat memory as an array; `reshape` takes as long as to allocate one."""
    kind = numba.types.Array(memory.dtype, 2, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flat = context.make_array(signature.args[0])(context, builder, arguments[0])
        view, size = context.make_array(kind)(context, builder), flat.itemsize
        strides = builder.mul(arguments[2], size), size
        populate_array(view, flat.data, arguments[1:], strides, size, flat.meminfo, flat.parent)
        return impl_ret_borrowed(context, builder, kind, view._getvalue())

    return kind(memory, numba.types.intp, numba.types.intp), generate


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
