"""Commands of GCNet: label, prepare, train, export. Part of `camtrack`; torch is needed, and loaded, only here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from camtrack_core.commands import AsJson, conclude, read_configuration
from camtrack_core.training import commands
from camtrack_core.training.commands import Recipe, choose_clips, exported, prepare, trained
from gcnet_tracker.config import REFRESHED, NetworkConfig, TrainingConfig

app = typer.Typer(no_args_is_help=True, help="Train and export GCNet.")

Teacher = Annotated[Path, typer.Option(help="YOLOX-nano as ONNX, COCO classes")]


class RunConfig(Recipe):
    """What the training configuration file says."""

    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()


@app.command()
def label(
    video: Annotated[Path, typer.Argument(help="a video without labels")],
    teacher: Teacher,
    out: Annotated[Path, typer.Option(help="label file to write, gzipped where it ends in .gz")],
    as_json: AsJson = False,
) -> None:
    """Label a video with a teacher, whole frames and tiles, keeping what agrees over time.

    Example: camtrack gcnet label roadside.mp4 --teacher yolox_nano.onnx --out roadside.txt.gz
    """
    from camtrack_core.labelling.teacher import label_video

    labels = label_video(video, teacher, out)
    count = sum(map(len, labels.frames)) / len(labels.frames)
    result = {"labels": out, "frames": len(labels.frames), "labels_a_frame": count}
    conclude(result, f"{out}: {len(labels.frames)} frames, {count:.1f} labels a frame", as_json)


@app.command()
def clips(
    sources: Annotated[list[str], typer.Argument(help="VIDEO:LABELS, drive:SEED?frames=24, UA-DETRAC sequence folder")],
    out: Annotated[Path, typer.Option(help="folder of clips")],
    config: Annotated[Path, typer.Option(help="training configuration; names the classes")],
    as_json: AsJson = False,
) -> None:
    """Prepare labelled sequences for training. Those that are there already are kept.

    Example: camtrack gcnet clips roadside.mp4:roadside.txt.gz 'drive:1000-1063?frames=24' --out clips
    --config config/gcnet_demo.yaml
    """
    from camtrack_core.datasets.sources import open_labelled
    from gcnet_tracker import clips as stored

    prepare(open_labelled(sources), out, stored, read_config(config).network.class_names, as_json)


@app.command()
def gather(
    config: Annotated[Path, typer.Option(help="training configuration; names recordings and teachers")],
    data: Annotated[Path, typer.Option(help="folder that the recordings' paths begin in")],
    out: Annotated[Path, typer.Option(help="folder of clips")],
    as_json: AsJson = False,
) -> None:
    """Prepare every recording that a configuration names, labelled by its two teachers. Those there are kept.

    Example: camtrack gcnet gather --config config/gcnet_street.yaml --data ../shared/data --out clips
    """
    from gcnet_tracker import clips as stored

    read = read_config(config)
    commands.gather(read, data, out, stored, read.network.class_names, as_json)


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="training configuration (YAML)")],
    clips: Annotated[Path, typer.Option(help="folder of clips, as `camtrack gcnet clips` writes them")],
    out: Annotated[Path, typer.Option(help="folder of the run; a run that is there goes on")],
    pretrained: Annotated[Path | None, typer.Option(help="weights of the backbone; random without")] = None,
    start: Annotated[Path | None, typer.Option(help="checkpoint or weights of a GCNet to start from")] = None,
    as_json: AsJson = False,
) -> None:
    """Train both stages. Under `torchrun --nproc-per-node=N -m camtrack.cli gcnet train ...` on N GPUs.

    Example: camtrack gcnet train --config config/gcnet_demo.yaml --clips clips --out run
    """
    read = read_config(config)
    paths, weights = choose_clips(clips, read.sources)

    from gcnet_tracker import clips as stored
    from gcnet_tracker.training import train as run

    run(out, [stored.load(path) for path in paths], weights, read.network, read.training, pretrained, start)
    trained(out / "weights.pt", "gcnet", as_json)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="weights.pt or checkpoint.pt of a run")],
    out: Annotated[Path, typer.Argument(help="ONNX file to write")],
    height: Annotated[int | None, typer.Option(min=1, help="of its input, pixels; as trained if not given")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="of its input, pixels; as trained if not given")] = None,
    precision: Annotated[
        Literal["float32", "float16"], typer.Option(help="of the convolutions; float16 is what TensorRT wants")
    ] = "float32",
    refresh: Annotated[
        Literal["query", "key"], typer.Option(help="what Algorithm 1 stores: Q as in training, K as in the listing")
    ] = "query",
    share: Annotated[
        float, typer.Option(min=0, max=1, help="of it in what a track remembers after a frame; 1 in the listing")
    ] = REFRESHED,
    cameras: Annotated[int, typer.Option(min=0, max=1, help="of how many it takes frames; 0: any number")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write the graph that the node runs.

    Example: camtrack gcnet export run/weights.pt gcnet.onnx --width 640 --height 352
    """
    from gcnet_tracker.export import export as write
    from gcnet_tracker.export import resized
    from gcnet_tracker.training import load_network

    network = load_network(checkpoint)
    network = resized(network, height or network.config.height, width or network.config.width)
    write(network, out, precision, refresh, 0 if cameras == 0 else 1, share)
    exported(out, as_json)


@app.command()
def reduce(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a run")],
    out: Annotated[Path, typer.Argument(help="file to write")],
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint a sixth of its size, that a run goes on from as from the whole one.

    Example: camtrack gcnet reduce run/checkpoint.pt elsewhere/checkpoint.pt
    """
    from camtrack_core.training.run import reduce_checkpoint

    reduce_checkpoint(checkpoint, out)
    exported(out, as_json)


def read_config(path: Path) -> RunConfig:
    """The training configuration of a YAML file. Raises ConfigurationError, naming the file, for anything else."""
    return read_configuration(path, RunConfig)
