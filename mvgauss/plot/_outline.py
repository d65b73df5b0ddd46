"""Outlines that can be seen on every colour."""

from __future__ import annotations

import numpy as np
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from mvgauss._checks import Array


def outline(ax: Axes, values: Array, extent: tuple[float, float, float, float]) -> None:
    """Outline where the values of a picture of that extent are positive, up to its edges."""
    left, right, bottom, top = extent
    dx, dy = (right - left) / values.shape[1], (top - bottom) / values.shape[0]
    # a margin of the opposite sign puts the line on the edge where positive values reach it
    margin = -np.abs(np.pad(values, 1, mode="edge"))
    margin[1:-1, 1:-1] = values
    lines = ax.contour(
        margin,
        levels=[0],
        colors="white",
        linestyles="solid",
        linewidths=1.2,
        origin="upper",
        extent=(left - dx, right + dx, bottom - dy, top + dy),
    )
    cased(lines)
    ax.set(xlim=(left, right), ylim=(bottom, top))


def cased(line: Artist) -> None:
    """Draw a white line between thin black ones."""
    line.set_path_effects([patheffects.withStroke(linewidth=2.2, foreground="black")])
