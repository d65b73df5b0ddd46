"""The distances of a picture, drawn over it."""

from __future__ import annotations

from functools import cache

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from mvgauss import _arguments, anomaly_map
from mvgauss._arguments import Array

#: Pixels that a caption needs: smaller pictures are enlarged by a whole factor.
_NARROWEST = 120
_FLAGGED, _NOT_FLAGGED = "#9b1c1c", "#33404d"


def overlay(picture: Image.Image, distances: Array, limit: float) -> Image.Image:
    """Draw distances over a picture in grey, with an outline where they exceed the limit.

    Parameters
    ----------
    picture : PIL.Image.Image
        The picture.
    distances : ndarray, shape (H, W)
        The distances of its patches.
    limit : float
        The limit. Colours are clear up to half of it, and end at twice the limit, so that the maps of
        several pictures can be compared.

    Returns
    -------
    PIL.Image.Image
        The map, RGB, of the size of the picture.

    Raises
    ------
    ValueError
        If the limit is not positive.
    """
    _arguments.number("limit", limit, low=0, above=True)
    size = picture.height, picture.width
    heat = anomaly_map(np.asarray(distances)[None], size, sigma=0)[0]
    level = np.clip((heat / limit - 0.5) / 1.5, 0, 1)
    colours = mpl.colormaps["inferno"](level)[..., :3] * 255
    alpha = 0.8 * np.sqrt(level)[..., None]
    grey = np.asarray(picture.convert("L"), np.float64)[..., None]
    drawn = (1 - alpha) * grey + alpha * colours
    above = _above(np.asarray(distances), heat, limit)
    width = max(1, round(max(size) / 300))
    edge = above & ~_eroded(above, width)
    drawn[above & ~_eroded(above, 2 * width)] = 0
    drawn[edge] = 255
    return Image.fromarray(drawn.astype(np.uint8))


def captioned(picture: Image.Image, lines: tuple[str, str], flagged: bool) -> Image.Image:
    """Return a picture below a caption of two lines, whose colour says the verdict as well."""
    factor = -(-_NARROWEST // picture.width)
    picture = picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)
    height = min(24, max(12, picture.width // 26))
    font, longest = _font(height), max(_font(height).getlength(line) for line in lines)
    if longest > picture.width - height:
        height = max(9, int(height * (picture.width - height) / longest))
        font = _font(height)
    bar = round(3.2 * height)
    result = Image.new("RGB", (picture.width, picture.height + bar), _FLAGGED if flagged else _NOT_FLAGGED)
    result.paste(picture, (0, bar))
    draw = ImageDraw.Draw(result)
    for i, line in enumerate(lines):
        draw.text((height // 2, round((0.3 + 1.35 * i) * height)), line, fill="white", font=font)
    return result


@cache
def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font."""
    return ImageFont.load_default(height)


def _above(distances: Array, heat: Array, limit: float) -> Array:
    """Return which pixels exceed the limit: between the centres of patches, and around those that do."""
    above = heat > limit
    high, wide = heat.shape[0] / distances.shape[0], heat.shape[1] / distances.shape[1]
    for i, j in np.argwhere(distances > limit):  # a peak between pixels would be lost
        rows = slice(int((i + 0.35) * high), max(int((i + 0.65) * high), int((i + 0.35) * high) + 1))
        columns = slice(int((j + 0.35) * wide), max(int((j + 0.65) * wide), int((j + 0.35) * wide) + 1))
        above[rows, columns] = True
    return np.asarray(above)


def _eroded(mask: Array, width: int) -> Array:
    """Return a mask without its edge of some pixels; beyond the picture nothing is above the limit."""
    return np.asarray(ndimage.binary_erosion(mask, iterations=width))
