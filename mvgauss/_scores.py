"""What distances mean: densities, probabilities, leave-one-out, limits.

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

Law = Literal["hotelling", "leave-one-out", "chi2"]


def log_density(squared: Array, rank: Array, log_pdet: Array) -> Array:
    """Return the log density on the support, with respect to its own volume.

    -1/2 (rank log 2 pi + log pdet + d^2), as `scipy.stats.multivariate_normal`.
    """
    return np.asarray(-0.5 * (rank * math.log(2 * math.pi) + log_pdet + squared))


def off_support(z: Array, w: Array) -> Array:
    r"""Return which deviations ``(B, M, C)`` leave the support of deficient factors ``(B, C, C)``.

    The rows of such a factor are orthogonal, each as long as the inverse of its standard deviation.
    What of z lies outside of their span may be rounding up to :math:`\sqrt{C \epsilon}` times the
    larger of z and the largest standard deviation: the square root of the cut-off that dropped the
    other directions.
    """
    length = np.linalg.norm(w, axis=2)
    kept = length > 0
    u = w / np.where(kept, length, 1)[:, :, None]
    rest = z - np.matmul(np.matmul(z, u.swapaxes(1, 2)), u)
    largest = 1 / np.min(length, axis=1, initial=np.inf, where=kept)
    size = np.maximum(np.linalg.norm(z, axis=2), largest[:, None])
    tolerance = math.sqrt(w.shape[-1] * np.finfo(w.dtype).eps) * size
    return np.asarray(np.linalg.norm(rest, axis=2) > tolerance)


def hotelling_sf(squared: Array, n: float, p: Array) -> Array:
    """Return P(D^2 >= squared) of a new sample: D^2 ~ p (n+1)(n-1) / (n (n-p)) F(p, n-p).

    NIST/SEMATECH e-Handbook of Statistical Methods, 6.5.4.3; the covariance has divisor n - 1.
    """
    f = squared * (n * (n - p)) / (np.maximum(p, 1) * (n + 1) * (n - 1))
    return np.where(p > 0, special.betainc((n - p) / 2, np.maximum(p, 1) / 2, (n - p) / (n - p + p * f)), 1.0)


def hotelling_isf(probability: float, n: float, p: Array) -> Array:
    """Return the squared distance that a new sample reaches with the given probability."""
    b = special.betaincinv((n - p) / 2, np.maximum(p, 1) / 2, probability)
    return np.where(p > 0, (n + 1) * (n - 1) / n * (1 - b) / b, 0.0)


def chi2_sf(squared: Array, p: Array) -> Array:
    """Return P(D^2 >= squared) for n to infinity: chi-squared with p degrees of freedom."""
    return np.where(p > 0, special.gammaincc(np.maximum(p, 1) / 2, squared / 2), 1.0)


def chi2_isf(probability: float, p: Array) -> Array:
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


def downdated(v: Array, w: Array, c: Array, stretch: Array, ridge: bool) -> Array:
    r"""Return squared distances under covariances from which the sample itself is taken.

    Parameters
    ----------
    v : ndarray, shape (B, N, C)
        Deviations from the mean of all samples.
    w : ndarray, shape (B, C, C)
        Factors of A, the covariance before the sample is taken out: :math:`A - c v v^T` remains.
    c, stretch : ndarray, shape (N,) or (B, N)
        That c, and how much longer the deviation from the mean of the others is.
    ridge : bool
        Whether A contains a ridge: then c q < 1, however little.

    Notes
    -----
    With :math:`q = v^T A^+ v`, Sherman & Morrison (1950) give
    :math:`v^T (A - c v v^T)^{-1} v = q / (1 - c q)`. Where c q = 1 nothing else spans the direction
    :math:`k = A^+ v`; the pseudo-inverse of what remains is :math:`P A^+ P` with
    :math:`P = I - k k^T / k^T k`, and leaves :math:`(q / k^T k)^2 k^T A^+ k - q`.
    """
    y = np.matmul(v, w.swapaxes(1, 2))
    q = np.vecdot(y, y)
    left = 1 - c * q
    eps = np.finfo(w.dtype).eps
    alone = np.zeros(left.shape, bool) if ridge else left <= math.sqrt(eps)
    left = np.maximum(left, eps)
    result = q / np.where(alone, 1, left)
    if alone.any():
        k = np.matmul(y, w)
        kk = np.vecdot(k, k)
        wk = np.matmul(k, w.swapaxes(1, 2))
        ratio = q / np.where(kk > 0, kk, 1)
        other = np.maximum(ratio**2 * np.vecdot(wk, wk) - q, 0)
        result = np.where(alone, other, result)
    return np.asarray(result * stretch**2)
