"""Ellipses of a Gaussian of two features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from numpy.typing import ArrayLike

from mvgauss import _arguments
from mvgauss.plot._figure import axes_or_current


def ellipse(
    mean: ArrayLike,
    covariance: ArrayLike,
    *,
    level: float | Sequence[float] = 0.95,
    ax: Axes | None = None,
    **style: Any,
) -> list[Ellipse]:
    r"""Draw the ellipses that hold given probabilities of a Gaussian of two features.

    Parameters
    ----------
    mean : array_like, shape (2,)
        Mean.
    covariance : array_like, shape (2, 2)
        Covariance: positive semi-definite. Of a model, that of features i and j of patch p is
        ``model.covariance[p][np.ix_([i, j], [i, j])]``.
    level : float or sequence of float, default 0.95
        Probabilities inside, between 0 and 1.
    ax : Axes, optional
        Where to draw; by default the current axes of `matplotlib.pyplot`.
    **style : object
        Properties of the patches, as of `matplotlib.patches.Ellipse`. By default they are not filled,
        and the lines solid, dashed, dash-dotted and dotted in the order of the levels.

    Returns
    -------
    list of Ellipse
        The patches, one for each level, with labels for a legend.

    Raises
    ------
    ValueError
        If an argument has the wrong shape or value, as a covariance that is not positive semi-definite.
    TypeError
        If an argument is of the wrong kind.

    Notes
    -----
    The squared distance of two features follows :math:`\chi^2_2`, so that the points of probability
    :math:`\alpha` lie within the distance :math:`\sqrt{-2 \log(1 - \alpha)}`. This is for a known
    mean and covariance; if they are estimated from few samples, fewer new samples lie inside.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from mvgauss import plot
    >>> (patch,) = plot.ellipse([1, 2], np.diag([9, 4]), level=1 - np.exp(-0.5), ax=Figure().subplots())
    >>> float(round(patch.width, 9)), float(round(patch.height, 9))
    (6.0, 4.0)
    """
    mu, sigma = _arguments.array("mean", mean), _arguments.array("covariance", covariance)
    for name, a, shape in (("mean", mu, (2,)), ("covariance", sigma, (2, 2))):
        if a.shape != shape:
            _arguments.raise_error(name, f"shape {shape}", f"shape {a.shape}", hint="choose two features")
        _arguments.finite(name, a)
    sigma = sigma.astype(np.float64)
    size = np.abs(sigma).max()
    if abs(sigma[0, 1] - sigma[1, 0]) > 1e-5 * size:
        _arguments.raise_error("covariance", "a symmetric matrix", _arguments.briefly(sigma.tolist()))
    values, vectors = np.linalg.eigh(sigma)
    if values[0] < -1e-5 * size:
        _arguments.raise_error("covariance", "a positive semi-definite matrix", f"eigenvalue {values[0]:.3g}")
    levels = [_arguments.number("level", v, low=0, above=True) for v in np.ravel(level)]
    if max(levels, default=0) >= 1:
        _arguments.raise_error("level", "probabilities between 0 and 1", f"{max(levels):g}")
    ax = axes_or_current(ax)
    angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1]))  # of the longer axis
    sides = 2 * np.sqrt(np.maximum(values[::-1], 0))
    patches = []
    for i, v in enumerate(levels):
        width, height = sides * math.sqrt(-2 * math.log1p(-v))
        patch = Ellipse((float(mu[0]), float(mu[1])), width, height, angle=angle)
        patch.set(
            fill=False,
            edgecolor=mpl.rcParams["axes.edgecolor"],
            linestyle=("-", "--", "-.", ":")[i % 4],
            linewidth=mpl.rcParams["lines.linewidth"],
            label=f"{100 * v:.4g} %",
        )
        patch.set(**style)
        ax.add_patch(patch)
        patches.append(patch)
    ax.autoscale_view()
    return patches
