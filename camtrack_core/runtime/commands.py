"""Commands over TensorRT's engines: build, list, clean. Part of `camtrack`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_args

import typer

from camtrack_core.commands import AsJson, conclude, print_json
from camtrack_core.errors import CamtrackError, ConfigurationError
from camtrack_core.runtime import engines
from camtrack_core.runtime.base import MOST_FRAMES, Precision
from camtrack_core.runtime.cuda import Gpu, find_gpus
from camtrack_core.runtime.engines import EngineKey
from camtrack_core.runtime.session import open_session, why_not
from camtrack_core.runtime.tensorrt import library_name

app = typer.Typer(no_args_is_help=True, help="TensorRT's engines: built once on the machine that runs them.")


@app.command()
def build(
    models: Annotated[list[Path], typer.Argument(help="exported GCNet or Time3D (.onnx)", show_default=False)],
    precision: Annotated[str, typer.Option(help="auto, f32 or f16")] = "auto",
    device_id: Annotated[int, typer.Option(min=0, help="number of the GPU")] = 0,
    frames: Annotated[
        int, typer.Option(min=1, help="at most at a time, of a graph that takes any number")
    ] = MOST_FRAMES,
    as_json: AsJson = False,
) -> None:
    """Build what the nodes would build at their first start, which takes minutes. What is there already stays.

    Example: camtrack engine build gcnet.onnx time3d.onnx
    """
    if precision not in get_args(Precision):
        raise ConfigurationError(f"--precision: expected one of {', '.join(get_args(Precision))}, got {precision}")
    opened = {str(path): open_session(path, "tensorrt", 0, precision, device_id, (), frames).engine for path in models}  # type: ignore[arg-type]
    conclude({"engines": opened}, "\n".join(f"{path}: {engine}" for path, engine in opened.items()), as_json)


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """The engines on this machine, and what each is for.

    Example: camtrack engine list
    """
    found = engines.stored()
    if as_json:
        print_json([{"file": e.path, "bytes": e.size, "key": vars(e.key) if e.key else None} for e in found])
        return
    typer.echo(f"{engines.folder()}: {len(found)} engines")
    for engine in found:
        typer.echo(f"  {engine.path.name}  {engine.size / 1e6:.1f} MB  {_said(engine.key)}")


@app.command()
def clean(
    everything: Annotated[bool, typer.Option("--all", help="those of this machine, too")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove engines that this machine cannot use: broken, of another GPU, driver or TensorRT.

    Example: camtrack engine clean
    """
    gone = engines.clean(_nothing if everything else _of_this_machine())
    conclude({"removed": gone}, f"{engines.folder()}: {len(gone)} files removed", as_json)


def _of_this_machine() -> Callable[[EngineKey], bool]:
    """Whether an engine can be used here. Raises ConfigurationError where none can."""
    if (why := why_not("tensorrt")) is not None:
        raise ConfigurationError(f"{why}; with --all every engine is removed")
    gpus, library = find_gpus(), library_name()
    return lambda key: key.library == library and Gpu(key.gpu, key.driver) in gpus


def _nothing(key: EngineKey) -> bool:
    return False


def _said(key: EngineKey | None) -> str:
    return "broken" if key is None else f"{key.precision}, {key.library}, {key.gpu}, driver {key.driver}, {key.shapes}"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        app(standalone_mode=True)
    except CamtrackError as error:
        sys.exit(str(error))
