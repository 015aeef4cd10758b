"""What is installed: packages, compiled kernels, engines for the networks, settings of the transport. No ROS."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from camtrack.doctor.findings import Finding, note, ok, wrong
from camtrack_core.errors import CamtrackError

NEEDED = ("rclpy", "sensor_msgs", "vision_msgs", "tf2_msgs", "visualization_msgs", "trajectory_msgs", "diagnostic_msgs")
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # of Jazzy; of Kilted and later
ENVIRONMENT = "source config/environment.sh before, or start it by a launch file of camtrack"
SEGMENT = 64 * 2**20  # bytes of shared memory that each process takes; config/fastdds.xml
SHARED_MEMORY = Path("/dev/shm")


def examine_installation() -> Iterator[Finding]:
    yield from packages()
    yield kernels()
    yield from engines()
    yield gpu()
    yield from transport(os.environ)
    yield shared_memory(shutil.disk_usage(SHARED_MEMORY).free)


def packages() -> Iterator[Finding]:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        remedy = "./run installs them; on a ROS host: rosdep install --from-paths . --ignore-src"
        yield wrong("installation", f"cannot import {', '.join(missing)}", remedy)
    else:
        yield ok("installation", f"camtrack and {len(NEEDED)} ROS packages can be imported")
    if importlib.util.find_spec("tf2_ros") is None:
        yield ok("installation", "transforms: camtrack's own buffer, as there is no tf2_ros here")
    else:
        yield ok("installation", "transforms: tf2_ros")


def kernels() -> Finding:
    """Whether the numeric kernels were compiled before: numba counts what it finds in its cache."""
    from camtrack_core.kernels import uncompiled
    from pkf_filter.image import tracker as in_image  # noqa: F401  its imports declare the kernels
    from pkf_filter.space import tracker as in_space  # noqa: F401  the same

    left = uncompiled()
    if left:
        remedy = "python -m camtrack.compile_kernels; until then the first start of a filter takes a minute or two"
        return wrong("kernels", f"not compiled yet: those of {len(left)} modules, like {left[0]}", remedy)
    return ok("kernels", "compiled")


def engines() -> Iterator[Finding]:
    """Whether the shipped networks open, and what runs them."""
    from camtrack_core.runtime import open_serving_session
    from gcnet_tracker.tracker import DEMO_MODEL as GCNET
    from time3d_tracker.model import DEMO_MODEL as TIME3D

    def engine(path: Path) -> Finding:
        try:
            return ok("engines", f"{path.name} runs on {open_serving_session(path).engine}")
        except (CamtrackError, ImportError) as error:
            return wrong("engines", str(error), "./run installs the engines; set `device` to one that is there")

    yield from map(engine, (GCNET, TIME3D))


def gpu() -> Finding:
    from camtrack_core.runtime.session import why_not

    why = {device: why_not(device) for device in ("tensorrt", "cuda")}
    usable = [device for device, reason in why.items() if reason is None]
    if usable:
        return ok("engines", f"an NVIDIA GPU, usable as device:={' and device:='.join(usable)}")
    if shutil.which("nvidia-smi") is None:
        return ok("engines", "no NVIDIA GPU here (there is no nvidia-smi): the networks run on the CPU")
    reasons = "; ".join(reason for reason in why.values() if reason is not None)
    return note("engines", f"an NVIDIA GPU that is not used: {reasons}", "pip install 'camtrack[gpu]'; see docs/gpu.md")


def transport(environment: Mapping[str, str]) -> Iterator[Finding]:
    """The settings of a process that publishes or hears images."""
    middleware = environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if not middleware.startswith("rmw_fastrtps"):
        remedy = "give it shared memory for images of several MB, or unset RMW_IMPLEMENTATION"
        yield note("transport", f"images travel with {middleware}, which camtrack has no settings for", remedy)
        return
    files = {name: environment[name] for name in PROFILES if name in environment}
    missing = [f"{name}={file}" for name, file in files.items() if not Path(file).is_file()]
    if missing:
        yield wrong("transport", f"there is no such file: {', '.join(missing)}", ENVIRONMENT)
    elif not files:
        yield wrong(
            "transport",
            "Fast DDS has no profile here: its 512 KiB of shared memory hold no image, and large ones are lost",
            ENVIRONMENT,
        )
    else:
        yield ok("transport", f"Fast DDS has the profile {next(iter(files.values()))}")


def shared_memory(free: int) -> Finding:
    if free < 2 * SEGMENT:
        remedy = f"free some of {SHARED_MEMORY}, or enlarge it (a container: --shm-size=1g)"
        return wrong("transport", f"{free >> 20} MiB of shared memory left, a process takes {SEGMENT >> 20}", remedy)
    return ok("transport", f"{free >> 20} MiB of shared memory left")
