"""Hypothesis strategies for samples, weights, covariances and embeddings of bounded condition.

They never flicker: nothing is drawn from a seed or a clock, every array is made of small whole
numbers that shrink one by one, and spectra are set, not hoped for. Use `steady` for the settings: no
deadline (a first call imports and compiles), no database, the same examples in every run.

Arrays are read-only: an implementation that writes to its input raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import (  # type: ignore[import-not-found, unused-ignore]
    HealthCheck,
    settings,
)
from hypothesis import strategies as st  # type: ignore[import-not-found, unused-ignore]
from numpy.typing import DTypeLike

from mvgauss.testing._cases import frozen
from mvgauss.testing._draws import Range, Strategy, drawn_covariances, drawn_observations
from mvgauss.testing._rational import Array

__all__ = ["covariances", "embeddings", "observations", "stack_shapes", "steady", "weights"]

#: Settings under which a test gives the same verdict every time, on any machine.
steady = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def stack_shapes(max_dims: int = 2, max_side: int = 3) -> Strategy:
    """Draw the shapes of stacks, from ``()`` on.

    Parameters
    ----------
    max_dims : int, default 2
        Most axes.
    max_side : int, default 3
        Longest axis; the shortest is 1.

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
    condition: float = 2.0**10,
    scales: Sequence[float] = (1.0,),
    stacks: Strategy | None = None,
    dtype: DTypeLike = np.float64,
) -> Strategy:
    r"""Draw symmetric positive semi-definite matrices of known rank and bounded condition.

    Parameters
    ----------
    c : tuple of int, default (1, 5)
        Fewest and most features.
    rank : int, optional
        Rank, at most the least of `c`. By default full.
    deficient : bool, default False
        Whether to draw any rank from 0 to C instead.
    condition : float, default 1024
        Largest ratio of two non-zero eigenvalues.
    scales : sequence of float, default (1.0,)
        Largest eigenvalues to draw from.
    stacks : SearchStrategy, optional
        Of shapes, as `stack_shapes`. By default there is no stack.
    dtype : dtype, default float64
        Of the matrices.

    Returns
    -------
    SearchStrategy of ndarray, shape (..., C, C)
        They shrink to diagonal matrices of ones.

    Notes
    -----
    :math:`S = Q \Lambda Q^T` with a rational reflection Q, in exact arithmetic, each entry rounded
    once. So S is symmetric to the last bit and off by at most :math:`\sqrt{C}\, u` of its norm: an
    eigenvalue of zero stays below the cut-off :math:`C \epsilon` with room for the rounding errors of
    an eigenvalue solver.
    """
    stacks = st.just(()) if stacks is None else stacks
    return drawn_covariances(c, rank, deficient, condition, tuple(scales), stacks, np.dtype(dtype))


def observations(
    n: Range = (2, 8),
    c: Range = (1, 4),
    *,
    condition: float = 2.0**10,
    scales: Sequence[float] = (1.0, 2.0**-20, 2.0**20),
    offsets: Sequence[float] = (0.0, 1.0, -1000.0),
    stacks: Strategy | None = None,
    dtype: DTypeLike = np.float64,
) -> Strategy:
    r"""Draw samples whose covariance has a bounded condition.

    Parameters
    ----------
    n, c : tuple of int
        Fewest and most samples, fewest and most features.
    condition : float, default 1024
        Largest ratio of two non-zero eigenvalues of the covariance of each item of the stack. There
        are min(N - 1, C) of them.
    scales, offsets : sequence of float
        Units and means to draw from; an offset is in units.
    stacks : SearchStrategy, optional
        Of shapes, as `stack_shapes`. By default there is no stack.
    dtype : dtype, default float64
        Of the samples, real or complex. Rounding to it is relative to the offset.

    Returns
    -------
    SearchStrategy of ndarray, shape (..., N, C)
        They shrink to few samples of one feature around zero.

    Notes
    -----
    :math:`X = U \Lambda^{1/2} Q^T` with orthonormal centred columns U (Helmert's contrasts, reflected at
    a vector orthogonal to the ones) and a reflection Q, times a scale, plus an offset.
    """
    stacks = st.just(()) if stacks is None else stacks
    return drawn_observations(n, c, condition, tuple(scales), tuple(offsets), stacks, np.dtype(dtype))


def embeddings(
    n: Range = (2, 6),
    c: Range = (1, 3),
    *,
    max_side: int = 3,
    condition: float = 2.0**10,
    dtype: DTypeLike = np.float64,
) -> Strategy:
    """Draw embeddings of images: a grid of samples, features second.

    Parameters
    ----------
    n, c : tuple of int
        Fewest and most images, fewest and most features.
    max_side : int, default 3
        Longest side of the grid.
    condition : float, default 1024
        Of the covariance of each patch, as in `observations`.
    dtype : dtype, default float64
        Of the embedding.

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
    n : int
        Number of samples.
    kinds : str, default "fa"
        Which: ``"f"`` for `fweights`, ``"a"`` for `aweights`, or both.
    stack : tuple of int, optional
        The stack of which each item has weights of its own.
    zeros : bool, default True
        Whether weights may be zero; the first of each item never is.

    Returns
    -------
    SearchStrategy of dict
        Of ``fweights`` (whole numbers up to 4) and ``aweights`` (quarters up to 4). They shrink to
        ones.
    """
    count = int(np.prod(stack, dtype=int)) * n
    shape = (*stack, n)
    given = {}
    if "f" in kinds:
        given["fweights"] = _lists(count, 4, zeros).map(lambda v: _weights(v, shape, np.dtype(np.int64)))
    if "a" in kinds:
        quarters = _lists(count, 16, zeros)
        given["aweights"] = quarters.map(lambda v: _weights(v, shape, np.dtype(np.float64)))
    return st.fixed_dictionaries(given)


def _lists(count: int, most: int, zeros: bool) -> Strategy:
    """Draw whole weights that shrink to one: 1, 2, ..., most, and 0 as the last resort."""
    numbers = [*range(1, most + 1), *([0] if zeros else [])]
    return st.lists(st.sampled_from(numbers), min_size=count, max_size=count)


def _weights(values: list[int], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return whole numbers as fweights, or as aweights in quarters."""
    w = np.array(values, dtype).reshape(shape)
    w[..., 0] = np.maximum(w[..., 0], 1)
    return frozen(w / 4 if dtype.kind == "f" and w.max(initial=0) > 1 else w)
