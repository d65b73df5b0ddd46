"""Exact answers: rational arithmetic over the given floats, rounded once at the end, for small cases.

They share no code with the functions of the package, and take the same arguments.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss.testing import _rational
from mvgauss.testing._rational import Array, Matrix, Vector

__all__ = ["exact_cov", "exact_mahalanobis", "exact_mean", "exact_pinv"]

Optional = ArrayLike | None
Precision = DTypeLike | None


def exact_mean(
    observations: ArrayLike, aweights: Optional = None, *, fweights: Optional = None, dtype: Precision = None
) -> Array:
    """Average samples exactly, and round once.

    Parameters
    ----------
    observations : array_like, shape (..., N, C)
        N samples of C features, real and finite.
    aweights, fweights : array_like, shape (N,) or (..., N), optional
        Weights, as in `mvgauss.cov`.
    dtype : dtype, optional
        Of the result, by default ``result_type(observations, float64)``.

    Returns
    -------
    ndarray, shape (..., C)
        The floats nearest to the weighted means.
    """
    x = np.asarray(observations)
    f, a = (_weights(name, w, x) for name, w in (("fweights", fweights), ("aweights", aweights)))
    out = np.empty((*x.shape[:-2], x.shape[-1]), result_of(x, dtype))
    for i in np.ndindex(x.shape[:-2]):
        w = _rational.scaled(_rational.vector(f[i]), _rational.vector(a[i]))
        out[i] = _rational.array(mean_of(_rational.matrix(x[i].T), w), out.dtype)
    return out


def exact_cov(
    observations: ArrayLike,
    rowvar: bool = False,
    bias: bool = False,
    ddof: float | None = None,
    aweights: ArrayLike | None = None,
    *,
    fweights: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    r"""Estimate covariances exactly, and round once.

    Parameters
    ----------
    observations : array_like, shape (..., N, C)
        N samples of C features, real or complex; ``(..., C, N)`` with ``rowvar=True``. A vector is
        N samples of one feature.
    rowvar, bias, ddof, aweights, fweights, dtype : optional
        As in `mvgauss.cov`.

    Returns
    -------
    ndarray, shape (..., C, C)
        The floats nearest to :math:`\sum w (x - \bar x)(x - \bar x)^H / (W - \mathrm{ddof} \sum w a / W)`
        with w = f a and W its sum. Where the divisor is not positive, infinities, or NaN for 0/0; NaN in
        the row and the column of a feature that is not finite.

    Examples
    --------
    >>> from mvgauss.testing import exact_cov
    >>> exact_cov([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]])
    array([[4., 2.],
           [2., 4.]])
    """
    given = np.asarray(observations)
    x = given.reshape(-1, 1) if given.ndim < 2 else given.swapaxes(-1, -2) if rowvar else given
    f, a = (_weights(name, w, x) for name, w in (("fweights", fweights), ("aweights", aweights)))
    lost = Fraction(float((0 if bias else 1) if ddof is None else ddof))
    c = x.shape[-1]
    out = np.empty((*x.shape[:-2], c, c), result_of(x, dtype))
    for i in np.ndindex(x.shape[:-2]):
        out[i] = _covariance(x[i], _rational.vector(f[i]), _rational.vector(a[i]), lost, out.dtype)
    return out.reshape(()) if given.ndim <= 2 and c == 1 else out


def _covariance(x: Array, f: Vector, a: Vector, ddof: Fraction, dtype: np.dtype[Any]) -> Array:
    """Return the covariance of ``(N, C)`` samples."""
    n, c = x.shape
    bad = ~np.isfinite(x).all(axis=0)
    w = _rational.scaled(f, a)
    total = sum(w, Fraction(0))
    divisor = total - ddof * (_rational.dot(w, a) / total if n else 1)
    re, im = (_rational.matrix(np.where(bad, 0, part).T) for part in (x.real, x.imag))
    out = np.empty((c, c), dtype)
    scatter = scatter_of(re, re, w)
    if dtype.kind == "c":
        cross, other = scatter_of(im, re, w), scatter_of(im, im, w)
        scatter = [[u + v for u, v in zip(p, q, strict=True)] for p, q in zip(scatter, other, strict=True)]
        skew = [[cross[j][k] - cross[k][j] for k in range(c)] for j in range(c)]
        out.imag = _quotients(skew, divisor, out.real.dtype)
    out.real = _quotients(scatter, divisor, out.real.dtype)
    out[bad], out[:, bad] = np.nan, np.nan
    return out


def mean_of(columns: Matrix, w: Vector) -> Vector:
    """Return the weighted mean of each column."""
    return [_rational.dot(w, column) / sum(w) if w else Fraction(0) for column in columns]


def scatter_of(x: Matrix, y: Matrix, w: Vector) -> Matrix:
    """Return the sums of w (x - mean)(y - mean) over all pairs of columns."""
    zx, zy = ([[v - m for v in u] for u, m in zip(k, mean_of(k, w), strict=True)] for k in (x, y))
    return [[_rational.dot(p, q) for q in zy] for p in [_rational.scaled(w, z) for z in zx]]


def _quotients(scatter: Matrix, divisor: Fraction, dtype: np.dtype[Any]) -> Array:
    """Return scatter / divisor, rounded; the sign of the scatter over zero if it is not positive."""
    shape = (len(scatter), len(scatter))
    if divisor > 0:
        return _rational.array([[v / divisor for v in row] for row in scatter], dtype).reshape(shape)
    signs = np.array([[(v > 0) - (v < 0) for v in row] for row in scatter], dtype).reshape(shape)
    with np.errstate(all="ignore"):
        return np.asarray(signs / dtype.type(0))


def _weights(name: str, w: ArrayLike | None, x: Array) -> Array:
    """Return weights for every item of the stack, ones where none are given."""
    if w is None:
        return np.ones(x.shape[:-1])
    weights, n = np.asarray(w), x.shape[-2]
    if weights.shape[-1:] != (n,):
        raise ValueError(f"{name}: expected {n} weights, got shape {weights.shape}")
    whole = name != "fweights" or bool((weights == np.floor(weights)).all())
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any(axis=-1).all() and whole):
        raise ValueError(f"{name}: expected finite weights >= 0, some > 0 (fweights: whole), got {weights}")
    return np.broadcast_to(weights, x.shape[:-1])


def result_of(x: Array, dtype: DTypeLike | None) -> np.dtype[Any]:
    """Return the dtype of the answer."""
    return np.result_type(x.dtype, np.float64) if dtype is None else np.dtype(dtype)


def exact_pinv(covariance: ArrayLike, *, dtype: DTypeLike | None = None) -> Array:
    """Pseudo-invert matrices exactly, and round once.

    There is no cut-off: the rank is that of the rational matrix that the floats are. A matrix that
    is singular up to rounding only has an inverse, with very large entries.

    Parameters
    ----------
    covariance : array_like, shape (..., C, C)
        Real and finite.
    dtype : dtype, optional
        Of the result, by default ``result_type(covariance, float64)``.

    Returns
    -------
    ndarray, shape (..., C, C)
        The floats nearest to the Moore-Penrose inverses.

    Examples
    --------
    >>> from mvgauss.testing import exact_pinv
    >>> exact_pinv([[1.0, 1.0], [1.0, 1.0]])
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    s = np.asarray(covariance)
    out = np.empty(s.shape, result_of(s, dtype))
    for i in np.ndindex(s.shape[:-2]) if s.size else ():
        out[i] = _rational.array(_rational.pseudo_inverse(_rational.matrix(s[i])), out.dtype)
    return out


def exact_mahalanobis(
    x: ArrayLike,
    mean: ArrayLike,
    inv_covariance: ArrayLike,
    *,
    squared: bool = False,
    dtype: Precision = None,
) -> Array:
    """Measure Mahalanobis distances exactly, and round once, after the root.

    Parameters
    ----------
    x, mean, inv_covariance, squared : array_like, bool
        As in `mvgauss.mahalanobis`.
    dtype : dtype, optional
        Of the result, by default at least float64.

    Returns
    -------
    ndarray, shape (..., N)
        The floats nearest to the distances; of a single sample, shape (...).
    """
    given, mu, p = np.asarray(x), np.asarray(mean), np.asarray(inv_covariance)
    many = given if given.ndim > 1 else given[None]
    stack = np.broadcast_shapes(many.shape[:-2], mu.shape[:-1], p.shape[:-2])
    items = [np.broadcast_to(v, (*stack, *v.shape[v.ndim - k :])) for v, k in ((many, 2), (mu, 1), (p, 2))]
    out = np.empty((*stack, many.shape[-2]), result_of(np.empty(0, np.result_type(given, mu, p)), dtype))
    for i in np.ndindex(stack):
        rows, centre, inverse = (v[i] for v in items)
        squares = squares_of(_rational.matrix(rows), _rational.vector(centre), _rational.matrix(inverse))
        if any(q < 0 for q in squares):
            raise ValueError(
                "inv_covariance: expected positive semi-definite matrices, got a negative square"
            )
        out[i] = _rational.array(squares if squared else [_rational.root(q) for q in squares], out.dtype)
    return out if given.ndim > 1 else out[..., 0]


def squares_of(x: Matrix, mean: Vector, p: Matrix) -> Vector:
    """Return the squared distances of the rows of `x`."""
    z = [[v - m for v, m in zip(row, mean, strict=True)] for row in x]
    return [_rational.dot(row, [_rational.dot(q, row) for q in p]) for row in z]
