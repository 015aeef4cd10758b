"""Tracking on a local Ray cluster of two processes: the results of one process, and sentences for mistakes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_helpers import camtrack_process

from camtrack.offline.cluster import track_in_cluster
from camtrack.offline.methods import Run
from camtrack.offline.run import track_sources
from camtrack.offline.task import Task
from camtrack_core.errors import DataError, ModelError
from gcnet_tracker.tracker import DEMO_MODEL

PKF = Run("pkf", DEMO_MODEL)


@pytest.fixture(scope="module", autouse=True)
def ray() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'camtrack[ray]'")


@pytest.fixture(scope="module")
def address(ray: None) -> Iterator[str]:
    """Of a cluster whose only node runs two workers."""
    from ray.cluster_utils import Cluster

    for last in (False, False, True):
        cluster = Cluster()
        try:
            cluster.add_node(num_cpus=2, include_dashboard=False)
            break
        except Exception as error:  # Ray has no class for it: a busy machine takes longer than the 30 s that it waits
            cluster.shutdown()
            if last:
                pytest.skip(f"Ray does not start here: {error}")
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def three(data_root: Path, tmp_path: Path) -> list[str]:
    """Public detections of three sequences."""
    for name, source in (("A", "TUD-Campus"), ("B", "TUD-Stadtmitte"), ("C", "TUD-Campus")):
        (tmp_path / "mot" / name / "det").mkdir(parents=True)
        shutil.copyfile(data_root / f"mot15/{source}/det/det.txt", tmp_path / f"mot/{name}/det/det.txt")
    return [str(tmp_path / "mot" / name) for name in "ABC"]


def test_a_cluster_gives_what_one_process_gives(address: str, three: list[str], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    alone = track_sources(three, tmp_path / "alone", PKF, 1, lambda done, expected: None)
    shared = track_sources(three, tmp_path / "shared", PKF, 0, lambda *n: seen.append(n), address)
    assert [(r.name, r.frames, r.tracks) for r in shared] == [(r.name, r.frames, r.tracks) for r in alone]
    for name in "ABC":
        text = (tmp_path / f"alone/{name}.txt").read_text()
        assert text == (tmp_path / f"shared/{name}.txt").read_text() and len(text) > 1000
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == sum(r.frames for r in alone) == 321


def test_more_jobs_than_processors_are_as_many_as_these(address: str, three: list[str], tmp_path: Path) -> None:
    """A worker without a processor would never start, nor would its sequence."""
    more = [str(shutil.copytree(three[0], tmp_path / "mot" / name)) for name in "DE"]
    results = track_sources([*three, *more], tmp_path / "out", PKF, 5, lambda done, expected: None, address)
    assert [(r.name, r.error) for r in results] == [(name, "") for name in "ABCDE"]


def test_the_command_goes_on_where_it_ended_and_names_what_failed(
    address: str, three: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (tmp_path / "mot/B/det/det.txt").write_text("1,-1,nonsense\n")
    arguments = ["track", *three, "--method", "pkf", "--out", str(out), "--ray", address, "--json"]
    first = camtrack_process(*arguments)
    assert first.returncode == 2 and "det.txt, line 1" in first.stderr and "Traceback" not in first.stderr
    assert [r["frames"] for r in json.loads(first.stdout)] == [71, 0, 71]
    shutil.copyfile(tmp_path / "mot/A/det/det.txt", tmp_path / "mot/B/det/det.txt")
    again = camtrack_process(*arguments)
    assert again.returncode == 0, again.stderr
    assert [r["kept"] for r in json.loads(again.stdout)] == [True, False, True]


def test_a_model_that_is_none_ends_the_run(address: str, data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    run = Run("gcnet", tmp_path / "model.onnx", "onnxruntime")
    task = Task(str(data_root / "videos/highway_a.mp4"), tmp_path, run, True)
    with pytest.raises(ModelError, match=r"model\.onnx: expected an ONNX graph"):
        track_in_cluster([task], run, address, 1, lambda done, expected: None)


def test_a_cluster_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--ray 127\.0\.0\.1:1: the cluster does not answer"):
        track_in_cluster([Task("x", tmp_path, PKF, True)], PKF, "127.0.0.1:1", 1, lambda done, expected: None)


HOLDER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
class Holder:
    def ready(self): pass
holders = [ray.remote(num_cpus=1)(Holder).remote() for _ in range(2)]
ray.get([h.ready.remote() for h in holders])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_cluster_without_a_free_processor_is_a_sentence(
    address: str, three: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camtrack.offline.cluster.START_SECONDS", 1.0)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(DataError, match=r"no worker started in 1 s; its processors seem to be taken"):
                track_sources(three, tmp_path, PKF, 0, lambda done, expected: None, address)
        finally:
            holder.stdin.close()  # it ends, and gives the processors back
