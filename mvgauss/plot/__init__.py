"""Pictures of models and scores, with matplotlib (the extra ``plot``).

The functions draw into the axes or the figure they are given, or else where `matplotlib.pyplot` draws
next, and return them. None of them shows or saves anything, and none changes a setting.

Colour maps are perceptually uniform, so they are safe for the colour-blind and read in grey.
"""

try:
    import matplotlib  # noqa: F401, ICN001
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "mvgauss.plot: expected the package matplotlib, got none; pip install 'mvgauss[plot]'"
    ) from error

from mvgauss.plot._diagnostics import diagnostics
from mvgauss.plot._ellipse import ellipse
from mvgauss.plot._maps import anomaly_maps, overlay
from mvgauss.plot._qq import qq

__all__ = ["anomaly_maps", "diagnostics", "ellipse", "overlay", "qq"]
