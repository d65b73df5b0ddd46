"""The distributions of distances: densities, probabilities, quantiles, conformal limits.

A maths room: blocks of numbers in, blocks of numbers out. p is the dimension (the rank of the
covariance), n the number of samples that the mean and the covariance were estimated from.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from mvgauss import _checks
from mvgauss._checks import Array

Distribution = Literal["hotelling", "leave-one-out", "chi2"]

_SMALLEST = 1e-7  #: of 1 / degrees of freedom: more of them make no difference


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


class Shape(NamedTuple):
    """The law :math:`D^2 = m + t (F(1/a, 1/b) - 1)` of squared distances, ``(P,)`` each."""

    mean: Array  #: m
    scale: Array  #: t
    above: Array  #: a
    below: Array  #: b

    @classmethod
    def chi2(cls, p: Array) -> Shape:
        """Return that of chi-squared with p degrees of freedom."""
        return cls(p * 1.0, p * 1.0, 1 / np.maximum(p, 1), np.full(p.shape, _SMALLEST))

    @classmethod
    def of_new(cls, hat: Array, g: Array, total: float, n: float, c: int) -> Shape:
        r"""Return the law of new samples, from K Q K^T ``(B, k, k)`` of rows K and Q the inverse covariance.

        The rows of a scatter :math:`M = K^T K` are n - 1 independent deviations with the covariance
        :math:`\Sigma` of the samples (those of weights count as n of them). To first order what holds
        of a new one, :math:`\operatorname{tr}(\Sigma Q)^k`, k = 1, 2, 3, is found among them, by
        leaving out of Q one, two or three: with :math:`t_k = \operatorname{tr}(M Q)^k / (n-1)^k`, the
        mean leverage :math:`h = g\, t_1` and :math:`u = 1/(1-h)`,

        .. math::
           m_1 &= t_1 u, \quad m_2 = (t_2 - t_1^2 / (n-1))\, u^4, \
           m_3 &= (t_3 - 3 t_1 (t_2 - t_1^2/(n-1)) / (n-1) - t_1^3/(n-1)^2)\, u^6 + 3 g\, m_2^2 / u .

        Without a ridge these are :math:`C/(1-\gamma)`, :math:`C/(1-\gamma)^3` and
        :math:`C (1+\gamma)/(1-\gamma)^5` with :math:`\gamma = C/(n-1)`: Hotelling's law with one sample
        less. The new sample's distance from the mean multiplies by :math:`1 + 1/n`. The three
        cumulants of :math:`D^2` are :math:`m_1`, :math:`2 m_2` and :math:`8 m_3`; the degrees of freedom
        below are those the regularised covariance leaves over, :math:`(n-1)(1-h)`, or more if the
        cumulants ask for it.
        """
        rows = n - 1
        w = total * rows / n
        hat = hat / w
        square = np.matmul(hat, hat)
        t1, t2 = np.trace(hat, axis1=1, axis2=2), np.square(hat).sum(axis=(1, 2))
        t3 = (square * hat).sum(axis=(1, 2))
        rest = 1 - g * w * t1 / rows
        u = 1 / np.maximum(rest, _SMALLEST)
        pairs = t2 - t1**2 / rows
        m1 = t1 * u
        m2 = np.clip(pairs * u**4, m1**2 / c, m1**2 * u)
        m3 = (t3 - 3 * t1 * pairs / rows - t1**3 / rows**2) * u**6 + 3 * g * w / rows * m2**2 / u
        one = np.where(m1 > 0, m1, 1)
        r2 = np.where(m1 > 0, m2 / one**2, 1)
        b = u / (rows + u)
        s = np.clip(m3 / one**3 / r2, r2, np.sqrt(r2) + 2 * b)
        b = np.minimum(b, s - r2)
        k = s**2 / r2
        free = np.maximum(k - 4 * b, 0)
        a, b = np.maximum((free + np.sqrt(k * free)) / 2, _SMALLEST), np.maximum(b, _SMALLEST)
        m1 = m1 * (1 + 1 / n) / (1 + g * w / rows * m2 / (u * one))
        return cls(m1, m1 * np.sqrt(r2 / (a + b)), a, b)

    def sf(self, squared: float) -> Array:
        """Return P(D^2 >= squared)."""
        t = np.where(self.scale > 0, self.scale, 1)
        f = np.maximum(1 + (squared - self.mean) / t, 0)
        tail = special.fdtrc(1 / self.above, 1 / self.below, f)
        return np.where(self.scale > 0, tail, 0.0)

    def largest_isf(self, probability: float) -> float:
        """Return the squared distance that some of the P patches exceed with at most this probability."""
        high = 1.0
        while self.sf(high).sum() > probability:
            high *= 2
        low = 0.0
        while high - low > 1e-12 * high:
            middle = (low + high) / 2
            if middle in (low, high):
                break
            low, high = (middle, high) if self.sf(middle).sum() > probability else (low, middle)
        return high


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
