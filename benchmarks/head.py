"""What the heads of benchmarks share: their arguments, the machine, and how figures are shown."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from camtrack_core.errors import CamtrackError

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("numpy", "numba", "openvino", "onnxruntime", "tensorrt", "rclpy", "opencv-python-headless")


def described(text: str | None) -> argparse.ArgumentParser:
    """Arguments of a benchmark whose docstring is its help."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def parser(text: str | None) -> argparse.ArgumentParser:
    """As `described`, with `--json` for what is read by a program."""
    made = described(text)
    made.add_argument("--json", action="store_true", help="print the figures as JSON")
    return made


def ran(main: Callable[[], None]) -> int:
    """Exit code of a benchmark: 2 where its input cannot be used, which a sentence says."""
    try:
        main()
    except CamtrackError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def add_engine(made: argparse.ArgumentParser) -> None:
    """Arguments that choose what runs the networks."""
    made.add_argument("--device", default="auto", help="what runs the networks (default: %(default)s)")
    made.add_argument("--precision", default="auto", help="auto, f32, f16 or bf16 (default: %(default)s)")


def milliseconds(call: Callable[[], object], runs: int) -> tuple[float, float]:
    """Medians of so many runs after one that is not counted: by the clock, and of processor time of all threads.

    Other programs change the latter least.
    """
    call()
    taken = []
    for _ in range(runs):
        begin = time.perf_counter(), time.process_time()
        call()
        taken.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    clock, processor = 1e3 * np.median(taken, axis=0)
    return float(clock), float(processor)


def processor_ms(call: Callable[[], object], runs: int) -> float:
    return milliseconds(call, runs)[1]


def machine() -> dict[str, Any]:
    """What a figure depends on besides the code: processor, memory, system, versions and how busy it is."""
    return {
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        **{name: found for name in LIBRARIES if (found := _version(name))},
    }


def _processor() -> str:
    """The model's name, and whether it computes in bfloat16: the fastest engines depend on it."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    pairs = (line.split(":", 1) for line in told.splitlines() if ":" in line)
    values = {name.strip(): value.strip() for name, value in pairs}
    flags = [name for name in ("avx512_vnni", "avx512_bf16", "amx_bf16") if name in values.get("flags", "").split()]
    return ", ".join([values.get("model name", platform.machine()), *flags])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def rows(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures as one level, the names joined by spaces."""
    flat: dict[str, Any] = {}
    for name, value in figures.items():
        label = f"{prefix} {name}".strip()
        flat |= rows(value, label) if isinstance(value, Mapping) else {label: value}
    return flat
