"""What setup.cfg cannot say: which files an installed ROS package keeps under share/, and which Python it needs."""

from pathlib import Path

from setuptools import setup

PACKAGE = "camtrack"
SHARED_FOLDERS = ("launch", "config", "rviz")


def files_in(folder: str) -> list[str]:
    """Return the files that lie directly in ``folder``, as paths relative to the repository root."""
    return sorted(str(path) for path in Path(folder).glob("*") if path.is_file())


setup(
    python_requires=">=3.10",  # colcon cannot read what setuptools makes of it in setup.cfg
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *((f"share/{PACKAGE}/{folder}", files_in(folder)) for folder in SHARED_FOLDERS),
    ],
)
