"""Moments -> regularised covariance: shrinkage towards a multiple of the identity, and the ridge.

A maths room: no pictures, files, threads or progress.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

import numpy as np

from mvgauss import _checks
from mvgauss._checks import Array
from mvgauss._moments import Moments

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
            rho = _checks.number("shrinkage", shrinkage)
        if rho is not None and rho not in ESTIMATED and not (isinstance(rho, float) and 0 <= rho <= 1):
            wanted = "None, a float in [0, 1], 'oas' or 'ledoit_wolf'"
            _checks.refuse("shrinkage", wanted, _checks.briefly(shrinkage))
        return cls(_checks.number("ddof", ddof), _checks.number("reg_covar", reg_covar, low=0), rho)

    @property
    def needs_fourth(self) -> bool:
        """Return whether the intensity is estimated from fourth moments."""
        return self.shrinkage == "ledoit_wolf"


def refuse_weights(how: Regularisation) -> NoReturn:
    """Refuse samples of unequal weight where the covariance is to be shrunk."""
    _checks.refuse(
        "sample_weight",
        f"None with shrinkage={how.shrinkage!r}",
        "weights",
        hint="the intensity is derived for samples of equal weight only",
    )


def estimate(m: Moments, how: Regularisation) -> tuple[Array, Array]:
    r"""Return regularised covariances ``(B, C, C)`` and the shrinkage intensities ``(B,)``.

    :math:`\hat\Sigma = (1 - \rho) S + \rho (\operatorname{tr} S / C) I + \varepsilon I`, with S the
    covariance of divisor W - ddof V/W. The scatter of `m` is used up: the answer takes its place.
    """
    rho = intensity(m, how.shrinkage)
    s = m.scatter
    s /= m.divisor(how.ddof).astype(s.dtype)[:, None, None]
    i = np.arange(s.shape[-1])
    if how.shrinkage is not None:
        level = s[:, i, i].mean(axis=1)
        s *= (1 - rho).astype(s.dtype)[:, None, None]
        s[:, i, i] += (rho * level).astype(s.dtype)[:, None]
    s[:, i, i] += how.reg_covar
    return s, rho


def intensity(m: Moments, shrinkage: float | str | None) -> Array:
    r"""Return the shrinkage intensities ``(B,)`` of a block, fixed or estimated.

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
    b, p = m.mean.shape
    if not isinstance(shrinkage, str):
        return np.full(b, shrinkage or 0.0)
    if p == 1:  # one variance is a multiple of the identity already
        return np.zeros(b)
    n = m.sum_weights
    s = m.scatter.astype(np.float64) / n[:, None, None]
    i = np.arange(p)
    mu = s[:, i, i].mean(axis=1)
    square = np.vecdot(s, s).sum(axis=1)
    s[:, i, i] -= mu[:, None]
    d = np.vecdot(s, s).sum(axis=1)  # tr S^2 - tr^2 S / p, without the cancellation
    safe = np.where(d > 0, d, 1)
    if shrinkage == "oas":
        above = square + (p * mu) ** 2
        return np.where(d > 0, np.minimum(above / ((n + 1) * safe), 1), 1.0)
    assert m.fourth is not None
    beta = np.maximum(m.fourth / n - square, 0) / n
    return np.where(d > 0, np.minimum(beta, d) / safe, 0.0)
