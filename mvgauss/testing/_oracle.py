"""Means and covariances in exact rational arithmetic over the given floats, rounded once at the end.

Slow and obvious, for small cases. They share no code with the functions of the package, and take the
same arguments, so that an implementation is called the same way as what it is compared with.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss.testing import _rational
from mvgauss.testing._rational import Array, Matrix, Vector

__all__ = ["exact_cov", "exact_mean"]


def exact_mean(
    observations: ArrayLike,
    aweights: ArrayLike | None = None,
    *,
    fweights: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
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

    Examples
    --------
    >>> from mvgauss.testing import exact_mean
    >>> exact_mean([[1.0, 0.0], [2.0, 0.5]], aweights=[3, 1])
    array([1.25 , 0.125])
    """
    x = np.asarray(observations)
    f, a = (_weights(name, w, x) for name, w in (("fweights", fweights), ("aweights", aweights)))
    out = np.empty((*x.shape[:-2], x.shape[-1]), result_of(x, dtype))
    for i in np.ndindex(x.shape[:-2]):
        w, _ = _products(f[i], a[i])
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
        The floats nearest to

        .. math:: \frac{1}{W - \mathrm{ddof} \sum w a / W} \sum w (x - \bar x)(x - \bar x)^H,
           \qquad w = f a, \quad W = \sum w ;

        where the divisor is not positive, infinities, or NaN for 0/0; NaN in the row and the column
        of a feature that is not finite.

    Raises
    ------
    ValueError
        If weights are negative, not finite, all zero, fractional (`fweights`), or do not fit.

    Examples
    --------
    >>> from mvgauss.testing import exact_cov
    >>> exact_cov([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]])
    array([[4., 2.],
           [2., 4.]])
    >>> exact_cov([1.0, 2.0, 4.0], ddof=0), 14 / 9
    (array(1.55555556), 1.5555555555555556)
    """
    given = np.asarray(observations)
    x = given.reshape(-1, 1) if given.ndim < 2 else given.swapaxes(-1, -2) if rowvar else given
    f, a = (_weights(name, w, x) for name, w in (("fweights", fweights), ("aweights", aweights)))
    lost = Fraction(float((0 if bias else 1) if ddof is None else ddof))
    c = x.shape[-1]
    out = np.empty((*x.shape[:-2], c, c), result_of(x, dtype))
    for i in np.ndindex(x.shape[:-2]):
        out[i] = _covariance(x[i], f[i], a[i], lost, out.dtype)
    return out.reshape(()) if given.ndim <= 2 and c == 1 else out


def _covariance(x: Array, f: Array, a: Array, ddof: Fraction, dtype: np.dtype[Any]) -> Array:
    """Return the covariance of ``(N, C)`` samples."""
    n, c = x.shape
    bad = ~np.isfinite(x).all(axis=0)
    x = np.where(bad, 0, x)
    w, wa = _products(f, a)
    total = sum(w, Fraction(0))
    divisor = total - ddof * (sum(wa, Fraction(0)) / total if n else 1)
    re = _rational.matrix(x.real.T)
    scatter, out = scatter_of(re, re, w), np.empty((c, c), dtype)
    if x.dtype.kind == "c":
        im = _rational.matrix(x.imag.T)
        scatter, cross = _sum(scatter, scatter_of(im, im, w)), scatter_of(im, re, w)
        minus = [[-v for v in row] for row in _rational.transposed(cross)] if c else []
        out.imag = _quotients(_sum(cross, minus), divisor, out.real.dtype)
    elif dtype.kind == "c":
        out.imag = 0
    out.real = _quotients(scatter, divisor, out.real.dtype)
    out[bad], out[:, bad] = np.nan, np.nan
    return out


def mean_of(columns: Matrix, w: Vector) -> Vector:
    """Return the weighted mean of each column."""
    return [_rational.dot(w, column) / sum(w) if w else Fraction(0) for column in columns]


def scatter_of(x: Matrix, y: Matrix, w: Vector) -> Matrix:
    """Return the sums of w (x - mean)(y - mean) over all pairs of columns."""
    zx = _centred(x, w)
    zy = zx if y is x else _centred(y, w)
    return [[_rational.dot(p, q) for q in zy] for p in [_rational.scaled(w, z) for z in zx]]


def _centred(columns: Matrix, w: Vector) -> Matrix:
    """Return columns less their means."""
    return [[v - m for v in u] for u, m in zip(columns, mean_of(columns, w), strict=True)]


def _sum(a: Matrix, b: Matrix) -> Matrix:
    """Return the sum of two matrices."""
    return [[u + v for u, v in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]


def _quotients(scatter: Matrix, divisor: Fraction, dtype: np.dtype[Any]) -> Array:
    """Return scatter / divisor, rounded; the sign of the scatter over zero if it is not positive."""
    if divisor > 0:
        return _rational.array([[v / divisor for v in row] for row in scatter], dtype).reshape(
            len(scatter), len(scatter)
        )
    signs = [[(v > 0) - (v < 0) for v in row] for row in scatter]
    with np.errstate(all="ignore"):
        return np.asarray(np.array(signs, dtype).reshape(len(signs), len(signs)) / dtype.type(0))


def _products(f: Array, a: Array) -> tuple[Vector, Vector]:
    """Return the weights w = f a and w a."""
    exact = _rational.vector(a)
    w = [u * v for u, v in zip(_rational.vector(f), exact, strict=True)]
    return w, [u * v for u, v in zip(w, exact, strict=True)]


def _weights(name: str, w: ArrayLike | None, x: Array) -> Array:
    """Return weights for every item of the stack, ones where none are given."""
    shape = x.shape[:-1]
    if w is None:
        return np.ones(shape)
    weights = np.asarray(w)
    if not weights.shape or weights.shape[-1] != shape[-1]:
        raise ValueError(f"{name}: expected {shape[-1]} weights, got shape {weights.shape}")
    whole = name != "fweights" or bool((weights == np.floor(weights)).all())
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any(axis=-1).all() and whole):
        raise ValueError(f"{name}: expected finite weights >= 0, some > 0 (fweights: whole), got {weights}")
    return np.broadcast_to(weights, shape)


def result_of(x: Array, dtype: DTypeLike | None) -> np.dtype[Any]:
    """Return the dtype of the answer."""
    return np.result_type(x.dtype, np.float64) if dtype is None else np.dtype(dtype)
