"""From files of pictures to decisions, with onnxruntime and Pillow (the extra ``pictures``).

`Embedder` turns pictures into embeddings with a network in ONNX format. `Inspector` fits the Gaussians of
good pictures, sets a limit, and judges other pictures. ``python -m mvgauss.pictures`` does all of it for
two folders.
"""

try:
    import matplotlib  # noqa: F401, ICN001
    import onnxruntime  # noqa: F401
    import PIL  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise ImportError(
        f"mvgauss.pictures: expected the packages onnxruntime, Pillow and matplotlib, got no {error.name}; "
        "pip install 'mvgauss[pictures]'"
    ) from error

from mvgauss.pictures._embedder import Embedder
from mvgauss.pictures._files import PictureError, find_pictures, read_picture
from mvgauss.pictures._inspector import Inspector, Verdict
from mvgauss.pictures._layer import Layer
from mvgauss.pictures._maps import overlay

__all__ = [
    "Embedder",
    "Inspector",
    "Layer",
    "PictureError",
    "Verdict",
    "find_pictures",
    "overlay",
    "read_picture",
]
