#!/usr/bin/env python3
"""Turn the ROS 2 interface packages beside this file into wheels, for machines without ROS 2.

The client library comes from the package index there, but vision_msgs and tf2_msgs do not. This script
compiles their message definitions, for the Python that runs it, in a build environment of its own that it
deletes afterwards. The wheels stay in a cache under a key that covers everything they depend on, so each
machine builds them once:

    python interfaces/build_wheel.py    # prints the wheels' paths, having built them first if need be

Only the standard library and a C++ compiler are needed.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INTERFACES = Path(__file__).resolve().parent
BUILD_REQUIREMENTS = INTERFACES / "build-requirements.txt"
WHEEL_PREFIX = "camtrack"  # the wheel of vision_msgs is named camtrack-vision-msgs: no index can shadow it
PYTHON_TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
WHEEL_TAG = f"{PYTHON_TAG}-{PYTHON_TAG}-linux_{platform.machine()}"
ZIP_EPOCH = (2020, 1, 1, 0, 0, 0)  # equal inputs give equal wheels


class BuildError(Exception):
    """The wheels cannot be built; the message says why in words for the user."""


@dataclass(frozen=True)
class InterfacePackage:
    """One folder with package.xml, CMakeLists.txt and msg/."""

    source: Path
    name: str
    version: str
    message_packages: tuple[str, ...]

    @classmethod
    def read(cls, source: Path) -> InterfacePackage:
        """Read name, version and dependencies from ``source/package.xml``."""
        manifest = ElementTree.parse(source / "package.xml").getroot()
        name, version = manifest.findtext("name"), manifest.findtext("version")
        if not name or not version:
            raise BuildError(f"{source / 'package.xml'} names no package or no version")
        depends = (element.text or "" for element in manifest.iter("depend"))
        return cls(source, name.strip(), version.strip(), tuple(sorted(depends)))

    @property
    def distribution(self) -> str:
        """The wheel's name, normalised as in file names."""
        return f"{WHEEL_PREFIX}_{self.name}"

    @property
    def wheel_name(self) -> str:
        return f"{self.distribution}-{self.version}-{WHEEL_TAG}.whl"


def find_packages() -> list[InterfacePackage]:
    """Return the interface packages beside this file, sorted by name."""
    return [InterfacePackage.read(manifest.parent) for manifest in sorted(INTERFACES.glob("*/package.xml"))]


def default_cache() -> Path:
    """Return the folder that keeps the wheels, shared by all clones of one user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "camtrack" / "wheels"


def cache_key() -> str:
    """Hash all that decides what is in the wheels: sources, this script, the pinned versions, Python."""
    digest = hashlib.sha256(WHEEL_TAG.encode())
    for path in sorted(INTERFACES.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"\0{path.relative_to(INTERFACES)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def require_compiler() -> None:
    """Fail with a sentence unless a C++ compiler can be found."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        raise BuildError(
            "no C++ compiler found; the ROS message packages are compiled once per machine. "
            "Install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++) and start again."
        )


def require_headers() -> None:
    """Fail with a sentence unless this Python's C headers are installed."""
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.is_file():
        package = f"python3.{sys.version_info.minor}-dev"
        raise BuildError(f"{header} is missing; install Python's headers (Debian, Ubuntu: apt install {package}).")


def say(text: str) -> None:
    """Report progress; standard output is kept for the result."""
    print(f"  {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command silently; on failure show the end of what it printed."""
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise BuildError(f"{Path(command[0]).name} failed with exit code {done.returncode}:\n{tail}")


def clean_environment() -> dict[str, str]:
    """Return the environment without traces of a virtual environment or of the ROS wheels' start-up hook."""
    leaking = {"LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in leaking}


def create_build_environment(folder: Path) -> Path:
    """Create a virtual environment with the build tools in ``folder`` and return its prefix."""
    say("installing the build tools into a temporary environment (about 20 s) ...")
    venv.create(folder, with_pip=True, symlinks=True)
    pip = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--requirement", BUILD_REQUIREMENTS, env=clean_environment())
    repair_cmake_exports(folder)
    return folder


def repair_cmake_exports(prefix: Path) -> None:
    """Point the wheels' CMake exports at this interpreter: they name headers of their build container."""
    python_include = sysconfig.get_paths()["include"]
    (numpy,) = prefix.glob("lib/python*/site-packages/numpy")
    for export in prefix.glob("share/*/cmake/*rosidl_generator_pyExport.cmake"):
        text = export.read_text()
        text = re.sub(r"/opt/python/cp[\w-]+/include/python[\d.]+", python_include, text)
        text = re.sub(
            r"/opt/python/cp[\w-]+/lib/python[\d.]+/site-packages/numpy/(_core|core)/include",
            str(numpy / "_core" / "include"),
            text,
        )
        export.write_text(text)


def compile_package(package: InterfacePackage, environment: Path, work: Path) -> Path:
    """Compile and install ``package`` with the tools in ``environment``; return the install prefix."""
    build, installed = work / "build", work / "installed"
    env = clean_environment() | {
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "CMAKE_PREFIX_PATH": str(environment),
        "AMENT_PREFIX_PATH": str(environment),
    }
    tools = environment / "bin"
    run(
        tools / "cmake",
        *("-G", "Ninja", "-S", package.source, "-B", build),
        "-DBUILD_TESTING=OFF",
        "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_INSTALL_PREFIX={installed}",
        f"-DPython3_EXECUTABLE={tools / 'python'}",
        env=env,
    )
    run(tools / "ninja", "-C", build, "install", env=env)
    return installed


def wheel_members(package: InterfacePackage, installed: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name in the wheel, file) for what a running node needs: modules, libraries, the ament index.

    Headers and CMake files stay out: they hold paths of the build machine, and nothing compiles against them.
    """
    (modules,) = installed.glob(f"lib/python*/site-packages/{package.name}")
    for path in sorted(modules.rglob("*")):
        if path.suffix in {".py", ".so"}:
            yield str(path.relative_to(modules.parent)), path

    data = f"{package.distribution}-{package.version}.data/data"
    index = "share/ament_index/resource_index"
    shared = [
        *installed.glob("lib/*.so"),
        *installed.glob(f"share/{package.name}/package.xml"),
        *installed.glob(f"share/{package.name}/msg/*"),
        *(installed / index / kind / package.name for kind in ("packages", "rosidl_interfaces")),
    ]
    for path in sorted(shared):
        yield f"{data}/{path.relative_to(installed)}", path


def wheel_metadata(package: InterfacePackage) -> dict[str, str]:
    """Return the METADATA and WHEEL files of ``package``."""
    requires = [
        "ros-rosidl-default-runtime",
        *(f"ros-{name.replace('_', '-')}" for name in package.message_packages),
    ]
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {package.distribution.replace('_', '-')}",
        f"Version: {package.version}",
        f"Summary: The ROS 2 interfaces of {package.name}",
        *(f"Requires-Dist: {name}" for name in requires),
    ]
    wheel = ["Wheel-Version: 1.0", "Generator: camtrack", "Root-Is-Purelib: false", f"Tag: {WHEEL_TAG}"]
    return {"METADATA": "\n".join(metadata) + "\n", "WHEEL": "\n".join(wheel) + "\n"}


def pack_wheel(package: InterfacePackage, installed: Path, folder: Path) -> Path:
    """Write the wheel of an installed package into ``folder`` and return its path."""
    info = f"{package.distribution}-{package.version}.dist-info"
    target = folder / package.wheel_name
    record = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name, ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(entry, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}")

        for name, path in wheel_members(package, installed):
            add(name, path.read_bytes())
        for name, text in wheel_metadata(package).items():
            add(f"{info}/{name}", text.encode())
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", ZIP_EPOCH), "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
    return target


def build_wheels(packages: list[InterfacePackage], folder: Path) -> None:
    """Build all packages into the new folder ``folder``, which appears only when it is complete."""
    require_compiler()
    require_headers()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="camtrack-interfaces-") as scratch:
        environment = create_build_environment(Path(scratch, "environment"))
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for package in packages:
                say(f"compiling {package.name} {package.version} (10 to 40 s) ...")
                started = time.monotonic()
                installed = compile_package(package, environment, Path(scratch, package.name))
                pack_wheel(package, installed, staging)
                say(f"built {package.name} in {time.monotonic() - started:.0f} s")
            publish(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, folder: Path) -> None:
    """Move the finished wheels to their place in one step; another process may have been faster."""
    try:
        staging.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def provide_wheels(cache: Path) -> list[Path]:
    """Return the wheels for this Python from ``cache``, building what is not there."""
    packages = find_packages()
    folder = cache / cache_key()
    wheels = [folder / package.wheel_name for package in packages]
    if not all(wheel.is_file() for wheel in wheels):
        shutil.rmtree(folder, ignore_errors=True)
        build_wheels(packages, folder)
    return wheels


def check(cache: Path) -> None:
    """Fail with a sentence if the wheels must be built and what that needs is missing."""
    if not (cache / cache_key()).is_dir():
        require_compiler()
        require_headers()


def main() -> None:
    """Print the paths of the interface wheels, one a line."""
    parser = argparse.ArgumentParser(description="Build the ROS 2 interface wheels, or find them in the cache.")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the wheels (%(default)s)")
    parser.add_argument("--check", action="store_true", help="only say whether what a build needs is missing")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # an exception, so that nothing is left
    try:
        if arguments.check:
            check(arguments.cache)
            return
        for wheel in provide_wheels(arguments.cache):
            print(wheel)
    except BuildError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
