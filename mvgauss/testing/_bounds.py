r"""Bounds instead of tolerances: the error that a correct implementation may have on given data.

Throughout, u = eps/2 is the unit roundoff of the dtype in which an implementation computes, and
:math:`\gamma_k = k u / (1 - k u)`, the growth of k roundings (N. J. Higham, *Accuracy and Stability of
Numerical Algorithms*, 2nd ed., SIAM 2002, Lemma 3.1). They hold barring overflow and underflow, for
sums in any order, with or without fused operations, but not for products in the manner of Strassen.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["cov_bound", "mean_bound"]

Array = NDArray[Any]


def mean_bound(
    observations: ArrayLike,
    aweights: ArrayLike | None = None,
    *,
    fweights: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    r"""Bound the error of weighted means.

    Parameters
    ----------
    observations : array_like, shape (..., N, C)
        N samples of C features.
    aweights, fweights : array_like, shape (N,) or (..., N), optional
        Weights, as in `mvgauss.cov`.
    dtype : dtype, optional
        In which the implementation computes, by default ``result_type(observations, float64)``.

    Returns
    -------
    ndarray, shape (..., C)
        How far from the exact mean each entry may be.

    Notes
    -----
    A sum of N products has an error of at most :math:`\gamma_N \sum |w x|` in any order, one of N
    numbers of :math:`\gamma_{N-1} \sum |w|` (Higham, sections 3.1 and 4.2), and so their quotient is
    off by at most :math:`\gamma_{2N+4} \max |x|`. Twice that admits an implementation that first
    subtracts one of the samples.

    Examples
    --------
    >>> from mvgauss.testing import mean_bound
    >>> mean_bound([[1.0], [-1.0]]) / 2.0**-53    # 2 (2 N + 4)
    array([16.])
    """
    x = np.asarray(observations)
    u = roundoff(x.dtype, dtype)
    scale = np.abs(x.astype(np.result_type(x, np.float64))).max(axis=-2, initial=0).astype(np.float64)
    return np.asarray(2 * _gamma(_count(2 * x.shape[-2] + 4, x.dtype), u) * scale)


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
    r"""Bound the error of covariances, entry by entry.

    Parameters
    ----------
    observations : array_like, shape (..., N, C)
        N samples of C features, real or complex; ``(..., C, N)`` with ``rowvar=True``.
    rowvar, bias, ddof, aweights, fweights : optional
        As in `mvgauss.cov`.
    dtype : dtype, optional
        In which the implementation computes, by default ``result_type(observations, float64)``.
    streamed : bool, default False
        Whether the implementation may update or merge means as samples come (Welford, Chan): such
        an error is proportional to the offset of the data, not to its square.

    Returns
    -------
    ndarray, shape (..., C, C)
        How far from the exact covariance each entry may be: its modulus, for complex data. Of the
        shape of the covariance itself, 0-d for a single feature without a stack. Infinite where
        rounding may take the divisor to zero.

    See Also
    --------
    exact_cov : What to compare with.

    Notes
    -----
    With :math:`z = x - \bar x`, weights w and :math:`e` the `mean_bound` of :math:`\bar x`, the
    scatter of the two-pass formula is off by at most

    .. math::
       W e_j e_k + \gamma_{N+10} \sum w (|z_j| + e_j)(|z_k| + e_k)
       + 4 u \left(\max |z_j| \sum w |z_k| + \max |z_k| \sum w |z_j|\right) .

    The first term is what an error of the means does: its first power cancels, since
    :math:`\sum w z = 0` (Higham, section 1.9, for the variance). The second is that of an inner
    product of N terms (section 3.1), each with the few roundings of its weights, differences and
    products. The third admits an implementation that first subtracts one of the samples, which
    rounds :math:`x - x_0`, not z. Complex numbers take twice the roundings and a factor of
    :math:`\sqrt 2`. The divisor :math:`W - \mathrm{ddof}\, V / W` is a difference, off by at most
    :math:`\gamma_{2N+6} (W + |\mathrm{ddof}|\, V / W)`.

    With `streamed` every mean on the way may be off by e while it is used, so the first power stays:
    :math:`4 W (e_j \max |z_k| + e_k \max |z_j|)`, and partial sums are bounded by Cauchy & Schwarz.

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
    u = roundoff(x.dtype, dtype)
    a = np.ones(n) if aweights is None else np.asarray(aweights, np.float64)
    w = a if fweights is None else np.asarray(fweights, np.float64) * a
    e = mean_bound(x, dtype=dtype)
    scatter, error = _scatter(x, w, e, u, streamed)
    lost = float((0 if bias else 1) if ddof is None else ddof)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        total = w.sum(axis=-1)
        taken = lost * (w * a).sum(axis=-1) / total
        divisor = total - taken
        relative = _gamma(2 * n + 6, u) * (total + abs(taken)) / np.abs(divisor)
        known = (divisor > 0) & (relative < 0.5)
        relative, divisor = (np.asarray(v)[..., None, None] for v in (relative, divisor))
        bound = (error + relative * scatter) / (divisor * (1 - relative))
        out = np.where(np.asarray(known)[..., None, None], bound, np.inf)
    return out.reshape(()) if given.ndim <= 2 and c == 1 else out


def _scatter(x: Array, w: Array, e: Array, u: float, streamed: bool) -> tuple[Array, Array]:
    """Return sums of w |z| |z|, and what the scatter of ``(..., N, C)`` samples may be off."""
    n, c = x.shape[-2:]
    if n == 0:
        nothing = np.zeros((*x.shape[:-2], c, c))
        return nothing, nothing
    with np.errstate(invalid="ignore", over="ignore"):
        z = x.astype(np.result_type(x, np.float64))
        z = z - z[..., :1, :]
        w, total = w[..., None], np.maximum(w.sum(axis=-1), np.finfo(np.float64).tiny)[..., None]
        z = np.abs(z - ((w * z).sum(axis=-2) / total)[..., None, :]).astype(np.float64)
    sums, largest = (w * z).sum(axis=-2), z.max(axis=-2)
    plain = np.matmul(z.swapaxes(-1, -2), w * z)
    if streamed:
        length = np.sqrt(np.diagonal(plain, axis1=-2, axis2=-1))
        plain = _outer(length, length)
    square = total[..., None] * _outer(e, e)
    cross = _outer(e, sums) + _outer(sums, e)
    shift = _outer(largest, sums) + _outer(sums, largest)
    k = _count(n + 10, x.dtype)
    error = square + _gamma(k, u) * (plain + cross + square) + 4 * u * shift
    if streamed:
        error += 4 * total[..., None] * (_outer(e, largest) + _outer(largest, e))
    return plain, error * (math.sqrt(2) if x.dtype.kind == "c" else 1)


def _outer(a: Array, b: Array) -> Array:
    """Return the outer products of two stacks of vectors."""
    return np.asarray(a[..., :, None] * b[..., None, :])


def _count(k: int, dtype: np.dtype[Any]) -> int:
    """Return the number of roundings, twice as many for complex numbers."""
    return 2 * k if dtype.kind == "c" else k


def _gamma(k: int, u: float) -> float:
    """Return k u / (1 - k u)."""
    return k * u / (1 - k * u) if k * u < 1 else math.inf


def roundoff(data: np.dtype[Any], dtype: DTypeLike | None) -> float:
    """Return the unit roundoff of the dtype in which is computed."""
    return float(np.finfo(np.result_type(data, np.float64) if dtype is None else np.dtype(dtype)).eps) / 2
