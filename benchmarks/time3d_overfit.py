"""Does Time3D learn from real frames? Over-fits ten frames of nuScenes and scores the weights on those very frames.

    python benchmarks/time3d_overfit.py CHECKPOINT.pt [--source 'NUSCENES?scene=scene-0103&camera=CAM_FRONT']
                                        [--frames 10] [--steps 300] [--json]

The figures before are those of weights that have not seen the recording; those after say only that the interface to
real data and the training are sound. The weights are thrown away. Loss: the mean over the first and the last tenth of
the steps. Average precision and translation error: matches of centres on the ground within 2 m, all classes the same,
objects up to 50 m away and at least 16 pixels high.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import head
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from camtrack_core.datasets.sources import open_source
from camtrack_core.geometry.boxes import Floats
from camtrack_core.networks.letterbox import PADDING
from time3d_tracker import level
from time3d_tracker.clips import Clip, from_sequence
from time3d_tracker.config import OUTPUTS, TrainingConfig
from time3d_tracker.export import FrameGraph, example_inputs
from time3d_tracker.network import Time3D
from time3d_tracker.training import load_network, train

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT.parent / "shared" / "data" / "nuscenes"
WITHIN, FARTHEST, LEAST_HEIGHT = 2.0, 50.0, 16.0  # metres, metres, pixels
RECALLS = np.linspace(0.1, 1, 91)  # nuScenes leaves out recalls below 0.1


def beginning(clip: Clip, count: int) -> Clip:
    """The first frames of a clip."""
    return replace(
        clip, frames=clip.frames[:count], times=clip.times[:count], intrinsics=clip.intrinsics[:count],
        poses=clip.poses[:count], heights=clip.heights[:count], labels=clip.labels[:count], boxes=clip.boxes[:count],
        attributes=clip.attributes[:count], ignored=clip.ignored[:count],
    )  # fmt: skip


def detect(network: Time3D, clip: Clip, index: int) -> tuple[Floats, Floats]:
    """Centres (K, 3) in the level frame and scores (K,) of what one frame shows, without memory."""
    _, projection, _, *memory = example_inputs(network)
    image = clip.image(index)
    config = network.config
    scale = min(config.width / image.shape[1], config.height / image.shape[0])
    small = cv2.resize(image, None, fx=scale, fy=scale)[: config.height, : config.width]
    padded = np.full((1, config.height, config.width, 3), PADDING, np.uint8)
    padded[0, : small.shape[0], : small.shape[1]] = small
    camera = np.diag([scale, scale, 1.0]) @ level.projection(clip.intrinsics[index], clip.poses[index])
    height = torch.tensor([clip.heights[index]], dtype=torch.float32)
    with torch.no_grad():
        values = FrameGraph(network)(
            torch.from_numpy(padded), torch.from_numpy(camera[None]).to(projection.dtype), height, *memory
        )
    out = {name: value[0].numpy().astype(float) for name, value in zip(OUTPUTS, values, strict=True)}
    usable = (out["usable"] > 0.5) & (np.linalg.norm(out["centres"], axis=1) <= FARTHEST)
    return out["centres"][usable], out["scores"][usable]


def score(network: Time3D, clip: Clip) -> dict[str, float]:
    """Average precision and mean translation error of matches within 2 m."""
    found: list[tuple[float, bool, float]] = []  # score, hit, error
    asked = 0
    for index in range(len(clip)):
        labels = clip.labels[index]
        truth, _, _ = level.to_level(clip.boxes[index], level.level_pose(clip.poses[index]))
        near = np.linalg.norm(truth, axis=1) <= FARTHEST
        high = labels.xyxy[:, 3] - labels.xyxy[:, 1] >= LEAST_HEIGHT
        wanted = near & high & (labels.class_ids >= 0)
        asked += int(wanted.sum())
        free = np.ones(len(truth), bool)
        centres, scores = detect(network, clip, index)
        for row in np.argsort(-scores):
            distance = np.linalg.norm((truth - centres[row])[:, [0, 2]], axis=1)
            distance[~free] = np.inf
            best = int(distance.argmin()) if len(distance) else -1
            hit = best >= 0 and distance[best] <= WITHIN
            if hit:
                free[best] = False
            if not hit or wanted[best]:  # objects that are not asked for are neither hits nor misses
                found.append((float(scores[row]), hit, float(distance[best]) if hit else np.nan))
    found.sort(key=lambda x: -x[0])
    hits = np.cumsum([hit for _, hit, _ in found])
    precision = hits / np.arange(1, len(found) + 1)
    best_from = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    at = np.searchsorted(hits / max(asked, 1), RECALLS)
    values = np.append(best_from, 0.0)[at]
    errors = [error for _, hit, error in found if hit]
    return {
        "AP at 2 m": float(np.maximum(values - 0.1, 0).mean() / 0.9),
        "translation error (m)": float(np.mean(errors)) if errors else float("nan"),
        "objects found": float(hits[-1]) / max(asked, 1) if len(found) else 0.0,
    }


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("checkpoint", type=Path, help="weights to start from")
    parser.add_argument("--source", default=f"{SOURCE}?scene=scene-0103&camera=CAM_FRONT")
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = load_network(arguments.checkpoint)
    config = network.config
    clip = beginning(from_sequence(open_source(arguments.source), config.class_names), arguments.frames)
    training = TrainingConfig(
        batch_size=2, steps=arguments.steps, learning_rate=5e-4, max_gap=1, workers=0, groundless=0,
        checkpoint_every=arguments.steps,
    )  # fmt: skip
    before = score(network, clip)
    with tempfile.TemporaryDirectory() as folder:
        tuned = train(Path(folder), [clip], np.ones(1), config, training, arguments.checkpoint)
        losses = np.genfromtxt(Path(folder) / "losses.csv", delimiter=",", names=True)["loss"]
    after, tenth = score(tuned, clip), max(len(losses) // 10, 1)
    before["loss"], after["loss"] = float(losses[:tenth].mean()), float(losses[-tenth:].mean())
    if arguments.json:
        print(json.dumps({"before": before, "after": after}))
        return
    table = Table("", "before", "after", title=f"{len(clip)} frames, {arguments.steps} steps")
    for name, value in before.items():
        table.add_row(name, f"{value:.3f}", f"{after[name]:.3f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(head.ran(main))
