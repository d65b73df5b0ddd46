"""Distances on a grid of patches -> an anomaly map with the size of the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from mvgauss import _arguments
from mvgauss._arguments import Array


def anomaly_map(distances: ArrayLike, image_size: int | tuple[int, int], sigma: float = 4.0) -> Array:
    """Upsample patch distances to the size of the image, and smooth them.

    Parameters
    ----------
    distances : array_like, shape (..., H, W)
        Distances on the grid of patches, as `MultiVariateGaussian.mahalanobis` returns them. Reshape
        distances of a grid with one axis, (M, P), first. With P >= 16 they are refused where they would be
        one map whose patches are more than twice as high as wide or, with M >= 16, as wide as high.
    image_size : int or (int, int)
        Height and width of the map in pixels; one number for both.
    sigma : float, default 4.0
        Standard deviation of the Gaussian smoothing in pixels of the map; 0 for none.

    Returns
    -------
    ndarray, shape (..., height, width)
        The maps, in the unit and floating dtype of `distances`.

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, value or kind; the message names it.

    Notes
    -----
    Bilinear between the centres of the patches, constant outside of them: the geometry of
    ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``. The smoothing is
    `scipy.ndimage.gaussian_filter` with its defaults (cut at four sigma, edges reflected), as in the
    PaDiM reference code; the defaults of anomalib differ from it at the edges only.

    Examples
    --------
    >>> from mvgauss import anomaly_map
    >>> anomaly_map([[0.0, 4.0]], (1, 4), sigma=0)
    array([[0., 1., 3., 4.]])
    """
    d = _arguments.array("distances", distances)
    if d.ndim < 2 or 0 in d.shape[-2:]:
        hint = "reshape the P patches to H, W" if d.ndim == 1 else ""
        _arguments.raise_error("distances", "shape (..., H, W) with H, W >= 1", f"shape {d.shape}", hint=hint)
    _arguments.finite("distances", d)
    sigma = _arguments.number("sigma", sigma, low=0)
    size = image_size if isinstance(image_size, (tuple, list, np.ndarray)) else (image_size, image_size)
    if len(size) != 2:
        _arguments.raise_error("image_size", "one integer or (height, width)", _arguments.briefly(image_size))
    height, width = (_arguments.integer("image_size", s, low=1) for s in size)
    zoom = height / d.shape[-2], width / d.shape[-1]
    # (M, P) of M images is known by the shape that its patches would have
    high, wide = zoom[0] > 2 * zoom[1], zoom[1] > 2 * zoom[0]
    if d.ndim == 2 and d.shape[1] >= 16 and (high or (wide and len(d) >= 16)):
        got = f"shape {d.shape}, whose patches would be {zoom[0]:.3g} x {zoom[1]:.3g} pixels"
        hint = "reshape (M, P) to (M, H, W); one map of such patches is distances[None]"
        _arguments.raise_error("distances", "shape (..., H, W)", got, hint=hint)
    d = d.astype(_arguments.stored(d.dtype), copy=False)
    result = np.empty((*d.shape[:-2], height, width), d.dtype)
    for index in np.ndindex(d.shape[:-2]):
        picture = result[index]
        ndimage.zoom(d[index], zoom, picture, order=1, mode="nearest", grid_mode=True)
        if sigma:
            ndimage.gaussian_filter(picture, sigma, output=picture)
    return result
