"""Fitting and scoring on Dask: the same moments, on arrays that lie on many machines.

`fit` gives an ordinary model, `parameters` the stacked parameters of a model too large for one
machine, and the scores come as lazy arrays. Nothing is computed before the caller asks. A task
computes the moments of one chunk of samples and patches, a tree of tasks merges them, and only
moments travel; scheduling, retries, spilling and transport are Dask's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from itertools import accumulate
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _checks
from mvgauss._checks import Array
from mvgauss._embedding import Embedding
from mvgauss._fitted import Factors, Fitted, NotFiniteError, Walk
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss._shrinkage import Regularisation, refuse_weights

try:
    import dask
    import dask.array as da
    from dask.sizeof import sizeof
except ImportError as error:
    raise ImportError(
        "mvgauss.dask: expected the package dask, got none; pip install 'mvgauss[dask]'"
    ) from error

__all__ = ["fit", "mahalanobis", "p_value", "parameters", "score_samples"]

T = TypeVar("T")

#: The threads are the workers' own.
ALONE = Walk(n_jobs=1)

# what a worker holds and sends, by which Dask places, spills and counts it
sizeof.register(Fitted, lambda fitted: fitted.nbytes)
sizeof.register(MultiVariateGaussian, lambda model: model._fitted.nbytes if model._fitted else 0)


def fit(
    model: MultiVariateGaussian,
    embedding: da.Array,
    sample_weight: da.Array | ArrayLike | None = None,
    *,
    split_every: int = 4,
) -> Any:
    """Fit a Gaussian to each patch of a Dask array.

    Parameters
    ----------
    model : MultiVariateGaussian
        The parameters to fit with, and the layout of the embedding; it is not changed.
    embedding : dask.array.Array, shape (N, C, *grid)
        Embeddings of N normal images; the place of C is the model's `feature_axis`. Chunked along
        samples, patches or both, in chunks of any sizes, but not along features.
    sample_weight : dask.array.Array or array_like, shape (N,), optional
        Relative importance of each image.
    split_every : int, default 4
        How many moments of the same patches are merged by one task.

    Returns
    -------
    dask.delayed.Delayed
        Computes to a `MultiVariateGaussian`, equal to that of ``model.fit`` to rounding. It makes
        its factors when they are first needed.

    Raises
    ------
    ValueError
        If the embedding or a parameter of the model does not fit; when it is computed, as
        ``model.fit``, the index of a NaN being that in the whole array.
    TypeError
        If an argument is of the wrong kind.

    Examples
    --------
    >>> import dask.array as da
    >>> import mvgauss.dask
    >>> from mvgauss import MultiVariateGaussian
    >>> x = da.from_array([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]], chunks=(2, -1))
    >>> lazy = mvgauss.dask.fit(MultiVariateGaussian(reg_covar=0), x)
    >>> lazy.compute().covariance
    array([[[4., 2.],
            [2., 4.]]])
    """
    x, seen = _checked(model, embedding, None)
    states = _states(model, x, seen, sample_weight, split_every).to_delayed().ravel().tolist()
    places = _places(_grid(x.chunks, seen.axis))
    new = type(model)(**model.get_params())
    return dask.delayed(_assembled)(new, seen.grid, places, states)


def parameters(
    model: MultiVariateGaussian,
    embedding: da.Array,
    sample_weight: da.Array | ArrayLike | None = None,
    *,
    split_every: int = 4,
) -> tuple[da.Array, da.Array]:
    r"""Fit, and give the stacked parameters as arrays: for models too large for one machine.

    Parameters
    ----------
    model : MultiVariateGaussian
        As in `fit`.
    embedding : dask.array.Array, shape (N, C, *grid)
        As in `fit`.
    sample_weight : dask.array.Array or array_like, shape (N,), optional
        As in `fit`.
    split_every : int, default 4
        As in `fit`.

    Returns
    -------
    mean : dask.array.Array, shape (*grid, C)
        Means, in the dtype of the computation.
    factor : dask.array.Array, shape (*grid, C, C)
        Factors W with :math:`W^T W = \hat\Sigma^{-1}`. Both are chunked along the patches as the
        embedding is, and `mahalanobis` takes them in place of a model.

    Raises
    ------
    ValueError, TypeError
        As `fit`.

    Examples
    --------
    >>> import dask.array as da
    >>> import mvgauss.dask
    >>> from mvgauss import MultiVariateGaussian
    >>> x = da.from_array([[[1.0, 5.0]], [[3.0, 9.0]]], chunks=(1, -1, 1))
    >>> mean, factor = mvgauss.dask.parameters(MultiVariateGaussian(reg_covar=0, ddof=0), x)
    >>> mean.compute().ravel(), factor.compute().ravel()
    (array([2., 7.]), array([1. , 0.5]))
    """
    x, seen = _checked(model, embedding, None)
    states = _states(model, x, seen, sample_weight, split_every)
    made = da.map_blocks(_made, states, dtype=object, meta=_objects(x.ndim))
    working, stored = model._dtypes(seen.dtype)
    names, grid = list(range(x.ndim)), _grid(range(x.ndim), seen.axis)
    chunks = dict(zip(grid, _grid(x.chunks, seen.axis), strict=True))
    c, again = names[seen.axis], x.ndim
    arrays = []
    for what, index, dtype in ((_mean, (*grid, c), working), (_factor, (*grid, c, again), stored)):
        arrays.append(
            da.blockwise(
                what,
                index,
                made,
                names,
                new_axes={again: seen.n_features} if again in index else {},
                adjust_chunks={**chunks, c: (seen.n_features,)},
                meta=np.empty((0,) * len(index), dtype),
            )
        )
    return arrays[0], arrays[1]


def mahalanobis(
    model: MultiVariateGaussian | tuple[da.Array, da.Array], embedding: da.Array, squared: bool = False
) -> da.Array:
    """Distance of every patch of new images from its Gaussian.

    Parameters
    ----------
    model : MultiVariateGaussian, or the (mean, factor) of `parameters`
        What was fitted. A chunk's task is sent only the Gaussians of its own patches. With the two
        arrays, features are axis 1.
    embedding : dask.array.Array, shape (M, C, *grid)
        Embeddings of M images, chunked in any way but along features.
    squared : bool, default False
        Whether to return squared distances instead.

    Returns
    -------
    dask.array.Array, shape (M, *grid)
        Distances as of ``model.mahalanobis``, chunked as the embedding is.

    Raises
    ------
    ValueError
        If the model is not fitted, or the embedding is of another shape; when it is computed, if the
        embedding is not finite, with the index in the whole array.
    TypeError
        If an argument is of the wrong kind.

    Examples
    --------
    >>> import dask.array as da
    >>> import mvgauss.dask
    >>> from mvgauss import MultiVariateGaussian
    >>> model = MultiVariateGaussian.from_parameters([[1.0], [2.0]], [[[1.0, 0.0], [0.0, 4.0]]])
    >>> x = da.from_array([[1.0, 2.0], [4.0, 4.0]], chunks=(1, -1))
    >>> mvgauss.dask.mahalanobis(model, x).compute()
    array([0., 5.])
    """
    return _scored("mahalanobis", model, embedding, squared=_checks.flag("squared", squared))


def score_samples(model: MultiVariateGaussian, embedding: da.Array) -> da.Array:
    """Log density of every patch of new images.

    Parameters
    ----------
    model : MultiVariateGaussian
        A fitted model.
    embedding : dask.array.Array, shape (M, C, *grid)
        As in `mahalanobis`.

    Returns
    -------
    dask.array.Array, shape (M, *grid)
        Log densities as of ``model.score_samples``, chunked as the embedding is.

    Raises
    ------
    ValueError, TypeError
        As `mahalanobis`.
    """
    return _scored("score_samples", model, embedding)


def p_value(model: MultiVariateGaussian, embedding: da.Array) -> da.Array:
    """Probability of a distance at least as large, for a patch of a new good image.

    Parameters
    ----------
    model : MultiVariateGaussian
        A fitted model; its ``p_value_law`` says by which law.
    embedding : dask.array.Array, shape (M, C, *grid)
        As in `mahalanobis`.

    Returns
    -------
    dask.array.Array, shape (M, *grid)
        Between 0 and 1, as of ``model.p_value``, chunked as the embedding is.

    Raises
    ------
    ValueError, TypeError
        As `mahalanobis`.
    """
    return _scored("p_value", model, embedding)


# ---- the graph: arrays whose blocks are `Fitted`, indexed as the blocks of the embedding


def _checked(model: object, embedding: object, fitted: Fitted | None) -> tuple[da.Array, Embedding]:
    """Return the embedding without empty chunks, and what is known of it before it is computed."""
    if not isinstance(model, MultiVariateGaussian):
        _checks.refuse("model", "a MultiVariateGaussian", type(model).__name__, TypeError)
    x = embedding
    if not isinstance(x, da.Array):
        _checks.refuse("embedding", "a dask.array.Array", type(x).__name__, TypeError)
    if any(math.isnan(n) for n in x.shape):
        hint = "call .compute_chunk_sizes() on it"
        _checks.refuse("embedding", "chunks of known sizes", f"shape {x.shape}", hint=hint)
    seen = model._embedding(x, fitted)
    if x.numblocks[seen.axis] > 1:
        got = f"chunks {x.chunks[seen.axis]}"
        hint = f".rechunk({{{seen.axis}: -1}}) moves all samples once"
        _checks.refuse("embedding", f"features, axis {seen.axis}, in one chunk", got, hint=hint)
    if any(0 in sizes for sizes in x.chunks):
        x = x.rechunk(tuple(tuple(n for n in sizes if n) for sizes in x.chunks))
    return x, seen


def _states(
    model: MultiVariateGaussian, x: da.Array, seen: Embedding, sample_weight: object, split_every: object
) -> da.Array:
    """Return the moments of all samples, of each chunk of patches: a tree over those of each chunk."""
    how = model._regularisation()
    working, stored = model._dtypes(seen.dtype)
    given = []
    if sample_weight is not None:
        w = da.asarray(sample_weight)
        if w.shape != (seen.n_samples,):
            wanted = f"shape (N,) with N = {seen.n_samples} samples"
            _checks.refuse("sample_weight", wanted, f"shape {w.shape}")
        if how.shrinkage is not None:
            refuse_weights(how)
        w = w.rechunk((x.chunks[0],))
        given = [w[(slice(None), *(None,) * (x.ndim - 1))]]
    states = da.map_blocks(
        _state,
        x,
        *given,
        axis=seen.axis,
        starts=_starts(x.chunks),
        how=how,
        working=working,
        stored=stored,
        chunks=tuple((1,) * n for n in x.numblocks),
        dtype=object,
        meta=_objects(x.ndim),
    )
    return da.reduction(
        states,
        _same,
        _merged,
        axis=0,
        keepdims=True,
        concatenate=False,
        split_every=_checks.integer("split_every", split_every, low=2),
        dtype=object,
        meta=_objects(x.ndim),
    )


def _scored(
    score: str, model: MultiVariateGaussian | tuple[da.Array, da.Array], embedding: da.Array, **options: Any
) -> da.Array:
    """Return the scores of that name, one task for each chunk."""
    if isinstance(model, tuple | list) and score == "mahalanobis":
        x, seen = _checked(MultiVariateGaussian(), embedding, None)
        parts, dtype = _of_parameters(model, x, seen)
    else:
        fitted = model._model() if isinstance(model, MultiVariateGaussian) else None
        x, seen = _checked(model, embedding, fitted)
        assert fitted is not None
        parts, dtype = _of_model(fitted, x, seen), fitted.dtype
    chunks = list(x.chunks)
    chunks[seen.axis] = (1,)
    scores = da.map_blocks(
        _scores,
        x,
        parts,
        score=score,
        options=options,
        axis=seen.axis,
        starts=_starts(x.chunks),
        chunks=tuple(chunks),
        meta=np.empty((0,) * x.ndim, dtype),
    )
    return scores[(slice(None),) * seen.axis + (0,)]


def _of_model(fitted: Fitted, x: da.Array, seen: Embedding) -> da.Array:
    """Return what scoring needs of a model, cut along the patches as the embedding is."""
    chunks = _grid(x.chunks, seen.axis)
    name = f"gaussians-{uuid4().hex}"
    index = np.ndindex(*(len(sizes) for sizes in chunks))
    graph: dict[Any, Any] = {}
    for where, place in zip(index, _places(chunks), strict=True):
        part = _part(fitted, seen.grid, place)
        # as a layer of blocks, Dask would make the factors again for each chunk of samples
        graph[name, *_around(where, 0, 0, seen.axis)] = (_made, part) if part.factors is None else part
    return da.Array(graph, name, _around(chunks, (1,), (1,), seen.axis), meta=_objects(x.ndim))


def _of_parameters(
    given: tuple[da.Array, da.Array] | list[da.Array], x: da.Array, seen: Embedding
) -> tuple[da.Array, np.dtype[Any]]:
    """Return the same of a mean and a factor that are Dask arrays, and the dtype of the distances."""
    wanted = [(*seen.grid, seen.n_features), (*seen.grid, seen.n_features, seen.n_features)]
    got = [getattr(a, "shape", type(a).__name__) for a in given]
    if got != wanted:
        _checks.refuse("model", f"a mean and a factor of shapes {wanted}", f"{got}")
    mean, factor = (
        da.asarray(a).rechunk((*_grid(x.chunks, seen.axis), *(-1,) * k)) for k, a in enumerate(given, 1)
    )
    # axes for samples and features by indexing: Dask 2026.8 fuses a `new_axes` of one chunk wrongly
    # with an axis of many
    around = _around((slice(None),) * len(seen.grid), None, None, seen.axis)
    names, c = tuple(range(x.ndim)), x.ndim
    parts = da.blockwise(
        _of_arrays,
        names,
        mean[around],
        (*names, c),
        factor[around],
        (*names, c, c + 1),
        axis=seen.axis,
        meta=_objects(x.ndim),
    )
    return parts, factor.dtype


def _objects(ndim: int) -> Array:
    """Return the prototype of an array of objects."""
    return np.empty((0,) * ndim, object)


def _grid(values: Any, axis: int) -> tuple[Any, ...]:
    """Return of the values for each axis of an embedding those for the grid."""
    return tuple(value for i, value in enumerate(values) if i not in (0, axis))


def _around(grid: tuple[Any, ...], samples: T, features: T, axis: int) -> tuple[Any, ...]:
    """Return values for each axis of an embedding, from those for the grid and the other two."""
    values = [samples, *grid]
    values.insert(axis, features)
    return tuple(values)


def _starts(chunks: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Return where the chunks of each axis begin."""
    return tuple(tuple(accumulate(sizes[:-1], initial=0)) for sizes in chunks)


def _places(chunks: tuple[tuple[int, ...], ...]) -> list[tuple[slice, ...]]:
    """Return where each chunk of the grid lies, in row-major order."""
    slices = [
        [slice(a, a + n) for a, n in zip(first, sizes, strict=True)]
        for first, sizes in zip(_starts(chunks), chunks, strict=True)
    ]
    index = np.ndindex(*(len(sizes) for sizes in chunks))
    return [tuple(s[i] for s, i in zip(slices, where, strict=True)) for where in index]


# ---- the tasks


def _state(
    x: Array,
    *weights: Array,
    axis: int,
    starts: tuple[tuple[int, ...], ...],
    block_id: tuple[int, ...],
    how: Regularisation,
    working: np.dtype[Any],
    stored: np.dtype[Any],
) -> Fitted:
    """Return the moments of one chunk."""
    origin = tuple(first[i] for first, i in zip(starts, block_id, strict=True))
    seen = Embedding(x, axis)
    w = None
    if weights:
        w = _checks.array("sample_weight", weights[0].ravel())
        _checks.finite("sample_weight", w, origin[0])
        # here it is no mistake if no sample of a chunk has any weight
        w = _checks.weights("sample_weight", w, (), len(w)) if w.any() else w.astype(np.float64)
    try:
        return Fitted.of_samples(
            seen.stack(seen.value), w, working=working, dtype=stored, how=how, walk=ALONE
        )
    except NotFiniteError:
        _checks.finite("embedding", seen.value, *origin)
        seen.refuse_not_finite(slice(0, None), seen.stack(seen.value), working)


def _same(state: Fitted, axis: object, keepdims: bool) -> Fitted:
    """Return a leaf of the tree."""
    return state


def _merged(states: Fitted | list[Fitted], axis: object, keepdims: bool) -> Fitted:
    """Return the moments of all samples of some."""
    states = states if isinstance(states, list) else [states]
    try:
        return reduce(lambda a, b: a.merged(b, ALONE), states)
    except NotFiniteError:
        wanted = f"numbers whose squares {states[0].working} can hold"
        _checks.refuse("embedding", wanted, "larger ones")


def _made(state: Fitted) -> Fitted:
    """Return the Gaussians of moments."""
    _refuse_weightless(state)
    return state.without_moments(ALONE)


def _mean(made: Any) -> Array:
    """Return the means of a chunk of patches, ``(*grid, C)``."""
    fitted = _single(made)
    return _on_grid(fitted, fitted.mean)


def _factor(made: Any) -> Array:
    """Return its factors, ``(*grid, C, C)``."""
    fitted = _single(made)
    return _on_grid(fitted, fitted.made(ALONE).factor)


def _assembled(
    model: MultiVariateGaussian, grid: tuple[int, ...], places: list[tuple[slice, ...]], parts: list[Fitted]
) -> MultiVariateGaussian:
    """Return the model of all patches."""
    _refuse_weightless(parts[0])
    parts[0].refuse_unsolvable()

    def whole(name: str) -> Array | None:
        """Put one array of all parts together."""
        first: Array | None = getattr(parts[0], name)
        if first is None or len(parts) == 1:
            return first
        result = np.empty((*grid, *first.shape[1:]), first.dtype)
        for place, part in zip(places, parts, strict=True):
            result[place] = _on_grid(part, getattr(part, name))
        return result.reshape(-1, *first.shape[1:])

    arrays: Any = {name: whole(name) for name in ("mean", "scatter", "third", "fourth")}
    model._fitted = replace(parts[0], grid=grid, **arrays)
    return model


def _part(fitted: Fitted, grid: tuple[int, ...], place: tuple[slice, ...]) -> Fitted:
    """Return the Gaussians of some patches, without the moments where there are factors."""

    def cut(a: Any) -> Any:
        return None if a is None else a.reshape((*grid, *a.shape[1:]))[place].reshape(-1, *a.shape[1:])

    factors, names = fitted.factors, ["mean", "good"]
    if factors is None:
        names += ["scatter", "third", "fourth"]
    parts: dict[str, Any] = dict.fromkeys(("scatter", "third", "fourth"))
    parts |= {name: cut(getattr(fitted, name)) for name in names}
    if factors is not None:
        parts["factors"] = Factors._make(map(cut, factors))
    return replace(fitted, grid=tuple(len(range(n)[s]) for n, s in zip(grid, place, strict=True)), **parts)


def _of_arrays(mean: Any, factor: Any, axis: int) -> Fitted:
    """Return the Gaussians of a chunk of parameters; no distance asks for their ranks."""
    mean, factor = _single(mean), _single(factor)
    grid, c = _grid(mean.shape[:-1], axis), mean.shape[-1]
    p = math.prod(grid)
    nothing = np.zeros(p)
    factors = Factors(factor.reshape(p, c, c), nothing, nothing, nothing)
    return Fitted(grid, factor.dtype, mean.reshape(p, c), factors=factors)


def _scores(
    x: Array,
    part: Fitted,
    *,
    score: str,
    options: dict[str, Any],
    axis: int,
    starts: tuple[tuple[int, ...], ...],
    block_id: tuple[int, ...],
) -> Array:
    """Return the scores of one chunk, with one feature."""
    model = MultiVariateGaussian(feature_axis=axis, n_jobs=1)
    model._fitted = part
    method: Callable[..., Array] = getattr(model, score)
    try:
        return np.expand_dims(method(x, **options), axis)
    except ValueError:
        _checks.finite("embedding", x, *(first[i] for first, i in zip(starts, block_id, strict=True)))
        raise


def _refuse_weightless(state: Fitted) -> None:
    """Refuse samples of which none has any weight, in the words of the door."""
    if not state.sum_weights:
        _checks.refuse("sample_weight", "a weight > 0", "weights that are all zero")


def _single(block: Any) -> Any:
    """Return the one block of an axis that has no other, which Dask gives as a list."""
    while isinstance(block, list):
        block = block[0]
    return block


def _on_grid(fitted: Fitted, a: Array) -> Array:
    """View an array with one patch axis as one with the axes of the grid."""
    assert fitted.grid is not None
    return a.reshape((*fitted.grid, *a.shape[1:]))
