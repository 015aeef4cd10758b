"""How the numeric kernels are compiled: once, cached on disk, with IEEE division instead of Python's exceptions."""

from numba import njit

compiled = njit(cache=True, error_model="numpy")
