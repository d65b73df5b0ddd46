"""The limit of a model for which none was set, and which images may not set one."""

import math

import numpy as np

from mvgauss import _blocks, _arguments, _shrinkage
from mvgauss._arguments import Array
from mvgauss._distance import deviations
from mvgauss._distributions import Shape
from mvgauss._embedding import Embedding
from mvgauss._fitted import Fitted
from mvgauss._thin import Thin
from mvgauss._walks import Walk

_RATE = 0.05  #: of good images beyond it
_EPS = float(np.finfo(np.float64).eps)
_LOOK = 8  #: patches that tell fitted images from others
_OPEN = 16  #: how many numbers at these would have to agree by chance


def by_default(fitted: Fitted, walk: Walk) -> float:
    """Return the distance that some patch of a good image exceeds with a probability of about 5 %."""
    if fitted.default_limit is None:
        object.__setattr__(fitted, "default_limit", _of(fitted, walk))
    assert fitted.default_limit is not None
    return fitted.default_limit


def _of(fitted: Fitted, walk: Walk) -> float:
    factor, how, c = fitted.factors(walk), fitted.regularisation, fitted.n_features
    if fitted.distribution == "hotelling":
        return math.sqrt(fitted.isf(_RATE / fitted.n_patches, factor.rank.max()))
    law, n = Shape.chi2(factor.rank), fitted.sum_weights  # a weight counts how often a sample is there

    def of_block(b: slice) -> Array:
        if not how.any:
            unit = (n - how.ddof) * (1 + 1 / n)
            return np.stack(Shape.of_pinv(factor[b].inverse(), factor.rank[b], n, unit), axis=1)
        (g, ridge, _), k = _shrinkage.estimate(fitted.sample(b), how), fitted.moments[b].array
        scatter = np.linalg.eigvalsh(np.matmul(k, k.swapaxes(1, 2)))
        scatter = scatter[:, -min(k.shape[1], fitted.n_samples - 1) :]  # all others are zero
        scatter[scatter <= scatter[:, -1:] * k.shape[1] * _EPS] = 0  # by rounding
        ridge = np.broadcast_to(ridge[:, None], scatter.shape)
        total = g[:, None] * scatter + ridge
        hat, left = np.zeros_like(total), np.ones_like(total)
        for part, whole in (scatter, hat), (ridge, left):
            np.divide(part, total, out=whole, where=total > 0)
        return np.stack(Shape.of_new(hat, left, g, n, c), axis=1)

    if n > 1 and (fitted.scatter is not None or not how.any):
        law = Shape(*fitted.per_patch(of_block, np.empty((fitted.n_patches, 4)), walk).T)
    return math.sqrt(law.largest_isf(_RATE))


def raise_if_fitted(fitted: Fitted, x: Embedding, n_jobs: int | None) -> None:
    """Refuse fitted images where held-out ones are expected, as far as the model can tell."""
    with np.errstate(all="ignore"):  # what is not finite is refused when it is scored
        count = _count_in_rows(fitted, x, n_jobs)
        if not count and x.n_samples == fitted.n_samples and not fitted.weighted and _all_fitted(fitted, x):
            count = x.n_samples
    if count:
        _arguments.raise_error(
            "embedding",
            "good images that were not fitted",
            f"{count} of the {fitted.n_samples} fitted ones" if count < x.n_samples else "fitted ones",
            hint="use source='training' for these",
        )


def _count_in_rows(fitted: Fitted, x: Embedding, n_jobs: int | None) -> int:
    r"""Return how many images are among few fitted samples, wherever these are linearly independent.

    The deviation v of a fitted sample of weight w lies in the span of the rows K at each patch, with
    :math:`v^T (K^T K)^+ v = 1/w - 1/W`. The span has to leave enough directions open, so that no others
    do so by chance.
    """
    # not all on one edge of a grid, which may show one background
    some = np.unique(((np.arange(_LOOK) + 0.5) * 0.618 % 1 * x.n_patches).astype(int))
    if fitted.scatter is not None and fitted.scatter.rows:
        rows = fitted.scatter[some].array
    elif isinstance(fitted.factor, Thin):
        rows = fitted.factor.rows[some]
    else:
        return 0
    k, mean = rows.astype(np.float64), fitted.mean[some]
    z = deviations(x.samples(some), mean)
    p, n, c = k.shape
    basis, r = np.empty((p, c, n)), np.empty((p, n, n))

    def task(b: slice) -> None:
        basis[b], r[b] = np.linalg.qr(k[b].swapaxes(1, 2))

    _blocks.walk(task, _blocks.slices(p, _blocks.BLOCK_BYTES), n_jobs=n_jobs)
    y = np.matmul(z, basis)
    size, at = np.linalg.norm(k, axis=(1, 2)), np.linalg.norm(mean, axis=1)
    rounding = 64 * (_arguments.precision(rows.dtype) * size + _EPS * at)
    found = (np.linalg.norm(z - np.matmul(y, basis.swapaxes(1, 2)), axis=2) <= rounding[:, None]).all(axis=0)
    # how far a sample was from the span of those before
    telling = np.abs(np.diagonal(r, axis1=1, axis2=2)).min(axis=1, initial=np.inf) > 16 * rounding
    left_open = (k != 0).any(axis=1).sum(axis=1) - n
    if left_open[telling].sum() < _OPEN:
        return 0
    inverse = np.linalg.inv(r[telling])
    length = np.linalg.norm(np.matmul(y[telling], inverse.swapaxes(1, 2)), axis=2)
    error = (rounding[telling] * np.linalg.norm(inverse, axis=(1, 2)))[:, None]
    wanted = length[:1] if fitted.weighted else math.sqrt(1 - 1 / fitted.n_samples)
    found &= (np.abs(length - wanted) <= error + error[:1]).all(axis=0)
    return int(found.sum())


def _all_fitted(fitted: Fitted, x: Embedding) -> bool:
    """Return whether the images have the mean of as many fitted ones, and the same squares about it."""
    if fitted.scatter is None:
        return False
    total, squares = np.zeros(fitted.mean.shape), np.zeros(fitted.mean.shape)
    for _, stack in x.parts():
        blocks = _blocks.flat(stack, 2, x.grid)
        for b in _blocks.slices(x.n_patches, stack.shape[-2] * x.n_features * 8):
            v = deviations(blocks[b], fitted.mean[b])
            total[b] += v.sum(axis=1)
            squares[b] += np.square(v).sum(axis=1)
    n, diagonal = fitted.n_samples, fitted.scatter.diagonal
    spread = np.sqrt(diagonal / n)
    size = spread + np.abs(fitted.mean)
    # a copy in half or single precision, where that keeps the images apart
    copied = max(fitted.resolution, _arguments.precision(x.dtype)) * size
    copied[copied > spread / 16] = 0
    rounding = 64 * n * _EPS * size + 4 * copied / math.sqrt(n)
    same = np.abs(total) <= n * rounding
    same &= np.abs(squares - diagonal) <= n * rounding * (spread + rounding)
    return bool(diagonal.any() and same.all())
