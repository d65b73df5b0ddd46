"""Figures and axes: what is drawn into, and images side by side in rows."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colors, patheffects
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss._model.state import State

#: The end of a colour scale that covers a limit, in limits.
_COVER = 1.25


class NotebookFigure(Figure):
    """A figure of pyplot that a notebook shows once.

    The inline backend shows every figure of pyplot when a cell ends, and IPython shows the value of its
    last line: a figure returned there would come twice.
    """

    def _ipython_display_(self) -> None:
        """Take the figure, which is about to be shown, out of what the end of the cell will show."""
        if mpl.get_backend().removeprefix("module://") in ("inline", "matplotlib_inline.backend_inline"):
            plt.close(self)
        raise NotImplementedError  # so that IPython shows it as any other figure


def new_figure(width: float, height: float) -> Figure:
    """Return a new figure of pyplot in constrained layout, its size in inches."""
    return plt.figure(figsize=(width, height), layout="constrained", FigureClass=NotebookFigure)


def axes_or_current(ax: Any) -> Axes:
    """Return the axes to draw into; None stands for the current ones of pyplot."""
    if ax is None:
        return plt.gca()
    if not isinstance(ax, Axes):
        _arguments.raise_error("ax", "Axes of matplotlib", type(ax).__name__, TypeError)
    return ax


def fitted_state(model: object) -> State:
    """Return what a model fitted; refuse another thing."""
    if not isinstance(model, MultiVariateGaussian):
        _arguments.raise_error("model", "a MultiVariateGaussian", type(model).__name__, TypeError)
    return model._scorable()


def checked(
    images: ArrayLike, maps: ArrayLike, limit: float | None, vmax: float | None, cmap: str | colors.Colormap
) -> tuple[Array, int, Array, float | None, colors.Normalize, colors.Colormap]:
    """Return images, the number that is white in them, their maps, the limit, and the scale and colours."""
    x = _arguments.array("images", images)
    colour = x.ndim == 4 and x.shape[3] in (3, 4)
    if not (x.ndim == 3 or colour) or 0 in x.shape:
        hint = "the colours go last: images.transpose(0, 2, 3, 1)" if x.ndim == 4 else ""
        wanted = "shape (M, height, width), or (M, height, width, 3 or 4) for colours"
        _arguments.raise_error("images", wanted, f"shape {x.shape}", hint=hint)
    if x.dtype.kind == "f":
        x = x.astype(np.float64)
    white = 1 if x.dtype.kind in "fb" else 255
    _arguments.finite("images", x)
    if x.min() < 0 or x.max() > white:
        wanted = f"{'whole numbers' if white > 1 else 'floats'} from 0 to {white}"
        hint = "undo the normalisation that was made for the network" if white == 1 else ""
        _arguments.raise_error("images", wanted, f"{x.min():.4g} to {x.max():.4g}", hint=hint)
    d = checked_maps("maps", maps, len(x)).astype(np.float64)
    top = float(d.max()) if vmax is None else _arguments.number("vmax", vmax, low=0, above=True)
    if limit is not None:
        limit = _arguments.number("limit", limit, low=0)
        # so that the mark of the limit lies inside of the bar, and maps of good images share one scale
        top = max(top, _COVER * limit)
    try:
        colours = mpl.colormaps.get_cmap(cmap)
    except (TypeError, ValueError):
        _arguments.raise_error("cmap", "the name of a colour map of matplotlib", _arguments.briefly(cmap))
    return x, white, d, limit, colors.Normalize(0, top or 1.0), colours


def checked_maps(name: str, value: ArrayLike, n: int) -> Array:
    """Return one picture of finite numbers for each of n images."""
    d = _arguments.array(name, value)
    if d.ndim != 3 or len(d) != n or 0 in d.shape:
        hint = "a single image and its map need their axis too: image[None], map[None]" if d.ndim == 2 else ""
        wanted = f"shape ({n}, height, width), as there are {n} images"
        _arguments.raise_error(name, wanted, f"shape {d.shape}", hint=hint)
    _arguments.finite(name, d)
    return d


def panels(
    shape: tuple[int, ...],
    titles: Sequence[str] | None,
    columns: int | None,
    fig: Figure | SubFigure | None,
    *,
    high: int,
    most: int,
    side: float,
) -> tuple[Figure | SubFigure, Array]:
    """Return a figure and axes ``(rows, columns, high)`` for images side by side in it, with titles."""
    n, height, width = shape[:3]
    if titles is not None and (isinstance(titles, str) or len(titles) != n):
        _arguments.raise_error("titles", f"{n} titles, one for each image", _arguments.briefly(titles))
    columns = math.ceil(n / math.ceil(n / most)) if columns is None else columns
    columns = min(_arguments.integer("columns", columns, low=1), n)
    rows = math.ceil(n / columns)
    if fig is None:
        side = min(side, max(1.0, 12 / columns))
        fig = new_figure(columns * side + 0.9, rows * (high * side * height / width + 0.4))
        fig.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)  # type: ignore[union-attr, call-arg]
    elif not isinstance(fig, (Figure, SubFigure)):
        _arguments.raise_error("fig", "a Figure of matplotlib", type(fig).__name__, TypeError)
    axes = fig.subplots(high * rows, columns, squeeze=False).reshape(rows, high, columns).swapaxes(1, 2)
    for i, column in enumerate(axes.reshape(-1, high)):
        for ax in column:
            ax.set(xticks=[], yticks=[], visible=i < n)
            ax.spines[:].set_visible(False)
        if titles is not None and i < n:
            # an inch holds about eleven letters of this size
            letters = max(4, int(11 * fig.bbox.width / fig.dpi / columns))
            lines = (textwrap.fill(s, letters, break_long_words=False) for s in str(titles[i]).splitlines())
            column[0].set_title("\n".join(lines), fontsize="medium")
    return fig, axes


def colour_bar(
    figure: Figure | SubFigure, axes: Array, heat: ScalarMappable, d: Array, limit: float | None
) -> None:
    """Draw the colour bar of all maps, pointed where some are beyond its end, and mark the limit on it."""
    extend = "max" if d.max() > heat.norm.vmax else "neither"
    bar = figure.colorbar(heat, ax=axes, aspect=20 * len(axes), pad=0.01, extend=extend)
    bar.set_label("standard deviations")
    if limit is not None:
        bar.set_label(f"standard deviations\n(outlined above {limit:.4g})")
        cased(bar.ax.axhline(limit, color="white", linewidth=1.2))


def outline(ax: Axes, values: Array, extent: tuple[float, float, float, float]) -> None:
    """Outline where the values of a picture of that extent are positive, up to its edges."""
    left, right, bottom, top = extent
    height, width = values.shape
    # a margin of the opposite sign puts the line on the edge where positive values reach it
    margin = -np.abs(np.pad(values, 1, mode="edge"))
    margin[1:-1, 1:-1] = values
    x = left + np.arange(-0.5, width + 1) * (right - left) / width
    y = top + np.arange(-0.5, height + 1) * (bottom - top) / height
    cased(ax.contour(x, y, margin, levels=[0], colors="white", linewidths=1.2))
    ax.set(xlim=(left, right), ylim=(bottom, top))


def cased(line: Artist) -> None:
    """Draw a white line between thin black ones."""
    line.set_path_effects([patheffects.withStroke(linewidth=2.2, foreground="black")])
