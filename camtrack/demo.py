"""The demo: a recording, or a generated drive, through the real ROS 2 processes, with a live table and scores."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.table import Table

from camtrack_core.datasets.frames import Labels, Sequence
from camtrack_core.datasets.labelled import LabelledVideo, VideoLabels, write_labels
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import DataError
from camtrack_core.tracks import Tracks2D

LAUNCH_FILE = Path(__file__).resolve().parents[1] / "launch" / "tracking.launch.xml"
NAMESPACE = "camera"
FRAME_RATE = 20.0  # of a generated drive
MIN_HEIGHT = 20.0  # pixels; smaller objects are neither hits nor misses
MIN_VISIBLE = 0.3  # share; more hidden objects are neither hits nor misses
STAGES = ("convert", "resize", "inference", "track", "predict", "associate", "update", "publish", "write", "total")


@dataclass(frozen=True)
class Demo:
    """What the command line was asked for; see `camtrack demo --help`."""

    input: str | None
    out: Path
    seed: int
    seconds: float
    rate: float
    model: Path | None
    device: str
    view: bool


def run_demo(demo: Demo, console: Console) -> int:
    """Runs the demo; returns the exit code of the processes. Raises CamtrackError for what a user can mend."""
    _make_folder(demo.out)
    source = demo.input or str(generate_drive(demo, console))
    truth = _open_truth(demo, source)
    console.print(f"replaying [bold]{source}[/] through replay, gcnet_tracker, pkf_filter and recorder")
    console.print("(the first start compiles the filter, which takes up to a minute)")
    code = _run_nodes(demo, source, console)
    if code:
        console.print(f"[red]a node failed with exit code {code}; its words are in {demo.out / 'log.txt'}[/]")
        _show_errors(demo.out / "log.txt", console)
        return code
    console.print(summary(demo.out))
    if truth is not None:
        console.print(score_table(truth, demo.out / "tracks.jsonl"))
    console.print(f"annotated video: [bold]{demo.out / 'tracks.mp4'}[/]")
    return 0


# ------------------------------------------------------------------------------------------- the recording


def generate_drive(demo: Demo, console: Console) -> Path:
    """Renders a drive to a video with its truth beside it; returns the video's path."""
    from camtrack_core.datasets.drive import Drive, DriveConfig

    drive = Drive(DriveConfig(seed=demo.seed, frames=round(demo.seconds * FRAME_RATE), frame_rate=FRAME_RATE))
    size = (drive.config.width, drive.config.height)
    path = demo.out / "drive.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FRAME_RATE, size)
    labels: list[Tracks2D] = []
    with Progress(console=console) as progress:
        task = progress.add_task("generating a drive (the first one compiles the renderer)", total=len(drive))
        for frame in drive:
            assert frame.labels is not None
            writer.write(frame.image)
            labels.append(_judged(frame.labels))
            progress.advance(task)
    writer.release()
    ignored = [np.column_stack([t.xyxy[t.scores == 0], np.zeros((t.scores == 0).sum())]) for t in labels]
    kept = [t[t.scores > 0] for t in labels]
    write_labels(demo.out / "truth.txt.gz", VideoLabels(path.name, size, drive.class_names, kept, ignored))
    return path


def _judged(labels: Labels) -> Tracks2D:
    """Truth as tracks: score 1 for objects that must be found, 0 for those too small or hidden to be judged."""
    tall = labels.xyxy[:, 3] - labels.xyxy[:, 1] >= MIN_HEIGHT
    return Tracks2D(labels.ids, labels.xyxy, (tall & (labels.visible >= MIN_VISIBLE)).astype(float), labels.class_ids)


def _open_truth(demo: Demo, source: str) -> Sequence | None:
    """The source's truth where it has any; reading its first frame shows that it can be played at all."""
    sequence = open_source(source) if demo.input else LabelledVideo(source, demo.out / "truth.txt.gz")
    first = next(iter(sequence), None)
    if first is None:
        raise DataError(f"{source}: expected at least one frame, found none")
    return sequence if first.labels is not None else None


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {path}: {error.strerror}") from error


# ------------------------------------------------------------------------------------------- the processes


def _run_nodes(demo: Demo, source: str, console: Console) -> int:
    arguments = {
        "source": source, "record": demo.out, "rate": demo.rate, "device": demo.device, "namespace": NAMESPACE,
        "model": demo.model.resolve() if demo.model else "",
    }  # fmt: skip
    launcher = ["ros2", "launch"] if shutil.which("ros2") else [sys.executable, "-m", "camtrack.launch_runner"]
    command = [*launcher, str(LAUNCH_FILE), *(f"{name}:={value}" for name, value in arguments.items() if value != "")]
    with open(demo.out / "log.txt", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            with Live(console=console, refresh_per_second=4) as live, _listen(demo.view) as monitor:
                while process.poll() is None:
                    monitor.wait(0.25)
                    live.update(monitor.table())
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
        finally:
            _end(process)
    return process.returncode


def _end(process: subprocess.Popen) -> None:
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class DiagnosticsTable:
    """The latest diagnostics of each node, as a table."""

    def __init__(self) -> None:
        self._status: dict[str, tuple[str, dict[str, str]]] = {}

    def take(self, message) -> None:  # type: ignore[no-untyped-def]
        for status in message.status:
            self._status[status.name] = (status.message, {v.key: v.value for v in status.values})

    def table(self) -> Table:
        table = Table("node", "rate (Hz)", "frames", "tracks", "latency p50 / p99 (ms)", "remarks")
        for name, (message, values) in sorted(self._status.items()):
            latencies = [
                f"{stage} {values[f'latency.{stage}.p50_ms']}/{values[f'latency.{stage}.p99_ms']}"
                for stage in STAGES
                if f"latency.{stage}.p50_ms" in values
            ]
            drops = [f"{key.removeprefix('drops.')}: {n}" for key, n in values.items() if key.startswith("drops.")]
            remarks = ", ".join(drops) or ("" if message.startswith(values.get("state", "")) else message)
            row = (values.get("rate_hz", ""), values.get("processed", ""), values.get("tracks", ""))
            table.add_row(name.rsplit("/", 1)[-1], *row, "\n".join(latencies), remarks)
        return table


class Listener(DiagnosticsTable):
    """A ROS node of the demo's own that hears the diagnostics and, where asked, shows the annotated images."""

    def __init__(self, node, executor) -> None:  # type: ignore[no-untyped-def]
        from diagnostic_msgs.msg import DiagnosticArray

        from camtrack_core.ros.qos import DIAGNOSTICS

        super().__init__()
        self._executor = executor
        node.create_subscription(DiagnosticArray, "/diagnostics", self.take, DIAGNOSTICS)

    def wait(self, seconds: float) -> None:
        """Serves callbacks for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)


@contextmanager
def _listen(view: bool) -> Iterator[Listener]:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, executor = rclpy.create_node("demo"), SingleThreadedExecutor()
    executor.add_node(node)
    if view:
        _show_images(node)
    try:
        yield Listener(node, executor)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def _show_images(node) -> None:  # type: ignore[no-untyped-def]
    """Opens a window on the tracker's annotated images. Raises DataError where there is no display for it."""
    from sensor_msgs.msg import Image

    from camtrack_core.ros.image import to_bgr
    from camtrack_core.ros.qos import SENSOR_DATA

    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        raise DataError(
            "--view: expected a display, found none (DISPLAY is not set); watch the annotated video instead"
        )
    try:
        cv2.namedWindow("camtrack", cv2.WINDOW_NORMAL)
    except cv2.error as error:
        raise DataError("--view: this OpenCV has no windows (opencv-python-headless); install opencv-python") from error

    def show(message: Image) -> None:
        cv2.imshow("camtrack", to_bgr(message))
        cv2.waitKey(1)

    node.create_subscription(Image, f"/{NAMESPACE}/gcnet_tracker/image", show, SENSOR_DATA)


def _show_errors(log: Path, console: Console) -> None:
    """The last lines of the log that speak of an error."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if "error" in line.lower()]
    for line in lines[-5:]:
        console.print(line, highlight=False, markup=False)


# --------------------------------------------------------------------------------------------- the results


def read_tracks(path: Path) -> dict[int, list[dict]]:
    """Recorded tracks by stamp, as recorder_node writes them."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["time_ns"]: line["tracks"] for line in lines}


def summary(out: Path) -> str:
    recorded = read_tracks(out / "tracks.jsonl")
    ids = {row["id"] for rows in recorded.values() for row in rows}
    return f"{len(recorded)} frames tracked, {len(ids)} tracks"


def score_table(truth: Sequence, tracks: Path) -> Table:
    """Scores of recorded tracks against a sequence's labels, all classes alike."""
    from camtrack_core.evaluation.tracking import evaluation_frame, score_tracks

    recorded = read_tracks(tracks)
    frames = [
        evaluation_frame(frame, _as_tracks(recorded.get(frame.time_ns, [])), MIN_HEIGHT)
        for frame in truth
        if frame.labels is not None
    ]
    scores = score_tracks({truth.name: frames}, MIN_HEIGHT)
    table = Table("HOTA", "DetA", "AssA", "MOTA", "IDF1", "id switches", title=f"against the truth of {truth.name}")
    figures = (scores.hota, scores.det_a, scores.ass_a, scores.mota, scores.idf1)
    table.add_row(*(f"{figure:.3f}" for figure in figures), str(scores.id_switches))
    return table


def _as_tracks(rows: list[dict]) -> Tracks2D:
    """Recorded rows as tracks; scoring over all classes needs no class."""
    ids = np.array([row["id"] for row in rows], np.int64)
    xyxy = np.array([row["xyxy"] for row in rows], float).reshape(-1, 4)
    return Tracks2D(ids, xyxy, np.array([row["score"] for row in rows], float), np.zeros(len(rows), np.int64))
