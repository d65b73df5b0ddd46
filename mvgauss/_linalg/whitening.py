r"""Covariance -> whitening matrix: the one decision about what counts as zero.

A whitening matrix W has :math:`W^T W = S^+`. One decomposition and one decision give W, the rank and the
logarithm of the pseudo-determinant, so they always agree, matrix by matrix.
"""

from typing import NamedTuple

import numpy as np

from mvgauss._arguments import Array
from mvgauss._linalg import triangular

EPS = float(np.finfo(np.float64).eps)

#: A proof has to hold by this factor, for the rounding errors of the proof itself.
_MARGIN = 3.0


class Whitening(NamedTuple):
    """Whitening matrices of a block, and the decision that was taken with them."""

    root: Array  #: (B, m, C), W; rows of dropped directions are zero
    rank: Array  #: (B,)
    log_pdet: Array  #: (B,), logarithm of the pseudo-determinant of S
    lowest: Array  #: (B,), the smallest eigenvalue over the largest; 0 where it is proven to be positive


def whiten(s: Array, floor: Array, noise: Array | None = None, rtol: Array | None = None) -> Whitening:
    r"""Factor a block of covariances.

    Parameters
    ----------
    s : ndarray, shape (B, C, C)
        Covariances, a ridge included.
    floor : ndarray, shape (B,)
        The ridge that is known to be in them. Where it is positive nothing is dropped, and no eigenvalue
        counts as less.
    noise : ndarray, shape (B, C), optional
        The variance that rounding may have put into each feature: without a floor, an eigenvalue that is
        no larger than the noise in its direction counts as zero.
    rtol : ndarray, shape (B,), optional
        Without a floor, eigenvalues at most `rtol` times the largest count as zero. By default these are
        C eps, except where a matrix is proven regular by its scaling to a unit diagonal: the units of
        features do not matter.

    Notes
    -----
    With :math:`W = L^{-1}` of the Cholesky factor, the diagonal of :math:`S^{-1} = W^T W` has all the
    proofs that nothing is dropped, so that W can be used. A floor that clears the rounding errors of the
    trace needs no other. With D the diagonal of S, :math:`\operatorname{tr}(D S^{-1})` bounds
    :math:`1 / \lambda_{\min}` of the matrix scaled to a unit diagonal, whose eigenvalues are at most C;
    :math:`\operatorname{tr} S \operatorname{tr} S^{-1}` bounds the condition number; and
    :math:`\operatorname{tr}(N S^{-1}) < 1` with the diagonal noise N implies that every direction has more
    variance than noise. Elsewhere the eigenvalues decide. A feature without any variance is set aside.
    """
    c = s.shape[-1]
    variance = np.diagonal(s, axis1=1, axis2=2)
    constant: Array = np.zeros(variance.shape, bool)
    regular_part = s
    if not variance.all():
        constant = ~s.any(axis=2)
        regular_part = s + np.eye(c) * constant[:, None]
    with np.errstate(all="ignore"):  # a matrix that is not definite gives NaN, which proves nothing
        root = triangular.invert_lower(triangular.cholesky(regular_part))
        log_pdet = -2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        proven = (floor > _MARGIN * c * EPS * variance.sum(axis=1)) & np.isfinite(log_pdet)
        if not proven.all():
            inverse = np.where(constant, 0, np.einsum("bij,bij->bj", root, root))
            regular = np.asarray(_MARGIN * c**2 * EPS * np.vecdot(variance, inverse) < 1)
            nothing_dropped = regular.copy()
            if rtol is not None:
                nothing_dropped &= _MARGIN * rtol * variance.sum(axis=1) * inverse.sum(axis=1) < 1
            if noise is not None:
                nothing_dropped &= _MARGIN * np.vecdot(noise, inverse) < 1
            proven |= np.where(floor > 0, regular, nothing_dropped)
    i = np.arange(c)
    root[:, i, i] = np.where(constant, 0, root[:, i, i])
    rank = c - constant.sum(axis=1)
    lowest = np.zeros(len(s))

    doubtful = np.flatnonzero(~proven)
    if doubtful.size:
        values, vectors = np.linalg.eigh(s[doubtful])
        largest = values[:, -1:]
        limit = largest * (c * EPS if rtol is None else rtol[doubtful, None])
        if noise is not None:
            limit = np.maximum(limit, np.matmul(noise[doubtful, None], vectors**2)[:, 0])
        known = floor[doubtful, None]
        lowest[doubtful] = values[:, 0] / np.where(largest > 0, largest, 1)[:, 0]
        counts = (known > 0) | (values > limit)
        values = np.where(counts, np.maximum(values, known), np.inf)
        root[doubtful] = vectors.swapaxes(1, 2) / np.sqrt(values)[:, :, None]
        rank[doubtful] = counts.sum(axis=1)
        log_pdet[doubtful] = np.log(np.where(counts, values, 1)).sum(axis=1)
    return Whitening(root, rank, log_pdet, lowest)


def directions_of_rows(rows: Array, noise: Array) -> tuple[Array, Array, Array]:
    """Decide the same for covariances K^T K of few rows, without a floor.

    Parameters
    ----------
    rows : ndarray, shape (B, n, C)
        K, in double precision.
    noise : ndarray, shape (B, C)
        As in `whiten`.

    Returns
    -------
    left : ndarray, shape (B, n, n)
        Left singular vectors of K, in columns.
    sd : ndarray, shape (B, n)
        Singular values, the largest first; infinite for directions that count as zero.
    right : ndarray, shape (B, n, C)
        Right singular vectors, in rows.
    """
    c = rows.shape[2]
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    variance = np.square(values)
    limit = np.broadcast_to(c * EPS * variance[:, :1], variance.shape)
    uneven = np.flatnonzero((variance <= limit).any(axis=1))
    if uneven.size:  # which the units of the features may do alone
        size = np.linalg.norm(rows[uneven], axis=1)
        scaled = np.linalg.svd(rows[uneven] / np.where(size > 0, size, 1)[:, None], compute_uv=False)
        regular = scaled[:, -1:] ** 2 > _MARGIN * c * EPS * scaled[:, :1] ** 2
        limit = limit.copy()
        limit[uneven] = np.where(regular, 0, limit[uneven])
    limit = np.maximum(limit, np.matmul(right**2, noise[:, :, None])[:, :, 0])
    return left, np.where(variance > limit, values, np.inf), right


def whiten_rows(rows: Array, noise: Array) -> Whitening:
    """Factor covariances K^T K of few rows ``(B, n, C)``, without a floor: n rows W."""
    _, sd, right = directions_of_rows(rows, noise)
    counts = np.isfinite(sd)
    log_pdet = 2 * np.log(np.where(counts, sd, 1)).sum(axis=1)
    return Whitening(right / sd[:, :, None], counts.sum(axis=1), log_pdet, np.zeros(len(rows)))


def root_of_inverse(p: Array, rank: Array | None = None) -> Whitening:
    """Factor given inverse covariances ``(B, C, C)``: W^T W = P, which is taken at its word.

    A small eigenvalue of P is a direction of large variance. One that double precision cannot tell from
    zero is none, unless `rank` ``(B,)`` says how many there are; a negative one is rounding.
    """
    c = p.shape[-1]
    with np.errstate(all="ignore"):
        lower = triangular.cholesky(p)
        diagonal = np.diagonal(lower, axis1=1, axis2=2)
        inverse = triangular.invert_lower(lower)
        condition = np.trace(p, axis1=1, axis2=2) * np.square(inverse).sum(axis=(1, 2))
        definite = _MARGIN * c * EPS * condition < 1
        log_pdet = -2 * np.log(diagonal).sum(axis=1)
    if rank is not None:
        definite &= rank == c
    root, found, lowest = lower.swapaxes(1, 2).copy(), np.full(len(p), c), np.zeros(len(p))
    doubtful = np.flatnonzero(~definite)
    if doubtful.size:
        values, vectors = np.linalg.eigh(p[doubtful])
        largest = np.maximum(values[:, -1:], 0)
        counts = values > c * EPS * largest
        if rank is not None:
            counts = (np.arange(c) >= c - rank[doubtful, None]) & (values > 0)
        lowest[doubtful] = values[:, 0] / np.where(largest > 0, largest, 1)[:, 0]
        root[doubtful] = vectors.swapaxes(1, 2) * np.sqrt(np.maximum(values, 0))[:, :, None]
        found[doubtful] = counts.sum(axis=1)
        log_pdet[doubtful] = -np.log(np.where(counts, values, 1)).sum(axis=1)
    return Whitening(root, found, log_pdet, lowest)


def self_product(w: Array) -> Array:
    """Return W^T W of ``(..., n, C)``: BLAS computes one triangle of it, so it is exactly symmetric."""
    return np.asarray(np.matmul(w.swapaxes(-1, -2), w))
