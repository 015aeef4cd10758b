"""Long runs: does anything grow, and what happens when more comes than can be done?

    python benchmarks/soak.py [trackers | worlds | replay | graph | load ...] [--profile ci | nightly | full] [--json]

trackers: frames through the two filters and GCNet's tracker (its network scripted): memory, live tracks, latency.
worlds: random worlds, with gaps, stragglers, boxes that are none and scores of 0 and 1: every covariance must be
    positive definite, every existence within [0, 1] after every step.
replay: a video in a loop, twenty times faster than it was taken: memory, handles and threads of its process.
graph: the processes of launch/tracking.launch.xml on a generated drive in a loop: memory, handles and threads of
    each process, latency.
load: images to the nodes at a rate that doubles until some are lost: all that are not answered must be counted, and
    what is answered last must be of the last images shown.

Exit code 1 where a promise of docs/reliability.md is broken: growth of 1 MB in 10^4 frames or more, or in the whole run
where that is shorter, which else is judged by its noise; latency that has grown by more than a half, more handles or
threads. The first fifth of a run does not count, nor do the first two minutes of processes, in which buffers fill.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from camtrack_core.errors import CamtrackError
from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from camtrack_core.ros.lifecycle.qos import DIAGNOSTICS, RESULTS, SENSOR_DATA
from camtrack_core.ros.messages.cdr import unpack_stamp
from camtrack_core.ros.messages.image import fill_image
from camtrack_core.ros.messages.stamps import fill_stamp
from gcnet_tracker.config import SLOTS
from gcnet_tracker.tracker import FrameOutput
from gcnet_tracker.tracker import Tracker as GCNetTracker
from pkf_filter.image.config import FilterConfig
from pkf_filter.image.tracker import Tracker
from pkf_filter.space.config import WorldConfig
from pkf_filter.space.tracker import WorldTracker

ROOT = Path(__file__).resolve().parents[1]
SECOND = 1_000_000_000
FRAME = SECOND // 10
SAMPLES = 50  # of memory and latency in a run
WARM_UP = 0.2  # share of a run that does not count
SETTLING = 120.0  # seconds of processes before the first sample
MOST_GROWTH = 1.0  # MB in 10^4 frames, or in a run that has fewer
MOST_SLOWING = 1.5  # of the last fifth's median latency over the first's
SOURCE = "drive:7?frames=200&width=640&height=360"  # what the graph is shown, in a loop
RATES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)  # images a second
SCORES = {0.0: 0.05, 1e-12: 0.05, 0.01: 0.05, 0.3: 0.2, 0.5: 0.2, 0.9: 0.2, 0.999999: 0.1, 1.0: 0.1, np.nan: 0.05}
QUEUE = 3  # images that wait at a busy node: SENSOR_DATA's depth
START = 600.0  # seconds that nodes may take to be up, where they compile their kernels first


@dataclass(frozen=True)
class Profile:
    """How long it takes: frames of the trackers, steps in random worlds, seconds of the graph and of each rate.

    settling: seconds of processes before the first sample.
    """

    frames: int
    steps: int
    seconds: float
    rate_seconds: float
    settling: float = SETTLING


PROFILES = {
    "ci": Profile(2_000, 2_000, 60, 2),
    "nightly": Profile(30_000, 20_000, 600, 5),
    "full": Profile(100_000, 100_000, 3600, 10),
}


@dataclass
class Figures:
    """What a run came to, and what of it breaks a promise."""

    name: str
    values: dict[str, float | int | str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def expect(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.broken.append(sentence)


@dataclass
class Series:
    """Samples of one process over its frames."""

    frames: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)  # MB
    latency: list[float] = field(default_factory=list)  # ms
    handles: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def add(self, process: psutil.Process, frames: float, latency: float) -> None:
        self.frames.append(frames)
        self.memory.append(process.memory_info().rss / 1e6)
        self.latency.append(latency)
        self.handles.append(process.num_fds())
        self.threads.append(process.num_threads())

    def judge(self, figures: Figures, prefix: str = "") -> None:
        """Growth after the warm-up, by least squares for memory, by comparing the ends for the others."""
        start = int(WARM_UP * len(self.frames))
        x, memory = np.array(self.frames[start:]), np.array(self.memory[start:])
        slope = float(np.polyfit(x, memory, 1)[0]) if len(x) > 2 else 0.0
        growth = 1e4 * slope
        fifth = max(len(x) // 5, 1)
        first, last = (float(np.median(part)) for part in (self.latency[start:][:fifth], self.latency[-fifth:]))
        figures.values |= {
            f"{prefix}frames": int(self.frames[-1]),
            f"{prefix}MB": round(self.memory[-1], 1),
            f"{prefix}MB in 10^4 frames": round(growth, 3),
            f"{prefix}ms, first fifth": round(first, 3),
            f"{prefix}ms, last fifth": round(last, 3),
            f"{prefix}handles": self.handles[-1],
            f"{prefix}threads": self.threads[-1],
        }
        grown = slope * min(1e4, x[-1] - x[0])
        figures.expect(grown < MOST_GROWTH, f"{prefix}memory grows by {growth:.2f} MB in 10^4 frames")
        figures.expect(last < MOST_SLOWING * first, f"{prefix}latency has grown from {first:.2f} to {last:.2f} ms")
        for what in ("handles", "threads"):
            counts = getattr(self, what)[start:]
            figures.expect(counts[-1] <= counts[0], f"{prefix}{what} have grown from {counts[0]} to {counts[-1]}")


# --- The trackers


def image_frames(seed: int) -> Iterator[tuple[int, Boxes2D]]:
    """Traffic without end in an image: about 15 cars that come and go, a tenth missed, two false boxes a frame."""
    rng = np.random.default_rng(seed)
    place, speed, size = rng.uniform(0, [1600, 900], (15, 2)), rng.normal(0, 60, (15, 2)), rng.uniform(30, 120, (15, 2))
    time_ns = SECOND
    while True:
        place += speed * 0.1
        gone = ((place < 0) | (place > [1600, 900])).any(1)
        place[gone], speed[gone] = rng.uniform(0, [1600, 900], (gone.sum(), 2)), rng.normal(0, 60, (gone.sum(), 2))
        seen = rng.random(15) > 0.1
        middle = np.concatenate([place[seen] + rng.normal(0, 2, (seen.sum(), 2)), rng.uniform(0, [1600, 900], (2, 2))])
        half = np.concatenate([size[seen], rng.uniform(30, 120, (2, 2))]) / 2
        scores = np.concatenate([rng.uniform(0.6, 0.95, seen.sum()), rng.uniform(0.2, 0.5, 2)])
        xyxy = np.concatenate([middle - half, middle + half], 1)
        yield time_ns, Boxes2D(xyxy, scores, np.zeros(len(scores), np.int64))
        time_ns += FRAME


def space_frames(seed: int) -> Iterator[tuple[int, Detections3D]]:
    """The same on the ground."""
    for time_ns, boxes in image_frames(seed):
        middle = (boxes.xyxy[:, :2] + boxes.xyxy[:, 2:]) / 2 / 16 - [50, 28]
        count = len(middle)
        centre = np.concatenate([middle, np.full((count, 1), 0.75)], 1)
        placed = Boxes3D(centre, np.tile([4.2, 1.8, 1.5], (count, 1)), np.zeros(count), np.full((count, 3), np.nan))
        yield time_ns, Detections3D(placed, boxes.scores, boxes.class_ids)


class ScriptedGCNet:
    """Stands for the network: what it sees is what image_frames shows; stored tracks stay where they are, or fade."""

    height, width, class_names = 64, 96, ("car",)

    def __init__(self) -> None:
        self._rng = np.random.default_rng(5)

    def slots(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((4, SLOTS), np.float32), np.zeros((4, SLOTS), np.float32)

    def output(self, boxes: Boxes2D, tracker: GCNetTracker) -> FrameOutput:
        some = np.zeros((4, len(boxes)), np.float32)
        fading = np.where(self._rng.random(SLOTS) < 0.2, 0.1, 0.9)
        return FrameOutput(boxes, some, some, tracker._boxes.copy(), fading, *self.slots())


def tracker_run(
    name: str, frames: Iterator[Any], step: Callable[[Any], Any], live: Callable[[], int], count: int
) -> Figures:
    """So many frames through a tracker."""
    figures, series, process = Figures(name), Series(), psutil.Process()
    every, durations, most = max(count // SAMPLES, 1), [], 0
    for index in range(count):
        frame = next(frames)
        started = time.perf_counter()
        step(frame)
        durations.append(1e3 * (time.perf_counter() - started))
        most = max(most, live())
        if index % every == every - 1:
            gc.collect()
            series.add(process, index + 1, float(np.median(durations)))
            durations = []
    series.judge(figures)
    figures.values["most live tracks"] = most
    figures.expect(most <= 500, f"{most} tracks were alive at the same time")
    return figures


def trackers(profile: Profile) -> Iterator[Figures]:
    image, space = Tracker(FilterConfig()), WorldTracker(WorldConfig())
    space.class_id("car")
    scripted = ScriptedGCNet()
    gcnet = GCNetTracker(scripted)  # type: ignore[arg-type]
    runs = [
        ("PKF in the image", image_frames(1), lambda frame: image.step(*frame), lambda: len(image._tracks)),
        ("PKF in space", space_frames(2), lambda frame: space.step(*frame), lambda: len(space._state.ids)),
        (
            "GCNet's tracker", image_frames(3), lambda frame: gcnet.update(scripted.output(frame[1], gcnet)),
            lambda: int((gcnet._ids > 0).sum()),
        ),
    ]  # fmt: skip
    return (tracker_run(*run, profile.frames) for run in runs)


# --- Random worlds


def odd_times(rng: np.random.Generator) -> Iterator[int]:
    """Stamps with gaps up to 3 s, repeated ones and late ones."""
    time_ns = SECOND
    while True:
        time_ns += int(rng.choice([0, 10**6, FRAME // 3, FRAME, FRAME, FRAME, SECOND, 3 * SECOND]))
        yield time_ns - int(rng.choice([0, 0, 0, 0, FRAME, 4 * FRAME]))


def odd_scores(rng: np.random.Generator, count: int) -> np.ndarray:
    scores, shares = zip(*SCORES.items(), strict=True)
    return rng.choice(scores, count, p=shares)


def odd_boxes(rng: np.random.Generator) -> Boxes2D:
    """Up to 12 boxes, many of which lie upon each other; some are none, or tiny, or of the size of a city."""
    count = int(rng.integers(0, 13))
    middle = rng.choice([100.0, 110, 400, 405, 900, 1e6, -500], (count, 2)) + rng.normal(0, 3, (count, 2))
    half = rng.choice([1e-3, 5.0, 40, 60, 400, 1e5], (count, 2), p=[0.05, 0.2, 0.3, 0.3, 0.1, 0.05])
    xyxy = np.concatenate([middle - half, middle + half], 1)
    xyxy[rng.random(count) < 0.03] = rng.choice([np.nan, np.inf, 0.0])
    return Boxes2D(xyxy, odd_scores(rng, count), rng.integers(-1, 66, count))


def odd_detections(rng: np.random.Generator) -> Detections3D:
    count = int(rng.integers(0, 13))
    centre = rng.choice([0.0, 1, 5, 20, 21, -30, 1e4], (count, 3)) + rng.normal(0, 0.3, (count, 3))
    size = rng.choice([1e-3, 0.5, 1.5, 4, 15, 1e3], (count, 3), p=[0.03, 0.2, 0.3, 0.3, 0.15, 0.02])
    velocity = rng.choice([np.nan, 0.0, 10, -30, 300], (count, 3))
    centre[rng.random(count) < 0.03] = np.nan
    boxes = Boxes3D(centre, size, rng.uniform(-10, 10, count), velocity)
    return Detections3D(boxes, odd_scores(rng, count), rng.integers(-1, 4, count))


def odd_image_config(rng: np.random.Generator) -> FilterConfig:
    return FilterConfig(
        spread=str(rng.choice(["none", "means", "mixture"])), identities=str(rng.choice(["averaged", "resolved"])),
        min_birth=0.01, max_silence=float(rng.choice([0.5, 5.0])), max_lag=0.5,
    )  # fmt: skip


def odd_space_config(rng: np.random.Generator) -> WorldConfig:
    return WorldConfig(
        spread=str(rng.choice(["none", "means", "mixture"])), identities=str(rng.choice(["averaged", "resolved"])),
        max_silence=float(rng.choice([0.5, 5.0])), max_lag=0.5,
    )  # fmt: skip


def least_eigenvalue(covariances: np.ndarray) -> float:
    """Of (..., K, K) matrices, relative to their largest; infinite without any."""
    if not covariances.size:
        return np.inf
    values = np.linalg.eigvalsh(covariances)
    return float((values[..., 0] / np.abs(values).max(-1)).min())


def faults_in_image(tracker: Tracker) -> list[str]:
    tracks = tracker._tracks
    faults = [] if np.isfinite(tracks["mean"]).all() else ["a mean is not finite"]
    value, both, rate = np.moveaxis(tracks["covariance"], -1, 0)  # of each coordinate; the aspect has no rate
    definite = np.where(rate > 0, value * rate - both**2 > 0, (rate == 0) & (both == 0))
    if not (definite & (value > 0) & (value < np.inf) & (rate < np.inf)).all():
        faults.append("a covariance is not positive definite")
    return faults + probability_faults(existence=tracks["existence"], visibility=tracks["visibility"])


def faults_in_space(tracker: WorldTracker) -> list[str]:
    state = tracker._state
    faults = [] if np.isfinite(state.mean).all() else ["a mean is not finite"]
    for name in ("covariance", "mode_covariance"):
        values = getattr(state, name)
        if not np.isfinite(values).all() or least_eigenvalue(values) <= 0:
            faults.append(f"a {name} is not positive definite")
    return faults + probability_faults(existence=state.existence, modes=state.mode_probability)


def probability_faults(**values: np.ndarray) -> list[str]:
    return [f"{name} outside [0, 1]" for name, p in values.items() if not ((p >= 0) & (p <= 1)).all()]


def world_run(
    name: str, steps: int, make: Callable[..., Any], frames: Callable[..., Any], faults: Callable[..., Any]
) -> Figures:
    """Worlds of 500 steps each, all from seeds."""
    figures, done, tracks, seed = Figures(name), 0, 0, 0
    while done < steps and not figures.broken:
        rng = np.random.default_rng(seed)
        tracker = make(rng)
        for step, time_ns in zip(range(500), odd_times(rng), strict=False):
            try:
                tracks += len(tracker.step(time_ns, frames(rng)))
            except CamtrackError:  # a stamp older than is allowed
                continue
            figures.broken += [f"{fault} in world {seed} after step {step}" for fault in faults(tracker)]
            if figures.broken:
                break
        done, seed = done + 500, seed + 1
    figures.values |= {"steps": done, "worlds": seed, "published tracks": tracks}
    return figures


def classified(config: WorldConfig) -> WorldTracker:
    tracker = WorldTracker(config)
    for name in ("car", "pedestrian", "truck"):
        tracker.class_id(name)
    return tracker


def worlds(profile: Profile) -> Iterator[Figures]:
    def image(rng: np.random.Generator) -> Tracker:
        return Tracker(odd_image_config(rng))

    def space(rng: np.random.Generator) -> WorldTracker:
        return classified(odd_space_config(rng))

    yield world_run("worlds in the image", profile.steps, image, odd_boxes, faults_in_image)
    yield world_run("worlds in space", profile.steps, space, odd_detections, faults_in_space)


# --- Processes


class Ear:
    """Hears what nodes say of themselves, and the stamps of tracks or images."""

    def __init__(self, topic: str, kind: type = Detection2DArray) -> None:
        rclpy.init(args=[])
        self.node, self._executor = rclpy.create_node("soak"), SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.status: dict[str, dict[str, str]] = {}
        self.answered: list[int] = []
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._note, DIAGNOSTICS)
        profile = SENSOR_DATA if kind is Image else RESULTS
        self.node.create_subscription(
            kind, topic, lambda data: self.answered.append(unpack_stamp(data)), profile, raw=True
        )

    def _note(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.status[status.name.rsplit("/", 1)[-1]] = {value.key: value.value for value in status.values}

    def listen(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def wait_for(
        self, condition: Callable[[], bool], runner: subprocess.Popen[bytes], seconds: float, what: str
    ) -> None:
        """Listens until the condition holds. Ends the program after so many seconds, or once the runner has ended."""
        end = time.monotonic() + seconds
        while not condition():
            if (code := runner.poll()) is not None:
                raise SystemExit(f"expected {what}, but its process ended with {code}")
            if time.monotonic() > end:
                raise SystemExit(f"expected {what}, waited {seconds:g} s in vain")
            self.listen(0.1)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown()


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def watched(name: str, ear: Ear, processes: dict[str, psutil.Process], profile: Profile) -> Figures:
    """The seconds of a profile of processes that are up, by the names of their nodes."""
    series = {node: Series() for node in processes}
    ear.listen(profile.settling)
    seconds = profile.seconds
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ear.listen(seconds / SAMPLES)
        for node, process in processes.items():
            said = ear.status.get(node, {})
            latency = said.get("latency.total.p50_ms", said.get("latency.publish.p50_ms", "nan"))
            series[node].add(process, float(said.get("processed", 0)), float(latency))
    figures = Figures(f"{name}, {seconds:g} s")
    for node, of_node in series.items():
        of_node.judge(figures, f"{node} ")
    return figures


def a_video(path: Path) -> Path:
    """Ten seconds of coloured patterns that drift."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20, (640, 360))
    y, x = np.mgrid[:360, :640]
    for k in range(200):
        writer.write((np.stack([x + 3 * k, y + 2 * k, x + y], 2) % 256).astype(np.uint8))
    writer.release()
    return path


def replay(profile: Profile) -> Iterator[Figures]:
    ear = Ear("camera/image", Image)
    with tempfile.TemporaryDirectory() as folder:
        video = a_video(Path(folder) / "drifting.mp4")
        with started("camtrack.cli", "replay", str(video), "--loop", "--rate", "20") as process:
            ear.wait_for(lambda: len(ear.answered) > 0, process, START, "images")
            figures = watched("replay", ear, {"replay": psutil.Process(process.pid)}, profile)
    ear.close()
    yield figures


def graph(profile: Profile) -> Iterator[Figures]:
    launch = ("camtrack.launch.runner", str(ROOT / "launch/tracking.launch.xml"), f"source:={SOURCE}", "loop:=true")
    ear = Ear("camera/pkf_filter/tracks")
    with started(*launch) as runner:
        ear.wait_for(lambda: len(ear.answered) > 0, runner, START, "tracks")
        processes = {
            name: child
            for child in psutil.Process(runner.pid).children(recursive=True)
            for name in ("gcnet_tracker", "pkf_filter", "replay")
            if any(f"__node:={name}" in word for word in child.cmdline())
        }
        figures = watched("graph", ear, processes, profile)
    ear.close()
    yield figures


def load(profile: Profile) -> Iterator[Figures]:
    figures, ear = Figures("load"), Ear("gcnet_tracker/tracks")
    camera = ear.node.create_publisher(Image, "image", SENSOR_DATA)
    noise = np.random.default_rng(0).integers(0, 255, (360, 640, 3), np.uint8)
    sent: list[int] = []
    with started("gcnet_tracker.node") as runner:
        ear.wait_for(lambda: camera.get_subscription_count() == 1, runner, START, "a node that listens to images")
        up = "a node that is up"
        ear.wait_for(lambda: ear.status.get("gcnet_tracker", {}).get("state") == "active", runner, START, up)
        for rate in RATES:
            before = dropped(ear)
            for _ in range(max(round(rate * profile.rate_seconds), 2 * QUEUE)):
                noise[0, 0] = len(sent) % 256
                message = fill_image(Image(), noise)
                fill_stamp(message.header.stamp, time.time_ns())
                sent.append(message.header.stamp.sec * SECOND + message.header.stamp.nanosec)
                camera.publish(message)
                ear.listen(1 / rate)
            ear.wait_for(lambda: told(ear) >= len(sent), runner, 60, f"{len(sent)} images to be processed or counted")
            figures.values[f"dropped at {rate:g} Hz"] = dropped(ear) - before
            figures.expect(
                told(ear) == len(sent), f"{told(ear)} images are processed or counted, {len(sent)} were sent"
            )
            figures.expect(ear.answered[-1] in sent[-QUEUE:], f"at {rate:g} Hz the newest images were dropped")
            if dropped(ear) > before:
                break
    ear.close()
    yield figures


def dropped(ear: Ear) -> int:
    return sum(int(value) for key, value in ear.status["gcnet_tracker"].items() if key.startswith("drops."))


def told(ear: Ear) -> int:
    """Images that the node has processed or counted as dropped."""
    return int(ear.status["gcnet_tracker"]["processed"]) + dropped(ear)


PARTS = {"trackers": trackers, "worlds": worlds, "replay": replay, "graph": graph, "load": load}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--profile", choices=PROFILES, default="ci")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"expected parts of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    # The graph of the measurement meets no other one.
    os.environ.setdefault("ROS_DOMAIN_ID", "97")
    broken = 0
    for part in given.parts:
        for figures in PARTS[part](PROFILES[given.profile]):
            broken += len(figures.broken)
            if given.json:
                print(json.dumps(asdict(figures)), flush=True)
                continue
            values = ", ".join(f"{key} {value}" for key, value in figures.values.items())
            print("\n  BROKEN: ".join([f"{figures.name}: {values}", *figures.broken]), flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
