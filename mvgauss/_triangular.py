"""Lower triangles of stacks of matrices: packing, Cholesky factors and their inverses."""

from __future__ import annotations

import numpy as np

from mvgauss._checks import Array

#: Triangles of up to this size are inverted column by column, for the whole stack at once.
_SMALL = 12

#: The least part of a variance that other features may leave unexplained for a Cholesky factor of a
#: product to be as good as one of the rows: errors grow with its inverse there, with the root of it here.
EXPLAINED = 2.0**-8


def pack(s: Array, out: Array) -> None:
    """Write the lower triangles of ``(B, C, C)``, row after row, into ``(B, C(C+1)/2)``: half the memory."""
    start = 0
    for i in range(s.shape[-1]):
        out[:, start : start + i + 1] = s[:, i, : i + 1]
        start += i + 1


def unpack(triangle: Array, c: int) -> Array:
    """Return the lower triangles, ``(B, C, C)`` with zeros above, of packed ones."""
    out = np.zeros((*triangle.shape[:-1], c, c), triangle.dtype)
    start = 0
    for i in range(c):
        out[:, i, : i + 1] = triangle[:, start : start + i + 1]
        start += i + 1
    return out


def root(product: Array) -> tuple[Array, Array]:
    """Return lower triangles L with L L^T = M, ``(B, C, C)``, and for which items they are no good.

    The Cholesky factor of a product of rows has its rounding errors, the more digits of them the more of a
    feature the features before it explain. Where that is nearly all, L has to come from the rows
    themselves, see `root_of_rows`. A feature without variance is exact.
    """
    i = np.arange(product.shape[1])
    size = product[:, i, i]
    a = product.copy()
    a[:, i, i] = np.where(size > 0, size, 1)
    with np.errstate(invalid="ignore"):
        lower = cholesky(a)
        lower[:, i, i] = np.where(size > 0, lower[:, i, i], 0)
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
