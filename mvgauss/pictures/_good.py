"""Good pictures: what is asked of them before they are fitted."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss.pictures import _network, _progress
from mvgauss.pictures._embedder import Embedder
from mvgauss.pictures._files import PictureError, deep_maximum

#: Good pictures whose brightest value in 8 bits is below this are nearly black to a network.
_DARK = 64
#: How many bits cameras give.
_DEPTHS = (8, 10, 12, 14, 16)


def check_rate(rate: float, n: int, of: str = "") -> None:
    """Refuse a rate of false alarms that n good pictures (`of` a folder) cannot support."""
    if not 0 < rate < 1:
        hint = f"{rate:g} % is {rate / 100:g}" if 1 <= rate < 100 else ""
        _arguments.raise_error("rate", "a number between 0 and 1", f"{rate:g}", hint=hint)
    if 1 / (n + 1) > rate:
        least = math.ceil(1 / rate - 1e-9) - 1
        have = f"{of!r} has {n}" if of else f"there are {n}"
        enough = f"which is enough for {1 / (n + 1):.4g}" if n else "none"
        raise ValueError(f"rate: {rate:g} needs at least {least} good pictures; {have}, {enough}")


def warn_if_dark(embedder: Embedder, paths: Sequence[str | os.PathLike[str]], pictures: Array) -> None:
    """Warn if the brightest value of all pictures, read in 8 bits, is far below white."""
    brightest = pictures.reshape(len(pictures), -1).max(axis=1)
    i = int(brightest.argmax())
    if brightest[i] >= _DARK:
        return
    white, raw = embedder.setup["white"], deep_maximum(paths[i])
    text = f"the brightest of {len(paths)} good pictures, {str(paths[i])!r}, "
    if raw is None:
        text += f"reaches {brightest[i]} of 255: all are nearly black to the network"
    else:
        bits = next((depth for depth in _DEPTHS if raw < 2**depth), raw.bit_length())
        text += (
            f"reaches {raw} of {white}, so that all are nearly black to the network; "
            f"if they have {bits} bits, set white: --white {2**bits - 1}"
        )
    warnings.warn(text, UserWarning, stacklevel=_arguments.outside())


def read(embedder: Embedder, paths: Sequence[str | os.PathLike[str]], target: Path, progress: bool) -> Array:
    """Read good pictures into a file, in the size of the input; name all that cannot be read."""
    (h, w), colours = embedder.setup["input_size"], (3,) if embedder.network.mode == "RGB" else ()
    pictures = np.lib.format.open_memmap(target, "w+", np.uint8, (len(paths), h, w, *colours))
    errors = []
    for i, path in enumerate(_progress.shown(paths, "reading good pictures", len(paths), progress)):
        try:
            pictures[i] = np.asarray(embedder.read(path))
        except PictureError as error:
            errors.append(error)
    if errors:
        raise unusable(errors, len(paths))
    return pictures


def unusable(errors: Sequence[PictureError], n: int) -> ValueError:
    """Return the error that names the first of some of n good pictures that cannot be used."""
    named = "; ".join(f"{str(error.path)!r}: {error.reason}" for error in errors[:5])
    more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
    return ValueError(
        f"good pictures: expected {n} that can be read, of one shape, got {len(errors)} that cannot be used: "
        f"{named}{more}"
    )


def embed(
    embedder: Embedder, paths: Sequence[str | os.PathLike[str]], pictures: Array, target: Path, progress: bool
) -> Array:
    """Write the embedding of good pictures into a file."""
    shape, step = (len(paths), *embedder.shape), _network.BATCH
    good = np.lib.format.open_memmap(target, "w+", np.float32, shape)
    starts = range(0, len(paths), step)
    for i in _progress.shown(starts, "embedding good pictures", len(starts), progress):
        good[i : i + step] = embedder.embed(pictures[i : i + step])
        bad = ~np.isfinite(good[i : i + step]).all(axis=(1, 2, 3))
        if bad.any():
            path = paths[i + int(bad.argmax())]
            raise PictureError(path, "the network gives no finite numbers")
    return good


def raise_if_alike(paths: Sequence[str | os.PathLike[str]], pictures: Array) -> None:
    """Refuse pictures that are all alike, and warn of copies."""
    first: dict[bytes, int] = {}
    copies = [(i, first.setdefault(sha256(picture).digest(), i)) for i, picture in enumerate(pictures)]
    copies = [(i, j) for i, j in copies if i != j]
    if copies and len(first) == 1:
        raise_alike(paths)
    if copies:
        i, j = copies[0]
        warnings.warn(
            f"{len(copies)} of {len(paths)} good pictures are copies of others, as {str(paths[i])!r} of "
            f"{str(paths[j])!r}: the limit is then too low, and further good pictures are flagged more often",
            UserWarning,
            stacklevel=_arguments.outside(),
        )


def raise_alike(paths: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse good pictures without any difference."""
    got = f"{len(paths)} that are all like {str(paths[0])!r}"
    _arguments.raise_error("good pictures", "pictures that differ from each other", got)
