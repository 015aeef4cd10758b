"""The launch runner: what a launch file means, exit codes, and that nothing survives it. No ROS is needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from camtrack.launch.file import declared_arguments, read_launch_file
from camtrack.launch.packages import LaunchError
from camtrack.launch.runner import given_arguments

SLEEP = "import time, sys; print('up', flush=True); time.sleep(60)"
# Ends by a signal whenever that comes: Python, while it starts, takes SIGINT for an error.
SLEEPER = '<executable cmd="sleep 60" name="sleeper"/>'
DEAF = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {SLEEP}"


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch) -> Path:
    """A package `pack` with the executable `prog` and a share folder, as colcon installs them."""
    executable = tmp_path / "prefix/lib/pack/prog"
    executable.parent.mkdir(parents=True)
    executable.write_text("#!/bin/sh\n")
    (tmp_path / "prefix/share/pack").mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    return executable


@pytest.fixture
def launch_file(tmp_path):
    def write(body: str, name: str = "some.launch.xml") -> Path:
        path = tmp_path / name
        path.write_text(f"<launch>{body}</launch>")
        return path

    return write


def names(processes) -> list[str]:
    return [process.name for process in processes]


# --- What a launch file means


def test_a_node_becomes_a_command(launch_file, package):
    path = launch_file(
        """
        <arg name="rate" default="20"/>
        <node pkg="pack" exec="prog" name="camera" namespace="front" args="--fast" ros_args="--log-level info">
          <remap from="image" to="/cam/image"/>
          <param name="rate" value="$(var rate)"/>
          <param name="names" value="[car, bus]"/>
          <param name="label" value="'7'"/>
          <param name="empty" value=""/>
          <param name="gate"><param name="size" value="2.5"/></param>
          <param from="$(dirname)/params.yaml"/>
          <env name="COLOUR" value="red"/>
        </node>"""
    )
    (process,) = read_launch_file(path, {"rate": "30"})
    command = " ".join(process.command)
    assert process.name == "camera" and process.environment == {"COLOUR": "red"}
    assert command.startswith(f"{package} --fast --ros-args --log-level info -r __node:=camera -r __ns:=/front")
    for part in (
        "-r image:=/cam/image",
        "-p rate:=30 ",
        "-p names:=[car, bus]",
        "-p label:='7'",
        "-p empty:=''",
        "-p gate.size:=2.5",
        f"--params-file {path.parent}/params.yaml",
    ):
        assert part in command + " "


def test_groups_scope_and_includes_do_not(launch_file):
    launch_file(
        """
        <arg name="who" default="nobody"/>
        <node pkg="pack" exec="prog" name="$(var who)"/>
        <let name="told" value="yes"/>""",
        "inner.launch.xml",
    )
    path = launch_file(
        """
        <set_env name="A" value="outer"/>
        <group>
          <push_ros_namespace namespace="left"/>
          <set_remap from="a" to="b"/>
          <set_parameter name="p" value="1"/>
          <set_env name="A" value="inner"/>
          <let name="who" value="grouped"/>
          <node pkg="pack" exec="prog" name="inside" namespace="eye"/>
        </group>
        <include file="$(dirname)/inner.launch.xml"><arg name="who" value="included"/></include>
        <node pkg="pack" exec="prog" name="after" if="$(eval &quot;'$(var told)' == 'yes'&quot;)"/>"""
    )
    inside, included, after = read_launch_file(path, {})
    assert "__ns:=/left/eye" in inside.command and "a:=b" in inside.command and "p:=1" in inside.command
    assert inside.environment == {"A": "inner"} and after.environment == {"A": "outer"}
    assert included.name == "included"
    assert not any("__ns" in part or part in ("a:=b", "p:=1") for part in after.command)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('if="true"', True),
        ('if="1"', True),
        ('if="False"', False),
        ('unless="true"', False),
        ('unless="0"', True),
        ('if="$(var yes)"', True),
        ("""if="$(eval &quot;'$(var word)' != ''&quot;)" """, True),
        ("""if="$(eval '\\'$(var none)\\' != \\'\\'')" """, False),
        ('if="$(not-equals x$(var none) x)"', False),
        ('if="$(equals $(var number) 4)"', True),
        ("""if="$(eval '2 &lt; 3 and not (1 == 2)')" """, True),
        ("""if="$(eval &quot;'a' in ['b', 'c'] or $(var number) &gt; 3&quot;)" """, True),
    ],
)
def test_conditions(launch_file, condition, expected):
    path = launch_file(
        f"""
        <arg name="yes" default="true"/><arg name="word" default="bus"/><arg name="none" default=""/>
        <arg name="number" default="4"/>
        <group {condition}><node pkg="pack" exec="prog"/></group>"""
    )
    assert names(read_launch_file(path, {})) == ["prog"] * expected


def test_environment_and_package_substitutions(launch_file, package, monkeypatch):
    monkeypatch.setenv("GIVEN", "here")
    path = launch_file(
        """
        <set_env name="SET" value="before"/>
        <let name="where" value="$(find-pkg-share pack)/x"/>
        <executable cmd="echo $(env GIVEN) $(env MISSING other) $(env SET) $(var where)"/>"""
    )
    (process,) = read_launch_file(path, {})
    share = package.parents[2] / "share/pack/x"
    assert process.command == ("echo", "here", "other", "before", str(share))


def test_respawn_and_on_exit(launch_file):
    path = launch_file(
        """
        <node pkg="pack" exec="prog" respawn="true" respawn_delay="1.5" respawn_max_retries="4"/>
        <node pkg="pack" exec="prog" on_exit="shutdown"/>"""
    )
    first, second = read_launch_file(path, {})
    assert (first.respawn_delay, first.respawn_max_retries, first.required) == (1.5, 4, False)
    assert (second.respawn_delay, second.respawn_max_retries, second.required) == (None, -1, True)


@pytest.mark.parametrize(
    ("body", "arguments", "sentence"),
    [
        ('<arg name="model" description="ONNX file"/>', {}, r"argument 'model' \(ONNX file\) is missing"),
        ('<arg name="model" default=""/>', {"modle": "x"}, "no argument 'modle'; did you mean 'model'"),
        ('<node pkg="pack" exec="prig"/>', {}, "package 'pack' has no executable 'prig'"),
        ('<node pkg="pack"/>', {}, "<node> needs the attribute 'exec'"),
        ("<timer/>", {}, "<timer> is not supported here; known are arg, let"),
        ('<log message="$(var x)"/>', {}, r"\$\(var x\): there is no argument"),
        ('<log message="$(env CAMTRACK_UNSET)"/>', {}, "the variable is not set"),
        ('<log message="$(command ls)"/>', {}, r"\$\(command\) is not supported here; known are var, env"),
        ('<log message="$(var x"/>', {}, "is not closed"),
        ('<log message="$(find-pkg-share pock)"/>', {}, "package 'pock' has no share folder"),
        ('<log message="" if="maybe"/>', {}, "expected a condition to be true, false, 1 or 0, got 'maybe'"),
        (
            """<log message="$(eval 'open(1)')"/>""",
            {},
            "expected literals, comparisons and arithmetic, else it is not supported",
        ),
        ('<log message="$(equals a)"/>', {}, r"\$\(equals a\): expected 2 arguments, got 1"),
        ('<log message="$(eval 1 + 2)"/>', {}, "expected 1 arguments, got 3; quote one that holds spaces"),
        ('<node pkg="pack" exec="prog"><param name="p" value="[1"/></node>', {}, "expected a value as YAML has it"),
        ('<node pkg="pack" exec="prog"><param name="p" value="1" type="foo"/></node>', {}, "expected one of the types"),
        ('<node pkg="pack" exec="prog"><param name="p" value="a" type="int"/></node>', {}, "of the type int, got 'a'"),
        # what `ros2 launch` refuses
        ('<log mesage="a"/>', {}, "<log> has no attribute 'mesage'; did you mean 'message'?"),
        ('<executable cmd="echo" outptu="screen"/>', {}, "no attribute 'outptu'; did you mean 'output'?"),
        (
            '<executable cmd="echo"><evn name="A" value="1"/></executable>',
            {},
            "has no children <evn>; did you mean 'env'",
        ),
        ('<log message="a"><log message="b"/></log>', {}, "<log> has no children <log>"),
        ('<log message="a" if="true" unless="false"/>', {}, "expected if or unless, got both"),
        ('<executable cmd="e"><env name="A" value="1" if="0"/></executable>', {}, "<env> has no attribute 'if'"),
        ('<node pkg="pack" exec="prog"><param name="p" value="1" if="0"/></node>', {}, "<param> has no attribute 'if'"),
        ('<node pkg="pack" exec="prog"><remap from="a" to="b" if="0"/></node>', {}, "<remap> has no attribute 'if'"),
        ('<include file="x"><let name="y" value="5"/></include>', {}, "<include> has no children <let>"),
        ('<arg name="c" default="z"><choice value="a"/></arg>', {}, "argument 'c': expected one of a, got 'z'"),
        ('<executable cmd="e" on_exit="restart"/>', {}, "expected on_exit to be shutdown, got 'restart'"),
        ('<set-env name="A" value="1"/>', {}, "<set-env> is not supported here"),
        ('<executable cmd="e" respawn_delay="soon"/>', {}, "expected respawn_delay to be a number, got 'soon'"),
        ('<executable cmd="e" respawn_delay="-1.0"/>', {}, "expected respawn_delay to be at least 0, got -1"),
        ('<executable cmd="e" respawn_delay="$(var x)"/>', {}, r"to be a number, got '\$\(var x\)'"),
        ('<executable cmd="e" respawn_max_retries="many"/>', {}, "expected respawn_max_retries to be a number"),
        ('<executable cmd="e" output="nowhere"/>', {}, "expected output to be one of screen, log, .*got 'nowhere'"),
        ('<executable cmd=" "/>', {}, "expected a command in cmd, got none"),
        (
            '<node pkg="pack" exec="prog"><param name="a" value="1"><param name="b" value="2"/></param></node>',
            {},
            "expected a value or further parameters in it, got both",
        ),
        (
            '<node pkg="pack" exec="prog"><param name="a" type="int"><param name="b" value="2"/></param></node>',
            {},
            "expected a value or further parameters in it, got both",
        ),
        ('<node pkg="pack" exec="prog"><param name="a" from="x.yaml"/></node>', {}, "<param>: expected from alone"),
        ('<node pkg="pack" exec="prog"><param value="1" from="x.yaml"/></node>', {}, "<param>: expected from alone"),
        ('<include file="$(filename)"/>', {}, "expected files that do not include themselves"),
        # what it knows and the runner does not
        ('<node exec="prog"/>', {}, "a program without a package .* is not supported here"),
        (
            '<node pkg="pack" exec="prog"><param from="x.yaml" allow_substs="true"/></node>',
            {},
            "'allow_substs' is not supported here",
        ),
        ('<executable cmd="e" shell="true"/>', {}, "the attribute 'shell' is not supported here"),
        ('<group forwarding="false"/>', {}, "the attribute 'forwarding' is not supported here"),
        ('<unset_env name="A"/>', {}, "<unset_env> is not supported here"),
        ('<include file="nowhere.xml"/>', {}, "cannot read launch file nowhere.xml"),
        ("<oops>", {}, "is no valid XML"),
    ],
)
def test_what_cannot_be_carried_out_gets_a_sentence(launch_file, body, arguments, sentence):
    with pytest.raises(LaunchError, match=sentence):
        read_launch_file(launch_file(body), arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(equals 1 1.0) $(equals true 1) $(equals a a) $(equals a b)", "true true true false"),
        ("$(equals 'a b' 'a b') $(not-equals 'a' b)", "true true"),
        ("$(not true) $(and true false) $(or 1 false) $(if true a b)", "false false true a"),
        ("$(var missing 7) $(var $(var name))", "7 value"),
        ("$(eval '1 + 2 * 3') $(eval '7 // 2')", "7 3"),
        (r"a \$(var x) b", "a $(var x) b"),
        ("$(find-pkg-prefix pack)", "PREFIX"),
        ("$(filename)", "FILE"),
        ("$(env CAMTRACK_UNSET 'a b')", "a b"),
    ],
)
def test_substitutions_mean_what_they_do_in_ros(launch_file, package, text, expected):
    """Every line was tried with `ros2 launch`."""
    path = launch_file(f'''<let name="name" value="given"/><let name="given" value="value"/>
        <let name="x" value="{text}"/><executable cmd="echo $(var x)"/>''')
    (process,) = read_launch_file(path, {})
    expected = expected.replace("PREFIX", str(package.parents[2])).replace("FILE", str(path))
    assert process.command == ("echo", expected)  # what a substitution brings is one argument


def test_commands_are_split_as_a_shell_does_before_substitutions(launch_file):
    path = launch_file("""<let name="two" value="a b"/><executable cmd="echo 'c d' $(var two) e" cwd="/tmp"
        launch-prefix="nice -n 5"/>""")
    (process,) = read_launch_file(path, {})
    assert process.command == ("nice", "-n", "5", "echo", "c d", "a b", "e") and process.folder == "/tmp"


def test_variables_of_the_environment_are_extended(launch_file):
    path = launch_file("""<set_env name="A" value="1"/><append_env name="A" value="2"/>
        <append_env name="A" value="0" separator="," prepend="true"/><executable cmd="printenv A"/>""")
    (process,) = read_launch_file(path, {})
    assert process.environment == {"A": "0,1:2"}


def test_arguments_and_processes_are_shown_without_starting_anything(launch_file):
    path = launch_file("""<arg name="a" default="1" description="first"/><set_env name="A" value="b c"/>
        <executable cmd="echo $(var a)" name="one"/>""")
    shown = {option: run(path, *option.split()).communicate(timeout=120)[0] for option in ("-s", "a:=2 --print")}
    assert "option --debug is not supported here" in run(path, "--debug").communicate(timeout=120)[0]
    assert shown["-s"] == "a                first (default: '1')\n"
    assert shown["a:=2 --print"] == "[one] 'A=b c' echo 2\n"


def test_a_file_whose_root_is_another_is_refused(tmp_path):
    path = tmp_path / "some.launch.xml"
    path.write_text('<lunch><executable cmd="echo"/></lunch>')
    with pytest.raises(LaunchError, match="expected the root <launch>, got <lunch>"):
        read_launch_file(path, {})


@pytest.mark.parametrize("argument", ["a", "a:=", ":=1"])
def test_arguments_without_name_or_value_are_refused(argument):
    with pytest.raises(LaunchError, match=f"expected arguments as NAME:=VALUE, got '{argument}'"):
        given_arguments(["b:=2", argument])
    assert given_arguments(["b:=2", "b:=x:=y"]) == {"b": "x:=y"}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('<arg default="1"/>', "<arg> needs the attribute 'name'"),
        ('<arg nam="a"/>', "no attribute 'nam'; did you mean"),
    ],
)
def test_arguments_that_cannot_be_told_get_a_sentence(launch_file, body, sentence):
    with pytest.raises(LaunchError, match=sentence):
        declared_arguments(launch_file(body))


def test_declared_arguments(launch_file):
    path = launch_file('<arg name="a" default="1" description="first"/><arg name="b"/>')
    assert declared_arguments(path) == [("a", "1", "first"), ("b", None, "")]


# --- Processes


def element(code: str, tmp_path: Path, name: str, attributes: str = "") -> str:
    """An <executable> that runs Python code."""
    script = tmp_path / f"{name}.py"
    script.write_text(code)
    return f'<executable cmd="{sys.executable} {script}" name="{name}" {attributes}/>'


def run(path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "camtrack.launch.runner", str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def wait_for_lines(process: subprocess.Popen[str], text: str, count: int) -> None:
    while count:
        line = process.stdout.readline()
        assert line, f"ended without '{text}'"
        count -= text in line


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_all_well_is_zero_and_output_is_prefixed(launch_file, tmp_path):
    process = run(launch_file(element("print('hello'); print('x' * 200_000)", tmp_path, "one")))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "[one] hello\n" in output and f"[one] {'x' * 200_000}\n" in output


def test_the_first_failure_is_the_exit_code(launch_file, tmp_path):
    body = element("raise SystemExit(7)", tmp_path, "bad")
    body += element("import time; time.sleep(3); raise SystemExit(3)", tmp_path, "worse")
    process = run(launch_file(body))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 7 and "[bad] failed with exit code 7" in output


def test_the_end_of_a_required_process_ends_all(launch_file, tmp_path):
    body = element("import time; time.sleep(1)", tmp_path, "player", 'on_exit="shutdown"') + SLEEPER
    process = run(launch_file(body))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "[sleeper] ended" in output


def test_a_process_that_cannot_start(launch_file):
    process = run(launch_file('<executable cmd="/nowhere/program" name="ghost"/>'))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 127 and "[ghost] cannot start /nowhere/program: No such file" in output


def test_a_process_respawns_until_the_runner_is_stopped(launch_file, tmp_path):
    process = run(launch_file(element("print('again')", tmp_path, "phoenix", 'respawn="true"')))
    wait_for_lines(process, "again", 3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_pauses_grow_and_in_the_end_all_end(launch_file, tmp_path):
    attributes = 'respawn="true" respawn_delay="0.1" respawn_max_retries="3"'
    body = element("raise SystemExit(7)", tmp_path, "bad", attributes) + SLEEPER
    process = run(launch_file(body))
    output, _ = process.communicate(timeout=120)
    pauses = [line.split()[-2] for line in output.splitlines() if "is started again in" in line]
    assert pauses == ["0.1", "0.2", "0.4"] and output.count("failed with exit code 7") == 4
    assert process.returncode == 7 and "[sleeper] ended" in output


def test_what_cannot_start_is_not_tried_again(launch_file, tmp_path):
    body = element("raise SystemExit(2)", tmp_path, "hopeless", 'respawn="true"') + SLEEPER
    process = run(launch_file(body))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and output.count("[hopeless]") == 1 and "[sleeper] ended" in output


def test_a_crash_that_is_over_does_not_end_the_others_and_is_no_failure(launch_file, tmp_path):
    """Killed once, as by a kernel that is out of memory, it is started again while the other goes on."""
    once = (
        "import os, pathlib, signal, time\n"
        f"mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "if not mark.exists():\n    mark.touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "print('up', flush=True); time.sleep(60)"
    )
    body = element(once, tmp_path, "victim", 'respawn="true"') + SLEEPER
    process = run(launch_file(body))
    wait_for_lines(process, "[victim] up", 1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "[sleeper] ended" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_process_and_what_it_started(launch_file, tmp_path, number):
    family = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time;"
        " signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}} {{child.pid}} ')\n"
        "print('up', flush=True)\ntime.sleep(60)\n"
    )
    process = run(launch_file(element(family, tmp_path, "a") + element(family, tmp_path, "b")))
    wait_for_lines(process, "up", 2)
    process.send_signal(number)
    process.communicate(timeout=120)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert process.returncode == 0 and len(pids) == 4
    deadline = time.monotonic() + 60
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "expected all to end"
        time.sleep(0.02)


def test_a_process_deaf_to_sigint_gets_sigterm(launch_file, tmp_path):
    process = run(launch_file(element(DEAF, tmp_path, "deaf")))
    wait_for_lines(process, "up", 1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "[deaf] ended" in output


def test_a_missing_argument_is_said_before_anything_starts(launch_file):
    process = run(launch_file('<executable cmd="echo started"/><arg name="model"/>'))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "argument 'model' is missing: give model:=VALUE" in output and "started" not in output


# --- The project's own launch file


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["gcnet_tracker", "pkf_filter"]),
        ({"source": "clip.mp4"}, ["gcnet_tracker", "pkf_filter", "replay"]),
        ({"source": "drive:7", "record": "out"}, ["gcnet_tracker", "pkf_filter", "recorder", "replay"]),
    ],
)
def test_tracking_launch_file(package, arguments, expected):
    for name in ("gcnet_tracker_node", "pkf_filter_node", "recorder_node", "replay_node"):
        executable = package.parents[1] / "camtrack" / name
        executable.parent.mkdir(exist_ok=True)
        executable.touch()
    path = Path(__file__).parents[2] / "launch/tracking.launch.xml"
    processes = read_launch_file(path, {"image": "/front/image", "namespace": "front", **arguments})
    assert names(processes) == expected
    for process in processes:
        # A recording is played and kept once; who works on it is started again after a crash.
        assert process.required == (process.name in ("recorder", "replay")) == (process.respawn_delay is None)
        assert Path(process.environment["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
        assert {"__ns:=/front", "image:=/front/image"} < set(process.command)
    if "record" in arguments:
        assert "wait_for_subscribers:=2" in processes[-1].command


@pytest.mark.parametrize("file", ["tracking.launch.xml", "fusion.launch.xml"])
@pytest.mark.parametrize(
    "name",
    ["it's here.mp4", "/data/clip #1.mp4", "/data/a: b.mp4", 'a "b".mp4', "007", "a (1).mp4", " x", "$(var x)"],
)
def test_a_recording_may_have_any_name(package, file, name):
    executables = "gcnet_tracker_node time3d_tracker_node pkf_filter_node recorder_node space_recorder_node replay_node"
    for executable in (package.parents[1] / "camtrack" / each for each in executables.split()):
        executable.parent.mkdir(exist_ok=True)
        executable.touch()
    processes = read_launch_file(Path(__file__).parents[2] / "launch" / file, {"source": name, "record": name})
    assert names(processes)[-2:] == ["recorder", "replay"]
    for process, parameter in zip(processes[-2:], ("folder:=", "source:="), strict=True):
        (given,) = (part for part in process.command if part.startswith(parameter))
        assert yaml.safe_load(given.removeprefix(parameter)) == name


@pytest.mark.parametrize("given", [{}, {"camera_info": "/front/info", "rectified": "true"}])
def test_every_node_of_the_fusion_launch_file_hears_the_same_camera(package, given):
    executables = ("gcnet_tracker_node", "time3d_tracker_node", "pkf_filter_node", "space_recorder_node")
    for name in executables:
        executable = package.parents[1] / "camtrack" / name
        executable.parent.mkdir(exist_ok=True)
        executable.touch()
    path = Path(__file__).parents[2] / "launch/fusion.launch.xml"
    processes = read_launch_file(path, {"image": "/front/image_raw", "record": "out", **given})
    assert names(processes) == ["gcnet_tracker", "time3d_tracker", "pkf_filter", "recorder"]
    for process in processes:
        topics = {"image:=/front/image_raw", f"camera_info:={given.get('camera_info', 'camera_info')}"}
        assert {"__ns:=/camera"} | topics < set(process.command)
        if process.name != "gcnet_tracker":
            assert f"rectified:={given.get('rectified', 'false')}" in process.command


@pytest.mark.parametrize("file", ["fusion.launch.xml", "cameras.launch.xml"])
def test_autoware_is_told_where_it_is_asked_for(package, file):
    for name in ("gcnet_tracker_node", "time3d_tracker_node", "pkf_filter_node", "autoware_node"):
        executable = package.parents[1] / "camtrack" / name
        executable.parent.mkdir(exist_ok=True)
        executable.touch()
    path, given = (
        Path(__file__).parents[2] / "launch" / file,
        {"cameras": "front"} if file.startswith("cameras") else {},
    )
    assert "autoware" not in names(read_launch_file(path, given))
    *_, adapter = read_launch_file(path, {**given, "autoware": "true"})
    topics = {f"{name}:=pkf_filter/{name}" for name in ("tracks", "states", "predictions")}
    assert adapter.name == "autoware" and topics < set(adapter.command)


def test_several_cameras_are_one_process_without_a_namespace_of_its_own(package):
    for name in ("gcnet_tracker_node", "time3d_tracker_node", "pkf_filter_node", "replay_node"):
        executable = package.parents[1] / "camtrack" / name
        executable.parent.mkdir(exist_ok=True)
        executable.touch()
    path = Path(__file__).parents[2] / "launch/cameras.launch.xml"
    with pytest.raises(LaunchError, match="argument 'cameras'"):
        read_launch_file(path, {})
    given = {"cameras": "front left", "image": "image_rect", "rectified": "true", "batch_timeout": "0.02"}
    processes = read_launch_file(path, {**given, "source": "drive:1?cameras=6"})
    assert names(processes) == ["gcnet_tracker", "time3d_tracker", "pkf_filter", "replay"]
    gcnet, time3d, pkf, replay = processes
    for process in (gcnet, time3d):
        assert process.respawn_max_retries == 10 and process.command[1] == "front left"
        assert "image:=image_rect" in process.command
        assert Path(process.environment["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    assert {"camera_info:=camera_info", "rectified:=true", "batch_timeout:=0.02"} < set(time3d.command)
    for process in (pkf, replay):
        assert "cameras:=front left" in process.command
    assert not [part for process in processes for part in process.command if part.startswith("__ns:=")]


@pytest.mark.parametrize("file", ["tracking", "fusion", "cameras"])
def test_what_runs_the_models_reaches_every_node_that_has_one(package, file):
    networks = ("gcnet_tracker_node", "time3d_tracker_node")
    for name in (*networks, "pkf_filter_node"):
        executable = package.parents[1] / "camtrack" / name
        executable.parent.mkdir(exist_ok=True)
        executable.touch()
    given = {"device": "cuda", "device_id": "1", "precision": "f32"}
    path = Path(__file__).parents[2] / f"launch/{file}.launch.xml"
    processes = read_launch_file(path, given | ({"cameras": "front"} if file == "cameras" else {}))
    with_network = [process for process in processes if Path(process.command[0]).name in networks]
    assert with_network
    for process in with_network:
        assert {f"{name}:={value}" for name, value in given.items()} < set(process.command)
