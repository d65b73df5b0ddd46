"""Samples -> weight sums, means and scatters, which merge exactly.

The moments of two parts merge into the moments of the whole (Chan, Golub & LeVeque 1982), so one formula
serves one-shot, streamed, merged and distributed fitting; a covariance is the scatter over a divisor.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._linalg import triangular
from mvgauss._linalg.precision import Dense, LowRank, Precision
from mvgauss._linalg.whitening import self_product, whiten, whiten_rows
from mvgauss._runtime import blocks
from mvgauss._stack import Stack

R = TypeVar("R")

#: A long sample is cut into at most so many groups of runs, which are computed on threads.
_GROUPS = 16

#: So many runs that are only summed make a block: their products are fastest in the second-level cache.
_RUNS_IN_A_BLOCK = 4


def fits_in_rows(n_samples: int, n_features: int) -> bool:
    """Return whether N - 1 rows of C numbers take no more memory than a triangle, and cannot span all C."""
    return 0 < n_samples <= n_features and 2 * (n_samples - 1) <= n_features + 1


class Norms(NamedTuple):
    """Norms of scatters M, ``(B,)`` each; those of squares are relative to the squared trace."""

    trace: Array  #: tr M
    square: Array  #: |M|^2 / tr^2 M
    off_target: Array  #: |M - (tr M / C) I|^2 / tr^2 M


class Moments(Stack):
    r"""Weight sums, mean and scatter of a sample, or of each sample of a stack.

    Parameters
    ----------
    observations : array_like, shape (..., N, C)
        N samples of C features; the leading axes are the stack. A vector is N samples of one feature.
    aweights : array_like, shape (N,) or (..., N), optional
        Relative importance of each sample, as in `cov`.
    fweights : array_like of whole numbers, shape (N,) or (..., N), optional
        How many times each sample counts, as in `cov`.
    rowvar : bool, default False
        Whether the last two axes are ``(C, N)`` instead.
    dtype : dtype, optional
        In which to compute and to answer, by default at least float64; half precision means single.

    Attributes
    ----------
    n_samples : int
        Number of samples N, those of weight zero included.
    sum_weights : ndarray, shape (...)
        :math:`W = \sum w`, with :math:`w = f a` the product of both kinds of weights.
    sum_squared_weights : ndarray, shape (...)
        :math:`V = \sum w a`; without `fweights` this is :math:`\sum w^2`.
    mean : ndarray, shape (..., C)
        :math:`\bar x = \sum w x / W`, in the unit of the features.
    scatter : ndarray, shape (..., C, C)
        :math:`M = \sum w (x - \bar x)(x - \bar x)^H`, in that unit squared. Exactly symmetric (or Hermitian).

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, value or kind; the message names it.

    Notes
    -----
    Each sample is first shifted by one sample of the largest weight, in the precision it comes in,
    then rounded to `dtype`, centred, and multiplied with itself. The shift is exact for data far from
    zero (single precision summed in double needs none without weights), so the error of an entry of
    `scatter` is bounded by a small multiple of :math:`N \epsilon \sqrt{M_{ii} M_{jj}}`, whatever the
    offset of the data; a constant feature has a scatter of exactly zero. Of a long sample without weights
    the first run gives a mean, and the others are summed about it.

    Merging follows Chan, Golub & LeVeque [1]_: with :math:`\delta = \bar x_2 - \bar x_1`,

    .. math:: M = M_1 + M_2 + \frac{W_1 W_2}{W_1 + W_2}\, \delta \delta^H .

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm
       for computing sample variances", COMPSTAT 1982, doi:10.1007/978-3-642-51461-6_3.

    Examples
    --------
    >>> import numpy as np
    >>> from mvgauss import Moments
    >>> x = np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0], [6.0, 6.0]])
    >>> Moments(x[:1]).merge(Moments(x[1:])).cov(ddof=0)
    array([[5., 4.],
           [4., 5.]])
    """

    n_samples: int
    sum_weights: Array
    sum_squared_weights: Array
    mean: Array
    # M in one of three forms. Only this class knows which.
    _square: Array | None  # (..., C, C)
    _triangle: Array | None  # (B, C (C + 1) / 2), packed, as a model stores it
    _rows: Array | None  # (B, N - 1, C), of few samples: K with M = K^T K
    # Of Ledoit-Wolf shrinkage: the sums of w |z|^2 z, (B, C), and of w |z|^4, (B,), about the mean.
    third: Array | None
    fourth: Array | None

    def __init__(
        self,
        observations: ArrayLike,
        aweights: ArrayLike | None = None,
        *,
        fweights: ArrayLike | None = None,
        rowvar: bool = False,
        dtype: DTypeLike | None = None,
    ) -> None:
        x, weights, dtype = checked_samples(observations, aweights, fweights, rowvar, dtype)
        whole = of_samples(x, weights, dtype, lambda moments: moments)
        stack = x.shape[:-2]
        vars(self).update(vars(whole))
        vars(self).update({name: a.reshape((*stack, *a.shape[1:])) for name, a in whole.arrays().items()})

    @classmethod
    def of_block(
        cls,
        x: Array,
        w: Array | None = None,
        wa: Array | None = None,
        *,
        dtype: np.dtype[Any] = np.dtype(np.float64),  # noqa: B008, a constant
        in_rows: bool = False,
        fourth: bool = False,
    ) -> Moments:
        """Return the moments of a block ``(B, N, C)`` with weights w and w a, ``(B, N)``, or none.

        Few samples are stored as rows if that is asked for. Samples too long for the caches are taken in
        runs, which are merged.
        """
        working = np.result_type(dtype, np.float32)  # half precision is for storing
        b, n, c = x.shape
        in_rows = in_rows and fits_in_rows(n, c)

        def of_run(run: slice) -> Moments:
            w_run, wa_run = (None if a is None else a[:, run] for a in (w, wa))
            return cls._of_run(x[:, run], w_run, wa_run, working, in_rows, fourth)

        def of_group(group: list[slice]) -> Moments:
            first, others = of_run(group[0]), group[1:]
            if others and w is None and not fourth:
                return first.merge(cls._near(first.mean, x[:, others[0].start : others[-1].stop]))
            return reduce(cls.merge, map(of_run, others), first)

        if in_rows:
            return of_run(slice(0, n))
        # to merge a scatter costs as much as the product of a few samples
        runs = blocks.slices(n, b * c * working.itemsize, least=2 * c)
        scatter_bytes = b * c * c * working.itemsize
        count = max(1, min(_GROUPS, len(runs), 2 * blocks.BLOCK_BYTES // max(1, scatter_bytes)))
        size = -(-len(runs) // count)
        groups = [runs[i : i + size] for i in range(0, len(runs), size)]
        return reduce(cls.merge, blocks.run(of_group, groups))

    @classmethod
    def _of_run(
        cls, x: Array, w: Array | None, wa: Array | None, dtype: np.dtype[Any], in_rows: bool, fourth: bool
    ) -> Moments:
        """Return the moments of a block that fits in the caches: shift, centre, self-product."""
        b, n, c = x.shape
        total, squared = (np.full(b, float(n)) if a is None else a.sum(axis=1) for a in (w, wa))
        safe_total = np.where(total > 0, total, 1)  # a run may have no weight at all
        # samples outermost in memory: of a channel-first embedding that takes a third of the time
        z = np.array(x.swapaxes(0, 1), np.result_type(x, dtype), order="C")
        first = np.zeros((b, c), z.dtype)
        if n and not (w is None and _sums_exactly(x.dtype, dtype)):
            first = z[0 if w is None else np.argmax(w, axis=1), np.arange(b)]
            z -= first
        z = z.astype(dtype, copy=False)
        real = z.real.dtype
        weight = np.ones((n, 1), real) if w is None else w.T.astype(real)
        total_offset = _sum_of_samples(z) if w is None else (weight[:, :, None] * z).sum(axis=0)
        offset = total_offset / safe_total[:, None].astype(real)
        mean = (first + offset).astype(dtype, copy=False)
        new = cls._of_sums(n, total, squared, mean)
        if in_rows and not fourth:
            new._rows = _rows_of_samples(z, offset, weight, safe_total)
            return new
        z -= offset
        if fourth:
            length = np.vecdot(z, z)
            new.third = ((weight * length)[:, :, None] * z).sum(axis=0)
            new.fourth = (weight * length**2).sum(axis=0)
        if in_rows:
            new._rows = _rows_of_samples(z, np.zeros_like(offset), weight, safe_total)
            return new
        if w is not None:
            z *= np.sqrt(weight)[:, :, None]
        new._square = _hermitian_self_product(z.swapaxes(0, 1))
        return new

    @classmethod
    def _near(cls, point: Array, x: Array) -> Moments:
        r"""Return the moments of samples ``(B, n, C)`` from sums about a point near them, ``(B, C)``.

        :math:`M = \sum (x - p)(x - p)^H - n d d^H` with :math:`d = \bar x - p` needs no pass to centre the
        samples. Where p is the mean of m earlier ones, d d^H m n / (m + n) is a part of the scatter of all:
        what is subtracted is at most (m + n) / m times as large. Sums in runs of m samples round by as much
        less than sums of one sample at a time, so that the bound of these holds.
        """
        b, n, c = x.shape
        total, square = np.zeros_like(point), np.zeros((b, c, c), point.dtype)
        for run in blocks.slices(n, _RUNS_IN_A_BLOCK * b * c * point.itemsize, least=2 * c):
            z = np.array(x[:, run].swapaxes(0, 1), point.dtype, order="C")
            z -= point
            total += _sum_of_samples(z)
            square += _hermitian_self_product(z.swapaxes(0, 1))
        d = total / n
        samples = np.full(b, float(n))
        new = cls._of_sums(n, samples, samples, point + d)
        new._square = square - _hermitian_self_product(math.sqrt(n) * d[:, None])
        return new

    @classmethod
    def _of_sums(cls, n: int, total: Array, squared: Array, mean: Array) -> Self:
        """Return moments with these sums of weights and means, whose scatter is still to be set."""
        new = object.__new__(cls)
        new.n_samples, new.sum_weights, new.sum_squared_weights, new.mean = n, total, squared, mean
        new._square = new._triangle = new._rows = new.third = new.fourth = None
        return new

    @classmethod
    def of_arrays(cls, n: int, total: float, mean: Array, arrays: Mapping[str, Array]) -> Self:
        """Return the moments of P patches, of which these are the `stored_arrays`; weights count samples."""
        totals = np.full(len(mean), total)
        new = cls._of_sums(n, totals, totals, mean)
        new._rows, new._triangle = arrays.get("rows"), arrays.get("triangle")
        new.third, new.fourth = arrays.get("third"), arrays.get("fourth")
        return new

    def stored_arrays(self) -> dict[str, Array]:
        """Return what a model stores besides the mean, by name."""
        arrays = {
            "rows": self._rows, "triangle": self._triangle, "third": self.third, "fourth": self.fourth
        }  # fmt: skip
        return {name: a for name, a in arrays.items() if a is not None}

    @property
    def scatter(self) -> Array:
        r"""Scatter :math:`M = \sum w (x - \bar x)(x - \bar x)^H`, ``(..., C, C)``."""
        if self._square is not None:
            return self._square
        if self._triangle is not None:
            return triangular.unpack(self._triangle, self.mean.shape[-1])
        return self_product(self._double_rows())

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both samples together; neither part changes.

        Parameters
        ----------
        other : Moments
            Of the same stack and the same number of features.

        Returns
        -------
        Moments
            Those of the union of the two samples.

        Raises
        ------
        TypeError
            If `other` is no `Moments`.
        ValueError
            If the shapes differ.
        """
        if not isinstance(other, Moments):
            _arguments.raise_error("other", "Moments", type(other).__name__, TypeError)
        if other.mean.shape != self.mean.shape:
            _arguments.raise_error("other", f"a mean of shape {self.mean.shape}", f"{other.mean.shape}")
        total = self.sum_weights + other.sum_weights
        divisor = np.where(total > 0, total, 1)  # a share of nothing is 0, not 0/0
        share, other_share = self.sum_weights / divisor, other.sum_weights / divisor
        delta = other.mean - self.mean
        # from the mean of the heavier part: that of a light one may be far away, and sums round to its size
        mean = np.where(
            (other_share > share)[..., None],
            other.mean - share[..., None] * delta,
            self.mean + other_share[..., None] * delta,
        ).astype(delta.dtype, copy=False)
        squared = self.sum_squared_weights + other.sum_squared_weights
        new = self._of_sums(self.n_samples + other.n_samples, total, squared, mean)
        between = np.sqrt(self.sum_weights * other_share)[..., None] * delta
        new._add_scatters(self, other, between.astype(delta.dtype, copy=False)[..., None, :])
        if self.third is not None and other.third is not None:
            (third, fourth), (other_third, other_fourth) = self._about(mean), other._about(mean)
            new.third, new.fourth = third + other_third, fourth + other_fourth
        return new

    def _add_scatters(self, one: Moments, other: Moments, between: Array) -> None:
        """Set M to the sum of two scatters and the self-product of a row ``(..., 1, C)``."""
        parts = (one, other)
        rows = np.concatenate([m._rows for m in parts if m._rows is not None] + [between], axis=-2)
        squares = [m for m in parts if m._rows is None]
        if not squares and fits_in_rows(self.n_samples, self.mean.shape[-1]):
            self._rows = rows  # those that were there are not rounded again
            return
        rows = rows.astype(self.mean.dtype, copy=False)
        if any(m._triangle is not None for m in squares):
            triangles = [triangular.pack(m.scatter) if m._triangle is None else m._triangle for m in squares]
            self._triangle = triangles[0].copy()
            for triangle in triangles[1:]:
                self._triangle += triangle
            if rows.shape[1] == 1:  # as in a stream of single images: no square is made
                triangular.add_outer(self._triangle, rows[:, 0])
            else:
                self._triangle += triangular.pack(self_product(rows))
        else:
            self._square = sum((m.scatter for m in squares), _hermitian_self_product(rows))

    def cov(self, bias: bool = False, ddof: float | None = None) -> Array:
        """Return the covariance: the scatter over its divisor.

        Parameters
        ----------
        bias : bool, default False
            Whether `ddof` defaults to 0 instead of 1.
        ddof : float, optional
            Delta degrees of freedom; overrides `bias`.

        Returns
        -------
        ndarray, shape (..., C, C)
            Exactly symmetric (Hermitian) covariances, in the unit of the features squared.

        Warns
        -----
        RuntimeWarning
            If the divisor W - ddof V/W is not positive; it then counts as zero, as in `numpy.cov`.

        Examples
        --------
        >>> import numpy as np
        >>> Moments(np.array([1.0, 3.0])).cov(ddof=0)
        array([[1.]])
        """
        covariance, divisor = self.over_divisor(delta_degrees(bias, ddof))
        warn_of_divisor(divisor)
        return covariance

    def over_divisor(self, ddof: float) -> tuple[Array, Array]:
        """Return the scatter over its divisor, of which a negative one counts as zero, and the divisor."""
        scatter, divisor = self.scatter, self.divisor(ddof)
        positive = np.maximum(divisor, 0).astype(scatter.real.dtype)[..., None, None]
        result = np.empty(scatter.shape, scatter.dtype)
        with np.errstate(all="ignore"):
            np.divide(scatter.real, positive, out=result.real)
            if scatter.dtype.kind == "c":  # the parts apart, so that the result is exactly Hermitian
                np.divide(scatter.imag, positive, out=result.imag)
        return result, divisor

    def divisor(self, ddof: float = 1.0) -> Array:
        """Return W - ddof V/W, what the scatter is divided by.

        Parameters
        ----------
        ddof : float, default 1.0
            Delta degrees of freedom.

        Returns
        -------
        ndarray, shape (...)
            N - ddof for a sample without weights.
        """
        w, v = self.sum_weights, self.sum_squared_weights
        weighted = w > 0  # an empty sample has -ddof degrees of freedom
        return np.asarray(w - ddof * np.where(weighted, v, 1) / np.where(weighted, w, 1))

    def precision(
        self, scale: Array, floor: Array | None, noise: Array | None, dtype: np.dtype[Any]
    ) -> Precision:
        """Factor the covariances s M + floor I of a block; `noise` is what rounding may have put there.

        With a floor (None where nothing is added at all) few samples give a factor of low rank.
        """
        if self._rows is not None and floor is not None:
            return LowRank.of_rows(self._rows, scale, floor, noise)
        if self._rows is not None:
            assert noise is not None
            rows = self._double_rows() * np.sqrt(scale)[:, None, None]
            return Dense.of(whiten_rows(rows, noise), dtype)
        floor = np.zeros(len(scale)) if floor is None else floor
        return Dense.of(whiten(self.covariance(scale, floor), floor, noise), dtype)

    def sharing_rows(self, precision: Precision) -> Precision:
        """Return a precision that was made from these moments, with their rows instead of a copy."""
        if self._rows is None or not isinstance(precision, LowRank):
            return precision
        return precision.with_arrays({"rows": self._rows})

    def covariance(self, scale: Array, floor: Array) -> Array:
        """Return s M + floor I of a block, ``(B, C, C)``."""
        s = self.scatter * scale[:, None, None]
        i = np.arange(s.shape[1])
        s[:, i, i] += floor[:, None]
        return s

    def rounded(self, dtype: np.dtype[Any]) -> Moments:
        """Return the same with rows in a dtype; a square stays double."""
        if self._rows is None:
            return self
        return self.with_arrays({"_rows": self._rows.astype(dtype, copy=False)})

    def packed(self) -> Moments:
        """Return the same with half of a square."""
        if self._square is None:
            return self
        new = self.with_arrays({"_triangle": triangular.pack(self._square)})
        new._square = None
        return new

    def without_fourth(self) -> Moments:
        """Return the same without third and fourth moments."""
        new = copy.copy(self)
        new.third = new.fourth = None
        return new

    def diagonal(self) -> Array:
        """Return the diagonal of M, ``(B, C)``."""
        if self._rows is not None:
            k = self._double_rows()
            return np.asarray(np.einsum("bnc,bnc->bc", k, k))
        if self._triangle is not None:
            return triangular.packed_diagonal(self._triangle, self.mean.shape[-1])
        return np.diagonal(self.scatter, axis1=-2, axis2=-1)

    def trace(self) -> Array:
        """Return the trace of M, ``(B,)``."""
        if self._rows is None:
            return np.asarray(self.diagonal().sum(axis=-1))
        k = self._double_rows()
        return np.asarray(np.vecdot(k, k).sum(axis=-1))

    def noise(self, resolution: float) -> Array:
        r"""Return the variance that rounding may have put into each feature of a block, ``(B, C)``.

        A feature of root mean square m, rounded to a dtype of machine epsilon :math:`\epsilon`, has errors
        of a variance of at most :math:`\epsilon^2 m^2 / 12`, and N samples of C such features one of at
        most about :math:`(1 + \sqrt{C / N})^2` times as much in some direction. Rows in single precision
        are rounded too. Features that vary by no more than this may have moved together, as constants do
        that differ by rounding between batches: k of them have at most k times as much in some direction.
        """
        variance = self.diagonal() / np.where(self.sum_weights > 0, self.sum_weights, 1)[:, None]
        noise = resolution**2 * (self.mean**2 + variance)
        if self._rows is not None:
            noise += float(np.finfo(self._rows.dtype).eps) ** 2 * variance
        noise *= 1 + self.mean.shape[-1] / max(1, self.n_samples)
        only_noise = variance <= noise
        return np.where(only_noise, noise * (1 + only_noise.sum(axis=1, keepdims=True)), noise)

    def norms(self) -> Norms:
        """Return norms of M; of few samples from the products of the rows with each other."""
        c = self.mean.shape[-1]
        if self._rows is None:
            m = self.scatter
        else:
            k = self._double_rows()
            m = np.matmul(k, k.swapaxes(1, 2))
        trace = np.trace(m, axis1=1, axis2=2)
        m = m / np.where(trace > 0, trace, 1)[:, None, None]
        square = np.square(m).sum(axis=(1, 2))
        i = np.arange(m.shape[1])
        m[:, i, i] -= 1 / c
        return Norms(trace, square, np.square(m).sum(axis=(1, 2)) + (c - len(i)) / c**2)

    def _double_rows(self) -> Array:
        assert self._rows is not None
        return self._rows.astype(np.float64, copy=False)

    def _about(self, mean: Array) -> tuple[Array, Array]:
        r"""Return the third and fourth moments about another mean m.

        With :math:`z = x - \bar x`, :math:`\sum w z = 0` and :math:`d = \bar x - m`,

        .. math::
           \sum w \lVert z + d \rVert^2 (z + d) &= t + \operatorname{tr}(M)\,d
               + 2 M d + W \lVert d\rVert^2 d , \\
           \sum w \lVert z + d \rVert^4 &= q + 4\, t^T d + 4\, d^T M d
               + 2 \operatorname{tr}(M) \lVert d\rVert^2 + W \lVert d\rVert^4 .
        """
        assert self.third is not None
        assert self.fourth is not None
        d = self.mean - mean
        if self._rows is None:
            m_d = np.matmul(self.scatter, d[:, :, None])[:, :, 0]
        else:
            k = self._double_rows()
            m_d = np.matmul(k.swapaxes(1, 2), np.matmul(k, d[:, :, None]))[:, :, 0]
        trace, dd, w = self.trace(), np.vecdot(d, d), self.sum_weights
        third = self.third + (trace + w * dd)[:, None] * d + 2 * m_d
        fourth = self.fourth + 4 * np.vecdot(self.third, d) + 4 * np.vecdot(d, m_d)
        return third, fourth + 2 * trace * dd + w * dd**2


def _sums_exactly(given: np.dtype[Any], working: np.dtype[Any]) -> bool:
    """Return whether sums of such numbers need no shift: single precision or less, summed in double.

    The terms of a sum far from zero have about one exponent, and 53 bits hold 2^29 numbers of 24;
    where exponents differ more the data are not far from zero, and rounding is as small as they are.
    """
    return given in (np.float16, np.float32) and working == np.float64


def _rows_of_samples(z: Array, offset: Array, weight: Array, total: Array) -> Array:
    r"""Return N - 1 rows K, ``(B, N - 1, C)``, with the scatter of N samples ``(N, B, C)`` of this mean.

    With :math:`u = \sqrt{w / W}`, :math:`u^T \sqrt w (z - \bar z) = 0`. The Householder reflection that
    takes u to the first axis leaves nothing in the first row, and in the others

    .. math:: \sqrt{w_i} \left(z_i - \bar z - \frac{u_1}{1 + u_1} (z_1 - \bar z)\right) .
    """
    u = np.sqrt(weight[0] / total)[:, None]
    z[1:] -= offset + u / (1 + u) * (z[0] - offset)
    if weight.shape[1] > 1 or (weight != 1).any():
        z *= np.sqrt(weight)[:, :, None]
    return z[1:].swapaxes(0, 1)


def _sum_of_samples(z: Array) -> Array:
    """Return the sum ``(B, C)`` of contiguous samples ``(n, B, C)``: BLAS adds them faster than NumPy."""
    n, b, c = z.shape
    return np.asarray(np.matmul(np.ones(n, z.real.dtype), z.reshape(n, b * c)).reshape(b, c))


def _hermitian_self_product(z: Array) -> Array:
    """Return the sum of z_i conj(z_j) over the last axis but one, Hermitian to the last bit."""
    if z.dtype.kind != "c":
        return self_product(z)
    # of contiguous real parts: only those are one BLAS call that knows the symmetry of its result
    a, b = (np.ascontiguousarray(part) for part in (z.real, z.imag))
    cross = np.matmul(b.swapaxes(-1, -2), a)
    result = np.empty(cross.shape, z.dtype)
    result.real, result.imag = self_product(a) + self_product(b), cross - cross.swapaxes(-1, -2)
    return result


def of_samples(x: Array, weights: list[Array], dtype: np.dtype[Any], function: Callable[[Moments], R]) -> R:
    """Return a function of the moments of samples ``(..., N, C)``, block by block, as one stack.

    The other arguments are those that `checked_samples` returns.
    """
    *stack, n, c = x.shape
    samples = blocks.flat(x, 2, tuple(stack))
    flat_weights = [blocks.flat(w, 1, tuple(stack)) for w in weights]

    def kernel(b: slice) -> R:
        return function(Moments.of_block(samples[b], *(w[b] for w in flat_weights), dtype=dtype))

    # the samples and their copy, the scatter and the covariance
    return blocks.walk(kernel, math.prod(stack), 2 * (n + c) * c * dtype.itemsize)


def checked_samples(
    observations: ArrayLike,
    aweights: ArrayLike | None,
    fweights: ArrayLike | None,
    rowvar: bool,
    dtype: DTypeLike | None,
) -> tuple[Array, list[Array], np.dtype[Any]]:
    """Check the arguments; return observations ``(..., N, C)``, [w, w a] or [], and the working dtype."""
    x = _arguments.array("observations", observations, complex_ok=True)
    rowvar = _arguments.flag("rowvar", rowvar)
    if dtype is None:
        working = np.result_type(x.dtype, np.float64)
    else:
        working = _arguments.inexact("dtype", dtype, kinds="fc")
        if x.dtype.kind == "c" and working.kind != "c":
            wanted = "a complex dtype for complex observations"
            _arguments.raise_error("dtype", wanted, str(working), TypeError)
    if x.ndim < 2:
        x = x.reshape(-1, 1)
    elif rowvar:
        x = x.swapaxes(-1, -2)
    if aweights is None and fweights is None:
        return x, [], working
    stack, n = x.shape[:-2], x.shape[-2]
    f = a = np.ones(n)
    if fweights is not None:
        f = _arguments.weights("fweights", fweights, stack, n, whole=True)
    if aweights is not None:
        a = _arguments.weights("aweights", aweights, stack, n)
    w = _arguments.weights("aweights * fweights", f * a, stack, n)
    return x, [w, w * a], working


def delta_degrees(bias: bool, ddof: float | None) -> float:
    """Return the degrees of freedom that `bias` and `ddof` stand for; `ddof` wins."""
    bias = _arguments.flag("bias", bias)
    return float(not bias) if ddof is None else _arguments.number("ddof", ddof)


def warn_of_divisor(divisor: Array) -> None:
    """Warn as `numpy.cov` does where no degrees of freedom are left."""
    if np.any(divisor <= 0):
        _arguments.warn("Degrees of freedom <= 0 for slice", RuntimeWarning)


def sharing_cache_lines(n_samples: int, n_features: int) -> int:
    """Return the fewest patches in a block: neighbours share cache lines of a channel-first embedding.

    But matrices ``(N, C)`` too large for some dozens of them cost so much more that this does not matter.
    """
    return max(1, min(32, 2 * blocks.BLOCK_BYTES // max(1, 8 * n_samples * n_features)))
