r"""Factors of stacks of covariances: the basis of distances, densities and inverses.

A `Factor` is a `Root` (W with :math:`W^T W = \hat\Sigma^+`) or, of few samples, `Thin` (see `_thin`). It
is indexed by blocks of patches; what it keeps may be single precision, what it computes is double.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from mvgauss import _whitening
from mvgauss._arguments import Array
from mvgauss._whitening import Whitening, self_product


@dataclass(frozen=True)
class Factor:
    """What both forms have: P patches, or a block of them."""

    rank: Array  #: (P,)
    log_pdet: Array  #: (P,), logarithms of the pseudo-determinants
    shrinkage: Array  #: (P,), the intensities that were used

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by name."""
        return {f.name: a for f in fields(self) if (a := getattr(self, f.name)) is not None}

    def __getitem__(self, where: Any) -> Self:
        """Return the factors of some patches."""
        return type(self)(**{name: a[where] for name, a in self.arrays().items()})

    def __setitem__(self, where: Any, block: Factor) -> None:
        """Write the factors of some patches; rows, which are those of the scatter, are there already."""
        for name, a in self.arrays().items():
            if name not in ("rows", "shift"):
                a[where] = getattr(block, name)

    def squared_norms(self, z: Array) -> Array:
        """Return the squared distances of deviations ``(B, M, C)``: ``(B, M)``."""
        raise NotImplementedError

    def solve(self, z: Array) -> Array:
        """Return inverse covariances times deviations ``(B, M, C)``."""
        raise NotImplementedError

    def outside(self, z: Array) -> tuple[Array, Array]:
        """Return the lengths of what of deviations is off the support, and the largest deviation in it."""
        raise NotImplementedError

    def inverse(self) -> Array:
        """Return the (pseudo-)inverses, ``(B, C, C)``, exactly symmetric."""
        raise NotImplementedError

    def covariance(self) -> Array:
        """Return the covariances, ``(B, C, C)``, exactly symmetric."""
        raise NotImplementedError

    def condition(self) -> Array:
        """Return the condition numbers, ``(B,)``; inf where the rank is deficient."""
        raise NotImplementedError

    def off_support(self, z: Array) -> Array:
        r"""Return which deviations ``(B, M, C)`` leave the support of deficient covariances.

        What lies outside may be rounding up to :math:`\sqrt{C \epsilon}` times the larger of z and the
        largest standard deviation, with the precision that is kept: the square root of the cut-off that
        dropped the other directions.
        """
        c = z.shape[-1]
        result = np.zeros(z.shape[:-1], bool)
        some = np.flatnonzero(self.rank < c)
        if some.size:
            rest, largest = self[some].outside(z[some])
            size = np.maximum(np.linalg.norm(z[some], axis=2), largest[:, None])
            eps = float(np.finfo(self.dtype).eps)
            result[some] = rest > math.sqrt(c * eps) * size
        return result

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is kept of the factors themselves."""
        raise NotImplementedError

    @property
    def n_rows(self) -> int:
        """How many rows of C numbers a distance takes."""
        raise NotImplementedError


@dataclass(frozen=True)
class Root(Factor):
    r"""Factors W, ``(P, m, C)``, of m = C rows or, without a ridge, of as few as the scatter has."""

    root: Array

    @classmethod
    def empty(cls, p: int, m: int, c: int, dtype: np.dtype[Any]) -> Self:
        """Return room for the factors of P patches."""
        return cls(np.empty(p, np.int64), np.empty(p), np.empty(p), np.empty((p, m, c), dtype))

    @classmethod
    def of(cls, w: Whitening, shrinkage: Array) -> Self:
        """Return a block of factors."""
        return cls(w.rank, w.log_pdet, shrinkage, w.root)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.root.dtype

    @property
    def n_rows(self) -> int:
        return int(self.root.shape[1])

    @property
    def _double(self) -> Array:
        return self.root.astype(np.float64, copy=False)

    def squared_norms(self, z: Array) -> Array:
        y = np.matmul(z, self._double.swapaxes(1, 2))
        return np.asarray(np.vecdot(y, y))

    def solve(self, z: Array) -> Array:
        w = self._double
        return np.asarray(np.matmul(np.matmul(z, w.swapaxes(1, 2)), w))

    def outside(self, z: Array) -> tuple[Array, Array]:
        w = self._double  # the rows of a deficient one are orthogonal
        length = np.linalg.norm(w, axis=2)
        kept = length > 0
        u = w / np.where(kept, length, 1)[:, :, None]
        rest = z - np.matmul(np.matmul(z, u.swapaxes(1, 2)), u)
        shortest = np.min(length, axis=1, initial=np.inf, where=kept)
        return np.linalg.norm(rest, axis=2), 1 / shortest

    def inverse(self) -> Array:
        return self_product(self._double)

    def covariance(self) -> Array:
        return _whitening.inverse_of(self._double, self.rank)

    def condition(self) -> Array:
        values = np.linalg.svd(self._double, compute_uv=False)
        full = self.rank == self.root.shape[-1]
        low = np.where(full, values[:, -1], 1)
        return np.where(full, (values[:, 0] / low) ** 2, np.inf)
