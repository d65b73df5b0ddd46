"""Samples -> fitted: moments, merged with those before, and factors made in the same walk."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from mvgauss import _blocks, _arguments
from mvgauss._arguments import Array
from mvgauss._factor import Root
from mvgauss._fitted import Fitted
from mvgauss._sample import Sample, shift_of
from mvgauss._scatter import Scatter
from mvgauss._shrinkage import Regularisation
from mvgauss._walks import FREELY, OutOfRangeError, TooSmallError, Walk, least_patches
from mvgauss._whitening import of_inverse

#: Below, the squares of deviations lose digits to the end of the range.
_TINY = 1e-290


def fit(
    x: Array,
    weights: Array | None,
    *,
    dtype: np.dtype[Any],
    how: Regularisation,
    base: Fitted | None = None,
    factor: bool = False,
    walk: Walk = FREELY,
) -> Fitted:
    """Return the model of samples ``(*grid, N, C)``: with those of `base`, or if asked for with factors."""
    *grid, n, c = x.shape
    if weights is not None and (weights == 1).all():
        weights = None
    w = np.ones(n) if weights is None else weights
    coarse = x.dtype.kind == "f" and x.dtype.itemsize < 8
    before = None if base is None else base.moments.samples
    new = _empty(
        tuple(grid),
        c,
        how,
        dtype,
        single=coarse and weights is None and (base is None or before is not None),
        n_samples=n + (base.n_samples if base else 0),
        sum_weights=float(w.sum()) + (base.sum_weights if base else 0),
        sum_squared_weights=float((w * w).sum()) + (base.sum_squared_weights if base else 0),
        resolution=max(float(np.finfo(x.dtype).eps) if coarse else 0.0, base.resolution if base else 0.0),
    )
    if factor:
        new.raise_if_too_few()
        new = replace(new, factor=new.moments.empty_factor(how.any, dtype))
    blocks, samples = _blocks.flat(x, 2, tuple(grid)), new.moments.samples

    def task(b: slice) -> None:
        block = blocks[b]
        with np.errstate(all="ignore"):
            room = None
            if samples is not None:
                # samples outermost: what leaves the layout of the input costs least
                block = np.array(block.swapaxes(0, 1), np.float32, order="C").swapaxes(0, 1)
                samples[b, -n:] = block
                if before is not None:
                    samples[b, :-n] = before[b]
            elif base is None and new.moments.rows:
                room = new.moments.array[b]
            part = Sample.of(block, weights, how.needs_fourth, room)
            _check_range(part, block if weights is None else block[:, weights > 0])
            if base is not None:
                part = base.sample(b).merge(part)
            _write(new, b, part)
            if new.factor is not None:
                new.factor[b] = new.factored(part)

    size, least = (n if new.moments.rows else max(n, c)) * c * 8, least_patches(c, c)
    if new.moments.rows:  # so little work for each number that is read that cache lines matter more
        least = max(least, min(8, 8 * _blocks.BLOCK_BYTES // size))
    new.walk(task, size, walk, least)
    return new


def merge(one: Fitted, other: Fitted, walk: Walk = FREELY) -> Fitted:
    """Return the model of both samples."""
    assert one.grid is not None
    counts = ("n_samples", "sum_weights", "sum_squared_weights")
    parts = one.moments.samples, other.moments.samples
    new = _empty(
        one.grid,
        one.n_features,
        one.regularisation,
        one.dtype,
        single=parts[0] is not None and parts[1] is not None,
        resolution=max(one.resolution, other.resolution),
        feature_names=one.feature_names,
        **{name: getattr(one, name) + getattr(other, name) for name in counts},
    )

    samples = new.moments.samples

    def task(b: slice) -> None:
        with np.errstate(all="ignore"):
            if samples is not None:
                np.concatenate([part[b] for part in parts if part is not None], axis=1, out=samples[b])
            _write(new, b, one.sample(b).merge(other.sample(b)))

    new.walk(task, new.item_bytes, walk)
    return new


def identity(c: int, p: int, dtype: np.dtype[Any]) -> Fitted:
    """Return P Gaussians of C features, of mean zero and identity covariance."""
    eye = np.broadcast_to(np.eye(c, dtype=dtype), (p, c, c))
    factor = Root(np.full(p, c, np.int64), np.zeros(p), np.zeros(p), eye)
    return Fitted(None, dtype, np.zeros((p, c)), factor=factor)


def from_inverse(mean: Array, inverse: Array, dtype: np.dtype[Any]) -> Fitted:
    """Return Gaussians of given means ``(P, C)`` and inverse covariances ``(P, C, C)``."""
    p, c = mean.shape
    factor = Root.empty(p, c, c, dtype)
    eps = _arguments.precision(inverse.dtype)

    def task(b: slice) -> None:
        w = of_inverse(inverse[b], eps)
        factor[b] = Root.of(w, np.zeros(len(w.rank)))

    _blocks.walk_stack(task, (p,), item_bytes=4 * c * c * 8)
    return Fitted(None, dtype, mean.astype(np.float64), factor=factor)


def like(n_samples: int, n_features: int, how: Regularisation, dtype: np.dtype[Any]) -> Fitted:
    """Return the parameters of so many samples at no patch: all but the number of patches of any."""
    new = _empty((0,), n_features, how, dtype, n_samples=n_samples)
    assert new.scatter is not None
    return replace(new, factor=new.scatter.empty_factor(how.any, dtype)).without_moments()


def _empty(
    grid: tuple[int, ...],
    c: int,
    how: Regularisation,
    dtype: np.dtype[Any],
    single: bool = False,
    **counts: Any,
) -> Fitted:
    """Return room for the moments of so many samples, all unweighted and in single precision or not."""
    p, fourth = math.prod(grid), how.needs_fourth
    return Fitted(
        grid,
        dtype,
        np.empty((p, c)),
        how,
        scatter=Scatter.empty(p, counts["n_samples"], c, single),
        third=np.empty((p, c)) if fourth else None,
        fourth=np.empty(p) if fourth else None,
        **counts,
    )


def _write(new: Fitted, b: slice, part: Sample) -> None:
    """Write the moments of a block, which have to be finite."""
    if not np.isfinite(part.scatter.trace).all():
        raise OutOfRangeError
    new.mean[b], new.moments[b] = part.mean, part.scatter
    if new.moments.shift is not None:
        first = new.moments.array[b, 0]
        new.moments.shift[b] = shift_of(first, part.mean, math.sqrt(1 / new.n_samples))
    if new.third is not None and new.fourth is not None and part.fourth is not None:
        if not np.isfinite(part.fourth).all():
            raise OutOfRangeError
        new.third[b], new.fourth[b] = part.third, part.fourth


def _check_range(part: Sample, x: Array) -> None:
    """Refuse samples that differ by so little that the squares leave the range."""
    small = np.flatnonzero(part.scatter.trace < (_TINY if part.fourth is None else math.sqrt(_TINY)))
    if (x[small] != x[small][:, :1]).any():
        raise TooSmallError
