"""Scatters of stacks of samples, in the smaller of two forms; merging.

The scatter M of N samples of C features is kept as *rows* K, with M = K^T K: N - 1 of them, as long as
these are no more than the C (C + 1) / 2 numbers of a *triangle*; from then on as the triangular rows that
have the same product. Form and size follow from N and C alone. Products are taken where they are needed:
rows lose half as many digits as the entries of M.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, NamedTuple

import numpy as np

from mvgauss import _blocks, _sums, _triangular, _whitening
from mvgauss._checks import Array
from mvgauss._factor import Factor, Root, Thin
from mvgauss._sums import self_product


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
    """The scatters of P patches: rows ``(P, N-1, C)``, or packed triangular ones ``(P, C(C+1)/2)``."""

    def __init__(self, array: Array, n_features: int) -> None:
        self.array = array
        self.n_features = n_features

    @classmethod
    def empty(cls, p: int, n_samples: int, c: int) -> Scatter:
        """Return room for the scatters of so many samples at P patches."""
        rows = in_rows(n_samples, c)
        return cls(np.empty((p, n_samples - 1, c) if rows else (p, c * (c + 1) // 2)), c)

    @property
    def rows(self) -> bool:
        """Whether they are kept as rows."""
        return self.array.ndim == 3

    def __getitem__(self, where: Any) -> Rows:
        """Return a block."""
        if self.rows:
            return Rows(self.array[where])
        return Rows(_triangular.unpack(self.array[where], self.n_features).swapaxes(1, 2), few=False)

    def __setitem__(self, where: Any, block: Rows) -> None:
        """Write a block, in the form that is kept, unless it was made there."""
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
        if not self.rows:
            return Root.empty(len(self.array), self.n_features, self.n_features, dtype)
        if regularised:
            return Thin.empty(self.array, dtype)
        p, n, c = self.array.shape
        return Root.empty(p, n, c, dtype)


@dataclass(frozen=True)
class Sample:
    r"""The moments of the samples of a block of patches.

    `third` and `fourth` are the sums of :math:`w \lVert z \rVert^2 z` and
    :math:`w \lVert z \rVert^4` about the mean, kept where Ledoit-Wolf shrinkage asks for them.
    """

    weight: float  #: sum of the weights, the same at all patches
    mean: Array  #: (B, C)
    scatter: Rows
    third: Array | None = None  #: (B, C)
    fourth: Array | None = None  #: (B,)

    @classmethod
    def of(cls, x: Array, w: Array | None, fourth: bool, room: Array | None = None) -> Sample:
        """Return the moments of a block of samples ``(B, N, C)`` with weights ``(N,)``; rows in `room`."""
        b, n, c = x.shape
        weights = [] if w is None else [np.broadcast_to(w, (b, n))] * 2
        total = float(n if w is None else w.sum())
        if not (fourth or in_rows(n, c)):
            return cls(total, *_many(x, weights))
        runs = _blocks.slices(n, b * c * 8, least=2 * c)
        if len(runs) > 1:
            return reduce(
                cls.merge, (cls.of(x[:, run], None if w is None else w[run], fourth) for run in runs)
            )
        _, _, mean, offset, z = _sums.shifted(x, *weights, dtype=np.dtype(np.float64))
        rows = rows_of(z, offset, total, w, room) if in_rows(n, c) else None
        if rows is not None and not fourth:
            return cls(total, mean, rows)
        z = _sums.centre(z, offset, *weights)
        scatter = Rows.triangular(z.swapaxes(0, 1)) if rows is None else rows
        # of the rows sqrt(w) z: a zero weight leaves nothing to divide
        share = np.ones(n) if w is None else np.divide(1, w, out=np.zeros(n), where=w > 0)
        length = np.vecdot(z, z)
        third = ((length * np.sqrt(share)[:, None])[..., None] * z).sum(axis=0)
        return cls(total, mean, scatter, third, (length**2 * share[:, None]).sum(axis=0))

    def merge(self, other: Sample) -> Sample:
        """Return the moments of both samples."""
        total = self.weight + other.weight
        share = other.weight / total if total else 0.0
        delta = other.mean - self.mean
        mean = self.mean + share * delta
        scatter = self.scatter.plus(other.scatter, np.sqrt(self.weight * share) * delta)
        if self.third is None:
            return Sample(total, mean, scatter)
        moved, added = self.about(mean), other.about(mean)
        return Sample(total, mean, scatter, moved[0] + added[0], moved[1] + added[1])

    def about(self, mean: Array) -> tuple[Array, Array]:
        r"""Return the third and fourth moments about another mean.

        With :math:`z = x - \bar x`, :math:`\sum w z = 0` and :math:`d = \bar x - m`,

        .. math::
           \sum w \lVert z + d \rVert^2 (z + d) &= t + \operatorname{tr}(M)\,d
               + 2 M d + W \lVert d\rVert^2 d , \\
           \sum w \lVert z + d \rVert^4 &= q + 4\, t^T d + 4\, d^T M d
               + 2 \operatorname{tr}(M) \lVert d\rVert^2 + W \lVert d\rVert^4 .
        """
        assert self.third is not None
        assert self.fourth is not None
        d, m_d = self.mean - mean, self.scatter.times(self.mean - mean)
        trace, dd = self.scatter.trace, np.vecdot(d, d)
        third = self.third + (trace + self.weight * dd)[:, None] * d + 2 * m_d
        fourth = self.fourth + 4 * np.vecdot(self.third, d) + 4 * np.vecdot(d, m_d)
        return third, fourth + 2 * trace * dd + self.weight * dd**2


def _many(x: Array, weights: list[Array]) -> tuple[Array, Rows]:
    """Return the means and triangular rows of samples that are many for the features, in runs."""
    b, n, c = x.shape
    double = np.dtype(np.float64)
    runs = _blocks.slices(n, b * c * 8, least=2 * c)
    if len(runs) == 1:
        _, _, mean, z = _sums.centred(x, *weights, dtype=double)
        return mean, Rows.triangular(z.swapaxes(0, 1))
    sums = _sums.of_block(x, *weights, dtype=double)
    lower, rest = _triangular.root(sums.scatter)
    if rest.size:  # once more over the samples, about the mean
        upper = np.zeros((len(rest), 0, c))
        for run in runs:
            z = x[rest, run].astype(double) - sums.mean[rest, None]
            z *= np.sqrt(weights[0][rest, run])[..., None] if weights else 1
            upper = _triangular.root_of_rows(np.concatenate([upper, z], axis=1)).swapaxes(1, 2)
        lower[rest] = upper.swapaxes(1, 2)
    return sums.mean, Rows(lower.swapaxes(1, 2), False, sums.scatter)


def rows_of(z: Array, offset: Array, total: float, w: Array | None, room: Array | None = None) -> Rows:
    r"""Return N - 1 rows K with the scatter of N samples ``(N, B, C)`` of this mean, in `room` if given.

    With :math:`u = \sqrt{w / W}`, :math:`u^T \sqrt w (z - \bar z) = 0`. The Householder reflection that
    takes u to the first axis leaves nothing in the first row, and in the others

    .. math:: \sqrt{w_i} \left(z_i - \bar z - \frac{u_1}{1 + u_1} (z_1 - \bar z)\right) .
    """
    first = 1.0 if w is None else w[0]
    u = np.sqrt(first / (total or 1.0))
    shift = offset + u / (1 + u) * (z[0] - offset)
    out = np.subtract(z[1:], shift, out=None if room is None else room.swapaxes(0, 1))
    if w is not None:
        out *= np.sqrt(w[1:, None, None])
    return Rows(out.swapaxes(0, 1))
