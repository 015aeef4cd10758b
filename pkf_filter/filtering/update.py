"""The update of the probabilistic data association Kalman filter, all tracks at once.

Paper Prop. 2 updates with every measurement k at covariance V / w_kj (Eq. 13-17). For one track that equals a single
measurement zbar = sum_k w_k z_k / s with covariance V / s, where s = sum_k w_k: the cost no longer depends on the
number of measurements. Written with s multiplied through, nothing is divided by a weight and s = 0 needs no case of
its own:

    G = P H' (s H P H' + V)^-1          so that the Kalman gain is K = s G
    mean += G sum_k w_k (z_k - H mean)
    P     = (I - s G H) P (I - s G H)' + s G V G'        (Joseph form: stays positive definite)

Textbook probabilistic data association instead keeps the moments of a mixture of Kalman updates, one for each
measurement and one for none (`spread="mixture"`); with the weights of `estimators.resolved_weights` that is the one
which does well with few objects and in crowds (benchmarks/simulation.py).

The weights of a track keep their deficit 1 - s, the probability that it was missed: they are never renormalised.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from camtrack_core.errors import CamtrackError
from camtrack_core.geometry.boxes import Floats

Spread = Literal["none", "means", "mixture"]  # what the covariance takes over from the disagreement of measurements
SPREADS: tuple[Spread, ...] = get_args(Spread)
NONE, MEANS, MIXTURE = range(len(SPREADS))  # as the compiled updates take them
ROUNDING = 1e-9  # by which a sum of probabilities may exceed 1


class UpdateError(CamtrackError, ValueError):
    """Weights or options from which no update follows."""


def pkf_update(
    mean: Floats,
    covariance: Floats,
    H: Floats,
    V: Floats,
    measurements: Floats,
    weights: Floats,
    spread: Spread = "none",
) -> tuple[Floats, Floats]:
    """Correct N tracks of block diagonal covariance with M measurements of uncertain origin.

    Any leading dimensions (...) are independent frames.

    Args:
        mean: (..., N, n), covariance: (..., N, n, n) float64, the predicted state.
        H: (m, n) measurement matrix.
        V: (m, m) measurement noise, positive definite, or (..., N, m, m), one for each track.
        measurements: (..., M, m).
        weights: (..., M, N) association weights; finite and not negative; the columns sum to at most 1
            (more is taken for several measurements of one track, but not with "mixture").
        spread: "none" as in the paper, which is overconfident in clutter; "means" adds the spread of the
            measurements around zbar to the covariance, K Sp K' with Sp = sum_k (w_k / s) (z_k - zbar)(z_k - zbar)';
            "mixture" replaces Prop. 2 by the mean and covariance of the mixture of one Kalman update for each
            measurement and the prediction for none (Y. Bar-Shalom, F. Daum and J. Huang, IEEE Control Systems
            Magazine 29(6), 2009).

    Returns:
        mean (..., N, n) and covariance (..., N, n, n) after the update, symmetric and positive definite.

    Raises:
        UpdateError: for an unknown spread, or weights that are no such probabilities.
    """
    total = weights.sum(-2)
    if spread not in SPREADS:
        raise UpdateError(f"expected one of the spreads {', '.join(SPREADS)}, got '{spread}'")
    if not ((weights >= 0) & (weights < np.inf)).all():
        raise UpdateError("expected weights that are finite and not negative, got others")
    if spread == "mixture" and total.max(initial=0.0) > 1 + ROUNDING:
        raise UpdateError(f"expected weights of a track of at most 1 in all for a mixture, got {total.max():.3g}")
    s = total[..., None, None]
    PH = covariance @ H.T
    innovation = weights.swapaxes(-1, -2) @ measurements - total[..., None] * (mean @ H.T)
    if spread == "mixture":
        scale, remaining = np.ones_like(s), 1 - s  # a certain measurement with probability s, none with 1 - s
        scatter = _scatter(measurements, weights, total)
        scatter += (1 - s) / np.where(s > 0, s, 1.0) * innovation[..., :, None] * innovation[..., None, :]
        noise = s * V + scatter
    else:
        scale, remaining = s, np.zeros_like(s)  # one measurement with covariance V / s
        noise = s * V
        if spread == "means":
            noise = noise + s * _scatter(measurements, weights, total)  # K Sp K' = G (s sum_k w_k ...) G'
    G = np.linalg.solve(scale * (H @ PH) + V, PH.swapaxes(-1, -2)).swapaxes(-1, -2)
    A = np.eye(mean.shape[-1]) - scale * (G @ H)
    updated = (1 - remaining) * (A @ covariance @ A.swapaxes(-1, -2)) + G @ noise @ G.swapaxes(-1, -2)
    updated = updated + remaining * covariance
    return mean + (G @ innovation[..., None])[..., 0], (updated + updated.swapaxes(-1, -2)) / 2


def _scatter(measurements: Floats, weights: Floats, total: Floats) -> Floats:
    """(..., N, m, m) sum_k w_kj (z_k - zbar_j)(z_k - zbar_j)'."""
    m = measurements.shape[-1]
    zbar = (weights.swapaxes(-1, -2) @ measurements) / np.where(total > 0, total, 1.0)[..., None]
    *frame, k, j = np.nonzero(weights)
    deviation = measurements[(*frame, k)] - zbar[(*frame, j)]
    scatter = np.zeros((*total.shape, m, m))
    shares = weights[(*frame, k, j)][:, None, None] * deviation[:, :, None] * deviation[:, None, :]
    np.add.at(scatter, (*frame, j), shares)
    return scatter
