"""Association weights where nothing exact fits: loopy belief propagation on one component.

Source: J. Williams and R. Lau, IEEE Trans. Aerospace and Electronic Systems 50(4), 2014. The result is approximate
(errors of 0.45 have been seen), so whoever uses it says so.
"""

import numpy as np

from pkf_filter.numerics.compiled import compiled

MAX_ITERATIONS = 500
MOST_MESSAGES = 2.0**20  # that are sent at most, pairs times iterations: a large component gets fewer iterations
FEWEST_ITERATIONS = 5
TOLERANCE = 1e-6  # largest relative change of a message
TINY = 1e-300  # keeps the message of a forced pair finite


@compiled
def propagated_weights(pairs, clutter, missed):
    """Approximate marginals: weights (M, N) and clutter probabilities (M,) from scaled weights."""
    rows, columns = pairs.shape
    to_column = np.ones((rows, columns))
    to_row = np.zeros((rows, columns))
    fitting = max(FEWEST_ITERATIONS, int(MOST_MESSAGES / max(1, np.count_nonzero(pairs))))
    for _ in range(min(MAX_ITERATIONS, fitting)):
        for j in range(columns):
            total = missed[j]
            for k in range(rows):
                total += pairs[k, j] * to_column[k, j]
            for k in range(rows):
                others = max(total - pairs[k, j] * to_column[k, j], TINY)
                to_row[k, j] = pairs[k, j] / others
        change = 0.0
        for k in range(rows):
            total = clutter[k]
            for j in range(columns):
                total += to_row[k, j]
            for j in range(columns):
                message = 1.0 / max(total - to_row[k, j], TINY)
                change = max(change, abs(message - to_column[k, j]) / message)
                to_column[k, j] = message
        if change < TOLERANCE:
            break

    weights = np.zeros((rows, columns))
    alone = np.zeros(rows)
    for k in range(rows):
        total = clutter[k]
        for j in range(columns):
            total += to_row[k, j]
        alone[k] = clutter[k] / total
        for j in range(columns):
            weights[k, j] = to_row[k, j] / total
    for j in range(columns):  # only a run that did not converge leaves a column above 1
        total = 0.0
        for k in range(rows):
            total += weights[k, j]
        for k in range(rows):
            weights[k, j] /= max(1.0, total)
    return weights, alone
