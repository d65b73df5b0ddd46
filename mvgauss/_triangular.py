"""Lower triangles of stacks of matrices: packing, Cholesky factors and their inverses."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mvgauss._checks import Array

#: Triangles of up to this size are inverted column by column, for the whole stack at once.
_SMALL = 12


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
    """Return the symmetric matrices, ``(B, C, C)``, of packed lower triangles."""
    return triangle.take(_places(c), axis=-1, mode="clip").reshape(*triangle.shape[:-1], c, c)


def diagonal(triangle: Array, c: int) -> Array:
    """Return the diagonals, ``(B, C)``, of packed lower triangles."""
    i = np.arange(c)
    return np.asarray(triangle[:, i * (i + 3) // 2])


def cholesky(s: Array) -> Array:
    """Return the Cholesky factors of ``(B, C, C)``; NaN where a matrix is not positive definite.

    NumPy's answer for a stack is all or nothing, so a stack that fails is tried in halves.
    """
    try:
        return np.linalg.cholesky(s)
    except np.linalg.LinAlgError:
        h = len(s) // 2
        return np.concatenate([cholesky(s[:h]), cholesky(s[h:])]) if h else np.full(s.shape, np.nan)


def invert_lower(lower: Array) -> Array:
    """Return the inverses of lower triangles ``(B, C, C)``, zero above the diagonal.

    By halves: the inverse of [[A, 0], [B, D]] is [[A^-1, 0], [-D^-1 B A^-1, D^-1]].
    """
    out = np.zeros(lower.shape)
    _invert_into(lower, out)
    return out


def _invert_into(lower: Array, out: Array) -> None:
    c = lower.shape[-1]
    if c <= _SMALL:
        _invert_small(lower, out)
        return
    h = c // 2
    _invert_into(lower[:, :h, :h], out[:, :h, :h])
    _invert_into(lower[:, h:, h:], out[:, h:, h:])
    np.matmul(np.matmul(-out[:, h:, h:], lower[:, h:, :h]), out[:, :h, :h], out=out[:, h:, :h])


def _invert_small(lower: Array, out: Array) -> None:
    """Do the same by forward substitution, the stack last, so that each step is one long operation."""
    a = np.ascontiguousarray(np.moveaxis(lower, 0, -1))
    g = np.zeros(a.shape)
    for i in range(len(a)):
        g[i, i] = 1 / a[i, i]
        if i:
            g[i, :i] = np.einsum("kb,kjb->jb", a[i, :i], g[:i, :i]) * -g[i, i]
    out[...] = np.moveaxis(g, -1, 0)
