"""Existence of tracks: the probability that there is an object at all, beside where it is.

JIPDA (Musicki and Evans, IEEE Trans. Aerospace and Electronic Systems 40(3), 2004). An object that exists is detected
with probability P_D; one that does not is never detected. So in a joint event a track of existence r weighs r P_D p(z)
when it takes measurement z, and 1 - r P_D when it takes none. The association's marginals then give the posterior.

Compiled, as numpy would take longer over a dozen tracks than all the rest of a step.
"""

from __future__ import annotations

import numpy as np

from camtrack_core.geometry.boxes import Floats, Integers
from pkf_filter.numerics.compiled import compiled


def survive(existence: Floats, half_life: float | Floats, dt: float) -> Floats:
    """(N,) existence after dt seconds in which half of all objects vanish every `half_life` seconds.

    Args:
        existence: (N,) probabilities.
        half_life: seconds, positive, infinite for objects that never vanish; one or (N,).
        dt: seconds, not negative.
    """
    return existence * 2.0 ** (-dt / half_life)


@compiled
def log_missed(existence: Floats, detection_probability: float | Floats) -> Floats:
    """(N,) log(1 - r P_D), the null weight of a track: the object is missed, or there is none.

    Args:
        existence: (N,) r, in [0, 1].
        detection_probability: P_D of an object that exists, in [0, 1]; one or (N,).

    Returns:
        (N,) float64, -inf where an object surely exists and is surely detected.
    """
    return np.log1p(-existence * detection_probability)


@compiled
def pair_weights(
    log_density: Floats, existence: Floats, detected: Floats, seen: Integers, classes: Integers, log_factors: Floats
) -> Floats:
    """(M, N) log weights of pairs, r P_D p(z) times a factor for their classes; -inf where impossible.

    Args:
        log_density: (M, N) of p(z), -inf beyond the gate.
        existence: (N,) r, detected: (N,) P_D.
        seen: (M,) classes of the measurements, classes: (N,) of the tracks.
        log_factors: (C, C) of a track's class (rows) with a measurement's (columns), see `life.classes`.
    """
    pairs = np.full(log_density.shape, -np.inf)
    for j in range(len(classes)):
        exists = np.log(existence[j] * detected[j])
        for k in range(len(seen)):
            pairs[k, j] = log_density[k, j] + exists + log_factors[classes[j], seen[k]]
    return pairs


@compiled
def newborn(alone: Floats, evidence: Floats, even: float) -> Floats:
    """(M,) existence of the tracks that measurements would start.

    Args:
        alone: (M,) probability that a measurement is of no track.
        evidence: (M,) what its score says, see `scores.evidence`; even: existence where that is nothing.
    """
    return alone / (1.0 + (1.0 - even) / even * np.exp(-evidence))


@compiled
def posterior(existence: Floats, detection_probability: float | Floats, missed: Floats) -> Floats:
    """(N,) existence after the measurements of one frame.

    A track that took a measurement exists; one that took none exists with r (1 - P_D) / (1 - r P_D).

    Args:
        existence: (N,) r before the measurements, in [0, 1].
        detection_probability: P_D of an object that exists, in [0, 1]; one or (N,).
        missed: (N,) marginal probability that no measurement is the track's, from null weights `log_missed`.
    """
    none = 1 - existence * detection_probability
    unseen = existence * (1 - detection_probability)
    for j in range(len(unseen)):
        unseen[j] = unseen[j] / none[j] if none[j] > 0 else 1.0
    return 1 - missed * (1 - unseen)


@compiled
def stay_visible(
    visibility: Floats, visible_time: float, hidden_time: float, covered: float | Floats, dt: float
) -> Floats:
    """(N,) probability that an object, if it exists, is visible dt seconds later.

    Misses come in runs: Markov chain two of integrated data association, with a hidden state beside the visible one.

    Args:
        visibility: (N,) P(visible | exists).
        visible_time, hidden_time: mean duration of each state, seconds, positive.
        covered: share of the object that lies behind others, which keeps it hidden, in [0, 1]; one or (N,).
        dt: seconds, not negative.
    """
    hides = -np.expm1(-dt / visible_time)
    appears = -np.expm1(-dt / hidden_time) * (1 - covered)
    return visibility * (1 - hides) + (1 - visibility) * appears


@compiled
def visible(existence: Floats, visibility: Floats, detection_probability: float | Floats, missed: Floats) -> Floats:
    """(N,) P(visible | exists) after the measurements of one frame.

    Args:
        existence: (N,) before the measurements; visibility: (N,) P(visible | exists) before them.
        detection_probability: of a visible object; one or (N,). That of an object is `visibility` times this.
        missed: (N,) marginal probability that no measurement is the track's.
    """
    detected = visibility * detection_probability
    seen, after = np.empty(len(existence)), posterior(existence, detected, missed)
    for j in range(len(seen)):  # loops, as numba compiles the words of an error with np.where
        none = 1 - existence[j] * detected[j]
        silent = existence[j] * (visibility[j] - detected[j]) / none if none > 0 else 1.0
        seen[j] = (1 - missed[j] * (1 - silent)) / after[j] if after[j] > 0 else 1.0
    return seen
