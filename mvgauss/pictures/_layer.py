"""A layer of a network -> features on the grid of the embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss.pictures._files import written_size

#: The axes of an output of a network.
Kind = Literal["NCHW", "NHWC", "tokens"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a network, and how it is brought to the grid of the embedding.

    Parameters
    ----------
    name : str
        Of the output of the network.
    kind : {"NCHW", "NHWC", "tokens"}
        The axes of the output; tokens are (N, T, C), of which the last h w are the patches, row by row.
    shape : (int, int, int)
        Channels C, and the height h and width w of its own grid.
    channels : ndarray of int, shape (k,)
        Which of its channels are taken.
    positions : ndarray of int, shape (k,)
        Which features of the embedding they become.
    rows : ndarray, shape (H, h)
        How much of each new row lies in each of its rows; each sums to 1.
    columns : ndarray, shape (W, w)
        The same for columns: on the grid, channels (h, w) are ``rows @ channels @ columns.T``.
    """

    name: str
    kind: Kind
    shape: tuple[int, int, int]
    channels: Array
    positions: Array
    rows: Array
    columns: Array

    def on_grid(self, output: Array) -> Array:
        """Take the channels of an output of the network, and bring them to the grid.

        Parameters
        ----------
        output : ndarray, shape (N, C, h, w), (N, h, w, C) or (N, T, C)
            The output, as `kind` says.

        Returns
        -------
        ndarray, shape (N, k, H, W)
            The channels that are taken.
        """
        taken: Array = arranged(output, self.kind, self.shape)[:, self.channels]
        with np.errstate(invalid="ignore"):  # who uses it finds what is not finite
            return np.asarray(self.rows @ taken @ self.columns.T)


def kind_of(
    name: str, shape: Sequence[int], input_size: Sequence[int], layout: Literal["NCHW", "NHWC"]
) -> tuple[Kind, tuple[int, int, int]]:
    """Return the axes of an output, and (C, h, w); refuse one that does not lie on the picture."""
    h, w = input_size
    if len(shape) == 3 and h == w:  # tokens: those before a square of them are no patches
        side = math.isqrt(shape[1])
        return "tokens", (shape[2], side, side)
    if len(shape) != 4:
        wanted = f"{name} on a grid, or tokens of square pictures"
        _arguments.raise_error("layers", wanted, f"shape {tuple(shape)}")
    c, *grid = shape[1:] if layout == "NCHW" else (shape[3], *shape[1:3])
    if abs(grid[0] * w - grid[1] * h) > h + w:  # sides of grids are rounded
        wanted = f"{name} on a grid like {written_size(input_size)}"
        _arguments.raise_error("output_layout", wanted, written_size(grid))
    return layout, (c, grid[0], grid[1])


def on_one_grid(
    found: dict[str, tuple[Kind, tuple[int, int, int]]], grid: tuple[int, int], taken: Array
) -> tuple[Layer, ...]:
    """Return how layers of these axes and shapes become features; all channels are counted through."""
    layers, start = [], 0
    for name, (kind, shape) in found.items():
        positions = np.flatnonzero((start <= taken) & (taken < start + shape[0]))
        to_grid = overlap(grid[0], shape[1]), overlap(grid[1], shape[2])
        layers.append(Layer(name, kind, shape, taken[positions] - start, positions, *to_grid))
        start += shape[0]
    return tuple(layers)


def arranged(output: Array, kind: Kind, shape: tuple[int, int, int]) -> Array:
    """Return an output of a network as (N, C, h, w)."""
    if kind == "NCHW":
        return output
    if kind == "tokens":
        h, w = shape[1:]
        output = np.asarray(output)[:, -h * w :].reshape(len(output), h, w, -1)
    return np.asarray(np.moveaxis(output, -1, 1))


def overlap(m: int, n: int) -> Array:
    """Return how much of each of m new cells lies in each of n old ones, (m, n); rows add up to 1."""
    i, j = np.arange(m)[:, None], np.arange(n)
    shared = np.minimum((i + 1) * n, (j + 1) * m) - np.maximum(i * n, j * m)
    return np.asarray(np.maximum(shared, 0) / n, np.float32)
