"""Precision: a stack of inverse covariances, used through a factor, of which there are two kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mvgauss._arguments import Array
from mvgauss._linalg.whitening import Whitening, directions_of_rows, self_product, whiten
from mvgauss._stack import Stack


def squared_norms(z: Array, root: Array) -> Array:
    """Return |W z|^2 of deviations ``(B, M, C)`` and W ``(B, n, C)``, in the dtype of W: ``(B, M)``."""
    y = np.matmul(z.astype(root.dtype, copy=False), root.swapaxes(1, 2))
    return np.asarray(np.vecdot(y, y))


@dataclass(frozen=True)
class Factor(Stack):
    """What both kinds have."""

    rank: Array  #: (B,)
    log_pdet: Array  #: (B,), logarithm of the pseudo-determinant of the covariance


@dataclass(frozen=True)
class Dense(Factor):
    """W with W^T W = S^+, stored in some dtype; distances are computed in that dtype."""

    root: Array  #: (B, n, C), as many rows as the rank may need

    @classmethod
    def of(cls, w: Whitening, dtype: np.dtype[Any]) -> Dense:
        """Store whitening matrices in a dtype."""
        return cls(w.rank, w.log_pdet, w.root.astype(dtype, copy=False))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the largest array."""
        return self.root.dtype

    @property
    def numbers_per_distance(self) -> int:
        """How many numbers of the factor one distance reads."""
        return int(self.root.shape[1] * self.root.shape[2])

    def without_rows(self) -> Dense:
        """Return the same without the rows that it may share with moments."""
        return self

    def squared_norms(self, z: Array) -> Array:
        """Return z^T S^+ z of deviations ``(B, M, C)``: ``(B, M)``, sums of squares."""
        return squared_norms(z, self.root)

    def solve(self, z: Array) -> Array:
        """Return S^+ z of deviations ``(B, M, C)``."""
        root = self._double()
        return np.asarray(np.matmul(np.matmul(z, root.swapaxes(1, 2)), root))

    def inverse(self) -> Array:
        """Return S^+, ``(B, C, C)``, exactly symmetric."""
        return self_product(self._double())

    def covariance(self) -> Array:
        """Return S, ``(B, C, C)``, exactly symmetric."""
        axes, values, counts = self._axes()
        return self_product(axes / np.where(counts, values, np.inf)[:, :, None])

    def condition(self) -> Array:
        """Return the condition numbers of S, ``(B,)``; inf where a direction was dropped."""
        values = np.linalg.svd(self._double(), compute_uv=False)
        full = self.rank == self.root.shape[2]
        smallest = np.where(full, np.min(values, axis=1, initial=np.inf), 1)
        return np.where(full, (np.max(values, axis=1, initial=0) / smallest) ** 2, np.inf)

    def principal_axes(self) -> tuple[Array, Array]:
        """Return orthonormal axes, in rows ``(B, n, C)``, and the largest standard deviations, ``(B,)``.

        The support of a singular covariance is spanned by as many of them as its rank.
        """
        axes, values, counts = self._axes()
        return axes, 1 / np.min(values, axis=1, initial=np.inf, where=counts)

    def _axes(self) -> tuple[Array, Array, Array]:
        """Return the axes in rows, what one standard deviation along each is divided by, and which count."""
        _, values, axes = np.linalg.svd(self._double(), full_matrices=False)
        return axes, values, np.arange(values.shape[1]) < self.rank[:, None]

    def _double(self) -> Array:
        return self.root.astype(np.float64, copy=False)


@dataclass(frozen=True)
class LowRank(Factor):
    r"""S = V^T V + floor I with V = sqrt(scale) K of few rows K: Woodbury's identity as a sum of squares.

    With T the whitening matrix of the small V V^T + floor I,

    .. math:: a = T^T T V z, \quad r = z - V^T a, \quad z^T S^+ z = |a|^2 + |r|^2 / \mathrm{floor},

    the minimum over a of :math:`|z - V^T a|^2 / \mathrm{floor} + |a|^2`: an error of a enters squared. Where
    there is no floor, r is off the support and does not count; nothing is a minimum then, and a takes
    one step of refinement. T is always double: its error decides that of a.
    """

    rows: Array  #: K, (B, n, C), in the dtype of the model
    small: Array  #: T, (B, n, n)
    scale: Array  #: (B,)
    floor: Array  #: (B,)

    @classmethod
    def of_rows(cls, rows: Array, scale: Array, floor: Array, noise: Array | None) -> LowRank:
        """Factor covariances of few rows ``(B, n, C)``; without a floor, `noise` is as in `whiten`."""
        n, c = rows.shape[1:]
        k = rows.astype(np.float64, copy=False)
        gram = np.matmul(k, k.swapaxes(1, 2))
        gram *= scale[:, None, None]
        i = np.arange(n)
        gram[:, i, i] += floor[:, None]
        t = whiten(gram, floor)
        known = floor > 0
        rank = np.where(known, c, t.rank)
        log_pdet = t.log_pdet + (c - n) * np.log(np.where(known, floor, 1))
        bare = np.flatnonzero(~known)
        if bare.size and noise is not None:
            v = np.sqrt(scale[bare])[:, None, None] * k[bare]
            left, sd, _ = directions_of_rows(v, noise[bare])
            counts = np.isfinite(sd)
            t.root[bare] = left.swapaxes(1, 2) / sd[:, :, None]
            rank[bare] = counts.sum(axis=1)
            log_pdet[bare] = 2 * np.log(np.where(counts, sd, 1)).sum(axis=1)
        return cls(rank, log_pdet, rows, t.root, scale, floor)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.rows.dtype

    @property
    def numbers_per_distance(self) -> int:
        return int(2 * self.rows.shape[1] * self.rows.shape[2])  # each row is read twice

    def without_rows(self) -> LowRank:
        return replace(self, rows=self.rows[:, :0])

    def squared_norms(self, z: Array) -> Array:
        a, r = self._split(z, refine=not self.floor.all())
        inverse_floor = self._inverse_floor()[:, None]
        squared = np.vecdot(a, a) + np.vecdot(r, r) * inverse_floor
        # of the minimum over a, a = 0 is a bound, which counts where T has lost the floor to rounding
        bound = np.vecdot(z, z) * inverse_floor
        return np.asarray(np.where(inverse_floor > 0, np.minimum(squared, bound), squared))

    def solve(self, z: Array) -> Array:
        a, r = self._split(z, refine=True)  # S^-1 z is of first order in the error of a
        r *= self._inverse_floor()[:, None, None]
        bare = np.flatnonzero(self.floor == 0)
        if bare.size:
            part = self[bare]
            k, root = part._scaled_rows()
            r[bare] = np.matmul(part._solve_small(a[bare]) * root, k)
        return r

    def inverse(self) -> Array:
        k, root = self._scaled_rows()
        inverse_floor = self._inverse_floor()
        result = self_product(np.matmul(self.small * root, k)) * -inverse_floor[:, None, None]
        i = np.arange(result.shape[1])
        result[:, i, i] += inverse_floor[:, None]
        bare = np.flatnonzero(self.floor == 0)
        if bare.size:
            t = self.small[bare]
            result[bare] = self_product(np.matmul(np.matmul(t.swapaxes(1, 2), t) * root[bare], k[bare]))
        return result

    def covariance(self) -> Array:
        result = self_product(self._scaled_rows()[0]) * self.scale[:, None, None]
        i = np.arange(result.shape[1])
        result[:, i, i] += self.floor[:, None]
        return result

    def condition(self) -> Array:
        values = np.linalg.svd(self.small, compute_uv=False)  # 1 / sqrt of the eigenvalues of V V^T + floor I
        with np.errstate(divide="ignore"):
            smallest = np.min(values, axis=1, initial=np.inf, where=values > 0)
            largest = np.maximum(self.floor, 1 / smallest**2)
            return np.where(self.floor > 0, largest / self.floor, np.inf)

    def principal_axes(self) -> tuple[Array, Array]:
        _, values, vectors = np.linalg.svd(self.rows.astype(np.float64, copy=False), full_matrices=False)
        return vectors, np.sqrt(self.scale) * np.max(values, axis=1, initial=0)

    def _scaled_rows(self) -> tuple[Array, Array]:
        """Return K in double precision, and sqrt(scale), to be applied where there are fewest numbers."""
        return self.rows.astype(np.float64, copy=False), np.sqrt(self.scale)[:, None, None]

    def _inverse_floor(self) -> Array:
        """Return 1 / floor, and 0 where there is no floor."""
        return np.divide(1, self.floor, out=np.zeros(len(self.floor)), where=self.floor > 0)

    def _solve_small(self, y: Array) -> Array:
        """Return T^T T y."""
        return np.asarray(np.matmul(np.matmul(y, self.small.swapaxes(1, 2)), self.small))

    def _split(self, z: Array, refine: bool) -> tuple[Array, Array]:
        """Return a ``(B, M, n)`` and r ``(B, M, C)``, of which z = V^T a + r."""
        k, root = self._scaled_rows()
        a = self._solve_small(np.matmul(z, k.swapaxes(1, 2)) * root)
        explained = np.matmul(a * root, k)
        if refine:
            r = z - explained
            a += self._solve_small(np.matmul(r, k.swapaxes(1, 2)) * root - a * self.floor[:, None, None])
            explained = np.matmul(a * root, k)
        return a, np.subtract(z, explained, out=explained)


Precision = Dense | LowRank
