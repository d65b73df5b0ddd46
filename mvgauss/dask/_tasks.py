"""What the workers do: moments of a chunk, merged; factors made of them; scores.

A task works alone: it starts no thread, and BLAS is held to one, as the threads are the workers' own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from dask.sizeof import sizeof

from mvgauss import _blas, _checks, _factor, _fitting, _state
from mvgauss._checks import Array
from mvgauss._embedding import Embedding
from mvgauss._fitted import Fitted, OutOfRangeError, TooSmallError, Walk
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss._shrinkage import Regularisation

ALONE = Walk(n_jobs=1)

Place = tuple[slice, ...]  #: where a chunk lies in the whole array

# what a worker holds and sends, by which Dask places, spills and counts it
sizeof.register(Fitted, lambda fitted: fitted.nbytes)
sizeof.register(MultiVariateGaussian, lambda model: model._fitted.nbytes if model._fitted else 0)


def single(block: Any) -> Any:
    """Return the one block of an axis that has no other, which Dask gives as a list."""
    while isinstance(block, list):
        block = block[0]
    return block


def chunk(x: Any, place: Place, axis: int, dtype: np.dtype[Any]) -> tuple[Embedding, list[int]]:
    """Return a chunk as an embedding, and where it begins; it has to be what the Dask array says it is."""
    shape = tuple(s.stop - s.start for s in place)
    got = np.shape(x), getattr(x, "dtype", type(x).__name__)
    if got != (shape, dtype):
        where = ", ".join(f"{s.start}:{s.stop}" for s in place)
        _checks.refuse(
            "embedding",
            f"a chunk [{where}] of shape {shape} and dtype {dtype}, as the Dask array declares",
            f"one of shape {got[0]} and dtype {got[1]}",
        )
    return Embedding(x, axis), [s.start for s in place]


@_blas.one_thread()
def moments(
    x: Any,
    place: Place,
    weights: Any,
    *,
    axis: int,
    declared: np.dtype[Any],
    kept: np.dtype[Any],
    how: Regularisation,
) -> Fitted:
    """Return the moments of one chunk."""
    seen, origin = chunk(x, place, axis, declared)
    w = None
    if weights is not None:
        w = _checks.array("sample_weight", weights)
        _checks.finite("sample_weight", w, origin[0])
        # here it is no mistake if no sample of a chunk has any weight
        w = _checks.weights("sample_weight", w, (), seen.n_samples, some=False)
    try:
        return _fitting.fit(seen.stack(seen.value), w, dtype=kept, how=how, walk=ALONE)
    except OutOfRangeError as error:
        _checks.finite("embedding", seen.value, *origin)
        small = isinstance(error, TooSmallError)
        seen.refuse_not_finite(slice(0, None), np.dtype(float), small=small)


def leaf(state: Fitted, axis: object, keepdims: bool) -> Fitted:
    """Return a leaf of the tree."""
    return state


@_blas.one_thread()
def merged(states: Fitted | list[Fitted], axis: object, keepdims: bool) -> Fitted:
    """Return the moments of all samples of some."""
    try:
        return reduce(
            lambda a, b: _fitting.merge(a, b, ALONE), states if isinstance(states, list) else [states]
        )
    except OutOfRangeError:
        _checks.refuse("embedding", "numbers whose squares float64 can hold", "larger ones")


@_blas.one_thread()
def made(state: Any) -> Fitted:
    """Return the Gaussians of moments."""
    fitted: Fitted = single(state)
    return fitted.without_moments(ALONE)


def array_of(fitted: Fitted, name: str) -> Array:
    """Return an array of Gaussians with the axes of their grid in front."""
    assert fitted.grid is not None
    a = fitted.arrays[name]
    return a.reshape((*fitted.grid, *a.shape[1:]))


def of_arrays(names: Sequence[str], *blocks: Any) -> Fitted:
    """Return the Gaussians of a chunk of parameters."""
    given = {name: np.asarray(single(block)) for name, block in zip(names, blocks, strict=True)}
    grid, c = given["mean"].shape[:-1], given["mean"].shape[-1]
    flat = {name: a.reshape(-1, *a.shape[len(grid) :]) for name, a in given.items()}
    factor = _factor.of_arrays(flat)
    assert factor is not None
    _state.check_arrays(flat, math.prod(grid), c, None, factor.dtype)
    return Fitted(grid, factor.dtype, flat["mean"], factor=factor)


def part(fitted: Fitted, grid: tuple[int, ...], place: Place) -> Fitted:
    """Return the Gaussians of some patches."""
    cut = {name: a.reshape((*grid, *a.shape[1:]))[place] for name, a in fitted.arrays.items()}
    size = cut["mean"].shape[:-1]
    flat = {name: a.reshape(-1, *a.shape[len(size) :]) for name, a in cut.items()}
    return fitted.with_arrays(flat, size)


def assembled(
    model: MultiVariateGaussian, grid: tuple[int, ...], places: list[Place], parts: list[Fitted]
) -> MultiVariateGaussian:
    """Return the model of all patches."""
    first = parts[0]
    first.raise_if_too_few()
    whole = first.arrays
    if len(parts) > 1:
        whole = {name: np.empty((*grid, *a.shape[1:]), a.dtype) for name, a in whole.items()}
        for place, fitted in zip(places, parts, strict=True):
            for name, a in whole.items():
                a[place] = array_of(fitted, name)
        whole = {name: a.reshape(-1, *a.shape[len(grid) :]) for name, a in whole.items()}
    model._fitted = first.with_arrays(whole, grid)
    return model


@_blas.one_thread()
def scores(
    x: Any,
    place: Place,
    fitted: Fitted,
    *,
    score: str,
    axis: int,
    declared: np.dtype[Any],
    options: dict[str, Any],
) -> Array:
    """Return the scores of one chunk, of one feature."""
    seen, origin = chunk(x, place, axis, declared)
    model = MultiVariateGaussian(feature_axis=axis, n_jobs=1)
    model._fitted = fitted
    try:
        result: Array = getattr(model, score)(seen.value, **options)
    except ValueError:
        _checks.finite("embedding", seen.value, *origin)
        raise
    return np.expand_dims(result, axis)


def without_feature(scores: Any, *, axis: int) -> Array:
    """Return scores without their one feature."""
    return np.squeeze(single(scores), axis)
