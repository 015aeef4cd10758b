"""Small dense matrices: written out, since calls into a library would take longer than the work."""

from __future__ import annotations

import numpy as np

from camtrack_core.geometry.boxes import Floats
from pkf_filter.numerics.compiled import compiled


@compiled
def put_vector(target: Floats, source: Floats) -> None:
    """target[:] = source: of that, numba compiles the words of its error too, which takes seconds."""
    for i in range(len(source)):
        target[i] = source[i]


@compiled
def put_matrix(target: Floats, source: Floats) -> None:
    """As `put_vector`; the target may be larger."""
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@compiled
def times_transposed(P: Floats, H: Floats) -> Floats:
    """P H' (n, m) of a symmetric P."""
    m, n = H.shape
    product = np.zeros((n, m))
    row = np.empty(n)
    for a in range(m):
        row[:] = 0.0
        for b in range(n):
            if H[a, b] != 0.0:
                for i in range(n):
                    row[i] += H[a, b] * P[b, i]
        for i in range(n):
            product[i, a] = row[i]
    return product


@compiled
def innovation_covariance(H: Floats, PH: Floats, V: Floats, s: float) -> Floats:
    """s H P H' + V (m, m), of which the lower half counts."""
    m, n = H.shape
    S = V.copy()
    for a in range(m):
        for i in range(n):
            if H[a, i] != 0.0:
                for b in range(a + 1):
                    S[a, b] += s * H[a, i] * PH[i, b]
    return S


@compiled
def cholesky(S: Floats) -> None:
    """Turn the lower half of S, in place, into L with L L' = S."""
    m = len(S)
    for a in range(m):
        for b in range(a + 1):
            rest = S[a, b]
            for c in range(b):
                rest -= S[a, c] * S[b, c]
            S[a, b] = np.sqrt(rest) if a == b else rest / S[b, b]


@compiled
def solve_lower(L: Floats, x: Floats) -> None:
    for a in range(len(x)):
        for b in range(a):
            x[a] -= L[a, b] * x[b]
        x[a] /= L[a, a]


@compiled
def solve_upper(L: Floats, x: Floats) -> None:
    for a in range(len(x) - 1, -1, -1):
        for b in range(a + 1, len(x)):
            x[a] -= L[b, a] * x[b]
        x[a] /= L[a, a]


@compiled
def add_product(target: Floats, A: Floats, B: Floats) -> None:
    """Add A B A' to the symmetric target (n, n), which stays exactly symmetric; B (m, m) is symmetric.

    The innermost loops run over neighbours in memory, several numbers at a time.
    """
    n, m = A.shape
    columns = A.T.copy()
    AB = np.zeros(m)
    row = np.empty(n)
    for i in range(n):
        AB[:] = 0.0
        for a in range(m):
            if A[i, a] != 0.0:
                for b in range(m):
                    AB[b] += A[i, a] * B[a, b]
        row[:] = 0.0
        for b in range(m):
            for k in range(n):
                row[k] += AB[b] * columns[b, k]
        for k in range(i + 1):
            target[i, k] += row[k]
            target[k, i] = target[i, k]
