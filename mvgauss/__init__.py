"""Gaussians of image patches, in NumPy and SciPy.

`cov`, `pinv` and `mahalanobis` work on stacks of any shape, like `numpy.linalg`; `Moments` is the
mergeable state behind them; `MultiVariateGaussian` fits one Gaussian to each patch of image
embeddings and scores new images; `anomaly_map` turns the scores into maps.

The letters, everywhere: N samples, C features, H and W the grid of patches, P = H W patches, M
scored samples, ``...`` any stack.
"""

from importlib.metadata import version as _version

from mvgauss._arguments import (
    ConstantPatchWarning,
    DefaultThresholdWarning,
    FewSamplesWarning,
    PictureWarning,
    RidgeWarning,
)
from mvgauss._gaussian import MultiVariateGaussian
from mvgauss._maps import anomaly_map
from mvgauss._stats.conformal import conformal_p_value, conformal_threshold
from mvgauss._stats.cov import cov
from mvgauss._stats.distance import mahalanobis, pinv
from mvgauss._stats.moments import Moments

__all__ = [
    "ConstantPatchWarning",
    "DefaultThresholdWarning",
    "FewSamplesWarning",
    "Moments",
    "MultiVariateGaussian",
    "PictureWarning",
    "RidgeWarning",
    "anomaly_map",
    "conformal_p_value",
    "conformal_threshold",
    "cov",
    "mahalanobis",
    "pinv",
]
__version__ = _version("mvgauss")
