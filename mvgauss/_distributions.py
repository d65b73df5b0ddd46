"""The distributions of distances: densities, probabilities, quantiles, conformal limits.

A maths room: blocks of numbers in, blocks of numbers out. p is the dimension (the rank of the
covariance), n the number of samples that the mean and the covariance were estimated from.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from mvgauss import _arguments
from mvgauss._arguments import Array

Distribution = Literal["hotelling", "leave-one-out", "chi2"]

_SMALLEST = 1e-7  #: of 1 / degrees of freedom: more of them make no difference
_TINY = 1e-90  #: whose third power float64 holds


def log_density(squared: Array, rank: Array, log_pdet: Array) -> Array:
    """Return the log density on the support, with respect to its own volume.

    -1/2 (rank log 2 pi + log pdet + d^2), as `scipy.stats.multivariate_normal`.
    """
    return np.asarray(-0.5 * (rank * math.log(2 * math.pi) + log_pdet + squared))


def sf(squared: Array, n: float, p: Array) -> Array:
    """Return P(D^2 >= squared) of a new sample: D^2 ~ p (n+1)(n-1) / (n (n-p)) F(p, n-p).

    NIST/SEMATECH e-Handbook of Statistical Methods, 6.5.4.3; the covariance has divisor n - 1. For n to
    infinity it is chi-squared with p degrees of freedom.
    """
    half, point = np.maximum(p, 1) / 2, squared <= 0  # of p = 0, all is at 0
    if math.isinf(n):
        return np.where(p > 0, special.gammaincc(half, squared / 2), point)
    f = squared * n * (n - p) / ((n + 1) * (n - 1))
    return np.where(p > 0, special.betainc((n - p) / 2, half, (n - p) / (n - p + f)), point)


def isf(probability: Array | float, n: float, p: Array) -> Array:
    """Return the squared distance that a new sample reaches with the given probability."""
    half = np.maximum(p, 1) / 2
    if math.isinf(n):
        return np.where(p > 0, 2 * special.gammainccinv(half, probability), 0.0)
    b = special.betaincinv((n - p) / 2, half, probability)
    return np.where(p > 0, (n + 1) * (n - 1) / n * (1 - b) / b, 0.0)


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
    def of_pinv(cls, inverse: Array, rank: Array, n: float, unit: float) -> Shape:
        r"""Return the law of new samples, from the pseudo-inverses Q ``(B, C, C)`` of n samples.

        Of deviations whose variances are equal in d dimensions, :math:`D^2` is `unit` times
        :math:`\chi^2_r / \chi^2_b`, with the rank r and b = d - r + 1, where r is n - 1; with r = d it is
        Hotelling's law, b = n - r. With d unknown, or variances of a few sizes, b is what the samples say
        of each other. With G of their products, a direction left out has the squared distance
        :math:`(G^{-2})_{ii} / (G^{-1})_{ii}^2 - 1`, of the mean r' / (b - 1), r' = r - 1. The mean over all
        directions, weighted by :math:`(G^{-1})_{ii}^2`, needs traces alone, those of Q and its square:

        .. math:: b = 1 + (r - 1) \frac{(\operatorname{tr} Q)^2 + 2 \operatorname{tr} Q^2}
           {r \operatorname{tr} Q^2 - (\operatorname{tr} Q)^2} .

        It is at least Hotelling's, and d at most the number of features that vary.
        """
        t1 = np.trace(inverse, axis1=1, axis2=2)
        varying = np.diagonal(inverse, axis1=1, axis2=2) > t1[:, None] * np.finfo(float).eps
        c = varying.sum(axis=1)  # dimensions at most
        t2 = np.square(inverse / np.where(t1 > 0, t1, 1)[:, None, None]).sum(axis=(1, 2))
        r = np.maximum(rank, 1)
        b = 1 + (r - 1) * (1 + 2 * t2) / np.maximum(r * t2 - 1, _SMALLEST)
        b = np.clip(b, n - r, np.maximum(c, n - 1) - r + 1)
        s = np.where(rank > 0, unit * r / b, 0)
        return cls(s, s, 1 / r, 1 / b)

    @classmethod
    def of_new(cls, hat: Array, left: Array, g: Array, n: float, c: int) -> Shape:
        r"""Return the law of new samples, from eigenvalues `hat` of K Q K^T and `left` of I - g K Q K^T.

        The scatter :math:`M = K^T K` of n samples of covariance :math:`\Sigma` is that of n - 1
        independent deviations, and :math:`Q = (g M + \delta I)^{-1}`. Given Q, the :math:`D^2` of a new
        sample has the cumulants :math:`m_1, 2 m_2, 8 m_3` with
        :math:`m_k = \operatorname{tr}(\Sigma Q)^k`. Each is found among the deviations, from products
        :math:`v_i^T Q v_j` of one, pairs and triples of different ones that are left out of Q to first
        order. With the eigenvalues :math:`a_i` of :math:`K Q K^T` and :math:`e_i = 1 - g a_i`, n - 1 of
        them, a and e their means, and :math:`r_k = m_k / m_1^k`,

        .. math::
           m_1 = \frac{a}{e}, \quad v_i = \frac{a_i / a - e_i / e}{n-1}, \quad
           r_2 = \sum v_i^2, \quad r_3 = \sum v_i^3 + 3 g a\, r_2^2 .

        Without a ridge, and with :math:`\gamma = C/(n-1)`, these are :math:`m_1 = C/(1-\gamma)`,
        :math:`m_2 = C/(1-\gamma)^3` and :math:`m_3 = C (1+\gamma)/(1-\gamma)^5`, and the law is Hotelling's
        but for terms of 1/n. To the mean, which belongs to Q without one sample, its share is added,
        :math:`m_1 / (1 + g a r_2)`, and the distance of the mean from its expectation
        multiplies by 1 + 1/n. The degrees of freedom below are :math:`(n-1) e + 1`, or more if the
        cumulants ask for it.
        """
        rows, missing = n - 1, n - 1 - hat.shape[1]  # the others: a = 0, e = 1
        mean = hat.sum(axis=1) / rows
        e = np.maximum((left.sum(axis=1) + missing) / rows, _TINY)
        m1, one = mean / e, np.where(mean > 0, mean, 1)
        v, other = (hat / one[:, None] - left / e[:, None]) / rows, -1 / (e * rows)
        r2, r3 = ((v**k).sum(axis=1) + missing * other**k for k in (2, 3))
        r2 = np.where(m1 > 0, np.clip(r2, 1 / c, 1 / e), 1)
        r3 += 3 * g * mean * r2**2
        b = 1 / (rows * e + 1)
        s = np.clip(r3 / r2, r2, np.sqrt(r2) + 2 * b)
        # the law whose second and third cumulants are these
        b = np.minimum(b, s - r2)
        k = s**2 / r2
        free = np.maximum(k - 4 * b, 0)
        a, b = np.maximum((free + np.sqrt(k * free)) / 2, _SMALLEST), np.maximum(b, _SMALLEST)
        m1 = m1 * (1 + 1 / n) / (1 + g * mean * r2)
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
        _arguments.raise_error(
            "false_positive_rate",
            f"at least 1 / (n + 1) = {1 / (n + 1):.4g} with n = {n} images",
            f"{rate:g}",
            hint="more images support a smaller rate",
        )
    return float(np.partition(scores, k - 1)[k - 1])
