"""The demo: a recording, or a generated drive, through the real ROS 2 processes, with a live table and scores."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.live import Live
from rich.table import Table

from camtrack.demo import space
from camtrack.demo.window import Window
from camtrack.launch.file import LaunchError, find_share
from camtrack.live import listening
from camtrack.recording.files import Recorded, read_tracks
from camtrack_core.datasets.frames import Sequence
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.evaluation.space import MATCH_DISTANCE
from camtrack_core.files import new_folder
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.stopping import STOP_SIGNALS

PATIENCE = 20.0  # seconds between two signals of growing weight; a launcher needs 10 itself to end its processes
IMAGE_NODES = "replay, gcnet_tracker, pkf_filter and recorder"
SPACE_NODES = "replay, gcnet_tracker, time3d_tracker, pkf_filter and recorder"
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
    window = Window("camtrack") if demo.view else None
    demo = replace(demo, out=new_folder(demo.out))
    source = demo.input or str(space.generate_drive(demo.out, NAMESPACE, demo.seed, demo.seconds, console))
    sequence = open_source(source)
    first = next(iter(sequence), None)  # shows that the source can be played at all
    if first is None:
        raise DataError(f"{source}: expected at least one frame, found none")
    in_space = space.has_space(first)
    console.print(f"replaying {source} through {SPACE_NODES if in_space else IMAGE_NODES}; files go to {demo.out}")
    code, log = _run_nodes(demo, source, in_space, window, console), demo.out / "log.txt"
    if code:
        console.print(f"a node failed with exit code {code}; its words are in {log}", style="red")
        for line in _errors(log):
            console.print(line)
        return Outcome(code, source)
    tracks = demo.out / ("tracks3d.jsonl" if in_space else "tracks.jsonl")
    recorded: Recorded = read_tracks(tracks) if tracks.exists() else {}
    if not recorded:
        said = "\n".join(["", *_errors(log)])
        raise DataError(f"expected the tracks of at least one frame in {tracks}, got none; {log} may say why{said}")
    scores, title = {}, ""
    if in_space and first.boxes3d is not None:
        judged = space.judge(sequence) if demo.input else space.read_judged(demo.out / "judged.json")
        scores = space.scores(sequence, judged, recorded)
        title = f"in space, against the truth of {sequence.name} (matches within {MATCH_DISTANCE:g} m)"
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


# ------------------------------------------------------------------------------------------- the processes


def launch_folder() -> Path:
    """Where the launch files are: in the installed package's share folder, or beside the code in a checkout."""
    with suppress(LaunchError):
        installed = find_share("camtrack") / "launch"
        if installed.is_dir():
            return installed
    return Path(__file__).resolve().parents[2] / "launch"


def _run_nodes(demo: Demo, source: str, in_space: bool, window: Window | None, console: Console) -> int:
    file, image = ("fusion.launch.xml", "recorder") if in_space else ("tracking.launch.xml", "gcnet_tracker")
    models = {"model_2d": demo.model, "model_3d": demo.model_3d} if in_space else {"model": demo.model}
    arguments = {
        "source": source, "record": demo.out, "rate": demo.rate, "device": demo.device,
        "device_id": demo.device_id, "precision": demo.precision, "namespace": NAMESPACE,
        **{name: path.resolve() if path else "" for name, path in models.items()},
    }  # fmt: skip
    launcher = ["ros2", "launch"] if shutil.which("ros2") else [sys.executable, "-m", "camtrack.launch.runner"]
    given = [f"{name}:={value}" for name, value in arguments.items() if value != ""]
    command = [*launcher, str(launch_folder() / file), *given]
    with open(demo.out / "log.txt", "w") as log, _signals() as caught:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            with Live(console=console, refresh_per_second=4) as live, listening("demo") as monitor:
                if window is not None:
                    _show_images(monitor.node, image, window)
                while process.poll() is None and not caught:
                    monitor.wait(0.25)
                    live.update(monitor.details() if demo.verbose else monitor.summary())
        except KeyboardInterrupt:
            pass  # `caught` tells of it
        finally:
            end_processes(process)
    hard = next((number for number in caught if number != signal.SIGINT), 0)
    if hard:
        raise SystemExit(128 + hard)
    if caught:
        console.print("stopping")
        return 0  # however the nodes take it
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


def _show_images(node: Any, shown: str, window: Window) -> None:
    """Shows a node's annotated images."""
    from sensor_msgs.msg import Image

    from camtrack_core.ros.lifecycle.qos import SENSOR_DATA
    from camtrack_core.ros.messages.image import to_bgr

    def show(message: Image) -> None:
        window.show(to_bgr(message))

    node.create_subscription(Image, f"/{NAMESPACE}/{shown}/image", show, SENSOR_DATA)


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
