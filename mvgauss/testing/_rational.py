"""Exact arithmetic: floats become fractions, matrices are lists of rows, and one rounding ends it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Vector = list[Fraction]
Matrix = list[Vector]

#: Bits to which a square root is taken before it is rounded: more than any of NumPy's formats has.
_ROOT_BITS = 130


def vector(values: Array) -> Vector:
    """Return the numbers of a vector as they are, exactly."""
    return [Fraction(*v.as_integer_ratio()) for v in values.tolist()]


def matrix(values: Array) -> Matrix:
    """Return the rows of a matrix as they are, exactly."""
    return [vector(row) for row in values]


def transposed(a: Matrix) -> Matrix:
    """Return the transpose of a matrix that has rows."""
    return [list(column) for column in zip(*a, strict=True)]


def dot(x: Sequence[Fraction], y: Sequence[Fraction]) -> Fraction:
    """Return the inner product."""
    return sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0))


def scaled(w: Sequence[Fraction], x: Sequence[Fraction]) -> Vector:
    """Return the products of the entries."""
    return [a * b for a, b in zip(w, x, strict=True)]


def product(a: Matrix, b: Matrix) -> Matrix:
    """Return the matrix product."""
    return [[dot(row, column) for column in zip(*b, strict=True)] for row in a]


def identity(n: int) -> Matrix:
    """Return the identity matrix."""
    return [[Fraction(i == j) for j in range(n)] for i in range(n)]


def reduced(a: Matrix) -> tuple[Matrix, list[int], Fraction]:
    """Return the rows of the reduced echelon form, the columns of their pivots, and the product of these."""
    rows: Matrix = [list(row) for row in a]
    pivots: list[int] = []
    value = Fraction(1)
    for j in range(len(a[0]) if a else 0):
        r = len(pivots)
        found = next((i for i in range(r, len(rows)) if rows[i][j]), None)
        if found is None:
            continue
        rows[r], rows[found] = rows[found], rows[r]
        value *= rows[r][j]
        rows[r] = [v / rows[r][j] for v in rows[r]]
        for i in range(len(rows)):
            if i != r and rows[i][j]:
                rows[i] = [v - rows[i][j] * p for v, p in zip(rows[i], rows[r], strict=True)]
        pivots.append(j)
    return rows[: len(pivots)], pivots, value


def inverse(a: Matrix) -> Matrix:
    """Return the inverse of a regular matrix, by Gauss-Jordan elimination of ``[A | I]``."""
    n = len(a)
    rows, _, _ = reduced([row + unit for row, unit in zip(a, identity(n), strict=True)])
    return [row[n:] for row in rows]


def pseudo_inverse(a: Matrix) -> Matrix:
    r"""Return the Moore-Penrose inverse of any matrix.

    From a full-rank factorisation :math:`A = F G`, with the pivot columns F and the echelon rows G:
    :math:`A^+ = G^T (G G^T)^{-1} (F^T F)^{-1} F^T`.
    """
    g, pivots, _ = reduced(a)
    if not pivots:
        return [[Fraction(0)] * len(a) for _ in a[0]] if a else []
    f = [[row[j] for j in pivots] for row in a]
    gt, ft = transposed(g), transposed(f)
    return product(product(gt, inverse(product(g, gt))), product(inverse(product(ft, f)), ft))


def root(q: Fraction) -> Fraction:
    """Return a fraction that rounds to each of NumPy's formats as the square root of `q` does.

    The root is cut off after more bits than any format has; one more bit says whether it goes on,
    so that no tie is mistaken.
    """
    shift = max(0, _ROOT_BITS - (_exponent(q) // 2 if q else 0))
    scaled = q * 4**shift
    whole = math.isqrt(math.floor(scaled))
    return Fraction(2 * whole + (whole * whole != scaled), 2 << shift)


def rounded(q: Fraction, dtype: np.dtype[Any]) -> Any:
    """Return the number of a real floating dtype that is nearest, the even one of two."""
    info = np.finfo(dtype)
    if q == 0:
        return dtype.type(0)
    last = max(_exponent(q), int(info.minexp)) - int(info.nmant)
    with np.errstate(over="ignore"):
        return np.ldexp(dtype.type(round(q / Fraction(2) ** last)), last)


def _exponent(q: Fraction) -> int:
    """Return the largest e with 2^e <= abs(q)."""
    e = q.numerator.bit_length() - q.denominator.bit_length()
    return e - (Fraction(2) ** e > abs(q))


def array(rows: Any, dtype: np.dtype[Any]) -> Array:
    """Return nested lists of fractions as an array, each number rounded once."""
    flat = np.array(rows, dtype=object)
    out = np.empty(flat.shape, dtype)
    for index in np.ndindex(flat.shape):
        out[index] = rounded(flat.item(*index), dtype)
    return out
