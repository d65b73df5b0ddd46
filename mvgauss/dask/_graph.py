"""The graphs: arrays whose blocks are `Fitted`, one for each chunk of patches (and of samples).

Axes are numbered as those of the embedding: 0 is samples, `axis` features, the others are the grid.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep

from mvgauss import _checks, _factor, _fitting
from mvgauss._embedding import Embedding
from mvgauss._fitted import Fitted
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss.dask import _tasks

OBJECTS = np.empty(0, object)  #: the prototype of arrays of objects, of any number of axes


def checked(model: object, x: object, fitted: Fitted | None) -> tuple[da.Array, Embedding]:
    """Return the embedding without empty chunks, and what is known of it before it is computed."""
    if not isinstance(model, MultiVariateGaussian):
        _checks.raise_error("model", "a MultiVariateGaussian", type(model).__name__, TypeError)
    if not isinstance(x, da.Array):
        _checks.raise_error("embedding", "a dask.array.Array", type(x).__name__, TypeError)
    if any(math.isnan(n) for n in x.shape):
        hint = "see .compute_chunk_sizes()"
        _checks.raise_error("embedding", "chunks of known sizes", x.shape, hint=hint)
    seen = model._embedding(x, fitted)
    if x.numblocks[seen.axis] > 1:
        wanted, got = f"features, axis {seen.axis}, in one chunk", f"chunks {x.chunks[seen.axis]}"
        _checks.raise_error("embedding", wanted, got, hint=f".rechunk({{{seen.axis}: -1}}) joins them")
    return x.rechunk(tuple(tuple(n for n in sizes if n) for sizes in x.chunks)), seen


def states(
    model: MultiVariateGaussian, x: da.Array, seen: Embedding, sample_weight: object, split_every: object
) -> da.Array:
    """Return the moments of all samples at each chunk of patches: trees over those of each chunk."""
    weights, index = None, None
    if sample_weight is not None:
        weights, index = da.asarray(sample_weight), (0,)
        if weights.shape != (n := seen.n_samples,):
            _checks.raise_error("sample_weight", f"shape (N,) with N = {n} samples", f"shape {weights.shape}")
        weights = weights.rechunk((x.chunks[0],))
    every = tuple(range(x.ndim))
    leaves = da.blockwise(
        _tasks.moments,
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
        _tasks.merged,
        _tasks.merged,
        axis=0,
        name="moments",
        concatenate=False,
        split_every=_checks.integer("split_every", split_every, low=2),
        dtype=object,
        meta=OBJECTS,
    )


def arrays(model: MultiVariateGaussian, x: da.Array, seen: Embedding, trees: da.Array) -> dict[str, da.Array]:
    """Return the arrays of the Gaussians of such moments, chunked along the patches as the embedding."""
    grid = seen.grid_axes
    made = da.blockwise(_tasks.made, grid, trees, tuple(range(1, x.ndim)), meta=OBJECTS)
    result = {}
    # those of no patch have the names, dtypes and other axes of all
    like = _fitting.like(seen.n_samples, seen.n_features, model._regularisation(), model._kept(seen.dtype))
    for name, a in like.arrays.items():
        chunks = (*(x.chunks[i] for i in grid), *a.shape[1:])
        new = list(range(len(grid), len(chunks)))
        result[name] = da.map_blocks(_tasks.array_of, made, name, chunks=chunks, new_axis=new, meta=a)
    return result


def scored(score: str, model: object, embedding: da.Array, **options: Any) -> da.Array:
    """Return the scores of that name, one task for each chunk."""
    if isinstance(model, Mapping) and score != "p_value":  # which the arrays do not tell
        x, seen = checked(MultiVariateGaussian(), embedding, None)
        parts, dtype = of_arrays(model, x, seen)
    else:
        fitted = model._model() if isinstance(model, MultiVariateGaussian) else None
        x, seen = checked(model, embedding, fitted)
        assert fitted is not None
        parts, dtype = of_model(fitted, x, seen), fitted.dtype
    every, meta = tuple(range(x.ndim)), np.empty(0, dtype)
    # two steps of one name, which Dask makes one task of: the first, which loses no axis, together with
    # what makes the chunk
    scores = da.blockwise(
        _tasks.scores,
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
    return scores.map_blocks(np.squeeze, axis=seen.axis, drop_axis=seen.axis, token=score, meta=meta)


def of_model(fitted: Fitted, x: da.Array, seen: Embedding) -> da.Array:
    """Return what scoring needs of a model, cut along the patches as the embedding is."""
    fitted = fitted if fitted.factor is None else fitted.without_moments()
    fitted = replace(fitted, grid=seen.grid, loo_largest=None)  # of images, not of patches
    graph: dict[Any, Any] = {}
    for where, place in places(x, seen).items():
        part = _tasks.part_of(fitted, place)
        graph[where] = (_tasks.made, part) if part.factor is None else part
    return gaussians(graph, x, seen)


def of_arrays(given: Mapping[str, da.Array], x: da.Array, seen: Embedding) -> tuple[da.Array, np.dtype[Any]]:
    """Return the same of the arrays of `parameters`, and the dtype of the scores."""
    n, chunks = len(seen.grid), tuple(x.chunks[i] for i in seen.grid_axes)
    found = {name: da.asarray(a) for name, a in given.items()}
    factor = _factor.of_arrays({name: a._meta for name, a in found.items()})
    shapes = {name: a.shape for name, a in found.items()}
    mean = (*seen.grid, seen.n_features)
    if factor is None or shapes.get("mean") != mean or any(s[:n] != seen.grid for s in shapes.values()):
        wanted = f"the arrays of `parameters` for the grid {seen.grid}, with a mean of shape {mean}"
        _checks.raise_error("model", wanted, f"shapes {shapes}")
    found = {name: a.rechunk((*chunks, *(-1,) * (a.ndim - n))) for name, a in found.items()}
    graph: dict[Any, Any] = {}
    for where in places(x, seen):
        blocks = [(a.name, *where, *(0,) * (a.ndim - n)) for a in found.values()]
        graph[where] = (_tasks.of_arrays, list(found), blocks)
    return gaussians(graph, x, seen, *found.values()), factor.dtype


def gaussians(graph: dict[Any, Any], x: da.Array, seen: Embedding, *arrays: da.Array) -> da.Array:
    """Return the array of such blocks; as a layer, each would be made again for every chunk of samples."""
    name, blocks = f"gaussians-{uuid4().hex}", tuple((1,) * x.numblocks[i] for i in seen.grid_axes)
    named = {(name, *where): task for where, task in graph.items()}
    layers = HighLevelGraph.from_collections(name, named, dependencies=arrays)
    return da.Array(layers, name, blocks, meta=OBJECTS)


def places(x: da.Array, seen: Embedding) -> dict[tuple[int, ...], _tasks.Place]:
    """Return where each chunk of the grid lies, in row-major order."""
    slices = ArraySliceDep(tuple(x.chunks[i] for i in seen.grid_axes))
    return {where: slices[where] for where in np.ndindex(*slices.numblocks)}
