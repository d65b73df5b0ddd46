"""How strategies draw matrices and samples: a set spectrum between reflections."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st  # type: ignore[import-not-found, unused-ignore]

from mvgauss.testing import _rational
from mvgauss.testing._cases import frozen
from mvgauss.testing._rational import Array, Matrix

Range = tuple[int, int]
Strategy = Any  # SearchStrategy[ndarray]; Any where Hypothesis is not installed


def _draw_covariances(
    draw: Any,
    c: Range,
    rank: int | None,
    deficient: bool,
    condition: float,
    scales: tuple[float, ...],
    stacks: Strategy,
    dtype: np.dtype[Any],
) -> Array:
    """Draw a stack of covariances."""
    stack, size = draw(stacks), draw(st.integers(*c))
    out = np.empty((*stack, size, size), dtype)
    for i in np.ndindex(*stack):
        r = draw(st.integers(0, size)) if deficient else size if rank is None else rank
        values = [Fraction(v) for v in _spectrum(draw, r, condition)] + [Fraction(0)] * (size - r)
        scale = Fraction(draw(st.sampled_from(scales)))
        q = _reflection(draw, size)
        scaled = [[scale * v * a for v, a in zip(values, row, strict=True)] for row in q]
        out[i] = _rational.array(_rational.product(scaled, _rational.transposed(q)), dtype)
    return frozen(out.astype(dtype))


def _draw_observations(
    draw: Any,
    n: Range,
    c: Range,
    condition: float,
    scales: tuple[float, ...],
    offsets: tuple[float, ...],
    stacks: Strategy,
    dtype: np.dtype[Any],
) -> Array:
    """Draw a stack of samples."""
    stack, rows, columns = draw(stacks), draw(st.integers(*n)), draw(st.integers(*c))
    scale, offset = draw(st.sampled_from(scales)), draw(st.sampled_from(offsets))
    out = np.empty((*stack, rows, columns), np.result_type(dtype, np.float64))
    for i in np.ndindex(*stack):
        x = _centred(draw, rows, columns, condition)
        if dtype.kind == "c":
            # another frame for the same spectrum: a unit times real samples would hide a conjugate
            phase = np.array([1, 1j, -1, -1j])[draw(_integers(columns, 0, 3))]
            x = x * phase
        out[i] = scale * (x + offset)
    return frozen(out.astype(dtype))


def _centred(draw: Any, n: int, c: int, condition: float) -> Array:
    """Draw centred samples with a set spectrum."""
    r = min(n - 1, c)
    contrasts = np.zeros((n, r))
    for j in range(r):
        # Helmert: the mean of the first j + 1 against the next
        contrasts[: j + 1, j], contrasts[j + 1, j] = -1, j + 1
        contrasts[:, j] /= np.sqrt((j + 1) * (j + 2))
    v = np.array(draw(_integers(n, -2, 2)), float) * n
    v -= v.sum() / n
    if v.any():
        contrasts -= 2 * np.outer(v, v @ contrasts) / (v @ v)
    roots = np.sqrt(2 * np.array(_spectrum(draw, r, condition)))  # so that the first contrast is -1, 1
    q = np.array(_reflection(draw, c), float).reshape(c, c)
    return np.asarray((contrasts * roots) @ q[:, :r].T)


def _spectrum(draw: Any, count: int, condition: float) -> list[float]:
    """Draw eigenvalues, powers of two from 1 down to 1 / condition."""
    least = int(np.log2(condition))
    return [2.0**-k for k in draw(_integers(count, 0, least))]


def _reflection(draw: Any, c: int) -> Matrix:
    """Draw a reflection I - 2 v v^T / v^T v at a vector of small whole numbers, or the identity."""
    v = [Fraction(k) for k in draw(_integers(c, -3, 3))]
    length = _rational.dot(v, v)
    eye = _rational.identity(c)
    if not length:
        return eye
    return [[eye[i][j] - 2 * v[i] * v[j] / length for j in range(c)] for i in range(c)]


def _integers(count: int, low: int, high: int) -> Strategy:
    """Draw that many whole numbers; they shrink to zeros."""
    return st.lists(st.integers(low, high), min_size=count, max_size=count)


drawn_covariances = st.composite(_draw_covariances)
drawn_observations = st.composite(_draw_observations)
