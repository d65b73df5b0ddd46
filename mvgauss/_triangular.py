"""Lower triangles of stacks of matrices: packing, Cholesky factors and their inverses."""

import math
from functools import cache

import numpy as np

from mvgauss._arguments import Array

#: Triangles of up to this size are inverted column by column, for the whole stack at once.
_SMALL = 16

#: A Cholesky factor of a product of rows is used where each feature has at least this share of its variance
#: unexplained by the features before it. Its errors grow with the inverse of that share, those of a factor
#: computed from the rows with the root of the inverse.
EXPLAINED = 2.0**-8


def pack(s: Array, out: Array) -> None:
    """Write the lower triangles of ``(B, C, C)``, row after row, into ``(B, C(C+1)/2)``: half the memory."""
    c = s.shape[-1]
    np.take(s.reshape(-1, c * c), _lower(c), axis=1, out=out, mode="clip")  # without a check, which buffers


@cache
def _lower(c: int) -> Array:
    """Return where the lower triangle of a flat matrix is."""
    return np.ravel_multi_index(np.tril_indices(c), (c, c))


def unpack(triangle: Array, c: int) -> Array:
    """Return the lower triangles, ``(B, C, C)`` with zeros above, of packed ones."""
    out = np.zeros((*triangle.shape[:-1], c, c), triangle.dtype)
    start = 0
    for i in range(c):
        out[:, i, : i + 1] = triangle[:, start : start + i + 1]
        start += i + 1
    return out


def root(product: Array) -> tuple[Array, Array]:
    """Return lower triangles L with L L^T = M, ``(B, C, C)``, and the items for which L is not accurate.

    The more of a feature's variance is explained by the features before it, the more digits the Cholesky
    factor of a product loses to the rounding of that product. Where nearly all is explained, L has to be
    computed from the rows, see `root_of_rows`. A feature without variance is exact.
    """
    i = np.arange(product.shape[1])
    size = product[:, i, i]
    bare = ~(size > 0)
    with np.errstate(invalid="ignore"):
        if bare.any():
            product = product.copy()
            product[:, i, i] = np.where(bare, 1, size)
        lower = cholesky(product)
        lower[:, i, i] *= ~bare
        sure = (lower[:, i, i] ** 2 >= EXPLAINED * size).all(axis=1)
    return lower, np.flatnonzero(~sure)


def root_of_rows(rows: Array) -> Array:
    """Return lower triangles L with L L^T = K^T K of rows K ``(B, n, C)``, by orthogonal transformations."""
    upper: Array = np.asarray(np.linalg.qr(rows, mode="r"))
    lower = np.zeros((len(rows), rows.shape[2], rows.shape[2]))
    lower[:, :, : upper.shape[1]] = upper.swapaxes(1, 2)
    return lower


def cholesky(s: Array) -> Array:
    """Return the Cholesky factors of ``(B, C, C)``; NaN where a matrix is not positive definite.

    NumPy's answer for a stack is all or nothing, so a stack that fails is tried in halves.
    """
    try:
        return np.linalg.cholesky(s.swapaxes(1, 2))  # columns are what LAPACK reads fastest
    except np.linalg.LinAlgError:
        h = len(s) // 2
        return np.concatenate([cholesky(s[:h]), cholesky(s[h:])]) if h else np.full(s.shape, np.nan)


def invert_lower(lower: Array) -> Array:
    """Return the inverses of lower triangles ``(B, C, C)``, zero above the diagonal.

    By halves: the inverse of [[A, 0], [B, D]] is [[A^-1, 0], [-D^-1 B A^-1, D^-1]]. All blocks of one size
    are taken together, from small ones on the diagonal up; an identity fills the triangles up to a power of
    two of these.
    """
    b, c, _ = lower.shape
    count = 1 << max(0, math.ceil(math.log2(max(1, c) / _SMALL)))
    size = max(1, -(-c // count))
    full = size * count
    out = np.empty((b, full, full))
    out[:, :c, :c] = lower
    if full > c:
        out[:, c:], out[:, :c, c:] = np.eye(full)[c:], 0
    _diagonal(out, size)[...] = _invert_small(_diagonal(out, size))
    while size < full:
        a, d = _diagonal(out, size)[:, 0::2], _diagonal(out, size)[:, 1::2]
        below = _diagonal(out[:, size:], size)[:, 0::2]
        below[...] = np.matmul(-np.matmul(d, below), a)
        size *= 2
    return out[:, :c, :c]


def _diagonal(a: Array, size: int) -> Array:
    """View the blocks ``(B, k, size, size)`` on the diagonal of ``(B, rows, C)``, as many as there are."""
    rows, columns = a.strides[1:]
    shape = (len(a), min(a.shape[1:]) // size, size, size)
    strides = (a.strides[0], size * (rows + columns), rows, columns)
    return np.lib.stride_tricks.as_strided(a, shape, strides)


def _invert_small(lower: Array) -> Array:
    """Do the same by forward substitution, the stack last, so that each step is one long operation."""
    a = np.ascontiguousarray(np.moveaxis(lower, (2, 3), (0, 1)))
    g = np.zeros(a.shape)
    for i in range(len(a)):
        g[i, i] = 1 / a[i, i]
        g[i, :i] = np.einsum("k...,kj...->j...", a[i, :i], g[:i, :i]) * -g[i, i]
    return np.moveaxis(g, (0, 1), (2, 3))
