"""Lower triangles: symmetric matrices packed into them, covariances factored into inverted ones."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np

from mvgauss import _blocks
from mvgauss._blocks import scratch
from mvgauss._checks import Array

#: Triangles of up to this size are inverted elementwise over the stack, larger ones by halves.
_LEAF = 13

#: The least rows of a triangle that are multiplied apart, to leave out the zeros beside them.
_STRIP = 30


@lru_cache
def _places(c: int) -> tuple[Array, Array]:
    """Return where the lower triangle lies in a flat matrix, and each entry in a flat triangle."""
    rows, columns = np.tril_indices(c)
    place = np.empty((c, c), np.intp)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return rows * c + columns, place.ravel()


def pack(s: Array) -> Array:
    """Return the lower triangles, ``(..., C(C+1)/2)``, of symmetric matrices: half the memory."""
    c = s.shape[-1]
    place = _places(c)[0]
    out = scratch("triangle", (*s.shape[:-2], len(place)), s.dtype)
    return s.reshape(*s.shape[:-2], c * c).take(place, axis=-1, out=out, mode="clip")


def unpack(triangle: Array, c: int) -> Array:
    """Return the symmetric matrices, ``(..., C, C)``, of lower triangles."""
    out = scratch("square", (*triangle.shape[:-1], c * c), triangle.dtype)
    triangle.take(_places(c)[1], axis=-1, out=out, mode="clip")
    return out.reshape(*triangle.shape[:-1], c, c)


def cholesky(s: Array) -> Array:
    """Return the Cholesky factors of a block; NaN where a matrix is not positive definite.

    LAPACK's answer for a stack is all or nothing, so a stack that fails is tried in halves.
    """
    try:
        return np.linalg.cholesky(s)
    except np.linalg.LinAlgError:
        h = len(s) // 2
        return np.concatenate([cholesky(s[:h]), cholesky(s[h:])]) if h else np.full(s.shape, np.nan, s.dtype)


def invert_root(s: Array, w: Array) -> None:
    """Write W = L^-1 of covariances S = L L^T ``(B, C, C)``; NaN where one is not positive definite.

    By halves: [[A, 0], [B, C]]^-1 = [[A', 0], [-C' B A', C']] with A' = A^-1, C' = C^-1. All halves
    of one size are one stack, and the smallest are inverted together: a few long steps, since
    between short ones threads wait for each other.
    """
    c = s.shape[-1]
    parts = _blocks.pieces(len(s), 2 * c * c * s.itemsize)  # of S and L, or of L and W
    roots = [_squares(cholesky(s[part])) for part in parts]
    inverses = [_squares(w[part]) for part in parts]
    leaves = scratch("leaves", _squares(w)[-1].shape, s.dtype)
    for part, root in zip(parts, roots, strict=True):
        leaves[part] = root.pop()
    _invert_leaves(leaves)
    for part, root, inverse in zip(parts, roots, inverses, strict=True):
        w[part] = 0
        inverse.pop()[...] = leaves[part]
        while root:
            _join(root.pop(), inverse.pop())


def _squares(a: Array) -> list[Array]:
    """View the squares on the diagonals of ``(B, C, C)``: all, both halves, halves of halves, and so on.

    Halves of an odd size share a row and a column. In an inverse of a triangle they agree there: a
    square on its diagonal is the inverse of that square.
    """
    views = [a]
    size, row, column = a.strides
    stack: tuple[int, ...] = (len(a),)
    strides: tuple[int, ...] = (size,)
    c = a.shape[-1]
    while c > _LEAF:
        h = c - c // 2
        stack, strides, c = (*stack, 2), (*strides, (c - h) * (row + column)), h
        views.append(np.ndarray((*stack, h, h), a.dtype, a, 0, (*strides, row, column)))
    return views


def _join(a: Array, w: Array) -> None:
    """Write -C' B A' between the halves of an inverse; see `invert_root`."""
    h = a.shape[-1] - a.shape[-1] // 2
    below = a[..., h:, :h]
    product = scratch("C' B", below.shape, w.dtype)
    _lower_times(w[..., h:, h:], below, product)
    np.negative(product, out=product)
    _times_lower(product, w[..., :h, :h], w[..., h:, :h])


def _strips(c: int) -> list[tuple[int, int]]:
    """Cut the rows of a triangle so that a product may leave out most of its zeros."""
    count = max(1, min(4, c // _STRIP))
    return list(pairwise(c * i // count for i in range(count + 1)))


def _lower_times(t: Array, a: Array, out: Array) -> None:
    """Write T A for lower triangles T."""
    for i, j in _strips(t.shape[-1]):
        np.matmul(t[..., i:j, :j], a[..., :j, :], out=out[..., i:j, :])


def _times_lower(a: Array, t: Array, out: Array) -> None:
    """Write A T for lower triangles T."""
    for i, j in _strips(t.shape[-1]):
        np.matmul(a[..., :, i:], t[..., i:, i:j], out=out[..., :, i:j])


def _invert_leaves(a: Array) -> None:
    """Replace small triangles by their inverses: elimination in [A | I], elementwise over all."""
    c, n = a.shape[-1], math.prod(a.shape[:-2])
    leaves = a.reshape(n, c, c)
    t = scratch("leaves turned", (c, c, n), a.dtype)
    t[...] = np.moveaxis(leaves, 0, -1)
    g = scratch("inverse leaves", (c, c, n), a.dtype)
    g[...] = np.eye(c)[:, :, None]
    room = scratch("leaf products", (c * c // 4, n), a.dtype)
    for j in range(c):
        row = g[j, : j + 1]
        row /= t[j, j]
        product = room[: (c - j - 1) * (j + 1)].reshape(c - j - 1, j + 1, n)
        np.multiply(t[j + 1 :, j, None], row, out=product)
        below = g[j + 1 :, : j + 1]
        below -= product
    leaves[...] = np.moveaxis(g, -1, 0)
