"""Inverses, distances and fits in exact rational arithmetic, rounded once at the end."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss.testing import _rational
from mvgauss.testing._oracle import mean_of, result_of, scatter_of
from mvgauss.testing._rational import Array, Matrix, Vector

__all__ = ["exact_gaussian", "exact_mahalanobis", "exact_pinv"]


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
    out = np.empty(many.shape[:-1], result_of(np.empty(0, np.result_type(given, mu, p)), dtype))
    for i in np.ndindex(stack):
        squares = squares_of(_rational.matrix(many[i]), _rational.vector(mu[i]), _rational.matrix(p[i]))
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
    result = result_of(x, dtype)
    fits = [fit_of(x[:, :, p], Fraction(float(reg_covar)), Fraction(float(ddof))) for p in range(x.shape[2])]
    mean = _rational.array([m for m, _ in fits], result).T
    return np.ascontiguousarray(mean), _rational.array([p for _, p in fits], result)


def fit_of(x: Array, ridge: Fraction, ddof: Fraction) -> tuple[Vector, Matrix]:
    """Return the mean and the inverse covariance of ``(N, C)`` samples, unrounded."""
    ones = [Fraction(1)] * len(x)
    columns = _rational.matrix(x.T)
    mean, scatter = mean_of(columns, ones), scatter_of(columns, columns, ones)
    s = [[v / (len(x) - ddof) + ridge * (j == k) for k, v in enumerate(r)] for j, r in enumerate(scatter)]
    return mean, _rational.pseudo_inverse(s)


def squares_of(x: Matrix, mean: Vector, p: Matrix) -> Vector:
    """Return the squared distances of the rows of `x`."""
    z = [[v - m for v, m in zip(row, mean, strict=True)] for row in x]
    return [_rational.dot(row, [_rational.dot(q, row) for q in p]) for row in z]
