"""The paper's simulation (Table I, Fig. 3) and a test of consistency in clutter, over many seeds.

    python benchmarks/simulation.py [--seeds 200] [--figure simulation.png] [--keep FOLDER]

Objects move along figures of eight; at each, a detection and up to one clutter point. Tracks start at the truth. The
error is the norm over position and velocity, without permutation: a track that takes over another object's identity
has lost its own. A track fails when its mean error exceeds 5. The paper's Table I is one run; here every figure is a
mean over seeds with its standard error. Filters assume lambda = 0.125 and a gate of 95 %, as the paper's do.

Consistency: established tracks of objects that move as the filter assumes, in Poisson clutter of known density, with
a gate that hides nothing (one of 95 % alone loses 8 % of tracks in 100 frames without any clutter). The normalised
estimation error squared (NEES) of a filter that knows how wrong it is averages 4, the number of states. Tracks that
end more than 5 m off are counted as lost, and their NEES left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import head
import numpy as np
from rich.console import Console
from rich.table import Table

from camtrack_core.geometry.boxes import Floats as Array
from pkf_filter import association_weights
from pkf_filter.filtering import estimators
from pkf_filter.filtering.estimators import Estimator, Hypotheses, gaussian_hypotheses
from pkf_filter.filtering.update import pkf_update

FRAMES = 420
LOST = 5.0
GATE = {
    0.95: 5.991,
    0.9997: 16.0,
    1.0: np.inf,
}  # squared Mahalanobis distance by the probability inside, two dimensions
STEP = np.kron(np.eye(2), [[1.0, 1.0], [0.0, 1.0]])  # state x, vx, y, vy; one time unit a frame
DRIFT = 0.01 * np.kron(np.eye(2), [[1 / 6, 1 / 4], [1 / 4, 1 / 2]])
START = np.diag([1.5, 0.5, 1.5, 0.5])  # of the paper's simulation
ESTABLISHED = np.diag([0.3, 0.02, 0.3, 0.02])  # of a track that has had some measurements
H = np.eye(4)[[0, 2]]
NOISES = (0.3, 0.5, 0.75)
PAPER = {"nearest": ("1.78", "14.20"), "PMHT": ("1.45", "12.10"), "JPDAF, none missed": ("0.65", "0.66")}
PAPER["PKF"] = ("0.62", "0.62")


def none_missed(
    mean: Array, covariance: Array, H: Array, V: Array, measurements: Array, hypotheses: Hypotheses
) -> tuple[Array, Array]:
    """The paper's JPDAF baseline: weights of a track renormalised to 1, as if it were never missed."""
    weights = np.zeros(hypotheses.log_likelihood.shape)
    for run in np.ndindex(weights.shape[:-2]):
        problem = hypotheses.log_likelihood[run], hypotheses.log_clutter[run], hypotheses.log_missed[run]
        weights[run] = association_weights(*problem).weights
    total = weights.sum(-2, keepdims=True)
    return pkf_update(mean, covariance, H, V, measurements, weights / np.where(total > 0, total, 1.0), "mixture")


def with_means(
    mean: Array, covariance: Array, H: Array, V: Array, measurements: Array, hypotheses: Hypotheses
) -> tuple[Array, Array]:
    """PKF with the spread of the measurements added."""
    weights = np.zeros(hypotheses.log_likelihood.shape)
    for run in np.ndindex(weights.shape[:-2]):
        problem = hypotheses.log_likelihood[run], hypotheses.log_clutter[run], hypotheses.log_missed[run]
        weights[run] = association_weights(*problem).weights
    return pkf_update(mean, covariance, H, V, measurements, weights, "means")


FILTERS: dict[str, Estimator] = {
    "nearest": estimators.nearest,
    "PMHT": estimators.pmht,
    "JPDAF, none missed": none_missed,
    "JPDAF": estimators.jpdaf,
    "PKF": estimators.pkf,
    "PKF, spread of means": with_means,
    "identities resolved": estimators.resolved,
}


def figures_of_eight(N: int) -> Array:
    """(frames, N, 4) true states: the curve turned by 2 pi r / N for object r and shifted 5 m that way."""
    t = np.linspace(-np.pi, np.pi, FRAMES)
    curve = np.stack([10 * np.sin(t + np.pi / 2) + 5, 10 * np.sin(2 * t)])
    states = np.zeros((FRAMES, N, 4))
    for r in range(N):
        angle = 2 * np.pi * r / N
        position = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ curve
        states[:, r, ::2] = position.T
        states[:-1, r, 1::2] = np.diff(position).T
    return states


def corrected(
    estimator: Estimator,
    mean: Array,
    covariance: Array,
    z: Array,
    noise: float,
    detection: float,
    clutter: float,
    gate_probability: float,
) -> tuple[Array, Array]:
    """One frame of all runs; measurements that are not there lie far outside every gate."""
    V = noise * np.eye(2)
    hypotheses = gaussian_hypotheses(
        mean,
        covariance,
        H,
        V,
        z,
        detection_probability=detection,
        clutter_density=clutter,
        gate=GATE[gate_probability],
        gate_probability=gate_probability,
    )
    return estimator(mean, covariance, H, V, z, hypotheses)


def errors(
    estimator: Estimator, N: int, noise: float, detection: float, seeds: int, gate_probability: float = 0.95
) -> Array:
    """(seeds, N) mean error of each object in each run."""
    truth, rng = figures_of_eight(N), np.random.default_rng(0)
    mean = np.tile(truth[0], (seeds, 1, 1))
    mean[..., 1::2] = 0
    covariance = np.tile(START, (seeds, N, 1, 1))
    total = np.zeros((seeds, N))
    for frame, states in enumerate(truth):
        if frame:
            mean, covariance = mean @ STEP.T, STEP @ covariance @ STEP.T + DRIFT
        here = np.tile(states[:, ::2], (seeds, 1, 1))
        seen = here + np.sqrt(noise) * rng.normal(size=here.shape)
        false = here + rng.uniform(-10, 10, here.shape)
        seen[rng.random((seeds, N)) > detection] = 1e6
        false[rng.random((seeds, N)) < 0.5] = 1e6
        z = np.concatenate([seen, false], 1)
        mean, covariance = corrected(estimator, mean, covariance, z, noise, detection, 0.125, gate_probability)
        total += np.linalg.norm(mean - states, axis=-1)
    return total / FRAMES


def consistency(estimator: Estimator, density: float, seeds: int, frames: int = 100) -> tuple[float, float, float]:
    """Mean NEES over the kept tracks, its standard error over runs, and the share of lost tracks."""
    rng, noise, half = np.random.default_rng(1), 0.3, 10.0
    most = int(density * (2 * half) ** 2 * 2 + 10)
    mean = np.zeros((seeds, 1, 4))
    truth = mean + rng.multivariate_normal(np.zeros(4), ESTABLISHED, (seeds, 1))
    covariance = np.tile(ESTABLISHED, (seeds, 1, 1, 1))
    nees = np.zeros(seeds)
    for frame in range(frames):
        if frame:
            mean, covariance = mean @ STEP.T, STEP @ covariance @ STEP.T + DRIFT
            truth = truth @ STEP.T + rng.multivariate_normal(np.zeros(4), DRIFT, (seeds, 1))
        seen = truth[..., ::2] + np.sqrt(noise) * rng.normal(size=(seeds, 1, 2))
        seen[rng.random((seeds, 1)) > 0.9] = 1e6
        false = mean[..., ::2] + rng.uniform(-half, half, (seeds, most, 2))
        false[np.arange(most) >= rng.poisson(density * (2 * half) ** 2, (seeds, 1))] = 1e6
        mean, covariance = corrected(
            estimator, mean, covariance, np.concatenate([seen, false], 1), noise, 0.9, density, 0.9997
        )
        off = (mean - truth)[:, 0]
        nees += np.einsum("ra,rab,rb->r", off, np.linalg.inv(covariance[:, 0]), off) / frames
    kept = np.linalg.norm(off[:, ::2], axis=1) < LOST
    if kept.sum() < 2:
        return np.nan, np.nan, float(1 - kept.mean())
    return float(nees[kept].mean()), standard_error(nees[kept]), float(1 - kept.mean())


def standard_error(values: Array) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def summary(errors: Array) -> str:
    runs = errors.mean(1)
    return f"{runs.mean():.3f} ({standard_error(runs):.3f}), {100 * (errors > LOST).mean():.1f} %"


def printed(title: str, columns: list[str], names: list[str], row: Callable[[str], list[str]]) -> None:
    table = Table("", *columns, title=title)
    for name in names:
        table.add_row(name, *row(name))
    Console(width=150).print(table)


def draw(path: Path, results: dict[str, list[Array]]) -> None:
    """Fig. 3: errors and numbers of failed tracks over the measurement noise."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, series in results.items():
        runs = [result.mean(1) for result in series]
        left.errorbar(NOISES, [r.mean() for r in runs], [standard_error(r) for r in runs], label=name, capsize=3)
        right.plot(NOISES, [(result > LOST).sum(1).mean() for result in series], "o-", label=name)
    left.set(xlabel="variance of the measurement noise (m²)", ylabel="mean error")
    right.set(xlabel="variance of the measurement noise (m²)", ylabel="failed tracks of 10")
    left.legend()
    figure.savefig(path, dpi=120)


class Results:
    """Computed once; with a folder they are kept there, so that an interrupted run goes on."""

    def __init__(self, seeds: int, folder: Path | None) -> None:
        self.seeds, self._folder = seeds, folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def errors(self, name: str, N: int, noise: float, detection: float) -> Array:
        return self._kept(
            f"{name}, {N} objects, {noise}, {detection}",
            lambda: errors(FILTERS[name], N, noise, detection, self.seeds),
        )

    def consistency(self, name: str, density: float) -> Array:
        return self._kept(
            f"{name}, clutter {density}", lambda: np.array(consistency(FILTERS[name], density, self.seeds))
        )

    def _kept(self, title: str, compute: Callable[[], Array]) -> Array:
        if self._folder is None:
            return compute()
        path = self._folder / f"{title}, {self.seeds} seeds.npy"
        if not path.exists():
            np.save(path, compute())
        return np.load(path)


def main() -> int:
    parser = head.described(__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--figure", type=Path, help="where to draw Fig. 3")
    parser.add_argument("--filters", nargs="+", choices=list(FILTERS), default=list(FILTERS), help="only these")
    parser.add_argument(
        "--keep", type=Path, help="folder for finished parts, which another run with it will not repeat"
    )
    arguments = parser.parse_args()
    results, names = Results(arguments.seeds, arguments.keep), arguments.filters

    def table_1(name: str) -> list[str]:
        paper = PAPER.get(name, ("-", "-"))
        found = [summary(results.errors(name, N, 0.75, 0.9)) for N in (3, 5)]
        return [paper[0], found[0], paper[1], found[1]]

    def crowd(name: str) -> list[str]:
        return [summary(results.errors(name, 10, noise, 0.9)) for noise in NOISES]

    def clutter(name: str) -> list[str]:
        found = [results.consistency(name, density) for density in (0.005, 0.02, 0.1)]
        return [f"{nees:.2f} ({error:.2f}), lost {100 * lost:.0f} %" for nees, error, lost in found]

    def figure_3(name: str) -> list[str]:
        return [summary(results.errors(name, 10, noise, 0.95)) for noise in NOISES]

    noises = [f"noise {noise}" for noise in NOISES]
    paper_and_here = ["paper, N = 3", "here, N = 3", "paper, N = 5", "here, N = 5"]
    printed("Table I: mean error (standard error), failed tracks", paper_and_here, names, table_1)
    printed("Ten objects, P_D = 0.9: mean error (standard error), failed tracks", noises, names, crowd)
    densities = ["clutter 0.005 / m²", "0.02 / m²", "0.1 / m²"]
    printed("NEES of kept tracks (standard error), ideal 4", densities, names, clutter)
    printed("Fig. 3, ten objects, P_D = 0.95: mean error (standard error), failed tracks", noises, names, figure_3)
    if arguments.figure:
        draw(arguments.figure, {name: [results.errors(name, 10, noise, 0.95) for noise in NOISES] for name in names})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
