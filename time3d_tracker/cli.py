"""Commands of Time3D: prepare, train, calibrate, export. Part of `camtrack`; torch is needed, and loaded, only here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from camtrack_core.commands import AsJson, conclude, read_configuration
from camtrack_core.training import commands
from camtrack_core.training.commands import Recipe, choose_clips, exported, prepare, trained
from time3d_tracker.config import NetworkConfig, TrainingConfig

app = typer.Typer(no_args_is_help=True, help="Train and export Time3D.")


class RunConfig(Recipe):
    """What the training configuration file says."""

    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()


@app.command()
def clips(
    sources: Annotated[
        list[str], typer.Argument(help="recordings with boxes in space: drive:SEED?frames=48, nuScenes, KITTI")
    ],
    out: Annotated[Path, typer.Option(help="folder of clips")],
    config: Annotated[Path, typer.Option(help="training configuration; names the classes")],
    as_json: AsJson = False,
) -> None:
    """Prepare labelled sequences for training. Those that are there already are kept.

    Example: camtrack time3d clips 'drive:1000-1063?frames=48' --out clips --config config/time3d_demo.yaml
    """
    from camtrack_core.datasets.sources import open_labelled
    from time3d_tracker import clips as stored

    prepare(open_labelled(sources), out, stored, read_config(config).network.class_names, as_json)


@app.command()
def gather(
    config: Annotated[Path, typer.Option(help="training configuration; names recordings and teachers")],
    data: Annotated[Path, typer.Option(help="folder that the recordings' paths begin in")],
    out: Annotated[Path, typer.Option(help="folder of clips")],
    as_json: AsJson = False,
) -> None:
    """Prepare every recording that a configuration names, labelled by its two teachers. Those there are kept.

    Example: camtrack time3d gather --config config/time3d_street.yaml --data ../shared/data --out clips
    """
    from time3d_tracker import clips as stored

    read = read_config(config)
    commands.gather(read, data, out, stored, read.network.class_names, as_json)


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="training configuration (YAML)")],
    clips: Annotated[Path, typer.Option(help="folder of clips, as `camtrack time3d clips` writes them")],
    out: Annotated[Path, typer.Option(help="folder of the run; a run that is there goes on")],
    pretrained: Annotated[
        Path | None,
        typer.Option(help="a Time3D checkpoint to fine-tune, or weights of the backbone or of a GCNet with it"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train. Under `torchrun --nproc-per-node=N -m camtrack.cli time3d train ...` on N GPUs.

    Example: camtrack time3d train --config config/time3d_demo.yaml --clips clips --out run

    Fine-tune on your nuScenes: camtrack time3d clips PATH --out mine --config config/time3d_nuscenes.yaml, then
    camtrack time3d train --config config/time3d_nuscenes.yaml --clips mine --out run --pretrained weights.pt
    """
    read = read_config(config)
    paths, weights = choose_clips(clips, read.sources)

    from time3d_tracker import clips as stored
    from time3d_tracker.training import train as run

    run(out, [stored.load(path) for path in paths], weights, read.network, read.training, pretrained)
    trained(out / "weights.pt", "time3d", as_json)


@app.command()
def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="weights.pt or checkpoint.pt of a run")],
    out: Annotated[Path, typer.Argument(help="checkpoint to write, with the same weights")],
    sources: Annotated[list[str], typer.Argument(help="labelled recordings, each through several lenses")],
    height: Annotated[int | None, typer.Option(min=1, help="of the input, pixels; as trained if not given")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="of the input, pixels; as trained if not given")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how depths go with the focal length and how far the stated deviations hold; write a checkpoint with both.

    Example: camtrack time3d calibrate run/weights.pt weights.pt --width 864 --height 480 \\
    'drive:6000-6019?frames=1&field_of_view=40' 'drive:6000-6019?frames=1&field_of_view=90'
    """
    from camtrack_core.datasets.sources import open_labelled
    from camtrack_core.training.run import write_state
    from time3d_tracker.calibration import measured
    from time3d_tracker.detector import CUES
    from time3d_tracker.export import resized
    from time3d_tracker.training import load_network

    network = load_network(checkpoint)
    config = network.config
    found = measured(resized(network, height or config.height, width or config.width), open_labelled(sources))
    write_state(out, {"network": config.model_dump() | found._asdict(), "model": network.state_dict()})
    powers = ", ".join(f"{cue} {power:.3f}" for cue, power in zip(CUES, found.focal_powers, strict=True))
    widened = f"deviations x {found.deviation_scale:.2f}, disagreement x {found.disagreement:.2f}"
    said = f"{out}: powers of the focal length: {powers}; {widened}"
    conclude({"checkpoint": out, **found._asdict()}, said, as_json)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="weights.pt or checkpoint.pt of a run")],
    out: Annotated[Path, typer.Argument(help="ONNX file to write")],
    cameras: Annotated[int, typer.Option(min=0, help="of how many it takes frames at a time; 0: any number")] = 1,
    height: Annotated[int | None, typer.Option(min=1, help="of its input, pixels; as trained if not given")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="of its input, pixels; as trained if not given")] = None,
    precision: Annotated[
        Literal["float32", "float16"], typer.Option(help="of the convolutions; float16 is what TensorRT wants")
    ] = "float32",
    as_json: AsJson = False,
) -> None:
    """Write the graph that the node runs.

    Example: camtrack time3d export run/weights.pt time3d.onnx --width 864 --height 480
    """
    from time3d_tracker.export import export as write
    from time3d_tracker.export import resized
    from time3d_tracker.training import load_network

    network = load_network(checkpoint)
    network = resized(network, height or network.config.height, width or network.config.width)
    write(network, out, cameras, precision)
    exported(out, as_json)


def read_config(path: Path) -> RunConfig:
    """The training configuration of a YAML file. Raises ConfigurationError, naming the file, for anything else."""
    return read_configuration(path, RunConfig)
