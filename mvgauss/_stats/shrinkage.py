"""Moments -> scale, floor and intensity of a regularised covariance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._linalg.whitening import EPS
from mvgauss._stats.moments import Moments

ESTIMATED = ("oas", "ledoit_wolf")

#: An estimated intensity of at most C times this is nothing but rounding.
_ROUNDING = 16 * EPS


class Regularisation(NamedTuple):
    """How a covariance is made from moments; see `estimate`."""

    ddof: float = 1.0
    reg_covar: float = 0.0
    shrinkage: float | str | None = None

    @classmethod
    def checked(cls, ddof: object, reg_covar: object, shrinkage: object) -> Regularisation:
        """Check the three parameters of that name."""
        intensity: float | str | None = None
        if isinstance(shrinkage, str):
            intensity = shrinkage
        elif shrinkage is not None:
            intensity = _arguments.number("shrinkage", shrinkage) or None
        given = intensity is not None
        if given and intensity not in ESTIMATED and not (isinstance(intensity, float) and 0 < intensity <= 1):
            wanted = "None, a float in [0, 1], 'oas' or 'ledoit_wolf'"
            _arguments.raise_error("shrinkage", wanted, _arguments.briefly(shrinkage))
        return cls(
            _arguments.number("ddof", ddof), _arguments.number("reg_covar", reg_covar, low=0), intensity
        )

    @property
    def needs_fourth(self) -> bool:
        """Whether the intensity is estimated from fourth moments."""
        return self.shrinkage == "ledoit_wolf"

    @property
    def regularises(self) -> bool:
        """Whether anything is added to covariances."""
        return bool(self.reg_covar or self.shrinkage)


def estimate(
    moments: Moments, regularisation: Regularisation, noise: Array | None
) -> tuple[Array, Array | None, Array]:
    r"""Return scale s, floor and intensity :math:`\rho`, ``(B,)`` each, of covariances s M + floor I.

    :math:`\hat\Sigma = (1 - \rho) S + \rho (\operatorname{tr} S / C) I + \varepsilon I`, with S the
    covariance of divisor W - ddof. Without regularisation the floor is None. Where the variance of a patch,
    or its estimated intensity, is nothing but rounding, shrinkage adds nothing that is known: :math:`\rho`
    is zero. `noise` is the variance that rounding may have put into each feature; a ridge alone needs none.
    """
    divisor, c = moments.divisor(regularisation.ddof), moments.mean.shape[-1]
    if not regularisation.regularises:
        return 1 / divisor, None, np.zeros(len(divisor))
    rho = np.zeros(len(divisor))
    floor = np.full(len(divisor), regularisation.reg_covar)
    if regularisation.shrinkage is not None:
        assert noise is not None
        trace = moments.trace()
        varies = trace > noise.sum(axis=1) * moments.sum_weights
        rho = np.where(varies, intensity(moments, regularisation), 0)
        floor += rho * trace / (divisor * c)
    return (1 - rho) / divisor, floor, rho


def intensity(moments: Moments, regularisation: Regularisation) -> Array:
    r"""Return the intensities ``(B,)``: given, or estimated from the scatters M of n samples.

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
    n, p, shrinkage = moments.sum_weights, moments.mean.shape[-1], regularisation.shrinkage
    if p == 1 and isinstance(shrinkage, str):  # one variance is a multiple of the identity already
        return np.zeros(len(n))
    if not isinstance(shrinkage, str):
        return np.full(len(n), shrinkage)
    norms = moments.norms()
    off_target = np.where(norms.off_target > 0, norms.off_target, 1)
    if shrinkage == "oas":
        estimated = (norms.square + 1) / ((n + 1) * off_target)
        return np.where(norms.off_target > 0, np.minimum(estimated, 1), 1.0)
    assert moments.fourth is not None
    fourth = moments.fourth / np.where(norms.trace > 0, norms.trace, 1) ** 2
    estimated = np.minimum((fourth - norms.square / n) / off_target, 1)
    estimated = np.where(norms.off_target > 0, estimated, 0.0)
    return np.where(estimated > _ROUNDING * p, estimated, 0.0)
