"""Graphs of tasks, each followed by what a worker does in a task of it.

The blocks of arrays of objects are `Fitted`, one for each chunk of patches (and of samples). Axes are
numbered as those of the embedding: 0 is samples, `axis` features, the others are the grid.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep
from dask.sizeof import sizeof

from mvgauss import _blas, _arguments, _fitting, _state, _thin
from mvgauss._arguments import Array
from mvgauss._embedding import Embedding
from mvgauss._fitted import Fitted
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss._shrinkage import Regularisation
from mvgauss._walks import OutOfRangeError, TooSmallError, Walk

ALONE = Walk(n_jobs=1)
OBJECTS = np.empty(0, object)  #: the prototype of arrays of objects, of any number of axes

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


def checked(model: object, x: object, fitted: Fitted | None) -> tuple[da.Array, Embedding]:
    """Return the embedding without empty chunks, and what is known of it before it is computed."""
    if not isinstance(model, MultiVariateGaussian):
        _arguments.raise_error("model", "a MultiVariateGaussian", type(model).__name__, TypeError)
    if not isinstance(x, da.Array):
        _arguments.raise_error("embedding", "a dask.array.Array", type(x).__name__, TypeError)
    if any(math.isnan(n) for n in x.shape):
        _arguments.raise_error(
            "embedding", "chunks of known sizes", x.shape, hint="see .compute_chunk_sizes()"
        )
    seen = model._embedding(x, fitted)
    if x.numblocks[seen.axis] > 1:
        wanted, got = f"features, axis {seen.axis}, in one chunk", f"chunks {x.chunks[seen.axis]}"
        _arguments.raise_error("embedding", wanted, got, hint=f".rechunk({{{seen.axis}: -1}}) joins them")
    return x.rechunk(tuple(tuple(n for n in sizes if n) for sizes in x.chunks)), seen


def places(x: da.Array, seen: Embedding) -> dict[tuple[int, ...], Place]:
    """Return where each chunk of the grid lies, in row-major order."""
    slices = ArraySliceDep(tuple(x.chunks[i] for i in seen.grid_axes))
    return {where: slices[where] for where in np.ndindex(*slices.numblocks)}


def chunk(x: Any, place: Place, layout: Layout) -> tuple[Embedding, list[int]]:
    """Return a chunk as an embedding, and where it begins; it has to be what the Dask array says it is."""
    wanted = tuple(s.stop - s.start for s in place), layout[1]
    got = np.shape(x), getattr(x, "dtype", type(x).__name__)
    if got != wanted:
        where = ", ".join(f"{s.start}:{s.stop}" for s in place)
        text = "shape {} and dtype {}"
        declared = f"{text.format(*wanted)} in its chunk [{where}], as the Dask array declares"
        _arguments.raise_error("embedding", declared, text.format(*got))
    return Embedding(x, layout[0]), [s.start for s in place]


def states(
    model: MultiVariateGaussian, x: da.Array, seen: Embedding, sample_weight: object, split_every: object
) -> da.Array:
    """Return the moments of all samples at each chunk of patches: trees over those of each chunk."""
    weights, index = None, None
    if sample_weight is not None:
        weights, index = da.asarray(sample_weight), (0,)
        if weights.shape != (n := seen.n_samples,):
            _arguments.raise_error(
                "sample_weight", f"shape (N,) with N = {n} samples", f"shape {weights.shape}"
            )
        weights = weights.rechunk((x.chunks[0],))
    every = tuple(range(x.ndim))
    leaves = da.blockwise(
        moments,
        every,
        *(x, every, ArraySliceDep(x.chunks), every, weights, index),
        layout=(seen.axis, x.dtype),
        kept=model._kept(x.dtype),
        how=model._regularisation(),
        adjust_chunks={i: (1,) * x.numblocks[i] for i in every},
        align_arrays=False,  # they are
        meta=OBJECTS,
    )
    return da.reduction(
        leaves,
        merged,
        merged,
        axis=0,
        name="moments",
        concatenate=False,
        split_every=_arguments.integer("split_every", split_every, low=2),
        dtype=object,
        meta=OBJECTS,
    )


@alone()
def moments(
    x: Any, place: Place, weights: Any, *, layout: Layout, kept: np.dtype[Any], how: Regularisation
) -> Fitted:
    seen, origin = chunk(x, place, layout)
    w = None
    if weights is not None:
        w = _arguments.array("sample_weight", weights)
        _arguments.finite("sample_weight", w, origin[0])
        # here it is no mistake if no sample of a chunk has any weight
        w = _arguments.weights("sample_weight", w, (), seen.n_samples, some=False)
    try:
        return _fitting.fit(seen.stack(seen.value), w, dtype=kept, how=how, walk=ALONE)
    except OutOfRangeError as error:
        _arguments.finite("embedding", seen.value, *origin)
        small = isinstance(error, TooSmallError)
        seen.raise_not_finite(slice(0, None), seen.stack(seen.value), small=small)


@alone()
def merged(states: Fitted | list[Fitted], axis: object, keepdims: bool) -> Fitted:
    """Return the moments of all samples of some; those of one come alone where a tree begins."""
    try:
        return reduce(partial(_fitting.merge, walk=ALONE), states if isinstance(states, list) else [states])
    except OutOfRangeError:
        _arguments.raise_error("embedding", "numbers whose squares float64 can hold", "larger ones")


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


def arrays(model: MultiVariateGaussian, x: da.Array, seen: Embedding, trees: da.Array) -> dict[str, da.Array]:
    """Return the arrays of the Gaussians of such moments, chunked along the patches as the embedding."""
    grid = seen.grid_axes
    fitted = da.blockwise(made, grid, trees, tuple(range(1, x.ndim)), meta=OBJECTS)
    result = {}
    # those of no patch have the names, dtypes and other axes of all
    like = _fitting.like(seen.n_samples, seen.n_features, model._regularisation(), model._kept(seen.dtype))
    for name, a in like.arrays.items():
        chunks = (*(x.chunks[i] for i in grid), *a.shape[1:])
        new = list(range(len(grid), len(chunks)))
        result[name] = da.map_blocks(array_of, fitted, name, chunks=chunks, new_axis=new, meta=a)
    return result


@alone()
def made(state: Fitted | list[Fitted]) -> Fitted:
    """Return the Gaussians of moments, which come in a list where they are of an axis with one block."""
    return (state[0] if isinstance(state, list) else state).without_moments(ALONE)


def array_of(fitted: Fitted, name: str) -> Array:
    """Return one of the arrays of Gaussians, with the axes of the grid."""
    assert fitted.grid is not None
    a = fitted.arrays[name]
    return a.reshape((*fitted.grid, *a.shape[1:]))


def scored(score: str, model: object, embedding: da.Array, **options: Any) -> da.Array:
    """Return the scores of that name, one task for each chunk."""
    if isinstance(model, Mapping) and score != "p_value":  # which the arrays do not tell
        x, seen = checked(MultiVariateGaussian(), embedding, None)
        parts, dtype = of_mapping(model, x, seen)
    else:
        fitted = model._model() if isinstance(model, MultiVariateGaussian) else None
        x, seen = checked(model, embedding, fitted)
        assert fitted is not None
        parts, dtype = of_model(fitted, x, seen), fitted.dtype
    every, meta = tuple(range(x.ndim)), np.empty(0, dtype)
    # two steps of one name, which Dask makes one task of: the first, which loses no axis, together with
    # what makes the chunk
    result = da.blockwise(
        scores,
        every,
        *(x, every, ArraySliceDep(x.chunks), every, parts, seen.grid_axes),
        token=score,
        score=score,
        layout=(seen.axis, x.dtype),
        options=options,
        adjust_chunks={seen.axis: (1,)},
        align_arrays=False,  # a part is one block, of one object
        meta=meta,
    )
    return result.map_blocks(np.squeeze, axis=seen.axis, drop_axis=seen.axis, token=score, meta=meta)


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
        _arguments.finite("embedding", seen.value, *origin)
        raise


def of_model(fitted: Fitted, x: da.Array, seen: Embedding) -> da.Array:
    """Return what scoring needs of a model, cut along the patches as the embedding is."""
    fitted = fitted if fitted.factor is None else fitted.without_moments()
    fitted = replace(fitted, grid=seen.grid, loo_largest=None)  # of images, not of patches
    graph: dict[Any, Any] = {}
    for where, place in places(x, seen).items():
        part = part_of(fitted, place)
        graph[where] = (made, part) if part.factor is None else part
    return gaussians(graph, x, seen)


def part_of(fitted: Fitted, place: Place) -> Fitted:
    """Return the Gaussians of some patches."""
    assert fitted.grid is not None
    index = np.arange(fitted.n_patches).reshape(fitted.grid)[place]
    first, last = index.flat[0], index.flat[-1]
    b = slice(first, last + 1) if last - first < index.size else index.ravel()  # views, where possible
    return fitted.with_arrays({name: a[b] for name, a in fitted.arrays.items()}, index.shape)


def of_mapping(given: Mapping[str, da.Array], x: da.Array, seen: Embedding) -> tuple[da.Array, np.dtype[Any]]:
    """Return the same of the arrays of `parameters`, and the dtype of the scores."""
    n, chunks = len(seen.grid), tuple(x.chunks[i] for i in seen.grid_axes)
    found = {name: da.asarray(a) for name, a in given.items()}
    factor = _thin.of_arrays({name: a._meta for name, a in found.items()})
    shapes = {name: a.shape for name, a in found.items()}
    mean = (*seen.grid, seen.n_features)
    if factor is None or shapes.get("mean") != mean or any(s[:n] != seen.grid for s in shapes.values()):
        wanted = f"the arrays of `parameters` for the grid {seen.grid}, with a mean of shape {mean}"
        _arguments.raise_error("model", wanted, f"shapes {shapes}")
    found = {name: a.rechunk((*chunks, *(-1,) * (a.ndim - n))) for name, a in found.items()}
    graph: dict[Any, Any] = {}
    for where in places(x, seen):
        blocks = [(a.name, *where, *(0,) * (a.ndim - n)) for a in found.values()]
        graph[where] = (of_arrays, list(found), blocks)
    return gaussians(graph, x, seen, *found.values()), factor.dtype


def of_arrays(names: list[str], blocks: list[Array]) -> Fitted:
    """Return the Gaussians of such arrays."""
    given = dict(zip(names, map(np.asarray, blocks), strict=True))
    *grid, c = given["mean"].shape
    p = math.prod(grid)
    arrays = {name: a.reshape(p, *a.shape[len(grid) :]) for name, a in given.items()}
    factor = _thin.of_arrays(arrays)
    assert factor is not None
    _state.check_arrays(arrays, p, c, None, factor.dtype)
    return Fitted(tuple(grid), factor.dtype, arrays["mean"], factor=factor)


def gaussians(graph: dict[Any, Any], x: da.Array, seen: Embedding, *inputs: da.Array) -> da.Array:
    """Return the array of such blocks; as a layer, each would be made again for every chunk of samples."""
    name, blocks = f"gaussians-{uuid4().hex}", tuple((1,) * x.numblocks[i] for i in seen.grid_axes)
    named = {(name, *where): task for where, task in graph.items()}
    layers = HighLevelGraph.from_collections(name, named, dependencies=inputs)
    return da.Array(layers, name, blocks, meta=OBJECTS)
