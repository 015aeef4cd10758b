"""Rauch-Tung-Striebel smoothing: what later measurements tell about earlier states.

H. Rauch, F. Tung and C. Striebel, AIAA Journal 3(8), 1965. The filter's state at one time, and what it foretold of the
next one, give the gain by which the next one's correction reaches back. The gain rests on the covariance of the two
states alone, so that linearised models and mixtures of several are smoothed alike.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from camtrack_core.config import Parameters
from camtrack_core.geometry.boxes import Floats

NEVER = 2**62  # nanoseconds, a stamp


class SmoothingConfig(Parameters):
    """How tracks are smoothed that nobody waits for."""

    lag: float = Field(1.0, gt=0, description="by which tracks are late, and the longest gap that is closed, seconds")
    confirmation: float = Field(0.97, gt=0, lt=1, description="existence that a track in an image must reach by then")


def smoothed_back(
    mean: Floats,
    covariance: Floats,
    cross: Floats,
    predicted_covariance: Floats,
    difference: Floats,
    later_covariance: Floats,
) -> tuple[Floats, Floats]:
    """Mean (..., n) and covariance (..., n, n) at one time by all that is known at the next one.

    Args:
        mean: (..., n), covariance: (..., n, n), filtered at the time itself.
        cross: (..., n, n) covariance of the state with the next one, P F' for a linearised motion F.
        predicted_covariance: (..., n, n) of the next state, before its measurements; may be singular.
        difference: (..., n) of the next state's smoothed mean from the predicted one.
        later_covariance: (..., n, n) smoothed, of the next state.
    """
    gain = cross @ np.linalg.pinv(predicted_covariance, hermitian=True)
    mean = mean + (gain @ difference[..., None])[..., 0]
    covariance = covariance + gain @ (later_covariance - predicted_covariance) @ gain.swapaxes(-1, -2)
    return mean, (covariance + covariance.swapaxes(-1, -2)) / 2
