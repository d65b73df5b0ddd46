"""Anomaly maps below their images, or over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colors
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike

from mvgauss import _arguments
from mvgauss.plot import _figure

#: Red, green and blue in the brightness of a pixel: ITU-R Recommendation BT.601.
_LUMA = np.array([0.299, 0.587, 0.114])

#: Steps of a colour scale, enough for a limit that is small beside the largest distance.
_COLOURS = 1024


def anomaly_maps(
    images: ArrayLike,
    maps: ArrayLike,
    masks: ArrayLike | None = None,
    *,
    limit: float | None = None,
    titles: Sequence[str] | None = None,
    vmax: float | None = None,
    cmap: str | colors.Colormap = "inferno",
    columns: int | None = None,
    fig: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw images, and below each its anomaly map, all on one colour scale.

    Parameters
    ----------
    images : array_like, shape (M, height, width) or (M, height, width, 3 or 4)
        The images, in grey or colour: whole numbers from 0 to 255, or floats from 0 to 1.
    maps : array_like, shape (M, H, W)
        Their distances in standard deviations, at any resolution: as `anomaly_map` gives them, or as
        `MultiVariateGaussian.mahalanobis` does.
    masks : array_like, shape (M, height, width), optional
        True defects, not zero inside, at any resolution; outlined on the maps.
    limit : float, optional
        Outline on the images where the distances are larger, and mark it on the colour bar.
    titles : sequence of str, optional
        One for each image; broken into lines where they are wider than it.
    vmax : float, optional
        Distance at the upper end of the colour scale, the largest of all maps by default. The lower end is 0.
        With a limit the scale goes on to at least 1.25 times the limit, so that maps of good images, drawn
        together or not, have the same scale.
    cmap : str or Colormap, default "inferno"
        Colour map.
    columns : int, optional
        How many images side by side; by default all up to 12, else rows of equal length.
    fig : Figure or SubFigure, optional
        Where to draw; by default a new figure of `matplotlib.pyplot`, in constrained layout.

    Returns
    -------
    Figure or SubFigure
        The figure: for each row of images its axes, then those of the maps below; last the colour bar.

    Raises
    ------
    ValueError
        If the shapes do not go together, or there is a number that cannot be drawn.
    TypeError
        If an argument is of the wrong kind.

    See Also
    --------
    overlay : The maps over their images.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from mvgauss import plot
    >>> figure = plot.anomaly_maps(np.zeros((2, 8, 8)), np.ones((2, 4, 4)), fig=Figure())
    >>> len(figure.axes), figure.axes[-1].get_ylabel()
    (5, 'standard deviations')
    """
    x, white, d, limit, scale, cmap = _figure.checked(images, maps, limit, vmax, cmap)
    m = None if masks is None else _figure.checked_maps("masks", masks, len(x)) != 0
    figure, axes = _figure.panels(x.shape, titles, columns, fig, high=2, most=12, side=2.0)
    for i, (above, below) in enumerate(axes.reshape(-1, 2)[: len(x)]):
        picture = above.imshow(x[i], cmap="gray", vmin=0, vmax=white)
        heat = below.imshow(d[i], cmap=cmap, norm=scale)
        if m is not None and m[i].any():
            _figure.outline(below, np.where(m[i], 0.5, -0.5), heat.get_extent())
        if limit is not None and (d[i] > limit).any():
            _figure.outline(above, d[i] - limit, picture.get_extent())
    _figure.colour_bar(figure, axes, heat, d, limit)
    return figure


def overlay(
    images: ArrayLike,
    maps: ArrayLike,
    limit: float | None = None,
    *,
    alpha: float = 0.8,
    titles: Sequence[str] | None = None,
    vmax: float | None = None,
    cmap: str | colors.Colormap = "inferno",
    columns: int | None = None,
    fig: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    r"""Draw anomaly maps over their images, all on one colour scale.

    The images are drawn in grey, so that all colour is that of the maps, and good regions stay clear: a map
    is transparent up to half of the limit, from there its opacity grows with the square of the distance
    beyond, to `alpha` at the limit. Without a limit it grows from a quarter of the scale to its upper end.

    Parameters
    ----------
    images : array_like, shape (M, height, width) or (M, height, width, 3 or 4)
        The images, as in `anomaly_maps`.
    maps : array_like, shape (M, H, W)
        Their distances, as in `anomaly_maps`; drawn bilinear between the centres of the patches.
    limit : float, optional
        Outline where the distances are larger, and mark it on the colour bar.
    alpha : float, default 0.8
        The largest opacity, more than 0 and at most 1.
    titles, vmax, cmap, columns, fig : optional
        As in `anomaly_maps`; by default up to 6 images are side by side.

    Returns
    -------
    Figure or SubFigure
        The figure: the axes of the images, row by row, and last the colour bar.

    Raises
    ------
    ValueError, TypeError
        As `anomaly_maps`.

    See Also
    --------
    anomaly_maps : The maps below their images.
    MultiVariateGaussian.threshold : A limit for a given false positive rate.

    Notes
    -----
    The limit of `MultiVariateGaussian.threshold` is for the distances of
    `MultiVariateGaussian.mahalanobis`: drawn over an image, they have an outline where the image is
    flagged. Smoothing by `anomaly_map` lowers the peaks, so the same limit outlines less of a smoothed map.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from mvgauss import plot
    >>> figure = plot.overlay(np.zeros((2, 8, 8)), np.eye(4) * [[[1]], [[3]]], limit=2, fig=Figure())
    >>> len(figure.axes), figure.axes[-1].get_ylabel()
    (3, 'standard deviations\n(outlined above 2)')
    """
    x, white, d, limit, scale, cmap = _figure.checked(images, maps, limit, vmax, cmap)
    alpha = _arguments.number("alpha", alpha, low=0, above=True)
    if alpha > 1:
        _arguments.raise_error("alpha", "an opacity of at most 1", f"{alpha:g}")
    colours = _clear_below(cmap, scale, limit, alpha)
    grey = x if x.ndim == 3 else x[..., :3] @ _LUMA
    figure, axes = _figure.panels(x.shape, titles, columns, fig, high=1, most=6, side=2.5)
    for i, ax in enumerate(axes.flat[: len(x)]):
        extent = ax.imshow(grey[i], cmap="gray", vmin=0, vmax=white).get_extent()
        heat = ax.imshow(
            d[i],
            cmap=colours,
            norm=scale,
            extent=extent,
            interpolation="bilinear",
            interpolation_stage="data",
        )
        if limit is not None and (d[i] > limit).any():
            _figure.outline(ax, d[i] - limit, extent)
    _figure.colour_bar(figure, axes, heat, d, limit)
    return figure


def _clear_below(
    cmap: colors.Colormap, scale: colors.Normalize, limit: float | None, alpha: float
) -> colors.ListedColormap:
    """Return the colours of a scale: clear up to half of the limit, and from it on of opacity `alpha`."""
    share = np.linspace(0, 1, _COLOURS)
    full = 1.0 if limit is None else float(scale(limit))
    clear = 0.25 if limit is None else full / 2
    rgba = cmap(share)
    # a limit of zero: any distance is beyond it
    growth = np.clip((share - clear) / (full - clear), 0, 1) if full > clear else share > 0
    rgba[:, 3] *= alpha * growth**2
    return colors.ListedColormap(rgba, cmap.name)
