"""The update of the probabilistic data association Kalman filter, all tracks at once.

Paper Prop. 2 updates with every measurement k at covariance V / w_kj (Eq. 13-17). For one track that equals a single
measurement zbar = sum_k w_k z_k / s with covariance V / s, where s = sum_k w_k: the cost no longer depends on the
number of measurements. Written with s multiplied through, nothing is divided by a weight and s = 0 needs no case of
its own:

    G = P H' (s H P H' + V)^-1          so that the Kalman gain is K = s G
    mean += G sum_k w_k (z_k - H mean)
    P     = (I - s G H) P (I - s G H)' + s G V G'        (Joseph form: stays positive definite)

The weights of a track keep their deficit 1 - s, the probability that it was missed: they are never renormalised.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from camtrack_core.boxes import Floats


def pkf_update(
    mean: Floats,
    covariance: Floats,
    H: Floats,
    V: Floats,
    measurements: Floats,
    weights: Floats,
    spread: Literal["none", "means"] = "none",
) -> tuple[Floats, Floats]:
    """Correct N tracks of block diagonal covariance with M measurements of uncertain origin.

    Args:
        mean: (N, n), covariance: (N, n, n) float64, the predicted state.
        H: (m, n) measurement matrix.
        V: (m, m) measurement noise, positive definite, or (N, m, m), one for each track.
        measurements: (M, m).
        weights: (M, N) association weights; the columns sum to at most 1.
        spread: "none" as in the paper, which is overconfident in clutter; "means" adds the spread of the
            measurements around zbar to the covariance, K Sp K' with Sp = sum_k (w_k / s) (z_k - zbar)(z_k - zbar)'.

    Returns:
        mean (N, n) and covariance (N, n, n) after the update, symmetric and positive definite.
    """
    total = weights.sum(0)
    s = total[:, None, None]
    PH = covariance @ H.T
    innovation_covariance = s * (H @ PH) + V
    G = np.linalg.solve(innovation_covariance, PH.swapaxes(1, 2)).swapaxes(1, 2)
    innovation = weights.T @ measurements - total[:, None] * (mean @ H.T)

    A = np.eye(mean.shape[1]) - s * (G @ H)
    noise = s * V
    if spread == "means":
        noise = noise + s * _scatter(measurements, weights, total)  # K Sp K' = G (s sum_k w_k ...) G'
    updated = A @ covariance @ A.swapaxes(1, 2) + G @ noise @ G.swapaxes(1, 2)
    return mean + (G @ innovation[:, :, None])[:, :, 0], (updated + updated.swapaxes(1, 2)) / 2


def _scatter(measurements: Floats, weights: Floats, total: Floats) -> Floats:
    """(N, m, m) sum_k w_kj (z_k - zbar_j)(z_k - zbar_j)'."""
    N, m = weights.shape[1], measurements.shape[1]
    zbar = (weights.T @ measurements) / np.where(total > 0, total, 1.0)[:, None]
    k, j = np.nonzero(weights)
    deviation = measurements[k] - zbar[j]
    scatter = np.zeros((N, m, m))
    np.add.at(scatter, j, weights[k, j][:, None, None] * deviation[:, :, None] * deviation[:, None, :])
    return scatter
