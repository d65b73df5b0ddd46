"""Distances of good images against the distribution that the model has for them."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss._model.decisions import Hotelling, required_law
from mvgauss._model.state import State
from mvgauss._stats import distributions
from mvgauss.plot._figure import axes_or_current, fitted_state

#: The x axis for each distribution: an approximation does not go by the name of an exact one.
_LABELS = {
    "hotelling": "quantiles of Hotelling's distribution, exact",
    "hotelling-bound": "quantiles of Hotelling's distribution, a bound",
    "leave-one-out": "quantiles of the leave-one-out distances",
    "chi2": "quantiles of chi-squared, of a known Gaussian",
}

#: More different factors of a bound than these are rounded.
_FACTORS = 64

#: A plot has at most so many points, half of them in the upper tail.
_POINTS = 1000


def qq(distances: ArrayLike, model: MultiVariateGaussian, *, ax: Axes | None = None) -> Axes:
    r"""Draw the distances of new good images against their distribution under the model.

    If the model is right, the points follow the line. Points above it mean that distances are larger than
    under the distribution, and p-values too small.

    Parameters
    ----------
    distances : array_like, shape (M, *grid)
        Distances of M good images that were not fitted, as `MultiVariateGaussian.mahalanobis` gives
        them, in standard deviations.
    model : MultiVariateGaussian
        The model that gave them.
    ax : Axes, optional
        Where to draw; by default the current axes of `matplotlib.pyplot`.

    Returns
    -------
    Axes
        The axes; the first line has the points, the second is the diagonal.

    Raises
    ------
    ValueError
        If the model is not fitted or has no distribution, or the distances are not finite, negative or
        of another grid.
    TypeError
        If an argument is of the wrong kind.

    See Also
    --------
    MultiVariateGaussian.p_value : The distributions.
    MultiVariateGaussian.calibrate : For a model that has no distribution.

    Notes
    -----
    All patches are pooled: the distribution is the mixture of those of the patches, of equal shares. The i-th
    smallest of n distances stands at the probability :math:`(i - \tfrac12) / n`; of many distances at most
    a thousand are drawn, more of them in the upper tail. Patches of one image are not independent, nor are
    images scored by one model, so that points scatter more than as many independent ones would.

    The axis names the distribution of `MultiVariateGaussian.p_value_law`: ``"hotelling"`` is exact,
    ``"hotelling-bound"`` has larger distances than a model that is right (points may lie below the line),
    ``"leave-one-out"`` are the distances that the model was calibrated with, and ``"chi2"`` is exact if
    the parameters are those of the Gaussian.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from mvgauss import MultiVariateGaussian, plot
    >>> x = np.random.default_rng(0).normal(size=(80, 3, 4))
    >>> model = MultiVariateGaussian(reg_covar=0).fit(x[:40])
    >>> ax = plot.qq(model.mahalanobis(x[40:]), model, ax=Figure().subplots())
    >>> print(ax.get_xlabel())
    quantiles of Hotelling's distribution, exact
    (standard deviations)
    """
    state = fitted_state(model)
    law = required_law(state)
    d = _arguments.array("distances", distances)
    grid = state.shape
    fits = d.shape[1:] == grid or (state.grid is None and math.prod(d.shape[1:]) == state.n_patches)
    if d.ndim < 1 or not fits or 0 in d.shape:
        _arguments.raise_error("distances", f"shape {('M', *grid)}".replace("'", ""), d.shape)
    _arguments.finite("distances", d)
    if d.min() < 0:
        _arguments.raise_error("distances", "numbers >= 0", f"{d.min():g}")
    n = d.size
    i = np.arange(n)
    if n > _POINTS:
        half = _POINTS // 2
        i = np.unique(np.concatenate([np.linspace(0, n - 1, half), n - np.geomspace(1, n, half)]).astype(int))
    y = np.sort(d, axis=None)[i]
    x = _quantiles(state, (n - i - 0.5) / n)
    ax = axes_or_current(ax)
    ax.plot(x, y, "o", markersize=3, color="C0", label=f"{n:,} distances")
    ax.axline((0, 0), slope=1, color=mpl.rcParams["axes.edgecolor"], linewidth=0.8, zorder=1)
    ax.set(
        xlabel=f"{_LABELS[law]}\n(standard deviations)",
        ylabel="distances of good images\n(standard deviations)",
        xlim=(0, 1.05 * x.max() or 1),
        ylim=(0, 1.05 * y.max() or 1),
    )
    return ax


def _quantiles(state: State, above: Array) -> Array:
    """Return the distances that are exceeded with the given probabilities, all patches pooled."""
    if state.calibration is not None:
        return np.asarray(np.quantile(state.calibration.distances, 1 - above, method="hazen"))
    n, factor = Hotelling.of(state)
    factor = np.maximum(factor, 1e-3)
    if len(np.unique(factor)) > _FACTORS:  # three digits of them are more than a figure shows
        factor = np.exp(np.round(np.log(factor), 3))
    patches = np.stack([state.required_precision().rank, factor])
    (ranks, factors), counts = np.unique(patches, axis=1, return_counts=True)
    ranks, factors = ranks[:, None], factors[:, None]
    each = distributions.isf(above, n, ranks) / factors
    low, high = each.min(axis=0), each.max(axis=0)
    # the quantile of a mixture lies between those of its parts
    for _ in range(40 if len(ranks) > 1 else 0):
        middle = (low + high) / 2
        tail = np.average(distributions.sf(factors * middle, n, ranks), axis=0, weights=counts)
        low, high = np.where(tail > above, middle, low), np.where(tail > above, high, middle)
    return np.asarray(np.sqrt(high))
