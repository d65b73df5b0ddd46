"""Lower triangles of stacks of matrices: Cholesky factors, their inverses, packing."""

import math
from functools import cache

import numpy as np
from scipy.linalg import blas

from mvgauss._arguments import Array

#: Triangles of up to this size are inverted row by row, for the whole stack at once.
_SMALL = 16


def cholesky(s: Array) -> Array:
    """Return the Cholesky factors of ``(B, C, C)``; NaN where a matrix is not positive definite.

    NumPy's answer for a stack is all or nothing, so a stack that fails is tried in halves.
    """
    try:
        return np.linalg.cholesky(s.swapaxes(1, 2))  # columns are what LAPACK reads fastest
    except np.linalg.LinAlgError:
        half = len(s) // 2
        if not half:
            return np.full(s.shape, np.nan)
        return np.concatenate([cholesky(s[:half]), cholesky(s[half:])])


def invert_lower(lower: Array) -> Array:
    """Return the inverses of lower triangles ``(B, C, C)``, zero above the diagonal.

    By halves: the inverse of [[A, 0], [B, D]] is [[A^-1, 0], [-D^-1 B A^-1, D^-1]]. All blocks of one size
    are inverted together, from small ones on the diagonal up; an identity extends the triangles to a size
    that can be halved. This takes a third of the time of `numpy.linalg.inv`.
    """
    b, c, _ = lower.shape
    count = 1 << max(0, math.ceil(math.log2(max(1, c) / _SMALL)))
    size = max(1, -(-c // count))
    full = size * count
    out = np.empty((b, full, full))
    out[:, :c, :c] = lower
    if full > c:
        out[:, c:], out[:, :c, c:] = np.eye(full)[c:], 0
    _diagonal_blocks(out, size)[...] = _invert_small(_diagonal_blocks(out, size))
    while size < full:
        upper_left = _diagonal_blocks(out, size)[:, 0::2]
        lower_right = _diagonal_blocks(out, size)[:, 1::2]
        lower_left = _diagonal_blocks(out[:, size:], size)[:, 0::2]
        lower_left[...] = np.matmul(-np.matmul(lower_right, lower_left), upper_left)
        size *= 2
    return out[:, :c, :c]


def pack(s: Array) -> Array:
    """Return the lower triangles of ``(B, C, C)``, row after row: ``(B, C (C + 1) / 2)``."""
    c = s.shape[-1]
    # without a check of the indices, which would buffer the result
    return np.take(s.reshape(len(s), c * c), _lower_indices(c), axis=1, mode="clip")


def add_outer(triangle: Array, vector: Array) -> None:
    """Add v v^T of vectors ``(B, C)`` to packed lower triangles, in place and packed.

    Both are double and the triangles contiguous: of others BLAS would change a copy.
    """
    for packed, v in zip(triangle, vector, strict=True):
        # the rows of a lower triangle are the columns of an upper one
        blas.dspr(len(v), 1.0, v, packed, overwrite_ap=True)


def unpack(triangle: Array, c: int) -> Array:
    """Return the symmetric matrices ``(B, C, C)`` of packed lower triangles."""
    out = np.empty((len(triangle), c, c), triangle.dtype)
    start = 0
    for i in range(c):
        row = triangle[:, start : start + i + 1]
        out[:, i, : i + 1] = row
        out[:, : i + 1, i] = row
        start += i + 1
    return out


def packed_diagonal(triangle: Array, c: int) -> Array:
    """Return the diagonals ``(B, C)`` of packed lower triangles."""
    i = np.arange(c)
    return np.asarray(triangle[:, i * (i + 3) // 2])


@cache
def _lower_indices(c: int) -> Array:
    """Return where the lower triangle is in a flat matrix."""
    return np.ravel_multi_index(np.tril_indices(c), (c, c))


def _diagonal_blocks(a: Array, size: int) -> Array:
    """View the blocks ``(B, k, size, size)`` on the diagonal of ``(B, rows, C)``, as many as there are."""
    rows, columns = a.strides[1:]
    shape = (len(a), min(a.shape[1:]) // size, size, size)
    strides = (a.strides[0], size * (rows + columns), rows, columns)
    return np.lib.stride_tricks.as_strided(a, shape, strides)


def _invert_small(lower: Array) -> Array:
    """Invert by forward substitution, the stack last, so that each step is one long operation."""
    a = np.ascontiguousarray(np.moveaxis(lower, (2, 3), (0, 1)))
    inverse = np.zeros(a.shape)
    for i in range(len(a)):
        inverse[i, i] = 1 / a[i, i]
        inverse[i, :i] = np.einsum("k...,kj...->j...", a[i, :i], inverse[:i, :i]) * -inverse[i, i]
    return np.moveaxis(inverse, (0, 1), (2, 3))
