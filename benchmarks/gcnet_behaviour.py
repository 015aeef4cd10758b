"""What GCNet's track branch does with what it is asked, on real footage or generated drives (docs/gcnet.md).

usage: python benchmarks/gcnet_behaviour.py [--model GCNET.onnx] [--source SOURCE] [--foreign SOURCE]
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import head
import numpy as np

from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.sources import open_source
from gcnet_tracker import behaviour
from gcnet_tracker.config import TrackerConfig
from gcnet_tracker.tracker import DEMO_MODEL, GCNetModel

DRIVE = "drive:9000?frames=60"
FOREIGN = "drive:9001?frames=60"
GAPS = (0.2, 0.5, 1.0)  # seconds


def table(model: GCNetModel, frames: list[Frame]) -> None:
    """IoU with the truth, all objects and those that moved more than half their width."""
    print("gap s  moved  objects  track  left  fresh  Q zeroed  Q swapped  with other  confidence")
    asked = {f"{gap:.1f}": [(past, now, []) for past, now in behaviour.pairs(frames, gap, 3)] for gap in GAPS}
    for gap in GAPS[1:]:
        asked[f"{gap:.1f} by every frame"] = [(a, b, between) for a, *between, b in behaviour.spans(frames, gap, 3)]
    for later, parts in asked.items():
        found = behaviour.join([behaviour.follow(model, *part) for part in parts])
        for name, rows in (("all", np.ones(len(found.track), bool)), ("> w/2", found.moved > 0.5)):
            if not rows.any():
                continue
            part = found[rows]
            means = [part.track, part.left, part.fresh, part.zeroed, part.swapped, part.other]
            numbers = "  ".join(f"{np.nanmean(x):.3f}" for x in means)
            print(f"{later:18s} {name:5s}  {rows.sum():7d}  {numbers}  {np.median(part.confidence):.2f}")


def absent(model: GCNetModel, frames: list[Frame], others: list[Frame]) -> None:
    """Confidences of stored objects in pictures that they are not in."""
    keep = TrackerConfig().keep_threshold
    pictures = {"grey": [np.full_like(frames[0].image, 114)], "foreign": [frame.image for frame in others]}
    stored = [behaviour.store(model, frame.image) for frame in frames]
    following = zip(stored, [frame.image for frame in frames[1:]], strict=False)
    answers = {"next frame": np.concatenate([behaviour.confidences(model, image, s) for s, image in following])}
    for name, images in pictures.items():
        asked = zip(stored, images * len(stored), strict=False)
        answers[name] = np.concatenate([behaviour.confidences(model, image, s) for s, image in asked])
    for name, found in answers.items():
        below = (found < keep).mean()
        print(f"{name:10s}  {len(found):4d} tracks  median {np.median(found):.2f}  below {keep}: {below:.3f}")


def main() -> None:
    parser = head.described(__doc__)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL, help="an exported GCNet (default: the demo's)")
    parser.add_argument("--source", default=DRIVE, help="labelled recording (default: %(default)s)")
    parser.add_argument("--foreign", default=FOREIGN, help="recording of other objects (default: %(default)s)")
    arguments = parser.parse_args()
    model = GCNetModel(arguments.model, "onnxruntime")
    frames = list(islice(open_source(arguments.source), 80))
    others = list(islice(open_source(arguments.foreign), 0, 60, 5))
    table(model, frames)
    absent(model, frames, others)


if __name__ == "__main__":
    sys.exit(head.ran(main))
