"""Calibration: powers of the focal length that are there are measured and taken out, stated deviations are made to hold
as often as a normal distribution's, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from camtrack.cli import app
from camtrack_core.errors import DataError
from time3d_tracker.calibration import Errors, Sighting, focal_powers, reliability
from time3d_tracker.config import KEYPOINTS, NetworkConfig
from time3d_tracker.detector import BINS, CUES, Detector, Objects, Peaks
from time3d_tracker.geometric_reasoning import offsets
from time3d_tracker.model import DEMO_MODEL
from time3d_tracker.training import load_network

POWERS = (-0.03, 0.15, 0.05)
SMALL = NetworkConfig(backbone="yolox_nano", stride=8, height=96, width=160, channels=16, head_channels=8, slots=16,
                      reid_channels=8, embedding=16, attention_heads=2, virtual_focal=100.0)  # fmt: skip


def seen_through_lenses(noise: float) -> list[Sighting]:
    """Forty objects through five lenses; of every tenth sighting one cue is wildly wrong, and one knows no ground."""
    rng = np.random.default_rng(0)
    seen = []
    for number in range(40):
        true = rng.uniform(8, 60)
        for focal in (250.0, 360.0, 470.0, 610.0, 1170.0):
            depths = true * (focal / 550) ** np.array(POWERS)
            depths = depths * np.exp(rng.normal(0, noise, 3))
            if rng.random() < 0.1:
                depths[rng.integers(3)] *= rng.choice([0.3, 3.0])
            if rng.random() < 0.1:
                depths[2] = np.nan
            seen.append(Sighting(("street", 0, number), focal, depths))
    return seen


def test_powers_are_measured_despite_wild_cues_and_unknown_ones() -> None:
    assert focal_powers(seen_through_lenses(0.0)) == pytest.approx(POWERS, abs=1e-9)
    assert focal_powers(seen_through_lenses(0.05)) == pytest.approx(POWERS, abs=0.02)


def test_only_pairs_of_one_object_count() -> None:
    """Other objects, the same number in another recording and equal lenses say nothing."""
    depths = np.array([10.0, 20.0, 30.0])
    seen = [Sighting((f"street {n}", 0, 1), 300.0 + n, depths * n) for n in range(1, 60)]
    seen += [Sighting(("still", 0, 1), 300.0, depths * n) for n in range(1, 60)]
    with pytest.raises(DataError, match="expected 20 pairs of an object through two lenses, found 0"):
        focal_powers(seen)


def decoded(config: NetworkConfig, focal: float) -> Objects:
    """What the same heads, of three cars seen from the side, say through a lens."""
    torch.manual_seed(0)
    detector = Detector(config)
    cells = torch.tensor([[150, 170, 185]])
    size = torch.tensor(config.class_sizes[0])
    corners = offsets(size, torch.zeros(()), torch.ones(()))[:, :2] / size[[0, 2]]
    orientation = torch.zeros(BINS, 3)
    orientation[0] = torch.tensor([9.0, 0.0, 1.0])
    raw = {
        "offset": torch.zeros(1, 3, 2), "size2d": torch.tensor([2.0, 1.0]).expand(1, 3, 2),
        "keypoints": corners.flatten() + torch.randn(1, 3, 2 * KEYPOINTS) * 0.02,
        "keypoint_weights": torch.zeros(1, 3, KEYPOINTS), "dimensions": torch.zeros(1, 3, 3),
        "orientation": orientation.flatten().expand(1, 3, -1), "depth": torch.randn(1, 3, 1) * 0.1,
        "deviations": torch.zeros(1, 3, len(CUES)), "reid": torch.ones(1, 3, 8),
    }  # fmt: skip
    projection = torch.tensor([[[focal, 0, 80.0], [0, focal, 30.0], [0, 0, 1]]])
    peaks = Peaks(torch.zeros(1, 3, dtype=torch.long), torch.full((1, 3), 0.5))
    return detector.decode(raw, cells, peaks, projection, torch.tensor([1.5]), torch.tensor([0.005]))


def test_every_cue_is_brought_to_the_virtual_focal_length() -> None:
    told = SMALL.model_copy(update={"focal_powers": POWERS})
    for focal in (60.0, 100.0, 250.0):
        plain, virtual = decoded(SMALL, focal), decoded(told, focal)
        assert plain.known.all(), "expected every cue"
        expected = plain.depths * (focal / 100.0) ** -torch.tensor(POWERS)
        torch.testing.assert_close(virtual.depths, expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(virtual.depth, expected[..., 1], rtol=1e-5, atol=0)
        torch.testing.assert_close(virtual.deviation, plain.deviation)  # how sure it is does not change
        assert torch.equal(virtual.translation, plain.translation) == (focal == 100.0)


def test_a_calibrated_deviation_grows_with_the_disagreement_and_moves_nothing() -> None:
    told = SMALL.model_copy(update={"deviation_scale": 0.8, "disagreement": 0.7})
    plain, calibrated = decoded(SMALL, 100.0), decoded(told, 100.0)
    depth, deviation = plain.depths.double().log(), plain.deviations.double()
    weight = deviation**-2 / (deviation**-2).sum(-1, keepdim=True)
    gap = (depth - (weight * depth).sum(-1, keepdim=True)) / deviation
    expected = 0.8 * plain.deviation * (1 + 0.7 * (gap**2).sum(-1) / 2).sqrt()
    assert (expected / plain.deviation).max() > 1, "expected cues that disagree"
    torch.testing.assert_close(calibrated.deviation, expected.float(), rtol=1e-4, atol=0)
    for name in ("translation", "depths", "deviations", "size", "usable"):
        assert torch.equal(getattr(calibrated, name), getattr(plain, name)), name


@pytest.mark.parametrize("shape", ["normal", "laplace"])
def test_scale_and_disagreement_of_errors_are_found(shape: str) -> None:
    rng = np.random.default_rng(1)
    said, apart = rng.uniform(0.05, 0.2, 40_000), rng.chisquare(2, 40_000) / 2
    true = 0.7 * said * np.sqrt(1 + 1.5 * apart)
    error = true * rng.normal(size=40_000) if shape == "normal" else rng.laplace(0, true / 2**0.5)
    scale, disagreement = reliability(Errors(np.abs(error), said, apart))
    assert disagreement == pytest.approx(1.5, abs=0.15)
    ratio = np.abs(error) / (scale * said * np.sqrt(1 + disagreement * apart))
    assert (ratio < 1).mean() == pytest.approx(0.683, abs=0.005 if shape == "normal" else 0.06)
    assert (ratio < 2).mean() == pytest.approx(0.954, abs=0.005 if shape == "normal" else 0.03)
    if shape == "normal":
        assert scale == pytest.approx(0.7, abs=0.02)


def test_cues_whose_disagreement_says_nothing_widen_nothing() -> None:
    rng = np.random.default_rng(2)
    said, apart = rng.uniform(0.05, 0.2, 40_000), rng.chisquare(2, 40_000) / 2
    scale, disagreement = reliability(Errors(np.abs(1.3 * said * rng.normal(size=40_000)), said, apart))
    assert (scale, disagreement) == (pytest.approx(1.3, abs=0.05), pytest.approx(0, abs=0.05))


def test_too_few_errors_are_refused() -> None:
    few = np.full(19, 0.1)
    with pytest.raises(DataError, match="expected 20 labelled objects that are found, got 19"):
        reliability(Errors(few, few, few))


def test_the_command_writes_the_same_weights_with_the_powers_measured(tmp_path: Path) -> None:
    drives = "drive:6000-6002?frames=1&camera=vehicle&width=960&height=540&field_of_view="
    lenses = [f"{drives}{lens}" for lens in (50, 70, 90, 110)]
    start, out = DEMO_MODEL.with_suffix(".pt"), tmp_path / "calibrated.pt"
    size = ["--width", "864", "--height", "480"]
    result = CliRunner().invoke(app, ["time3d", "calibrate", str(start), str(out), *lenses, *size])
    assert result.exit_code == 0, result.output
    before, after = load_network(start), load_network(out)
    old, new = before.config.model_dump(), after.config.model_dump()
    assert {key for key in new if new[key] != old[key]} <= {"focal_powers", "deviation_scale", "disagreement"}
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weight, rtol=0, atol=0)
    # its own powers do not count: the shipped ones are measured again, as well as two drives tell
    assert np.array(after.config.focal_powers) == pytest.approx(np.array(before.config.focal_powers), abs=0.12)
    assert "powers of the focal length: keypoints" in result.output
    assert 0.5 < after.config.deviation_scale < 2
    assert after.config.disagreement < 4  # not at the end of what is tried
