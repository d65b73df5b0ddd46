r"""Factors of covariances of few samples, without any C x C matrix.

For a covariance :math:`\hat\Sigma = s K^T K + \delta I` of few rows K, ``(n, C)``, with
:math:`V = \sqrt s K` and T the whitening matrix of the small :math:`V V^T + \delta I`,

.. math:: a = T^T T V z, \quad r = z - V^T a, \quad d^2 = \lVert a \rVert^2 + \lVert r \rVert^2 / \delta,

which is Woodbury's identity as a sum of squares: the minimum of
:math:`\lVert a \rVert^2 + \lVert z - V^T a \rVert^2 / \delta` over a, so that an error of a enters
squared. Where :math:`\delta = 0` the second term is left out, and where rows repeat others, T is zero in
the directions that they leave open: a is zero there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from mvgauss import _whitening
from mvgauss._arguments import Array
from mvgauss._factor import Factor, Root
from mvgauss._whitening import self_product

_EPS = float(np.finfo(np.float64).eps)
_FAR = 2.0**12  #: by so much variances exceed a ridge that needs care

#: A feature lies far from zero if so many samples vary by less than this part of what is to be subtracted.
_LOOK, _PART = 8, 1 / 8


@dataclass(frozen=True)
class Thin(Factor):
    """Factors of few rows: K, T, s and the ridge, see the head of this file."""

    rows: Array  #: (P, n, C), those of the scatter where that is kept, or its samples, (P, n + 1, C)
    small: Array  #: (P, n, n)
    scale: Array  #: (P,)
    ridge: Array  #: (P,)
    shift: Array | None = None  #: (P, C), if `rows` are samples; see `rows_of_samples`

    @classmethod
    def empty(cls, rows: Array, dtype: np.dtype[Any], shift: Array | None = None) -> Self:
        """Return room for the factors of covariances with these rows."""
        p, n = len(rows), rows.shape[1] - (shift is not None)
        rank, small = np.empty(p, np.int64), np.empty((p, n, n), dtype)
        return cls(rank, np.empty(p), np.empty(p), rows, small, np.empty(p), np.empty(p), shift)

    @classmethod
    def of(cls, rows: Array, scale: Array, ridge: Array, shrinkage: Array) -> Self:
        """Factor a block."""
        c = rows.shape[2]
        gram = np.matmul(rows, rows.swapaxes(1, 2))
        gram *= scale[:, None, None]
        i = np.arange(gram.shape[1])
        gram[:, i, i] += ridge[:, None]
        w = _whitening.whiten(gram, ridge, rows=rows.swapaxes(1, 2), scale=scale)
        # where rows repeat others, a is nothing but the rounding of V z, which a tiny ridge magnifies
        trace, pivot = np.trace(gram, axis1=1, axis2=2), np.diagonal(w.root, axis1=1, axis2=2)
        repeated = (pivot**2).max(axis=1, initial=0) * ridge > 1 / 8
        some = np.flatnonzero((ridge > 0) & (repeated & (trace > _FAR * ridge) | (trace > _FAR**3 * ridge)))
        if some.size:
            v = np.sqrt(scale[some])[:, None, None] * rows[some]
            t, _, w.log_pdet[some] = _whitening.whiten_rows(v.swapaxes(1, 2), ridge[some], None)
            variance = np.square(np.matmul(t, v)).sum(axis=2) / np.square(t).sum(axis=2)
            t[variance <= (c * _EPS) ** 2 * variance.max(axis=1, keepdims=True)] = 0
            w.root[some] = t
        known = ridge > 0
        log_pdet = w.log_pdet + (c - len(i)) * np.log(np.where(known, ridge, 1))
        return cls(np.where(known, c, w.rank), log_pdet, shrinkage, rows, w.root, scale, ridge)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.small.dtype

    @property
    def n_rows(self) -> int:
        return 2 * int(self.small.shape[1])  # each is read twice

    @property
    def centred(self) -> Array:
        """K in double precision."""
        if self.shift is None:
            return self.rows.astype(np.float64, copy=False)
        return rows_of_samples(self.rows, self.shift)

    @property
    def _shifted(self) -> Array:
        """K, or samples below what is to be subtracted from them, ``(B, n + 1, C)``.

        It may be subtracted from products instead, which takes less, unless a feature lies so far from zero
        that these lose digits. There, nothing but zero is left to subtract.
        """
        k = self.rows.astype(np.float64, copy=self.shift is not None)
        if self.shift is not None:
            k[:, 0] = self.shift
            some = self.rows[:, :_LOOK]
            spread = some.max(axis=1).astype(np.float64) - some.min(axis=1)
            far = np.flatnonzero((_PART * np.abs(self.shift) > spread).any(axis=1))
            k[far, 1:] -= k[far, :1]
            k[far, 0] = 0
        return k

    @property
    def _double(self) -> tuple[Array, Array]:
        """Return T; and 1 / ridge, 0 where there is none."""
        inverse = np.divide(1, self.ridge, out=np.zeros(len(self.ridge)), where=self.ridge > 0)
        return self.small.astype(np.float64, copy=False), inverse

    def _parts(self, z: Array) -> tuple[Array, Array, Array, Array]:
        """Return T V z, a, r and 1 / ridge."""
        (t, inverse), k = self._double, self._shifted
        root = np.sqrt(self.scale)[:, None, None]
        y = np.matmul(z, k.swapaxes(1, 2))
        if self.shift is not None:
            y = y[..., 1:] - y[..., :1]
        y *= root
        y = np.matmul(y, t.swapaxes(1, 2))
        a = np.matmul(y, t)
        w = a * root
        if self.shift is not None:
            w = np.concatenate([-w.sum(axis=2, keepdims=True), w], axis=2)
        r = np.matmul(w, k)
        return y, a, np.subtract(z, r, out=r), inverse[:, None]

    def squared_norms(self, z: Array) -> Array:
        _, a, r, inverse = self._parts(z)
        return np.asarray(np.vecdot(a, a) + inverse * np.vecdot(r, r))

    def solve(self, z: Array) -> Array:
        _, a, r, inverse = self._parts(z)
        r *= inverse[..., None]
        bare = np.flatnonzero(self.ridge == 0)
        if bare.size:
            t, _ = self[bare]._double
            b = np.matmul(np.matmul(a[bare], t.swapaxes(1, 2)), t)
            r[bare] = np.matmul(b * np.sqrt(self.scale[bare])[:, None, None], self[bare].centred)
        return r

    def outside(self, z: Array) -> tuple[Array, Array]:
        _, _, r, _ = self._parts(z)
        length = np.linalg.svd(self._double[0], compute_uv=False)
        kept = np.arange(length.shape[1]) < self.rank[:, None]
        shortest = np.min(length, axis=1, initial=np.inf, where=kept)
        return np.linalg.norm(r, axis=2), 1 / shortest

    def inverse(self) -> Array:
        (t, inverse), k = self._double, self.centred
        w = np.matmul(t, k) * np.sqrt(self.scale)[:, None, None]
        result = self_product(w) * -inverse[:, None, None]
        i = np.arange(k.shape[2])
        result[:, i, i] += inverse[:, None]
        bare = np.flatnonzero(self.ridge == 0)
        if bare.size:
            result[bare] = self_product(np.matmul(t[bare].swapaxes(1, 2), w[bare]))
        return result

    def covariance(self) -> Array:
        result = self_product(self.centred) * self.scale[:, None, None]
        i = np.arange(result.shape[1])
        result[:, i, i] += self.ridge[:, None]
        return result

    def condition(self) -> Array:
        length = np.linalg.svd(self._double[0], compute_uv=False)  # 1 / sqrt of the Gram matrix's eigenvalues
        with np.errstate(divide="ignore"):
            shortest = np.min(length, axis=1, initial=np.inf, where=length > 0)
            largest = np.maximum(self.ridge, 1 / shortest**2)
            return np.where(self.rank == self.rows.shape[2], largest / self.ridge, np.inf)


def rows_of_samples(samples: Array, shift: Array) -> Array:
    """Return the rows ``(B, N-1, C)`` of samples ``(B, N, C)``: those but the first, less a shift."""
    k = samples[:, 1:].astype(np.float64)
    k -= shift[:, None]
    return k


def of_arrays(arrays: Mapping[str, Array], parts: Mapping[str, Array] | None = None) -> Factor | None:
    """Return the factors of which these are the arrays, with the `parts` that a scatter keeps, if any are."""
    given = {name: a for name, a in arrays.items() if name != "shift"} | dict(parts or {})
    for kind in (Root, Thin):
        names = {f.name for f in fields(kind)}
        if names - {"shift"} <= set(given):
            return kind(**{name: given[name] for name in names & set(given)})
    return None
