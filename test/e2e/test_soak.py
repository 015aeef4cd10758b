"""Parts of benchmarks/soak.py that hold whatever the machine's speed: random worlds, and the judge of long runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import soak

MINUTE = soak.Profile(frames=0, steps=0, seconds=40, rate_seconds=0, settling=20)
IMAGE = 640 * 360 * 3 / 1e6  # MB
MOST = 60  # handles or threads: a process has about 20, one a frame would be a thousand
WORLDS = soak.Profile(frames=0, steps=1000, seconds=0, rate_seconds=0)


def test_in_random_worlds_covariances_stay_positive_definite_and_probabilities_within_bounds() -> None:
    for figures in soak.worlds(WORLDS):
        assert not figures.broken
        assert figures.values["steps"] == 1000 and figures.values["published tracks"] > 500


def test_a_covariance_or_a_probability_that_is_none_is_found() -> None:
    tracker = soak.classified(soak.WorldConfig())
    for (time_ns, detections), _ in zip(soak.space_frames(2), range(20), strict=False):
        tracker.step(time_ns, detections)
    assert len(tracker._state.ids) and not soak.faults_in_space(tracker)
    tracker._state.covariance[0] *= -1
    tracker._state.existence[0] = 1.1
    found = soak.faults_in_space(tracker)
    assert found == ["a covariance is not positive definite", "existence outside [0, 1]"]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a busy machine takes minutes to start the graph
def test_a_minute_of_the_graph_keeps_no_images_handles_or_threads() -> None:
    """Buffers still fill, and the machine may be busy: what is judged would grow with every frame.

    The replay may read ahead 128 MiB, which takes it minutes on a busy machine; its memory is judged in longer runs.
    """
    (figures,) = soak.graph(MINUTE)
    for node in ("gcnet_tracker", "pkf_filter", "replay"):
        assert figures.values[f"{node} handles"] < MOST and figures.values[f"{node} threads"] < MOST
    for node in ("gcnet_tracker", "pkf_filter"):
        assert figures.values[f"{node} frames"] > 10
        assert figures.values[f"{node} MB in 10^4 frames"] / 1e4 < 0.5 * IMAGE
    assert figures.values["replay frames"] > 10


@pytest.mark.parametrize(
    ("slope", "slowing", "handles", "broken"),
    [
        (0.5e-4, 0.0, 0, ""),
        (1.5e-4, 0.0, 0, "memory grows by 1.50 MB in 10^4 frames"),
        (0.0, 1.0, 0, "latency has grown"),
        (0.0, 0.0, 1, "handles have grown from 5 to 6"),
    ],
)
def test_growth_is_found(slope: float, slowing: float, handles: int, broken: str) -> None:
    """Memory in MB a frame; latency that has doubled at the end; one handle more."""
    figures, series = soak.Figures("made up"), soak.Series()
    series.frames = [1000.0 * k for k in range(50)]
    series.memory = [300 + slope * frames for frames in series.frames]
    series.latency = [1 + slowing * k / 50 for k in range(50)]
    series.handles, series.threads = [5 + handles * (k > 25) for k in range(50)], [3] * 50
    series.judge(figures)
    assert len(figures.broken) == bool(broken) and all(broken in sentence for sentence in figures.broken)


def test_a_short_run_is_judged_by_its_own_growth() -> None:
    """A step of 0.3 MB in 1 000 frames would be 3 MB in 10^4."""
    figures, series = soak.Figures("made up"), soak.Series()
    series.frames = [20.0 * k for k in range(50)]
    series.memory = [300.0 + 0.3 * (k > 30) for k in range(50)]
    series.latency, series.handles, series.threads = [1.0] * 50, [5] * 50, [3] * 50
    series.judge(figures)
    assert not figures.broken
    series.memory = [300.0 + 2 * (k > 30) for k in range(50)]
    series.judge(figures)
    assert len(figures.broken) == 1
