"""Ablations of GCNet: trains every variant of the correlation and measures whether it finds an object again.

    python benchmarks/gcnet_ablation.py [--steps 300] [--seeds 2] [--variants attention places ...] [--pairs 400]
                                        [--train SOURCE...] [--test SOURCE...] [--pretrained YOLOX.onnx]
                                        [--out FOLDER] [--json]

The variants (VARIANTS): the paper's form, Eq. 2, and its Table 1, without gate, without V and with the explicit
position, whose AP on UA-DETRAC stands beside them; the sharp forms that this project tracks with; both on pairs up to
.2 s apart with no absent objects, as the paper trains; and what an update stores, Q or K. A variant is a change of the
configuration. At 320x192, on a pretrained trunk at rest whose maps are computed once for all pairs, so that two cores
train all variants in an hour or two; all see the same pairs in the same order. Runs and scores stay in --out, and one
that was interrupted goes on.

Measured on recordings that nothing was trained on, each with one view, for objects seen in both frames, .2 s and 1 s
apart: the IoU with the truth of the track box, of a detection asked at the true place, and of the box left standing;
with another object's query, the IoU with that other object; how often a present object's confidence is above an absent
one's (AUC; absent: asked in a frame of another time or place), and the median confidences of present, absent and of
all objects on a grey picture. "Q refreshed" and "K refreshed": the query of .2 s is replaced by Q or K at the centre of
the track box there before it asks the frame of 1 s. Each number is the mean over the seeds, with half their range.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import head
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from camtrack_core.datasets.sources import open_labelled
from camtrack_core.geometry.boxes import Floats, area, clip
from camtrack_core.geometry.boxes import iou as iou_matrix
from camtrack_core.networks.backbone_base import Backbone
from camtrack_core.networks.letterbox import PADDING
from camtrack_core.training import augmentation
from camtrack_core.training.run import Run
from camtrack_core.training.shards import batches
from gcnet_tracker import clips
from gcnet_tracker.clips import Clip
from gcnet_tracker.config import NetworkConfig, TrainingConfig
from gcnet_tracker.correlation import Memory, gather
from gcnet_tracker.loader import ClipSamples
from gcnet_tracker.network import Answer, FrameFeatures, GCNet, to_xyxy
from gcnet_tracker.targets import ABSENT, UNKNOWN
from gcnet_tracker.training import PARTS, MapPairs, TrainingStep, load_network

DATA = Path(os.environ.get("CAMTRACK_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
NETWORK = NetworkConfig(backbone="yolox_nano", height=192, width=320, channels=64, correlation_channels=64)
TRAINING = TrainingConfig(batch_size=6, learning_rate=2e-3, warm_up=40, averaging=0.98, frozen="all", precision="auto")
DRIVES = "drive:{}?frames=6&frame_rate=5"
CAMERAS = ("front_camera&frames=0-49", "front_left_camera", "front_right_camera", "left_camera", "right_camera")
SHORT = 0.2  # seconds between the two images of a pair, at most, in the paper's recipe
OBJECTS = 14  # of a frame, the tallest, that are asked for
SOON, LATE = 0.2, 1.0  # seconds
TOLERANCE = 0.03  # seconds
ZOOM = 1.3  # of a tested view, in shares of the scale that fits the picture's width


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        network: what differs from NETWORK.
        short: pairs up to .2 s apart, in which nobody is absent.
        paper: AP on UA-DETRAC there, per cent.
    """

    network: dict[str, Any] = field(default_factory=dict)
    short: bool = False
    paper: float | None = None


LINEAR = {"correlation": "linear"}
VARIANTS = {
    "linear, pairs to .2 s, nobody absent": Variant(LINEAR, short=True),
    "linear (Eq. 2)": Variant(LINEAR, paper=74.04),
    "linear, without gate": Variant(LINEAR | {"gate": "none"}, paper=71.62),
    "linear, without V": Variant(LINEAR | {"local": "none"}, paper=71.71),
    "linear, explicit position": Variant(LINEAR | {"position": "explicit"}, paper=68.24),
    "places": Variant({"correlation": "places"}),
    "attention, pairs to .2 s, nobody absent": Variant(short=True),
    "attention, without gate": Variant({"gate": "none"}),
    "attention, explicit position": Variant({"position": "explicit"}),
    "attention": Variant(),
}
REFRESHED = ("queries", "keys")  # fields of FrameFeatures; rows below "attention"


# ------------------------------------------------------------------------------------------------- training


class Trunk(nn.Module):
    """A backbone at rest whose maps are handed on as one tensor."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, c, N): the cells of strides 8, 16 and 32 one after the other."""
        return torch.cat([x.flatten(2) for x in self.backbone(images)], 2)


def unpacked(features: Tensor) -> list[Tensor]:
    """The maps of strides 8, 16 and 32 of what `Trunk.features` gives (B, c, N)."""
    rows, columns = NETWORK.map_size
    sizes = [(rows >> level, columns >> level) for level in range(3)]
    parts = features.float().split([h * w for h, w in sizes], 2)
    return [part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


class ShortPairs(nn.Module):
    """The training step without absent objects, as the paper trains."""

    def __init__(self, step: TrainingStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        known = torch.where(batch["relation"] == ABSENT, UNKNOWN, batch["relation"])
        return self.step(batch | {"relation": known, "clip": torch.zeros_like(batch["clip"])})  # no clip is another's


def trained(folder: Path, variant: Variant, seed: int, steps: int, pretrained: Path, pairs: MapPairs) -> GCNet:
    """A variant's network, from the folder where it has been trained before."""
    network = NetworkConfig(**(NETWORK.model_dump() | variant.network))
    changes = {"seed": seed} | ({"hidden": 0.0} if variant.short else {})
    training = TrainingConfig(**(TRAINING.model_dump() | changes))
    weights = folder / "weights.pt"
    if weights.exists():
        return load_network(weights)
    torch.manual_seed(seed)
    model = GCNet(network)
    model.backbone.load(pretrained)
    run = Run(folder, model, model.backbone, network, training, steps, PARTS)
    step = TrainingStep(model, training)
    step.rest(model.backbone)
    module = run.distribute(ShortPairs(step) if variant.short else step)
    run.optimise(module, batches(pairs, training.batch_size, run.step + seed * steps, 0, 1, 0), steps)
    run.finish()
    return load_network(weights)  # laid out in memory as of a run that was there before: not one bit differs


def prepared(folder: Path, specs: Iterable[str], console: Console) -> list[Clip]:
    """Clips of labelled recordings, made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for sequence in track(list(open_labelled(specs)), "preparing", console=console):
        paths.append(folder / f"{sequence.name}.npz")
        if not paths[-1].exists():
            clips.save(clips.from_sequence(sequence, NETWORK.class_names), paths[-1])
    return [clips.load(path) for path in paths]


# ---------------------------------------------------------------------------------------------- measurement


@dataclass(frozen=True)
class Held:
    """F frames of recordings that nothing is trained on, each with up to K objects.

    Attributes:
        features: (F, c, N) of the trunk.
        boxes: (F, K, 4) x1, y1, x2, y2 as shares of the input.
        ids: (F, K) int, no id in two recordings; -1 where there is no object.
        there: ids of all that a frame shows, of each.
        trios: (T, 3) int, rows of a frame, of one .2 s and of one 1 s later.
    """

    features: Tensor
    boxes: Tensor
    ids: NDArray[np.int64]
    there: list[set[int]]
    trios: NDArray[np.int64]


def hold(recordings: list[Clip], trunk: Trunk) -> Held:
    """Recordings as they are measured on."""
    size = np.array([NETWORK.width, NETWORK.height])
    boxes, ids, there, features, trios = [], [], [], [], []
    for number, recording in enumerate(recordings):
        first = len(ids)
        height, width = recording.image(0).shape[:2]
        scale = ZOOM * NETWORK.width / width
        view = augmentation.View(scale, (size - scale * np.array([width, height])) / 2, False, *size.tolist())
        for index in range(len(recording)):
            labels = recording.labels[index]
            own = labels.ids + 1_000_000 * number
            asked, _ = augmentation.see(view, labels, np.zeros((0, 4)))
            asked = asked[np.argsort(asked.xyxy[:, 1] - asked.xyxy[:, 3])[:OBJECTS]]
            spare = OBJECTS - len(asked)
            boxes.append(np.pad(asked.xyxy / np.tile(size, 2), ((0, spare), (0, 0))).astype(np.float32))
            ids.append(np.pad(asked.ids + 1_000_000 * number, (0, spare), constant_values=-1))
            there.append(set(own[area(clip(view.boxes(labels.xyxy), *size)) > 0].tolist()))
            picture = torch.from_numpy(np.ascontiguousarray(view.image(recording.image(index)).transpose(2, 0, 1)))
            features.append(trunk.features(picture[None].float()).half())
        trios += [[first + i for i in trio] for trio in _trios(recording.times)]
    return Held(torch.cat(features), torch.from_numpy(np.stack(boxes)), np.stack(ids), there, np.array(trios))


def _trios(times: Floats) -> Iterator[list[int]]:
    for index, time in enumerate(times):
        later = [int(np.abs(times - time - gap).argmin()) for gap in (SOON, LATE)]
        if all(abs(times[i] - time - gap) < TOLERANCE for i, gap in zip(later, (SOON, LATE), strict=True)):
            yield [index, *later]


class Asker:
    """A network and what it sees in all frames that are held."""

    def __init__(self, network: GCNet, held: Held, grey: Tensor) -> None:
        self.network, self.held = network, held
        parts = [network.correlate(network.neck(unpacked(x))) for x in (*held.features.split(16), grey)]
        self.grey = parts.pop()
        self.frames = FrameFeatures(
            *(torch.cat([getattr(x, name) for x in parts]) for name in ("heatmap", "queries", "stored")),
            Memory(*(torch.cat(fields) for fields in zip(*(x.memory for x in parts), strict=True))),
            torch.cat([x.keys for x in parts]),
        )

    def at(self, rows: NDArray[np.int64], xyxy: Tensor, what: str = "queries") -> tuple[Tensor, Tensor]:
        """What a track keeps of boxes (B, K, 4) in frames: queries (B, c, K), or keys, and stored (B, v + 2, K)."""
        height, width = NETWORK.map_size
        size = torch.tensor([width, height])
        cell = ((xyxy[..., :2] + xyxy[..., 2:]) / 2 * size).floor().clamp(min=0).minimum(size - 1).long()
        cells = cell[..., 1] * width + cell[..., 0]
        return gather(getattr(self.frames, what)[rows], cells), gather(self.frames.stored[rows], cells)

    def ask(self, rows: NDArray[np.int64], queries: Tensor, stored: Tensor) -> Answer:
        return self.network.ask(Memory(*(x[rows] for x in self.frames.memory)), queries, stored)

    def ask_grey(self, queries: Tensor, stored: Tensor) -> Answer:
        memory = Memory(*(x.expand(len(queries), *x.shape[1:]) for x in self.grey.memory))
        return self.network.ask(memory, queries, stored)


@torch.no_grad()
def measure(network: GCNet, held: Held, grey: Tensor, refreshed: str = "") -> dict[str, float]:
    """The columns of the table, of a network in evaluation mode.

    Args:
        grey: (1, c, N) the trunk's maps of a grey picture.
        refreshed: "queries" or "keys" are stored anew after .2 s; "" leaves the first query.
    """
    asker = Asker(network, held, grey)
    past, soon, late = held.trios.T
    before = held.boxes[past]
    queries, stored = asker.at(past, before)
    scores: dict[str, float] = {}
    for name, now in (("soon", soon), ("late", late)):
        if refreshed and name == "late":
            boxes = to_xyxy(asker.ask(soon, queries, stored).boxes).transpose(1, 2)
            queries, stored = asker.at(soon, boxes, refreshed)
        rows = related(held, past, now)
        here = rows >= 0
        truth = held.boxes[now].gather(1, rows.clamp(min=0)[..., None].expand(-1, -1, 4))
        answer = asker.ask(now, queries, stored)
        fresh = asker.ask(now, *asker.at(now, truth))
        scores[f"track {name}"] = mean_iou(answer, truth, here)
        scores[f"detection {name}"] = mean_iou(fresh, truth, here)
        scores[f"left {name}"] = float(pairwise_iou(before[here], truth[here]).mean())
    both = here & here.roll(1, 1)
    swapped = asker.ask(late, queries.roll(1, 2), stored)
    scores["other"] = mean_iou(swapped, truth.roll(1, 1), both)
    away = np.roll(past, len(past) // 2)
    absent = asker.ask(away, queries, stored).confidence[related(held, past, away) == ABSENT]
    present, on_grey = answer.confidence[here], asker.ask_grey(queries, stored).confidence[here]
    scores["AUC"] = float((present[:, None] > absent).float().mean() + (present[:, None] == absent).float().mean() / 2)
    for name, found in (("present", present), ("absent", absent), ("grey", on_grey)):
        scores[name] = float(found.sigmoid().median())
    return scores


def related(held: Held, past: NDArray[np.int64], now: NDArray[np.int64]) -> Tensor:
    """(B, K) row of each past object in the current frame, ABSENT or UNKNOWN."""

    def row(identity: int, frame: int) -> int:
        if identity < 0:
            return UNKNOWN
        rows = np.flatnonzero(held.ids[frame] == identity)
        return int(rows[0]) if len(rows) else UNKNOWN if identity in held.there[frame] else ABSENT

    return torch.tensor([[row(i, b) for i in held.ids[a].tolist()] for a, b in zip(past, now, strict=True)])


def mean_iou(answer: Answer, truth: Tensor, chosen: Tensor) -> float:
    return float(pairwise_iou(to_xyxy(answer.boxes).transpose(1, 2)[chosen], truth[chosen]).mean())


def pairwise_iou(boxes: Tensor, truth: Tensor) -> Floats:
    """(P,) of boxes of the same row; both (P, 4)."""
    parts = zip(boxes.double().split(256), truth.double().split(256), strict=True)
    return np.concatenate([np.diagonal(iou_matrix(a.numpy(), b.numpy())) for a, b in parts])


# ---------------------------------------------------------------------------------------------------- table

Scores = dict[str, dict[str, dict[str, list[float]]]]  # by test, variant and column, of each seed


def text(values: list[float]) -> str:
    """Mean over the seeds and half their range."""
    half = (max(values) - min(values)) / 2
    return f"{np.mean(values):.3f}" + (f"±{half:.3f}" if len(values) > 1 else "")


def table(title: str, rows: dict[str, dict[str, list[float]]]) -> Table:
    columns = ("IoU .2 s", "1 s", "other's query", "AUC", "confidence", "AP, paper")
    left = next(iter(rows.values()))
    about = (
        f"{title}: track box / detection; the box left standing {left['left soon'][0]:.3f}, {left['left late'][0]:.3f}"
    )
    result = Table("variant", *columns, title=about)
    for name, x in rows.items():
        cells = [f"{text(x[f'track {when}'])} / {text(x[f'detection {when}'])}" for when in ("soon", "late")]
        confidence = " ".join(f"{np.mean(x[kind]):.2f}" for kind in ("present", "absent", "grey"))
        paper = VARIANTS[name].paper if name in VARIANTS else None
        result.add_row(name, *cells, text(x["other"]), text(x["AUC"]), confidence, f"{paper:.2f}" if paper else "")
    return result


def main() -> None:
    parser = head.parser(__doc__)
    streets = [f"{DATA / 'pandaset'}?camera={camera}" for camera in CAMERAS]
    there = (DATA / "pandaset").is_dir()
    parser.add_argument("--steps", type=int, default=300, help="of each training (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each variant (default: %(default)s)")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--pairs", type=int, default=400, help="pairs to train on (default: %(default)s)")
    parser.add_argument("--train", nargs="+", default=[DRIVES.format("1000-1059"), *(streets if there else [])])
    test = {"drives": DRIVES.format("9000-9019")}
    test |= {"PandaSet back_camera": f"{DATA / 'pandaset'}?camera=back_camera"} if there else {}
    parser.add_argument("--test", nargs="+", default=list(test.values()), help="(default: %(default)s)")
    parser.add_argument("--pretrained", type=Path, default=DATA / "teacher" / "yolox_nano.onnx")
    parser.add_argument("--out", type=Path, default=Path("gcnet_ablation"))
    arguments = parser.parse_args()
    console = Console(stderr=True)
    torch.set_num_threads(1)
    names = {source: name for name, source in test.items()}
    scores = run(arguments, {names.get(source, source): source for source in arguments.test}, console)
    if arguments.json:
        print(json.dumps(scores))
        return
    for title, rows in scores.items():
        Console(width=150).print(table(title, rows))


def run(arguments: argparse.Namespace, tests: dict[str, str], console: Console) -> Scores:
    """Trains and measures what the options name. Raises CamtrackError."""
    start = GCNet(NETWORK)
    start.backbone.load(arguments.pretrained)
    trunk = Trunk(start.backbone).eval()
    train = prepared(arguments.out / "clips", arguments.train, console)
    weights = np.array([math.sqrt(len(clip)) for clip in train])
    held = {name: hold(prepared(arguments.out / "clips", [source], console), trunk) for name, source in tests.items()}
    grey = trunk.features(torch.full((1, 3, NETWORK.height, NETWORK.width), float(PADDING))).half()
    scores: Scores = {name: {} for name in tests}
    for short in (True, False):
        chosen = {name: VARIANTS[name] for name in arguments.variants if VARIANTS[name].short == short}
        if not chosen:
            continue
        samples = ClipSamples(train, weights, NETWORK, 2, SHORT if short else TRAINING.max_gap, 0)
        pairs = MapPairs(samples, start, arguments.pairs, 0)
        for name, variant in chosen.items():
            for seed in range(arguments.seeds):
                folder = arguments.out / "runs" / f"{name}-{arguments.steps}-{seed}".replace(" ", "_")
                network = trained(folder, variant, seed, arguments.steps, arguments.pretrained, pairs)
                for test, frames in held.items():
                    add(scores[test], name, measure(network, frames, grey))
                    for what in REFRESHED if name == "attention" else ():
                        found = measure(network, frames, grey, what)
                        add(scores[test], f"... {what[0].upper()} refreshed", found)
            console.print(name, {test: {k: text(v) for k, v in scores[test][name].items()} for test in tests})
    return scores


def add(rows: dict[str, dict[str, list[float]]], name: str, found: dict[str, float]) -> None:
    row = rows.setdefault(name, {})
    for column, value in found.items():
        row.setdefault(column, []).append(value)


if __name__ == "__main__":
    sys.exit(head.ran(main))
