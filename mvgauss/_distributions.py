"""The distributions of distances: densities, probabilities, quantiles, conformal limits.

A maths room: blocks of numbers in, blocks of numbers out. p is the dimension (the rank of the
covariance), n the number of samples that the mean and the covariance were estimated from.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy import special

from mvgauss import _checks
from mvgauss._checks import Array

Distribution = Literal["hotelling", "leave-one-out", "chi2"]


def log_density(squared: Array, rank: Array, log_pdet: Array) -> Array:
    """Return the log density on the support, with respect to its own volume.

    -1/2 (rank log 2 pi + log pdet + d^2), as `scipy.stats.multivariate_normal`.
    """
    return np.asarray(-0.5 * (rank * math.log(2 * math.pi) + log_pdet + squared))


def hotelling_sf(squared: Array, n: float, p: Array) -> Array:
    """Return P(D^2 >= squared) of a new sample: D^2 ~ p (n+1)(n-1) / (n (n-p)) F(p, n-p).

    NIST/SEMATECH e-Handbook of Statistical Methods, 6.5.4.3; the covariance has divisor n - 1.
    """
    f = squared * (n * (n - p)) / (np.maximum(p, 1) * (n + 1) * (n - 1))
    return np.where(p > 0, special.betainc((n - p) / 2, np.maximum(p, 1) / 2, (n - p) / (n - p + p * f)), 1.0)


def hotelling_isf(probability: Array | float, n: float, p: Array) -> Array:
    """Return the squared distance that a new sample reaches with the given probability."""
    b = special.betaincinv((n - p) / 2, np.maximum(p, 1) / 2, probability)
    return np.where(p > 0, (n + 1) * (n - 1) / n * (1 - b) / b, 0.0)


def chi2_sf(squared: Array, p: Array) -> Array:
    """Return P(D^2 >= squared) for n to infinity: chi-squared with p degrees of freedom."""
    return np.where(p > 0, special.gammaincc(np.maximum(p, 1) / 2, squared / 2), 1.0)


def chi2_isf(probability: Array | float, p: Array) -> Array:
    """Return the squared distance of that law reached with the given probability."""
    return np.where(p > 0, 2 * special.gammainccinv(np.maximum(p, 1) / 2, probability), 0.0)


def rank_among(d: Array, good: Array) -> Array:
    """Return (1 + how many of the sorted `good` ``(B, n)`` are at least d) / (n + 1), d ``(B, M)``."""
    n = good.shape[1]
    below = np.stack([np.searchsorted(g, x, side="left") for g, x in zip(good, d, strict=True)])
    return np.asarray((1 + n - below) / (n + 1))


def conformal_limit(scores: Array, rate: float) -> float:
    """Return the ceil((n + 1)(1 - rate))-th smallest of n scores; refuse a rate too small for n."""
    n = len(scores)
    # (n + 1) rate is rounded first: 0.05 * 20 is a little more than 1
    k = n + 1 - math.floor(round((n + 1) * rate, 9))
    if k > n:
        _checks.refuse(
            "false_positive_rate",
            f"at least 1 / (n + 1) = {1 / (n + 1):.4g} with n = {n} images",
            f"{rate:g}",
            hint="more images support a smaller rate",
        )
    return float(np.partition(scores, k - 1)[k - 1])
