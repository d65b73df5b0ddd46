r"""Leave-one-out distances of a block of samples in closed form, by their leverages.

With the weight w of a sample, its deviation v from the mean of all and
:math:`\beta = 1 - w/W`, the sample is :math:`v / \beta` away from the mean of the others, whose scatter
is :math:`M - v v^T w / \beta`, divisor :math:`D = W - w - \mathrm{ddof}` and covariance

.. math:: g\, (M - v v^T w / \beta) + \delta I, \quad g = (1 - \rho) / D,

with the intensity :math:`\rho` and the total ridge :math:`\delta` that they have without the sample. By
Sherman & Morrison (1950), with :math:`q = v^T (g M + \delta I)^{-1} v`,

.. math:: d^2 = \frac{1}{\beta^2} \frac{q}{1 - g q w / \beta} .

A sample that alone spans a direction has :math:`g q w / \beta` near 1. The functions tell where the
closed form has lost more than half of the digits; there the patch has to be fitted without the sample.
A maths room.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from mvgauss import _whitening
from mvgauss._arguments import Array
from mvgauss._sample import Sample
from mvgauss._scatter import Norms
from mvgauss._shrinkage import Regularisation, intensity

_EPS = float(np.finfo(np.float64).eps)
_HALF = math.sqrt(_EPS)  #: the relative error that half of the digits leave


@dataclass(frozen=True)
class Others:
    """What remains of samples without each one, as far as weights and regularisation go."""

    how: Regularisation
    weight: Array  #: (N,), of the samples
    total: float  #: of all weights

    @property
    def beta(self) -> Array:
        """1 - w / W, ``(N,)``."""
        return 1 - self.weight / self.total

    @property
    def divisor(self) -> Array:
        """W - w - ddof, ``(N,)``."""
        return self.total - self.weight - self.how.ddof

    @property
    def alike(self) -> bool:
        """Whether one g and one ridge hold without any of the samples."""
        return not self.how.shrinkage and float(np.ptp(self.divisor)) == 0

    def regularised(self, sample: Sample, zz: Array, zmz: Array, zt: Array) -> tuple[Array, Array, Array]:
        r"""Return g, the total ridges, and where they are lost, ``(B, N)`` each.

        `zz`, `zmz` and `zt` are :math:`w \lVert v \rVert^2`, :math:`w\, v^T M v` and :math:`w\, t^T v`
        with the third moments t.
        """
        how, c, beta = self.how, sample.mean.shape[1], self.beta
        norms = sample.scatter.norms()
        trace = np.maximum(norms.trace[:, None] - zz / beta, 0)
        lost = trace < _HALF * norms.trace[:, None]
        if isinstance(how.shrinkage, str):
            e = norms.exponent[:, None]
            out = np.ldexp(zz / beta, -e)
            square = norms.square[:, None] - 2 * np.ldexp(zmz / beta, -2 * e) + out**2
            off = np.maximum(square - np.ldexp(trace, -e) ** 2 / c, 0)
            lost |= off < _HALF * norms.square[:, None]
            fourth = None
            if sample.fourth is not None:
                fourth = self._fourth(sample.fourth[:, None], norms.trace[:, None], zz, zmz, zt)
                lost |= fourth < _HALF * sample.fourth[:, None]
            rho = intensity(how.shrinkage, Norms(trace, square, off, e), self.total - self.weight, c, fourth)
        else:
            rho = np.full(zz.shape, how.shrinkage or 0.0)
        ridge = rho * trace / (self.divisor * c) + how.reg_covar
        return (1 - rho) / self.divisor, ridge, lost | (ridge <= 0) | (self.weight == 0)

    def _fourth(self, q: Array, trace: Array, zz: Array, zmz: Array, zt: Array) -> Array:
        """Return the fourth moments of the others about their mean, see `Sample.about`."""
        w = np.where(self.weight > 0, self.weight, 1)
        shift = self.weight / self.total / self.beta  # of the mean, in units of v
        vv = zz / w
        return np.asarray(
            q
            + 4 * shift * zt / w
            + 4 * shift**2 * zmz / w
            + 2 * trace * shift**2 * vv
            + self.total * (shift**2 * vv) ** 2
            - self.weight * (vv / self.beta**2) ** 2
        )


def of_few(sample: Sample, z: Array, noise: Array | None, others: Others) -> tuple[Array, Array]:
    r"""Return squared distances and where they are lost, of samples no more than C + 1.

    The rows :math:`\sqrt w\, v` are :math:`K^T b` with the rows b of the reflection that made K (see
    `rows_of`), :math:`\lVert b \rVert^2 = \beta`. With :math:`G = K K^T` and
    :math:`p = (g G + \delta I)^{-1} b`,

    .. math:: q w = g \lVert G p \rVert^2 + \delta\, p^T G p, \quad
       1 - g q w / \beta = \delta\, b^T p / \beta,

    both without a difference. Without a ridge what the sample alone spans is left out, and for
    :math:`\delta \to 0` remains :math:`d^2 = \lVert p - b\, b^T p / \beta \rVert^2 / (g w (b^T p)^2)`
    with :math:`p = (g G)^{-1} b`. `sample` has the rows K, and z the rows :math:`\sqrt w\, v`.
    """
    k = sample.scatter.array
    gram = np.matmul(k, k.swapaxes(1, 2))
    error = gram.shape[1] * _EPS * np.sqrt(np.square(gram).sum(axis=(1, 2)))[:, None]
    u = np.sqrt(others.weight / others.total)
    b = np.vstack([-u[None, 1:], np.eye(len(u) - 1) - np.outer(u[1:], u[1:]) / (1 + u[0])])
    w = np.where(others.weight > 0, others.weight, 1)
    lost = np.broadcast_to(others.weight == 0, z.shape[:2])
    if others.alike:
        g, ridge = 1 / others.divisor, np.asarray(others.how.reg_covar)
        i = np.arange(gram.shape[1])
        shifted = gram * g[0]
        shifted[:, i, i] += ridge
        t = _whitening.whiten(shifted, np.full(len(k), ridge))
        root = np.matmul(b, t.root.swapaxes(1, 2))
        p = np.matmul(root, t.root)
        bp, pp = np.vecdot(root, root), np.vecdot(p, p)
        if not ridge:
            y = p - (bp / others.beta)[..., None] * b
            yy, inverse = np.vecdot(y, y), np.square(t.root).sum(axis=(1, 2))[:, None]
            lost = lost | (t.rank < len(i))[:, None]
            lost = lost | (g * error * inverse * np.sqrt(pp) > _HALF * np.sqrt(yy))
            if noise is not None:  # a direction may be nothing but noise
                lost = lost | (3 * noise.max(axis=1)[:, None] * inverse > 1)
            return yy / (w * g * np.where(bp > 0, bp, 1) ** 2), lost
        gp = np.matmul(p, gram)
    else:
        values, vectors = np.linalg.eigh(gram)
        values = np.maximum(values, 0)[:, None]
        b = np.matmul(b, vectors)
        zmz, zt = np.square(b * values).sum(axis=2), np.zeros(z.shape[:2])
        if sample.third is not None:
            zt = np.matmul(z, sample.third[..., None])[..., 0] * np.sqrt(w)
        g, ridge, lost = others.regularised(sample, np.vecdot(z, z), zmz, zt)
        p = b / (g[..., None] * values + np.where(ridge > 0, ridge, 1)[..., None])
        bp, pp, gp = np.vecdot(b, p), np.vecdot(p, p), p * values
    q = (g * np.vecdot(gp, gp) + ridge * np.vecdot(p, gp)) / w
    rest = np.where(lost, 1, ridge * bp / others.beta)
    return q / rest / others.beta**2, lost | (g * error * pp > _HALF * bp)


class OfMany:
    """The same of samples more than the features, for a block of patches."""

    def __init__(self, sample: Sample, noise: Array | None, others: Others) -> None:
        self._sample, self._others = sample, others
        k, m = sample.scatter.array, sample.scatter.square()
        self._error = m.shape[1] * _EPS * np.sqrt(np.square(m).sum(axis=(1, 2)))[:, None]
        if others.alike:
            ridge = others.how.reg_covar
            i = np.arange(m.shape[1])
            s = m / others.divisor[0]
            s[:, i, i] += ridge
            rows = k / np.sqrt(others.divisor[0])
            self._root = _whitening.whiten(s, np.full(len(s), ridge), noise, rows=rows).root
        else:
            _, values, vectors = np.linalg.svd(k, full_matrices=False)
            self._values, self._vectors = np.square(values), vectors.swapaxes(1, 2)

    def of(self, v: Array, some: slice) -> tuple[Array, Array]:
        """Return squared distances and where they are lost, of some samples' deviations ``(B, n, C)``."""
        others = replace(self._others, weight=self._others.weight[some])
        w = others.weight
        if self._others.alike:
            g, lost = 1 / others.divisor, np.broadcast_to(w == 0, v.shape[:2])
            y = np.matmul(v, self._root.swapaxes(1, 2))
            k = np.matmul(y, self._root)
            q = np.vecdot(y, y)
        else:
            values = self._values[:, None]
            y, zt = np.matmul(v, self._vectors), np.zeros(v.shape[:2])
            if self._sample.third is not None:
                zt = w * np.matmul(v, self._sample.third[..., None])[..., 0]
            zmz = w * np.square(y * np.sqrt(values)).sum(axis=2)
            g, ridge, lost = others.regularised(self._sample, w * np.vecdot(y, y), zmz, zt)
            k = y / (g[..., None] * values + np.where(ridge > 0, ridge, 1)[..., None])
            q = np.vecdot(y, k)
        rest = 1 - g * q * w / others.beta
        loss = w / others.beta * g**2 * self._error * np.vecdot(k, k) + v.shape[2] * _EPS
        lost = lost | (loss > _HALF * rest)
        return q / np.where(lost, 1, rest) / others.beta**2, lost
