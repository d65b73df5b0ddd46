"""The limit of a model for which none was set, from its moments."""

from __future__ import annotations

import math

import numpy as np

from mvgauss import _shrinkage
from mvgauss._checks import Array
from mvgauss._distributions import Shape
from mvgauss._fitted import Fitted
from mvgauss._walks import Walk

_RATE = 0.05  #: of good images beyond it


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
        scatter[scatter <= scatter[:, -1:] * k.shape[1] * np.finfo(float).eps] = 0  # by rounding
        ridge = np.broadcast_to(ridge[:, None], scatter.shape)
        total = g[:, None] * scatter + ridge
        hat, left = np.zeros_like(total), np.ones_like(total)
        for part, whole in (scatter, hat), (ridge, left):
            np.divide(part, total, out=whole, where=total > 0)
        return np.stack(Shape.of_new(hat, left, g, n, c), axis=1)

    if n > 1 and (fitted.scatter is not None or not how.any):
        law = Shape(*fitted.per_patch(of_block, np.empty((fitted.n_patches, 4)), walk).T)
    return math.sqrt(law.largest_isf(_RATE))
