"""A plug-in for pytest: the tests as on a processor with AVX2 alone, as far as libraries let themselves be told.

    ./run test --older-processor

ONNX Runtime asks the processor itself and cannot be told; its float32 kernels are held against OpenVINO's and torch's.
"""

from __future__ import annotations

import os
from typing import Any

# Read by the libraries when they are imported, in this process and in those that tests start.
os.environ |= {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # torch's convolutions
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy's and SciPy's products
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",  # beyond those that the name stands for
}

import numpy
import openvino

_capabilities = openvino.Core.get_property


def _without_bfloat16(core: Any, device: str, name: str) -> Any:
    found = _capabilities(core, device, name)
    return [kind for kind in found if kind != "BF16"] if name == "OPTIMIZATION_CAPABILITIES" else found


openvino.Core.get_property = _without_bfloat16


def pytest_report_header() -> str:
    import numba

    return f"older processor: numba for {numba.config.CPU_NAME}, NumPy {numpy.__version__} without AVX512"
