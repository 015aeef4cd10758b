"""`camtrack track`: the offline run with a progress bar, and what it says at the end."""

from __future__ import annotations

import signal
from dataclasses import asdict, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import get_args

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from camtrack.offline.methods import SMOOTHED, Method, Run, demo_model
from camtrack.offline.run import track_sources
from camtrack.offline.task import Result
from camtrack_core.commands import complain, make_console, print_json
from camtrack_core.datasets.sources import list_sources
from camtrack_core.errors import ConfigurationError
from camtrack_core.runtime import Device, Precision
from camtrack_core.stopping import unwinding_on_signals

DETECTIONS = "detections"  # folder of a sweep


def make_run(
    method: Method,
    model: Path | None,
    device: str,
    device_id: int,
    precision: str,
    skip_broken: bool,
    smooth: bool,
    parameters: Path | None = None,
) -> Run:
    """A run with the weights that come with the method unless others are named. Raises ConfigurationError."""
    for option, given, known in (("device", device, get_args(Device)), ("precision", precision, get_args(Precision))):
        if given not in known:
            raise ConfigurationError(f"--{option}: expected one of {', '.join(known)}, got {given}")
    if model is None and method != "pkf" and not demo_model(method).is_file():
        raise ConfigurationError(f"no weights come with --method {method} here; name an exported model with --model")
    if smooth and method not in SMOOTHED:
        raise ConfigurationError(f"--smooth: expected --method {', '.join(SMOOTHED)}, got {method}")
    if parameters is not None and method != "fusion":
        raise ConfigurationError(f"--filter: expected --method fusion, got {method}")
    run = Run(method, model or demo_model(method), device, device_id, precision, skip_broken)  # type: ignore[arg-type]
    run = replace(run, smooth=smooth)
    return with_fusion(run, parameters) if method == "fusion" else run


def with_fusion(run: Run, parameters: Path | None) -> Run:
    """With what the fusion needs beside Time3D. Raises ConfigurationError for parameters that are none."""
    from camtrack.offline.fusion import fusion_parameters, shipped_parameters

    path = parameters or shipped_parameters()
    fusion_parameters(path)
    return replace(run, image_model=demo_model("gcnet"), filter=path)


def run_track(sources: list[str], out: Path, run: Run, jobs: int, cluster: str, as_json: bool) -> int:
    """Runs it; returns the exit code, 2 where a sequence failed. Raises CamtrackError for what a user can mend."""
    results = _run(sources, out, run, jobs, cluster)
    if as_json:
        print_json([asdict(result) for result in results])
    return _say(results, as_json)


def run_sweep(sources: list[str], out: Path, run: Run, thresholds: str, jobs: int, cluster: str, as_json: bool) -> int:
    """A run for each threshold on GCNet's detections, into a folder of its name, and the detections themselves.

    Returns and raises as run_track does.
    """
    if run.method not in ("gcnet", "stack"):
        raise ConfigurationError(f"--thresholds are of GCNet's detections, and --method {run.method} has none")
    runs = {DETECTIONS: replace(run, method="detections", smooth=False)}
    runs |= {name: replace(run, threshold=float(name)) for name in read_thresholds(thresholds)}
    results = {name: _run(sources, out / name, one, jobs, cluster) for name, one in runs.items()}
    if as_json:
        print_json({name: [asdict(result) for result in found] for name, found in results.items()})
    return max(_say(found, as_json) for found in results.values())


def read_thresholds(text: str) -> list[str]:
    """FIRST:LAST:STEP as texts of all with one number of decimals, like 0.0, 0.1 to 1.0. Raises ConfigurationError."""
    try:
        first, last, step = (Decimal(part) for part in text.split(":"))
        if not (0 <= first <= last <= 1 and step > 0):
            raise ValueError
    except (InvalidOperation, ValueError) as error:
        raise ConfigurationError(f"--thresholds: expected FIRST:LAST:STEP, like 0:1:0.1, got {text}") from error
    return [str(first + k * step) for k in range(int((last - first) / step) + 1)]


def _run(sources: list[str], out: Path, run: Run, jobs: int, cluster: str) -> list[Result]:
    """What became of each sequence, with a progress bar."""
    specs = [spec for source in sources for spec in list_sources(source)]
    console = make_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with unwinding_on_signals(signal.SIGINT), Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{len(specs)} sequences" if len(specs) > 1 else "frames", total=None)
        return track_sources(
            specs,
            out,
            run,
            jobs,
            lambda done, total: progress.update(task, completed=done, total=total or None),
            cluster,
        )


def _say(results: list[Result], as_json: bool) -> int:
    """Says what became of the sequences, errors and what was left out in any case; returns the exit code."""
    if not as_json and not all(result.error for result in results):
        make_console().print(_table(results))
    for result in results:
        if result.skipped:
            first = f"{len(result.skipped)} of {result.frames} frames left out; the first: {result.skipped[0]}"
            typer.echo(f"{result.name}: {first}", err=True)
    failed = [result for result in results if result.error]
    for result in failed:
        complain(f"{result.name}: {result.error}")
    return 2 if failed else 0


def _table(results: list[Result]) -> Table:
    table = Table("sequence", "frames", "tracks", "frames/s")
    for result in results:
        if result.kept:
            table.add_row(result.name, "", "", "done before")
        elif not result.error:
            rate = result.frames / max(result.seconds, 1e-9)
            table.add_row(result.name, str(result.frames), str(result.tracks), f"{rate:.1f}")
    return table
