"""The diagnostics of a model, over its grid of patches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib import colors, ticker
from matplotlib.axes import Axes

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss._model.card import is_constant
from mvgauss.plot._figure import fitted_state, new_figure

#: The title of each map.
_TITLES = {
    "rank": "rank",
    "condition": "condition number",
    "effective_samples": "effective samples",
    "shrinkage": "shrinkage intensity",
}


def diagnostics(model: MultiVariateGaussian, *, axes: Any = None) -> Array:
    r"""Draw the diagnostics of a model over its grid of patches.

    A quantity that is the same at all patches is written as a number. Otherwise a grid of two axes is
    drawn as a picture, one of one axis as points, and one of more axes as pictures one below another.
    Singular covariances, whose condition number is infinite, are hatched.

    Parameters
    ----------
    model : MultiVariateGaussian
        A fitted model.
    axes : sequence of Axes, optional
        Where to draw, four of them; by default a new figure of `matplotlib.pyplot`.

    Returns
    -------
    ndarray of Axes, shape (4,)
        The axes: rank, condition number, effective samples and shrinkage intensity.

    Raises
    ------
    ValueError
        As `MultiVariateGaussian.diagnostics`, or if there is another number of axes.
    TypeError
        If `model` is no `MultiVariateGaussian`.

    See Also
    --------
    MultiVariateGaussian.diagnostics : The numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from mvgauss import MultiVariateGaussian, plot
    >>> model = MultiVariateGaussian().fit(np.arange(24.0).reshape(3, 2, 2, 2))
    >>> axes = plot.diagnostics(model, axes=Figure().subplots(1, 4))
    >>> for ax in axes:
    ...     print(f"{ax.get_title()}: {ax.texts[0].get_text()}")
    rank: 2
    condition number: 1.28e+04
    effective samples: 3
    shrinkage intensity: 0
    """
    fitted_state(model)
    maps = model.diagnostics()
    constant = [is_constant(values) for values in maps.values()]
    if axes is None:
        axes = _new_axes(maps["rank"].shape, constant)
    drawn = np.asarray(axes, dtype=object).ravel()
    if len(drawn) != len(maps) or not all(isinstance(ax, Axes) for ax in drawn):
        _arguments.raise_error("axes", f"{len(maps)} Axes, one for each map", _arguments.briefly(axes))
    for ax, (name, values), same in zip(drawn, maps.items(), constant, strict=True):
        ax.set_title(_TITLES[name])
        if same:
            _number(ax, float(values.flat[0]))
        else:
            _map(ax, values, name)
    return drawn


def _new_axes(grid: tuple[int, ...], constant: list[bool]) -> list[Axes]:
    """Return axes of a new figure: those of numbers in the first row, then two pictures in each."""
    numbers, pictures = ([i for i, c in enumerate(constant) if c is same] for same in (True, False))
    rows: list[list[Any]] = [pictures[i : i + 2] for i in range(0, len(pictures), 2)]
    high = 2.4 if len(grid) < 2 else min(6.0, max(1.6, 2.6 * math.prod(grid[:-1]) / grid[-1]))
    heights = [high + 0.4] * len(rows)
    if len(pictures) % 2:
        rows[-1] = [".", *rows[-1], *rows[-1], "."]  # in the middle
    if numbers:
        rows, heights = [numbers, *rows], [1.0, *heights]
    mosaic = [[[row]] for row in rows]
    axes = new_figure(7.0, sum(heights)).subplot_mosaic(mosaic, height_ratios=heights)
    return [axes[i] for i in range(len(constant))]


def _number(ax: Axes, value: float) -> None:
    """Write the number that all patches have."""
    text = "\N{INFINITY}" if math.isinf(value) else f"{value:.4g}"
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize="xx-large")


def _map(ax: Axes, values: Array, name: str) -> None:
    """Draw a diagnostic over the grid: points for one axis, a picture with a colour bar for more."""
    shown = np.ma.masked_invalid(values)
    low, high = float(shown.min()), float(shown.max())
    logarithmic = name == "condition" and high > 10 * low
    if values.ndim < 2:
        ax.plot(shown, "o", markersize=3)
        if logarithmic:
            ax.set_yscale("log")
        else:
            ax.set_ylim(0, 1.1 * high or 1)
        ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        ax.set_xlabel("patch")
    else:
        height, width = values.shape[-2:]
        ax.patch.set(facecolor="white", hatch="////", edgecolor="0.5")
        norm = colors.LogNorm(low, high) if logarithmic else colors.Normalize(low, high)
        image = ax.imshow(shown.reshape(-1, width), cmap="viridis", norm=norm, interpolation="nearest")
        for edge in range(height, shown.size // width, height):
            ax.axhline(edge - 0.5, color="white", linewidth=2)
        ax.set(xticks=[], yticks=[])
        assert ax.figure is not None
        ax.figure.colorbar(image, ax=ax, ticks=ticker.MaxNLocator(integer=True) if name == "rank" else None)
    if infinite := shown.size - shown.count():  # condition numbers alone can be
        ax.set_xlabel(f"singular in {infinite:,} of {shown.size:,} patches")
