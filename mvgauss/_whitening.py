"""Covariance -> whitening matrix: the one decision about what counts as zero.

A whitening matrix W has W^T W = pinv(S). One decomposition and one decision give W, the rank and the
logarithm of the pseudo-determinant, so they always agree, matrix by matrix. A maths room: blocks of
matrices in double precision.
"""

import math
from typing import NamedTuple

import numpy as np

from mvgauss import _arguments, _triangular
from mvgauss._arguments import Array

_EPS = float(np.finfo(np.float64).eps)

#: Cholesky factors are used where a bound on the smallest eigenvalue clears the cut-off by this factor.
_MARGIN = 3.0

#: Small eigenvalues of a given inverse count as zero where the others are larger than its rounding
#: errors by this factor; without such a gap they are kept.
_GAP = 8.0

#: For inverses of this precision or a coarser one, a few small eigenvalues are kept as they are.
_COARSE = 1e-4


class Whitening(NamedTuple):
    """A block of whitening matrices, and what was decided with them."""

    root: Array  #: (B, m, C), W with W^T W = pinv(S); rows of dropped directions are zero
    rank: Array  #: (B,), how many eigenvalues count
    log_pdet: Array  #: (B,), the sum of their logarithms


def whiten(
    s: Array,
    floor: Array,
    noise: Array | None = None,
    rtol: Array | None = None,
    rows: Array | None = None,
    eps: float = _EPS,
    scale: Array | None = None,
) -> Whitening:
    r"""Factor a block of covariances.

    Parameters
    ----------
    s : ndarray, shape (B, C, C)
        Covariances, a ridge included.
    floor : ndarray, shape (B,)
        The ridge that is known to be in them. Where it is positive nothing is dropped: the rank is C,
        and no eigenvalue counts as less.
    noise : ndarray, shape (B, C), optional
        The variance that rounding may have put into each feature: without a floor, an eigenvalue that
        is no larger than the noise in its direction counts as zero.
    rtol : ndarray, shape (B,), optional
        Without a floor, eigenvalues at most `rtol` times the largest count as zero; by default
        :math:`C \epsilon`.
    rows : ndarray, shape (B, n, C), optional
        Rows K with K^T K = S less the floor, to decide by where their product has lost digits.
    eps : float
        The precision that S was rounded to: what negative eigenvalues may be rounding.
    scale : ndarray, shape (B,), optional
        By which K^T K is still to be multiplied.

    Notes
    -----
    :math:`W = L^{-1}` of the Cholesky factor L is taken where it is proven that the decision drops
    nothing and raises nothing: a floor that clears the rounding errors of the trace, or else
    :math:`\lambda_{\min} \ge 1 / \lVert W \rVert_F^2` and :math:`\lambda_{\max} \le \lVert S \rVert_F`.
    Elsewhere the eigenvalues decide.
    """
    c = s.shape[-1]
    trace = np.trace(s, axis1=1, axis2=2)
    exponent = np.frexp(trace)[1]
    if (np.abs(exponent) > 256).any():  # squares may leave the range
        half = exponent // 2
        square = half[:, None, None]
        scaled = whiten(
            np.ldexp(np.ldexp(s, -square), -square),
            np.ldexp(floor, -2 * half),
            None if noise is None else np.ldexp(noise, -2 * half[:, None]),
            rtol,
            None if rows is None else np.ldexp(rows, -square),
            eps,
            scale,
        )
        return Whitening(
            np.ldexp(scaled.root, -square), scaled.rank, scaled.log_pdet + scaled.rank * half * math.log(4)
        )
    cut = np.full(len(s), c * _EPS) if rtol is None else np.broadcast_to(rtol, len(s))
    sure = np.maximum(cut, c * _EPS)
    with np.errstate(all="ignore"):  # a matrix that is not definite gives NaN, and is left to its eigenvalues
        lower = _triangular.cholesky(s)
        w = _triangular.invert_lower(lower)
        log_pdet = -2 * np.log(np.diagonal(w, axis1=1, axis2=2)).sum(axis=1)
        proven = (c * _EPS * trace * _MARGIN < floor) & np.isfinite(log_pdet)
        if not proven.all():
            least = 1 / np.square(w).sum(axis=(1, 2))
            zero = np.sqrt(np.square(s).sum(axis=(1, 2))) * sure
            if noise is not None:
                zero = np.maximum(zero, noise.max(axis=1))
            proven |= zero * _MARGIN < least
        if rows is not None and rows.shape[1] <= c:  # of more, it is products that are used, see `Thin`
            size, left = (np.diagonal(a, axis1=1, axis2=2) for a in (s, lower))
            proven &= (left**2 >= _triangular.EXPLAINED * size).all(axis=1)
    rank = np.full(len(s), c)
    rest = np.flatnonzero(~proven)
    if rest.size and rows is not None:
        w[rest], rank[rest], log_pdet[rest] = whiten_rows(
            rows[rest] if scale is None else np.sqrt(scale[rest])[:, None, None] * rows[rest],
            floor[rest],
            None if noise is None else noise[rest],
        )
    elif rest.size:
        values, vectors = np.linalg.eigh(s[rest])
        limit = cut[rest, None] * largest("covariance", values, rest, eps)
        if noise is not None:
            limit = np.maximum(limit, np.matmul(noise[rest, None], vectors**2)[:, 0])
        known = floor[rest, None] > 0
        values = np.where(known, np.maximum(values, floor[rest, None]), values)
        w[rest], rank[rest], log_pdet[rest] = _of_eigen(values, vectors, known | (values > limit))
    return Whitening(w, rank, log_pdet)


def whiten_rows(k: Array, floor: Array, noise: Array | None) -> Whitening:
    """Factor the covariances K^T K + floor I of rows ``(B, n, C)``.

    The singular values of the rows lose half as many digits as the eigenvalues of their products. Rows of
    W are as many as n or, with a floor, C.
    """
    b, n, c = k.shape
    wide = n < c and bool((floor > 0).any())
    _, values, vectors = np.linalg.svd(k, full_matrices=wide)
    variances = np.zeros((b, vectors.shape[1]))
    variances[:, : values.shape[1]] = np.square(values)
    limit = c * _EPS * variances[:, :1]
    if noise is not None:
        limit = np.maximum(limit, np.matmul(vectors**2, noise[:, :, None])[:, :, 0])
    keep = (variances > limit) | (floor[:, None] > 0)
    sd = np.where(keep, np.sqrt(variances + floor[:, None]), np.inf)
    log_pdet = 2 * np.log(np.where(keep, sd, 1)).sum(axis=1)
    return Whitening(vectors / sd[:, :, None], keep.sum(axis=1), log_pdet)


def of_inverse(p: Array, eps: float) -> Whitening:
    r"""Factor a block of inverse covariances that were rounded to precision `eps`.

    A small eigenvalue is a direction of large variance. Rounding moves eigenvalues by at most about
    :math:`\epsilon \max_i \lVert P_i \rVert` (the norm of a symmetric matrix of independent errors is
    at most about twice that of its longest row). Those below may have been zero, as in the pseudo-inverse of
    a singular matrix, if a gap parts them from the others; see `_zero`. Without one they continue the
    others. What counts is what it is, or a small part of the rounding where it is no longer positive.
    """
    p = symmetric("inv_covariance", p, eps)
    longest = np.sqrt(np.square(p).sum(axis=2).max(axis=1))
    rounding = max(eps, p.shape[-1] * _EPS) * longest
    with np.errstate(all="ignore"):
        lower = _triangular.cholesky(p)
        least = 1 / np.square(_triangular.invert_lower(lower)).sum(axis=(1, 2))
        rank = np.full(len(p), p.shape[-1])
        log_pdet = -2 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
    root = lower.swapaxes(1, 2).copy()
    rest = np.flatnonzero(~(least > _GAP * rounding))
    if rest.size:
        values, vectors = np.linalg.eigh(p[rest])
        largest("inv_covariance", values, rest, eps)
        keep = ~_zero(p[rest], values, vectors, eps, rounding[rest, None])
        values = np.where(keep, np.maximum(values, rounding[rest, None] / 64), 0)
        rank[rest] = keep.sum(axis=1)
        log_pdet[rest] = -np.log(np.where(keep, values, 1)).sum(axis=1)
        root[rest] = np.sqrt(values)[:, :, None] * vectors.swapaxes(1, 2)
    return Whitening(root, rank, log_pdet)


def _zero(p: Array, values: Array, vectors: Array, eps: float, rounding: Array) -> Array:
    r"""Return which eigenvalues of rounded inverses ``(B, C, C)`` were zero before they were rounded.

    An eigenvalue that a gap parts from the larger ones moves by :math:`u^T E u`, of standard deviation
    :math:`\sigma^2 = 2 \sum_{ij} u_i^2 u_j^2 \epsilon^2 P_{ij}^2 / 12`, and by the square of the rounding
    over the gap; m of them by up to :math:`2 \sqrt m \sigma`. Half precision leaves it open whether
    directions are of infinite or only of large variance: there a few, and those beside a ridge, an
    eigenvalue that many share, are of large variance.
    """
    c = values.shape[1]
    small = values <= rounding
    count = small.sum(axis=1, keepdims=True)
    above = np.where(small, np.inf, values).min(axis=1, keepdims=True)
    u = vectors**2
    spread = eps * np.sqrt((u * np.matmul(p**2, u)).sum(axis=1) / 6)
    exact = c * _EPS * rounding / eps  # as of a row of zeros
    moved = 4 * np.sqrt(count) * spread + rounding**2 / above + exact
    zero = small & (above >= _GAP * rounding) & (values <= moved)
    if eps > _COARSE:
        alike = (values >= values[:, -1:] - _GAP * rounding).sum(axis=1, keepdims=True)
        zero &= (8 * count > c) & (4 * alike < c) | (np.abs(values) <= exact)
    return np.asarray(zero)


def _of_eigen(values: Array, vectors: Array, keep: Array) -> Whitening:
    """Return what eigenvalues ``(B, C)`` and eigenvectors (in columns) make, where they are kept."""
    scale = np.sqrt(1 / np.where(keep, values, np.inf))
    log_pdet = np.log(np.where(keep, values, 1)).sum(axis=1)
    return Whitening(scale[:, :, None] * vectors.swapaxes(1, 2), keep.sum(axis=1), log_pdet)


def self_product(w: Array) -> Array:
    """Return W^T W of a block of roots, symmetric to the last bit."""
    return np.asarray(np.matmul(w.swapaxes(-1, -2), w))


def inverse_of(w: Array, rank: Array) -> Array:
    """Return pinv(W^T W) of roots ``(B, m, C)`` of known rank ``(B,)``."""
    _, values, vectors = np.linalg.svd(w, full_matrices=False)
    keep = np.arange(values.shape[1]) < rank[:, None]
    return self_product(vectors / np.where(keep, values, np.inf)[:, :, None])


def root_of(name: str, p: Array, eps: float) -> Array:
    """Return U with U^T U = P for a block of positive semi-definite matrices."""
    root = _triangular.cholesky(p).swapaxes(1, 2)
    failed = np.flatnonzero(np.isnan(root[:, :1, :1]))
    if failed.size:
        values, vectors = np.linalg.eigh(p[failed])
        largest(name, values, failed, eps)
        root[failed] = np.sqrt(np.maximum(values, 0))[:, :, None] * vectors.swapaxes(1, 2)
    return root


def symmetric(name: str, s: Array, eps: float) -> Array:
    """Refuse matrices that are not finite and symmetric up to rounding; return them symmetric.

    "Up to rounding" is half of the digits of their precision.
    """
    s = s.astype(np.float64, copy=False)
    t = s.swapaxes(-1, -2)
    if (s == t).all() and np.isfinite(s).all():
        return s
    size = np.abs(s).max(axis=(1, 2))
    if not np.isfinite(size).all():
        raise _arguments.BadItem(int(np.argmin(np.isfinite(size))), name, "finite numbers", "NaN or inf")
    off = np.abs(s - t).max(axis=(1, 2))
    if (bad := off > math.sqrt(eps) * size).any():
        item = int(np.argmax(bad))
        raise _arguments.BadItem(item, name, "symmetric matrices", f"asymmetry {off[item]:.3g}")
    return (s + t) / 2


def largest(name: str, values: Array, items: Array, eps: float) -> Array:
    """Return the largest eigenvalues, ``(B, 1)``; refuse negative ones that are no rounding."""
    top = values[:, -1:]
    bad = values[:, 0] < -math.sqrt(eps) * top[:, 0]
    if bad.any():
        first = int(np.argmax(bad))
        low = f"the eigenvalue {values[first, 0]:.3g}"
        raise _arguments.BadItem(int(items[first]), name, "positive semi-definite matrices", low)
    return top
