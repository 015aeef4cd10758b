"""Everything that costs time on the way of a frame, side by side in one run of about three minutes.

    ./run bench [--json] [--against OLD.json] [--only inference filters ...] [--peers PYTHON]

Sections: reference (a fixed computation, which tells how busy the machine was), transport, decode, resize, inference by
backend and precision, tracking (what both trackers do beside their networks), filters and messages by the number of
objects, fusion (a message through the fusion node), node (GCNet's at 20 Hz, and what of its latency is not inference),
end to end (image in, filtered tracks out, at 10, 20 and 30 Hz, with processor time and memory of each process), cameras
(GCNet's node with 1, 2 and 6). --peers names the Python of an environment with `trackers`, `norfair`, `stonesoup`
(benchmarks/peers.py), which then get the same boxes as our filter.

Milliseconds are medians where nothing else is said: of processor time, all threads together, in reference, decode,
resize, tracking, filters, messages and peers, else by the clock, which other programs slow down. --json prints what
--against reads; beside an older run each figure stands as new / old. Two runs on a machine that others use differ: look
at `reference` first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from gpu import example
from head import ROOT, machine, milliseconds, parser, processor_ms, rows
from numpy.typing import NDArray
from pkf_tracking import cost, crossing
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from camtrack.demo.domain import own_domain
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from camtrack_core.errors import CamtrackError
from camtrack_core.geometry.tracks import Tracks2D
from camtrack_core.ros.messages import detections2d as messages
from camtrack_core.ros.messages.cdr import unpack
from camtrack_core.ros.messages.image import compressed_to_bgr, fill_compressed, fill_image, to_bgr
from camtrack_core.runtime import Device, Precision, open_session
from camtrack_core.runtime.session import why_not
from gcnet_tracker.tracker import DEMO_MODEL as GCNET
from gcnet_tracker.tracker import GCNetModel
from gcnet_tracker.tracker import Tracker as ImageTracker
from time3d_tracker.level import camera_height
from time3d_tracker.model import DEMO_MODEL as TIME3D
from time3d_tracker.model import Time3DModel
from time3d_tracker.tracker import Tracker as SpaceTracker
from time3d_tracker.tracker import View

Figures = dict[str, Any]  # by name, numbers or further figures; the unit ends the name
SIZE = (900, 1600)  # of an image, height and width
OBJECTS = {10: 60, 30: 60, 100: 40, 500: 12}  # numbers of them, and of frames that each is measured over
BACKENDS: tuple[tuple[Device, Precision], ...] = (
    ("onnxruntime", "f32"), ("openvino", "f32"), ("openvino", "bf16"), ("cuda", "f32"), ("cuda", "f16"),
    ("tensorrt", "f32"), ("tensorrt", "f16"),
)  # fmt: skip
RATES = (10, 20, 30)  # Hz
CAMERAS = (1, 2, 6)
DRIVE = "drive:9000?frames=16&frame_rate=10"
PATIENCE = 300.0  # seconds that a section with processes of its own may take


def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def picture() -> NDArray[np.uint8]:
    """What a camera sees: noise does not compress."""
    return np.asarray(cv2.resize(next(iter(open_source(DRIVE))).image, SIZE[::-1]), np.uint8)


def reference() -> Figures:
    values = np.random.default_rng(0).normal(size=300_000)
    return {"sort_ms": processor_ms(lambda: np.sort(values), 15)}


def transport() -> Figures:
    figures = script("transport.py", "--seconds", "3")["config/environment.sh"]
    return {"p50_ms": figures["p50_ms"], "p99_ms": figures["p99_ms"], "lost": figures["sent"] - figures["received"]}


def decode() -> Figures:
    raw, image = fill_image(Image(), noise()), picture()
    swapped = fill_image(Image(), noise())
    swapped.encoding = "rgb8"
    jpeg = fill_compressed(CompressedImage(), image)
    return {
        "bgr8_ms": processor_ms(lambda: to_bgr(raw), 30), "rgb8_ms": processor_ms(lambda: to_bgr(swapped), 30),
        "jpeg_ms": processor_ms(lambda: compressed_to_bgr(jpeg), 15),
    }  # fmt: skip


def resize() -> Figures:
    image, device = noise(), "onnxruntime"
    gcnet, time3d = GCNetModel(GCNET, device), Time3DModel(TIME3D, device)
    return {
        "gcnet_ms": processor_ms(lambda: gcnet.prepare(image), 30),
        "time3d_ms": processor_ms(lambda: time3d.prepare(image, 0), 30),
    }


def inference() -> Figures:
    figures: Figures = {}
    for device, precision in BACKENDS:
        if why_not(device, precision) is None:
            for name, path in (("gcnet", GCNET), ("time3d", TIME3D)):
                session = open_session(path, device, 0, precision)
                inputs = example(session)
                clock, processor = milliseconds(lambda s=session, i=inputs: s.run(i), 15)
                figures[f"{name} {device} {precision}"] = {"clock_ms": clock, "processor_ms": processor}
    return figures


def tracking() -> Figures:
    """What follows the networks."""
    frames = list(open_source(DRIVE))
    in_image, in_space = ImageTracker(GCNetModel(GCNET)), SpaceTracker(Time3DModel(TIME3D))
    return {
        "gcnet_ms": median_of(image_update(in_image, frame) for frame in frames),
        "time3d_ms": median_of(space_update(in_space, frame) for frame in frames),
    }


def image_update(tracker: ImageTracker, frame: Frame) -> Callable[[], object]:
    (answer,) = tracker.model.infer([tracker.query(frame.image)])
    return lambda: tracker.update(answer)


def space_update(tracker: SpaceTracker, frame: Frame) -> Callable[[], object]:
    assert frame.camera is not None
    view = View(frame.image, frame.time_ns, frame.camera.intrinsics, frame.camera_pose, camera_height(frame))
    (answer,) = tracker.model.infer([tracker.query(view)])
    return lambda: tracker.update(view, answer)


def median_of(steps: Iterable[Callable[[], object]]) -> float:
    """Milliseconds of steps that are made one after the other; the first ones are of few tracks."""
    taken = []
    for step in steps:
        begin = time.process_time()
        step()
        taken.append(1e3 * (time.process_time() - begin))
    return float(np.median(taken[len(taken) // 4 :]))


def filters() -> Figures:
    cost(10, 10)  # kernels are loaded
    return {f"{count} objects_ms": cost(count, frames)["ms_median"] for count, frames in OBJECTS.items()}


def two_ways() -> Figures:
    figures: Figures = {}
    for count in OBJECTS:
        xyxy = np.random.default_rng(0).uniform(0, 900, (count, 4))
        tracks = Tracks2D(np.arange(count), xyxy, np.full(count, 0.9), np.zeros(count, np.int64))
        packed = messages.pack_tracks(tracks, ("car",), Header())
        figures[f"{count} objects"] = {
            "packed_ms": processor_ms(lambda t=tracks: messages.pack_tracks(t, ("car",), Header()), 30),
            "read_ms": processor_ms(lambda p=packed: messages.to_boxes(unpack(p), ("car",)), 30),
        }
    return figures


def fusion() -> Figures:
    found = script("pkf_fusion.py", "--frames", "30", "--objects", *map(str, OBJECTS))
    return {f"{count} objects": {"p50_ms": f["total_p50"], "p99_ms": f["total_p99"]} for count, f in found.items()}


def node() -> Figures:
    return latencies("gcnet alone", 100, (20,), 1)


def end_to_end() -> Figures:
    return latencies("filtered", 50, RATES, 1)


def cameras() -> Figures:
    """Each at 2 Hz: what grows with their number, not what a processor can do."""
    return {f"{count} cameras": latencies("gcnet alone", 12, (2,), count)["2 Hz"] for count in CAMERAS}


def latencies(node: str, frames: int, rates: Sequence[int], count: int) -> Figures:
    """Of a node's results, by rate, without the stages that its diagnostics tell."""
    given = ["--node", node, "--frames", str(frames), "--cameras", str(count), "--rate", *map(str, rates)]
    found = script("node_latency.py", *given)
    return {rate: {n: value for n, value in f.items() if not n.startswith("latency.")} for rate, f in found.items()}


def peers(python: Path) -> Figures:
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for count, frames in OBJECTS.items():
            path = Path(folder) / f"{count}.npz"
            np.savez(path, *(boxes.xyxy for boxes in crossing(count, frames)))
            figures[f"{count} objects"] = {"this PKF_ms": cost(count, frames)["ms_median"], **timed(python, path)}
    return figures


def timed(python: Path, boxes: Path) -> Figures:
    return run([str(python), str(ROOT / "benchmarks" / "peers.py"), str(boxes)])


def script(name: str, *arguments: str) -> Figures:
    """The figures of another benchmark, in a process of its own."""
    return run([sys.executable, str(ROOT / "benchmarks" / name), *arguments, "--json"])


def run(command: list[str]) -> Figures:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise CamtrackError((done.stderr.strip().splitlines() or ["no words"])[-1])
    return dict(json.loads(done.stdout[done.stdout.index("{") :]))


SECTIONS: dict[str, Callable[[], Figures]] = {
    "reference": reference, "transport": transport, "decode": decode, "resize": resize, "inference": inference,
    "tracking": tracking, "filters": filters, "messages": two_ways, "fusion": fusion, "node": node,
    "end to end": end_to_end, "cameras": cameras,
}  # fmt: skip


def measure(sections: Mapping[str, Callable[[], Figures]]) -> Figures:
    """Figures by section; in the place of what failed the sentence that says why."""
    return {name: attempted(section) for name, section in sections.items()}


def attempted(section: Callable[[], Figures]) -> Figures:
    try:
        return section()
    except (CamtrackError, subprocess.TimeoutExpired) as error:
        return {"failed": str(error)}


def ratios(new: Figures, old: Figures) -> dict[str, tuple[float, float, float]]:
    """Old, new and new / old of each figure that both runs have."""
    before, after = rows(old), rows(new)
    numbers = (n for n in after if isinstance(after[n], int | float) and isinstance(before.get(n), int | float))
    return {name: (before[name], after[name], after[name] / before[name]) for name in numbers if before[name]}


def show(described: Mapping[str, Any], figures: Figures, old: Mapping[str, Any] | None) -> None:
    console = Console()
    console.print(", ".join(f"{name} {value}" for name, value in described.items()))
    if old is not None:
        changed = {n: (v, described.get(n)) for n, v in old["machine"].items() if n != "load" and v != described.get(n)}
        console.print(f"against a run of load {old['machine']['load']}" + "".join(
            f"; {name} was {before}, is {now}" for name, (before, now) in changed.items()
        ))  # fmt: skip
    compared = ratios(figures, old["figures"]) if old is not None else {}
    table = Table("figure", "value", *(("before", "ratio") if old is not None else ()))
    for name, value in rows(figures).items():
        before, _, ratio = compared.get(name, (None, None, None))
        beside = [f"{before:.3g}", f"{ratio:.2f}"] if ratio is not None else ["", ""]
        told = f"{value:.3g}" if isinstance(value, float) else str(value)
        table.add_row(name, told, *(beside if old is not None else ()))
    console.print(table)


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--against", type=Path, help="JSON of an older run to compare with")
    arguments.add_argument("--only", nargs="+", choices=SECTIONS, help="sections to measure")
    arguments.add_argument("--peers", type=Path, help="Python of an environment with trackers, norfair, stonesoup")
    given = arguments.parse_args()
    try:
        old = json.loads(given.against.read_text()) if given.against else None
    except (OSError, ValueError) as error:
        print(f"{given.against}: expected the JSON of an older run: {error}", file=sys.stderr)
        return 2
    sections = {name: SECTIONS[name] for name in given.only or SECTIONS}
    if given.peers:
        sections["peers"] = lambda: peers(given.peers)
    described = machine()
    with own_domain():
        figures = measure(sections)
    if given.json:
        print(json.dumps({"machine": described, "figures": figures}, indent=1))
    else:
        show(described, figures, old)
    return 1 if any("failed" in section for section in figures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
