"""Runs inside the environment of nuscenes-devkit, and knows nothing of this project: scores of a submission as JSON.

    python nuscenes_scores.py TASK SUBMISSION ROOT VERSION EVAL_SETS OUT

TASK is `tracking` or `detection`; EVAL_SETS are names with commas between, of which the set is taken that holds most of
the submitted key frames. Key frames of the set that the submission does not mention are taken as empty, those of other
scenes are left out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path


def main(task: str, submission: str, root: str, version: str, eval_sets: str, out: str) -> None:
    from nuscenes import NuScenes  # type: ignore[import-not-found]
    from nuscenes.eval.common.config import config_factory  # type: ignore[import-not-found]
    from nuscenes.utils.splits import create_splits_scenes  # type: ignore[import-not-found]

    tables = NuScenes(version=version, dataroot=root, verbose=False)
    sets = create_splits_scenes()
    scene_names = {scene["token"]: scene["name"] for scene in tables.scene}
    scene_of = {sample["token"]: scene_names[sample["scene_token"]] for sample in tables.sample}
    data = json.loads(Path(submission).read_text(encoding="utf-8-sig"))
    submitted = data["results"]
    unknown = next((token for token in submitted if token not in scene_of), None)
    if unknown is not None:
        sys.exit(f"{root} has no sample {unknown}, which the submission mentions")
    samples = {}
    for name in eval_sets.split(","):
        if name not in sets:
            sys.exit(f"expected one of the sets {', '.join(sets)}, got {name}")
        scenes = set(sets[name])
        samples[name] = [token for token, scene in scene_of.items() if scene in scenes]
    eval_set = max(samples, key=lambda name: (sum(token in submitted for token in samples[name]), bool(samples[name])))
    tokens = samples[eval_set]
    if not tokens:
        sys.exit(f"{root} has no scene of the set {eval_set} in {version}")
    missing = sum(token not in submitted for token in tokens)
    if submitted and missing == len(tokens):
        other = scene_of[next(iter(submitted))]
        sys.exit(f"expected key frames of the set {', '.join(samples)}, got those of other scenes, like {other}")
    mark = {"tracking": "tracking_id", "detection": "detection_name"}[task]
    results = {token: [row for row in submitted.get(token, []) if mark in row] for token in tokens}

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
    left_out = len(submitted) - (len(tokens) - missing)
    counts = {"eval_set": eval_set, "samples": len(tokens), "missing": missing, "left_out": left_out}
    Path(out).write_text(json.dumps({"scores": summary, **counts}))


if __name__ == "__main__":
    main(*sys.argv[1:])
