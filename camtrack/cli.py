"""The command line: `camtrack COMMAND`. A user's mistake ends with a sentence and exit code 2, never a traceback."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from camtrack_core.errors import CamtrackError
from gcnet_tracker.cli import app as gcnet

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Camera-only detection and tracking.")
app.add_typer(gcnet, name="gcnet")


@app.command()
def demo(
    input: Annotated[
        str | None, typer.Option(help="video, folder of frames or UA-DETRAC sequence; without: a generated drive")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for the annotated video, the tracks and the log")] = Path(
        "demo_output"
    ),
    seed: Annotated[int, typer.Option(min=0, help="of the generated drive")] = 7,
    seconds: Annotated[float, typer.Option(min=1, max=120, help="length of the generated drive")] = 15.0,
    rate: Annotated[float, typer.Option(min=0, help="factor on the recorded speed; 0: as fast as results come")] = 1.0,
    model: Annotated[Path | None, typer.Option(help="exported GCNet; without: the demo weights")] = None,
    device: Annotated[str, typer.Option(help="auto, openvino, onnxruntime, cuda or tensorrt")] = "auto",
    view: Annotated[bool, typer.Option("--view", help="open a window that shows the tracks")] = False,
) -> None:
    """Replay camera frames through the ROS 2 nodes and write an annotated video.

    Example: camtrack demo --input clip.mp4 --out result
    """
    from camtrack.demo import Demo, run_demo

    settings = Demo(input, out, seed, seconds, rate, model, device, view)
    raise typer.Exit(run_demo(settings, Console()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def launch(context: typer.Context, file: Annotated[str, typer.Argument(help="launch file (XML)")]) -> None:
    """Run a launch file on a machine without `ros2 launch`; arguments as NAME:=VALUE.

    Example: camtrack launch launch/tracking.launch.xml source:=clip.mp4 record:=result
    """
    from camtrack.launch_runner import run_launch_file

    raise typer.Exit(run_launch_file(file, context.args))


def main() -> None:
    try:
        app()
    except CamtrackError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
