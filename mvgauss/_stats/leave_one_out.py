r"""The distance of each sample of a block from the Gaussian of the others.

With the weight w of a sample, its deviation v from the mean of all and :math:`\beta = 1 - w/W`, the sample
is :math:`v / \beta` away from the mean of the others, whose scatter is :math:`M - v v^T w / \beta` and whose
covariance is :math:`g\, (M - v v^T w / \beta) + \delta I`, with the scale g that goes with their divisor. By
Sherman & Morrison (1950), with :math:`q = v^T (g M + \delta I)^{-1} v`,

.. math:: d^2 = \frac{1}{\beta^2} \frac{q}{1 - g q w / \beta} .

The intensity and the target of shrinkage, and so the floor :math:`\delta`, are those of all samples.
"""

import math

import numpy as np

from mvgauss._arguments import Array
from mvgauss._linalg.precision import Precision
from mvgauss._linalg.whitening import EPS
from mvgauss._stats.moments import Moments
from mvgauss._stats.shrinkage import Regularisation, estimate


class LeaveOneOut:
    """Leave-one-out distances of a block of patches, of samples with weights ``(N,)``."""

    def __init__(
        self,
        moments: Moments,
        weights: Array,
        regularisation: Regularisation,
        resolution: float,
        eps: float = EPS,
    ) -> None:
        self.moments, self.weights = moments, weights
        self.ddof, self.resolution = regularisation.ddof, resolution
        self.half_of_the_digits = 8 * math.sqrt(eps)  # of the moments; the rounding of q takes a few more
        self.noise = moments.noise(resolution)
        scale, self.floor, _ = estimate(moments, regularisation, self.noise)
        self.unshrunk = scale * moments.divisor(regularisation.ddof)  # 1 - rho

    def precision_without(self, weight: float) -> Precision:
        """Factor g M + floor I of all samples, with the scale g without one of this weight."""
        g = self._scale_without(weight)
        return self.moments.precision(g, self.floor, self.noise, np.dtype(np.float64))

    def closed_form(self, v: Array, weight: float, precision: Precision) -> tuple[Array, Array]:
        """Return squared distances of deviations ``(B, n, C)`` of one weight, and where digits are lost.

        A sample that alone spans a direction leaves less than half of the digits of 1 - g q w / beta: it has
        to be `refitted`.
        """
        beta, g = 1 - weight / self.weights.sum(), self._scale_without(weight)
        q = precision.squared_norms(v)
        difference = 1 - g[:, None] * q * weight / beta
        # without a floor, and of no more than C + 1 samples, each spans a direction of its own
        alone = self.floor is None and self.moments.n_samples <= v.shape[2] + 1
        return q / (beta**2 * difference), ~(difference > self.half_of_the_digits) | alone

    def refitted(self, samples: Array, i: int, patches: Array) -> Array:
        """Return squared distances ``(k,)`` of sample i of ``(k, N, C)`` from the others, fitted anew.

        `patches` are the places of these k patches in the block.
        """
        weights = np.delete(self.weights, i)
        weight = np.broadcast_to(weights, (len(samples), len(weights)))
        others = Moments.of_block(np.delete(samples, i, axis=1), weight, weight, in_rows=True)
        g = self._scale_without(self.weights[i])[patches]
        floor = None if self.floor is None else self.floor[patches]
        precision = others.precision(g, floor, others.noise(self.resolution), np.dtype(np.float64))
        z = samples[:, i : i + 1].astype(np.float64) - others.mean[:, None]
        return np.asarray(precision.squared_norms(z)[:, 0])

    def _scale_without(self, weight: float) -> Array:
        """Return g, ``(B,)``, of the samples without one of this weight."""
        return np.asarray(self.unshrunk / (self.weights.sum() - weight - self.ddof))
