"""Lower triangles: symmetric matrices packed into them, covariances factored into inverted ones."""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache

import numpy as np

from mvgauss import _blocks, _lapack
from mvgauss._blocks import scratch
from mvgauss._checks import Array

#: Matrices of up to this size are factored elementwise over the stack: calls for many cost more.
_SMALL = 13


@lru_cache
def _places(c: int) -> Array:
    """Return where in a packed triangle each entry of a flat matrix is."""
    rows, columns = np.tril_indices(c)
    place = np.empty((c, c), np.intp)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return place.ravel()


def pack(s: Array, out: Array) -> None:
    """Write the lower triangles of ``(B, C, C)``, row after row, into ``(B, C(C+1)/2)``: half the memory."""
    start = 0
    for i in range(s.shape[-1]):
        out[:, start : start + i + 1] = s[:, i, : i + 1]
        start += i + 1


def unpack(triangle: Array, c: int) -> Array:
    """Return the symmetric matrices, ``(..., C, C)``, of lower triangles."""
    out = scratch("square", (*triangle.shape[:-1], c * c), triangle.dtype)
    triangle.take(_places(c), axis=-1, out=out, mode="clip")
    return out.reshape(*triangle.shape[:-1], c, c)


def cholesky(s: Array) -> Array:
    """Return the Cholesky factors of a block in double; NaN where a matrix is not positive definite.

    NumPy's answer for a stack is all or nothing, so a stack that fails is tried in halves.
    """
    try:
        return np.linalg.cholesky(s)
    except np.linalg.LinAlgError:
        h = len(s) // 2
        return np.concatenate([cholesky(s[:h]), cholesky(s[h:])]) if h else np.full(s.shape, np.nan, s.dtype)


def invert_root(s: Array, w: Array) -> None:
    """Write W = L^-1 of covariances S = L L^T ``(B, C, C)``; not finite if one is not definite."""
    if s.shape[-1] <= _SMALL:
        _invert_small_root(s, w)
        return
    # SciPy's BLAS has threads of its own, and those of NumPy's, busy waiting for more, would be in their way
    with _blocks.one_blas_thread() if s.shape[-1] >= _lapack.THREADED else nullcontext():
        for part in _blocks.pieces(len(s), 2 * s[:1].nbytes):
            root = scratch("root", s[part].shape, s.dtype)
            root[...] = s[part]
            definite = _lapack.cholesky(root)
            _lapack.invert_lower(root, w[part])
            w[part][~definite] = np.nan


def _invert_small_root(s: Array, w: Array) -> None:
    """Do the same by elimination in [S | I], which leaves [D L1^T | L1^-1] with L = L1 D^1/2."""
    n, c = s.shape[:2]
    a = scratch("S turned", (c, c, n), s.dtype)
    a[...] = np.moveaxis(s, 0, -1)
    g = scratch("W turned", (c, c, n), s.dtype)
    g[...] = 0
    room = scratch("products", (c * c, n), s.dtype)
    for j in range(c):
        g[j, j] = 1
        rest = c - j - 1
        multiple = a[j + 1 :, j, None] / a[j, j]
        for row, below in ((a[j, j + 1 :], a[j + 1 :, j + 1 :]), (g[j, : j + 1], g[j + 1 :, : j + 1])):
            product = room[: rest * len(row)].reshape(rest, len(row), n)
            below -= np.multiply(multiple, row, out=product)
        g[j, : j + 1] /= np.sqrt(a[j, j])
    w[...] = np.moveaxis(g, -1, 0)
