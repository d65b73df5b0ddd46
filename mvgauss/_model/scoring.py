"""State and embedding -> one number for each patch of each image, or one for each feature too."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._linalg.precision import Precision
from mvgauss._model.embedding import TOO_LARGE, Embedding, OutOfRangeError
from mvgauss._model.fitting import Walk, covariance_of
from mvgauss._model.state import State
from mvgauss._runtime import blocks
from mvgauss._stats import distributions
from mvgauss._stats.distance import of_deviations
from mvgauss._stats.moments import sharing_cache_lines

#: One thread reads so many bytes in less time than a second thread takes to start.
_ONE_THREAD_BYTES = 8 * blocks.BLOCK_BYTES

#: A kernel makes scores ``(B, M)``, or ``(B, M, C)`` of features, of a slice of patches, their precision and
#: deviations ``(B, M, C)``.
Kernel = Callable[[slice, Precision, Array], Array]


def distances(_: slice, precision: Precision, z: Array) -> Array:
    """Return distances of deviations: a kernel."""
    return np.sqrt(precision.squared_norms(z))


def mahalanobis(state: State, x: Embedding, walk: Walk, *, squared: bool = False) -> Array:
    """Return distances ``(M, *grid)``, or their squares."""
    kernel = (lambda _, precision, z: precision.squared_norms(z)) if squared else distances
    return score(kernel, state, x, walk)


def log_density(state: State, x: Embedding, walk: Walk) -> Array:
    """Return log densities ``(M, *grid)``, -inf off the support of a singular covariance."""

    def kernel(b: slice, precision: Precision, z: Array) -> Array:
        d = precision.squared_norms(z)
        result = distributions.log_density(d, precision.rank[:, None], precision.log_pdet[:, None])
        singular = np.flatnonzero(precision.rank < state.n_features)
        off = _off_support(precision[singular], z[singular], state.mean[b][singular], state)
        result[singular] = np.where(off, -np.inf, result[singular])
        return result

    return score(kernel, state, x, walk)


def contributions(state: State, x: Embedding, walk: Walk) -> Array:
    """Return the parts of squared distances that features add, in the layout of the embedding."""
    z_solved = _scores(lambda _, precision, z: z * precision.solve(z), state, x, walk)
    return x.unstacked(z_solved.reshape(*x.grid, x.n_samples, x.n_features))


def score(kernel: Kernel, state: State, x: Embedding, walk: Walk) -> Array:
    """Return the scores of a kernel, ``(M, *grid)``."""
    return x.pictures(_scores(kernel, state, x, walk))


def _scores(kernel: Kernel, state: State, x: Embedding, walk: Walk) -> Array:
    """Return what a kernel makes of all samples, ``(P, M)`` or ``(P, M, C)``."""
    result = None
    for part, stack in x.parts():
        scores = score_stack(kernel, state, stack, x, part, walk)
        if scores.shape[1] == x.n_samples:
            return scores
        if result is None:
            result = np.empty((len(scores), x.n_samples, *scores.shape[2:]), scores.dtype)
        result[:, part] = scores
    assert result is not None
    return result


def score_stack(kernel: Kernel, state: State, stack: Array, x: Embedding, part: slice, walk: Walk) -> Array:
    """Return the scores of a part of an embedding, a stack ``(*grid, M, C)``: ``(P, M)`` or ``(P, M, C)``."""
    precision = state.required_precision()
    m, c = stack.shape[-2:]
    samples = blocks.flat(stack, 2, x.grid)

    def of_block(b: slice) -> Array:
        factor = precision[b]
        result = of_deviations(
            lambda z: kernel(b, factor, z).astype(state.dtype, copy=False), samples[b], state.mean[b]
        )
        if not (np.isfinite(result) | np.isneginf(result)).all():  # a log density may be -inf
            raise OutOfRangeError(TOO_LARGE)
        return result

    item_bytes = (2 * m * c + precision.numbers_per_distance) * 8
    if walk.n_jobs is None and x.n_patches * item_bytes <= _ONE_THREAD_BYTES:
        walk = walk._replace(n_jobs=1)
    try:
        return walk(of_block, x.n_patches, item_bytes, sharing_cache_lines(c, c))
    except OutOfRangeError:
        x.raise_if_not_finite(part, stack)
        raise


def mean(state: State) -> Array:
    """Return the means, ``(C, P)``."""
    return np.array(state.mean.T, state.dtype, order="C")


def covariance(state: State, walk: Walk) -> Array:
    """Return the regularised covariances, ``(P, C, C)``: of the moments, where there are any."""
    moments = state.moments
    if moments is None:
        precision = state.required_precision()
        return _matrices(lambda b: precision[b].covariance(), state, walk)
    state.raise_if_too_few("the fitted embedding")
    return _matrices(lambda b: covariance_of(moments[b], state), state, walk)


def inverse(state: State, walk: Walk) -> Array:
    """Return the inverse covariances, ``(P, C, C)``."""
    precision = state.required_precision()
    return _matrices(lambda b: precision[b].inverse(), state, walk)


def diagnostics(state: State, walk: Walk) -> dict[str, Array]:
    """Return maps of the fit of each patch, by name."""
    precision, p = state.required_precision(), state.n_patches
    w, v = state.sum_weights, state.sum_squared_sample_weights
    assert state.intensity is not None
    maps = {
        "rank": precision.rank.copy(),
        "condition": walk(lambda b: precision[b].condition(), p, state.n_features**2 * 8),
        "effective_samples": np.full(p, w * w / v if v else 0.0),
        "shrinkage": state.intensity.copy(),
    }
    return {name: values.reshape(state.shape) for name, values in maps.items()}


def _matrices(of_block: Callable[[slice], Array], state: State, walk: Walk) -> Array:
    """Return one matrix for each patch, ``(P, C, C)``, in the dtype of the model."""

    def kernel(b: slice) -> Array:
        block = of_block(b)
        _arguments.representable(np.diagonal(block, axis1=1, axis2=2).max(axis=1), state.dtype)
        return block.astype(state.dtype, copy=False)

    return walk(kernel, state.n_patches, state.n_features**2 * 8)


def _off_support(precision: Precision, z: Array, mean: Array, state: State) -> Array:
    """Return which deviations ``(B, M, C)`` leave the support of singular covariances.

    The part outside may be rounding: of the decision, whose cut-off C eps is one of variances, or of samples.
    """
    if not len(z):
        return np.zeros(z.shape[:-1], bool)
    c = z.shape[-1]
    axes, largest = precision.principal_axes()
    axes = axes * (np.arange(axes.shape[1]) < precision.rank[:, None])[:, :, None]
    outside = z - np.matmul(np.matmul(z, axes.swapaxes(1, 2)), axes)
    size = np.linalg.norm(z, axis=2)
    eps = float(np.finfo(state.dtype).eps)
    cut_off = math.sqrt(c * eps) * np.maximum(size, largest[:, None])
    spread = 4 * math.sqrt(1 + c / max(1, state.n_samples))
    rounding = spread * state.resolution * (size + np.linalg.norm(mean, axis=1)[:, None])
    return np.asarray(np.linalg.norm(outside, axis=2) > np.maximum(cut_off, rounding))
