"""Existence probabilities against enumeration of everything that can be true in a small scene."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkf_filter import association_weights
from pkf_filter.life import existence

PROBABILITY = st.floats(0.01, 0.99)


def enumerated(r: np.ndarray, detection: np.ndarray, likelihood: np.ndarray, clutter: np.ndarray) -> np.ndarray:
    """(N,) posterior existence: sum over which objects exist, which are detected, and by which measurement."""
    M, N = likelihood.shape
    present, total = np.zeros(N), 0.0
    for exists in product([False, True], repeat=N):
        for sources in product(range(-1, N), repeat=M):
            taken = [j for j in sources if j >= 0]
            if len(set(taken)) < len(taken) or not all(exists[j] for j in taken):
                continue
            weight = np.prod([clutter[k] if j < 0 else likelihood[k, j] for k, j in enumerate(sources)])
            for j in range(N):
                weight *= r[j] if exists[j] else 1 - r[j]
                if exists[j]:
                    weight *= detection[j] if j in taken else 1 - detection[j]
            total += weight
            present += weight * np.array(exists)
    return present / total


@given(seed=st.integers(0, 2**32 - 1), tracks=st.integers(1, 3), measurements=st.integers(0, 3))
def test_posterior_is_that_of_enumeration(seed: int, tracks: int, measurements: int) -> None:
    rng = np.random.default_rng(seed)
    r, detection = rng.uniform(0.05, 0.95, (2, tracks))
    likelihood = rng.uniform(0.0, 3.0, (measurements, tracks))
    clutter = rng.uniform(0.1, 2.0, measurements)
    association = association_weights(
        np.log(r * detection * likelihood), np.log(clutter), existence.log_missed(r, detection)
    )
    updated = existence.posterior(r, detection, association.missed)
    np.testing.assert_allclose(updated, enumerated(r, detection, likelihood, clutter), rtol=1e-10)


@given(r=PROBABILITY, detection=PROBABILITY)
def test_a_measurement_proves_existence_and_silence_speaks_against_it(r: float, detection: float) -> None:
    prior = np.array([r, r])
    seen, silent = existence.posterior(prior, detection, np.array([0.0, 1.0]))
    assert seen == 1.0
    assert silent == pytest.approx(r * (1 - detection) / (1 - r * detection))
    assert silent < r


def test_an_object_that_cannot_be_seen_loses_nothing_by_silence() -> None:
    np.testing.assert_array_equal(existence.posterior(np.array([0.7]), 0.0, np.ones(1)), [0.7])


def test_certain_existence_and_detection() -> None:
    certain = np.ones(1)
    assert existence.log_missed(certain, 1.0).tolist() == [-np.inf]
    assert existence.posterior(certain, 1.0, np.zeros(1)).tolist() == [1.0]


@given(r=PROBABILITY, half_life=st.floats(0.1, 100.0), first=st.floats(0, 10), second=st.floats(0, 10))
def test_survival_depends_on_time_alone(r: float, half_life: float, first: float, second: float) -> None:
    start = np.array([r])
    once = existence.survive(start, half_life, first + second)
    twice = existence.survive(existence.survive(start, half_life, first), half_life, second)
    np.testing.assert_allclose(once, twice)
    np.testing.assert_allclose(existence.survive(start, half_life, half_life), start / 2)
    np.testing.assert_array_equal(existence.survive(start, np.inf, first), start)
