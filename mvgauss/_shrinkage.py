"""Moments -> the covariance's scale, ridge and shrinkage intensity.

A maths room: no pictures, files, threads or progress.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._sample import Sample
from mvgauss._scatter import Norms

ESTIMATED = ("oas", "ledoit_wolf")


class Regularisation(NamedTuple):
    """How a covariance is made from moments; see `estimate`."""

    ddof: float = 1.0
    reg_covar: float = 0.0
    shrinkage: float | str | None = None

    @classmethod
    def checked(cls, ddof: object, reg_covar: object, shrinkage: object) -> Regularisation:
        """Check the three parameters of that name."""
        rho: float | str | None = None
        if isinstance(shrinkage, str):
            rho = shrinkage
        elif shrinkage is not None:
            rho = _arguments.number("shrinkage", shrinkage)
        if rho is not None and rho not in ESTIMATED and not (isinstance(rho, float) and 0 <= rho <= 1):
            wanted = "None, a float in [0, 1], 'oas' or 'ledoit_wolf'"
            _arguments.raise_error("shrinkage", wanted, _arguments.briefly(shrinkage))
        return cls(_arguments.number("ddof", ddof), _arguments.number("reg_covar", reg_covar, low=0), rho)

    @property
    def needs_fourth(self) -> bool:
        """Whether the intensity is estimated from fourth moments."""
        return self.shrinkage == "ledoit_wolf"

    @property
    def any(self) -> bool:
        """Whether covariances are regularised at all."""
        return bool(self.reg_covar or self.shrinkage)


def estimate(sample: Sample, how: Regularisation) -> tuple[Array, Array, Array]:
    r"""Return scale s, ridge and intensity :math:`\rho`, ``(B,)`` each, of covariances s M + ridge I.

    :math:`\hat\Sigma = (1 - \rho) S + \rho (\operatorname{tr} S / C) I + \varepsilon I`, with S the
    covariance of divisor W - ddof.
    """
    b, c = sample.mean.shape
    divisor = sample.weight - how.ddof
    if how.shrinkage is None:
        nothing = np.zeros(b)
        return np.full(b, 1 / divisor), nothing + how.reg_covar, nothing
    if isinstance(how.shrinkage, str):
        norms = sample.scatter.norms()
        rho, trace = intensity(how.shrinkage, norms, sample.weight, c, sample.fourth), norms.trace
    else:
        rho, trace = np.full(b, how.shrinkage), sample.scatter.trace
    return (1 - rho) / divisor, rho * trace / (divisor * c) + how.reg_covar, rho


def intensity(shrinkage: str, norms: Norms, n: Array | float, p: int, fourth: Array | None) -> Array:
    r"""Return the estimated shrinkage intensities, elementwise, for scatters M of n samples.

    Both estimates are those of their papers for :math:`S = M/n`, the covariance of divisor n, with
    p features:

    - ``"oas"``: Chen, Wiesel, Eldar & Hero (2010), IEEE Trans. Signal Processing 58(10), eq. 23,
      without its two terms 2/p, as scikit-learn has it:
      :math:`\rho = \min(1, (\operatorname{tr} S^2 + \operatorname{tr}^2 S) /
      ((n + 1) (\operatorname{tr} S^2 - \operatorname{tr}^2 S / p)))`. The paper has
      :math:`(1 - 2/p) \operatorname{tr} S^2` above and :math:`n + 1 - 2/p` below: another answer
      for small p.
    - ``"ledoit_wolf"``: Ledoit & Wolf (2004), J. Multivariate Analysis 88, 365-411, lemma 3.3 ff.:
      :math:`\rho = \min(b, d)/d` with :math:`d = \lVert S - \mu I \rVert^2`,
      :math:`b = (\sum_k \lVert x_k - \bar x \rVert^4 / n - \lVert S \rVert^2) / n`.
    """
    if p == 1:  # one variance is a multiple of the identity already
        return np.zeros(np.shape(norms.trace))
    d = norms.off
    safe = np.where(d > 0, d, 1)
    if shrinkage == "oas":
        above = norms.square + np.ldexp(norms.trace, -norms.exponent) ** 2
        return np.where(d > 0, np.minimum(above / ((n + 1) * safe), 1), 1.0)
    assert fourth is not None
    beta = np.maximum(np.ldexp(fourth, -2 * norms.exponent) - norms.square / n, 0)
    return np.where(d > 0, np.minimum(beta / safe, 1), 0.0)
