"""Files of pictures: where they are, and what is in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mvgauss import _arguments
from mvgauss._arguments import Array

#: White of grey pictures in 16 bits, if nothing else is said.
WHITE = 65535


class PictureError(ValueError):
    """A file that is no picture that can be used.

    Parameters
    ----------
    path : path-like
        The file.
    reason : str
        Why it cannot be used.

    Attributes
    ----------
    path : Path
        The file.
    reason : str
        Why it cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"picture: expected one to read, got {str(path)!r}: {reason}")
        self.path, self.reason = Path(path), reason


def find_pictures(folder: str | os.PathLike[str]) -> list[Path]:
    """Find the pictures of a folder and of the folders in it.

    Parameters
    ----------
    folder : path-like
        Where to look.

    Returns
    -------
    list of Path
        The files whose suffix is that of a format that Pillow reads, sorted; without hidden ones.

    Raises
    ------
    ValueError
        If there are none.
    """
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = [p for p in sorted(Path(folder).rglob("*")) if p.is_file() and not p.name.startswith(".")]
    pictures = [p for p in files if p.suffix.lower() in known]
    if not pictures:
        got = f"{str(folder)!r} with {len(files)} files" if Path(folder).is_dir() else repr(str(folder))
        _arguments.raise_error("folder", "a folder of pictures", got)
    return pictures


def read_picture(path: str | os.PathLike[str], mode: str = "RGB", white: int = WHITE) -> Image.Image:
    """Read a picture in 8 bits: upright, and on white where it is transparent.

    Parameters
    ----------
    path : path-like
        The file.
    mode : {"RGB", "L"}, default "RGB"
        Colours, or grey.
    white : int, default 65535
        The value of grey pictures in 16 bits that becomes 255.

    Returns
    -------
    PIL.Image.Image
        The picture.

    Raises
    ------
    PictureError
        If there are several pictures in the file, floats, values above `white`, colours that have no RGB,
        or if it cannot be read.
    """
    try:
        with Image.open(path) as file:
            frames = getattr(file, "n_frames", 1)
            if frames > 1 and file.format != "MPO":
                raise ValueError(f"{frames} pictures in one file")
            picture: Image.Image = ImageOps.exif_transpose(file)
        if picture.mode.startswith("I"):
            picture = _eight_bits(np.asarray(picture), white)
        elif picture.mode == "F":
            raise ValueError("floats, whose black and white are not known")
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return picture.convert(mode)
    except Exception as error:  # each format has errors of its own
        raise PictureError(path, _in_one_line(error, path)) from error


def _eight_bits(values: Array, white: int) -> Image.Image:
    """Return grey values in 16 bits as a picture in 8 bits."""
    if values.min() < 0 or values.max() > white:
        raise ValueError(f"values from {values.min()} to {values.max()}, not 0 to white = {white}")
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def _in_one_line(error: Exception, path: str | os.PathLike[str]) -> str:
    """Return what an error says, without the name of the file, which Pillow adds to some."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace(f" {str(path)!r}", "").replace(f": {path}", "")


def deep_maximum(path: str | os.PathLike[str]) -> int | None:
    """Return the largest value of a grey picture in 16 bits; None for other pictures."""
    with Image.open(path) as file:
        return int(np.asarray(file).max()) if file.mode.startswith("I") else None


def written_size(size: Any) -> str:
    """Return height and width as people write the size of a picture: width x height."""
    height, width = size
    return f"{width} x {height}"
