"""Embedding -> State: moments of the grid, merged with those before, then their precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._linalg.precision import Dense, Precision
from mvgauss._linalg.whitening import root_of_inverse
from mvgauss._model.embedding import TOO_LARGE, Embedding, OutOfRangeError
from mvgauss._model.state import State
from mvgauss._runtime import blocks
from mvgauss._stats.distance import raise_if_negative, symmetric
from mvgauss._stats.moments import Moments, fits_in_rows, sharing_cache_lines
from mvgauss._stats.shrinkage import Regularisation, estimate

R = TypeVar("R")

#: Below, the squares of deviations lose digits to the end of the range.
_SMALLEST_TRACE = 1e-290


class Walk(NamedTuple):
    """How blocks of patches are walked: the threads, and the text of a progress bar."""

    n_jobs: int | None = None
    progress: str | None = None

    def __call__(self, kernel: Callable[[slice], R], length: int, item_bytes: int, least: int = 1) -> R:
        """Return what a kernel returns of each block, put together, see `blocks.walk`."""
        return blocks.walk(kernel, length, item_bytes, least=least, **self._asdict())


def fit(x: Embedding, weights: Array | None, state: State, *, with_precision: bool, walk: Walk) -> State:
    """Fit an embedding, part by part, besides the samples of a state."""
    for part, stack in x.parts(merged=True):
        w = None if weights is None else weights[part]
        whole = stack.shape[-2] == x.n_samples
        try:
            state = fit_stack(stack, w, state, with_precision=with_precision and whole, walk=walk)
        except OutOfRangeError:
            x.raise_if_not_finite(part, stack)
            raise
    return state


def fit_stack(x: Array, weights: Array | None, state: State, *, with_precision: bool, walk: Walk) -> State:
    """Fit samples ``(*grid, N, C)``; if asked for, a block is factored while its moments are in the cache."""
    *grid, n, c = x.shape
    if weights is not None and (weights == 1).all():
        weights = None
    w = np.ones(n) if weights is None else weights
    earlier, fourth = state.moments, state.regularisation.needs_fourth
    state = replace(
        state,
        resolution=max(state.resolution, _arguments.epsilon(x.dtype)),
        n_samples=state.n_samples + n,
        sum_weights=state.sum_weights + float(w.sum()),
        sum_squared_sample_weights=state.sum_squared_sample_weights + float((w * w).sum()),
    )
    if with_precision:
        state.raise_if_too_few("embedding")
    samples = blocks.flat(x, 2, tuple(grid))

    def kernel(b: slice) -> tuple[Moments, tuple[Precision, Array] | None]:
        block = samples[b]
        shared = None if weights is None else np.broadcast_to(weights, block.shape[:2])
        # weights count samples, as fweights do: w a = w
        moments = Moments.of_block(block, shared, shared, in_rows=True, fourth=fourth)
        trace = _trace_in_range(moments)
        _raise_if_too_close(block if weights is None else block[:, weights > 0], trace, fourth)
        if earlier is not None:
            moments = earlier[b].merge(moments)
            trace = _trace_in_range(moments)
        moments = _rounded(moments, trace, state)
        return moments.packed(), _factored(moments, trace, state) if with_precision else None

    item_bytes, least = max(n, c) * c * 8, sharing_cache_lines(c, c)
    if fits_in_rows(n, c):  # so little work for each number that is read that cache lines matter more
        item_bytes = n * c * 8
        least = max(least, min(8, 8 * blocks.BLOCK_BYTES // item_bytes))
    moments, factored = walk(kernel, math.prod(grid), item_bytes, least)
    return state.with_moments(moments, factored)


def merge(one: State, other: State, walk: Walk) -> State:
    """Return the state of both samples."""
    mine, theirs = one.required_moments(), other.required_moments()

    def kernel(b: slice) -> Moments:
        moments = mine[b].merge(theirs[b])
        return _rounded(moments, _trace_in_range(moments), one).packed()

    moments = walk(kernel, one.n_patches, one.n_features**2 * 8)
    return replace(
        one.with_moments(moments),
        resolution=max(one.resolution, other.resolution),
        n_samples=one.n_samples + other.n_samples,
        sum_weights=one.sum_weights + other.sum_weights,
        sum_squared_sample_weights=one.sum_squared_sample_weights + other.sum_squared_sample_weights,
    )


def adopted(other: State, regularisation: Regularisation, dtype: np.dtype[Any]) -> State:
    """Return the moments of another model as a state of this dtype and regularisation."""
    state = other.with_regularisation(regularisation)
    moments = state.required_moments().rounded(dtype)
    return replace(state.with_moments(moments), dtype=dtype, limit=None)


def with_precision(state: State, walk: Walk) -> State:
    """Return the same state with its precision."""
    moments = state.required_moments()
    state.raise_if_too_few("the fitted embedding")

    def kernel(b: slice) -> tuple[Precision, Array]:
        return _factored(moments[b], moments[b].trace(), state)

    return state.with_moments(moments, walk(kernel, state.n_patches, state.n_features**2 * 8))


def _factored(moments: Moments, trace: Array, state: State) -> tuple[Precision, Array]:
    """Return the same as `precision_of`, but for the rows: a walk would copy those of the moments."""
    precision, intensity = precision_of(moments, trace, state)
    return precision.without_rows(), intensity


def precision_of(moments: Moments, trace: Array, state: State) -> tuple[Precision, Array]:
    """Factor the regularised covariances of moments with this trace; return the intensities too."""
    noise = _noise(moments, state)
    scale, floor, intensity = estimate(moments, state.regularisation, noise)
    size = np.sqrt(scale * trace + (0 if floor is None else floor))
    _arguments.representable(size, state.dtype)
    return moments.precision(scale, floor, noise, state.dtype), intensity


def covariance_of(moments: Moments, state: State) -> Array:
    """Return the regularised covariances of a block, ``(B, C, C)``."""
    scale, floor, _ = estimate(moments, state.regularisation, _noise(moments, state))
    return moments.covariance(scale, np.zeros(len(scale)) if floor is None else floor)


def _noise(moments: Moments, state: State) -> Array | None:
    """Return the variance that rounding may have put into each feature; None where a ridge alone decides."""
    regularisation = state.regularisation
    decides = regularisation.reg_covar and not regularisation.shrinkage
    return None if decides else moments.noise(state.resolution)


def identity(c: int, p: int, dtype: np.dtype[Any]) -> State:
    """Return P Gaussians of C features, of mean zero and identity covariance."""
    eye = np.broadcast_to(np.eye(c, dtype=dtype), (p, c, c))
    precision = Dense(np.full(p, c, np.int64), np.zeros(p), eye)
    return State(None, dtype, np.zeros((p, c)), precision=precision, intensity=np.zeros(p))


def from_inverse(mean: Array, inverse: Array, rank: Array | None, dtype: np.dtype[Any]) -> State:
    """Return Gaussians of given means ``(P, C)`` and inverse covariances ``(P, C, C)``."""
    p, c = mean.shape
    eps = _arguments.epsilon(inverse.dtype)

    def kernel(b: slice) -> Precision:
        matrices = symmetric("inv_covariance", inverse[b], eps)
        w = root_of_inverse(matrices, None if rank is None else rank[b])
        raise_if_negative("inv_covariance", w.lowest, eps)
        return Dense.of(w, dtype)

    precision = blocks.walk(kernel, p, 4 * c * c * 8, stack=(p,))
    double = np.array(mean, np.float64, order="C")
    return State(None, dtype, double, precision=precision, intensity=np.zeros(p))


def _rounded(moments: Moments, trace: Array, state: State) -> Moments:
    """Return moments as a model stores them; without a ridge, refuse what its dtype has no digits for."""
    if not state.regularisation.reg_covar:
        weights = np.where(moments.sum_weights > 0, moments.sum_weights, 1)
        _arguments.representable(np.sqrt(trace / weights), state.dtype)
    return moments.rounded(state.dtype)


def _trace_in_range(moments: Moments) -> Array:
    """Return the trace of M; refuse moments of samples that are not finite, or too large to square."""
    trace = moments.trace()
    numbers = (trace, moments.mean) if moments.fourth is None else (trace, moments.mean, moments.fourth)
    if not all(np.isfinite(a).all() for a in numbers):
        raise OutOfRangeError(TOO_LARGE)
    return trace


def _raise_if_too_close(x: Array, trace: Array, fourth: bool) -> None:
    """Refuse samples ``(B, N, C)`` that differ by so little that the squares leave the range."""
    smallest = _SMALLEST_TRACE**0.5 if fourth else _SMALLEST_TRACE
    small = np.flatnonzero(trace < smallest)
    if (x[small] != x[small][:, :1]).any():
        wanted = "differences whose squares float64 can hold"
        _arguments.raise_error("embedding", wanted, "smaller ones", OutOfRangeError)
