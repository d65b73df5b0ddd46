"""Pictures and a network -> embeddings (N, C, H, W)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss.pictures import _network
from mvgauss.pictures._files import WHITE, PictureError, read_picture, written_size
from mvgauss.pictures._layer import kind_of, on_one_grid
from mvgauss.pictures._network import IMAGENET, Network

#: By how much the ratio of the sides of two pictures of the same shape may differ.
_RATIO = 0.02


class Embedder:
    """A network, and all that it takes to turn pictures into embeddings (N, C, H, W).

    Parameters
    ----------
    network : path-like
        An ONNX file with layers among its outputs.
    picture_size : (int, int)
        Height and width of the pictures; those of another shape are refused.
    input_size : (int, int), optional
        Height and width that pictures are resized to; by default as the network asks, else their own, or
        256 pixels along the longer side if that is more.
    layers : sequence of str, optional
        Outputs of the network, (N, C, h, w) or tokens (N, T, C); by default all of these.
    grid : str, optional
        The layer on whose grid all are put; by default the one of medium resolution.
    channels : int or sequence of int, optional
        How many channels to draw at random, or which to take, in this order; by default all.
    seed : int, optional
        Of the draw; 0 by default.
    layout : {"NCHW", "NHWC"}, optional
        Of the input; by default as its shape says.
    output_layout : {"NCHW", "NHWC"}, optional
        Of the layers; NCHW by default.
    scale : float, optional
        A network that takes floats is fed ``(scale * x - mean) / std`` with x from 0 to 255. If none of
        the three is given, as the networks of torchvision are.
    mean : sequence of float, optional
        One number, or one for each colour.
    std : sequence of float, optional
        One number, or one for each colour.
    white : int, optional
        White of grey pictures in 16 bits; 65535 by default.

    Attributes
    ----------
    setup : dict
        All of this in plain values, with what was not given, and a hash of the network.
    shape : (int, int, int)
        Of the embedding of one picture: features, height and width of the grid.
    layers : tuple of Layer
        The layers, in the order of the embedding before channels are taken.
    network : Network
        The open network: its `path`, the name of its `input`, the `dtype` and the `layout` of that.

    Raises
    ------
    ValueError
        If the network has no layers or takes no pictures, or an option does not fit it; the message names
        it.

    Notes
    -----
    A finer layer is averaged over the area of each patch, a coarser one repeated; where grids are not
    multiples of each other, by the areas that cells share.
    """

    def __init__(
        self,
        network: str | os.PathLike[str],
        picture_size: Sequence[int],
        *,
        input_size: Sequence[int] | None = None,
        layers: Sequence[str] | None = None,
        grid: str | None = None,
        channels: int | Sequence[int] | None = None,
        seed: int | None = None,
        layout: Literal["NCHW", "NHWC"] | None = None,
        output_layout: Literal["NCHW", "NHWC"] | None = None,
        scale: float | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        white: int | None = None,
    ) -> None:
        for name, size in (("picture_size", picture_size), ("input_size", input_size)):
            if size is not None and (len(size) != 2 or min(size) < 1):
                _arguments.raise_error(name, "height and width of 1 or more", _arguments.briefly(size))
        if white is not None:
            _arguments.integer("white", white, low=1)
        for name, value in (("layout", layout), ("output_layout", output_layout)):
            if value not in (None, "NCHW", "NHWC"):
                _arguments.raise_error(name, "'NCHW' or 'NHWC'", _arguments.briefly(value))
        self.network = net = Network(network, layout)
        fed = {"scale": scale, "mean": mean, "std": std}
        normalisation = net.normalisation({key: value for key, value in fed.items() if value is not None})
        on_grid = [name for name, shape in net.outputs.items() if len(shape) in (3, 4)]
        names = list(on_grid if layers is None else layers)
        if not names or set(names) - set(net.outputs):
            got = names or "none on a grid; see the page on embeddings for how to add some"
            _arguments.raise_error("layers", f"some of the outputs of the network, {net.outputs}", got)
        self.setup: dict[str, Any] = {
            "network": net.path.name,
            "sha256": net.sha256,
            "picture_size": [int(side) for side in picture_size],
            "input_size": [int(side) for side in net.input_size(picture_size, input_size)],
            "layout": net.layout,
            "output_layout": output_layout or "NCHW",
            "white": WHITE if white is None else int(white),
            "layers": names,
            **normalisation,
        }
        outputs = net.run(names, self._fed([Image.new(net.mode, self.setup["input_size"][::-1])]))
        found = {
            name: kind_of(name, a.shape, self.setup["input_size"], self.setup["output_layout"])
            for name, a in zip(names, outputs, strict=True)
        }
        medium = sorted(names, key=lambda name: math.prod(found[name][1][1:]))[(len(names) - 1) // 2]
        grid = medium if grid is None else grid
        if grid not in names:
            _arguments.raise_error("grid", f"one of {names}", repr(grid))
        taken = _chosen(channels, sum(shape[0] for _, shape in found.values()), 0 if seed is None else seed)
        self.setup |= {"grid": grid, "channels": taken}
        height, width = found[grid][1][1:]
        self.shape = (len(taken), height, width)
        self.layers = on_one_grid(found, (height, width), np.array(taken))

    def __repr__(self) -> str:
        """Name the network and the embedding."""
        c, h, w = self.shape
        return f"<Embedder of {self.setup['network']}: {c} features at {w} x {h} patches>"

    def read(self, path: str | os.PathLike[str]) -> Image.Image:
        """Read a picture, of the size of the input of the network.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        PIL.Image.Image
            The picture, in 8 bits, in colours or grey as the network takes them.

        Raises
        ------
        PictureError
            If the picture cannot be read, or has another shape than `picture_size`.
        """
        return self.resized(self.read_whole(path))

    def read_whole(self, path: str | os.PathLike[str]) -> Image.Image:
        """Read a picture as `read` does, in its own size.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        PIL.Image.Image
            The picture.

        Raises
        ------
        PictureError
            If the picture cannot be read, or has another shape than `picture_size`.
        """
        picture = read_picture(path, self.network.mode, self.setup["white"])
        height, width = self.setup["picture_size"]
        if abs(math.log(picture.width * height / (picture.height * width))) > _RATIO:
            got, expected = written_size((picture.height, picture.width)), written_size((height, width))
            raise PictureError(path, f"{got} pixels, which is not the shape of {expected}")
        return picture

    def resized(self, picture: Image.Image) -> Image.Image:
        """Resize a picture to the input of the network.

        Parameters
        ----------
        picture : PIL.Image.Image
            A picture that was read.

        Returns
        -------
        PIL.Image.Image
            The picture, bilinear over the area of each pixel.
        """
        h, w = self.setup["input_size"]
        return picture.resize((w, h), Image.Resampling.BILINEAR)

    def embed(self, pictures: Sequence[Image.Image] | Array) -> Array:
        """Return the embedding of pictures.

        Parameters
        ----------
        pictures : sequence of PIL.Image.Image, or ndarray of uint8, shape (N, h, w) or (N, h, w, 3)
            Pictures of the size of the input, as `read` returns them.

        Returns
        -------
        ndarray of float32, shape (N, C, H, W)
            The embedding.

        Raises
        ------
        ValueError
            If the network does not take pictures of this size.
        """
        result = np.empty((len(pictures), *self.shape), np.float32)
        outputs = self.network.run([layer.name for layer in self.layers], self._fed(pictures))
        for layer, output in zip(self.layers, outputs, strict=True):
            result[:, layer.positions] = layer.on_grid(output)
        return result

    def batches(
        self, paths: Sequence[str | os.PathLike[str]]
    ) -> Iterator[tuple[Sequence[str | os.PathLike[str]], list[Image.Image], Array]]:
        """Read and embed files, a few at a time.

        Parameters
        ----------
        paths : sequence of path-like
            The files.

        Yields
        ------
        paths : sequence of path-like
            Some of the files.
        pictures : list of PIL.Image.Image
            Their pictures, as `read` returns them.
        embedding : ndarray of float32, shape (n, C, H, W)
            Their embedding.

        Raises
        ------
        PictureError
            If a picture cannot be read, or has another shape than `picture_size`.
        """
        step = _network.BATCH
        for some in (paths[i : i + step] for i in range(0, len(paths), step)):
            pictures = [self.read(path) for path in some]
            yield some, pictures, self.embed(pictures)

    def _fed(self, pictures: Sequence[Image.Image] | Array) -> Array:
        """Return what the network is fed."""
        x = np.stack([np.asarray(picture) for picture in pictures])
        x = x.reshape(*x.shape[:3], -1)
        if "scale" in self.setup:
            scale, mean, std = (np.float32(self.setup[name]) for name in IMAGENET)
            x = ((scale * x - mean) / std).astype(self.network.dtype)
        return np.moveaxis(x, -1, 1) if self.network.layout == "NCHW" else x


def _chosen(channels: int | Sequence[int] | None, total: int, seed: int) -> list[int]:
    """Return which of all channels are taken."""
    _arguments.integer("seed", seed, low=0)
    wanted = f"1 to {total} of them, counted from 0"
    if channels is None:
        return list(range(total))
    if isinstance(channels, int):
        if not 1 <= channels <= total:
            _arguments.raise_error("channels", wanted, channels)
        rng = np.random.default_rng(seed)
        return [int(i) for i in np.sort(rng.choice(total, channels, replace=False))]
    wrong = sorted(set(channels) - set(range(total)))
    if wrong or not len(channels):
        _arguments.raise_error("channels", wanted, wrong)
    return [int(i) for i in channels]
