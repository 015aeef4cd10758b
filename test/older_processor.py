"""A plug-in for pytest: the tests as on a processor with AVX2 alone, as far as libraries let themselves be told.

    ./run test --older-processor

ONNX Runtime asks the processor itself and cannot be told; its float32 kernels are held against OpenVINO's and torch's.
OpenVINO is kept from bfloat16, not from AVX512, and that in the tests' own processes, not in those that they start.
The run ends before its first test where a library does not do as it is told.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest

# Read by the libraries when they are imported, in this process and in those that tests start.
os.environ |= {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # torch's convolutions
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",  # torch's products; MKL cannot be asked
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy's and SciPy's products
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",  # beyond those that the name stands for
}

import numba
import numpy
import openvino
import torch

_capabilities = openvino.Core.get_property


def _without_bfloat16(core: Any, device: str, name: str) -> Any:
    found = _capabilities(core, device, name)
    return [kind for kind in found if kind != "BF16"] if name == "OPTIMIZATION_CAPABILITIES" else found


openvino.Core.get_property = _without_bfloat16


def pytest_configure() -> None:
    from camtrack_core.training import run

    run._processor_has_bfloat16 = lambda: False  # reads the kernel's list of what the processor has
    if newer := [library for library, older in _heard().items() if not older]:
        raise pytest.UsageError(f"expected libraries to compute as on an older processor, not so: {', '.join(newer)}")


def _heard() -> dict[str, bool]:
    """Whether each library, asked itself, computes as it was told."""
    from numpy._core._multiarray_umath import __cpu_features__ as features

    from camtrack_core.runtime import open_session
    from camtrack_core.training.run import autocast_precision
    from gcnet_tracker.tracker import DEMO_MODEL

    return {
        "NumPy": not any(features.get(name) for name in ("X86_V4", "AVX512_SKX")),  # by NumPy's version
        "OpenBLAS": _openblas_kernels() == {"Haswell"},
        "numba": numba.config.CPU_NAME == "haswell",
        "torch": torch.backends.cpu.get_cpu_capability() == "AVX2",
        "oneDNN in torch": not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        "sessions of OpenVINO": open_session(DEMO_MODEL, "openvino").engine.endswith("(f32)"),
        "training": autocast_precision("auto", torch.device("cpu")) is torch.float32,
    }


def _openblas_kernels() -> set[str]:
    """The names of the kernels that each OpenBLAS in this process, NumPy's and SciPy's, has chosen."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    chosen = set()
    for library in {line.split()[-1] for line in maps if "openblas" in line}:
        for name in ("openblas_get_corename", "scipy_openblas_get_corename", "scipy_openblas_get_corename64_"):
            if ask := getattr(ctypes.CDLL(library), name, None):
                ask.restype = ctypes.c_char_p
                chosen.add(ask().decode())
    return chosen


def pytest_report_header() -> str:
    return f"older processor: numba for {numba.config.CPU_NAME}, NumPy {numpy.__version__} without AVX512"
