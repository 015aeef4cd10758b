"""Runs a launch file's processes together, for machines without `ros2 launch`.

    python -m camtrack.launch.runner FILE.launch.xml [ARGUMENT:=VALUE ...] [--show-args | --print]

--show-args tells the arguments of the file, --print the processes that it asks for; neither starts anything.

Exit code: that of the first process that failed for good, else 0. SIGINT, SIGTERM or the end of a required process
ends all of them with everything they started: SIGINT first, SIGTERM after 5 s, SIGKILL after 5 s more.

A process that respawns is started again after respawn_delay, and after twice as long each further time that it has
lived for less than a minute, at most respawn_max_retries times in all. One that says by exit code 2 that it cannot
start, as when its model is missing, is not. Where one is given up all end: without it the others are of no use.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from camtrack.launch.file import Process, declared_arguments, read_launch_file
from camtrack.launch.packages import LaunchError, prefixes
from camtrack_core.stopping import CANNOT_START

GRACE = 5.0  # seconds between two signals of growing weight
LONG_LIFE = 60.0  # seconds after which an end has nothing to do with the one before
LONGEST_PAUSE = 60.0  # seconds
HELP = {"-h", "--help"}
SHOW_ARGUMENTS = {"-s", "--show-args", "--show-arguments"}
SHOW_PROCESSES = {"-p", "--print", "--print-description"}
NOT_FOUND = 127  # exit code that another try would not change, as CANNOT_START


class Runner:
    """Processes that live and end together.

    Attributes:
        exit_code: of the first process that failed for good; 0 until one does.
        ended: names and exit codes of the processes, in the order in which they ended.
    """

    def __init__(self, output: TextIO) -> None:
        self.exit_code = 0
        self.ended: list[tuple[str, int]] = []
        self._output = output
        self._stop = asyncio.Event()

    async def run(self, processes: Sequence[Process]) -> None:
        """Run all of them until they have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        await asyncio.gather(*(self._keep(process) for process in processes))

    async def _keep(self, process: Process) -> None:
        """Run a process, again and again if it respawns."""
        respawns, pause = 0, process.respawn_delay
        while True:
            started = time.monotonic()
            code = await self._run_once(process)
            given_up = code in (CANNOT_START, NOT_FOUND) or respawns == process.respawn_max_retries
            if self._stop.is_set() or process.respawn_delay is None or pause is None or given_up:
                break
            if time.monotonic() - started > LONG_LIFE:
                pause = process.respawn_delay
            self._say(process.name, f"is started again in {pause:g} s")
            await self._pause(pause)
            respawns, pause = respawns + 1, min(2 * pause, LONGEST_PAUSE)
        self.exit_code = self.exit_code or code
        if process.required or process.respawn_delay is not None:
            self._stop.set()

    async def _run_once(self, process: Process) -> int:
        """Run a process until it ends; its exit code, 128 + N after signal N, 0 where it ended because it was told."""
        search = {"AMENT_PREFIX_PATH": ":".join(map(str, prefixes()))}
        try:
            # A session of its own: a terminal's Ctrl-C reaches the processes through us only, once.
            child = await asyncio.create_subprocess_exec(
                *process.command,
                env={**search, **os.environ, **process.environment},
                cwd=process.folder,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._say(process.name, f"cannot start {process.command[0]}: {error.strerror}")
            self.ended.append((process.name, NOT_FOUND))
            return NOT_FOUND
        assert child.stdout is not None
        output = asyncio.create_task(self._show(process.name, child.stdout))
        ended = asyncio.create_task(child.wait())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
        asked = not ended.done()
        if asked:
            await _end(child.pid, ended)
        stop.cancel()
        code = await ended
        _signal_group(child.pid, signal.SIGKILL)  # what it left behind
        await output
        return self._note(process.name, code, asked)

    def _note(self, name: str, code: int, asked: bool) -> int:
        """Say how a process ended. Dying of a signal that we sent is no failure, being deaf to them is."""
        self.ended.append((name, code))
        if code == 0 or (asked and code in (-signal.SIGINT, -signal.SIGTERM, 130)):
            self._say(name, "ended")
            return 0
        self._say(name, f"failed with exit code {code}")
        return code if code > 0 else 128 - code

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until all is to end."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _show(self, name: str, stream: asyncio.StreamReader) -> None:
        """Print a process's output line by line, however long the lines are."""
        rest = b""
        while chunk := await stream.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._say(name, line.decode(errors="replace"))
        if rest:
            self._say(name, rest.decode(errors="replace"))

    def _say(self, name: str, text: str) -> None:
        print(f"[{name}] {text}", file=self._output, flush=True)


async def _end(group: int, ended: asyncio.Task[int]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        _signal_group(group, number)
        await asyncio.wait({ended}, timeout=GRACE)
        if ended.done():
            return


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def run_launch_file(path: str, arguments: Sequence[str], output: TextIO) -> Runner:
    """Run a launch file with NAME:=VALUE arguments; what its processes print goes to `output`. Raises LaunchError."""
    processes = read_launch_file(path, given_arguments(arguments))

    async def run() -> Runner:
        runner = Runner(output)
        await runner.run(processes)
        return runner

    return asyncio.run(run())


def given_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Values by name of NAME:=VALUE, of which neither may be empty. Raises LaunchError."""
    given = {}
    for argument in arguments:
        name, _, value = argument.partition(":=")
        if not name or not value:
            raise LaunchError(f"expected arguments as NAME:=VALUE, got '{argument}'")
        given[name] = value
    return given


def show_arguments(path: str) -> str:
    """What a launch file can be told."""
    return "\n".join(
        f"{name:16} {description} (default: {'none' if default is None else repr(default)})"
        for name, default, description in declared_arguments(path)
    )


def show_processes(path: str, arguments: Sequence[str]) -> str:
    """The processes of a launch file as commands of a shell."""
    processes = read_launch_file(path, given_arguments(arguments))
    return "\n".join(f"[{process.name}] {_as_command(process)}" for process in processes)


def _as_command(process: Process) -> str:
    return shlex.join([*(f"{name}={value}" for name, value in process.environment.items()), *process.command])


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    options = {argument for argument in arguments if argument.startswith("-")}
    file, *given = [argument for argument in arguments if argument not in options] or [""]
    if not file or options & HELP:
        print(__doc__)
        return 0 if options & HELP else 2
    try:
        if unknown := sorted(options - SHOW_ARGUMENTS - SHOW_PROCESSES):
            raise LaunchError(f"the option {unknown[0]} is not supported here; known are --show-args and --print")
        if options & SHOW_ARGUMENTS:
            print(show_arguments(file))
            return 0
        if options & SHOW_PROCESSES:
            print(show_processes(file, given))
            return 0
        return run_launch_file(file, given, sys.stdout).exit_code
    except LaunchError as error:
        print(f"[launch] {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
