"""A Gaussian by the singular values of its centred rows: in double precision, for larger cases."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["svd_gaussian"]

Array = NDArray[Any]


class SvdGaussian(NamedTuple):
    """One fitted Gaussian; see `svd_gaussian`."""

    mean: Array  #: (C,)
    covariance: Array  #: (C, C), with shrinkage and ridge
    inv_covariance: Array  #: (C, C), its pseudo-inverse
    rank: int
    log_pdet: float  #: the sum of the logarithms of the variances that are not zero
    intensity: float  #: of the shrinkage
    ridge: float  #: what shrinkage and reg_covar add to every variance
    directions: Array  #: (K, C), orthonormal, those in which the samples vary
    variances: Array  #: (K,), of the covariance in these directions; elsewhere it is the ridge
    centre: tuple[Array, Array]  #: two vectors (C,) whose sum is the mean: a sample, and the rest
    fitted_to: tuple[Array, Array, tuple[Any, ...]]  #: samples, weights and options

    def mahalanobis(self, y: ArrayLike, squared: bool = False) -> Array:
        """Return the distances ``(M,)`` of samples ``(M, C)``."""
        inside, outside, _ = self._parts(y)
        total = (inside**2 / self.variances).sum(axis=1)
        if self.ridge > 0:
            total += outside**2 / self.ridge
        return np.asarray(total if squared else np.sqrt(total))

    def score_samples(self, y: ArrayLike) -> Array:
        """Return log densities ``(M,)``; of a singular Gaussian on its support, and -inf off it."""
        density = -0.5 * (self.rank * math.log(2 * math.pi) + self.log_pdet + self.mahalanobis(y, True))
        _, outside, length = self._parts(y)
        length = np.maximum(length, math.sqrt(self.variances.max(initial=0)))
        off = outside > math.sqrt(len(self.mean) * np.finfo(float).eps) * length
        return np.where(off & (self.ridge == 0), -np.inf, density)

    def leave_one_out(self, squared: bool = False) -> Array:
        """Return the distance ``(N,)`` of each sample from the Gaussian fitted without it."""
        x, w, options = self.fitted_to
        refits = (svd_gaussian(np.delete(x, i, 0), np.delete(w, i), *options) for i in range(len(x)))
        return np.array([g.mahalanobis(x[i : i + 1], squared)[0] for i, g in enumerate(refits)])

    def _parts(self, y: ArrayLike) -> tuple[Array, ...]:
        """Return deviations along the directions, and the lengths outside of them and in all."""
        z = np.asarray(y).astype(float) - self.centre[0] - self.centre[1]
        inside = z @ self.directions.T
        rest = z - inside @ self.directions
        rest -= rest @ self.directions.T @ self.directions  # what rounding left inside
        return inside, np.linalg.norm(rest, axis=1), np.linalg.norm(z, axis=1)


def svd_gaussian(
    x: ArrayLike,
    weights: ArrayLike | None = None,
    ddof: float = 1.0,
    reg_covar: float = 0.01,
    shrinkage: float | str | None = None,
    resolution: float | None = None,
) -> SvdGaussian:
    r"""Fit a Gaussian by a singular value decomposition of the centred, weighted samples.

    Parameters
    ----------
    x : array_like, shape (N, C)
        Real samples.
    weights : array_like, shape (N,), optional
        How many times each sample counts; their sum is W.
    ddof, reg_covar, shrinkage : optional
        As in `exact_gaussian`.
    resolution : float, optional
        Relative spacing of the numbers in which the samples were stored: by default the machine
        epsilon of half and single precision for samples of these, else 0.

    Returns
    -------
    SvdGaussian
        With `mean`, `covariance`, `inv_covariance`, `rank`, `log_pdet`, `intensity`, the methods
        ``mahalanobis(y, squared=False)`` and ``score_samples(y)``, for y of shape (M, C), and
        ``leave_one_out(squared=False)``, which fits anew without each sample.

    Notes
    -----
    Where shrinkage or ridge add :math:`\delta > 0` to every variance, nothing is dropped. Else a variance
    in the direction u is zero if it is at most :math:`C \epsilon` times the largest, or
    :math:`(1 + C / W) \sum_j u_j^2 (\text{resolution} \cdot r_j)^2`, with root mean squares :math:`r_j`.

    Examples
    --------
    >>> from mvgauss.testing import svd_gaussian
    >>> g = svd_gaussian([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]], reg_covar=0)
    >>> g.rank, g.mahalanobis([[5.0, 5.0]])
    (2, array([1.73205081]))
    """
    given = np.asarray(x)
    if resolution is None:
        resolution = float(np.finfo(given.dtype).eps) if given.dtype in (np.float16, np.float32) else 0.0
    n, c = given.shape
    w = np.ones(n) if weights is None else np.asarray(weights, float)
    total, origin, shift = w.sum(), given[0].astype(float), np.zeros(c)
    z = given.astype(float) - origin
    for _ in range(2):  # the second time it is what rounding left of the mean
        shift, z = shift + w @ z / total, z - w @ z / total
    _, s, v = np.linalg.svd(np.sqrt(w)[:, None] * z, full_matrices=False)
    rho = _intensity(s**2 / total, np.vecdot(z, z) ** 2 @ w / total, total, c, shrinkage)
    data = s**2 / (total - ddof)
    ridge = reg_covar + rho * data.sum() / c  # of every direction
    if ridge == 0:
        noise = (resolution**2 * (w @ given.astype(float) ** 2) / total * v**2).sum(axis=1)
        kept = (data > c * np.finfo(float).eps * data.max(initial=0)) & (data > (1 + c / total) * noise)
        data, v = data[kept], v[kept]
    variances = (1 - rho) * data + ridge
    outside, floor = (np.eye(c) - v.T @ v) * (len(v) < c), 1 / ridge if ridge else 0.0
    return SvdGaussian(
        origin + shift,
        (v.T * variances) @ v + ridge * outside,
        (v.T / variances) @ v + floor * outside,
        c if ridge else len(v),
        float(np.log(variances).sum()) + ((c - len(v)) * math.log(ridge) if ridge else 0.0),
        *(rho, ridge, v, variances, (origin, shift)),
        (given, w, (ddof, reg_covar, shrinkage, resolution)),
    )


def _intensity(variances: Array, fourth: float, n: float, c: int, shrinkage: float | str | None) -> float:
    """Return a fixed intensity, or that of Chen et al. (2010) or of Ledoit and Wolf (2004)."""
    if not isinstance(shrinkage, str):
        return float(shrinkage or 0)
    square, mean = (variances**2).sum(), variances.sum() / c
    spread = ((variances - mean) ** 2).sum() + (c - len(variances)) * mean**2
    if c == 1 or spread == 0:
        return float(c > 1 and shrinkage == "oas")
    if shrinkage == "oas":
        return float(min((square + (c * mean) ** 2) / ((n + 1) * spread), 1.0))
    return float(min(max(fourth - square, 0.0) / n, spread) / spread)
