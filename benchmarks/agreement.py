"""How far two right answers may lie apart.

A sum of n rounded terms is off by at most n u of the terms' size, and, as roundings are as good as
random, by no more than 4 sqrt(n) u but for one case in thousands (Higham & Mary 2019,
doi:10.1137/18M1226312, with lambda = 4); u = eps/2 is the unit roundoff. What is solved from a matrix
magnifies that by its condition. Two answers, each off by so much, differ by twice as much.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: How many of a stack's matrices are looked at for their spectrum.
SAMPLE = 16


def rounding(n: int, dtype: str) -> float:
    """Return how far apart two sums of n terms may be, relative to the size of the terms."""
    return float(2 * 4 * math.sqrt(n) * np.finfo(dtype).eps / 2)


def spectrum(covariances: Array) -> tuple[float, float]:
    """Return the smallest non-zero eigenvalue, and the largest condition, of a stack."""
    values = np.linalg.eigvalsh(covariances.astype(np.float64))
    top = values[:, -1:]
    kept = np.where(values > values.shape[1] * np.finfo(np.float64).eps * top, values, np.inf)
    low = kept.min(axis=1)
    return float(low.min()), float((top[:, 0] / low).max())


def some(length: int) -> Array:
    """Return indices of `SAMPLE` items, evenly over a stack."""
    return np.unique(np.linspace(0, length - 1, SAMPLE).astype(int))


def of_covariances(n: int, covariances: Array) -> Array:
    """Allow for the sums of N products, of size sqrt(S_jj S_kk) by Cauchy and Schwarz."""
    size = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
    return np.asarray(rounding(n, "float64") * size[..., :, None] * size[..., None, :])


def of_inverses(covariances: Array) -> float:
    """Allow for sums of C terms, magnified by the condition, of the size of the inverse."""
    low, condition = spectrum(covariances)
    return rounding(covariances.shape[-1], "float64") * condition / low


def of_distances(n: int, covariances: Array, distances: Array) -> Array:
    """Allow for sums of N or C terms in float32, magnified by the condition, halved by the root."""
    _, condition = spectrum(covariances)
    terms = max(n, covariances.shape[-1])
    return rounding(terms, "float32") * condition / 2 * distances


def error(got: Array, want: Array, allowed: Array | float) -> float:
    """Return the largest difference as a share of what is allowed; infinity for other shapes or NaN."""
    if got.shape != want.shape:
        return math.inf
    with np.errstate(over="ignore"):
        worst = float(np.max(np.abs(got - want) / np.maximum(allowed, np.finfo(np.float64).tiny)))
    return math.inf if math.isnan(worst) else worst
