r"""The distributions of squared distances: densities, probabilities, quantiles, conformal limits.

Of a new sample of the same Gaussian, :math:`T^2 = (x - \bar x)^T S^{-1} (x - \bar x)` with the covariance S
of divisor n - 1 has Hotelling's distribution,
:math:`T^2 \sim \frac{p (n+1)(n-1)}{n (n-p)} F(p, n-p)`: NIST/SEMATECH e-Handbook of Statistical Methods,
6.5.4.3. p is the dimension (the rank of the covariance), n the number of samples. For n to infinity it
is chi-squared with p degrees of freedom.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from mvgauss import _arguments
from mvgauss._arguments import Array


def log_density(squared: Array, rank: Array, log_pdet: Array) -> Array:
    """Return the log density on the support, with respect to its own volume.

    -1/2 (rank log 2 pi + log pdet + d^2), as `scipy.stats.multivariate_normal`.
    """
    return np.asarray(-0.5 * (rank * math.log(2 * math.pi) + log_pdet + squared))


def sf(squared: Array, n: float, p: Array) -> Array:
    """Return P(T^2 >= squared) of a new sample; chi-squared where n is infinite."""
    half, zero = np.maximum(p, 1) / 2, squared <= 0  # without directions every distance is 0
    if math.isinf(n):
        return np.where(p > 0, special.gammaincc(half, squared / 2), zero)
    f = squared * n * (n - p) / ((n + 1) * (n - 1))
    return np.where(p > 0, special.betainc((n - p) / 2, half, (n - p) / (n - p + f)), zero)


def isf(probability: Array | float, n: float, p: Array) -> Array:
    """Return the squared distance that a new sample reaches with the given probability."""
    half = np.maximum(p, 1) / 2
    if math.isinf(n):
        return np.where(p > 0, 2 * special.gammainccinv(half, probability), 0.0)
    b = special.betaincinv((n - p) / 2, half, probability)
    return np.where(p > 0, (n + 1) * (n - 1) / n * (1 - b) / b, 0.0)


def rank_among(d: Array, good: Array) -> Array:
    """Return (1 + how many of the sorted `good` ``(B, n)`` are at least d) / (n + 1), d ``(B, M)``."""
    n = good.shape[1]
    below = np.empty(d.shape, np.intp)
    for i, (sorted_good, distances) in enumerate(zip(good, d, strict=True)):
        below[i] = np.searchsorted(sorted_good, distances, side="left")
    return np.asarray((1 + n - below) / (n + 1))


def conformal_limit(scores: Array, rate: float) -> float:
    """Return the ceil((n + 1)(1 - rate))-th smallest of n scores; refuse a rate too small for n."""
    n = len(scores)
    # (n + 1) rate is rounded first: 0.05 * 20 is a little more than 1
    k = n + 1 - math.floor(round((n + 1) * rate, 9))
    if k > n:
        _arguments.raise_error(
            "false_positive_rate",
            f"at least 1 / (n + 1) = {1 / (n + 1):.4g} with n = {n} images",
            f"{rate:g}",
            hint="more images support a smaller rate",
        )
    return float(np.partition(scores, k - 1)[k - 1])
