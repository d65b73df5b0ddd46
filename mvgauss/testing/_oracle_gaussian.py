"""Gaussians in exact rational arithmetic, with logarithms to fifty digits, rounded once at the end."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss.testing import _rational
from mvgauss.testing._oracle import mean_of, result_of, scatter_of, squares_of
from mvgauss.testing._rational import Array, Matrix, Vector

__all__ = ["exact_gaussian"]

DIGITS = decimal.Context(prec=50)
LOG_2_PI = decimal.Decimal("1.8378770664093454835606594728112352797227949472755668")


class Fit(NamedTuple):
    """A Gaussian, unrounded."""

    mean: Vector
    covariance: Matrix  #: with shrinkage and ridge
    inverse: Matrix
    intensity: Fraction


Answer = Callable[[Fit, Vector], Fraction | None]


class ExactGaussian(tuple[Array, Array]):
    """Means and inverse covariances, and exact answers from them; see `exact_gaussian`."""

    mean = property(lambda self: self[0])
    inv_covariance = property(lambda self: self[1])
    covariance: Array
    rank: Array
    intensity: Array
    embedding: Array
    fits: list[Fit]
    refit: Callable[[int, int], Fit]  #: without an image, at a patch

    def mahalanobis(self, embedding: ArrayLike, squared: bool = False) -> Array:
        """Return the distances ``(M, *grid)`` of other images."""
        return self._answers(embedding, lambda fit, row: _distance(fit, row, squared))

    def score_samples(self, embedding: ArrayLike) -> Array:
        """Return the log densities ``(M, *grid)`` of other images: -inf off the support."""
        return self._answers(embedding, _log_density)

    def leave_one_out(self, squared: bool = False) -> Array:
        """Return the distance ``(N, *grid)`` of each image from a fit without it."""
        return self._answers(self.embedding, lambda fit, row: _distance(fit, row, squared), self.refit)

    def _answers(self, embedding: ArrayLike, answer: Answer, fit: Any = None) -> Array:
        """Return an answer for every image and patch, rounded once, or -inf."""
        y = np.asarray(embedding)
        rows, out = y.reshape(*y.shape[:2], -1), np.full((len(y), len(self.fits)), -np.inf, self.mean.dtype)
        for i, p in np.ndindex(out.shape):
            value = answer(fit(i, p) if fit else self.fits[p], _rational.vector(rows[i, :, p]))
            if value is not None:
                out[i, p] = _rational.rounded(value, out.dtype)
        return out.reshape(-1, *y.shape[2:])


def exact_gaussian(
    embedding: ArrayLike,
    reg_covar: float = 0.01,
    *,
    ddof: float = 1,
    sample_weight: ArrayLike | None = None,
    shrinkage: float | str | None = None,
    dtype: DTypeLike | None = None,
) -> ExactGaussian:
    """Fit a Gaussian to each patch exactly, and round once.

    Parameters
    ----------
    embedding : array_like, shape (N, C, *grid)
        Embeddings of N images, real and finite.
    reg_covar, ddof : float
        Ridge on the diagonal, and what is taken from the sum of the weights for the divisor.
    sample_weight : array_like, shape (N,), optional
        How many times each image counts.
    shrinkage : float, {"oas", "ledoit_wolf"} or None, optional
        Intensity, or how it is estimated, as in `mvgauss.MultiVariateGaussian`.
    dtype : dtype, optional
        Of the results, by default ``result_type(embedding, float64)``.

    Returns
    -------
    ExactGaussian
        Unpacks into the means, ``(C, P)``, and the inverses, ``(P, C, C)``, of the exact covariances, not of
        rounded ones; P counts the grid in row-major order. It has `mean`, `inv_covariance`, `covariance`,
        `rank`, `intensity` and the methods ``mahalanobis(embedding, squared=False)``,
        ``score_samples(embedding)`` and ``leave_one_out(squared=False)``, which fits anew without each image.

    Examples
    --------
    >>> from mvgauss.testing import exact_gaussian
    >>> mean, inv_covariance = exact_gaussian([[[0.0, 1.0]], [[2.0, 1.0]]], reg_covar=2)
    >>> mean, inv_covariance.ravel()
    (array([[1., 1.]]), array([0.25, 0.5 ]))
    """
    given = np.asarray(embedding)
    x = np.moveaxis(given.reshape(*given.shape[:2], -1), -1, 0)
    w = _rational.vector(np.ones(len(given)) if sample_weight is None else np.asarray(sample_weight))
    how = shrinkage if isinstance(shrinkage, str) else Fraction(float(shrinkage or 0))
    options = Fraction(float(ddof)), Fraction(float(reg_covar)), how
    fits, result = [_fit(patch, w, *options) for patch in x], result_of(x, dtype)
    mean, s, inverse, rho = (_rational.array([f[k] for f in fits], result) for k in range(4))
    g = ExactGaussian((np.ascontiguousarray(mean.T), inverse))
    g.covariance, g.intensity, g.fits, g.embedding = s, rho, fits, given
    g.rank = np.array([len(_rational.reduced(fit.covariance)[1]) for fit in fits])
    g.refit = lambda i, p: _fit(np.delete(x[p], i, 0), w[:i] + w[i + 1 :], *options)
    return g


def _fit(x: Array, w: Vector, ddof: Fraction, ridge: Fraction, how: Fraction | str) -> Fit:
    """Return the Gaussian of ``(N, C)`` samples."""
    columns, total, c = _rational.matrix(x.T), sum(w, Fraction(0)), x.shape[1]
    if total <= ddof:
        raise ValueError(f"sample_weight: expected a sum larger than ddof = {ddof}, got {total}")
    mean, m = mean_of(columns, w), scatter_of(columns, columns, w)
    rho = (
        how
        if isinstance(how, Fraction)
        else _intensity(how, x, w, mean, [[v / total for v in row] for row in m])
    )
    onto = rho * sum((m[j][j] for j in range(c)), Fraction(0)) / (c * (total - ddof)) + ridge
    s = [[(1 - rho) * m[j][k] / (total - ddof) + onto * (j == k) for k in range(c)] for j in range(c)]
    return Fit(mean, s, _rational.pseudo_inverse(s), rho)


def _intensity(name: str, x: Array, w: Vector, mean: Vector, s: Matrix) -> Fraction:
    """Return the intensity of Chen et al. (2010) or of Ledoit and Wolf (2004), S with divisor n."""
    n, c = sum(w, Fraction(0)), len(s)
    square = sum((_rational.dot(row, row) for row in s), Fraction(0))
    trace = sum((s[j][j] for j in range(c)), Fraction(0))
    spread = square - trace**2 / c
    if c == 1 or not spread:
        return Fraction(c > 1 and name == "oas")
    if name == "oas":
        return min((square + trace**2) / ((n + 1) * spread), Fraction(1))
    rows = [[v - m for v, m in zip(row, mean, strict=True)] for row in _rational.matrix(x)]
    fourth = sum((k * _rational.dot(z, z) ** 2 for k, z in zip(w, rows, strict=True)), Fraction(0))
    return min((fourth / n - square) / n, spread) / spread


def _distance(fit: Fit, row: Vector, squared: bool) -> Fraction:
    """Return the distance of a sample, the root as a fraction that rounds as it does."""
    (square,) = squares_of([row], fit.mean, fit.inverse)
    return square if squared else _rational.root(square)


def _log_density(fit: Fit, row: Vector) -> Fraction | None:
    """Return the log density of a sample, -(rank log 2 pi + log pdet + d^2) / 2; None off the support."""
    z = [v - m for v, m in zip(row, fit.mean, strict=True)]
    inside = [_rational.dot(p, z) for p in fit.inverse]
    if [_rational.dot(s, inside) for s in fit.covariance] != z:
        return None
    g, pivots, _ = _rational.reduced(fit.covariance)
    # S = F G with its pivot columns F: the eigenvalues that are not zero are those of G F
    f = [[s[j] for j in pivots] for s in fit.covariance]
    pdet = abs(_rational.reduced(_rational.product(g, f) if pivots else [])[2])
    with decimal.localcontext(DIGITS):
        logs = len(pivots) * LOG_2_PI + _decimal(pdet).ln() + _decimal(_rational.dot(z, inside))
    return -Fraction(logs) / 2


def _decimal(q: Fraction) -> Any:
    """Return a fraction as a decimal number."""
    return decimal.Decimal(q.numerator) / decimal.Decimal(q.denominator)
