"""Bounds of the errors of pseudo-inverses and distances, in the notation of `_bounds`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss.testing._bounds import Array, roundoff

__all__ = ["distance_bound", "pinv_bound"]

#: Of the perturbation of a pseudo-inverse by one of the same rank (P.-Å. Wedin, BIT 13, 1973).
_WEDIN = (1 + math.sqrt(5)) / 2


def pinv_bound(
    covariance: ArrayLike,
    *,
    rank: ArrayLike | None = None,
    error: ArrayLike = 0.0,
    dtype: DTypeLike | None = None,
) -> Array:
    r"""Bound the error of pseudo-inverses of symmetric positive semi-definite matrices.

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

    Notes
    -----
    A Cholesky factor belongs to a matrix at most :math:`C \gamma_{C+1} \lVert S \rVert` away
    (Higham, theorem 10.3), and eigenvalues and -vectors to one about as near. With
    :math:`E = C (C + 10) u \lVert S \rVert + \mathrm{error}` for both and the roundings after them,
    truncated to its rank the matrix is at most 2 E away, and by Wedin's theorem the pseudo-inverse

    .. math:: \tfrac{1 + \sqrt 5}{2}\, \lVert S^+ \rVert \lVert \hat S^+ \rVert\, 2 E
       + C (C + 10) u \lVert \hat S^+ \rVert, \qquad
       \lVert \hat S^+ \rVert \le 1 / (\lambda_{\min} - 2 E) :

    about :math:`C^2 \epsilon \operatorname{cond}(S) \lVert S^+ \rVert`.

    Examples
    --------
    >>> import numpy as np
    >>> from mvgauss.testing import pinv_bound
    >>> pinv_bound(np.diag([1.0, 0.5])).max() < 1e-13
    np.True_
    """
    s = np.asarray(covariance)
    c, u = s.shape[-1], roundoff(s.dtype, dtype)
    values = np.linalg.eigvalsh(s.astype(np.float64))
    top = np.abs(values).max(axis=-1, initial=0)
    if rank is None:
        rank = (values > 2 * c * u * top[..., None]).sum(axis=-1)
    rank = np.asarray(rank)
    least = np.take_along_axis(values, np.minimum(c - rank, c - 1)[..., None], axis=-1)[..., 0]
    own = c * (c + 10) * u
    off = 2 * (own * top + np.asarray(error))
    with np.errstate(divide="ignore", invalid="ignore"):
        norm = np.where(off < least, 1 / (least - off), np.inf)
        bound = _WEDIN * norm / least * off + own * norm
    return np.broadcast_to(np.where(rank > 0, bound, 0.0)[..., None, None], s.shape).copy()


def distance_bound(
    x: ArrayLike,
    mean: ArrayLike,
    inv_covariance: ArrayLike,
    *,
    squared: bool = False,
    dtype: DTypeLike | None = None,
) -> Array:
    r"""Bound the error of Mahalanobis distances.

    Parameters
    ----------
    x : array_like, shape (..., N, C) or (C,)
        N samples for each item of the stack; a vector is a single sample.
    mean : array_like, shape (..., C)
        Means.
    inv_covariance : array_like, shape (..., C, C)
        Inverse covariances; the leading axes of all three broadcast.
    squared : bool, default False
        Whether the distances are squared.
    dtype : dtype, optional
        In which the implementation computes, by default at least float64.

    Returns
    -------
    ndarray, shape (..., N)
        How far from the exact distance each may be; of a single sample, shape (...).

    Notes
    -----
    The square is off by at most :math:`E = (C + 5)^2 \epsilon \lVert P \rVert_2 \lVert x - \mu \rVert^2`,
    whether it is the quadratic form, :math:`\gamma_{2C+2} |z|^T |P| |z|` (Higham, section 3.5), or the
    norm of a factor times z, whose backward error is that of `pinv_bound`. Relative to the square this
    is :math:`C^2 \epsilon \operatorname{cond}(P)`. The root is off by
    :math:`|d^2 - \hat d^2| / (d + \hat d) \le \min(E / d, \sqrt E)`.

    Examples
    --------
    >>> import numpy as np
    >>> from mvgauss.testing import distance_bound
    >>> bool(distance_bound([3.0, 4.0], [0.0, 0.0], np.eye(2)) < 1e-13)
    True
    """
    given = np.asarray(x)
    mu, p = np.asarray(mean), np.asarray(inv_covariance)
    u = roundoff(np.result_type(given, mu, p), dtype)
    p = p.astype(np.float64)
    many = given if given.ndim > 1 else given[None]
    z = many.astype(np.float64) - mu.astype(np.float64)[..., None, :]
    norm = np.abs(np.linalg.eigvalsh(p)).max(axis=-1, initial=0)
    error = 2 * u * (p.shape[-1] + 5) ** 2 * norm[..., None] * (z**2).sum(axis=-1)
    if not squared:
        d = np.sqrt(np.maximum(np.einsum("...ni,...ij,...nj->...n", z, p, z), 0))
        # without a distance there is no error: 0 / tiny
        error = error / np.maximum(np.maximum(d, np.sqrt(error)), np.finfo(np.float64).tiny) + 2 * u * d
    return np.asarray(error if given.ndim > 1 else error[..., 0])
