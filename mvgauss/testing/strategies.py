"""Hypothesis strategies for samples, weights, covariances and embeddings of bounded condition.

Nothing is drawn from a seed or a clock, every array is made of small whole numbers that shrink one by
one, and arrays are read-only: an implementation that writes to its input raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings  # type: ignore[import-not-found, unused-ignore]
from hypothesis import strategies as st  # type: ignore[import-not-found, unused-ignore]
from numpy.typing import DTypeLike

from mvgauss.testing import _rational
from mvgauss.testing._cases import Array, frozen

__all__ = ["covariances", "embeddings", "observations", "stack_shapes", "steady", "weights"]

Range = tuple[int, int]
Strategy = Any  # SearchStrategy[ndarray]; Any where Hypothesis is not installed

ONE = st.just(())  #: no stack

#: Settings under which a test gives the same verdict every time, on any machine.
steady = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def stack_shapes(max_dims: int = 2, max_side: int = 3) -> Strategy:
    """Draw the shapes of stacks, from ``()`` on.

    Parameters
    ----------
    max_dims, max_side : int
        Most axes, and the longest.

    Returns
    -------
    SearchStrategy of tuple of int
        They shrink to fewer and shorter axes.
    """
    return st.lists(st.integers(1, max_side), max_size=max_dims).map(tuple)


def covariances(
    c: Range = (1, 5),
    *,
    rank: int | None = None,
    deficient: bool = False,
    condition: float = 1024.0,
    scales: Sequence[float] = (1.0,),
    stacks: Strategy = ONE,
    dtype: DTypeLike = np.float64,
) -> Strategy:
    r"""Draw symmetric positive semi-definite matrices of known rank and bounded condition.

    Parameters
    ----------
    c, rank, deficient : tuple of int, int, bool
        Fewest and most features; their rank, by default full; or whether to draw any rank.
    condition, scales : float, sequence of float
        Largest ratio of two non-zero eigenvalues, and largest eigenvalues to draw from.
    stacks, dtype : SearchStrategy, dtype
        Of shapes, as `stack_shapes`, by default none; dtype of the matrices.

    Returns
    -------
    SearchStrategy of ndarray, shape (..., C, C)
        They shrink to diagonal matrices of ones.

    Notes
    -----
    :math:`S = Q \Lambda Q^T` with a rational reflection Q, each entry rounded once. So S is symmetric to
    the last bit, and an eigenvalue of zero stays well below the cut-off :math:`C \epsilon`.
    """

    def drawn(draw: Any) -> Array:
        stack, size = draw(stacks), draw(st.integers(*c))
        out = np.empty((*stack, size, size), dtype)
        for i in np.ndindex(*stack):
            r = draw(st.integers(0, size)) if deficient else size if rank is None else rank
            out[i] = _covariance(draw, size, r, condition, draw(st.sampled_from(scales)), out.dtype)
        return frozen(out)

    return st.composite(drawn)()


def observations(
    n: Range = (2, 8),
    c: Range = (1, 4),
    *,
    condition: float = 1024.0,
    scales: Sequence[float] = (1.0, 2.0**-20, 2.0**20),
    offsets: Sequence[float] = (0.0, 1.0, -1000.0),
    stacks: Strategy = ONE,
    dtype: DTypeLike = np.float64,
) -> Strategy:
    """Draw samples whose covariance has a bounded condition.

    Parameters
    ----------
    n, c : tuple of int
        Fewest and most samples, fewest and most features.
    condition, scales, offsets : float, sequence of float, sequence of float
        Largest ratio of two non-zero eigenvalues of each covariance; units, and means in units.
    stacks, dtype : SearchStrategy, dtype
        Of shapes, as `stack_shapes`, by default none; dtype of the samples, real or complex.

    Returns
    -------
    SearchStrategy of ndarray, shape (..., N, C)
        They shrink to few samples of one feature around zero.
    """
    kind = np.dtype(dtype)

    def drawn(draw: Any) -> Array:
        shape = *draw(stacks), draw(st.integers(*n)), draw(st.integers(*c))
        scale, offset = draw(st.sampled_from(scales)), draw(st.sampled_from(offsets))
        out = np.empty(shape, np.result_type(kind, np.float64))
        for i in np.ndindex(shape[:-2]):
            out[i] = scale * (_samples(draw, shape[-2], shape[-1], condition, kind.kind == "c") + offset)
        return frozen(out.astype(kind))

    return st.composite(drawn)()


def embeddings(
    n: Range = (2, 6),
    c: Range = (1, 3),
    *,
    max_side: int = 3,
    condition: float = 1024,
    dtype: DTypeLike = float,
) -> Strategy:
    """Draw embeddings of images: a grid of samples, features second.

    Parameters
    ----------
    n, c, max_side : tuple of int, tuple of int, int
        Fewest and most images, fewest and most features, longest side of the grid.
    condition, dtype : float, dtype
        As in `observations`, for each patch.

    Returns
    -------
    SearchStrategy of ndarray, shape (N, C, H, W)
        They shrink to two images of one patch of one feature.
    """
    grids = st.tuples(st.integers(1, max_side), st.integers(1, max_side))
    samples = observations(n, c, condition=condition, scales=(1.0,), stacks=grids, dtype=dtype)
    return samples.map(lambda x: frozen(np.ascontiguousarray(np.moveaxis(x, (0, 1), (2, 3)))))


def weights(n: int, kinds: str = "fa", *, stack: tuple[int, ...] = (), zeros: bool = True) -> Strategy:
    """Draw weights as arguments of a covariance.

    Parameters
    ----------
    n, kinds, stack : int, str, tuple of int
        Number of samples; ``"f"`` for `fweights`, ``"a"`` for `aweights`, or both; and the stack of which
        each item has weights of its own.
    zeros : bool, default True
        Whether weights may be zero; the first of each item never is.

    Returns
    -------
    SearchStrategy of dict
        Of ``fweights`` (whole numbers up to 4) and ``aweights`` (quarters up to 4). They shrink to
        ones.
    """

    def made(values: list[int], kind: Any) -> Array:
        w: Array = np.array(values, kind).reshape(*stack, n)
        w[..., 0] = np.maximum(w[..., 0], 1)
        return frozen(w / 4 if w.dtype.kind == "f" and w.max(initial=0) > 1 else w)

    def drawn(most: int, kind: Any) -> Strategy:
        # they shrink to one: 1, 2, ..., most, and 0 as the last resort
        numbers, size = [*range(1, most + 1), *([0] if zeros else [])], int(np.prod(stack, dtype=int)) * n
        return st.lists(st.sampled_from(numbers), min_size=size, max_size=size).map(lambda v: made(v, kind))

    known = {"fweights": drawn(4, np.int64), "aweights": drawn(16, np.float64)}
    return st.fixed_dictionaries({name: known[name] for name in known if name[0] in kinds})


def _covariance(draw: Any, c: int, rank: int, condition: float, scale: float, dtype: np.dtype[Any]) -> Array:
    """Draw a covariance of a rank."""
    values = [Fraction(v) for v in _spectrum(draw, rank, condition)] + [Fraction(0)] * (c - rank)
    q = _reflection(draw, c)
    scaled = [[Fraction(scale) * v * a for v, a in zip(values, row, strict=True)] for row in q]
    return _rational.array(_rational.product(scaled, _rational.transposed(q)), dtype)


def _samples(draw: Any, n: int, c: int, condition: float, imaginary: bool) -> Array:
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
    x = (contrasts * roots) @ np.array(_reflection(draw, c), float).reshape(c, c)[:, :r].T
    # another frame for the same spectrum: a unit times real samples would hide a conjugate
    return np.asarray(x * np.array([1, 1j, -1, -1j])[draw(_integers(c, 0, 3))] if imaginary else x)


def _spectrum(draw: Any, count: int, condition: float) -> list[float]:
    """Draw eigenvalues, powers of two from 1 down to 1 / condition."""
    return [2.0**-k for k in draw(_integers(count, 0, int(np.log2(condition))))]


def _reflection(draw: Any, c: int) -> _rational.Matrix:
    """Draw a reflection I - 2 v v^T / v^T v at a vector of small whole numbers, or the identity."""
    v = [Fraction(k) for k in draw(_integers(c, -3, 3))]
    length = _rational.dot(v, v) or Fraction(1)
    eye = _rational.identity(c)
    return [[eye[i][j] - 2 * v[i] * v[j] / length for j in range(c)] for i in range(c)]


def _integers(count: int, low: int, high: int) -> Any:
    """Draw that many whole numbers; they shrink to zeros."""
    return st.lists(st.integers(low, high), min_size=count, max_size=count)
