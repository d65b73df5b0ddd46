"""What the workers do: moments of a chunk, merged; factors made of them; scores."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any

import numpy as np
from dask.sizeof import sizeof

from mvgauss import _blas, _checks, _factor, _fitting, _state
from mvgauss._checks import Array
from mvgauss._embedding import Embedding
from mvgauss._fitted import Fitted
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss._shrinkage import Regularisation
from mvgauss._walks import OutOfRangeError, TooSmallError, Walk

ALONE = Walk(n_jobs=1)

Place = tuple[slice, ...]  #: where a chunk lies in the whole array
Layout = tuple[int, np.dtype[Any]]  #: the axis of features, and the dtype that is declared

# what a worker holds and sends, by which Dask places, spills and counts it
sizeof.register(Fitted, lambda fitted: fitted.nbytes)
sizeof.register(MultiVariateGaussian, lambda model: model._fitted.nbytes if model._fitted else 0)


@contextmanager
def alone() -> Iterator[None]:
    """Hold BLAS to one thread for a task, which starts none either: the threads are the workers' own."""
    with _blas.one_thread():
        yield


def chunk(x: Any, place: Place, layout: Layout) -> tuple[Embedding, list[int]]:
    """Return a chunk as an embedding, and where it begins; it has to be what the Dask array says it is."""
    wanted = tuple(s.stop - s.start for s in place), layout[1]
    got = np.shape(x), getattr(x, "dtype", type(x).__name__)
    if got != wanted:
        where = ", ".join(f"{s.start}:{s.stop}" for s in place)
        text = "shape {} and dtype {}"
        declared = f"{text.format(*wanted)} in its chunk [{where}], as the Dask array declares"
        _checks.raise_error("embedding", declared, text.format(*got))
    return Embedding(x, layout[0]), [s.start for s in place]


@alone()
def moments(
    x: Any, place: Place, weights: Any, *, layout: Layout, kept: np.dtype[Any], how: Regularisation
) -> Fitted:
    """Return the moments of one chunk."""
    seen, origin = chunk(x, place, layout)
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
        seen.raise_not_finite(slice(0, None), seen.stack(seen.value), small=small)


@alone()
def merged(states: Fitted | list[Fitted], axis: object, keepdims: bool) -> Fitted:
    """Return the moments of all samples of some; those of one come alone where a tree begins."""
    try:
        return reduce(partial(_fitting.merge, walk=ALONE), states if isinstance(states, list) else [states])
    except OutOfRangeError:
        _checks.raise_error("embedding", "numbers whose squares float64 can hold", "larger ones")


@alone()
def made(state: Fitted | list[Fitted]) -> Fitted:
    """Return the Gaussians of moments, which come in a list where they are of an axis with one block."""
    return (state[0] if isinstance(state, list) else state).without_moments(ALONE)


@alone()
def scores(
    x: Any, place: Place, fitted: Fitted, *, layout: Layout, score: str, options: dict[str, Any]
) -> Array:
    """Return the scores of one chunk, with one feature."""
    seen, origin = chunk(x, place, layout)
    model = MultiVariateGaussian(feature_axis=seen.axis, n_jobs=1)
    model._fitted = fitted
    try:
        return np.expand_dims(getattr(model, score)(seen.value, **options), seen.axis)
    except ValueError:
        _checks.finite("embedding", seen.value, *origin)
        raise


def part_of(fitted: Fitted, place: Place) -> Fitted:
    """Return the Gaussians of some patches."""
    assert fitted.grid is not None
    index = np.arange(fitted.n_patches).reshape(fitted.grid)[place]
    first, last = index.flat[0], index.flat[-1]
    b = slice(first, last + 1) if last - first < index.size else index.ravel()  # views, where possible
    return fitted.with_arrays({name: a[b] for name, a in fitted.arrays.items()}, index.shape)


def assembled(
    model: MultiVariateGaussian, grid: tuple[int, ...], places: list[Place], parts: list[Fitted]
) -> MultiVariateGaussian:
    """Return the model of all patches."""
    first = parts[0]
    first.raise_if_too_few()
    index = np.arange(math.prod(grid)).reshape(grid)
    whole = {name: np.empty((index.size, *a.shape[1:]), a.dtype) for name, a in first.arrays.items()}
    for place, fitted in zip(places, parts, strict=True):
        for name, a in fitted.arrays.items():
            whole[name][index[place].ravel()] = a
    model._fitted = first.with_arrays(whole, grid)
    return model


def array_of(fitted: Fitted, name: str) -> Array:
    """Return one of the arrays of Gaussians, with the axes of the grid."""
    assert fitted.grid is not None
    a = fitted.arrays[name]
    return a.reshape((*fitted.grid, *a.shape[1:]))


def of_arrays(names: list[str], blocks: list[Array]) -> Fitted:
    """Return the Gaussians of such arrays."""
    given = dict(zip(names, map(np.asarray, blocks), strict=True))
    *grid, c = given["mean"].shape
    p = math.prod(grid)
    arrays = {name: a.reshape(p, *a.shape[len(grid) :]) for name, a in given.items()}
    factor = _factor.of_arrays(arrays)
    assert factor is not None
    _state.check_arrays(arrays, p, c, None, factor.dtype)
    return Fitted(tuple(grid), factor.dtype, arrays["mean"], factor=factor)
