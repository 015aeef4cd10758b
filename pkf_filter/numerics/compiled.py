"""How the filter's kernels are compiled: with IEEE division instead of Python's exceptions, cached on disk."""

from camtrack_core.kernels import compiler

compiled = compiler(error_model="numpy")
inlined = compiler(error_model="numpy", inline="always")  # into its one caller, rather than compiled there once more
