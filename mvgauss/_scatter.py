"""Scatters of stacks of samples, in the smaller of two forms.

The scatter M of N samples of C features is kept as *rows* K, with M = K^T K: N - 1 of them, as long as
these are no more than the C (C + 1) / 2 numbers of a *triangle*; from then on as the triangular rows that
have the same product. Form and size follow from N and C alone, but that unweighted samples in single
precision are kept instead of their rows, which take twice the memory. Products are taken where they are
needed: rows lose half as many digits as the entries of M.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from mvgauss import _blocks, _triangular, _whitening
from mvgauss._arguments import Array
from mvgauss._factor import Factor, Root
from mvgauss._sums import self_product
from mvgauss._thin import Thin, rows_of_samples


def in_rows(n_samples: int, n_features: int) -> bool:
    """Return whether the scatter of so many samples is kept as rows, which leave directions open."""
    return n_samples <= n_features and 2 * (n_samples - 1) <= n_features + 1


class Norms(NamedTuple):
    """Traces of scatters, ``(B,)`` each; those of squares over 4^exponent, which keeps them in range."""

    trace: Array  #: tr M
    square: Array  #: tr M^2
    off: Array  #: tr (M - (tr M / C) I)^2
    exponent: Array


@dataclass(frozen=True)
class Rows:
    """A block of scatters M = K^T K."""

    array: Array  #: K, (B, n, C)
    few: bool = True  #: whether n follows from the samples; else n = C, triangular
    product: Array | None = None  #: M, where it is known

    @classmethod
    def triangular(cls, k: Array) -> Rows:
        """Return C triangular rows with the product of rows ``(B, n, C)``."""
        product = self_product(k.swapaxes(0, 1))
        lower, rest = _triangular.root(product)
        if rest.size:
            lower[rest] = _triangular.root_of_rows(k[rest])
        return cls(lower.swapaxes(1, 2), False, product)

    def square(self) -> Array:
        """Return M, ``(B, C, C)``, exactly symmetric."""
        return self_product(self.array.swapaxes(0, 1)) if self.product is None else self.product

    @cached_property
    def diagonal(self) -> Array:
        """The diagonals of M, ``(B, C)``."""
        if self.product is not None:
            return np.diagonal(self.product, axis1=1, axis2=2)
        return np.asarray(np.einsum("pnc,pnc->pc", self.array, self.array))

    @cached_property
    def trace(self) -> Array:
        """The traces of M, ``(B,)``."""
        if self.product is not None:
            return np.asarray(self.diagonal.sum(axis=1))
        return np.asarray(np.vecdot(self.array, self.array).sum(axis=1))

    def times(self, v: Array) -> Array:
        """Return M v for vectors ``(B, C)``."""
        y = np.matmul(self.array, v[..., None])
        return np.asarray(np.matmul(self.array.swapaxes(1, 2), y)[..., 0])

    def norms(self) -> Norms:
        """Return traces of M and its square, from the products of the rows with each other."""
        n, c = self.array.shape[1:]
        gram = np.matmul(self.array, self.array.swapaxes(1, 2))
        trace = np.trace(gram, axis1=1, axis2=2)
        exponent = np.frexp(trace)[1]
        gram = np.ldexp(gram, -exponent[:, None, None])
        square = np.square(gram).sum(axis=(1, 2))
        mean = np.ldexp(trace, -exponent) / c
        i = np.arange(n)
        gram[:, i, i] -= mean[:, None]
        return Norms(trace, square, np.square(gram).sum(axis=(1, 2)) + (c - n) * mean**2, exponent)

    def plus(self, other: Rows, d: Array) -> Rows:
        """Return M + M' + d d^T, d ``(B, C)``: all rows below each other."""
        rows = np.concatenate([self.array, other.array, d[:, None]], axis=1)
        return Rows(rows) if in_rows(rows.shape[1] + 1, rows.shape[2]) else Rows.triangular(rows)

    def factor(
        self, scale: Array, ridge: Array, shrinkage: Array, noise: Array | None, regularised: bool
    ) -> Factor:
        """Factor s M + ridge I; without regularisation M s alone, knowing the noise of its features."""
        if self.few and regularised:
            return Thin.of(self.array, scale, ridge, shrinkage)
        if self.few:
            rows = np.sqrt(scale)[:, None, None] * self.array
            return Root.of(_whitening.whiten_rows(rows, ridge, noise), shrinkage)
        s = self.square() * scale[:, None, None]
        i = np.arange(s.shape[1])
        s[:, i, i] += ridge[:, None]
        return Root.of(_whitening.whiten(s, ridge, noise, rows=self.array, scale=scale), shrinkage)


class Scatter:
    """The scatters of P patches: rows ``(P, N-1, C)``, or packed triangular ones ``(P, C(C+1)/2)``.

    Instead of rows, samples in single precision ``(P, N, C)`` may be kept, with the `shift` ``(P, C)`` of
    `shift_of`; see `rows_of_samples`.
    """

    def __init__(self, array: Array, n_features: int, shift: Array | None = None) -> None:
        self.array = array
        self.n_features = n_features
        self.shift = shift

    @classmethod
    def empty(cls, p: int, n_samples: int, c: int, single: bool = False) -> Scatter:
        """Return room for the scatters of so many samples at P patches, all in single precision or not."""
        if not in_rows(n_samples, c):
            return cls(np.empty((p, c * (c + 1) // 2)), c)
        if single:
            return cls(np.empty((p, n_samples, c), np.float32), c, np.empty((p, c)))
        return cls(np.empty((p, n_samples - 1, c)), c)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Array], c: int) -> Scatter:
        """Return the scatters of which these are the `arrays`."""
        array = next(arrays[name] for name in ("samples", "rows", "triangle") if name in arrays)
        return cls(array, c, arrays["shift"] if "samples" in arrays else None)

    def arrays(self) -> dict[str, Array]:
        """Return what is kept, by name."""
        if self.shift is not None:
            return {"samples": self.array, "shift": self.shift}
        return {"rows" if self.rows else "triangle": self.array}

    def of_factor(self) -> dict[str, Array]:
        """Return which of the arrays of `Thin` are parts of what is kept."""
        if self.shift is not None:
            return {"rows": self.array, "shift": self.shift}
        return {"rows": self.array} if self.rows else {}

    @property
    def samples(self) -> Array | None:
        """The samples, where they are kept."""
        return None if self.shift is None else self.array

    @property
    def rows(self) -> bool:
        """Whether they are kept as rows."""
        return self.array.ndim == 3

    def __getitem__(self, where: Any) -> Rows:
        """Return a block."""
        if self.shift is not None:
            return Rows(rows_of_samples(self.array[where], self.shift[where]))
        if self.rows:
            return Rows(self.array[where])
        return Rows(_triangular.unpack(self.array[where], self.n_features).swapaxes(1, 2), few=False)

    def __setitem__(self, where: Any, block: Rows) -> None:
        """Write a block, in the form that is kept, unless it was made there or is of samples."""
        if self.shift is not None:
            return
        if not self.rows:
            _triangular.pack(block.array.swapaxes(1, 2), self.array[where])
        elif not np.may_share_memory(room := self.array[where], block.array):
            room[...] = block.array

    @property
    def diagonal(self) -> Array:
        """The diagonals of all patches, ``(P, C)``."""
        return np.concatenate([self[b].diagonal for b in self._blocks()])

    def _blocks(self) -> list[slice]:
        return _blocks.slices(len(self.array), self.n_features**2 * 8)

    def empty_factor(self, regularised: bool, dtype: np.dtype[Any]) -> Factor:
        """Return room for the factors."""
        if self.rows and regularised:
            return Thin.empty(**self.of_factor(), dtype=dtype)
        n = self.array.shape[1] - (self.shift is not None) if self.rows else self.n_features
        return Root.empty(len(self.array), n, self.n_features, dtype)
