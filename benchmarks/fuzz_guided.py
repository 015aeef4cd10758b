"""The targets of `fuzz.py` with inputs that are steered by what the code does with them: atheris, that is libFuzzer.

    pip install atheris
    python benchmarks/fuzz_guided.py [TARGET ...] [--inputs 100000] [--seconds 60] [--seed 0] [--keep FOLDER]

Of each target so many inputs, or as many as fit into the time. What leads to a branch of camtrack's or the bag reader's
Python that no input has led to is kept and mutated further, by libFuzzer's mutations and by those of `fuzz.py`; the
decoders of images are compiled without counters, so that for them only the Python around them steers. Limits and
exit code as in `fuzz.py`; an input that does not behave is kept as a file.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz import Target

WATCHED = ["camtrack", "camtrack_core", "rosbags"]  # whose branches are counted
MOST_BYTES = 65536  # of an input


def main() -> int:
    import atheris

    with atheris.instrument_imports(include=WATCHED):
        import fuzz

    parser = fuzz.command_line(__doc__)
    parser.add_argument("--seconds", type=int, default=0, help="of each target; 0: no limit")
    given = parser.parse_args()
    with fuzz.chosen_targets(parser, given.targets) as targets:
        return max([run(name, target, given) for name, target in targets.items()])


def run(name: str, target: Target, given: argparse.Namespace) -> int:
    """Of one target, in a process of its own because libFuzzer ends its own; 1 where an input does not behave."""
    with tempfile.TemporaryDirectory(prefix="camtrack-corpus-") as folder:
        corpus, log = Path(folder) / "corpus", Path(folder) / "log.txt"
        corpus.mkdir()
        (corpus / "seed").write_bytes(target.seed)
        kept = given.keep / f"{name.replace(' ', '_')}_guided_{given.seed}.input"
        options = [
            str(corpus), f"-runs={given.inputs}", f"-max_total_time={given.seconds}", f"-seed={given.seed + 1}",
            f"-max_len={MOST_BYTES}", f"-exact_artifact_path={kept}", "-rss_limit_mb=0",
        ]  # fmt: skip
        child = os.fork()
        if not child:
            write_to(log)
            try:
                guided(target, options, kept)
            finally:
                traceback.print_exc()
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = log.read_text(errors="replace")
    print(f"{name}: {summary(said)}", flush=True)
    if code:
        print(said[-4000:], f"{name}: BROKEN by {kept}, exit code {code}", sep="\n", flush=True)
    return int(code != 0)


def write_to(log: Path) -> None:
    """What this process and the decoders in it print, from now on."""
    with open(log, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def guided(target: Target, options: list[str], kept: Path) -> None:
    """Ends this process, or raises what a reader raised; libFuzzer keeps the inputs only of processes that die."""
    import atheris
    import fuzz

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        return atheris.Mutate(data, most) if rng.random() < 0.5 else fuzz.mutated(data, rng)[:most]

    def read(data: bytes) -> None:
        try:
            fuzz.read(target, data)
        except Exception:
            kept.write_bytes(data)
            raise

    atheris.Setup([sys.argv[0], *options], read, custom_mutator=mutate)
    with fuzz.bounded():
        atheris.Fuzz()


def summary(said: str) -> str:
    """Inputs, seconds and branches, of what libFuzzer says."""

    runs = re.findall(r"Done (\d+) runs in (\d+) second", said)
    states = re.findall(r"ft: (\d+) corp: (\d+)", said)
    if not runs or not states:
        return "ended early"
    return f"{runs[-1][0]} inputs in {runs[-1][1]} s, {states[-1][0]} features, {states[-1][1]} inputs that led to them"


if __name__ == "__main__":
    raise SystemExit(main())
