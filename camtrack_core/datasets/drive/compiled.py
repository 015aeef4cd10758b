"""How the kernels of generated drives are compiled."""

from camtrack_core.kernels import compiler

compiled = compiler()  # in the order in which they are written: what moves must be the same everywhere
fast = compiler(fastmath=True, error_model="numpy", nogil=True)  # for pixels
