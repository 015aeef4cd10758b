"""GCNet on UA-DETRAC by the documented commands, on a small data set in the official layout: clips to PR-MOTA."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from camtrack.cli import app
from camtrack.evaluation.run import Rules, evaluate_tracks
from camtrack.offline.command import read_thresholds
from camtrack_core.errors import ConfigurationError
from camtrack_core.evaluation.mot_text import read_mot
from gcnet_tracker import clips
from gcnet_tracker.cli import read_config

torch.set_num_threads(1)  # the tensors are small: threads would only wait for each other

ROOT = Path(__file__).resolve().parents[2]
SIZE, FRAMES, SIDE = (192, 128), 10, 36
IGNORED = (0, 0, 60, 24)  # left, top, width, height
TINY = {
    "network": {
        "backbone": "yolox_nano", "height": 64, "width": 96, "channels": 16, "correlation_channels": 16,
        "class_names": ["car", "bus", "truck"],
    },
    "training": {
        "batch_size": 2, "detection_steps": 2, "tracking_steps": 2, "workers": 0,
    },
    "sources": [{"clips": "MVI_*"}],
}  # fmt: skip


def boxes_at(index: int) -> list[tuple[int, int, int]]:
    """Identity, left and top of the vehicles in a frame."""
    return [(1, 10 + 5 * index, 30), (2, 140 - 4 * index, 84)]


def write_sequence(root: Path, part: str, annotations: str, name: str) -> None:
    """Two dark squares that cross a grey ground, and one in an ignored region that nobody labelled."""
    folder, xml = root / part / name, root / annotations
    folder.mkdir(parents=True)
    xml.mkdir(parents=True)
    left, top, width, height = IGNORED
    rows = [f'<ignored_region><box left="{left}" top="{top}" width="{width}" height="{height}"/></ignored_region>']
    for index in range(FRAMES):
        image = np.full((SIZE[1], SIZE[0], 3), 150, np.uint8)
        image[2:22, 20:40] = (30, 30, 200)
        targets = ""
        for identity, x, y in boxes_at(index):
            image[y : y + SIDE, x : x + SIDE] = (40, 40 * identity, 40)
            attribute = '<attribute vehicle_type="car" truncation_ratio="0"/>'
            box = f'<box left="{x}" top="{y}" width="{SIDE}" height="{SIDE}"/>'
            targets += f'<target id="{identity}">{box}{attribute}</target>'
        cv2.imwrite(str(folder / f"img{index + 1:05d}.jpg"), image)
        rows.append(f'<frame density="2" num="{index + 1}"><target_list>{targets}</target_list></frame>')
    (xml / f"{name}.xml").write_text(f'<sequence name="{name}">{"".join(rows)}</sequence>')


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_configurations_are_the_papers_size() -> None:
    for name, backbone in (("gcnet_uadetrac", "resnet50"), ("gcnet_uadetrac_lite", "efficientnet_lite0")):
        network = read_config(ROOT / "config" / f"{name}.yaml").network
        assert (network.height, network.width, network.backbone) == (512, 896, backbone)
        assert network.map_size == (64, 112)


def test_from_the_official_layout_to_pr_mota(tmp_path: Path) -> None:
    root, test = tmp_path / "detrac", tmp_path / "detrac" / "Insight-MVT_Annotation_Test"
    write_sequence(root, "Insight-MVT_Annotation_Train", "DETRAC-Train-Annotations-XML", "MVI_1")
    write_sequence(root, "Insight-MVT_Annotation_Test", "DETRAC-Test-Annotations-XML", "MVI_2")
    config, model, sweep = tmp_path / "tiny.yaml", tmp_path / "gcnet.onnx", tmp_path / "sweep"
    config.write_text(yaml.safe_dump(TINY))

    made, out = root / "Insight-MVT_Annotation_Train", tmp_path / "clips"
    run("gcnet", "clips", made, "--out", out, "--config", config)
    assert [path.name for path in out.iterdir()] == ["MVI_1.npz"]  # nothing of the test part
    assert_blackened(clips.load(out / "MVI_1.npz"))
    run("gcnet", "train", "--config", config, "--clips", out, "--out", tmp_path / "run")
    give_peaks(tmp_path / "run" / "weights.pt")
    run("gcnet", "export", tmp_path / "run" / "weights.pt", model)
    run("track", test, "--method", "gcnet", "--model", model, "--thresholds", "0:1:0.5", "--out", sweep, "--jobs", 1,
        "--device", "onnxruntime")  # fmt: skip
    assert sorted(path.name for path in sweep.iterdir()) == ["0.0", "0.5", "1.0", "detections"]
    found = read_mot(sweep / "detections" / "MVI_2.txt", FRAMES)
    counts = [sum(map(len, read_mot(sweep / name / "MVI_2.txt", FRAMES))) for name in ("0.0", "0.5", "1.0")]
    assert counts[0] > 0 == counts[2] and counts[0] >= counts[1]
    first = read_mot(sweep / "0.0" / "MVI_2.txt", FRAMES)[0]
    assert 0 < len(first) <= len(found[0])

    scores = json.loads(run("evaluate", sweep, "--truth", test, "--pr-curve", sweep / "detections", "--json"))
    points = curve(found, (0.0, 0.5, 1.0))
    mota = [100 * evaluate_tracks(sweep / name, [str(test)], Rules()).combined.mota for name in ("0.0", "0.5", "1.0")]
    assert scores["PR-MOTA"] == pytest.approx(integral(points, mota), abs=1e-6)
    alone = json.loads(run("evaluate", sweep / "detections", "--truth", test, "--detections", "--json"))
    most, _ = points[0]  # recall of all of them
    assert alone["all"]["objects"] == 2 * FRAMES and 0 <= alone["all"]["ap"] <= most + 1e-9


def test_pr_scores_of_folders_of_detections_and_tracks(tmp_path: Path) -> None:
    """Two sure hits a frame, of which one is lost at .9, beside false boxes of a score of .3 and one ignored."""
    write_sequence(tmp_path, "Insight-MVT_Annotation_Test", "DETRAC-Test-Annotations-XML", "MVI_2")
    test = tmp_path / "Insight-MVT_Annotation_Test"
    names, rows = ("0.0", "0.5", "0.8", "1.0"), []
    for index in range(FRAMES):
        for identity, x, y in boxes_at(index):
            rows.append((index, identity, x + 2, y, SIDE, SIDE, (0.6, 0.9)[identity - 1]))
        rows += [(index, 9, 150, 10, SIDE, SIDE, 0.3), (index, 8, 20, 2, 20, 20, 0.95)]
    for name in (*names, "detections"):
        kept = [row for row in rows if name == "detections" or row[-1] >= float(name)]
        (tmp_path / "sweep" / name).mkdir(parents=True)
        text = "".join(f"{i + 1},{k if name != 'detections' else -1},{x},{y},{w},{h},{s},-1,-1,-1\n"
                       for i, k, x, y, w, h, s in kept)  # fmt: skip
        (tmp_path / "sweep" / name / "MVI_2.txt").write_text(text)
    sweep = tmp_path / "sweep"
    scores = json.loads(run("evaluate", sweep, "--truth", test, "--pr-curve", sweep / "detections", "--json"))
    points = [(1.0, 2 / 3), (1.0, 1.0), (0.5, 1.0), (0.0, 1.0)]
    assert scores["PR-MOTA"] == pytest.approx(integral(points, [50, 100, 50, 0]), abs=1e-6)
    assert curve(read_mot(sweep / "detections" / "MVI_2.txt", FRAMES), tuple(map(float, names))) == points


def integral(points: list[tuple[float, float]], values: list[float]) -> float:
    """Half the line integral of values along points, by trapezoids."""
    steps = [math.dist(a, b) for a, b in pairwise(points)]
    return sum(step * (a + b) / 4 for step, (a, b) in zip(steps, pairwise(values), strict=True))


def give_peaks(weights: Path) -> None:
    """Four steps leave the heatmap flat; random weights of its last layer give scores from 0 to 1."""
    state = torch.load(weights, weights_only=True)
    torch.manual_seed(0)
    state["model"]["classification.1.weight"].normal_(std=0.5)
    state["model"]["classification.1.bias"].zero_()
    torch.save(state, weights)


def assert_blackened(clip: clips.Clip) -> None:
    """The ignored region is black, but for the labelled square in its corner; the ground stays as it is."""
    left, top, width, height = IGNORED
    for index in range(len(clip)):
        image = clip.image(index)
        assert image[top + 2 : top + height - 2, left + 2 : left + width - 2].max() < 40
        assert abs(int(image[120, 100, 0]) - 150) < 8


def curve(found: list, thresholds: tuple[float, ...]) -> list[tuple[float, float]]:
    """Recall and precision of the detections from each threshold on at an IoU of .7, best first, by loops."""
    points = [(0.0, 0.0)]
    for threshold in thresholds:
        hits = false = 0
        for index, detections in enumerate(found):
            free = [(x, y, x + SIDE, y + SIDE) for _, x, y in boxes_at(index)]
            for row in np.argsort(-detections.scores, kind="stable"):
                if detections.scores[row] < threshold:
                    continue
                box = detections.xyxy[row]
                best = max(free, key=lambda other, box=box: overlap(box, other), default=None)
                if best is not None and overlap(box, best) >= 0.7:
                    free.remove(best)
                    hits += 1
                else:
                    false += not ignored(box)
        precision = hits / (hits + false) if hits + false else points[-1][1]
        points.append((hits / (2 * FRAMES), precision))
    return points[1:]


def overlap(a: np.ndarray, b: tuple[int, int, int, int]) -> float:
    """IoU."""
    common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def ignored(box: np.ndarray) -> bool:
    left, top, width, height = IGNORED
    region = (left, top, left + width, top + height)
    common = max(0, min(box[2], region[2]) - max(box[0], region[0])) * max(0, min(box[3], region[3]) - box[1])
    return overlap(box, region) >= 0.3 or common / ((box[2] - box[0]) * (box[3] - box[1])) >= 0.7


@pytest.mark.parametrize("text", ["0:1", "0:1:0", "1:0:0.1", "0:2:0.1", "a:1:0.1"])
def test_thresholds_that_are_none_are_a_sentence(text: str) -> None:
    with pytest.raises(ConfigurationError, match="expected FIRST:LAST:STEP"):
        read_thresholds(text)


def test_thresholds_have_one_number_of_decimals() -> None:
    assert read_thresholds("0:1:0.1") == [f"{k / 10:.1f}" for k in range(11)]
    assert read_thresholds("0.25:0.75:0.25") == ["0.25", "0.50", "0.75"]
