"""Answers in exact rational arithmetic over the given floats, rounded once at the end.

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

__all__ = ["exact_cov", "exact_gaussian", "exact_mahalanobis", "exact_mean", "exact_pinv"]


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
    out = np.empty((*x.shape[:-2], x.shape[-1]), _result(x, dtype))
    for i in np.ndindex(x.shape[:-2]):
        w, _ = _products(f[i], a[i])
        out[i] = _rational.array(_mean(_rational.matrix(x[i].T), w), out.dtype)
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
    rowvar, bias, ddof, aweights, fweights, dtype
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
    >>> exact_cov([1.0, 2.0, 4.0], ddof=0) == 14 / 9
    True
    """
    given = np.asarray(observations)
    x = given.reshape(-1, 1) if given.ndim < 2 else given.swapaxes(-1, -2) if rowvar else given
    f, a = (_weights(name, w, x) for name, w in (("fweights", fweights), ("aweights", aweights)))
    lost = Fraction((0 if bias else 1) if ddof is None else ddof)
    c = x.shape[-1]
    out = np.empty((*x.shape[:-2], c, c), _result(x, dtype))
    for i in np.ndindex(x.shape[:-2]):
        out[i] = _covariance(x[i], f[i], a[i], lost, out.dtype)
    return out.reshape(()) if given.ndim <= 2 and c == 1 else out


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
    out = np.empty(s.shape, _result(s, dtype))
    for i in np.ndindex(s.shape[:-2]):
        if s.shape[-1]:
            out[i] = _rational.array(_rational.pseudo_inverse(_rational.matrix(s[i])), out.dtype)
    return out


def exact_mahalanobis(
    x: ArrayLike,
    mean: ArrayLike,
    inv_covariance: ArrayLike,
    *,
    squared: bool = False,
    dtype: DTypeLike | None = None,
) -> Array:
    """Measure Mahalanobis distances exactly, and round once, after the root.

    Parameters
    ----------
    x : array_like, shape (..., N, C) or (C,)
        N samples for each item of the stack; a vector is a single sample.
    mean : array_like, shape (..., C)
        Means.
    inv_covariance : array_like, shape (..., C, C)
        Inverse covariances; the leading axes of all three broadcast.
    squared : bool, default False
        Whether to return squared distances instead.
    dtype : dtype, optional
        Of the result, by default at least float64.

    Returns
    -------
    ndarray, shape (..., N)
        The floats nearest to the distances; of a single sample, shape (...).

    Raises
    ------
    ValueError
        If a squared distance is negative.

    Examples
    --------
    >>> from mvgauss.testing import exact_mahalanobis
    >>> exact_mahalanobis([[3.0, 4.0], [1.0, 1.0]], [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    array([5.        , 1.41421356])
    """
    given, mu, p = np.asarray(x), np.asarray(mean), np.asarray(inv_covariance)
    many = given if given.ndim > 1 else given[None]
    stack = np.broadcast_shapes(many.shape[:-2], mu.shape[:-1], p.shape[:-2])
    many = np.broadcast_to(many, (*stack, *many.shape[-2:]))
    mu = np.broadcast_to(mu, (*stack, mu.shape[-1]))
    p = np.broadcast_to(p, (*stack, *p.shape[-2:]))
    out = np.empty(many.shape[:-1], _result(np.empty(0, np.result_type(given, mu, p)), dtype))
    for i in np.ndindex(stack):
        squares = _squares(_rational.matrix(many[i]), _rational.vector(mu[i]), _rational.matrix(p[i]))
        if any(q < 0 for q in squares):
            raise ValueError(
                "inv_covariance: expected positive semi-definite matrices, got a negative square"
            )
        out[i] = _rational.array(squares if squared else [_rational.root(q) for q in squares], out.dtype)
    return out if given.ndim > 1 else out[..., 0]


def exact_gaussian(
    embedding: ArrayLike, reg_covar: float = 0.01, *, ddof: float = 1, dtype: DTypeLike | None = None
) -> tuple[Array, Array]:
    """Fit a Gaussian to each patch exactly, and round once.

    Parameters
    ----------
    embedding : array_like, shape (N, C, *grid)
        Embeddings of N images, real and finite.
    reg_covar : float, default 0.01
        Ridge on the diagonal of every covariance. The inverse is the pseudo-inverse.
    ddof : float, default 1
        Delta degrees of freedom.
    dtype : dtype, optional
        Of the result, by default ``result_type(embedding, float64)``.

    Returns
    -------
    mean : ndarray, shape (C, P)
        Means; P counts the grid in row-major order.
    inv_covariance : ndarray, shape (P, C, C)
        Inverses of the exact covariances, not of rounded ones.

    Examples
    --------
    >>> from mvgauss.testing import exact_gaussian
    >>> mean, inv_covariance = exact_gaussian([[[0.0, 1.0]], [[2.0, 1.0]]], reg_covar=2)
    >>> mean, inv_covariance
    (array([[1., 1.]]), array([[[0.25]],
    <BLANKLINE>
           [[0.5 ]]]))
    """
    x = np.asarray(embedding)
    x = x.reshape(*x.shape[:2], -1)
    result = _result(x, dtype)
    fits = [_fit(x[:, :, p], Fraction(reg_covar), Fraction(ddof)) for p in range(x.shape[2])]
    mean = _rational.array([m for m, _ in fits], result).T
    return np.ascontiguousarray(mean), _rational.array([p for _, p in fits], result)


def _fit(x: Array, ridge: Fraction, ddof: Fraction) -> tuple[Vector, Matrix]:
    """Return the mean and the inverse covariance of ``(N, C)`` samples, unrounded."""
    ones = [Fraction(1)] * len(x)
    columns = _rational.matrix(x.T)
    mean, scatter = _mean(columns, ones), _scatter(columns, columns, ones)
    s = [[v / (len(x) - ddof) + ridge * (j == k) for k, v in enumerate(r)] for j, r in enumerate(scatter)]
    return mean, _rational.pseudo_inverse(s)


def _squares(x: Matrix, mean: Vector, p: Matrix) -> Vector:
    """Return the squared distances of the rows of `x`."""
    z = [[v - m for v, m in zip(row, mean, strict=True)] for row in x]
    return [_rational.dot(row, [_rational.dot(q, row) for q in p]) for row in z]


def _covariance(x: Array, f: Array, a: Array, ddof: Fraction, dtype: np.dtype[Any]) -> Array:
    """Return the covariance of ``(N, C)`` samples."""
    n, c = x.shape
    bad = ~np.isfinite(x).all(axis=0)
    x = np.where(bad, 0, x)
    w, wa = _products(f, a)
    divisor = sum(w) - ddof * (sum(wa) / sum(w) if n else 1)
    re, im = _rational.matrix(x.real.T), _rational.matrix(x.imag.T)
    out = np.empty((c, c), dtype)
    out.real = _quotients(_sum(_scatter(re, re, w), _scatter(im, im, w)), divisor, out.real.dtype)
    if dtype.kind == "c":
        cross = _scatter(im, re, w)
        minus = [[-v for v in row] for row in _rational.transposed(cross)] if c else []
        out.imag = _quotients(_sum(cross, minus), divisor, out.real.dtype)
    out[bad], out[:, bad] = np.nan, np.nan
    return out


def _mean(columns: Matrix, w: Vector) -> Vector:
    """Return the weighted mean of each column."""
    return [_rational.dot(w, column) / sum(w) if w else Fraction(0) for column in columns]


def _scatter(x: Matrix, y: Matrix, w: Vector) -> Matrix:
    """Return the sums of w (x - mean)(y - mean) over all pairs of columns."""
    zx, zy = ([[v - m for v in u] for u, m in zip(t, _mean(t, w), strict=True)] for t in (x, y))
    return [[_rational.dot(w, [u * v for u, v in zip(p, q, strict=True)]) for q in zy] for p in zx]


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
        return np.array(signs, dtype).reshape(len(signs), len(signs)) / dtype.type(0)


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


def _result(x: Array, dtype: DTypeLike | None) -> np.dtype[Any]:
    """Return the dtype of the answer."""
    return np.result_type(x.dtype, np.float64) if dtype is None else np.dtype(dtype)
