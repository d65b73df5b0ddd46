"""Graphs of tasks, each followed by what a worker does in a task of it.

The blocks of arrays of objects are `State`s, one for each chunk of patches (and of samples). Axes are
numbered as those of the embedding: 0 is samples, `axis` features, the others are the grid. A task starts
no threads and holds BLAS to one: the threads are the workers' own.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial, reduce
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep
from dask.sizeof import sizeof

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss._model import fitting
from mvgauss._model.embedding import Embedding, OutOfRangeError
from mvgauss._model.fitting import Walk
from mvgauss._model.state import State, check_arrays, precision_of_arrays
from mvgauss._runtime import threads
from mvgauss._stats.shrinkage import Regularisation

ALONE = Walk(n_jobs=1)
OBJECTS = np.empty(0, object)  #: the prototype of arrays of objects, of any number of axes

Place = tuple[slice, ...]  #: where a chunk lies in the whole array
Layout = tuple[int, np.dtype[Any]]  #: the axis of features, and the dtype that is declared

# what a worker holds and sends, by which Dask places, spills and counts it
sizeof.register(State, lambda state: state.nbytes)
sizeof.register(MultiVariateGaussian, lambda model: model._state.nbytes if model._state else 0)


def checked(model: object, x: object, state: State | None) -> tuple[da.Array, Embedding]:
    """Return the embedding without empty chunks, and what is known of it before it is computed."""
    if not isinstance(model, MultiVariateGaussian):
        _arguments.raise_error("model", "a MultiVariateGaussian", type(model).__name__, TypeError)
    if not isinstance(x, da.Array):
        _arguments.raise_error("embedding", "a dask.array.Array", type(x).__name__, TypeError)
    if any(math.isnan(n) for n in x.shape):
        _arguments.raise_error(
            "embedding", "chunks of known sizes", x.shape, hint="see .compute_chunk_sizes()"
        )
    seen = model._embedding(x, state)
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
        result_dtype=model._result_dtype(x.dtype),
        regularisation=model._regularisation(),
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
        split_every=min(_arguments.integer("split_every", split_every, low=2), max(2, x.numblocks[0])),
        dtype=object,
        meta=OBJECTS,
    )


@threads.held()
def moments(
    x: Any,
    place: Place,
    weights: Any,
    *,
    layout: Layout,
    result_dtype: np.dtype[Any],
    regularisation: Regularisation,
) -> State:
    """Return the moments of one chunk."""
    seen, origin = chunk(x, place, layout)
    w = None
    if weights is not None:
        w = _arguments.array("sample_weight", weights)
        _arguments.finite("sample_weight", w, origin[0])
        # here it is no mistake if no sample of a chunk has any weight
        w = _arguments.weights("sample_weight", w, (), seen.n_samples, all_zero=True)
    blank = State.unfitted(seen.grid, seen.n_features, result_dtype, regularisation)
    try:
        return fitting.fit_stack(seen.stack(seen.value), w, blank, with_precision=False, walk=ALONE)
    except OutOfRangeError:
        _arguments.finite("embedding", seen.value, *origin)
        raise


@threads.held()
def merged(states: State | list[State], axis: object, keepdims: bool) -> State:
    """Return the moments of all samples; those of one chunk come alone where a tree begins."""
    return reduce(partial(fitting.merge, walk=ALONE), states if isinstance(states, list) else [states])


def assembled(
    model: MultiVariateGaussian, grid: tuple[int, ...], places: list[Place], parts: list[State]
) -> MultiVariateGaussian:
    """Return the model of all patches."""
    first = parts[0]
    first.raise_if_too_few("embedding")
    index = np.arange(math.prod(grid)).reshape(grid)
    whole = {name: np.empty((index.size, *a.shape[1:]), a.dtype) for name, a in first.arrays().items()}
    for place, state in zip(places, parts, strict=True):
        for name, a in state.arrays().items():
            whole[name][index[place].ravel()] = a
    model._state = first.with_arrays(whole, grid, resumable=True)
    return model


def arrays(model: MultiVariateGaussian, x: da.Array, seen: Embedding, trees: da.Array) -> dict[str, da.Array]:
    """Return the arrays of the Gaussians of such moments, chunked along the patches as the embedding."""
    grid = seen.grid_axes
    states = da.blockwise(with_precision, grid, trees, tuple(range(1, x.ndim)), meta=OBJECTS)
    result = {}
    # those of no patch have the names, dtypes and other axes of all
    no_patch = np.empty((0, seen.n_samples, seen.n_features))
    blank = State.unfitted((0,), seen.n_features, model._result_dtype(seen.dtype), model._regularisation())
    like = fitting.fit_stack(no_patch, None, blank, with_precision=False, walk=ALONE)
    moments = like.required_moments()
    precision, intensity = fitting.precision_of(moments, moments.trace(), like)
    like = replace(like, precision=precision, intensity=intensity)
    for name, a in like.without_moments().arrays().items():
        chunks = (*(x.chunks[i] for i in grid), *a.shape[1:])
        new = list(range(len(grid), len(chunks)))
        result[name] = da.map_blocks(array_of, states, name, chunks=chunks, new_axis=new, meta=a)
    return result


@threads.held()
def with_precision(state: State | list[State]) -> State:
    """Return the Gaussians of moments, which come in a list where they are of an axis with one block."""
    moments = state[0] if isinstance(state, list) else state
    return fitting.with_precision(moments, ALONE).without_moments()


def array_of(state: State, name: str) -> Array:
    """Return one of the arrays of Gaussians, with the axes of the grid."""
    a = state.arrays()[name]
    return a.reshape((*state.shape, *a.shape[1:]))


def scored(score: str, model: object, embedding: da.Array, **options: Any) -> da.Array:
    """Return the scores of that name, one task for each chunk."""
    if isinstance(model, Mapping) and score != "p_value":  # which the arrays do not tell
        x, seen = checked(MultiVariateGaussian(), embedding, None)
        parts, dtype = of_mapping(model, x, seen)
    else:
        state = model._fitted() if isinstance(model, MultiVariateGaussian) else None
        x, seen = checked(model, embedding, state)
        assert state is not None
        parts, dtype = of_model(state, x, seen), state.dtype
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


@threads.held()
def scores(
    x: Any, place: Place, state: State, *, layout: Layout, score: str, options: dict[str, Any]
) -> Array:
    """Return the scores of one chunk, with one feature."""
    seen, origin = chunk(x, place, layout)
    model = MultiVariateGaussian(feature_axis=seen.axis, n_jobs=1)
    model._state = state
    try:
        return np.expand_dims(getattr(model, score)(seen.value, **options), seen.axis)
    except ValueError:
        _arguments.finite("embedding", seen.value, *origin)
        raise


def of_model(state: State, x: da.Array, seen: Embedding) -> da.Array:
    """Return what scoring needs of a model, cut along the patches as the embedding is."""
    state = state if state.precision is None else state.without_moments()
    state = replace(state, grid=seen.grid)
    graph: dict[Any, Any] = {}
    for where, place in places(x, seen).items():
        part = state.select(place)
        graph[where] = (with_precision, part) if part.precision is None else part
    return gaussians(graph, x, seen)


def of_mapping(given: Mapping[str, da.Array], x: da.Array, seen: Embedding) -> tuple[da.Array, np.dtype[Any]]:
    """Return the same of the arrays of `parameters`, and the dtype of the scores."""
    n, chunks = len(seen.grid), tuple(x.chunks[i] for i in seen.grid_axes)
    found = {name: da.asarray(a) for name, a in given.items()}
    precision = precision_of_arrays({name: a._meta for name, a in found.items()})
    shapes = {name: a.shape for name, a in found.items()}
    mean = (*seen.grid, seen.n_features)
    if precision is None or shapes.get("mean") != mean or any(s[:n] != seen.grid for s in shapes.values()):
        wanted = f"the arrays of `parameters` for the grid {seen.grid}, with a mean of shape {mean}"
        _arguments.raise_error("model", wanted, f"shapes {shapes}")
    found = {name: a.rechunk((*chunks, *(-1,) * (a.ndim - n))) for name, a in found.items()}
    graph: dict[Any, Any] = {}
    for where in places(x, seen):
        blocks = [(a.name, *where, *(0,) * (a.ndim - n)) for a in found.values()]
        graph[where] = (of_arrays, list(found), blocks)
    return gaussians(graph, x, seen, *found.values()), precision.dtype


def of_arrays(names: list[str], blocks: list[Array]) -> State:
    """Return the Gaussians of such arrays."""
    given = dict(zip(names, map(np.asarray, blocks), strict=True))
    *grid, _ = given["mean"].shape
    arrays = {name: a.reshape(math.prod(grid), *a.shape[len(grid) :]) for name, a in given.items()}
    precision = precision_of_arrays(arrays)
    assert precision is not None
    check_arrays(arrays, precision.dtype, None)
    resolution = float(np.finfo(precision.dtype).eps)  # of the samples, as far as their parameters tell
    return State(tuple(grid), precision.dtype, arrays["mean"], resolution=resolution, precision=precision)


def gaussians(graph: dict[Any, Any], x: da.Array, seen: Embedding, *inputs: da.Array) -> da.Array:
    """Return the array of such blocks; as a layer, each would be made again for every chunk of samples."""
    name, blocks = f"gaussians-{uuid4().hex}", tuple((1,) * x.numblocks[i] for i in seen.grid_axes)
    named = {(name, *where): task for where, task in graph.items()}
    layers = HighLevelGraph.from_collections(name, named, dependencies=inputs)
    return da.Array(layers, name, blocks, meta=OBJECTS)
