"""The command line: `camtrack COMMAND`. A user's mistake ends with a sentence and exit code 2, never a traceback.

What a command needs is imported when it runs, so that help and mistakes need not wait for compilers and networks.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import typer

from camtrack_core.commands import AsJson, complain, conclude, make_console, print_json
from camtrack_core.errors import CamtrackError
from camtrack_core.runtime.commands import app as engine
from camtrack_core.stopping import unwinding_on_signals
from gcnet_tracker.cli import app as gcnet
from time3d_tracker.cli import app as time3d

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Camera-only detection and tracking.")
pkf = typer.Typer(no_args_is_help=True, help="Parameters of PKF from labelled sequences.")
app.add_typer(engine, name="engine")
app.add_typer(gcnet, name="gcnet")
app.add_typer(time3d, name="time3d")
app.add_typer(pkf, name="pkf")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"camtrack {version('camtrack')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="and end")] = False,
) -> None:
    """Camera-only detection and tracking."""


SOURCE = "video, VIDEO:LABELS, folder of images, bag, data set (ROOT?sequence=NAME) or drive:SEED"
KIND = "class that is scored: on KITTI (without: Car), or on MOTChallenge by number or name (without: pedestrian)"
Source = Annotated[str, typer.Argument(help=SOURCE, show_default=False)]
Device = Annotated[str, typer.Option(help="what runs the model: auto, tensorrt, cuda, openvino or onnxruntime")]
DeviceId = Annotated[int, typer.Option(min=0, help="number of the GPU that runs the model")]
Precision = Annotated[str, typer.Option(help="what the model is computed in: auto, f32, bf16 or f16")]
Verbose = Annotated[bool, typer.Option("--verbose", help="all that the nodes say, not a line each; wants 150 columns")]


@engine.command()
def quantize(
    model: Annotated[Path, typer.Argument(help="exported GCNet or Time3D in float32 (.onnx)", show_default=False)],
    out: Annotated[Path, typer.Argument(help="ONNX file to write", show_default=False)],
    sources: Annotated[list[str], typer.Argument(help=f"real recordings: {SOURCE}", show_default=False)],
    frames: Annotated[int, typer.Option(min=1, help="of each recording that are looked at")] = 16,
    as_json: AsJson = False,
) -> None:
    """Write a graph with its convolutions in int8, calibrated on what a tracker asks the network about real frames.

    Example: camtrack engine quantize gcnet.onnx gcnet_int8.onnx highway.mp4 junction.mp4
    """
    from camtrack.quantize import quantize as run

    count = run(model, out, sources, frames)
    conclude({"model": out, "frames": count}, f"{out}: int8, calibrated on {count} frames", as_json)


@pkf.callback()
def parameters() -> None:
    """Keeps `noise` a command of its own while it is the only one."""


@pkf.command()
def noise(
    sources: Annotated[list[str], typer.Argument(help="labelled recordings: KITTI, nuScenes, drive:SEED")],
    detections: Annotated[
        Path | None,
        typer.Option(help="detections of them: KITTI texts (a file, or a folder of NAME.txt) or a nuScenes submission"),
    ] = None,
    sensor: Annotated[str, typer.Option(help="name of the sensor whose detections they are")] = "front",
    config: Annotated[
        Path | None, typer.Option(help="parameters of the filter, as config/fusion.yaml has them: groups and motions")
    ] = None,
    reach: Annotated[float, typer.Option(min=0.01, help="a detection is of the label at most so far off, m")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Estimate the noise of each class group's motion from labels, and that of a detector and its scores.

    Prints parameters as config/fusion.yaml has them; what the data cannot tell is left out and keeps its default.

    Example: camtrack pkf noise data/kitti_tracking --detections data/kitti_tracking/pointrcnn_car > noise.yaml
    """
    from pkf_filter.calibration.command import run_noise

    run_noise(sources, detections, sensor, config, reach, as_json)


@app.command()
def demo(
    input: Annotated[
        str | None, typer.Option(help="video, folder of images, bag or data set; without: a generated drive")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for the annotated video, the tracks and the log")] = Path(
        "demo_output"
    ),
    seed: Annotated[int, typer.Option(min=0, help="of the generated drive")] = 7,
    seconds: Annotated[float, typer.Option(min=1, max=120, help="length of the generated drive")] = 15.0,
    rate: Annotated[float, typer.Option(min=0, help="factor on the recorded speed; 0: as fast as results come")] = 0.0,
    model: Annotated[Path | None, typer.Option(help="exported GCNet; without: the demo weights")] = None,
    model_3d: Annotated[Path | None, typer.Option(help="exported Time3D; without: the demo weights")] = None,
    device: Device = "auto",
    device_id: DeviceId = 0,
    precision: Precision = "auto",
    cameras: Annotated[int, typer.Option(help="1, or 6 that see all around the vehicle of a generated drive")] = 1,
    view: Annotated[bool, typer.Option("--view", help="open a window that shows the tracks")] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Replay camera frames through the ROS 2 nodes and write an annotated video.

    Example: camtrack demo --input clip.mp4 --out result
    """
    from camtrack.demo.run import Demo, run_demo

    settings = Demo(
        input, out, seed, seconds, rate, model, model_3d, device, device_id, precision, view, verbose, cameras
    )
    outcome = run_demo(settings, make_console(stderr=as_json))
    if as_json:
        print_json(asdict(outcome))
    raise typer.Exit(outcome.exit_code)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def launch(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="launch file (XML)", show_default=False)],
    show_args: Annotated[
        bool, typer.Option("--show-args", "--show-arguments", "-s", help="tell the file's arguments, start nothing")
    ] = False,
    show: Annotated[
        bool, typer.Option("--print", "--print-description", "-p", help="tell the processes, start nothing")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a launch file on a machine without `ros2 launch`; arguments as NAME:=VALUE.

    Example: camtrack launch launch/tracking.launch.xml source:=clip.mp4 record:=result
    """
    from camtrack.launch.runner import run_launch_file, show_arguments, show_processes

    if show_args or show:
        typer.echo(show_arguments(file) if show_args else show_processes(file, context.args))
        return
    done = run_launch_file(file, context.args, sys.stderr if as_json else sys.stdout)
    if as_json:
        ended = [{"process": name, "exit_code": code} for name, code in done.ended]
        print_json({"exit_code": done.exit_code, "ended": ended})
    raise typer.Exit(done.exit_code)


@app.command()
def top(verbose: Verbose = False, as_json: AsJson = False) -> None:
    """Show what every running node reports: its level, rate, age of images, time of its network, drops. Ctrl-C ends it.

    Example: camtrack top
    """
    from camtrack.live import DiagnosticsTable, show, snapshot

    if as_json:
        print_json(snapshot())
    else:
        show(make_console(), DiagnosticsTable.details if verbose else DiagnosticsTable.summary)


@app.command()
def doctor(
    seconds: Annotated[float, typer.Option(min=1, help="how long the running system is listened to")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Look at the installation and at the running system, and say what to do about what is wrong.

    Exit code 1 where something is wrong, 0 else. Run it beside the nodes, in the same environment.

    Example: camtrack doctor
    """
    from camtrack.doctor.run import examine, worst_exit_code, write_findings

    with unwinding_on_signals(signal.SIGINT):
        findings = examine(seconds, make_console(stderr=True))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        write_findings(findings, make_console())
    raise typer.Exit(worst_exit_code(findings))


@app.command()
def policy(
    out: Annotated[Path, typer.Argument(help="XML file to write", show_default=False)],
    seconds: Annotated[float, typer.Option(min=0.1, help="in which the nodes must be found")] = 3.0,
    as_json: AsJson = False,
) -> None:
    """Write SROS 2's policy of the nodes that run: each may do what it does now, no more.

    Example: camtrack policy policy.xml
    """
    from camtrack.nodes.policy import write_policy

    rights = write_policy(out, seconds)
    nodes = [f"{node.namespace.rstrip('/')}/{node.name}" for node in rights]
    conclude({"policy": out, "nodes": nodes}, f"{out}: {', '.join(nodes)}", as_json)


@app.command()
def replay(
    source: Source,
    rate: Annotated[float, typer.Option(min=0, help="factor on the recorded speed; 0: wait for each result")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="again and again; the stamps then jump back")] = False,
    start: Annotated[float, typer.Option(min=0, help="begin so far into the recording, seconds")] = 0.0,
    duration: Annotated[float, typer.Option(min=0.001, help="play this much of the recording, seconds")] = inf,
    compressed: Annotated[bool, typer.Option("--compressed", help="JPEG on image/compressed, not image")] = False,
    clock: Annotated[bool, typer.Option("--clock", help="publish the stamps on /clock")] = False,
    tf: Annotated[bool, typer.Option("--tf", help="publish the poses of vehicle and camera, where known")] = False,
    cameras: Annotated[
        str, typer.Option(help="names of cameras to play together, each in the namespace of its name, or all")
    ] = "",
    namespace: Annotated[str, typer.Option(help="of the topics image and camera_info of a single camera")] = "camera",
    wait: Annotated[int, typer.Option(min=0, help="start when so many listen to the images")] = 1,
    as_json: AsJson = False,
) -> None:
    """Play a recording to ROS topics as a camera would.

    Example: camtrack replay 'data/nuscenes?scene=scene-0103&camera=CAM_FRONT' --tf --clock
    """
    from camtrack.nodes.replay import replay as run
    from camtrack.replay import check_source

    check_source(source, cameras.split())
    parameters = {
        "source": source, "rate": rate, "loop": loop, "start": start, "duration": duration, "compressed": compressed,
        "publish_clock": clock, "publish_tf": tf, "wait_for_subscribers": wait, "cameras": cameras,
    }  # fmt: skip
    played = run("" if cameras else namespace, parameters)
    conclude({"source": source, **asdict(played)}, f"{source}: {played.frames} frames played", as_json)
    raise typer.Exit(played.exit_code)


@app.command()
def bag(
    source: Source,
    out: Annotated[Path, typer.Argument(help="folder of the bag, to be made", show_default=False)],
    storage: Annotated[Literal["mcap", "sqlite3"], typer.Option(help="how rosbag2 stores it")] = "mcap",
    compressed: Annotated[bool, typer.Option("--compressed", help="JPEG on image/compressed, not image")] = False,
    quality: Annotated[int, typer.Option(min=1, max=100, help="of JPEG images")] = 90,
    truth: Annotated[bool, typer.Option("--truth", help="the labels, too, as detections")] = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="leave out frames that cannot be read, and count them")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a recording to a bag that `ros2 bag play` plays: images, calibration, transforms.

    Example: camtrack bag 'data/nuscenes?scene=scene-0103' scene-0103 --compressed --truth
    """
    from rich.markup import escape
    from rich.progress import Progress

    from camtrack.bags.write import BagOptions, write_bag
    from camtrack_core.datasets.frames import Skipping
    from camtrack_core.datasets.sources import open_cameras

    cameras = open_cameras(source)
    whole = {name: Skipping(sequence) for name, sequence in cameras.items()} if skip_broken else {}
    with Progress(console=make_console(stderr=True)) as progress:
        task = progress.add_task(escape(f"writing {out}"), total=sum(map(len, cameras.values())))
        options = BagOptions(storage, quality if compressed else 0, truth)
        count = write_bag({**cameras, **whole}, out, options, lambda: progress.advance(task))
    skipped = [fault for sequence in whole.values() for fault in sequence.skipped]
    left_out = f"; {len(skipped)} frames left out, the first: {skipped[0]}" if skipped else ""
    conclude({"bag": out, "messages": count, "skipped": skipped}, f"{out}: {count} messages{left_out}", as_json)


@app.command()
def results(
    bag: Annotated[Path, typer.Argument(help="bag with the results of a run", show_default=False)],
    source: Source,
    out: Annotated[Path, typer.Option(help="folder for NAME.txt or NAME.json")],
    topic: Annotated[str, typer.Option(help="of the results; without: the only one beside the truth")] = "",
    as_json: AsJson = False,
) -> None:
    """Write the results that a bag has recorded to the files that `evaluate` and `report` read.

    SOURCE is the recording that was tracked, played with its poses where tracks are in space. Boxes in the image become
    MOTChallenge text, tracks in space a submission of nuScenes or, of other recordings, KITTI's text.

    Example: camtrack results run_bag 'data/nuscenes?scene=scene-0103' --topic /camera/pkf_filter/tracks --out run
    """
    from camtrack.bags.results import write_results

    written = write_results(bag, source, out, topic)
    sentence = f"{written.file}: {written.answered} of {written.frames} frames answered on {written.topic}"
    if written.left_out:
        sentence += f"; left out {written.left_out} detections without finite numbers or a result"
    if written.renamed:
        sentence += f"; {len(written.renamed)} ids that are no whole numbers are numbered in {written.ids_file}"
    conclude(asdict(written), sentence, as_json)


@app.command()
def track(
    source: Annotated[list[str], typer.Argument(help=f"{SOURCE}; of a data set all sequences", show_default=False)],
    out: Annotated[Path, typer.Option(help="a .txt or .json file, or a folder for NAME.txt of each sequence")],
    method: Annotated[
        Literal["gcnet", "time3d", "ground", "fusion", "pkf", "stack", "detections"],
        typer.Option(
            help="gcnet alone, time3d: boxes in space, pkf on public detections, stack: gcnet through pkf as the "
            "nodes do, fusion: time3d and gcnet through pkf in space as the nodes do, or detections: gcnet's in single "
            "frames"
        ),
    ] = "stack",
    model: Annotated[Path | None, typer.Option(help="exported GCNet or Time3D; without: the demo weights")] = None,
    device: Device = "auto",
    device_id: DeviceId = 0,
    precision: Precision = "auto",
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="leave out frames that cannot be read, and count them")
    ] = False,
    smooth: Annotated[
        bool,
        typer.Option("--smooth", help="of stack, pkf and fusion: tracks as they are known a second later"),
    ] = False,
    thresholds: Annotated[
        str,
        typer.Option(metavar="FIRST:LAST:STEP", help="a run for each threshold on detections, like 0:1:0.1"),
    ] = "",
    parameters: Annotated[
        Path | None,
        typer.Option(
            "--filter", help="of fusion: its parameters, as the launch files' filter; without: the shipped ones"
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="processes; 0: one a processor")] = 0,
    ray: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Ray cluster that is to work, HOST:PORT or auto; see docs/data.md")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Track recordings without ROS, as fast as the machine allows. Goes on where it ended.

    Writes MOTChallenge text; of time3d, ground and fusion a nuScenes submission where the recording is of nuScenes,
    else KITTI's text.

    With --thresholds, OUT gets a folder for each threshold and `detections`, what `evaluate --pr-curve` takes.

    Example: camtrack track data/uadetrac --method stack --out tracks
    """
    from camtrack.offline.command import make_run, run_sweep, run_track

    run = make_run(method, model, device, device_id, precision, skip_broken, smooth, parameters)
    if thresholds:
        raise typer.Exit(run_sweep(source, out, run, thresholds, jobs, ray, as_json))
    raise typer.Exit(run_track(source, out, run, jobs, ray, as_json))


@app.command()
def evaluate(
    context: typer.Context,
    predictions: Annotated[
        Path, typer.Argument(help="a text or submission, or a folder of NAME.txt or NAME.json", show_default=False)
    ],
    truth: Annotated[list[str], typer.Option(help=f"{SOURCE}; of a data set all sequences; may be given again")],
    kind: Annotated[str, typer.Option(help=KIND, show_default=False)] = "",
    min_height: Annotated[float, typer.Option(min=0, help="pixels; lower objects do not count")] = 0.0,
    min_visible: Annotated[float, typer.Option(min=0, max=1, help="share; more hidden ones do not count")] = 0.0,
    detections: Annotated[bool, typer.Option("--detections", help="average precision of single frames")] = False,
    iou: Annotated[float, typer.Option(help="least overlap of a hit, of detections")] = 0.7,
    split: Annotated[list[str] | None, typer.Option(help="NAME=FILE: AP of the sequences listed in it, too")] = None,
    pr_curve: Annotated[
        Path | None,
        typer.Option(
            help="a detector's recall and precision, or a folder of its detections: UA-DETRAC's PR scores of folders "
            "0.0, 0.1 ..."
        ),
    ] = None,
    view: Annotated[
        bool, typer.Option("--view", help="boxes in space, against what the cameras can see: AP, depth, recall, tracks")
    ] = False,
    eval_set: Annotated[
        str, typer.Option(help="of nuScenes, like mini_val; without: the one that holds most of the submission")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Score tracks (HOTA, CLEAR MOT, identity; on KITTI in space, too) or detections against a truth.

    Submissions to nuScenes (.json) get the official AMOTA and AMOTP, with --detections NDS and mAP: the first time,
    nuscenes-devkit is installed with its pinned versions into an environment of its own, ~/.cache/camtrack.

    With --view tracks in space are scored against what the evaluated cameras can see, on nuScenes, PandaSet, KITTI and
    drives alike.

    Example: camtrack evaluate tracks --truth data/uadetrac
    """
    from camtrack.evaluation import command

    given = {name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")}
    rules = command.Rules(kind, min_height, min_visible)
    if view:
        command.check_options("--view", given)
        command.run_view(predictions, truth, as_json)
    elif files := command.submissions(predictions):
        command.check_options("submissions of nuScenes", given)
        command.run_official(files, truth, "detection" if detections else "tracking", eval_set, as_json)
    elif pr_curve is not None:
        command.check_options("tracks along --pr-curve", given)
        command.run_along(predictions, truth, pr_curve, rules, as_json)
    elif detections:
        command.check_options("--detections", given)
        command.run_detections(predictions, truth, iou, split or [], as_json)
    else:
        command.check_options("tracks", given)
        command.run_tracks(predictions, truth, rules, as_json)


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="folders of NAME.txt or NAME.json, a run each", show_default=False)
    ],
    truth: Annotated[list[str], typer.Option(help=f"{SOURCE}; of a data set all sequences; may be given again")],
    out: Annotated[Path, typer.Option(help="HTML file to write")] = Path("report.html"),
    images: Annotated[Path | None, typer.Option(help="folder for the worst moments as PNG, too")] = None,
    kind: Annotated[str, typer.Option(help=KIND, show_default=False)] = "",
    min_height: Annotated[float, typer.Option(min=0, help="pixels; lower objects do not count")] = 0.0,
    min_visible: Annotated[float, typer.Option(min=0, max=1, help="share; more hidden ones do not count")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Compare runs on one HTML page: scores, what changed, errors, latency, lives of objects, worst moments.

    Example: camtrack report runs/before runs/after --truth data/uadetrac --out report.html
    """
    from camtrack.evaluation.run import Rules
    from camtrack.report.page import summary, write_report

    reported = write_report(runs, truth, out, Rules(kind, min_height, min_visible), images)
    conclude({"report": out, "runs": summary(reported)}, str(out), as_json)


def main() -> None:
    try:
        with unwinding_on_signals(signal.SIGTERM, signal.SIGHUP):
            app()
    except CamtrackError as error:
        complain(str(error))
        sys.exit(2)


if __name__ == "__main__":
    main()
