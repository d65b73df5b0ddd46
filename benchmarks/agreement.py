"""How far apart two right answers may lie.

A sum of n rounded terms is off by at most n u of the size of its terms, and, as roundings behave like random
numbers, by no more than 4 sqrt(n) u but for one case in thousands (Higham & Mary 2019,
doi:10.1137/18M1226312, with lambda = 4); u = eps/2 is the unit roundoff. Two answers differ by twice as much.
The solution of a system with a matrix is off by the condition of the matrix times as much.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

RIDGE = 0.01  #: of the models, and of anomalib's formulas
PATCHES = 16  #: how many matrices of a stack are examined for their condition


def rounding(n: int) -> float:
    """Return how far apart two sums of n terms in double precision may be, relative to their size."""
    return float(4 * math.sqrt(n) * np.finfo(np.float64).eps)


def of_covariances(x: Array, covariances: Array) -> Array:
    """Return the bound for sums of N products, of size sqrt(S_jj S_kk) by Cauchy and Schwarz."""
    size = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
    return np.asarray(rounding(x.shape[-2]) * size[..., :, None] * size[..., None, :])


def of_inverses(covariances: Array, _: Array) -> float:
    """Return the bound for inverses: sums of C terms, times the condition, of the size of the inverse."""
    values = np.linalg.eigvalsh(covariances[:: 1 + len(covariances) // PATCHES])
    largest = values[:, -1:]
    cutoff = values.shape[1] * np.finfo(np.float64).eps * largest
    smallest = np.where(values > cutoff, values, np.inf).min(axis=1)
    condition = float((largest[:, 0] / smallest).max())
    return rounding(values.shape[1]) * condition / float(smallest.min())


def of_distances(data: Any, distances: Array) -> Array:
    """Return the bound for distances by factors in single precision: the condition times eps.

    The condition is the largest one of the regularised covariances of a few patches of ``data.train``.
    """
    n, c = data.train.shape[:2]
    vectors = np.moveaxis(data.train.reshape(n, c, -1), 2, 0)
    x = vectors[:: 1 + len(vectors) // PATCHES].astype(np.float64)
    values = np.linalg.svd(x - x.mean(axis=1, keepdims=True), compute_uv=False) ** 2 / (n - 1) + RIDGE
    condition = float((values[:, 0] / values[:, -1]).max())  # with n <= C the last one is the ridge
    return np.asarray(condition * np.finfo(np.float32).eps * distances)


def error(got: Array, want: Array, allowed: Array | float) -> float:
    """Return the largest difference as a share of the bound; infinity for other shapes and NaN."""
    if got.shape != want.shape:
        return math.inf
    with np.errstate(over="ignore"):
        largest = float(np.max(np.abs(got - want) / np.maximum(allowed, np.finfo(np.float64).tiny)))
    return math.inf if math.isnan(largest) else largest
