"""Samples of a block of patches -> their moments; merging."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from mvgauss import _blocks, _sums, _triangular
from mvgauss._arguments import Array
from mvgauss._scatter import Rows, in_rows


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


def shift_of(first: Array, mean: Array, u: float) -> Array:
    """Return what `rows_of` subtracts, ``(B, C)``, of the first samples."""
    return np.asarray(mean + u / (1 + u) * (first - mean))


def rows_of(z: Array, offset: Array, total: float, w: Array | None, room: Array | None = None) -> Rows:
    r"""Return N - 1 rows K with the scatter of N samples ``(N, B, C)`` of this mean, in `room` if given.

    With :math:`u = \sqrt{w / W}`, :math:`u^T \sqrt w (z - \bar z) = 0`. The Householder reflection that
    takes u to the first axis leaves nothing in the first row, and in the others

    .. math:: \sqrt{w_i} \left(z_i - \bar z - \frac{u_1}{1 + u_1} (z_1 - \bar z)\right) .
    """
    first = 1.0 if w is None else w[0]
    u = np.sqrt(first / (total or 1.0))
    shift = shift_of(z[0], offset, u)
    out = np.subtract(z[1:], shift, out=None if room is None else room.swapaxes(0, 1))
    if w is not None:
        out *= np.sqrt(w[1:, None, None])
    return Rows(out.swapaxes(0, 1))
