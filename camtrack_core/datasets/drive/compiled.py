"""How the kernels of generated drives are compiled."""

from pathlib import Path

from camtrack_core.kernels import compiler

_PACKAGE = Path(__file__).parent

compiled = compiler(_PACKAGE)  # in the order in which they are written: what moves must be the same everywhere
fast = compiler(_PACKAGE, fastmath=True, error_model="numpy", nogil=True)  # for pixels
inlined = compiler(_PACKAGE, fastmath=True, error_model="numpy", inline="always")
