"""Images, and their anomaly maps below them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colors
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike

from mvgauss.plot import _panels


def anomaly_maps(
    images: ArrayLike,
    maps: ArrayLike,
    masks: ArrayLike | None = None,
    *,
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
    titles : sequence of str, optional
        One for each image; broken into lines where they are wider than it.
    vmax : float, optional
        Distance at the upper end of the colour scale, the largest of all maps by default. The lower
        end is 0.
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
    x, white = _panels.checked_images(images)
    d = _panels.checked_maps("maps", maps, len(x))
    m = None if masks is None else _panels.checked_maps("masks", masks, len(x)) != 0
    scale, cmap = _panels.checked_scale(d, vmax), _panels.checked_colours(cmap)
    panels = _panels.Panels(x.shape, high=2, most=12, side=2.0, titles=titles, columns=columns, fig=fig)
    for i in range(len(x)):
        above, below = panels.of(i)
        above.imshow(x[i], cmap="gray", vmin=0, vmax=white)
        heat = below.imshow(d[i], cmap=cmap, norm=scale)
        if m is not None and m[i].any():
            _panels.outline(below, np.where(m[i], 0.5, -0.5), heat.get_extent())
    panels.colour_bar(heat, d)
    return panels.figure
