"""What is drawn and where: fitted models, figures that a notebook shows once, the axes of pyplot."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mvgauss import _checks
from mvgauss._fitted import Fitted
from mvgauss._gaussian import MultiVariateGaussian


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
        _checks.raise_error("ax", "Axes of matplotlib", type(ax).__name__, TypeError)
    return ax


def fitted_state(model: object) -> Fitted:
    """Return what a model fitted; refuse another thing."""
    if not isinstance(model, MultiVariateGaussian):
        _checks.raise_error("model", "a MultiVariateGaussian", type(model).__name__, TypeError)
    return model._model()
