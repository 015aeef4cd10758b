"""bag, replay, track and evaluate as a person types them: what they write, and a sentence for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from command_helpers import a_video, camtrack, camtrack_process
from typer.testing import CliRunner

from camtrack.cli import app, main
from camtrack.evaluation.command import Rules, run_tracks

ROOT = Path(__file__).parents[2]


def commands() -> list[tuple[str, ...]]:
    """Every command, with the group that it is in."""
    own = [(c.name or c.callback.__name__,) for c in app.registered_commands if c.callback is not None]
    for group in app.registered_groups:
        assert group.name is not None and group.typer_instance is not None
        inner = group.typer_instance.registered_commands
        own += [(group.name, c.name or c.callback.__name__) for c in inner if c.callback is not None]
    return own


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example_and_json_and_refuses_what_it_does_not_know(
    command: tuple[str, ...],
) -> None:
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})
    shown = runner.invoke(app, [*command, "--help"])
    assert shown.exit_code == 0 and f"camtrack {' '.join(command)}" in shown.output.partition("Example")[2]
    assert "--json" in shown.output
    if command != ("launch",):  # takes NAME:=VALUE
        assert runner.invoke(app, [*command, "--no-such-option"]).exit_code == 2


# They look at the machine or at running nodes and can do without any file.
WITHOUT_FILES = {("top",), ("doctor",), ("policy",), ("engine", "list"), ("engine", "clean")}


@pytest.mark.parametrize("command", [c for c in commands() if c not in WITHOUT_FILES], ids=" ".join)
def test_every_command_names_the_missing_file_and_ends_with_code_2(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All that a command cannot do without is a name of nothing."""
    found: Any = typer.main.get_command(app)
    for word in command:
        found = found.commands[word]
    words = []
    for number, parameter in enumerate(p for p in found.params if p.required or p.name == "input"):
        words += [parameter.opts[0]] if parameter.param_type_name == "option" else []
        words.append(str(tmp_path / f"missing{number}.mp4"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["camtrack", *command, *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr()
    assert ended.value.code == 2
    assert "error:" in said.err and "missing" in said.err and "Traceback" not in said.out + said.err


def test_shells_complete_commands() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "_CAMTRACK_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'camtrack'; from camtrack.cli import app; app(prog_name='camtrack')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, env=environment | {"COMP_WORDS": "camtrack re"}, check=False,
    )  # fmt: skip
    assert set(done.stdout.split()) == {"replay", "report", "results"}, done.stderr


def test_a_launch_as_json(tmp_path: Path) -> None:
    """What the processes print does not mix with the result."""
    file = tmp_path / "two.launch.xml"
    file.write_text('<launch><executable cmd="echo hello" name="a"/><executable cmd="false" name="b"/></launch>')
    done = camtrack_process("launch", str(file), "--json")
    assert "hello" in done.stderr and done.returncode == 1
    result = json.loads(done.stdout)
    assert result["exit_code"] == 1
    assert {one["process"]: one["exit_code"] for one in result["ended"]} == {"a": 0, "b": 1}


def test_clips_as_json(data_root: Path, tmp_path: Path) -> None:
    arguments = ["gcnet", "clips", "drive:3?frames=2", "--out", str(tmp_path)]
    arguments += ["--config", str(ROOT / "config/gcnet_demo.yaml"), "--json"]
    clip = str(tmp_path / "drive-000003.npz")
    assert json.loads(camtrack(*arguments).stdout) == {"made": [clip], "kept": []}
    assert json.loads(camtrack(*arguments).stdout) == {"made": [], "kept": [clip]}


def test_a_report_and_a_bag_as_json(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "mot15/TUD-Campus"
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "TUD-Campus.txt").write_text((source / "gt/gt.txt").read_text())
    runs = [str(tmp_path / "before"), str(tmp_path / "after")]
    done = camtrack("report", *runs, "--truth", str(source), "--out", str(tmp_path / "r.html"), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [r["name"] for r in found["runs"]] == ["before", "after"] and found["runs"][1]["changes"]["hota"] == [
        0,
        0,
        0,
    ]
    done = camtrack("bag", a_video(tmp_path / "clip.mp4"), str(tmp_path / "bag"), "--json")
    assert json.loads(done.stdout) == {"bag": str(tmp_path / "bag"), "messages": 24, "skipped": []}


def test_a_video_becomes_a_bag_and_is_replayed(tmp_path: Path) -> None:
    """Every image of the bag arrives at a ROS subscriber, with the time that it was recorded at."""
    bag = str(tmp_path / "clip")
    done = camtrack("bag", a_video(tmp_path / "clip.mp4"), bag, "--compressed")
    assert done.returncode == 0 and "24 messages" in done.stdout, done.stderr
    again = camtrack("bag", str(tmp_path / "clip.mp4"), bag)
    assert again.returncode == 2 and "is there already" in again.stderr and "Traceback" not in again.stderr

    listener = subprocess.Popen(
        [sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    played = camtrack_process(
        "replay", bag, "--rate", "0.5", "--compressed", "--namespace", "left", "--clock", "--json"
    )
    stamps, _ = listener.communicate(timeout=300)
    assert played.returncode == 0, played.stderr
    assert json.loads(played.stdout) == {"source": bag, "exit_code": 0, "frames": 12, "drops": {}}
    assert [int(s) for s in stamps.split()] == [1_000_000_000 + k * 100_000_000 for k in range(12)]


LISTENER = """
import time, rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
rclpy.init()
node, stamps = rclpy.create_node("listener"), []
topic = "/left/image/compressed"
node.create_subscription(
    CompressedImage, topic, lambda m: stamps.append(m.header.stamp.sec * 10**9 + m.header.stamp.nanosec),
    QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT))  # a busy listener loses none that has arrived
end = time.monotonic() + 250
while len(stamps) < 12 and time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.2)
print(*stamps)
"""


def test_public_detections_are_tracked_and_scored(data_root: Path, tmp_path: Path) -> None:
    data, out = str(data_root / "mot15"), str(tmp_path / "tracks")
    tracked = camtrack("track", data, "--method", "pkf", "--out", out, "--jobs", "1", "--json")
    assert tracked.returncode == 0, tracked.stderr
    assert [r["frames"] for r in json.loads(tracked.stdout)] == [71, 179]
    scored = camtrack("evaluate", out, "--truth", data, "--json")
    assert scored.returncode == 0, scored.stderr
    scores = json.loads(scored.stdout)
    assert set(scores["sequences"]) == {"TUD-Campus", "TUD-Stadtmitte"}
    assert 0.3 < scores["combined"]["hota"] < 0.9 and scores["combined"]["frames"] == 250
    table = camtrack("evaluate", out, "--truth", data)
    assert f"{scores['combined']['hota']:.4f}" in table.stdout and "combined" in table.stdout


def test_a_narrow_terminal_cuts_no_name(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    sequence = data_root / "mot15/TUD-Campus"
    run_tracks(sequence / "gt/gt.txt", [str(sequence)], Rules(), as_json=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "TUD-Campus" in line]
    assert line.count("1.0000") == 8  # all scores on the line of their sequence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bag", "missing.mp4", "out"), "does not exist"),
        (("bag", "drive:x", "out"), "seed"),
        (("replay", "missing.mcap"), "does not exist"),
        (("track", "missing.mp4", "--out", "out"), "does not exist"),
        (("track", "drive:1", "--out", "out", "--device", "abacus"), "--device"),
        (("track", "drive:1", "--out", "out", "--model", "none.onnx"), "none.onnx"),
        (("track", "drive:1", "--out", "out", "--method", "time3d", "--model", "none.onnx"), "none.onnx"),
        (("track", "drive:1", "--out", "out", "--method", "pkf", "--ray", "127.0.0.1:1"), "--ray 127.0.0.1:1"),
        (("evaluate", "none.json", "--truth", "drive:1"), "expected one source of nuScenes"),
        (("evaluate", "none", "--truth", "missing.mp4"), "does not exist"),
        (("report", "none", "--truth", "missing.mp4", "--out", "out"), "does not exist"),
        (("evaluate", ".", "--truth", "drive:1", "--pr-curve", "none.txt"), "none.txt"),
        (("evaluate", ".", "--truth", "drive:1", "--detections", "--iou", "2"), "--iou"),
        (("evaluate", ".", "--truth", "drive:1", "--detections", "--split", "hard"), "NAME=FILE"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = camtrack(*(str(tmp_path / "out") if a == "out" else a for a in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr and "Traceback" not in done.stdout + done.stderr
