"""What the class that a detector says tells about that of its object.

A sensor's confusion matrix holds the probability of each detected class given the true one. Where there is none, other
classes than an object's own are less likely by one factor within a group of classes and by another one between groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from camtrack_core.errors import ConfigurationError
from camtrack_core.geometry.boxes import Floats, Integers

ROUNDED = 0.01  # by which a row may miss the sum of 1


def confusion_matrix(names: Sequence[str], values: Sequence[float]) -> Floats:
    """(K, K) probabilities of detected classes (columns) given true ones (rows), of K names and their K * K values.

    Raises ConfigurationError where these are no such matrix.
    """
    count = len(names)
    if len(set(names)) < count or len(values) != count * count:
        raise ConfigurationError(
            f"expected {count * count} values of the {count} different classes {list(names)}, row by row, got "
            f"{len(values)}"
        )
    matrix = np.array(values, np.float64).reshape(count, count)
    if not (matrix > 0).all() or (np.abs(matrix.sum(1) - 1) > ROUNDED).any():
        raise ConfigurationError(f"expected rows of values above 0 that add up to 1, got {matrix.tolist()}")
    return matrix


def mismatches(groups: Integers, class_mismatch: float, group_mismatch: float) -> Floats:
    """(C, C) log factors on pairs of an object of one class (rows) with a detection of another one (columns).

    Args:
        groups: (C,) of the classes; class_mismatch: factor within a group, group_mismatch: between two.
    """
    same_group = groups[:, None] == groups
    factors = np.log(np.where(same_group, class_mismatch, group_mismatch))
    np.fill_diagonal(factors, 0.0)
    return factors


def with_confusion(factors: Floats, rows: Integers, matrix: Floats) -> Floats:
    """(C, C) log factors as `mismatches`, of which those of the classes `rows` (K,) are the matrix's (K, K).

    Such a factor is how much likelier a detected class is of an object of the row's class than of one of its own.
    """
    found = factors.copy()
    found[np.ix_(rows, rows)] = np.log(matrix / np.diag(matrix))
    return found


def votes_for(classes: int, width: int, rows: Integers, matrix: Floats) -> Floats:
    """(C, width) share of its vote that a detection of each class gives to each class: all to its own, or, of the
    classes `rows` (K,), the probability of each true class, if all of them are equally frequent."""
    shares = np.eye(classes, width)
    shares[np.ix_(rows, rows)] = (matrix / matrix.sum(0)).T
    return shares
