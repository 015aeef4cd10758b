"""nuScenes' official scores of submissions, by nuscenes-devkit in an environment of its own.

The devkit asks for an older NumPy than this project. Its environment is made on first use, with pinned versions, in
the user's cache, and kept; $CAMTRACK_NUSCENES_PYTHON names another Python that has it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from camtrack_core.errors import DataError

Task = Literal["tracking", "detection"]
VARIABLE = "CAMTRACK_NUSCENES_PYTHON"
SCRIPT = Path(__file__).with_name("scores.py")
# The devkit without its notebooks and map tools. Its pins are kept.
ALONE = ("nuscenes-devkit==1.2.0", "motmetrics==1.4.0", "descartes==1.1.0")
WITH_DEPENDENCIES = (
    "numpy==1.26.4", "scipy==1.15.3", "pandas==2.3.3", "matplotlib==3.10.8", "scikit-learn==1.7.2",
    "opencv-python-headless==4.11.0.86", "shapely==2.0.7", "pyquaternion==0.9.9", "cachetools", "tqdm", "xmltodict",
)  # fmt: skip
EVAL_SETS = {"v1.0-mini": "mini_val,mini_train", "v1.0-trainval": "val,train", "v1.0-test": "test"}  # usual one first
DETECTION = {"NDS": "nd_score", "mAP": "mean_ap"}
TRUE_POSITIVES = {
    "mATE": "trans_err", "mASE": "scale_err", "mAOE": "orient_err", "mAVE": "vel_err", "mAAE": "attr_err",
}  # fmt: skip
TRACKING = ("amota", "amotp", "recall", "mota", "motp", "mt", "ml", "tp", "fp", "fn", "ids", "frag", "tid", "lgd")


@dataclass(frozen=True)
class OfficialScores:
    """What the devkit says.

    Attributes:
        task: tracking or detection.
        scores: by name, over the classes as the devkit has it.
        classes: AMOTA and AMOTP, or AP, of each class; NaN where the set has none of it.
        eval_set: like mini_val.
        samples: key frames of the set; missing: those that the submission does not mention, taken as empty.
        left_out: key frames of the submission that are not in the set.
    """

    task: Task
    scores: dict[str, float]
    classes: dict[str, dict[str, float]]
    eval_set: str
    samples: int
    missing: int
    left_out: int


def official_scores(
    task: Task, submission: Mapping[str, Any], root: Path, version: str, eval_set: str, say: Callable[[str], None]
) -> OfficialScores:
    """Scores of a submission.

    Args:
        task: which of the devkit's evaluations.
        submission: `meta` and `results` as in the official JSON.
        root, version: of the data set, like v1.0-mini.
        eval_set: like mini_val; empty for the one of the version that holds most of the submitted key frames.
        say: told before anything that takes long.

    Raises:
        DataError: the environment cannot be made, or the devkit refuses the submission.
    """
    python = devkit_python(say)
    sets = eval_set or EVAL_SETS.get(version, "val,train")
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "submission.json", Path(folder) / "scores.json"
        source.write_text(json.dumps(submission))
        say(f"the official devkit scores {task}")
        command = [str(python), str(SCRIPT), task, str(source), str(root), version, sets, str(out)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=_clean_environment(), check=False)
        except OSError as error:
            raise DataError(f"cannot run {python}: {error.strerror}; name a Python in ${VARIABLE}") from error
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
            raise DataError(f"nuscenes-devkit refuses the {task} submission: {reason[0]}")
        try:
            result = json.loads(out.read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"expected scores from the Python {python} with nuscenes-devkit, got none") from error
    return _summary(task, result)


def devkit_python(say: Callable[[str], None]) -> Path:
    """The Python that has the devkit; made where there is none. Raises DataError where that fails."""
    named = os.environ.get(VARIABLE, "")
    if named:
        if not Path(named).is_file():
            raise DataError(f"${VARIABLE}: expected a Python with nuscenes-devkit, {named} is no file")
        return Path(named)
    python = environment_folder() / "bin" / "python"
    if not python.is_file():
        _make(environment_folder(), say)
    return python


def environment_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache")
    return cache / "camtrack" / f"{ALONE[0].replace('==', '-')}-py{sys.version_info[0]}.{sys.version_info[1]}"


def _make(folder: Path, say: Callable[[str], None]) -> None:
    """Makes the environment beside its place and moves it there: what is there is whole."""
    if sys.version_info >= (3, 13):
        raise DataError(f"nuscenes-devkit needs Python 3.10 to 3.12; name one that has it in ${VARIABLE}")
    say(f"installing {ALONE[0]} into {folder}, once; this takes a minute or two")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot install nuscenes-devkit into {folder}: {error.strerror}") from error
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    pip = [str(partial / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        for command in (
            [sys.executable, "-m", "venv", str(partial)],
            [*pip, "--no-deps", *ALONE],
            [*pip, *WITH_DEPENDENCIES],
        ):
            done = subprocess.run(command, capture_output=True, text=True, env=_clean_environment(), check=False)
            if done.returncode:
                reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it says nothing"]
                raise DataError(f"cannot install nuscenes-devkit: {reason[0]}; or name a Python in ${VARIABLE}")
        try:
            partial.rename(folder)  # scripts name the old place, `python` finds its own
        except OSError:
            if not (folder / "bin" / "python").is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _clean_environment() -> dict[str, str]:
    """Without what points to this project's packages."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")} | {"MPLBACKEND": "Agg"}


def _summary(task: Task, result: dict[str, Any]) -> OfficialScores:
    found = result["scores"]
    if task == "detection":
        scores = {name: float(found[key]) for name, key in DETECTION.items()}
        scores |= {name: float(found["tp_errors"][key]) for name, key in TRUE_POSITIVES.items()}
        classes = {name: {"AP": float(value)} for name, value in found["mean_dist_aps"].items()}
    else:
        scores = {name.upper(): float(found[name]) for name in TRACKING}
        labels = found["label_metrics"]
        classes = {c: {"AMOTA": float(a), "AMOTP": float(labels["amotp"][c])} for c, a in labels["amota"].items()}
    counts = (result[name] for name in ("eval_set", "samples", "missing", "left_out"))
    return OfficialScores(task, scores, classes, *counts)
