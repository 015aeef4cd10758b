"""How fast recordings are written to bags and read from them.

    python benchmarks/bag.py [--width 1920] [--height 1080] [--frames 60] [--json]

Frames of noise are written raw and as JPEG, to mcap and sqlite3, and read back to arrays. The floor is what it takes
to write the same bytes to one plain file, and to read them. Prints frames and MB of raw pixels a second.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import head
import numpy as np

from camtrack.bags.write import BagOptions, write_bag
from camtrack_core.datasets.frames import Frame
from camtrack_core.datasets.rosbag.bag import BagSequence

RATE = 30  # frames a second


class Pictures:
    """Frames that cost nothing to make: a smooth picture that moves, with a little noise, as a camera gives."""

    name, class_names = "pictures", ()

    def __init__(self, width: int, height: int, count: int) -> None:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
        noisy = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
        self._images = [np.roll(noisy, 8 * k, axis=1) for k in range(8)]
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        for k in range(self._count):
            yield Frame(1_000_000_000 + k * 1_000_000_000 // RATE, self._images[k % len(self._images)])


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def plain(pictures: Pictures, file: Path) -> tuple[float, float]:
    def write() -> None:
        with open(file, "wb") as out:
            for frame in pictures:
                out.write(frame.image.data)

    def read() -> None:
        with open(file, "rb") as source:
            while source.read(2**20):
                pass

    return seconds(write), seconds(read)


def main() -> None:
    parser = head.parser(__doc__)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--frames", type=int, default=60)
    arguments = parser.parse_args()
    pictures = Pictures(arguments.width, arguments.height, arguments.frames)
    megabytes = arguments.frames * arguments.width * arguments.height * 3 / 1e6
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm"  # the types of messages are compiled once a process
        write_bag({"camera": Pictures(64, 48, 1)}, warm, BagOptions())
        list(BagSequence(warm))
        results["plain file"] = plain(pictures, Path(folder) / "plain")
        (Path(folder) / "plain").unlink()
        for quality, kind in ((0, "raw"), (90, "jpeg")):
            for storage in ("mcap", "sqlite3"):
                path = Path(folder) / f"{storage}-{kind}"
                options = BagOptions(storage, quality)  # type: ignore[arg-type]
                write = seconds(lambda p=path, o=options: write_bag({"camera": pictures}, p, o))  # type: ignore[misc]
                read = seconds(lambda p=path: sum(1 for _ in BagSequence(p)))  # type: ignore[misc]
                results[f"{storage} {kind}"] = (write, read)
    rows = {
        name: {
            "write_fps": arguments.frames / write, "write_mb_s": megabytes / write,
            "read_fps": arguments.frames / read, "read_mb_s": megabytes / read,
        }
        for name, (write, read) in results.items()
    }  # fmt: skip
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{'':14} {'write':>22}  {'read':>22}")
    for name, r in rows.items():
        print(
            f"{name:14} {r['write_fps']:8.1f} Hz {r['write_mb_s']:6.0f} MB/s"
            f"  {r['read_fps']:8.1f} Hz {r['read_mb_s']:6.0f} MB/s"
        )


if __name__ == "__main__":
    main()
