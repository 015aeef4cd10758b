"""What is compiled before the first measurement is all that measurements need: compiling takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher

from camtrack_core.geometry.boxes import Boxes2D, Boxes3D, Detections3D
from camtrack_core.geometry.camera import Camera, Pose
from pkf_filter.image.tracker import Tracker
from pkf_filter.ros.precompile import warm_up_in_image, warm_up_in_space
from pkf_filter.space.config import VEHICLE, SensorModel, WorldConfig
from pkf_filter.space.tracker import WorldTracker

ROOT = Path(__file__).resolve().parents[2]
TENTH = 100_000_000  # nanoseconds


def compiled() -> dict[str, set[str]]:
    """Signatures of every compiled function of the filter."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("pkf_filter"):
            for function in vars(module).values():
                if isinstance(function, CPUDispatcher):
                    found[f"{name}.{function.py_func.__name__}"] = set(map(str, function.signatures))
    return found


def test_nothing_is_compiled_after_the_warm_up_in_the_image() -> None:
    warm_up_in_image()
    before = compiled()
    rng = np.random.default_rng(0)
    tracker, shown = Tracker(), 0
    places = rng.uniform(0, 300, (9, 2))
    for frame in range(30):
        corner = places[rng.random(9) < 0.8] + rng.normal(scale=2, size=2)
        count = len(corner)
        found = Boxes2D(np.hstack([corner, corner + 30]), rng.uniform(0.3, 1, count), rng.integers(0, 3, count))
        shown += len(tracker.step(frame * TENTH, found))
    assert shown > 0
    assert compiled() == before


@pytest.mark.parametrize("motion", ["constant velocity", "coordinated turn", "interacting"])
def test_nothing_is_compiled_after_the_warm_up_in_space(motion: str) -> None:
    config = WorldConfig(vehicle=VEHICLE.model_copy(update={"motion": motion}))
    warm_up_in_space(config)
    before = compiled()
    rng = np.random.default_rng(0)
    tracker = WorldTracker(config, {"": SensorModel(velocity_noise=5.0, depth_noise=0.03, field_of_view=60.0)})
    car = tracker.class_id("car")
    camera, pose = Camera.from_field_of_view(640, 360, 90), Pose(np.eye(3), np.zeros(3))
    places = np.column_stack([rng.uniform(-8, 8, 9), np.zeros(9), rng.uniform(10, 40, 9)])
    shown = 0
    for frame in range(30):
        seen = places[rng.random(9) < 0.8] + rng.normal(scale=0.2, size=3)
        count = len(seen)
        velocity = np.where(rng.random((count, 1)) < 0.5, np.nan, rng.normal(size=(count, 3)))
        boxes = Boxes3D(seen, np.full((count, 3), 2.0), rng.uniform(-3, 3, count), velocity)
        scores, classes = rng.uniform(0.3, 1, count), np.full(count, car)
        shown += len(tracker.step(frame * TENTH, Detections3D(boxes, scores, classes), "", pose))
        corner = rng.uniform(0, 300, (count, 2))
        tracker.step_image(frame * TENTH, Boxes2D(np.hstack([corner, corner + 30]), scores, classes), camera, pose)
    tracker.predicted(31 * TENTH)
    assert shown > 0
    assert compiled() == before


def test_a_disk_that_takes_no_kernel_is_a_sentence(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from camtrack_core.errors import DataError\n"
        "from pkf_filter.ros.precompile import warm_up_in_image\n"
        "try: warm_up_in_image()\n"
        "except DataError as error: print(error)\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=250, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cannot keep the compiled kernels: File too large; free some space")
