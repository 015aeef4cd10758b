"""Runs inside the environment of nuscenes-devkit, and knows nothing of this project: scores of a submission as JSON.

    python nuscenes_scores.py TASK SUBMISSION ROOT VERSION EVAL_SET OUT

TASK is `tracking` or `detection`. Key frames of the set that the submission does not mention are taken as empty,
those of other scenes are left out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path


def main(task: str, submission: str, root: str, version: str, eval_set: str, out: str) -> None:
    from nuscenes import NuScenes  # type: ignore[import-not-found]
    from nuscenes.eval.common.config import config_factory  # type: ignore[import-not-found]
    from nuscenes.utils.splits import create_splits_scenes  # type: ignore[import-not-found]

    tables = NuScenes(version=version, dataroot=root, verbose=False)
    sets = create_splits_scenes()
    if eval_set not in sets:
        sys.exit(f"expected one of the sets {', '.join(sets)}, got {eval_set}")
    scenes = {scene["token"] for scene in tables.scene if scene["name"] in sets[eval_set]}
    tokens = [sample["token"] for sample in tables.sample if sample["scene_token"] in scenes]
    if not tokens:
        sys.exit(f"{root} has no scene of the set {eval_set} in {version}")
    data = json.loads(Path(submission).read_text())
    missing = sum(token not in data["results"] for token in tokens)
    known = {sample["token"] for sample in tables.sample}
    unknown = next((token for token in data["results"] if token not in known), None)
    if unknown is not None:
        sys.exit(f"{root} has no sample {unknown}, which the submission mentions")
    mark = {"tracking": "tracking_id", "detection": "detection_name"}[task]
    results = {token: [row for row in data["results"].get(token, []) if mark in row] for token in tokens}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "submission.json"
        path.write_text(json.dumps({"meta": data["meta"], "results": results}))
        if task == "tracking":
            from nuscenes.eval.tracking.evaluate import TrackingEval  # type: ignore[import-not-found]

            config = config_factory("tracking_nips_2019")
            evaluation = TrackingEval(config, str(path), eval_set, folder, version, root, verbose=False)
        else:
            from nuscenes.eval.detection.evaluate import DetectionEval  # type: ignore[import-not-found]

            config = config_factory("detection_cvpr_2019")
            evaluation = DetectionEval(tables, config, str(path), eval_set, folder, verbose=False)
        summary = evaluation.evaluate()[0].serialize()
    Path(out).write_text(json.dumps({"scores": summary, "samples": len(tokens), "missing": missing}))


if __name__ == "__main__":
    main(*sys.argv[1:])
