"""The demo: a recording, or a generated drive, through the real ROS 2 processes, with a live table and scores."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.live import Live
from rich.table import Table

from camtrack.demo import cameras, space
from camtrack.demo.domain import own_domain
from camtrack.demo.window import Window
from camtrack.launch.packages import LaunchError, find_share
from camtrack.live import listening
from camtrack.recording.files import Recorded, read_tracks
from camtrack_core.datasets.drive import RIG
from camtrack_core.datasets.frames import Sequence
from camtrack_core.datasets.sources import open_cameras, open_source
from camtrack_core.errors import DataError
from camtrack_core.files import new_folder
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.stopping import STOP_SIGNALS

PATIENCE = 20.0  # seconds between two signals of growing weight; a launcher needs 10 itself to end its processes
IMAGE_NODES = "replay, gcnet_tracker, pkf_filter and recorder"
SPACE_NODES = "replay, gcnet_tracker, time3d_tracker, pkf_filter and recorder"
RIG_NODES = "replay, gcnet_tracker and time3d_tracker for all cameras, pkf_filter and recorder"
NAMESPACE = "camera"
MIN_HEIGHT = 20.0  # pixels; smaller objects are neither hits nor misses


@dataclass(frozen=True)
class Demo:
    """What the command line was asked for; see `camtrack demo --help`."""

    input: str | None
    out: Path
    seed: int
    seconds: float
    rate: float
    model: Path | None
    model_3d: Path | None
    device: str
    device_id: int
    precision: str
    view: bool
    verbose: bool
    cameras: int = 1


@dataclass(frozen=True)
class Outcome:
    """What the demo came to.

    Attributes:
        exit_code: of the processes; the rest is empty where they failed.
        source: that was replayed.
        frames, tracks: numbers.
        scores: by name, where the source has labels.
        files: what was written.
    """

    exit_code: int
    source: str
    frames: int = 0
    tracks: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def run_demo(demo: Demo, console: Console) -> Outcome:
    """Runs the demo and tells about it on the console. Raises CamtrackError for what a user can mend.

    A recording that tells where its camera is, as a generated drive does, is tracked in space, others in the image.
    """
    if demo.cameras > 1:
        return _run_rig(demo, console)
    window = Window("camtrack") if demo.view else None
    demo = replace(demo, out=new_folder(demo.out))
    source = demo.input or str(space.generate_drive(demo.out, NAMESPACE, demo.seed, demo.seconds, console))
    sequence = open_source(source)
    first = next(iter(sequence), None)  # shows that the source can be played at all
    if first is None:
        raise DataError(f"{source}: expected at least one frame, found none")
    in_space = space.has_space(first)
    console.print(f"replaying {source} through {SPACE_NODES if in_space else IMAGE_NODES}; files go to {demo.out}")
    file, image = ("fusion.launch.xml", "recorder") if in_space else ("tracking.launch.xml", "gcnet_tracker")
    models = {"model_2d": demo.model, "model_3d": demo.model_3d} if in_space else {"model": demo.model}
    arguments = {"source": source, "namespace": NAMESPACE, **_common_arguments(demo, models)}
    if code := _run_nodes(demo, file, arguments, f"/{NAMESPACE}/{image}/image", window, console):
        return Outcome(code, source)
    tracks = demo.out / ("tracks3d.jsonl" if in_space else "tracks.jsonl")
    recorded = _recorded(tracks, demo.out / "log.txt")
    scores, title = {}, ""
    if in_space and first.boxes3d is not None:
        judged = space.judge(sequence) if demo.input else space.read_judged(demo.out / "judged.json")
        scores = space.scores(sequence, judged, recorded)
        title = f"in space, against the truth of {sequence.name} ({space.RULE})"
    elif not in_space and first.labels is not None:
        scores = image_scores(sequence, recorded)
        title = f"against the truth of {sequence.name}"
    ids = {row["id"] for rows in recorded.values() for row in rows}
    console.print(f"{len(recorded)} frames tracked, {len(ids)} tracks")
    if scores:
        console.print(score_table(scores, title))
    video = demo.out / "tracks.mp4"
    console.print(f"annotated video: {video}")
    return Outcome(0, source, len(recorded), len(ids), scores, (video, tracks))


def _run_rig(demo: Demo, console: Console) -> Outcome:
    """The demo with a generated drive that six cameras see."""
    if demo.input is not None or demo.cameras != len(RIG):
        raise DataError(f"expected --cameras 1, or --cameras {len(RIG)} without --input, got {demo.cameras}")
    window = Window("camtrack") if demo.view else None
    demo = replace(demo, out=new_folder(demo.out))
    source = str(cameras.generate_rig(demo.out, demo.seed, demo.seconds, console))
    console.print(f"replaying {source} through {RIG_NODES}; files go to {demo.out}")
    models = {"model_2d": demo.model, "model_3d": demo.model_3d}
    arguments = {"source": source, "cameras": " ".join(RIG), **_common_arguments(demo, models)}
    if code := _run_nodes(demo, "cameras.launch.xml", arguments, "/recorder/image", window, console):
        return Outcome(code, source)
    tracks, video = demo.out / "tracks3d.jsonl", demo.out / "cameras.mp4"
    recorded, sequences = _recorded(tracks, demo.out / "log.txt"), open_cameras(source)
    scores = cameras.scores(sequences, recorded)
    ids = {row["id"] for rows in recorded.values() for row in rows}
    console.print(f"{len(recorded)} rounds of {len(RIG)} frames tracked, {len(ids)} tracks")
    console.print(score_table(scores, f"in space, against the truth ({space.RULE})"))
    cameras.write_video(sequences, recorded, video)
    console.print(f"annotated video: {video}", style="bold")
    return Outcome(0, source, len(recorded), len(ids), scores, (video, tracks))


def _recorded(tracks: Path, log: Path) -> Recorded:
    """What the recorder has written. Raises DataError where that is nothing."""
    recorded: Recorded = read_tracks(tracks) if tracks.exists() else {}
    if not recorded:
        said = "\n".join(["", *_errors(log)])
        raise DataError(f"expected the tracks of at least one frame in {tracks}, got none; {log} may say why{said}")
    return recorded


def _common_arguments(demo: Demo, models: Mapping[str, Path | None]) -> dict[str, Any]:
    """Arguments that the launch files share."""
    paths = {name: path.resolve() if path else "" for name, path in models.items()}
    engine = {"device": demo.device, "device_id": demo.device_id, "precision": demo.precision}
    return {"record": demo.out, "rate": demo.rate, **engine, **paths}


# ------------------------------------------------------------------------------------------- the processes


def launch_folder() -> Path:
    """Where the launch files are: in the installed package's share folder, or beside the code in a checkout."""
    with suppress(LaunchError):
        installed = find_share("camtrack") / "launch"
        if installed.is_dir():
            return installed
    return Path(__file__).resolve().parents[2] / "launch"


def _run_nodes(
    demo: Demo, file: str, arguments: Mapping[str, Any], image: str, window: Window | None, console: Console
) -> int:
    """Runs a launch file with a live table and, in the window, the images on a topic; returns its exit code."""
    log_file = demo.out / "log.txt"
    launcher = ["ros2", "launch"] if shutil.which("ros2") else [sys.executable, "-m", "camtrack.launch.runner"]
    given = [f"{name}:={value}" for name, value in arguments.items() if value != ""]
    command = [*launcher, str(launch_folder() / file), *given]
    with open(log_file, "w") as log, own_domain() as domain, _signals() as caught:
        console.print(f"ROS_DOMAIN_ID={domain} shows the graph to other terminals")
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            with Live(console=console, refresh_per_second=4) as live, listening("demo") as monitor:
                if window is not None:
                    _show_images(monitor.node, image, window)
                while process.poll() is None and not caught:
                    monitor.wait(0.25)
                    live.update(monitor.details() if demo.verbose else monitor.summary())
        except (KeyboardInterrupt, ImportError):  # which an import makes of a signal that meets it
            if not caught:
                raise
        finally:
            end_processes(process)
    hard = next((number for number in caught if number != signal.SIGINT), 0)
    if hard:
        raise SystemExit(128 + hard)
    if caught:
        console.print("stopping")
        return 0  # however the nodes take it
    if process.returncode:
        console.print(f"a node failed with exit code {process.returncode}; its words are in {log_file}", style="red")
        for line in _errors(log_file):
            console.print(line)
    return process.returncode


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Stop signals unwind the stack, so that what was started is ended; the list tells of those that came.

    It does so even where the exception is lost because it met an import or a destructor.
    """
    caught: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        caught.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in STOP_SIGNALS}
    try:
        yield caught
    finally:
        for number, act in before.items():
            signal.signal(number, act)


def end_processes(launcher: subprocess.Popen[Any], patience: float = PATIENCE) -> None:
    """Ends a launcher and all that it has started, which has process groups of its own.

    A further Ctrl-C, or SIGTERM, goes on to the next signal at once.
    """
    if launcher.poll() is not None:
        return
    started = psutil.Process(launcher.pid).children(recursive=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt, SystemExit):
            os.killpg(launcher.pid, number)
            launcher.wait(patience)
            break
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _show_images(node: Any, topic: str, window: Window) -> None:
    """Shows the images on a topic."""
    from sensor_msgs.msg import Image

    from camtrack_core.ros.lifecycle.qos import SENSOR_DATA
    from camtrack_core.ros.messages.image import to_bgr

    def show(message: Image) -> None:
        window.show(to_bgr(message))

    node.create_subscription(Image, topic, show, SENSOR_DATA)


def _errors(log: Path) -> list[str]:
    """The last lines of the log that speak of an error."""
    return [line for line in log.read_text(errors="replace").splitlines() if "error" in line.lower()][-5:]


# --------------------------------------------------------------------------------------------- the results


def image_scores(truth: Sequence, recorded: Recorded) -> dict[str, float]:
    """Scores of recorded tracks against a sequence's labels, all classes alike."""
    from camtrack_core.evaluation.tracking import evaluation_frame, score_tracks

    frames = [
        evaluation_frame(frame, _as_tracks(recorded.get(frame.time_ns, [])), MIN_HEIGHT)
        for frame in truth
        if frame.labels is not None
    ]
    found = score_tracks({truth.name: frames}, MIN_HEIGHT)
    return {
        "HOTA": found.hota, "DetA": found.det_a, "AssA": found.ass_a, "MOTA": found.mota, "IDF1": found.idf1,
        "id switches": found.id_switches,
    }  # fmt: skip


def score_table(scores: dict[str, float], title: str) -> Table:
    table = Table(*scores, title=title)
    table.add_row(*(str(value) if isinstance(value, int) else f"{value:.3f}" for value in scores.values()))
    return table


def _as_tracks(rows: list[dict]) -> Tracks2D:
    """Recorded rows as tracks; scoring over all classes needs no class."""
    ids = np.array([row["id"] for row in rows], np.int64)
    xyxy = np.array([row["xyxy"] for row in rows], float).reshape(-1, 4)
    return Tracks2D(ids, xyxy, np.array([row["score"] for row in rows], float), np.zeros(len(rows), np.int64))
