"""Bounds instead of tolerances: the error that a correct implementation may have on given data.

How they are derived is in the reference of the documentation. They hold barring overflow and underflow,
for sums in any order, with or without fused operations, but not for products in the manner of Strassen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["cov_bound", "distance_bound", "mean_bound", "pinv_bound"]

Array = NDArray[Any]
Optional = ArrayLike | None
Precision = DTypeLike | None


@np.errstate(all="ignore")
def mean_bound(
    observations: ArrayLike, aweights: Optional = None, *, fweights: Optional = None, dtype: Precision = None
) -> Array:
    """Bound the error of weighted means.

    Parameters
    ----------
    observations, aweights, fweights : array_like
        As of `exact_mean`.
    dtype : dtype, optional
        In which the implementation computes, by default ``result_type(observations, float64)``.

    Returns
    -------
    ndarray, shape (..., C)
        How far from the exact mean each entry may be.
    """
    x = np.asarray(observations)
    scale = np.abs(x.astype(np.result_type(x, np.float64))).max(axis=-2, initial=0).astype(np.float64)
    return np.asarray(2 * _gamma(2 * x.shape[-2] + 4, _roundoff(x.dtype, dtype), x.dtype) * scale)


@np.errstate(all="ignore")
def cov_bound(
    observations: ArrayLike,
    rowvar: bool = False,
    bias: bool = False,
    ddof: float | None = None,
    aweights: ArrayLike | None = None,
    *,
    fweights: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    streamed: bool = False,
) -> Array:
    """Bound the error of covariances, entry by entry.

    Parameters
    ----------
    observations, rowvar, bias, ddof, aweights, fweights : array_like, bool, float
        As of `exact_cov`.
    dtype : dtype, optional
        In which the implementation computes, by default ``result_type(observations, float64)``.
    streamed : bool, default False
        Whether the implementation may update or merge means as samples come (Welford, Chan): such
        an error is proportional to the offset of the data, not to its square.

    Returns
    -------
    ndarray, shape (..., C, C)
        How far from the exact covariance each entry may be (its modulus, for complex data), in the shape
        of that covariance. Infinite where rounding may take the divisor to zero.

    Examples
    --------
    >>> import numpy as np
    >>> from mvgauss.testing import cov_bound, exact_cov
    >>> x = np.array([[0.1, 0.7], [0.2, -0.3], [0.4, 0.5]])
    >>> bool((abs(np.cov(x, rowvar=False) - exact_cov(x)) <= cov_bound(x)).all())
    True
    """
    given = np.asarray(observations)
    x = given.reshape(-1, 1) if given.ndim < 2 else given.swapaxes(-1, -2) if rowvar else given
    n, c = x.shape[-2:]
    u = _roundoff(x.dtype, dtype)
    a = np.ones(n) if aweights is None else np.asarray(aweights, np.float64)
    w = a if fweights is None else np.asarray(fweights, np.float64) * a
    scatter, error = _scatter(x, w, mean_bound(x, dtype=dtype), u, streamed)
    total = w.sum(axis=-1)
    taken = float((0 if bias else 1) if ddof is None else ddof) * (w * a).sum(axis=-1) / total
    divisor = total - taken
    relative = _gamma(2 * n + 6, u, w.dtype) * (total + abs(taken)) / np.abs(divisor)
    known = np.asarray((divisor > 0) & (relative < 0.5))[..., None, None]
    relative, divisor = (np.asarray(v)[..., None, None] for v in (relative, divisor))
    out = np.where(known, (error + relative * scatter) / (divisor * (1 - relative)), np.inf)
    return out.reshape(()) if given.ndim <= 2 and c == 1 else out


def _scatter(x: Array, w: Array, e: Array, u: float, streamed: bool) -> tuple[Array, Array]:
    """Return sums of w |z| |z|, and what the scatter of ``(..., N, C)`` samples may be off."""
    n, c = x.shape[-2:]
    if n == 0:
        return (np.zeros((*x.shape[:-2], c, c)),) * 2
    z = x.astype(np.result_type(x, np.float64))
    z = z - z[..., :1, :]
    w, total = w[..., None], np.maximum(w.sum(axis=-1), np.finfo(np.float64).tiny)[..., None]
    z = np.abs(z - ((w * z).sum(axis=-2) / total)[..., None, :]).astype(np.float64)
    sums, largest = (w * z).sum(axis=-2), z.max(axis=-2)
    plain = np.matmul(z.swapaxes(-1, -2), w * z)
    if streamed:
        length = np.sqrt(np.diagonal(plain, axis1=-2, axis2=-1))
        plain = _outer(length, length)
    square, cross = total[..., None] * _outer(e, e), _outer(e, sums) + _outer(sums, e)
    error = square + _gamma(n + 10, u, x.dtype) * (plain + cross + square)
    error += 4 * u * (_outer(largest, sums) + _outer(sums, largest))
    if streamed:
        error += 4 * total[..., None] * (_outer(e, largest) + _outer(largest, e))
    return plain, error * (math.sqrt(2) if x.dtype.kind == "c" else 1)


def pinv_bound(
    covariance: ArrayLike, *, rank: Optional = None, error: ArrayLike = 0.0, dtype: Precision = None
) -> Array:
    """Bound the error of pseudo-inverses of symmetric positive semi-definite matrices.

    Parameters
    ----------
    covariance : array_like, shape (..., C, C)
        Real and symmetric.
    rank : array_like of int, shape (...), optional
        How many eigenvalues count, by default those above C eps times the largest.
    error : array_like, shape (...), default 0
        How far, in the 2-norm, the matrix that is inverted may be from `covariance`.
    dtype : dtype, optional
        In which the implementation computes, by default ``result_type(covariance, float64)``.

    Returns
    -------
    ndarray, shape (..., C, C)
        How far from the exact pseudo-inverse each entry may be: in norm, so the same for all entries
        of a matrix. Infinite where rounding may change the rank.
    """
    s = np.asarray(covariance)
    c, u = s.shape[-1], _roundoff(s.dtype, dtype)
    values = np.linalg.eigvalsh(s.astype(np.float64))
    top = np.abs(values).max(axis=-1, initial=0)
    if rank is None:
        rank = (values > 2 * c * u * top[..., None]).sum(axis=-1)
    rank, own = np.asarray(rank), c * (c + 10) * u
    least = np.take_along_axis(values, np.minimum(c - rank, c - 1)[..., None], axis=-1)[..., 0]
    off = 2 * (own * top + np.asarray(error))
    with np.errstate(all="ignore"):
        norm = np.where(off < least, 1 / (least - off), np.inf)
        bound = (1 + math.sqrt(5)) / 2 * norm / least * off + own * norm
    return np.broadcast_to(np.where(rank > 0, bound, 0.0)[..., None, None], s.shape).copy()


def distance_bound(
    x: ArrayLike,
    mean: ArrayLike,
    inv_covariance: ArrayLike,
    *,
    squared: bool = False,
    dtype: Precision = None,
) -> Array:
    """Bound the error of Mahalanobis distances.

    Parameters
    ----------
    x, mean, inv_covariance, squared : array_like, bool
        As of `exact_mahalanobis`.
    dtype : dtype, optional
        In which the implementation computes, by default at least float64.

    Returns
    -------
    ndarray, shape (..., N)
        How far from the exact distance each may be; of a single sample, shape (...).
    """
    given, mu, p = np.asarray(x), np.asarray(mean), np.asarray(inv_covariance)
    u = _roundoff(np.result_type(given, mu, p), dtype)
    p = p.astype(np.float64)
    z = (given if given.ndim > 1 else given[None]).astype(np.float64) - mu.astype(np.float64)[..., None, :]
    norm = np.abs(np.linalg.eigvalsh(p)).max(axis=-1, initial=0)
    error = 2 * u * (p.shape[-1] + 5) ** 2 * norm[..., None] * (z**2).sum(axis=-1)
    if not squared:
        d = np.sqrt(np.maximum(np.einsum("...ni,...ij,...nj->...n", z, p, z), 0))
        # without a distance there is no error: 0 / tiny
        error = error / np.maximum(np.maximum(d, np.sqrt(error)), np.finfo(np.float64).tiny) + 2 * u * d
    return np.asarray(error if given.ndim > 1 else error[..., 0])


def _outer(a: Array, b: Array) -> Array:
    """Return the outer products of two stacks of vectors."""
    return np.asarray(a[..., :, None] * b[..., None, :])


def _gamma(k: int, u: float, dtype: np.dtype[Any]) -> float:
    """Return k u / (1 - k u), with twice as many roundings for complex numbers."""
    k = 2 * k if dtype.kind == "c" else k
    return k * u / (1 - k * u) if k * u < 1 else math.inf


def _roundoff(data: np.dtype[Any], dtype: DTypeLike | None) -> float:
    """Return the unit roundoff of the dtype in which is computed."""
    return float(np.finfo(np.result_type(data, np.float64) if dtype is None else np.dtype(dtype)).eps) / 2
